"""Causes: what a diff names, applied alone to another project that is otherwise as the older snapshot, moves the sample.

Histories are drawn and frozen twice. Each cause is then tried in a project made anew: everything that went into the older
snapshot, and the cause. That project knows nothing of diffs; it lands, computes, replays and freezes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refinery.causes import Cause
from refinery.config import InspectSettings, NearDuplicateSettings
from refinery.diffs import Differ, Move, SnapshotDiff
from refinery.documents import state_rows
from refinery.filter import parse
from refinery.inputs import Steps
from refinery.ledger import Actor, ActorKind, Event, EventType
from refinery.near_duplicates import near_duplicates_step
from refinery.projection import with_verdicts
from refinery.snapshots import Snapshot, Snapshots
from refinery.states.head import read_head
from refinery.steps.inspect import inspect_step
from refinery.store.local import LocalStore
from tests.synthetic import POLICY, Sample, Synthetic, quick_folder

ANA, CRITIC = Actor(ActorKind.PERSON, "ana"), Actor(ActorKind.MODEL, "critic")
PROBE = Actor(ActorKind.EVAL, "probe")
FIELDS = [
    Event(EventType.FIELD, ANA, kind=name, value={"type": kind, "description": ""}, id=name)
    for name, kind in (("score", "number"), ("eval_probe_loss", "number"), ("caption", "string"))
]
NOTE = Event(EventType.FIELD, ANA, kind="note", value={"type": "string", "description": ""}, id="note")
POLICIES = (
    POLICY,
    POLICY.replace("min_side < 64", "min_side < 104"),
    POLICY.replace("sharpness < 0.1", "sharpness < 0.4"),
    POLICY.replace("has_flag('reject')", "has_flag('reject') OR has_flag('review') OR score < 0.5"),
    POLICY.replace("sharpness < 0.1", "eval_probe_loss > 2"),
    "\n".join(line for line in POLICY.splitlines() if "name: near_duplicate" not in line),
)
FILTERS = (
    None,
    "NOT has_tag('sky')",
    "score IS NULL OR score > 0.5",
    "NOT in_dataset('other')",
    "height > 101",
)
ORDER = ("event", "policy", "step", "facts", "ingest", "near_duplicate", "field", "dataset", "filter")
BATCHES = tuple(tuple(range(3 * b, 3 * b + 5)) for b in range(4))


def sample(number: int, batch: int, version: int) -> Sample:
    """Batches overlap by two samples; what a newer version of the step sees differs in a third of them."""
    return Sample(
        number,
        look=number % 4 if number % 5 else None,
        side=(40 if number == 7 else 100 + number % 5) + (10 * version if number % 3 == 0 else 0),
        sharpness=0.05 if number % 3 == 1 and version else 0.3,
        failure="truncated" if number == 9 else None,
        attributes={"caption": f"seen in {batch}", "note": f"note {number}"},
    )


def steps_of(project: Synthetic, version: int) -> Steps:
    inspect = inspect_step(InspectSettings(thumbnail_side=256 + version))
    embed = project.steps.default_embed
    return Steps(inspect, {"default": embed}, near_duplicates_step(NearDuplicateSettings(), inspect, embed))


@dataclass(frozen=True)
class Given:
    """All that a snapshot is computed from: (batch, number) of what landed and of what has facts, the version of the steps
    and by which one each sample was seen."""

    landed: frozenset[tuple[int, int]] = frozenset()
    computed: frozenset[tuple[int, int]] = frozenset()
    seen_by: tuple[tuple[int, int], ...] = ()
    version: int = 0
    policy: int = 0
    filter: int = 0
    events: tuple[Event, ...] = ()
    datasets: Mapping[str, list[str]] = field(default_factory=dict, hash=False)

    @property
    def numbers(self) -> set[int]:
        return {number for _, number in self.landed}


def freeze(project: Synthetic, given: Given, name: str) -> Snapshot:
    """Freeze as a project does: gold, narrowed by the filter."""
    text = FILTERS[given.filter]
    project.replayer.replay(project.policy)
    head, _ = read_head(project.store)
    described, verdicts = project.replayer.evaluate(project.policy, project.ledger.view())
    rows = state_rows(described, verdicts)
    chosen = rows.filter(pc.equal(rows["verdict"], "gold"))
    if text:
        documents = with_verdicts(described.documents, rows, given.datasets)
        some = documents.filter(pa.array(parse(text, project.fields).mask(documents)))["sample_id"]
        chosen = chosen.filter(pc.is_in(chosen["sample_id"], some.combine_chunks()))
    return Snapshots(project.store).freeze(
        name,
        chosen,
        filter_text=text,
        policy=head.policy,
        ledger_offset=head.ledger_offset,
        state=head.node,
        steps={n: {"key": s.key, **s.to_json()} for n, s in project.steps.by_name().items()},
        fields=[[f.name, f.type.value] for f in project.fields.attributes],
    )[0]


def compute(project: Synthetic, batch: str, samples: list[Sample]) -> None:
    if samples:
        project.compute(batch, samples)


def rows_of(given: Given) -> dict[str, dict[str, Any]]:
    """The rows that a project has in which exactly this went."""
    with quick_folder() as folder:
        project = Synthetic(LocalStore(Path(folder)))
        project.steps = steps_of(project, given.version)
        by = dict(given.seen_by)
        for batch in sorted({b for b, _ in given.landed}):
            numbers = sorted(n for b, n in given.landed if b == batch)
            here = project.land(
                [sample(n, batch, 0) for n in numbers], f"2026-01-0{batch + 1}T00:00:00+00:00"
            )
            compute(project, here, [sample(n, batch, by[n]) for n in numbers if (batch, n) in given.computed])
        for event in sorted(given.events, key=lambda e: e.offset):
            project.ledger.append([event])
        project.policy = project.parse(POLICIES[given.policy])
        snapshot = freeze(project, given, "set")
        return {row["sample_id"]: row for row in Snapshots(project.store).rows(snapshot).to_pylist()}


class History:
    """A project that things happen to, and what it was given."""

    def __init__(self, folder: str) -> None:
        self.project = Synthetic(LocalStore(Path(folder)))
        self.project.steps = steps_of(self.project, 0)
        self.names: dict[int, str] = {}
        self.given = Given()
        self.say(*FIELDS)

    def say(self, *events: Event) -> None:
        said = self.project.ledger.append(events)
        self.given = replace(self.given, events=(*self.given.events, *said))

    def act(self, what: str, which: int, other: int) -> None:
        project, now = self.project, self.given
        sample_id = Sample(which % 14).id
        actor = ANA if other % 2 else CRITIC
        match what:
            case "land" | "compute":
                batch = which % len(BATCHES)
                self.names[batch] = project.land(
                    [sample(n, batch, 0) for n in BATCHES[batch]], f"2026-01-0{batch + 1}T00:00:00+00:00"
                )
                here = {(batch, n) for n in BATCHES[batch]}
                self.given = replace(now, landed=now.landed | here)
                if what == "compute":
                    self.compute(now.computed | here)
            case "flag":
                kind = ("keep", "reject", "blocked", "review")[other % 4]
                self.say(Event(EventType.FLAG, actor if which % 3 else ANA, sample_id, kind))
            case "unflag":
                self.say(Event(EventType.UNFLAG, ANA, sample_id, ("reject", "keep", "blocked")[other % 3]))
            case "tag":
                self.say(Event(EventType.TAG, actor, sample_id, "tag", value="sky" if other % 2 else "sea"))
            case "eval":
                self.say(Event(EventType.EVAL, PROBE, sample_id, "probe/loss", value=float(other % 4)))
            case "score":
                self.say(Event(EventType.ATTRIBUTE, actor, sample_id, "score", value=0.1 + other % 2 * 0.8))
            case "note":
                if "note" not in project.fields and NOTE not in now.events:
                    self.say(NOTE)
            case "undo":
                said = [e for e in now.events if e.type is not EventType.FIELD]
                if said:
                    self.given = replace(
                        now, events=(*now.events, *project.ledger.undo([said[-1 - which % len(said)]], ANA))
                    )
            case "policy":
                self.given = replace(now, policy=other % len(POLICIES))
            case "filter":
                self.given = replace(now, filter=other % len(FILTERS))
            case "step":
                self.given = replace(now, version=1)
                project.steps = steps_of(project, 1)
                self.compute(now.computed)
            case "other":
                self.freeze("other")

    def compute(self, what: frozenset[tuple[int, int]]) -> None:
        version = self.given.version
        self.given = replace(
            self.given, computed=what, seen_by=tuple(sorted((n, version) for n in {n for _, n in what}))
        )
        for batch in sorted({b for b, _ in what}):
            compute(
                self.project,
                self.names[batch],
                [sample(n, batch, version) for b, n in sorted(what) if b == batch],
            )

    def freeze(self, name: str) -> tuple[Snapshot, Given]:
        self.project.policy = self.project.parse(POLICIES[self.given.policy])
        datasets = Snapshots(self.project.store).memberships()
        given = replace(self.given, datasets=datasets)
        if name == "other":
            given = replace(given, filter=4)
        return freeze(self.project, given, name), given


def with_ingested(given: Given, new: Given, number: int) -> Given:
    """A sample as the newer saw it; with its facts when the older had not seen it."""
    landed = {(b, n) for b, n in new.landed if n == number}
    if number not in given.numbers:
        given = replace(
            given,
            computed=given.computed | {(b, n) for b, n in new.computed if n == number},
            seen_by=(*given.seen_by, *(pair for pair in new.seen_by if pair[0] == number)),
        )
    return replace(given, landed=given.landed | landed)


def with_facts(given: Given, new: Given, numbers: Iterable[int]) -> Given:
    """Samples with the facts that the newer has of them."""
    some = {n for n in numbers if n in {m for _, m in new.computed}}
    return replace(
        given,
        computed=given.computed | {(b, n) for b, n in given.landed if n in some},
        seen_by=tuple({**dict(given.seen_by), **{n: v for n, v in new.seen_by if n in some}}.items()),
    )


NUMBERS = {Sample(n).id: n for n in range(14)}


def applied(given: Given, new: Given, sample_id: str, part: Cause) -> Given:
    """The older snapshot's inputs with one cause of a sample."""
    number = NUMBERS[sample_id]
    events = tuple(e for e in new.events if e.id in part.events and e not in given.events)
    given = replace(given, events=(*given.events, *events))
    match part.kind:
        case "policy":
            return replace(given, policy=new.policy)
        case "step":
            return replace(with_facts(given, new, given.numbers), version=new.version)
        case "facts":
            return with_facts(given, new, [number])
        case "ingest":
            return with_ingested(given, new, number)
        case "dataset":
            return replace(given, datasets=new.datasets)
        case "filter":
            return replace(given, filter=new.filter)
        case "near_duplicate":
            for mate in part.mates:
                if NUMBERS[mate] not in given.numbers or part.batches:
                    given = with_ingested(given, new, NUMBERS[mate])
                if given.version == new.version:
                    given = with_facts(given, new, [NUMBERS[mate]])
    return given


def moves(given: Given, move: Move, old: dict[str, dict[str, Any]]) -> bool:
    """Whether the sample moves in a project of these inputs as it did."""
    row = rows_of(given).get(move.sample_id)
    if move.how == "changed":
        return row is not None and row != old[move.sample_id]
    return (row is not None) == (move.how == "added")


def check(diff: SnapshotDiff, old: Given, new: Given) -> None:
    """Everything that docs/causes.md says of the diff."""
    before, after = rows_of(old), rows_of(new)
    differ = {i for i in {*before, *after} if before.get(i) != after.get(i)}
    assert [m.sample_id for m in diff.moves] == sorted(differ), "exactly what differs moved"
    assert sum(diff.causes.values()) == len(diff.moves)
    for move in diff.moves:
        kinds = [part.kind for part in move.parts]
        assert move.cause == (kinds[0] if len(kinds) == 1 else "several")
        assert kinds == sorted(set(kinds), key=ORDER.index), move
        whole = old
        for part in move.parts:
            whole = applied(whole, new, move.sample_id, part)
        assert moves(whole, move, before), ("together they move it", move)
        for part in move.parts:
            rest = old
            for other in move.parts:
                rest = rest if other is part else applied(rest, new, move.sample_id, other)
            assert not moves(rest, move, before), ("each is needed", part, move)
        if len(kinds) == 1 and kinds != ["event"]:
            own = tuple(e.id for e in new.events if e.sample_id == move.sample_id and e not in old.events)
            assert not moves(applied(old, new, move.sample_id, Cause("event", "", own)), move, before), move
        if "event" in kinds:
            [part] = [p for p in move.parts if p.kind == "event"]
            for event_id in part.events if len(part.events) > 1 else ():
                fewer = replace(part, events=tuple(e for e in part.events if e != event_id))
                rest = old
                for other in move.parts:
                    rest = applied(rest, new, move.sample_id, fewer if other is part else other)
                assert not moves(rest, move, before), ("each event is needed", event_id, move)


ACTIONS = [
    "land",
    "compute",
    "flag",
    "unflag",
    "tag",
    "eval",
    "score",
    "note",
    "undo",
    "policy",
    "filter",
    "step",
    "other",
]
action = st.tuples(
    st.sampled_from(["compute", "flag", "flag", "undo", *ACTIONS]), st.integers(0, 41), st.integers(0, 11)
)


def run(before: list[tuple[str, int, int]], between: list[tuple[str, int, int]]) -> None:
    with quick_folder() as folder:
        history = History(folder)
        for each in [("compute", 0, 0), *before]:
            history.act(*each)
        first, old = history.freeze("set")
        for each in between:
            history.act(*each)
        second, new = history.freeze("set")
        differ = Differ(history.project.store, history.project.ledger)
        diff = differ.diff(first, second)
        check(diff, old, new)
        back = differ.diff(second, first)
        assert [(m.sample_id, m.parts) for m in back.moves] == [(m.sample_id, m.parts) for m in diff.moves]


@given(st.lists(action, max_size=10), st.lists(action, min_size=1, max_size=10))
@settings(max_examples=40, deadline=None)
def test_the_cause_of_a_move_applied_alone_to_the_older_snapshot_moves_the_sample(
    before: list[tuple[str, int, int]], between: list[tuple[str, int, int]]
) -> None:
    run(before, between)


@pytest.mark.heavy
@given(st.lists(action, max_size=14), st.lists(action, min_size=1, max_size=14))
@settings(max_examples=2000, deadline=None)
def test_causes_of_many_more_histories(
    before: list[tuple[str, int, int]], between: list[tuple[str, int, int]]
) -> None:
    run(before, between)
