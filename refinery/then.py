"""Then: what a snapshot was computed from, as it was: its batches and facts by its lock, ledger, policy, fields and steps."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from refinery.batches import Batches
from refinery.fact_rows import LockedFacts
from refinery.facts import FactStore, Step, batch_of, best_of, facts_key
from refinery.fields import Field, Fields, FieldType
from refinery.gates.members import recorded_step
from refinery.inputs import InputReader, Steps
from refinery.ledger import Ledger, LedgerView
from refinery.locks import Locks
from refinery.snapshots import Snapshot
from refinery.store import ObjectStore


class FactsThen(FactStore):
    """The facts that a lock names: of files that got more or better rows since, those there were.

    `locked` is None for a snapshot without a lock: then all facts of its batches count. `compared` are the batches that
    near-duplicates had been compared of.
    """

    def __init__(
        self,
        batches: Batches,
        store: ObjectStore,
        locked: Mapping[str, LockedFacts] | None,
        compared: Collection[str],
    ) -> None:
        super().__init__(store)
        self._batches, self._locked, self._compared = batches, locked, frozenset(compared)

    def files(self, step: Step) -> dict[str, str]:
        found = super().files(step)
        if step.name == "near_duplicates":
            return {batch: token for batch, token in found.items() if batch in self._compared}
        if self._locked is None:
            landed = set(self._batches.landed())
            return {batch: token for batch, token in found.items() if batch in landed}
        return {batch: token for batch, token in found.items() if facts_key(step, batch) in self._locked}

    def read(
        self,
        step: Step,
        *,
        batches: Iterable[str] | None = None,
        sample_ids: Collection[str] | None = None,
        columns: Sequence[str] | None = None,
        best: bool = True,
    ) -> pa.Table:
        there = self.files(step)
        chosen = there if batches is None else {b: there[b] for b in set(batches) & there.keys()}
        wanted = list(columns) if columns is not None else step.schema.names
        needed = list(dict.fromkeys(["sample_id", "reason", "retryable", *wanted]))
        lock = {batch: (self._locked or {}).get(facts_key(step, batch)) for batch in chosen}
        grown = {batch: of for batch, of in lock.items() if of is not None and of.version != chosen[batch]}
        parts = [
            super().read(
                step, batches=chosen.keys() - grown, sample_ids=sample_ids, columns=needed, best=best
            )
        ]
        for batch, of in grown.items():
            now = super().read(step, batches=[batch], sample_ids=sample_ids, columns=needed, best=best)
            then = of.then(now, self._batches.samples(batch))
            if sample_ids is not None:
                then = then.filter(pc.is_in(then["sample_id"], pa.array(list(sample_ids), pa.string())))
            parts.append(then.cast(parts[0].schema))
        rows = pa.concat_tables(parts)
        return (best_of(rows) if best else rows).select(wanted)


class Then:
    """The moment a snapshot was frozen. ConfigError when the snapshot records no steps, CorruptionError for a damaged lock."""

    def __init__(self, store: ObjectStore, ledger: Ledger, snapshot: Snapshot) -> None:
        lock = self._lock = Locks(store).known(snapshot)
        self.snapshot = snapshot
        self.steps = Steps(
            recorded_step(snapshot, "inspect"),
            {"default": recorded_step(snapshot, "embed")},
            recorded_step(snapshot, "near_duplicates"),
        )
        self.fields = Fields(Field(name, FieldType(kind)) for name, kind in snapshot.fields)
        self.batches = Batches(store, lock.batches)
        self.facts = FactsThen(self.batches, store, lock.facts if lock.complete else None, lock.compared)
        self.compared, self.clusters = lock.compared, lock.clusters
        self._ledger = ledger

    @cached_property
    def view(self) -> LedgerView:
        """What stood in the ledger."""
        return self._ledger.view(self.snapshot.ledger_offset)

    def inputs(self, fields: Fields, sample_ids: Collection[str]) -> pa.Table:
        """The inputs of samples (see `refinery.inputs`) with the attributes of `fields`, as far as they had been seen."""
        return InputReader(self.batches, self.facts, fields, self.steps).read(sample_ids)

    def changed(self, other: Then) -> set[str] | None:
        """The batches whose origins or facts are not the same for both; None when it may be all."""
        mine, others = ({n: s.key for n, s in side.steps.by_name().items()} for side in (self, other))
        if mine != others or not (self._lock.complete and other._lock.complete):
            return None
        landed, compared = (
            set(getattr(self._lock, name)) ^ set(getattr(other._lock, name))
            for name in ("batches", "compared")
        )
        facts, more = ({k: f.version for k, f in lock.facts.items()} for lock in (self._lock, other._lock))
        keys = {key for key, _ in facts.items() ^ more.items()}
        return landed | compared | {batch_of(key) for key in keys}


def both_inputs(
    older: Then, newer: Then, fields: Fields, sample_ids: Collection[str]
) -> tuple[pa.Table, pa.Table]:
    """The inputs of samples in two snapshots. What cannot differ is read once."""
    new = newer.inputs(fields, sample_ids)
    changed = older.changed(newer)
    if changed is None:
        return older.inputs(fields, sample_ids), new
    batches = new["batch"].combine_chunks()
    hits = pc.is_in(pc.list_flatten(batches), value_set=pa.array(sorted(changed), pa.string()))
    other = pc.unique(pc.list_parent_indices(batches).filter(hits))
    ids = new["sample_id"].take(other).to_pylist()
    rest = new.filter(pc.invert(pc.is_in(new["sample_id"], pa.array(ids, pa.string()))))
    return pa.concat_tables([rest, older.inputs(fields, ids)]).sort_by("sample_id"), new
