"""`LanceIndex`: documents as rows of a LanceDB table, each with the sequence it was written with in a column of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refinery.errors import ConfigError, ConflictError, InputError, did_you_mean
from refinery.fields import Fields
from refinery.filter import Filter
from refinery.filter.lance import column as sql_name
from refinery.filter.lance import literal
from refinery.index import DOC_DIGEST, VECTOR, Aggregate, AggregateKind, BulkReport, Page, Query
from refinery.index.buckets import aggregate, kind_for
from refinery.index.lancedb.folder import KEPT, Folder, Generation, State
from refinery.index.lancedb.orders import head, ordered, scan, text_fields, values_of
from refinery.index.order import encode_cursor
from refinery.index.rows import check_columns, check_type, conform

_SEQUENCE = "_sequence"
_MAX_SMALL_FRAGMENTS = 32
_IDS_PER_READ = 1000


class LanceIndex:
    """An index in the folder `path`, created at first use. Safe to use from several threads and processes.

    Vector searches are exact, whether asked for or not. A delete is remembered for 24 hours: a write with a smaller
    sequence that comes later than that brings the document back.
    """

    def __init__(self, path: Path, fields: Fields, *, building: str | None = None) -> None:
        """`building`: the table of a replacement under way, instead of the one that answers."""
        self.path = Path(path).absolute()
        self._fields = fields
        self._folder = Folder(self.path)
        self._building = building

    def next_sequence(self) -> int:
        with self._folder.writing() as state:
            return state.take()

    def upsert(self, documents: pa.Table, sequence: int | None = None) -> BulkReport:
        with self._folder.writing() as state:
            table = self._open(state)
            number = state.take(sequence)
            report = self._merge(table, documents, number)
            if (other := self._other(state)) is not None:
                self._merge(other, _fitting(documents, other.schema), number)
        return report

    def delete(self, sample_ids: Sequence[str], sequence: int | None = None) -> int:
        with self._folder.writing() as state:
            table = self._open(state)
            number = state.take(sequence)
            if not sample_ids:
                return 0
            self._folder.note_deleted(sample_ids, number)
            before = table.count_rows()
            for each in filter(None, (table, self._other(state))):
                for some in _chunks(sample_ids):
                    each.delete(f"{_among(some)} AND {sql_name(_SEQUENCE)} <= {number}")
            return int(before - table.count_rows())

    def count(self, filter: Filter | None = None) -> int:
        return int(self._table().count_rows(_where(filter)))

    def get(self, sample_ids: Sequence[str], columns: Sequence[str] | None = None) -> pa.Table:
        return _rows(self._table(), sample_ids, columns)

    def digests(self) -> pa.Table:
        return scan(self._table(), ["sample_id", DOC_DIGEST]).sort_by("sample_id")

    def head(self, filter: Filter | None, limit: int, columns: Sequence[str]) -> pa.Table:
        table = self._table()
        return head(table, filter, limit, _columns(table, columns))

    def query(self, query: Query) -> Page:
        table = self._table()
        columns = _columns(table, query.columns)
        found = ordered(table, self._fields, query, columns)
        shown = found.ids[: query.limit]
        cursor = encode_cursor(query, found.marks[len(shown) - 1]) if len(found.ids) > len(shown) else None
        if found.rows is None:
            documents = _rows(table, shown, columns)
        else:
            documents = found.rows.slice(0, len(shown)).select(columns)
        scores = None if found.scores is None else tuple(found.scores[: len(shown)])
        return Page(scores, cursor, lambda: documents)

    def aggregate(
        self, field: str, kind: AggregateKind | None = None, filter: Filter | None = None, size: int = 20
    ) -> Aggregate:
        found = kind_for(self._fields[field], kind, size)
        values = values_of(self._table(), field, _where(filter)).combine_chunks()
        return aggregate(values, found, size)

    def position(self) -> dict[str, Any]:
        generation = self._generation(self._folder.read())
        return generation.position if generation else {}

    def set_position(self, position: Mapping[str, Any], sequence: int | None = None) -> bool:
        with self._folder.writing() as state:
            self._open(state)
            generation = self._generation(state)
            assert generation is not None
            number = state.take(sequence)
            if number < generation.sequence:
                return False
            generation.position, generation.sequence = dict(position), number
            return True

    @contextmanager
    def replacement(self, fields: Fields, spaces: Mapping[str, int]) -> Iterator[LanceIndex]:
        with ExitStack() as stack:
            with self._folder.writing() as state:
                name, table = self._folder.create(_schema(fields, spaces))
                stack.enter_context(self._folder.owning(name))
                self._index(table, fields)
                state.building = Generation(name)
                self._folder.sweep(state)
            new = LanceIndex(self.path, fields, building=name)
            try:
                yield new
            except BaseException:
                with self._folder.writing() as state:
                    if state.building and state.building.table == name:
                        state.building = None
                        self._folder.drop(name)
                raise
            with self._folder.writing() as state:
                built = new._generation(state)
                if state.current is not None:
                    state.retired[state.current.table] = time.time()
                state.current, state.building = built, None
                self._folder.sweep(state)
        self._fields = fields

    def compact(self) -> None:
        with self._folder.writing() as state:
            self._open(state).optimize(cleanup_older_than=KEPT)
            self._folder.sweep(state)

    # the table

    def _merge(self, table: Any, documents: pa.Table, sequence: int) -> BulkReport:
        """Write documents into one table, but for those that a greater sequence wrote or deleted."""
        added = check_columns(documents, table.schema)
        wanted = [column for column in [*table.schema, *added] if column.name != _SEQUENCE]
        rows, failed = conform(documents, pa.schema(wanted), self._fields)
        newer = scan(table, ["sample_id"], f"{sql_name(_SEQUENCE)} > {sequence}").column("sample_id")
        beaten = pa.concat_arrays([newer.combine_chunks(), self._folder.deleted_after(sequence)])
        stays = pc.is_in(rows.column("sample_id"), value_set=beaten)
        superseded, rows = rows.filter(stays), rows.filter(pc.invert(stays))
        if added:
            table.add_columns(added)
        if rows.num_rows:
            numbers = pa.array(np.full(rows.num_rows, sequence, np.int64))
            merge = table.merge_insert("sample_id").when_matched_update_all().when_not_matched_insert_all()
            # conform set the bad vectors apart: only missing ones are left
            merge.execute(rows.append_column(_SEQUENCE, numbers), on_bad_vectors="null")
        if table.stats()["fragment_stats"]["num_small_fragments"] > _MAX_SMALL_FRAGMENTS:
            table.optimize(cleanup_older_than=KEPT)
        return BulkReport(
            tuple(rows.column("sample_id").to_pylist()),
            failed,
            tuple(superseded.column("sample_id").to_pylist()),
        )

    def _generation(self, state: State) -> Generation | None:
        """The table that this index reads and writes; ConflictError when it is of a replacement that was overtaken."""
        if self._building is None:
            return state.current
        for generation in (state.building, state.current):
            if generation is not None and generation.table == self._building:
                return generation
        raise ConflictError(
            f"Another replacement of the index {self.path} began later and goes on; this one was dropped.",
            kind="replaced",
        )

    def _other(self, state: State) -> Any:
        """The table being built, which a writer to the one that answers writes to as well."""
        if self._building is not None or state.building is None:
            return None
        table = self._folder.open(state.building.table)
        names = table.schema.names
        if missing := [column for column in self._fields.schema() if column.name not in names]:
            table.add_columns(missing)
        return table

    def _table(self) -> Any:
        """The table as of now, with a column for every field, made so first where it is not."""
        generation = self._generation(self._folder.read())
        if generation is not None:
            table = self._folder.open(generation.table)
            if not self._missing(table):
                return table
        with self._folder.writing() as state:
            return self._open(state)

    def _open(self, state: State) -> Any:
        """The table for a writer, whose turn it is."""
        generation = self._generation(state)
        if generation is None:
            name, table = self._folder.create(_schema(self._fields, {}))
            self._index(table, self._fields)
            state.current = Generation(name)
            return table
        table = self._folder.open(generation.table)
        if missing := self._missing(table):
            table.add_columns(missing)
            self._index(table, self._fields)
        return table

    def _missing(self, table: Any) -> list[pa.Field]:
        found = {column.name: column.type for column in table.schema}
        wanted = self._fields.schema()
        for column in wanted:
            check_type(column.name, column.type, found.get(column.name, column.type))
        return [column for column in wanted if column.name not in found]

    def _index(self, table: Any, fields: Fields) -> None:
        """An index of ids, and on each text field a language-neutral one: words lower-cased, neither stemmed nor dropped."""
        from lancedb.index import FTS, BTree

        indexed = {name for index in table.list_indices() for name in index.columns}
        if "sample_id" not in indexed:
            table.create_index("sample_id", config=BTree())
        for name in text_fields(fields):
            if name not in indexed:
                table.create_index(name, config=FTS(stem=False, remove_stop_words=False))


def _schema(fields: Fields, spaces: Mapping[str, int]) -> pa.Schema:
    own = [pa.field(DOC_DIGEST, pa.string()), pa.field(_SEQUENCE, pa.int64())]
    vectors = [pa.field(VECTOR + name, pa.list_(pa.float32(), spaces[name])) for name in sorted(spaces)]
    return pa.schema([*fields.schema(), *own, *vectors])


def _rows(table: Any, sample_ids: Sequence[str], columns: Sequence[str] | None) -> pa.Table:
    """The rows of these ids in this order; without `columns`, all but vectors."""
    names = _columns(table, columns)
    wanted = list(dict.fromkeys([*names, "sample_id"]))
    read = [scan(table, wanted, _among(some)) for some in _chunks(sample_ids)]
    found = pa.concat_tables(read) if read else table.schema.empty_table().select(wanted)
    rows = pc.index_in(pa.array(sample_ids, pa.string()), value_set=found.column("sample_id")).drop_null()
    return found.take(rows).select(names)


def _columns(table: Any, columns: Sequence[str] | None) -> list[str]:
    known = [name for name in table.schema.names if name != _SEQUENCE]
    if columns is None:
        return [name for name in known if not name.startswith(VECTOR)]
    for name in columns:
        if name not in known:
            raise InputError(
                f"The index has no column {name!r}.{did_you_mean(name, known)}", kind="unknown_field"
            )
    return list(columns)


def _fitting(documents: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of documents that an index with other fields and spaces has too, with the same types."""

    def fits(column: pa.Field) -> bool:
        try:
            check_type(column.name, column.type, schema.field(column.name).type)
        except (KeyError, ConfigError):
            return False
        return True

    return documents.select([column.name for column in documents.schema if fits(column)])


def _where(filter: Filter | None) -> str | None:
    return None if filter is None else filter.to_lance()


def _chunks(sample_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(sample_ids), _IDS_PER_READ):
        yield sample_ids[start : start + _IDS_PER_READ]


def _among(sample_ids: Sequence[str]) -> str:
    return f"{sql_name('sample_id')} IN ({', '.join(map(literal, sample_ids))})"
