"""`SampleIndex` on LanceDB in a local folder: no server, filter-first exact vector search, full text on text fields.

`documents.lance` holds the documents, `position.json` what they were projected from. Writers take turns through a lock
file, across processes; readers never wait.
"""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from refinery.digests import canonical_json
from refinery.errors import CorruptionError, InputError, did_you_mean
from refinery.fields import Fields, FieldType
from refinery.filter import Filter, conjunction
from refinery.index import DOC_DIGEST, VECTOR, Aggregate, AggregateKind, BulkReport, Nearest, Page, Query
from refinery.index.buckets import aggregate, kind_for
from refinery.index.order import (
    ID,
    Mark,
    after,
    check_vector,
    decode_cursor,
    encode_cursor,
    random_keys,
    rows_after,
    sort_field,
)
from refinery.index.rows import check_columns, check_type, conform

_TABLE = "documents"
_KEPT_VERSIONS = timedelta(minutes=10)
_MAX_SMALL_FRAGMENTS = 32
_IDS_PER_READ = 1000


class LanceIndex:
    """An index in the folder `path`, created at first use. Safe to use from several threads and processes."""

    def __init__(self, path: Path, fields: Fields) -> None:
        self.path = Path(path).absolute()
        self._fields = fields
        self._connection: Any = None

    def upsert(self, documents: pa.Table) -> BulkReport:
        with self._writing():
            table = self._open()
            added = check_columns(documents, table.schema)
            rows, failed = conform(documents, pa.schema([*table.schema, *added]))
            if added:
                table.add_columns(added)
            if rows.num_rows:
                merge = (
                    table.merge_insert("sample_id").when_matched_update_all().when_not_matched_insert_all()
                )
                merge.execute(
                    rows, on_bad_vectors="null"
                )  # conform set the bad ones apart: only missing ones are left
            if table.stats()["fragment_stats"]["num_small_fragments"] > _MAX_SMALL_FRAGMENTS:
                self._compact(table)
        return BulkReport(tuple(rows.column("sample_id").to_pylist()), failed)

    def delete(self, sample_ids: Sequence[str]) -> int:
        with self._writing():
            table = self._open()
            before = table.count_rows()
            for some in _chunks(sample_ids):
                table.delete(_among(some))
            return int(before - table.count_rows())

    def count(self, filter: Filter | None = None) -> int:
        return int(self._table().count_rows(_where(filter)))

    def get(self, sample_ids: Sequence[str], columns: Sequence[str] | None = None) -> pa.Table:
        table = self._table()
        names = self._columns(table, columns)
        wanted = list(dict.fromkeys([*names, "sample_id"]))
        read = [_scan(table, wanted, _among(some)) for some in _chunks(sample_ids)]
        found = pa.concat_tables(read) if read else table.schema.empty_table().select(wanted)
        rows = pc.index_in(pa.array(sample_ids, pa.string()), value_set=found.column("sample_id")).drop_null()
        return found.take(rows).select(names)

    def digests(self) -> pa.Table:
        return _scan(self._table(), ["sample_id", DOC_DIGEST]).sort_by("sample_id")

    def query(self, query: Query) -> Page:
        table = self._table()
        if query.nearest is not None:
            ids, marks, scores = self._by_similarity(table, query, query.nearest)
        elif query.text is not None:
            ids, marks, scores = self._by_text(table, query, query.text)
        elif query.seed is not None:
            ids, marks, scores = self._by_chance(table, query, query.seed)
        else:
            ids, marks, scores = self._by_field(table, query)
        shown = ids[: query.limit]
        cursor = encode_cursor(query, marks[len(shown) - 1]) if len(ids) > len(shown) else None
        documents = self.get(shown, query.columns)
        return Page(documents, tuple(scores[: len(shown)]) if scores is not None else None, cursor)

    def aggregate(
        self, field: str, kind: AggregateKind | None = None, filter: Filter | None = None, size: int = 20
    ) -> Aggregate:
        found = kind_for(self._fields[field], kind, size)
        column = _scan(self._table(), [field], _where(filter)).column(field).combine_chunks()
        return aggregate(column, found, size)

    def position(self) -> dict[str, Any]:
        try:
            found = json.loads((self.path / "position.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise self._unreadable(error) from None
        return dict(found)

    def set_position(self, position: Mapping[str, Any]) -> None:
        with self._writing():
            scratch = self.path / f"position-{uuid.uuid4().hex}.tmp"
            try:
                with scratch.open("xb") as file:
                    file.write(canonical_json(dict(position)))
                    file.flush()
                    os.fsync(file.fileno())
                scratch.replace(self.path / "position.json")
            finally:
                scratch.unlink(missing_ok=True)

    def reset(self, fields: Fields, spaces: Mapping[str, int]) -> None:
        with self._writing():
            (self.path / "position.json").unlink(missing_ok=True)
            self._connect().drop_table(_TABLE, ignore_missing=True)
            self._fields = fields
            self._create({name: spaces[name] for name in sorted(spaces)})

    def compact(self) -> None:
        with self._writing():
            self._compact(self._open())

    # orders: each returns up to limit + 1 ids, a mark for each, and scores where the order has them

    def _by_field(self, table: Any, query: Query) -> tuple[list[str], list[Mark], list[float] | None]:
        from lancedb.query import ColumnOrdering

        sort = query.sort or ID
        later, seen = after(query, sort, sort_field(sort, self._fields))
        orders = [ColumnOrdering(column_name=sort.field, ascending=not sort.descending, nulls_first=False)]
        if sort.field != ID.field:
            orders.append(ColumnOrdering(column_name=ID.field, ascending=True, nulls_first=False))
        search = table.search().order_by(orders).select(list({ID.field: 0, sort.field: 0}))
        found = _filtered(search, conjunction([query.filter, later])).limit(query.limit + 1).to_arrow()
        ids = found.column("sample_id").to_pylist()
        keys = found.column(sort.field).to_pylist()
        return ids, [Mark(k, i, seen + n + 1) for n, (k, i) in enumerate(zip(keys, ids, strict=True))], None

    def _by_chance(
        self, table: Any, query: Query, seed: int
    ) -> tuple[list[str], list[Mark], list[float] | None]:
        mark = decode_cursor(query, (int,))
        ids = np.array(
            _scan(table, ["sample_id"], _where(query.filter)).column("sample_id").to_pylist(), np.str_
        )
        keys = random_keys(seed, ids.tolist())
        rows = rows_after(keys, ids, mark)[: query.limit + 1]
        return ids[rows].tolist(), _marks(keys[rows], ids[rows], mark), None

    def _by_similarity(
        self, table: Any, query: Query, nearest: Nearest
    ) -> tuple[list[str], list[Mark], list[float] | None]:
        column = VECTOR + nearest.space
        spaces = [name.removeprefix(VECTOR) for name in table.schema.names if name.startswith(VECTOR)]
        if nearest.space not in spaces:
            raise InputError(
                f"The index has no embedding space {nearest.space!r}; it has {spaces}."
                f"{did_you_mean(nearest.space, spaces)}",
                kind="unknown_space",
            )
        vector = check_vector(nearest, table.schema.field(column).type.list_size)

        def fetch(size: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.str_]]:
            search = table.search(vector, vector_column_name=column).distance_type("cosine")
            search = _filtered(search.bypass_vector_index(), query.filter)
            found = search.select(["sample_id", "_distance"]).limit(size).to_arrow()
            return _numpy(found, "_distance")

        ids, marks = _best(fetch, decode_cursor(query, (float, int)), query.limit)
        return ids, marks, [1.0 - mark.key for mark in marks]

    def _by_text(
        self, table: Any, query: Query, text: str
    ) -> tuple[list[str], list[Mark], list[float] | None]:
        from lancedb.query import MultiMatchQuery

        columns = self._text_fields()
        if not columns:
            raise InputError(
                "There is no text field to search: register one first, such as a caption.",
                kind="no_text_field",
            )

        def fetch(size: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.str_]]:
            search = _filtered(table.search(MultiMatchQuery(text, columns)), query.filter)
            keys, ids = _numpy(search.select(["sample_id", "_score"]).limit(size).to_arrow(), "_score")
            return -keys, ids

        ids, marks = _best(fetch, decode_cursor(query, (float, int)), query.limit)
        return ids, marks, [-mark.key for mark in marks]

    # the table

    def _text_fields(self) -> list[str]:
        return [field.name for field in self._fields.values() if field.type is FieldType.TEXT]

    def _columns(self, table: Any, columns: Sequence[str] | None) -> list[str]:
        if columns is None:
            return [name for name in table.schema.names if not name.startswith(VECTOR)]
        for name in columns:
            if name not in table.schema.names:
                raise InputError(
                    f"The index has no column {name!r}.{did_you_mean(name, table.schema.names)}",
                    kind="unknown_field",
                )
        return list(columns)

    def _table(self) -> Any:
        """The table with a column for every field, made so first where it is not."""
        if _TABLE in self._tables():
            table = self._read()
            if not self._missing(table):
                return table
        with self._writing():
            return self._open()

    def _open(self) -> Any:
        """The table for a writer, which holds the lock."""
        if _TABLE not in self._tables():
            return self._create({})
        table = self._read()
        if missing := self._missing(table):
            table.add_columns(missing)
            self._index_text(table)
        return table

    def _read(self) -> Any:
        try:
            return self._connect().open_table(_TABLE)
        except (OSError, RuntimeError, ValueError) as error:
            raise self._unreadable(error) from None

    def _missing(self, table: Any) -> list[pa.Field]:
        found = {column.name: column.type for column in table.schema}
        wanted = self._fields.schema()
        for column in wanted:
            check_type(column.name, column.type, found.get(column.name, column.type))
        return [column for column in wanted if column.name not in found]

    def _create(self, spaces: Mapping[str, int]) -> Any:
        from lancedb.index import BTree

        vectors = [pa.field(VECTOR + name, pa.list_(pa.float32(), size)) for name, size in spaces.items()]
        schema = pa.schema([*self._fields.schema(), pa.field(DOC_DIGEST, pa.string()), *vectors])
        table = self._connect().create_table(_TABLE, schema=schema)
        table.create_index("sample_id", config=BTree())
        self._index_text(table)
        return table

    def _index_text(self, table: Any) -> None:
        """A language-neutral text index on each text field that has none: words lower-cased, neither stemmed nor dropped."""
        from lancedb.index import FTS

        indexed = {name for index in table.list_indices() for name in index.columns}
        for name in self._text_fields():
            if name not in indexed:
                table.create_index(name, config=FTS(stem=False, remove_stop_words=False))

    def _compact(self, table: Any) -> None:
        table.optimize(cleanup_older_than=_KEPT_VERSIONS)

    def _tables(self) -> list[str]:
        return list(self._connect().list_tables().tables) if self.path.is_dir() else []

    def _connect(self) -> Any:
        if self._connection is None:
            os.environ.setdefault("LANCE_LOG", "error")
            import lancedb

            self.path.mkdir(parents=True, exist_ok=True)
            self._connection = lancedb.connect(str(self.path), read_consistency_interval=timedelta(0))
        return self._connection

    def _unreadable(self, error: Exception) -> CorruptionError:
        return CorruptionError(
            f"The index {self.path} cannot be read ({error}): delete the folder and run `refinery rebuild-index`.",
            kind="index_unreadable",
        )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "writer.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _best(
    fetch: Callable[[int], tuple[npt.NDArray[Any], npt.NDArray[np.str_]]], mark: Mark | None, limit: int
) -> tuple[list[str], list[Mark]]:
    """Up to limit + 1 of what `fetch(n)`, the n samples of least key, has after `mark`: ties in order of sample id.

    The backend cuts ties anywhere, so more is fetched until the last key fetched is greater than any that is shown.
    """
    size = (mark.seen if mark else 0) + limit + 2
    while True:
        keys, ids = fetch(size)
        rows = rows_after(keys, ids, mark)[: limit + 1]
        if len(keys) < size or (len(rows) > limit and keys[rows[-1]] < keys.max()):
            return ids[rows].tolist(), _marks(keys[rows], ids[rows], mark)
        size *= 4


def _marks(keys: npt.NDArray[Any], ids: npt.NDArray[np.str_], mark: Mark | None) -> list[Mark]:
    seen = mark.seen if mark else 0
    return [
        Mark(key, i, seen + n + 1) for n, (key, i) in enumerate(zip(keys.tolist(), ids.tolist(), strict=True))
    ]


def _numpy(found: pa.Table, key: str) -> tuple[npt.NDArray[Any], npt.NDArray[np.str_]]:
    return found.column(key).to_numpy(), np.array(found.column("sample_id").to_pylist(), np.str_)


def _where(filter: Filter | None) -> str | None:
    return None if filter is None else filter.to_lance()


def _filtered(search: Any, filter: Filter | None) -> Any:
    return search if filter is None else search.where(filter.to_lance(), prefilter=True)


def _scan(table: Any, columns: list[str], where: str | None = None) -> pa.Table:
    search = table.search().select(columns).limit(None)
    return (search.where(where) if where else search).to_arrow()


def _chunks(sample_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(sample_ids), _IDS_PER_READ):
        yield sample_ids[start : start + _IDS_PER_READ]


def _among(sample_ids: Sequence[str]) -> str:
    from refinery.filter.lance import column, literal

    return f"{column('sample_id')} IN ({', '.join(map(literal, sample_ids))})"
