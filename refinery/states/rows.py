"""The rows of verdict states and snapshots: what is said of one sample, and its digest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from refinery.digests import canonical_json, digest

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
    return [bytes.fromhex(digest(canonical_json(row))) for row in rows.to_pylist()]


def rows_table(rows: Iterable[dict[str, Any]] = ()) -> pa.Table:
    """A table of rows in order of sample id."""
    return pa.Table.from_pylist(sorted(rows, key=lambda r: str(r["sample_id"])), schema=ROW_SCHEMA)


def sorted_rows(tables: Sequence[pa.Table]) -> pa.Table:
    """Several tables of rows as one, in order of sample id."""
    if not tables:
        return rows_table()
    return pa.concat_tables(tables).sort_by("sample_id").combine_chunks()
