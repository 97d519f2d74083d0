"""Orders and cursors, the same for every backend.

Random order: a sample's key is SplitMix64's finalizer (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number
generators") of the first 64 bits of its id, xor the seed's; ties in order of sample id. It needs 64-bit integers only, so
that a search server can compute it in a script.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from refinery.digests import canonical_json, check_sample_id, digest, digest_json
from refinery.errors import InputError
from refinery.fields import Field, Fields, FieldType, to_utc
from refinery.filter.ast import And, Compare, Filter, IsNull, Node, Or, Value
from refinery.index import Nearest, Query, Sort

ID = Sort("sample_id")


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a page ended: the order's key and the id of its last sample, and how many samples came before its end."""

    key: Any
    sample_id: str
    seen: int


def encode_cursor(query: Query, mark: Mark) -> str:
    """The cursor of the page that follows `mark`: opaque text for URLs."""
    key = mark.key.isoformat() if isinstance(mark.key, datetime) else mark.key
    value = [_identity(query), key, mark.sample_id, mark.seen]
    return base64.urlsafe_b64encode(canonical_json(value)).decode().rstrip("=")


def decode_cursor(query: Query, kinds: tuple[type, ...]) -> Mark | None:
    """The mark in the query's cursor, None without one. `kinds` are the JSON types that the key can have.

    InputError(kind="bad_cursor") when it is damaged or belongs to another query.
    """
    if query.cursor is None:
        return None
    try:
        padded = query.cursor + "=" * (-len(query.cursor) % 4)
        identity, key, sample_id, seen = json.loads(base64.b64decode(padded, b"-_", validate=True))
        check_sample_id(sample_id)
        str(key).encode()
    except (ValueError, TypeError, RecursionError, InputError):
        identity = key = sample_id = seen = None
    if (
        identity != _identity(query)
        or type(key) not in kinds
        or (isinstance(key, int) and not -(2**63) <= key < 2**64)
        or not isinstance(seen, int)
        or not 0 <= seen < 2**40
    ):
        raise InputError(
            "The cursor does not belong to this query: start from the first page.", kind="bad_cursor"
        )
    return Mark(key, sample_id, seen)


def _identity(query: Query) -> str:
    nearest = query.nearest and [
        query.nearest.space,
        digest(np.asarray(query.nearest.vector, np.float64).tobytes()),
        query.nearest.exact,
    ]
    sort = query.sort and [query.sort.field, query.sort.descending]
    return digest_json([query.filter and query.filter.text, sort, nearest, query.text, query.seed])[:16]


def sort_field(sort: Sort, fields: Fields) -> Field:
    """The field to sort by; InputError(kind="bad_sort") when it has no order."""
    field = fields[sort.field]
    if field.type in (FieldType.STRING_LIST, FieldType.JSON):
        raise InputError(
            f"Field {field.name!r} is of type {field.type.value}: samples cannot be sorted by it.",
            kind="bad_sort",
        )
    return field


_JSON: dict[FieldType, tuple[type, ...]] = {
    FieldType.INTEGER: (int,),
    FieldType.NUMBER: (float, int),
    FieldType.BOOLEAN: (bool,),
}


def after(query: Query, sort: Sort, field: Field) -> tuple[Filter | None, int]:
    """The filter that selects what comes after the query's cursor in the order of `sort`, and how many came before."""
    mark = decode_cursor(query, (*_JSON.get(field.type, (str,)), type(None)))
    if mark is None:
        return None, 0
    later = Compare("sample_id", ">", mark.sample_id)
    if sort.field == ID.field:
        return Filter(Compare("sample_id", "<", mark.sample_id) if sort.descending else later), mark.seen
    if mark.key is None:
        return Filter(And((IsNull(sort.field), later))), mark.seen
    key = _key(field, mark.key)
    beyond: Node = Compare(sort.field, "<" if sort.descending else ">", key)
    tied = And((Compare(sort.field, "=", key), later))
    return Filter(Or((beyond, tied, IsNull(sort.field)))), mark.seen


def _key(field: Field, key: Any) -> Value:
    if field.type is FieldType.NUMBER:
        return float(key)
    if field.type is FieldType.INTEGER:
        return int(min(key, 2**63 - 1))
    if field.type is FieldType.DATE:
        try:
            return to_utc(key)
        except ValueError:
            raise InputError("The cursor is damaged: start from the first page.", kind="bad_cursor") from None
    return key  # type: ignore[no-any-return]


def random_keys(seed: int, sample_ids: pa.StringArray) -> npt.NDArray[np.uint64]:
    """The key of each sample (n ids, none null) in the random order of `seed`: shape (n,)."""
    salt = np.uint64(int(digest(str(seed).encode())[:16], 16))
    x = _heads(sample_ids) ^ salt
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)), dtype=np.uint64)


def _heads(sample_ids: pa.StringArray) -> npt.NDArray[np.uint64]:
    """The first 64 bits of each id, (n,), without a Python value for any."""
    _, offsets, data = sample_ids.buffers()
    if not len(sample_ids) or data is None:
        return np.zeros(0, np.uint64)
    first = np.frombuffer(offsets, np.int32)[sample_ids.offset]
    digits = np.frombuffer(data, np.uint8, 64 * len(sample_ids), first).reshape(-1, 64)[:, :16]
    nibbles = np.where(digits > 57, digits - 87, digits - 48).astype(np.uint8)
    return np.ascontiguousarray(nibbles[:, ::2] << 4 | nibbles[:, 1::2]).view(">u8").ravel().astype(np.uint64)


def rows_near(keys: npt.NDArray[Any], mark: Mark | None, most: int) -> npt.NDArray[np.intp]:
    """Rows among which are the first `most` after `mark` by (key, sample id): all that tie with the last of these, too."""
    rows: npt.NDArray[np.intp] = np.arange(len(keys))
    if mark is not None:
        key = keys.dtype.type(max(mark.key, 0))
        rows = np.flatnonzero(keys >= key)
        most += int((keys == key).sum())
    if len(rows) <= most:
        return rows
    last = np.partition(keys[rows], most - 1)[most - 1]
    found: npt.NDArray[np.intp] = rows[keys[rows] <= last]
    return found


def rows_after(
    keys: npt.NDArray[Any], sample_ids: npt.NDArray[np.str_], mark: Mark | None
) -> npt.NDArray[np.intp]:
    """Rows that come after `mark`, in ascending order of (key, sample id)."""
    order: npt.NDArray[np.intp] = np.lexsort((sample_ids, keys))
    if mark is not None:
        key = keys.dtype.type(max(mark.key, 0) if keys.dtype.kind == "u" else mark.key)
        later = (keys > key) | ((keys == key) & np.greater(sample_ids, mark.sample_id))
        order = order[later[order]]
    return order


def check_vector(nearest: Nearest, dimensions: int) -> npt.NDArray[np.float32]:
    """The vector to look near, shape (dimensions,); InputError(kind="bad_vector") when it cannot be compared."""
    vector = np.asarray(nearest.vector, dtype=np.float32)
    if vector.shape != (dimensions,):
        raise InputError(
            f"The vector has {len(nearest.vector)} dimensions, but the space {nearest.space!r} has {dimensions}: "
            "embed with the model of that space.",
            kind="bad_vector",
        )
    if not np.isfinite(vector).all() or not vector.any():
        raise InputError("The vector is all zeros or not finite: it points nowhere.", kind="bad_vector")
    return vector
