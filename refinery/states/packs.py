"""Packs: what one operation adds to the state trees of a store, as one immutable object (`refinery.pack/1`).

A pack holds inner nodes of 16 references each, the key (sample id and row digest) of every row of its leaves, and the rows
themselves as an Arrow stream. A reference names a set of rows and says where it lies: rows that stand side by side in some
pack (a leaf), or an inner node of some pack. docs/formats.md has the bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from refinery.digests import canonical_json
from refinery.errors import CorruptionError
from refinery.states.ids import ID_BYTES, Bytes, Ints, to_text
from refinery.states.rows import ROW_SCHEMA
from refinery.states.sources import Source, Span

FORMAT = "refinery.pack/1"
BLOCK_ROWS = 1024
"""How many rows an Arrow batch has, more or less: what is read at once from a remote store to get at one row."""

NOTHING, LEAF, NODE = 0, 1, 2
REF = np.dtype([("digest", "V32"), ("count", "<u4"), ("at", "<u4"), ("pack", "<u4"), ("kind", "<u4")])
"""A set of rows: its digest and size, and where it lies: from row `at` on (a leaf), or as node number `at`, of a pack."""
Refs = npt.NDArray[np.void]
KEY_BYTES = 2 * ID_BYTES
STORED = pa.schema([field for field in ROW_SCHEMA if field.name != "sample_id"])
"""The columns of the Arrow stream: the keys have the ids."""

_MAGIC = FORMAT.encode() + b"\n"
_ALIGNED = 64
_NODE_BYTES = 16 * REF.itemsize
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
_MOST_HEADER = 64 << 20
_MOST_RUNS = 4


@dataclass(frozen=True, slots=True)
class Share:
    """How much of a tree lies in one pack: the rows of leaves, and nodes. `name` is empty for the pack that says so."""

    name: str
    rows: int
    nodes: int


@dataclass(frozen=True)
class Header:
    """What a pack says of itself. `shares` are the packs its tree lies in, itself first; a reference's `pack` is a place
    in this list. `blocks` are the rows and bytes of each Arrow batch, `stream` the bytes of the schema before them."""

    root: str
    count: int
    kind: int
    at: int
    rows: int
    nodes: int
    shares: tuple[Share, ...]
    stream: int
    blocks: tuple[tuple[int, int], ...]

    def to_bytes(self) -> bytes:
        """With what stands before it, and padded."""
        named = {
            name: getattr(self, name) for name in ("root", "count", "kind", "at", "rows", "nodes", "stream")
        }
        shares = [[s.name, s.rows, s.nodes] for s in self.shares]
        body = canonical_json(named | {"packs": shares, "blocks": [list(b) for b in self.blocks]})
        head = _MAGIC + len(body).to_bytes(8, "little") + body
        return head + bytes(-len(head) % _ALIGNED)


def pack_bytes(
    root: np.void, shares: Sequence[Share], nodes: Sequence[Refs], keys: Bytes, rows: pa.Table, starts: Ints
) -> list[bytes | memoryview | pa.Buffer]:
    """A pack, in pieces. `keys` (n, 64) and `rows` are those of its leaves, which begin at `starts`; nodes have 16 references."""
    chosen = rows.select(STORED.names).combine_chunks()
    batches = [chosen.slice(start, stop - start) for start, stop in _cuts(starts, len(keys))]
    messages = [_batch(table).serialize() for table in batches]
    schema = STORED.serialize()
    header = Header(
        root=root["digest"].tobytes().hex(),
        count=int(root["count"]),
        kind=int(root["kind"]),
        at=int(root["at"]),
        rows=len(keys),
        nodes=len(nodes),
        shares=tuple(shares),
        stream=schema.size,
        blocks=tuple((t.num_rows, m.size) for t, m in zip(batches, messages, strict=True)),
    )
    table = np.concatenate(nodes).tobytes() if nodes else b""
    return [header.to_bytes(), table, np.ascontiguousarray(keys).data, schema, *messages, _END_OF_STREAM]


def _cuts(starts: Ints, rows: int) -> Iterator[Span]:
    """Where the Arrow batches begin and end: at leaves."""
    ends = np.append(starts[1:], rows)
    start = 0
    while start < rows:
        place = int(np.searchsorted(ends, start + BLOCK_ROWS, "right")) - 1
        stop = int(ends[max(place, int(np.searchsorted(ends, start, "right")))])
        yield start, stop
        start = stop


def _batch(table: pa.Table) -> pa.RecordBatch:
    return table.to_batches()[0]


class Pack:
    """A pack that is read. CorruptionError(kind="unknown_format") when it is of another format."""

    def __init__(self, key: str, source: Source) -> None:
        self._key, self._source = key, source
        [head] = source.read([(0, len(_MAGIC) + 8)])
        if head[: len(_MAGIC)].to_pybytes() != _MAGIC:
            raise CorruptionError(
                f"{key} does not begin with {FORMAT!r}: it is damaged, or this version cannot read it.",
                kind="unknown_format",
            )
        size = len(_MAGIC) + 8 + int.from_bytes(head[len(_MAGIC) :].to_pybytes(), "little")
        if size > _MOST_HEADER:
            raise self.damaged(f"its header cannot have {size:,} bytes")
        [body] = source.read([(len(_MAGIC) + 8, size)])
        self.header = self._header(body.to_pybytes())
        self._nodes = size + -size % _ALIGNED
        self._keys = self._nodes + self.header.nodes * _NODE_BYTES
        stream = self._keys + self.header.rows * KEY_BYTES
        counts = np.array(self.header.blocks, np.int64).reshape(-1, 2)
        self._firsts = np.append(0, np.cumsum(counts[:, 0]))
        self._offsets = np.append(0, np.cumsum(counts[:, 1])) + stream + self.header.stream

    def _header(self, body: bytes) -> Header:
        try:
            raw: dict[str, Any] = json.loads(body)
            shares = tuple(Share(str(name), int(rows), int(nodes)) for name, rows, nodes in raw.pop("packs"))
            blocks = tuple((int(rows), int(size)) for rows, size in raw.pop("blocks"))
            header = Header(shares=shares, blocks=blocks, **raw)
            if (
                header.to_bytes()[len(_MAGIC) + 8 :].rstrip(b"\0") != body
                or sum(b[0] for b in blocks) != header.rows
            ):
                raise ValueError("it is not canonical")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise self.damaged(f"its header cannot be read: {error}") from None
        return header

    def damaged(self, found: str) -> CorruptionError:
        """The error that says so."""
        return CorruptionError(
            f"{self._key} is damaged, {found}. Restore it from a backup, or delete it and replay in full.",
            kind="damaged_state",
        )

    def nodes(self, places: Ints) -> Refs:
        """The references of some nodes, (n, 16). `pack` is a place in the header's shares."""
        starts = self._nodes + places * _NODE_BYTES
        self._check(places, np.ones_like(places), self.header.nodes, "node")
        refs = self._gather(starts, starts + _NODE_BYTES, _NODE_BYTES).view(REF)
        if len(refs) and (refs["pack"].max() >= len(self.header.shares) or refs["kind"].max() > NODE):
            raise self.damaged("a node of it refers to nowhere")
        return refs

    def keys(self, firsts: Ints, counts: Ints) -> Bytes:
        """The keys of ranges of rows, (n, 64), one range after another."""
        self._check(firsts, counts, self.header.rows, "row")
        starts = self._keys + firsts * KEY_BYTES
        return self._gather(starts, starts + counts * KEY_BYTES, KEY_BYTES)

    def rows(self, places: Ints) -> pa.Table:
        """Rows by ascending place, without their ids."""
        self._check(places, np.ones_like(places), self.header.rows, "row")
        blocks = np.searchsorted(self._firsts, places, "right") - 1
        bounds = np.flatnonzero(np.diff(blocks, prepend=-1, append=-1))
        chosen = blocks[bounds[:-1]]
        spans = [(int(self._offsets[b]), int(self._offsets[b + 1])) for b in chosen]
        taken: list[pa.RecordBatch] = []
        for block, buffer, low, high in zip(
            chosen, self._source.read(spans), bounds[:-1], bounds[1:], strict=True
        ):
            try:
                batch = pa.ipc.read_record_batch(buffer, STORED)
                if batch.num_rows != self.header.blocks[block][0]:
                    raise IndexError(f"there are {batch.num_rows}")
                taken += _taken(batch, places[low:high] - self._firsts[block])
            except (pa.ArrowException, OSError, IndexError) as error:
                raise self.damaged(
                    f"its rows from {self._firsts[block]:,} on cannot be read: {error}"
                ) from None
        return pa.Table.from_batches(taken, STORED)

    def _gather(self, starts: Ints, stops: Ints, width: int) -> Bytes:
        """Spans of bytes that hold records of a width, as (n, width)."""
        joins = np.flatnonzero(starts[1:] != stops[:-1]) + 1
        firsts, lasts = (
            np.append(0, joins)[: len(starts)],
            np.append(joins - 1, len(starts) - 1)[: len(starts)],
        )
        spans = list(zip(starts[firsts].tolist(), stops[lasts].tolist(), strict=True))
        parts = [np.frombuffer(buffer, np.uint8) for buffer in self._source.read(spans)]
        joined = parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, np.uint8), *parts])
        return joined.reshape(-1, width)

    def _check(self, firsts: Ints, counts: Ints, most: int, what: str) -> None:
        if len(firsts) and int((firsts + counts).max()) > most:
            raise self.damaged(f"it has {most:,} {what}s and is asked for more")


def _taken(batch: pa.RecordBatch, places: Ints) -> list[pa.RecordBatch]:
    """Rows of a batch by ascending place, checked: whatever the bytes, nothing outside of them is read."""
    breaks = np.flatnonzero(np.diff(places) != 1) + 1
    if len(breaks) < _MOST_RUNS:
        runs = np.split(places, breaks)
        slices = [batch.slice(int(run[0]), len(run)) for run in runs]
        for part in slices:
            part.validate(full=True)
        return slices
    batch.validate(full=True)
    return [batch.take(pa.array(places))]


def with_ids(ids: Bytes, rows: pa.Table) -> pa.Table:
    """Rows as they are kept, with their ids (n, 32): a table of `ROW_SCHEMA`."""
    return pa.table([to_text(ids), *rows.columns], schema=ROW_SCHEMA)
