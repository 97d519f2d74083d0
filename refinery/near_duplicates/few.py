"""The clusters among a few samples, from facts in memory: what `update_clusters` finds when there are no others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from refinery.facts import FactStore, Step
from refinery.near_duplicates.compare import Comparison
from refinery.near_duplicates.state import POINTS
from refinery.store import ObjectStore

_ALL = "all"


@dataclass(frozen=True, slots=True)
class Compared:
    """Samples that were compared with each other (rows of POINTS), and the cluster of each that is in one."""

    points: pa.Table = field(default_factory=POINTS.empty_table)
    clusters: Mapping[str, str] = field(default_factory=dict)


class FewFacts(FactStore):
    """The facts of some samples in memory, as if they were one batch."""

    def __init__(
        self, store: ObjectStore, tables: Mapping[str, pa.Table], sample_ids: Collection[str]
    ) -> None:
        """`tables` by step key, in order of sample id."""
        super().__init__(store)
        self._tables, self.sample_ids = tables, frozenset(sample_ids)
        self._good = [
            frozenset(table.filter(pc.is_null(table["reason"]))["sample_id"].to_pylist())
            for table in tables.values()
        ]

    @classmethod
    def of(
        cls, facts: FactStore, steps: Sequence[Step], sample_ids: Collection[str], batches: Iterable[str]
    ) -> FewFacts:
        """Those of `sample_ids` that have a fact of these steps in the files of `batches`, with all of their facts."""
        chosen = sorted(batches)
        there: set[str] = set()
        for step in steps:
            found = facts.read(step, batches=chosen, sample_ids=sample_ids, columns=["sample_id"])
            there.update(found["sample_id"].to_pylist())
        tables = {}
        for step in steps:
            columns = [name for name in step.schema.names if name != "thumbnail"]
            tables[step.key] = facts.read(step, sample_ids=there, columns=columns)
        return cls(facts.store, tables, there)

    def read(
        self,
        step: Step,
        *,
        batches: Iterable[str] | None = None,
        sample_ids: Collection[str] | None = None,
        columns: Sequence[str] | None = None,
        best: bool = True,
    ) -> pa.Table:
        table = self._tables[step.key]
        if sample_ids is not None:
            table = table.filter(pc.is_in(table["sample_id"], pa.array(list(sample_ids), pa.string())))
        return table.select(list(columns)) if columns is not None else table

    def files(self, step: Step) -> dict[str, str]:
        return {_ALL: ""}

    def signals(self, sample_id: str) -> list[bool]:
        """By step whether there is a success: what a sample can be compared by."""
        return [sample_id in good for good in self._good]

    def only(self, sample_ids: Collection[str]) -> FewFacts:
        """Those of fewer samples."""
        fewer = self.sample_ids.intersection(sample_ids)
        chosen = pa.array(sorted(fewer), pa.string())
        tables = {k: t.filter(pc.is_in(t["sample_id"], chosen)) for k, t in self._tables.items()}
        return FewFacts(self.store, tables, fewer)


def compare_few(
    facts: FewFacts, near: Step, inspect: Step, embed: Step, known: Compared | None = None
) -> Compared:
    """Compare the samples of `facts` with each other and with those of `known`, whose clusters stay joined.

    `known` are samples of `facts`, too: their vectors are read there.
    """
    known = known or Compared()
    comparison = Comparison(facts, inspect, embed, near, known.points)
    comparison.add(_ALL)
    ids = comparison.universe().to_pylist()
    root: dict[str, str] = {}

    def find(sample_id: str) -> str:
        while (up := root.get(sample_id, sample_id)) != sample_id:
            root[sample_id] = sample_id = root.get(up, up)
        return sample_id

    def join(a: str, b: str) -> None:
        low, high = sorted((find(a), find(b)))
        root[high] = low

    for sample_id, cluster in known.clusters.items():
        join(sample_id, cluster)
    for edges in comparison.edges():
        for a, b in zip(edges.a.tolist(), edges.b.tolist(), strict=True):
            join(ids[a], ids[b])
    everybody = {*ids, *known.clusters}
    sizes: dict[str, int] = {}
    for sample_id in everybody:
        sizes[find(sample_id)] = sizes.get(find(sample_id), 0) + 1
    clusters = {i: find(i) for i in everybody if sizes[find(i)] > 1}
    return Compared(pa.concat_tables([known.points, comparison.added()]), clusters)
