"""Health: where every sample went, as flows that sum, and how far the index is behind truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from refinery.accounting import Status
from refinery.doctor import Finding, examine
from refinery.fields import to_utc
from refinery.project import Refinery
from refinery.states.head import StateHead, read_head

_SOURCES = 12
_OTHERS = "other sources"


@dataclass(frozen=True, slots=True)
class Stage:
    """How many things are at one place. `verdict` is the one that they come to, if it is one place's; `grid` is what a screen
    says that shows its samples (None: they are not samples, or no screen selects them)."""

    column: int
    label: str
    count: int
    verdict: str = ""
    grid: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Flow:
    """How many things go from one stage to another, by their places in `Flows.stages`."""

    start: int
    end: int
    count: int


@dataclass(frozen=True, slots=True)
class Flows:
    """Everything that was listed, and what came of it: entries by source → origins → samples → verdicts → first reasons.
    `wrong` says in a sentence each where it does not add up; empty when it does."""

    stages: tuple[Stage, ...]
    flows: tuple[Flow, ...]
    wrong: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IndexLag:
    """The index beside truth: documents and samples, the ledger offset it knows and the newest one, how many seconds ago the
    first event was that it does not know, and whether its verdicts are those of the newest replay."""

    documents: int
    samples: int
    offset: int
    newest: int
    seconds: float
    verdicts_current: bool

    @property
    def events(self) -> int:
        """How many events it does not know."""
        return self.newest - self.offset


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found when everything was looked at, and when that was."""

    at: str
    findings: tuple[Finding, ...]


class Health:
    """The health of one project."""

    def __init__(self, project: Refinery, *, read_only: bool = False) -> None:
        self._project, self._read_only = project, read_only

    def flows(self) -> Flows:
        """Where everything went; cheap, from the batches' reports and the head of the state."""
        batches = self._project.batches
        reports = [batches.info(batch) for batch in batches.landed()]
        entries: Counter[str] = Counter()
        for report in reports:
            entries[report.source] += report.entries
        return account(
            entries,
            sum(r.origins for r in reports),
            self._project.status(),
            read_head(self._project.store)[0],
        )

    def index(self) -> IndexLag | None:
        """How far the index is behind; None when there is none yet."""
        project = self._project
        if not project.has_index:
            return None
        position = project.index.position()
        view = project.ledger.view()
        offset = min(int(position.get("ledger_offset", 0)), view.offset)
        waits = view.events[offset] if offset < view.offset else None
        return IndexLag(
            project.index.count(),
            project.status().seen,
            offset,
            view.offset,
            (datetime.now(UTC) - to_utc(waits.time)).total_seconds() if waits else 0.0,
            position.get("root") == read_head(project.store)[0].root,
        )

    def examine(self, told: Callable[[Finding], object]) -> Examination:
        """Look for all that is wrong, as `refinery doctor` does; `told` hears each finding. Reads everything."""
        findings = []
        for finding in examine(self._project, write=not self._read_only):
            told(finding)
            findings.append(finding)
        return Examination(datetime.now(UTC).isoformat(), tuple(findings))


def account(entries: Counter[str], origins: int, status: Status, head: StateHead) -> Flows:
    """The flows of what was listed (`entries` by source), of which `origins` could be read."""
    listed, held = sum(entries.values()), sum(status.held.values())
    stages: list[Stage] = []
    flows: list[Flow] = []

    def stage(
        column: int,
        label: str,
        count: int,
        start: int | None = None,
        verdict: str = "",
        grid: Mapping[str, str] | None = None,
    ) -> int:
        if count <= 0:
            return -1
        stages.append(Stage(column, label, count, verdict, grid))
        if start is not None and start >= 0:
            flows.append(Flow(start, len(stages) - 1, count))
        return len(stages) - 1

    shown = entries.most_common(_SOURCES if len(entries) <= _SOURCES else _SOURCES - 1)
    sources = [stage(0, name, count, grid={"source": name}) for name, count in shown]
    sources.append(stage(0, _OTHERS, listed - sum(count for _, count in shown)))
    everything = stage(1, "listed", listed)
    flows += [Flow(i, everything, stages[i].count) for i in sources if i >= 0 and everything >= 0]
    read = stage(2, "origins", origins, everything)
    stage(2, "unreadable entries", listed - origins, everything)
    seen = stage(3, "samples", status.seen, read, grid={})
    stage(3, "the same bytes again", origins - status.seen, read)
    stage(4, "gold", status.gold, seen, "gold", {"verdict": "gold"})
    back = stage(4, "held", held, seen, "held", {"verdict": "held"})
    stage(4, "pending", status.pending, seen, "pending", {"verdict": "pending"})
    for reason, count in sorted(status.held.items(), key=lambda item: (-item[1], item[0])):
        stage(5, reason, count, back, "held", {"verdict": "held", "reason": reason})
    return Flows(tuple(stages), tuple(flows), tuple(_wrong(listed, origins, status, head)))


def _wrong(listed: int, origins: int, status: Status, head: StateHead) -> list[str]:
    """Where numbers that come from different places do not agree."""
    held = sum(status.held.values())
    verdicts = status.gold + held + status.pending
    pairs = [
        (
            verdicts == status.seen,
            f"{status.seen:,} samples were seen, and {verdicts:,} are gold, held or pending",
        ),
        (head.count <= status.seen, f"{head.count:,} samples have a verdict, and {status.seen:,} were seen"),
        (
            held == head.counts.get("held", 0),
            f"{head.counts.get('held', 0):,} samples are held, and {held:,} for a reason",
        ),
        (
            sum(head.counts.values()) == head.count,
            f"{head.count:,} samples have a verdict, and {sum(head.counts.values()):,} are counted by it",
        ),
        (
            origins == status.origins,
            f"batches report {origins:,} origins, and their manifests have {status.origins:,}",
        ),
        (status.seen <= origins, f"{status.seen:,} samples were seen at {origins:,} origins"),
        (origins <= listed, f"{origins:,} origins came of {listed:,} entries"),
    ]
    return [f"{said}." for fits, said in pairs if not fits]
