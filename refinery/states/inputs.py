"""Inputs kept in the object store, so that a replay reads no facts but those that are new.

They lie in immutable segments: Arrow IPC files of rows in order of sample id, named by the digest of their bytes. The state's
head names the segments that count, oldest first; of a sample in several the newest row counts. Segments are merged such
that each is at least twice as long as the next (O'Neil et al. 1996, "The log-structured merge-tree"), so that there are few, and
a row is rewritten seldom. They are a projection: without them the next replay reads all facts.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from refinery.digests import digest
from refinery.errors import CorruptionError, InputError
from refinery.recent import Recent
from refinery.store import ObjectStore
from refinery.store.fresh import put_fresh
from refinery.store.ranges import ranged

FORMAT = "refinery.inputs/1"
PREFIX = "states/inputs/"
_KEY = "_key"
"""The first 64 bits of the sample id, to search by."""
_BATCH_ROWS = 16_384
"""Rows of a part of a segment: what is fetched at least to read one row of it from elsewhere."""
_FEW = 100
"""Of up to so many samples, a segment elsewhere is read in parts."""
_KEPT_ROWS = 2_000_000
"""How many rows of segments of a store that is not on this disk are remembered."""
_UNREADABLE = (pa.ArrowException, OSError, ValueError, LookupError)


class KeptInputs:
    """The segments of one store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._recent: Recent[pa.Table] = Recent(_KEPT_ROWS, len)

    def add(self, segments: Sequence[str], rows: pa.Table) -> list[str]:
        """The segments in force once `rows` (in order of sample id, all columns) are newer than all in `segments`."""
        left = list(segments)
        while left and len(self._table(left[-1])) < 2 * len(rows):
            rows = _newest([self._table(left.pop()), _keyed(rows)]).drop_columns([_KEY])
        return [*left, self._write(rows)] if len(rows) else left

    def rows(self, segments: Sequence[str], columns: Sequence[str] | None = None) -> pa.Table:
        """All rows, in order of sample id. CorruptionError(kind="lost_inputs") when a segment is gone or cannot be read."""
        tables = [self._table(key) for key in segments]
        if columns is not None:
            tables = [table.select([*columns, _KEY, *({"sample_id"} - set(columns))]) for table in tables]
        rows = tables[0] if len(tables) == 1 else _newest(tables)
        return rows.select(columns) if columns is not None else rows.drop_columns([_KEY])

    def lookup(
        self, segments: Sequence[str], sample_ids: Collection[str], columns: Sequence[str] | None = None
    ) -> pa.Table:
        """The rows of those samples that there are (of some columns), in order of sample id. Errors as `rows`."""
        wanted = sorted(set(sample_ids))
        found: list[pa.Table] = []
        for key in reversed(segments):
            table = self._table_of(key, wanted)
            if columns is not None:
                table = table.select(list(dict.fromkeys(["sample_id", *columns, _KEY])))
            places = _places(table, wanted)
            found.append(_take(table, places[places >= 0]))
            wanted = [i for i, place in zip(wanted, places, strict=True) if place < 0]
        rows = pa.concat_tables(found).drop_columns([_KEY])
        rows = rows if len(found) == 1 else rows.sort_by("sample_id")
        return rows if columns is None else rows.select(columns)

    def batches(self, segments: Sequence[str], sample_ids: Collection[str]) -> set[str]:
        """The batches that these samples were seen in; and, rarely, others: a sample is told by the first 64 bits of its id.
        Errors as `rows`."""
        found: set[str] = set()
        for key in segments:
            outline = self._outline(key)
            rows = _take(outline.batches, outline.rows(sorted(set(sample_ids))))
            found.update(pc.unique(pc.list_flatten(rows["batch"])).to_pylist())
        return found

    def verify(self, segments: Sequence[str]) -> list[str]:
        """A sentence for each segment that is gone or not what its name says."""
        wrong = []
        for key in segments:
            found = self._store.get_with_etag(key)
            if found is None or digest(found[0]) != key.removeprefix(PREFIX).partition(".")[0]:
                wrong.append(f"{key} is {'missing' if found is None else 'damaged'}.")
        return wrong

    def _table_of(self, key: str, sample_ids: list[str]) -> pa.Table:
        """The rows of a segment that hold those of these samples that it has; elsewhere, for a few samples, no others are
        fetched than those that lie beside them."""
        if (
            len(sample_ids) > _FEW
            or self._store.local_path(key) is not None
            or self._recent.peek(key) is not None
        ):
            return self._table(key)
        outline = self._outline(key)
        parts = np.unique(np.searchsorted(outline.starts, outline.rows(sample_ids), "right") - 1)
        try:
            reader = pa.ipc.open_file(ranged(self._store, key, outline.bytes))
            return pa.Table.from_batches(
                [reader.get_batch(n) for n in parts.tolist()], reader.schema
            ).replace_schema_metadata(None)
        except (*_UNREADABLE, InputError) as error:
            raise CorruptionError(f"{key} cannot be read: {error}", kind="lost_inputs") from None

    def _outline(self, key: str) -> _Outline:
        return _OUTLINES.get(f"{self._store.url}/{key}", lambda: self._outlined(key))

    def _outlined(self, key: str) -> _Outline:
        """Read the outline of a segment: two of its columns."""
        if self._store.local_path(key) is not None:
            return _Outline.of(0, self._table(key).select([_KEY, "batch"]))
        try:
            size = next((info.bytes for info in self._store.list(key) if info.key == key), None)
            if size is None:
                raise LookupError("there is no such object")
            schema = pa.ipc.open_file(ranged(self._store, key, size)).schema
            _check(schema)
            fields = [schema.get_field_index(name) for name in (_KEY, "batch")]
            chosen = pa.ipc.IpcReadOptions(included_fields=fields)
            reader = pa.ipc.open_file(ranged(self._store, key, size), options=chosen)
            # a batch lies in memory that is as long as the batch with all columns would be: one at a time
            parts = [_copied(reader.get_batch(n)) for n in range(reader.num_record_batches)]
            return _Outline.of(size, pa.Table.from_batches(parts, parts[0].schema))
        except (*_UNREADABLE, InputError) as error:
            raise CorruptionError(f"{key} cannot be read: {error}", kind="lost_inputs") from None

    def _table(self, key: str) -> pa.Table:
        path = self._store.local_path(key)
        try:
            if path is not None:
                return _open(pa.memory_map(str(path)))
            return self._recent.get(key, lambda: _open(pa.BufferReader(self._store.get(key))))
        except _UNREADABLE as error:
            raise CorruptionError(f"{key} cannot be read: {error}", kind="lost_inputs") from None

    def _write(self, rows: pa.Table) -> str:
        sink = pa.BufferOutputStream()
        tagged = _keyed(rows).combine_chunks().replace_schema_metadata({"format": FORMAT})
        with pa.ipc.new_file(sink, tagged.schema) as writer:
            writer.write_table(tagged, max_chunksize=_BATCH_ROWS)
        data = sink.getvalue().to_pybytes()
        key = f"{PREFIX}{digest(data)}.arrow"
        put_fresh(self._store, key, data)
        return key


@dataclass(frozen=True)
class _Outline:
    """What is remembered of a segment: its size (0: it lies on this disk), the first 64 bits of each id, the row that each of its
    parts begins with, and the batches of each sample (a table of that column)."""

    bytes: int
    keys: npt.NDArray[np.uint64]
    starts: npt.NDArray[np.int64]
    batches: pa.Table

    @classmethod
    def of(cls, size: int, table: pa.Table) -> _Outline:
        starts = np.cumsum([0, *(len(chunk) for chunk in table[_KEY].chunks)])[:-1]
        return cls(size, _keys(table), starts, table.select(["batch"]))

    def rows(self, sample_ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """The rows that may be those of these samples, in order."""
        runs = (np.arange(*run) for run in zip(*_runs(self.keys, sample_ids), strict=True))
        found: npt.NDArray[np.int64] = np.unique(np.concatenate([np.empty(0, np.int64), *runs]))
        return found


_OUTLINES: Recent[_Outline] = Recent(4_000_000, lambda outline: len(outline.keys))
"""Those of all stores that this process reads: segments never change under their name."""


def _runs(
    keys: npt.NDArray[np.uint64], sample_ids: Sequence[str]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For each sample the first row with its key, and the first one behind these."""
    heads = np.frombuffer(bytes.fromhex("".join(i[:16] for i in sample_ids)), ">u8").astype(np.uint64)
    first, last = (np.searchsorted(keys, heads, side) for side in ("left", "right"))
    return first, last


def _open(source: pa.NativeFile) -> pa.Table:
    table = pa.ipc.open_file(source).read_all()
    _check(table.schema)
    return table.replace_schema_metadata(None)


def _check(schema: pa.Schema) -> None:
    found = (schema.metadata or {}).get(b"format", b"").decode()
    if found != FORMAT:
        raise ValueError(f"format {json.dumps(found)}, this version reads {FORMAT}")


def _copied(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch in memory of its own."""
    columns = [pa.concat_arrays([column, column.slice(0, 0)]) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _keyed(rows: pa.Table) -> pa.Table:
    heads = bytes.fromhex("".join(i[:16] for i in rows["sample_id"].to_pylist()))
    return rows.append_column(_KEY, pa.array(np.frombuffer(heads, ">u8").astype(np.uint64)))


def _keys(table: pa.Table) -> npt.NDArray[np.uint64]:
    keys: npt.NDArray[np.uint64] = table[_KEY].to_numpy()
    return keys


def _places(table: pa.Table, sample_ids: Sequence[str]) -> npt.NDArray[np.int64]:
    """The row of each of these samples (in order), -1 where there is none."""
    first, last = _runs(_keys(table), sample_ids)
    places = np.where(first < last, first, -1).astype(np.int64)
    found = np.flatnonzero(places >= 0)
    there = _take(table.select(["sample_id"]), places[found])["sample_id"].to_pylist()
    for at, sample_id in zip(found.tolist(), there, strict=True):
        if sample_id != sample_ids[at]:  # another one with the same first 64 bits
            run = table["sample_id"].slice(first[at], last[at] - first[at]).to_pylist()
            places[at] = first[at] + run.index(sample_ids[at]) if sample_ids[at] in run else -1
    return places


def _take(table: pa.Table, places: npt.NDArray[np.int64]) -> pa.Table:
    """Rows by ascending number, without joining the batches of the table."""
    parts = [table.schema.empty_table()]
    start = 0
    for batch in table.to_batches():
        low, high = np.searchsorted(places, [start, start + len(batch)])
        if low < high:
            parts.append(pa.Table.from_batches([batch.take(pa.array(places[low:high] - start))]))
        start += len(batch)
    return pa.concat_tables(parts)


def _newest(tables: Sequence[pa.Table]) -> pa.Table:
    """The rows of several tables (oldest first) in order of sample id, of each sample the newest."""
    kept = []
    newer: list[pa.Array] = []
    for table in reversed(tables):
        if newer:
            known = pc.is_in(table["sample_id"], value_set=pa.concat_arrays(newer))
            table = table.filter(pc.invert(known))
        newer.extend(table["sample_id"].chunks)
        kept.append(table)
    rows = pa.concat_tables(kept)
    keys = _keys(rows)
    order = np.argsort(keys, kind="stable")
    if (np.diff(keys[order]) == 0).any():  # two samples with the same first 64 bits
        return rows.sort_by("sample_id")
    return rows.take(pa.array(order))
