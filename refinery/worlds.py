"""Worlds between two snapshots: verdicts and rows of samples when some inputs are those of the older, others of the newer.

The inputs of a row are, by name:

event           what stands on the sample in the ledger
policy          the policy
step, facts     the facts of all samples, when a step has another key; else those of the sample
ingest          the origins of the sample; of a sample that the older snapshot had not seen, its facts too
near_duplicate  the samples it is compared with: which there are, and all of the above of each
field           which attributes are registered
dataset         the other snapshots that it is in, for a filter that asks
filter          the filter of the snapshot

Every world is evaluated by the verdict function. Of a cluster one sample is kept, so of all the others the one that would be
kept without the sample asked about stands for them: that is worked out once for all samples.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refinery.digests import canonical_json
from refinery.documents import Described, DocumentBuilder, state_rows, verdict_inputs
from refinery.fields import Fields
from refinery.filter import parse
from refinery.inputs import FACTS
from refinery.ledger import Event, EventType, LedgerView
from refinery.ledger.log import EventLog
from refinery.ledger.selection import subject
from refinery.policy import Policy, stored_policy
from refinery.replay import differs
from refinery.snapshots import Snapshots
from refinery.store import ObjectStore
from refinery.then import Then, both_inputs
from refinery.together import Together, closed
from refinery.verdicts import GOLD, Inputs, Verdicts, evaluate

_MASKS = ("blocked", "kept", "rejected", "missing")
_NO_CLUSTERS = pa.schema([("sample_id", pa.string()), ("cluster", pa.string())])


@dataclass(frozen=True, slots=True)
class Variant:
    """A sample with some of its own inputs (`new`) as the newer snapshot has them; of its events only `events` (None: all)."""

    sample_id: str
    new: frozenset[str]
    events: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class World:
    """What is asked about one sample. `new` are the inputs of the newer snapshot. With `rival` only that one is compared with."""

    new: frozenset[str]
    events: frozenset[str] | None = None
    rival: Variant | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """A sample's row in a world (None: it is not there), whether it is a member, and the sample that stood for its cluster."""

    row: dict[str, Any] | None
    member: bool
    rival: str | None = None

    @property
    def beaten(self) -> bool:
        return self.row is not None and bool(self.row["near_duplicate"])

    @property
    def reasons(self) -> list[str]:
        return list(self.row["reasons"]) if self.row else []


@dataclass(frozen=True, slots=True)
class _Field:
    """All samples there are in a world, and by cluster the one that is kept, and the one that would be kept without it."""

    ids: list[str]
    at: dict[str, int]
    inputs: Inputs
    best: dict[str, tuple[int, int | None]]

    def rival(self, cluster: str, sample_id: str) -> int | None:
        """The row that stands for all others of a cluster; None when none of them can be kept."""
        first, second = self.best.get(cluster, (None, None))
        return second if first is not None and self.ids[first] == sample_id else first


class Worlds:
    """The worlds between two snapshots for the samples that differ. `older` was frozen at an earlier ledger offset, or time."""

    def __init__(self, store: ObjectStore, older: Then, newer: Then, sample_ids: Collection[str]) -> None:
        self._store, self.sides = store, (older, newer)
        keys = [{n: s.key for n, s in side.steps.by_name().items()} for side in self.sides]
        self.steps = sorted(name for name in keys[1] if keys[0][name] != keys[1][name])
        self.facts = "step" if self.steps else "facts"
        kept = [f for f in older.fields.attributes if f.name not in newer.fields]
        self._fields = Fields([*newer.fields.attributes, *kept])
        self.policies = (self._policy(older), self._policy(newer))
        texts = [side.snapshot.filter for side in self.sides]
        self._filters = [parse(text, self._fields) if text else None for text in texts]
        self._builder = DocumentBuilder(store, older.batches, older.facts, self._fields, newer.steps)
        self._people = closed(store, older, newer, sample_ids)
        tables = both_inputs(older, newer, self._fields, self._people)
        self._both = pa.concat_tables(tables).combine_chunks()
        self._at: list[dict[str, int]] = []
        for table in tables:
            first = sum(map(len, self._at[:1]))
            self._at.append({i: first + n for n, i in enumerate(table["sample_id"].to_pylist())})
        self.together = Together(store, older, newer, self._people, self._at[0], bool(self.steps))
        self._fields_of: dict[tuple[bool, bool, bool], _Field] = {}
        self._ranges: dict[str, list[Event]] = {}

    # What differs

    def differing(self, sample_id: str) -> list[str]:
        """The inputs that may differ for a sample, in the order in which they are tried."""
        a, b = (side.snapshot for side in self.sides)
        seen = sample_id in self._at[0] and sample_id in self._at[1]
        origins, facts = self._changed
        tests = {
            "event": bool(self.events(sample_id)),
            "policy": a.policy != b.policy,
            "step": bool(self.steps),
            "facts": not self.steps and sample_id in facts,
            "ingest": not seen or sample_id in origins,
            "near_duplicate": any(sample_id in c for c in self.together.clusters.values()),
            "field": self.fields_differ,
            "dataset": self._datasets[0].get(sample_id) != self._datasets[1].get(sample_id),
            "filter": a.filter != b.filter,
        }
        return [name for name, may in tests.items() if may]

    def events(self, sample_id: str) -> list[Event]:
        """The events on a sample between the two that stand in the newer, the newest first. Those that do not (they are undone
        or taken off, or undo what is undone again) change nothing."""
        if sample_id not in self._ranges:
            low = self.sides[0].snapshot.ledger_offset
            view = self.sides[1].view
            found = [e for e in view.history(sample_id) if e.offset > low and view.stands(e)]
            self._ranges[sample_id] = found[::-1]
        return self._ranges[sample_id]

    def inputs(self, sample_id: str) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """What origins and facts said of a sample in the older and the newer; None when it had not been seen."""
        old, new = (at.get(sample_id) for at in self._at)
        return self._row(old), self._row(new)

    def _row(self, at: int | None) -> dict[str, Any] | None:
        return None if at is None else self._both.slice(at, 1).to_pylist()[0]

    @property
    def fields_differ(self) -> bool:
        """Whether other attributes are registered."""
        a, b = (side.snapshot.fields for side in self.sides)
        return a != b

    @cached_property
    def field_events(self) -> tuple[str, ...]:
        """The ids of the events that registered attributes between the two, or took that back, and stand."""
        view = self.sides[1].view
        said = (e for e in view.events[self.sides[0].snapshot.ledger_offset :] if view.stands(e))
        return tuple(e.id for e in said if subject(view, e).type is EventType.FIELD)

    @cached_property
    def _changed(self) -> tuple[set[str], set[str]]:
        """The samples seen by both of which origins, and those of which facts, say something else."""
        ids = [i for i in self._at[0] if i in self._at[1]]
        old, new = (self._both.take(pa.array([at[i] for i in ids], pa.int64())) for at in self._at)
        found: tuple[set[str], set[str]] = set(), set()
        for name in self._both.column_names[1:]:
            changed = differs(old[name].combine_chunks(), new[name].combine_chunks())
            found[name in FACTS].update(old["sample_id"].filter(changed).to_pylist())
        return found

    @cached_property
    def _datasets(self) -> list[Mapping[str, list[str]]]:
        if not any(f is not None and "datasets" in f.fields for f in self._filters):
            return [{}, {}]
        snapshots = Snapshots(self._store)
        people = sorted(self._people)
        return [snapshots.memberships(people, before=s.snapshot.created_at) for s in self.sides]

    def _policy(self, side: Then) -> Policy:
        return stored_policy(self._store.get(f"policies/{side.snapshot.policy}.json"), self._fields)

    # Evaluation

    def judge(self, asked: Sequence[tuple[str, World]]) -> list[Judged]:
        """What becomes of each sample in its world."""
        found: dict[int, Judged] = {}
        for policy in (False, True):
            chosen = [n for n, (_, world) in enumerate(asked) if ("policy" in world.new) is policy]
            there = [n for n in chosen if self._places(Variant(asked[n][0], asked[n][1].new)) is not None]
            found |= dict.fromkeys(chosen, Judged(None, False))
            if there:
                found |= zip(there, self._judge(policy, [asked[n] for n in there]), strict=True)
        return [found[n] for n in range(len(asked))]

    def _judge(self, policy: bool, asked: Sequence[tuple[str, World]]) -> list[Judged]:
        subjects = [Variant(i, world.new, world.events) for i, world in asked]
        rivals = {
            n: w.rival for n, (_, w) in enumerate(asked) if w.rival and self._places(w.rival) is not None
        }
        described, inputs = self._described([*subjects, *rivals.values()], self.policies[policy])
        clusters = [
            self._cluster(variant, world) for variant, (_, world) in zip(subjects, asked, strict=True)
        ]
        stood = [rivals[n].sample_id if n in rivals else None for n in range(len(asked))]
        parts, owners = [inputs], [*range(len(asked)), *rivals]
        others: dict[tuple[bool, bool], list[tuple[int, int]]] = defaultdict(list)
        for n, (variant, (_, world)) in enumerate(zip(subjects, asked, strict=True)):
            if world.rival is not None or clusters[n] is None:
                continue
            key = ("step" in world.new, "near_duplicate" in world.new)
            field = self._field(*key, policy)
            company = self.together.company(variant.sample_id, key, self._newer_facts(variant))
            if company is not None:
                others[key] += [(n, field.at[i]) for i in sorted(company)]
            elif (at := field.rival(str(clusters[n]), variant.sample_id)) is not None:
                stood[n] = field.ids[at]
                others[key].append((n, at))
        for key, pairs in others.items():
            parts.append(_taken(self._field(*key, policy).inputs, [at for _, at in pairs]))
            owners += [n for n, _ in pairs]
        names = [asked[n][0] if n in rivals else name for n, name in enumerate(clusters)]
        verdicts = self._evaluated(parts, [names[n] for n in owners], owners, self.policies[policy])
        subjects_only = slice(0, len(asked))
        documents = described.documents[subjects_only]
        rows = state_rows(
            Described(
                documents,
                described.attributes[subjects_only],
                described.payloads[subjects_only],
                described.missing[subjects_only],
                [],
            ),
            Verdicts(
                verdicts.verdict[subjects_only],
                verdicts.reasons[subjects_only],
                verdicts.near_duplicate[subjects_only],
                {},
            ),
        )
        members = self._members(documents, rows, asked, clusters)
        return [
            Judged(self._attributes(row, world), member, rival)
            for row, (_, world), member, rival in zip(rows.to_pylist(), asked, members, stood, strict=True)
        ]

    def _evaluated(
        self, parts: Sequence[Inputs], names: Sequence[str | None], owners: Sequence[int], policy: Policy
    ) -> Verdicts:
        """Verdicts of cases: rows with the same owner are a cluster of their own."""
        whole = Inputs(
            pa.concat_tables([p.documents for p in parts]),
            **{name: np.concatenate([getattr(p, name) for p in parts]) for name in _MASKS},
        )
        if not any("cluster" in rule.hold.fields for rule in policy.rules):
            cases = [None if name is None else f"{name}/{n}" for name, n in zip(names, owners, strict=True)]
            return evaluate(_clustered(whole, cases), policy)
        # a rule asks for the cluster by name: at a time, only one case of each cluster
        times: Counter[str] = Counter()
        turn: dict[int, int] = {}
        for name, n in zip(names, owners, strict=True):
            if n not in turn:
                turn[n] = times[name or str(n)]
                times[name or str(n)] += 1
        verdict = np.empty(len(whole), object)
        reasons: list[list[str]] = [[]] * len(whole)
        near = np.zeros(len(whole), bool)
        for number in range(max(times.values(), default=0)):
            rows = [at for at, n in enumerate(owners) if turn[n] == number]
            found = evaluate(_clustered(_taken(whole, rows), [names[at] for at in rows]), policy)
            verdict[rows], near[rows] = found.verdict, found.near_duplicate
            for at, said in zip(rows, found.reasons, strict=True):
                reasons[at] = said
        return Verdicts(verdict, reasons, near, {})

    def _members(
        self,
        documents: pa.Table,
        rows: pa.Table,
        asked: Sequence[tuple[str, World]],
        clusters: Sequence[str | None],
    ) -> list[bool]:
        """Whether each is gold and what the filter of its world selects."""
        gold = pc.equal(rows["verdict"], GOLD).to_numpy()
        for name in ("verdict", "reasons", "near_duplicate"):
            documents = _set(documents, name, rows[name])
        documents = _set(documents, "cluster", pa.array(clusters, pa.string()))
        datasets = [self._datasets["dataset" in w.new].get(i, []) for i, w in asked]
        documents = _set(documents, "datasets", pa.array(datasets, pa.list_(pa.string())))
        masks = [
            np.ones(len(asked), bool) if chosen is None else chosen.mask(documents)
            for chosen in self._filters
        ]
        return [
            bool(is_gold and masks["filter" in world.new][n])
            for n, (is_gold, (_, world)) in enumerate(zip(gold, asked, strict=True))
        ]

    def _attributes(self, row: dict[str, Any], world: World) -> dict[str, Any]:
        """The row with the attributes that are registered in the world."""
        if not self.fields_differ or row["attributes"] == "{}":
            return row
        known = self.sides["field" in world.new].fields
        kept = {k: v for k, v in json.loads(row["attributes"]).items() if k in known}
        return row | {"attributes": canonical_json(kept).decode()}

    def mates(self, sample_id: str, world: World) -> set[str]:
        """The samples that it is in a cluster with."""
        subject = Variant(sample_id, world.new, world.events)
        key = ("step" in world.new, "near_duplicate" in world.new)
        return self.together.mates(sample_id, key, self._newer_facts(subject))

    def _cluster(self, subject: Variant, world: World) -> str | None:
        key = ("step" in world.new, "near_duplicate" in world.new)
        return self.together.cluster(subject.sample_id, key, self._newer_facts(subject))

    def _newer_facts(self, variant: Variant) -> bool:
        places = self._places(variant)
        return places is not None and places[1] == self._at[1].get(variant.sample_id)

    def _field(self, steps: bool, mates: bool, policy: bool) -> _Field:
        key = (steps, mates, policy)
        if key not in self._fields_of:
            new = frozenset([*(["step"] if steps else []), *(["event", "ingest", "facts"] if mates else [])])
            people = [Variant(i, new) for i in sorted(self._people)]
            there = [v for v in people if self._places(v) is not None]
            ids = [v.sample_id for v in there]
            _, inputs = self._described(there, self.policies[policy])
            clusters = [self.together.clusters[steps, mates].get(i) for i in ids]
            together = [at for at, name in enumerate(clusters) if name is not None]
            first = _kept(inputs, clusters, together, self.policies[policy])
            left = [at for at in together if first.get(str(clusters[at])) != at]
            second = _kept(inputs, clusters, left, self.policies[policy])
            best = {cluster: (at, second.get(cluster)) for cluster, at in first.items()}
            self._fields_of[key] = _Field(ids, {i: at for at, i in enumerate(ids)}, inputs, best)
        return self._fields_of[key]

    # Documents

    def _places(self, variant: Variant) -> tuple[int, int] | None:
        """Where the variant's origins and facts are among the inputs; None when it is not there."""
        old, new = (at.get(variant.sample_id) for at in self._at)
        if old is None or new is None:
            at = old if old is not None else new if "ingest" in variant.new else None
            return None if at is None else (at, at)
        return (new if "ingest" in variant.new else old), (new if self.facts in variant.new else old)

    def _described(self, variants: Sequence[Variant], policy: Policy) -> tuple[Described, Inputs]:
        """Documents of variants in their order, and what verdicts need of them. One sample may come twice."""
        aliases = [f"{v.sample_id}#{n}" for n, v in enumerate(variants)]
        places = [p for v in variants if (p := self._places(v)) is not None]
        origins, facts = (self._both.take(pa.array([p[k] for p in places], pa.int64())) for k in (0, 1))
        columns = {n: (facts if n in FACTS else origins)[n] for n in self._both.column_names}
        columns["sample_id"] = pa.array(aliases, pa.string())
        events = [e for v, alias in zip(variants, aliases, strict=True) for e in self._said(v, alias)]
        view = LedgerView(EventLog(sorted(events, key=lambda e: e.offset)), self.sides[1].view.offset)
        described = self._builder.complete(pa.table(columns), view, _NO_CLUSTERS.empty_table())
        inputs = verdict_inputs(described, view, policy)
        ids = [v.sample_id for v in variants]
        documents = _set(described.documents, "sample_id", pa.array(ids, pa.string()))
        return replace(described, documents=documents), replace(inputs, documents=documents)

    def _said(self, variant: Variant, alias: str) -> Iterable[Event]:
        """What stands on a variant, under its alias: two variants of one sample have nothing to do with each other."""
        older = self.sides[0].view.history(variant.sample_id)
        newer: list[Event] = []
        if "event" in variant.new:
            newer = [
                e
                for e in reversed(self.events(variant.sample_id))
                if variant.events is None or e.id in variant.events
            ]
        for event in (*older, *newer):
            target = event.target and f"{alias}/{event.target}"
            yield replace(event, sample_id=alias, id=f"{alias}/{event.id}", target=target)


def _kept(
    inputs: Inputs, clusters: Sequence[str | None], rows: Sequence[int], policy: Policy
) -> dict[str, int]:
    """Of these rows, by cluster the one that is kept: what nothing else holds, and no other one beats."""
    rules = tuple(rule for rule in policy.rules if not rule.after_near_duplicates)
    mine = _clustered(_taken(inputs, rows), [clusters[at] for at in rows])
    verdicts = evaluate(mine, replace(policy, rules=rules))
    return {
        str(clusters[at]): at
        for n, at in enumerate(rows)
        if verdicts.verdict[n] == GOLD and not verdicts.near_duplicate[n]
    }


def _clustered(inputs: Inputs, clusters: Sequence[str | None]) -> Inputs:
    return replace(inputs, documents=_set(inputs.documents, "cluster", pa.array(clusters, pa.string())))


def _taken(inputs: Inputs, rows: Sequence[int]) -> Inputs:
    at = np.array(rows, np.int64)
    masks = {name: getattr(inputs, name)[at] for name in _MASKS}
    return Inputs(inputs.documents.take(pa.array(at)), **masks)


def _set(documents: pa.Table, name: str, column: Any) -> pa.Table:
    at = documents.schema.get_field_index(name)
    return documents.set_column(at, documents.schema.field(name), column)
