"""Inputs kept in the object store, so that a replay reads no facts but those that are new.

They lie in immutable segments: Arrow IPC files of rows in order of sample id, named by the digest of their bytes. The state's
head names the segments that count, oldest first; of a sample in several the newest row counts. Segments are merged such
that each is at least twice as long as the next (O'Neil et al. 1996, "The log-structured merge-tree"), so that there are few, and
a row is rewritten seldom. They are a projection: without them the next replay reads all facts.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from refinery.digests import digest
from refinery.errors import CorruptionError
from refinery.recent import Recent
from refinery.store import ObjectStore
from refinery.store.fresh import put_fresh

FORMAT = "refinery.inputs/1"
PREFIX = "states/inputs/"
_KEY = "_key"
"""The first 64 bits of the sample id, to search by."""
_BATCH_ROWS = 65_536
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
            table = self._table(key)
            if columns is not None:
                table = table.select(list(dict.fromkeys(["sample_id", *columns, _KEY])))
            places = _places(table, wanted)
            found.append(_take(table, places[places >= 0]))
            wanted = [i for i, place in zip(wanted, places, strict=True) if place < 0]
        rows = pa.concat_tables(found).drop_columns([_KEY])
        rows = rows if len(found) == 1 else rows.sort_by("sample_id")
        return rows if columns is None else rows.select(columns)

    def verify(self, segments: Sequence[str]) -> list[str]:
        """A sentence for each segment that is gone or not what its name says."""
        wrong = []
        for key in segments:
            found = self._store.get_with_etag(key)
            if found is None or digest(found[0]) != key.removeprefix(PREFIX).partition(".")[0]:
                wrong.append(f"{key} is {'missing' if found is None else 'damaged'}.")
        return wrong

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


def _open(source: pa.NativeFile) -> pa.Table:
    table = pa.ipc.open_file(source).read_all()
    found = (table.schema.metadata or {}).get(b"format", b"").decode()
    if found != FORMAT:
        raise ValueError(f"format {json.dumps(found)}, this version reads {FORMAT}")
    return table.replace_schema_metadata(None)


def _keyed(rows: pa.Table) -> pa.Table:
    heads = bytes.fromhex("".join(i[:16] for i in rows["sample_id"].to_pylist()))
    return rows.append_column(_KEY, pa.array(np.frombuffer(heads, ">u8").astype(np.uint64)))


def _keys(table: pa.Table) -> npt.NDArray[np.uint64]:
    keys: npt.NDArray[np.uint64] = table[_KEY].to_numpy()
    return keys


def _places(table: pa.Table, sample_ids: Sequence[str]) -> npt.NDArray[np.int64]:
    """The row of each of these samples (in order), -1 where there is none."""
    keys = _keys(table)
    heads = np.frombuffer(bytes.fromhex("".join(i[:16] for i in sample_ids)), ">u8").astype(np.uint64)
    first, last = (np.searchsorted(keys, heads, side) for side in ("left", "right"))
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
