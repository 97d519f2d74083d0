"""Triage: queues of samples that wait for a person's word. What a person has decided on is in no queue."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from refinery.fields import FieldType
from refinery.filter import Filter, conjunction, parse
from refinery.index import Query, Sort
from refinery.ledger import ActorKind, Event, EventType, LedgerView
from ui.core.screen import Screen, among, quoted
from ui.core.viewer import Viewer

QUEUES: Mapping[str, str] = {
    "duplicates": "Near-duplicates",
    "held": "Held by a rule",
    "uncertain": "Models that are not sure",
    "disagreeing": "Models that disagree",
    "evals": "Eval results",
    "feedback": "User feedback",
}
CLUSTERS, MEMBERS = 6, 60
NEWEST = 20_000
UNSURE = (0.3, 0.7)
MOST_ROWS = 5000
"""Rows read at once of the members of clusters."""
_PAGES = 50
_AGAINST = frozenset({"reject", "blocked", "review"})
_NUMBERS = (FieldType.INTEGER, FieldType.NUMBER)


@dataclass(frozen=True, slots=True)
class Item:
    """A sample that waits, its document, and what speaks for looking at it."""

    document: dict[str, Any]
    why: str = ""
    keeper: bool = False

    @property
    def sample_id(self) -> str:
        return str(self.document["sample_id"])


@dataclass(frozen=True, slots=True)
class Queue:
    """A page of a queue: groups that are judged together (clusters, or one group of single samples), and where to go on.
    Of a very large cluster only the first `MEMBERS` are there; `sizes` says how many each group has."""

    groups: list[list[Item]] = field(default_factory=list)
    cursor: str | None = None
    sizes: list[int] = field(default_factory=list)


class Triage:
    """The queues of one project, each narrowed by what the screen selects."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer, self._index = viewer, viewer.project.index
        self._ledger = viewer.project.ledger.view()

    def page(self, screen: Screen) -> Queue:
        """The page of the screen's queue. InputError when a part of the screen does not fit."""
        match screen.queue:
            case "held":
                chosen = conjunction([self._viewer.selected(screen), self._parse("verdict = 'held'")])
                return self._found(screen, chosen, None, lambda d: ", ".join(d["reasons"] or ()))
            case "uncertain":
                return self._said(screen, _unsure(self._newest()))
            case "disagreeing":
                return self._said(screen, _opposed(self._newest()))
            case "evals" | "feedback" as kind:
                return self._results(screen, kind)
            case _:
                return self._clusters(screen)

    def results(self, kind: str) -> list[str]:
        """The fields that a queue of results can be sorted by: `eval_…` or `feedback_…`, numbers only."""
        prefix = "eval_" if kind == "evals" else "feedback_"
        return [
            f.name for f in self._viewer.fields.attributes if f.name.startswith(prefix) and f.type in _NUMBERS
        ]

    def decided(self, sample_id: str) -> bool:
        """Whether a person's word stands on a sample: keep, reject or blocked."""
        blocked = self._ledger.blocked(sample_id)
        return self._ledger.decision(sample_id) is not None or any(
            e.actor.kind is ActorKind.PERSON for e in blocked
        )

    def _clusters(self, screen: Screen) -> Queue:
        """Clusters in order of their smallest sample id. The cursor is the last one that was looked at."""
        chosen, last = self._viewer.selected(screen), screen.cursor
        found = Queue()
        for _ in range(_PAGES):
            names = self._cluster_names(chosen, last)
            if not names:
                return found
            for name, (size, members) in self._members(names).items():
                if len(found.groups) == CLUSTERS:
                    return replace(found, cursor=last)
                last = name
                if len(members) > 1 and not any(self.decided(item.sample_id) for item in members):
                    found.groups.append(members)
                    found.sizes.append(size)
        return replace(found, cursor=last)

    def _cluster_names(self, chosen: Filter, after: str) -> list[str]:
        """The next clusters of which a sample of the filter is held because another one is kept."""
        parts = [chosen, self._parse("near_duplicate")]
        if after:
            parts.append(self._parse(f"cluster > {quoted(after)}"))
        query = Query(
            conjunction(parts), Sort("cluster"), limit=4 * CLUSTERS, columns=("sample_id", "cluster")
        )
        return list(dict.fromkeys(row["cluster"] for row in self._index.query(query).rows()))

    def _members(self, names: Sequence[str]) -> dict[str, tuple[int, list[Item]]]:
        """How many are in each of these clusters, and the first `MEMBERS` of them, the one that is kept before all."""
        chosen = self._parse(f"cluster IN ({', '.join(map(quoted, names))})")
        page = self._index.query(Query(chosen, limit=MOST_ROWS))
        rows = {row["sample_id"]: row for row in page.rows()}
        sizes = Counter(row["cluster"] for row in rows.values())
        if page.cursor is not None:  # a cluster is so large that the page does not hold them all
            rows, sizes = {}, Counter()
            for name in names:
                inside = self._parse(f"cluster = {quoted(name)}")
                gold = conjunction([inside, self._parse("verdict = 'gold'")])
                some = [Query(gold, limit=1), Query(inside, limit=MEMBERS)]
                rows |= {row["sample_id"]: row for query in some for row in self._index.query(query).rows()}
                sizes[name] = self._index.count(inside)
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for row in rows.values():
            found[row["cluster"]].append(row)
        groups = {name: _kept_first(members)[:MEMBERS] for name, members in found.items()}
        self._ledger.recall([item.sample_id for members in groups.values() for item in members])
        return {name: (sizes[name], members) for name, members in groups.items()}

    def _results(self, screen: Screen, kind: str) -> Queue:
        fields = self.results(kind)
        name = screen.sort.removeprefix("-")
        if not fields:
            return Queue()
        if name not in fields:
            name = fields[0]
        least = "IS NOT NULL" if kind == "evals" else "> 0"
        chosen = conjunction([self._viewer.selected(screen), self._parse(f"{name} {least}")])
        ascending = screen.sort == name
        return self._found(screen, chosen, Sort(name, not ascending), lambda d: f"{name} {d[name]:.6g}")

    def _found(
        self, screen: Screen, chosen: Filter, sort: Sort | None, why: Callable[[dict[str, Any]], str]
    ) -> Queue:
        """Samples of a filter on which nobody has decided."""
        items: list[Item] = []
        cursor = screen.cursor or None
        for _ in range(_PAGES):
            page = self._index.query(Query(chosen, sort, limit=screen.size, cursor=cursor))
            rows = page.rows()
            self._ledger.recall([row["sample_id"] for row in rows])
            items += [Item(row, why(row)) for row in rows if not self.decided(row["sample_id"])]
            cursor = page.cursor
            if cursor is None or len(items) >= screen.size:
                break
        return Queue([items] if items else [], cursor)

    def _said(self, screen: Screen, about: Iterator[tuple[str, str]]) -> Queue:
        """Samples that events speak of, in that order. The cursor is how many were looked at."""
        start = screen.start
        waiting = list(about)[start:]
        chosen = self._viewer.selected(screen)
        items: list[Item] = []
        for at in range(0, len(waiting), screen.size):
            some = dict(waiting[at : at + screen.size])
            ids = [i for i in some if not self.decided(i)]
            if ids:
                query = Query(conjunction([chosen, among(ids)]), limit=len(ids))
                rows = {row["sample_id"]: row for row in self._index.query(query).rows()}
                items += [Item(rows[i], some[i]) for i in ids if i in rows]
            if len(items) >= screen.size and at + screen.size < len(waiting):
                return Queue([items], str(start + at + screen.size))
        return Queue([items] if items else [], None)

    def _newest(self) -> dict[str, list[Event]]:
        """The flags of models that stand, by sample, of the newest 20,000 events."""
        found: dict[str, list[Event]] = defaultdict(list)
        for event in _flags_of_models(self._ledger):
            if event.sample_id and self._ledger.stands(event):
                found[event.sample_id].append(event)
        return found

    def _parse(self, text: str) -> Filter:
        return parse(text, self._viewer.fields)


def _kept_first(members: list[dict[str, Any]]) -> list[Item]:
    """The members of a cluster: first the one that is in gold, or (when none is) the first that no other one stands in for."""
    ordered = sorted(members, key=lambda d: (d["verdict"] != "gold", bool(d["near_duplicate"])))
    return [Item(document, keeper=n == 0) for n, document in enumerate(ordered)]


def _flags_of_models(view: LedgerView) -> list[Event]:
    newest = islice(reversed(view.events), NEWEST)
    return [e for e in newest if e.type is EventType.FLAG and e.actor.kind is ActorKind.MODEL]


def _unsure(flags: Mapping[str, Iterable[Event]]) -> Iterator[tuple[str, str]]:
    """Samples with a model's flag of a confidence near one half, the least sure first; and that flag in words."""
    low, high = UNSURE
    found = [
        (abs(e.confidence - 0.5), sample, f"{e.kind} by {e.actor}, confidence {e.confidence:.2f}")
        for sample, events in flags.items()
        for e in events
        if e.confidence is not None and low <= e.confidence <= high
    ]
    words: dict[str, str] = {}
    for _, sample, said in sorted(found):
        words.setdefault(sample, said)
    return iter(words.items())


def _opposed(flags: Mapping[str, Iterable[Event]]) -> Iterator[tuple[str, str]]:
    """Samples that one model wants to keep and another wants out or looked at; and both flags in words."""
    for sample, events in flags.items():
        keeps = [e for e in events if e.kind == "keep"]
        against = [e for e in events if e.kind in _AGAINST]
        pair = next(((k, a) for k in keeps for a in against if k.actor != a.actor), None)
        if pair is not None:
            keep, other = pair
            yield sample, f"keep by {keep.actor}, {other.kind} by {other.actor}"
