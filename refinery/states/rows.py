"""The rows of verdict states and snapshots: what is said of one sample, and its digest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from json.encoder import encode_basestring
from typing import Any

import pyarrow as pa

from refinery.digests import digest
from refinery.states.merkle import set_digest

ROW_SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()),
        ("verdict", pa.string()),
        ("reasons", pa.list_(pa.string())),
        ("near_duplicate", pa.bool_()),
        ("bytes", pa.int64()),
        ("format", pa.string()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("attributes", pa.string()),
        ("payloads", pa.string()),
    ]
)
"""`attributes` is the canonical JSON of the resolved attributes; `payloads` that of [{name, digest, bytes, extension,
is_mask}] in order of name; reasons stand in the order of the policy's rules."""


def row_digests(rows: pa.Table) -> list[bytes]:
    """The 32-byte digest of each row: BLAKE3 of its canonical JSON."""
    return [bytes.fromhex(digest(line)) for line in row_lines(rows)]


def root_of(rows: pa.Table) -> str:
    """The root (hex) of exactly these rows, which are in order of sample id."""
    ids = [bytes.fromhex(i) for i in rows["sample_id"].to_pylist()]
    return set_digest(ids, row_digests(rows)).hex()


def row_lines(rows: pa.Table) -> list[bytes]:
    """The canonical JSON of each row, put together column by column: states have too many rows for a general encoder."""
    shown = rows.select(_IN_ORDER)
    columns = [_encoded(column.to_pylist()) for column in shown.columns]
    return [_LINE.format(*values).encode() for values in zip(*columns, strict=True)]


_IN_ORDER = sorted(ROW_SCHEMA.names)
_LINE = "{{" + ",".join(f'"{name}":{{}}' for name in _IN_ORDER) + "}}"


def _encoded(values: list[Any]) -> list[str]:
    """Values of one column as JSON; lists hold texts."""
    known: dict[Any, str] = {None: "null"}
    encoded = []
    for value in values:
        key = tuple(value) if isinstance(value, list) else value
        text = known.get(key)
        if text is None:
            text = known[key] = _json(value)
        encoded.append(text)
    return encoded


def _json(value: Any) -> str:
    if isinstance(value, str):
        return encode_basestring(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ",".join(map(_json, value)) + "]"
    return str(value)


def rows_table(rows: Iterable[dict[str, Any]] = ()) -> pa.Table:
    """A table of rows in order of sample id."""
    return pa.Table.from_pylist(sorted(rows, key=lambda r: str(r["sample_id"])), schema=ROW_SCHEMA)


def sorted_rows(tables: Sequence[pa.Table]) -> pa.Table:
    """Several tables of rows as one, in order of sample id."""
    if not tables:
        return rows_table()
    return pa.concat_tables(tables).sort_by("sample_id").combine_chunks()
