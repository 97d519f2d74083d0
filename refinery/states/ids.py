"""Sample ids as arrays of bytes: n ids are uint8 (n, 32). A state has too many of them to be looked at one by one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from refinery.errors import InputError

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
ID_BYTES = 32
_DIGITS = b"0123456789abcdef"
_PAIRS = np.frombuffer("".join(f"{n:02x}" for n in range(256)).encode(), np.uint16)
_VALUES = np.full(256, 255, np.uint8)
_VALUES[list(_DIGITS)] = range(16)


def to_bytes(column: pa.ChunkedArray | pa.Array) -> Bytes:
    """A column of hex ids as (n, 32). InputError when one is not 64 lower-case hex digits."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    parts = [_chunk_bytes(chunk) for chunk in chunks if len(chunk)]
    return np.concatenate(parts) if parts else np.zeros((0, ID_BYTES), np.uint8)


def _chunk_bytes(chunk: pa.Array) -> Bytes:
    lengths = pc.min_max(pc.binary_length(chunk))
    if chunk.null_count == 0 and lengths["min"].as_py() == lengths["max"].as_py() == 2 * ID_BYTES:
        _, offsets, data = chunk.buffers()
        start = int(np.frombuffer(offsets, np.int32)[chunk.offset])
        text = np.frombuffer(data, np.uint8)[start : start + 2 * ID_BYTES * len(chunk)]
        values = _VALUES[text].reshape(-1, 2)
        if not (values == 255).any():
            return np.asarray(values[:, 0] << 4 | values[:, 1], np.uint8).reshape(-1, ID_BYTES)
    raise InputError(
        "A row's sample_id is not 64 lower-case hex digits (a BLAKE3 digest): such rows have no state.",
        kind="bad_sample_id",
    )


def to_text(ids: Bytes) -> pa.Array:
    """(n, 32) as hex strings."""
    text = np.ascontiguousarray(_PAIRS[ids])
    offsets = np.arange(len(ids) + 1, dtype=np.int32) * np.int32(2 * ID_BYTES)
    return pa.StringArray.from_buffers(len(ids), pa.py_buffer(offsets), pa.py_buffer(text))


def sorted_ids(texts: Iterable[str]) -> Bytes:
    """The distinct ones among these that are ids at all, in order."""
    chosen = sorted({t for t in texts if len(t) == 2 * ID_BYTES and not t.strip("0123456789abcdef")})
    return np.frombuffer(bytes.fromhex("".join(chosen)), np.uint8).reshape(-1, ID_BYTES)


def words(rows: Bytes) -> npt.NDArray[Any]:
    """Rows of bytes (n, w) as n strings of w bytes, which compare, sort and search by their bytes."""
    return np.ascontiguousarray(rows).view(f"S{rows.shape[1]}").reshape(-1)


def order_of(ids: Bytes) -> Ints:
    """The order of n ids, (n,); equal ones stay as they stand. By the first 8 bytes, unless these are the same of different ids."""
    heads = np.ascontiguousarray(ids[:, :8]).view(">u8").reshape(-1).astype(np.uint64)
    order = np.argsort(heads, kind="stable")
    heads = heads[order]
    ties = np.flatnonzero(heads[1:] == heads[:-1])
    if (ids[order[ties]] == ids[order[ties + 1]]).all():
        return order
    return np.argsort(words(ids), kind="stable")


def digits(ids: Bytes, depth: int) -> Ints:
    """The hex digit of each id at a depth (0: the first), as integers."""
    column = ids[:, depth // 2]
    return (column & 15 if depth % 2 else column >> 4).astype(np.int64)


def set_digits(ids: Bytes, depth: int, values: Ints) -> None:
    """Set the hex digit of each id at a depth, in place."""
    column, other = ids[:, depth // 2], values.astype(np.uint8)
    ids[:, depth // 2] = column & 0xF0 | other if depth % 2 else column & 0x0F | other << 4


def find(known: Bytes, wanted: Bytes) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Where each of `wanted` stands among `known` (both n rows of the same width, `known` in order), and whether it does."""
    if not len(known):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), np.bool_)
    names, asked = words(known), words(wanted)
    places = np.minimum(np.searchsorted(names, asked), len(known) - 1)
    return places, names[places] == asked


def ranges(starts: Ints, counts: Ints) -> Ints:
    """The integers of all ranges start … start + count - 1, one range after another."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.asarray(np.repeat(starts - (ends - counts), counts) + np.arange(total), np.int64)
