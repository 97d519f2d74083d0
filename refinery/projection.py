"""Projection: bring the index in line with truth. The index is never the authority; wiping it costs a rebuild."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from refinery.digests import digest
from refinery.documents import DocumentBuilder, Steps
from refinery.errors import CorruptionError
from refinery.facts import FactStore
from refinery.index import SampleIndex
from refinery.ledger import Ledger
from refinery.snapshots import Snapshots
from refinery.states.head import StateHead, read_head
from refinery.states.rows import ROW_SCHEMA
from refinery.states.tree import StateTrees
from refinery.store import ObjectStore

_CHUNK = 5_000


@dataclass(frozen=True, slots=True)
class ProjectionReport:
    """What a projection did: documents there should be, written, removed, and left as they were."""

    documents: int
    upserted: int
    deleted: int
    unchanged: int
    ledger_offset: int


class Projector:
    """Projects one project's truth into an index."""

    def __init__(
        self,
        store: ObjectStore,
        ledger: Ledger,
        facts: FactStore,
        builder: DocumentBuilder,
        snapshots: Snapshots,
        steps: Steps,
        index: SampleIndex,
    ) -> None:
        self._store, self._ledger, self._facts, self._builder = store, ledger, facts, builder
        self._snapshots, self._steps, self._index = snapshots, steps, index
        self._trees = StateTrees(store)

    def is_current(self) -> bool:
        """Whether the index says of itself that it holds all of truth. Reads no documents."""
        return self._index.position() == self._position()

    def project(self) -> ProjectionReport:
        """Compare every document with the index and write those that differ; remove those that no longer exist."""
        position = self._position()
        if self._index.position().get("steps") != position["steps"]:
            self.reset()
        documents = self.documents()
        ids = documents["sample_id"].to_pylist()
        known = dict(zip(*(c.to_pylist() for c in self._index.digests().columns), strict=True))
        stale = [known.get(i) != d for i, d in zip(ids, documents["doc_digest"].to_pylist(), strict=True)]
        gone = sorted(set(known) - set(ids))
        if gone:
            self._index.delete(gone)
        written = self._upsert(documents.filter(pa.array(stale, pa.bool_())))
        if written or gone:
            self._index.compact()
        if self._index.position() != position:
            self._index.set_position(position)
        return ProjectionReport(len(ids), written, len(gone), len(ids) - written, position["ledger_offset"])

    def reset(self) -> None:
        """Empty the index, with today's fields and embedding spaces."""
        spaces = {
            name: step.columns.field("vector").type.list_size for name, step in self._steps.embed.items()
        }
        self._index.reset(self._builder.fields, spaces)

    def follow_ledger(self) -> ProjectionReport | None:
        """Project only what ledger events since the index's position touched: flags become searchable at once.

        None when more than the ledger moved (or there is no index yet), so that only `project` can help.
        """
        before, now = self._index.position(), self._position()
        if {**before, "ledger_offset": now["ledger_offset"]} != now:
            return None
        touched = self._ledger.view().touched(before["ledger_offset"])
        documents = self.documents(touched)
        written = self._upsert(documents)
        self._index.set_position(now)
        return ProjectionReport(documents.num_rows, written, 0, 0, now["ledger_offset"])

    def documents(self, sample_ids: Collection[str] | None = None) -> pa.Table:
        """Complete documents, verdicts and memberships included, each with the digest of all it says."""
        head, _ = read_head(self._store)
        table = self._builder.describe(self._ledger.view(), sample_ids).documents
        ids = table["sample_id"].combine_chunks() if table.num_rows else pa.array([], pa.string())
        rows = (
            self._trees.rows(head.node)
            if sample_ids is None
            else self._trees.lookup(head.node, ids.to_pylist())
        )
        places = pc.index_in(ids, value_set=_one(rows["sample_id"]))
        memberships = self._snapshots.memberships(None if sample_ids is None else ids.to_pylist())
        filled = {
            "verdict": pc.fill_null(rows["verdict"].take(places), "pending"),
            "reasons": _lists(rows["reasons"].take(places)),
            "near_duplicate": rows["near_duplicate"].take(places),
            "datasets": pa.array([memberships.get(i, []) for i in ids.to_pylist()], pa.list_(pa.string())),
        }
        for name, column in filled.items():
            table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), column)
        return table.append_column("doc_digest", pa.array(self._digests(table), pa.string()))

    def _digests(self, table: pa.Table) -> list[str]:
        vectors = {space: step.key for space, step in sorted(self._steps.embed.items())}
        present = {s: set(self._embedded(s, table["sample_id"].to_pylist())) for s in vectors}
        digests = []
        for row in table.to_pylist():
            spaces = [vectors[s] for s in vectors if row["sample_id"] in present[s]]
            digests.append(digest(repr((sorted(row.items()), spaces)).encode())[:32])
        return digests

    def _embedded(self, space: str, ids: list[str]) -> list[str]:
        facts = self._facts.read(self._steps.embed[space], sample_ids=ids, columns=["sample_id", "reason"])
        found: list[str] = facts.filter(pc.is_null(facts["reason"]))["sample_id"].to_pylist()
        return found

    def _upsert(self, documents: pa.Table) -> int:
        written = 0
        for chunk in _chunks(documents):
            report = self._index.upsert(self._with_vectors(chunk))
            if report.failed:
                first = report.failed[0]
                raise CorruptionError(
                    f"{len(report.failed)} documents do not fit the index; the first is {first.sample_id}: {first.reason}.",
                    kind="unprojectable",
                )
            written += chunk.num_rows
        return written

    def _with_vectors(self, documents: pa.Table) -> pa.Table:
        ids = _one(documents["sample_id"])
        for space, step in sorted(self._steps.embed.items()):
            facts = self._facts.read(step, sample_ids=ids.to_pylist(), columns=["sample_id", "vector"])
            places = pc.index_in(ids, value_set=_one(facts["sample_id"]))
            documents = documents.append_column(f"vector_{space}", facts["vector"].take(places))
        return documents

    def _position(self) -> dict[str, Any]:
        head, _ = read_head(self._store)
        return {
            "ledger_offset": self._ledger.offset,
            "root": head.root,
            "steps": {name: step.key for name, step in sorted(self._steps.embed.items())},
            "state": _digest_inputs(head),
            "snapshots": [s.ref for s in self._snapshots.all()],
        }


def _digest_inputs(head: StateHead) -> str:
    return digest(repr((head.batches, sorted(head.files.items()), head.fields)).encode())[:32]


def _chunks(table: pa.Table) -> Iterator[pa.Table]:
    for start in range(0, table.num_rows, _CHUNK):
        yield table.slice(start, _CHUNK)


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks else pa.array([], column.type)


def _lists(column: pa.ChunkedArray) -> pa.Array:
    return pa.array([value or [] for value in column.to_pylist()], ROW_SCHEMA.field("reasons").type)
