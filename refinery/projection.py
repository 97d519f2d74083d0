"""Projection: bring the index in line with truth. The index is never the authority; wiping it costs a rebuild.

Several projections may run at once. Each reads which position truth has, then takes a sequence, then reads truth, and
claims that position last (`set_position`). So whatever is written with a greater sequence holds all that was claimed
before, and a projection whose claim is refused knows that its older writes may stand where newer ones were not needed:
it writes those again. docs/decisions/2026-11-23-projection-order.md has the argument.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from refinery.digests import digest
from refinery.documents import DocumentBuilder
from refinery.errors import ConfigError, ConflictError, CorruptionError, InputError
from refinery.facts import FactStore
from refinery.index import VECTOR, SampleIndex
from refinery.inputs import Steps
from refinery.ledger import Ledger
from refinery.replay import Replayer
from refinery.snapshots import Snapshots
from refinery.states.head import StateHead, read_head
from refinery.states.rows import ROW_SCHEMA
from refinery.states.tree import StateTrees
from refinery.store import ObjectStore

_CHUNK = 10_000
_MOST_TRIES = 50
_MOST_PASSES = 3

Position = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ProjectionReport:
    """What a projection did: documents there should be, written, removed, and left as they were.

    `superseded` ones stand as a newer projection wrote them. `overtaken`: the index was to be replaced, but another
    replacement began later and goes on, so this one wrote nothing that lasts.
    """

    documents: int
    upserted: int
    deleted: int
    unchanged: int
    ledger_offset: int
    superseded: int = 0
    overtaken: bool = False


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
        self._replayer = Replayer(store, ledger, builder.batches, facts, builder.fields, steps)

    def is_current(self) -> bool:
        """Whether the index says of itself that it holds all of truth. Reads no documents."""
        return self._index.position() == self._position()

    def project(self) -> ProjectionReport:
        """Compare every document with the index and write those that differ; remove those that no longer exist.

        An index of other steps, or one whose columns have other types, is replaced.
        """
        if self._index.position().get("steps") != self._position()["steps"]:
            return self.rebuild()
        try:
            return self._pass(self._index)
        except ConfigError as error:
            if error.kind != "index_schema":
                raise
            return self.rebuild()

    def rebuild(self) -> ProjectionReport:
        """Project everything into a new index with today's fields and spaces, which takes the old one's place at the end."""
        spaces = {
            name: step.columns.field("vector").type.list_size for name, step in self._steps.embed.items()
        }
        try:
            with self._index.replacement(self._builder.fields, spaces) as new:
                report = self._pass(new)
                for _ in range(_MOST_PASSES - 1):
                    if _rest(new.position()) == _rest(self._position()):
                        break
                    again = self._pass(new)
                    report = replace(again, upserted=report.upserted + again.upserted)
        except ConflictError as error:
            if error.kind != "replaced":
                raise
            count, offset = self._index.count(), self._index.position().get("ledger_offset", 0)
            return ProjectionReport(count, 0, 0, count, offset, overtaken=True)
        after = self.follow_ledger()
        return replace(report, ledger_offset=after.ledger_offset if after else report.ledger_offset)

    def follow_ledger(self) -> ProjectionReport | None:
        """Project only what ledger events since the index's position say: flags become searchable at once.

        Reads the ledger and the index, so its cost does not grow with the samples there are. None: there is no index yet.
        """
        position = self._index.position()
        return self._follow(self._index, position) if position else None

    def catch_up(self) -> ProjectionReport | None:
        """Project only what verdicts and ledger events say since the index's position, as after a replay of flags: its cost
        does not grow with the samples there are.

        None: there is no index yet, or batches, facts, clusters, fields, steps or snapshots are others by now, or the state
        that the index was projected from is gone. Then `project` has to compare every document.
        """
        found, now = self._index.position(), self._position()
        if not found or {**found, "root": now["root"], "ledger_offset": now["ledger_offset"]} != now:
            return None
        old, new = self._trees.known(found["root"]), self._trees.known(now["root"])
        if old is None or new is None:
            return None
        try:
            sides = self._trees.diff(old, new)
        except InputError:  # a pack of the old one was removed
            return None
        owed = {i for side in sides for i in side["sample_id"].to_pylist()}
        return self._follow(self._index, {**found, "root": now["root"]}, owed)

    def _pass(self, index: SampleIndex) -> ProjectionReport:
        """Compare all of truth with an index, and claim its position."""
        found, position = index.position(), self._position()
        sequence = index.next_sequence()
        documents = self.documents()
        stale, gone = _differences(index, documents)
        if gone:
            index.delete(gone, sequence)
        written, superseded = self._write(index, self._with_vectors, documents.filter(stale), sequence)
        if written or gone:
            index.compact()
        accepted = index.set_position(position, sequence)
        # what an older projection wrote before the claim shows here; one that writes later has its own claim refused
        owed = set(documents.filter(_differences(index, documents)[0])["sample_id"].to_pylist())
        if not accepted and _rest(index.position()) not in (_rest(found), _rest(position)):
            owed.update(written)
        report = ProjectionReport(
            documents.num_rows,
            len(written),
            len(gone),
            documents.num_rows - len(written) - len(superseded),
            position["ledger_offset"],
            len(superseded),
        )
        if accepted and not owed and self._ledger.offset == position["ledger_offset"]:
            return report
        after = self._follow(index, position, owed)
        return replace(report, ledger_offset=after.ledger_offset)

    def _follow(
        self, index: SampleIndex, base: Position, owed: Collection[str] = frozenset()
    ) -> ProjectionReport:
        """Bring an index that holds `base`, but for the samples `owed`, to the end of the ledger, and claim that.

        ConflictError(kind="index_busy") when other projections kept claiming newer positions.
        """
        owed = set(owed)
        for _ in range(_MOST_TRIES):
            found, offset = index.position(), self._ledger.offset
            sequence = index.next_sequence()
            touched = self._ledger.view().touched(base["ledger_offset"]) - owed
            written, superseded = self._amend(index, base, touched, sequence)
            if missing := owed | touched.difference(written, superseded):
                for some in _some(sorted(missing)):
                    more = self._write(index, self._with_vectors, self.documents(some), sequence)
                    written, superseded = written + more[0], superseded + more[1]
            claim = {**base, "ledger_offset": offset}
            # a projection that claimed meanwhile may have written what the amended documents were read without
            if _rest(index.position()) == _rest(found) and index.set_position(claim, sequence):
                count = len(written) + len(superseded)
                return ProjectionReport(count, len(written), 0, 0, offset, len(superseded))
            owed |= touched
            if _rest(recorded := index.position()) == _rest(self._position()):
                base = recorded
        raise ConflictError(
            f"Other projections claimed newer positions of the index {_MOST_TRIES} times: try again.",
            kind="index_busy",
        )

    def _amend(
        self, index: SampleIndex, base: Position, sample_ids: Collection[str], sequence: int
    ) -> tuple[list[str], list[str]]:
        """Write documents that an index has again, with what stands in the ledger now. Ids written, and superseded ones."""
        if not sample_ids:
            return [], []
        vectors = [VECTOR + space for space in sorted(base["steps"])]
        names = self._builder.fields.schema().names
        stored = index.get(sorted(sample_ids), [*names, *vectors])
        documents = self._builder.amend(stored.select(names), self._ledger.view())
        embedded = {s: stored[VECTOR + s].is_valid().to_pylist() for s in base["steps"]}
        documents = documents.append_column("doc_digest", _digests(documents, base["steps"], embedded))
        for name in vectors:
            documents = documents.append_column(name, stored[name])
        return self._write(index, lambda chunk: chunk, documents, sequence)

    def documents(self, sample_ids: Collection[str] | None = None) -> pa.Table:
        """Complete documents, verdicts and memberships included, each with the digest of all it says."""
        head, _ = read_head(self._store)
        inputs = self._builder.inputs.read() if sample_ids is None else self._replayer.inputs(sample_ids)
        table = self._builder.complete(inputs, self._ledger.view()).documents
        ids = table["sample_id"].combine_chunks() if table.num_rows else pa.array([], pa.string())
        rows = (
            self._trees.rows(head.node)
            if sample_ids is None
            else self._trees.lookup(head.node, ids.to_pylist())
        )
        memberships = self._snapshots.memberships(None if sample_ids is None else ids.to_pylist())
        table = with_verdicts(table, rows, memberships)
        embedded = {space: self._embedded(space, ids).to_pylist() for space in self._steps.embed}
        return table.append_column("doc_digest", _digests(table, self._keys(), embedded))

    def _embedded(self, space: str, ids: pa.Array) -> pa.Array:
        """Which of the samples have a vector in a space."""
        columns = ["sample_id", "reason"]
        facts = self._facts.read(self._steps.embed[space], sample_ids=ids.to_pylist(), columns=columns)
        return pc.is_in(ids, value_set=_one(facts.filter(pc.is_null(facts["reason"]))["sample_id"]))

    def _write(
        self, index: SampleIndex, complete: Any, documents: pa.Table, sequence: int
    ) -> tuple[list[str], list[str]]:
        """Upsert documents, each chunk made complete first. Ids written, and superseded ones."""
        written: list[str] = []
        superseded: list[str] = []
        for chunk in _chunks(documents):
            report = index.upsert(complete(chunk), sequence)
            if report.failed:
                first = report.failed[0]
                raise CorruptionError(
                    f"{len(report.failed)} documents do not fit the index; the first is {first.sample_id}: {first.reason}.",
                    kind="unprojectable",
                )
            written += report.written
            superseded += report.superseded
        return written, superseded

    def _with_vectors(self, documents: pa.Table) -> pa.Table:
        ids = _one(documents["sample_id"])
        batches = pc.unique(pc.list_flatten(_one(documents["batch"]))).to_pylist()
        for space, step in sorted(self._steps.embed.items()):
            facts = self._facts.read(
                step, batches=batches, sample_ids=ids.to_pylist(), columns=["sample_id", "vector"]
            )
            places = pc.index_in(ids, value_set=_one(facts["sample_id"]))
            documents = documents.append_column(VECTOR + space, facts["vector"].take(places))
        return documents

    def _keys(self) -> dict[str, str]:
        return {name: step.key for name, step in sorted(self._steps.embed.items())}

    def _position(self) -> dict[str, Any]:
        head, _ = read_head(self._store)
        return {
            "ledger_offset": self._ledger.offset,
            "root": head.root,
            "steps": self._keys(),
            "state": _digest_inputs(head),
            "snapshots": self._snapshots.refs(),
        }


def with_verdicts(documents: pa.Table, rows: pa.Table, memberships: Mapping[str, Sequence[str]]) -> pa.Table:
    """Documents with the verdicts of a state's rows (pending where there is none) and the snapshots they are in."""
    ids = _one(documents["sample_id"])
    places = pc.index_in(ids, value_set=_one(rows["sample_id"]))
    filled = {
        "verdict": pc.fill_null(rows["verdict"].take(places), "pending"),
        "reasons": _lists(rows["reasons"].take(places)),
        "near_duplicate": rows["near_duplicate"].take(places),
        "datasets": pa.array([memberships.get(i, []) for i in ids.to_pylist()], pa.list_(pa.string())),
    }
    for name, column in filled.items():
        place = documents.schema.get_field_index(name)
        documents = documents.set_column(place, documents.schema.field(name), column)
    return documents


def _digest_inputs(head: StateHead) -> str:
    return digest(repr((head.batches, sorted(head.files.items()), head.fields, head.clusters)).encode())[:32]


def _rest(position: Position) -> dict[str, Any]:
    """What a position says of everything but the ledger."""
    return {name: value for name, value in position.items() if name != "ledger_offset"}


def _differences(index: SampleIndex, documents: pa.Table) -> tuple[pa.Array, list[str]]:
    """Which of the documents the index does not hold as they are, and what it holds besides, sorted."""
    known = index.digests()
    same = _one(known["doc_digest"]).take(
        pc.index_in(_one(documents["sample_id"]), value_set=_one(known["sample_id"]))
    )
    stale = pc.fill_null(pc.not_equal(same, _one(documents["doc_digest"])), True)
    foreign = pc.invert(pc.is_in(known["sample_id"], value_set=_one(documents["sample_id"])))
    return stale, known.filter(foreign)["sample_id"].to_pylist()


def _digests(table: pa.Table, steps: Mapping[str, str], embedded: Mapping[str, Sequence[bool]]) -> pa.Array:
    """The digest of each document: of its columns, and of the steps that gave it the vectors it has."""
    digests = []
    for start in range(0, table.num_rows, _CHUNK):  # rows as Python values take many times the room
        for number, row in enumerate(table.slice(start, _CHUNK).to_pylist(), start):
            spaces = [steps[space] for space in sorted(steps) if embedded[space][number]]
            digests.append(digest(repr((sorted(row.items()), spaces)).encode())[:32])
    return pa.array(digests, pa.string())


def _chunks(table: pa.Table) -> Iterator[pa.Table]:
    """The table in parts whose samples lie in few batches each: their vectors lie in as few files."""
    if table.num_rows > _CHUNK:
        first = pc.list_element(_one(table["batch"]), 0)
        table = table.take(pc.sort_indices(first))
    for start in range(0, table.num_rows, _CHUNK):
        yield table.slice(start, _CHUNK)


def _some(sample_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(sample_ids), _CHUNK):
        yield sample_ids[start : start + _CHUNK]


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks else pa.array([], column.type)


def _lists(column: pa.ChunkedArray) -> pa.Array:
    return pa.array([value or [] for value in column.to_pylist()], ROW_SCHEMA.field("reasons").type)
