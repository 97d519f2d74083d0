"""Causes: for each sample that differs between two snapshots, the smallest change of what it was computed from that moves it.

docs/causes.md defines what that is. Nothing is guessed: each change named was applied to the older snapshot, alone, and seen
to move the sample (see `refinery.worlds`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from refinery.inputs import ATTRIBUTES
from refinery.ledger import Event, EventType
from refinery.verdicts import BLOCKED
from refinery.worlds import Judged, Variant, World, Worlds

Row = dict[str, Any]
T = TypeVar("T")
Asking = Generator[list[World], list[Judged], T]
"""Asks about worlds of one sample, as many at a time as it likes, and comes to a value."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One input that moved a sample; `kind` is event, policy, step, facts, ingest, near_duplicate, field, dataset or filter,
    or unknown when the older or the newer row cannot be computed anew.

    `events` are ids of ledger events, `rules` the names of the rules whose word on the sample it changed, `mates` the
    near-duplicates (with their own `events` and `batches`), `batches` those that brought the sample.
    """

    kind: str
    sentence: str
    events: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    mates: tuple[str, ...] = ()
    batches: tuple[str, ...] = ()


def unknown(why: str) -> Cause:
    """The word for what cannot be told."""
    return Cause("unknown", f"it cannot be computed anew as it was: {why}")


def find_causes(
    worlds: Worlds, before: Mapping[str, Row | None], after: Mapping[str, Row | None]
) -> dict[str, list[Cause]]:
    """The causes of every sample; `before` and `after` are its rows in the older and newer snapshot (None: no member), and
    the worlds are those between the two. All samples are asked about together, in as many rounds as the longest search."""
    found: dict[str, list[Cause]] = {}
    searches = {i: _Search(worlds, i, before[i], after[i]).run() for i in sorted(before)}
    asked = {i: next(search) for i, search in searches.items()}
    while asked:
        flat = [(i, world) for i, some in asked.items() for world in some]
        answers = iter(worlds.judge(flat))
        following: dict[str, list[World]] = {}
        for i, some in asked.items():
            try:
                following[i] = searches[i].send([next(answers) for _ in some])
            except StopIteration as done:
                found[i] = done.value
        asked = following
    return found


def _smallest(
    candidates: Sequence[T],
    world: Callable[[frozenset[T]], World],
    moved: Callable[[Judged], bool],
    at_once: int = 1,
) -> Asking[tuple[T, ...]]:
    """The first candidate that alone moves; else the shortest beginning of the list that does, without what it can do
    without. All of them together are known to."""
    for start in range(0, len(candidates), at_once):
        some = candidates[start : start + at_once]
        answers = yield [world(frozenset([one])) for one in some]
        for one, answer in zip(some, answers, strict=True):
            if moved(answer):
                return (one,)
    length = len(candidates)
    for start in range(2, len(candidates), at_once):
        lengths = range(start, min(start + at_once, len(candidates)))
        answers = yield [world(frozenset(candidates[:n])) for n in lengths]
        fits = [n for n, answer in zip(lengths, answers, strict=True) if moved(answer)]
        if fits:
            length = fits[0]
            break
    chosen = list(candidates[:length])
    again = len(chosen) > 2  # of two, neither alone does
    while again:
        again = False
        for one in tuple(chosen):
            rest = [c for c in chosen if c is not one]
            if len(rest) > 1 and moved((yield [world(frozenset(rest))])[0]):
                chosen, again = rest, True
    return tuple(chosen)


class _Search:
    """The search for the cause of one sample."""

    def __init__(self, worlds: Worlds, sample_id: str, before: Row | None, after: Row | None) -> None:
        self._worlds, self._id = worlds, sample_id
        self._before, self._after = before, after

    def run(self) -> Asking[list[Cause]]:
        worlds = self._worlds
        names = worlds.differing(self._id)
        old, new = yield [World(frozenset()), World(frozenset(names))]
        if not (self._is(old, self._before) and self._is(new, self._after)):
            return [self._not_computed()]
        chosen = frozenset((yield from _smallest(names, lambda some: World(frozenset(some)), self._moved)))
        world = World(chosen)
        if "event" in chosen:
            ids = [e.id for e in worlds.events(self._id)]
            kept = yield from _smallest(ids, lambda some: replace(world, events=some), self._moved, 64)
            world = replace(world, events=frozenset(kept))
        ordered = [name for name in names if name in chosen]
        with_all, *without = yield [world, *(replace(world, new=chosen - {name}) for name in ordered)]
        causes = []
        for name, judged in zip(ordered, without, strict=True):
            cause = yield from self._described(name, world, judged, with_all)
            causes.append(replace(cause, rules=_rules(judged, with_all)))
        return causes

    def _moved(self, judged: Judged) -> bool:
        """Whether the sample moved, in the same way as between the snapshots."""
        if self._before is None or self._after is None:
            return judged.member == (self._after is not None)
        return judged.member and judged.row != self._before

    def _is(self, judged: Judged, row: Row | None) -> bool:
        return judged.member == (row is not None) and row in (None, judged.row)

    def _not_computed(self) -> Cause:
        """Without its former inputs nothing is known but that `blocked` beats them all."""
        takedowns = [
            e for e in self._worlds.events(self._id) if e.type is EventType.FLAG and e.kind == BLOCKED
        ]
        if takedowns and self._after is None:
            return _of_events(takedowns[:1])
        return unknown("what it was computed from is no longer all there")

    def _described(self, name: str, world: World, without: Judged, judged: Judged) -> Asking[Cause]:
        worlds, rules = self._worlds, _rules(without, judged)
        a, b = (side.snapshot for side in worlds.sides)
        said = f": rules {', '.join(rules)}" if rules else ""
        match name:
            case "event":
                events = [e for e in worlds.events(self._id) if world.events is None or e.id in world.events]
                return _of_events(events[::-1])
            case "policy":
                return Cause("policy", f"policy {a.policy[:12]} → {b.policy[:12]}{said}")
            case "step":
                return Cause("step", f"new version of {', '.join(worlds.steps)}{said}")
            case "facts":
                return Cause("facts", f"its facts arrived or got better in between{said}")
            case "ingest":
                return _ingested(worlds, self._id)
            case "near_duplicate":
                return (yield from self._near_duplicate(world, without, judged))
            case "field":
                return self._field()
            case "dataset":
                return Cause("dataset", "it is in other snapshots than before, for which the filter asks")
        return Cause("filter", f"the filter of {b.name} changed from {a.filter!r} to {b.filter!r}")

    def _field(self) -> Cause:
        registered = {name for name, _ in self._worlds.sides[1].snapshot.fields}
        names = sorted(registered ^ {name for name, _ in self._worlds.sides[0].snapshot.fields})
        did = [f"{n} was {'registered' if n in registered else 'unregistered'}" for n in names]
        return Cause("field", f"attribute {', '.join(did)}", events=self._worlds.field_events)

    # Near-duplicates

    def _near_duplicate(self, world: World, without: Judged, judged: Judged) -> Asking[Cause]:
        """Which others of its cluster made the difference, and what happened to each."""
        worlds = self._worlds
        alone = replace(world, new=world.new - {"near_duplicate"})
        mine, joined = (worlds.mates(self._id, each) for each in (alone, world))
        if judged.beaten and not without.beaten:
            mates = [str(judged.rival)]
        elif without.beaten and not judged.beaten:
            asked = [replace(alone, rival=self._variant(mate, alone)) for mate in sorted(mine)]
            answers = yield asked
            mates = [mate for mate, answer in zip(sorted(mine), answers, strict=True) if answer.beaten]
        else:
            mates = sorted(joined ^ mine)
            return Cause("near_duplicate", "other near-duplicates are in its cluster", mates=tuple(mates))
        told: list[Cause] = []
        for mate in mates:
            told.append((yield from self._mate(mate, alone, judged.beaten)))
        between: list[str] = []
        if mates[0] not in mine and judged.beaten:
            direct = told[0].kind != "near_duplicate" and worlds.together.near(mates[0], {*mine, self._id})
            before = worlds.together.clusters["step" in world.new, False]
            between = [] if direct else sorted(i for i in joined - mine - {*mates} if i not in before)
        said = [f"near-duplicate {m[:12]}: {c.sentence}" for m, c in zip(mates, told, strict=True)]
        if between:
            said.append(f"joined through {', '.join(i[:12] for i in between)}")
        return Cause(
            "near_duplicate",
            "; ".join(said),
            events=tuple(e for c in told for e in c.events),
            mates=(*mates, *between),
            batches=tuple(dict.fromkeys(b for c in told for b in c.batches)),
        )

    def _variant(self, mate: str, world: World, *new: str, events: frozenset[str] | None = None) -> Variant:
        own = frozenset(["step"]) & world.new
        return Variant(mate, own | set(new), events)

    def _mate(self, mate: str, alone: World, beaten: bool) -> Asking[Cause]:
        """What happened to a near-duplicate so that it beats the sample, or no longer does."""
        worlds = self._worlds

        def turned(judged: Judged) -> bool:
            return judged.beaten == beaten

        as_it_was, as_it_is = yield [
            replace(alone, rival=self._variant(mate, alone, *new)) for new in ((), _OWN)
        ]
        if turned(as_it_was):
            return Cause("near_duplicate", "is in the same cluster since")
        if not turned(as_it_is):
            return Cause("near_duplicate", "is in its cluster no longer")
        names = [n for n in worlds.differing(mate) if n in _OWN]
        chosen = yield from _smallest(
            names, lambda some: replace(alone, rival=self._variant(mate, alone, *some)), turned
        )
        events: list[Event] = []
        if "event" in chosen:
            ids = [e.id for e in worlds.events(mate)]
            kept = yield from _smallest(
                ids,
                lambda some: replace(alone, rival=self._variant(mate, alone, *chosen, events=some)),
                turned,
                64,
            )
            events = [e for e in reversed(worlds.events(mate)) if e.id in kept]
        told = [_of_events(events)] if events else []
        if "ingest" in chosen:
            told.append(_ingested(worlds, mate))
        if "facts" in chosen:
            told.append(Cause("facts", "its facts arrived or got better in between"))
        return Cause(
            told[0].kind,
            "; ".join(c.sentence for c in told),
            events=tuple(e.id for e in events),
            batches=tuple(b for c in told for b in c.batches),
        )


_OWN = ("event", "ingest", "facts")
"""The inputs that are a sample's own."""


def _of_events(events: Sequence[Event]) -> Cause:
    return Cause("event", "; ".join(e.describe() for e in events), events=tuple(e.id for e in events))


def _ingested(worlds: Worlds, sample_id: str) -> Cause:
    old, new = worlds.inputs(sample_id)
    assert new is not None
    batches = tuple(b for b in new["batch"] if old is None or b not in old["batch"])
    if old is None:
        said = f"first seen in batch {batches[0]} of source {', '.join(new['source'])}"
    else:
        changed = _changed_keys(old[ATTRIBUTES], new[ATTRIBUTES])
        said = f"seen again in batch {', '.join(batches)}, which changed {changed}"
    return Cause("ingest", said, batches=batches)


def _rules(without: Judged, judged: Judged) -> tuple[str, ...]:
    """The reasons that an input gave or took away."""
    return tuple(sorted(set(without.reasons) ^ set(judged.reasons)))


def _changed_keys(before: str, after: str) -> str:
    old, new = json.loads(before), json.loads(after)
    changed = sorted(k for k in {*old, *new} if old.get(k) != new.get(k))
    return ", ".join(changed) or "where it was seen, or its payloads"
