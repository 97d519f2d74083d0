"""Documents between Arrow and JSON. Cells without a value and empty lists are left out; dates are microseconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from refinery.fields import from_micros

_AT_ONCE = 1000
_JSON = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE


def to_lines(rows: pa.Table) -> Iterator[tuple[str, bytes]]:
    """The sample id and the JSON line of each document."""
    for start in range(0, rows.num_rows, _AT_ONCE):
        some = rows.slice(start, _AT_ONCE)
        names = some.column_names
        for cells in zip(*(_cells(some.column(name)) for name in names), strict=True):
            document = {
                name: cell
                for name, cell in zip(names, cells, strict=True)
                if cell is not None and cell is not _EMPTY
            }
            yield document["sample_id"], orjson.dumps(document, option=_JSON)


_EMPTY: list[str] = []


def _cells(column: pa.ChunkedArray) -> Sequence[Any]:
    if pa.types.is_fixed_size_list(column.type):
        values = column.combine_chunks()
        vectors = values.drop_null().flatten().to_numpy().reshape(-1, column.type.list_size)
        present = values.is_valid().to_numpy(zero_copy_only=False)
        rows = np.cumsum(present) - 1
        return [vectors[row] if there else None for row, there in zip(rows, present, strict=True)]
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    cells: list[Any] = column.to_pylist()
    return [cell or _EMPTY for cell in cells] if pa.types.is_list(column.type) else cells


def to_table(sources: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """A table of documents as they are stored, with the columns of `schema`."""
    rows = pa.array(sources, pa.struct(list(schema)))
    columns = [_filled(rows.field(number)) for number in range(len(schema))]
    return pa.Table.from_arrays(columns, schema=schema)


def to_rows(sources: Sequence[Mapping[str, Any]], schema: pa.Schema) -> list[dict[str, Any]]:
    """What `to_table` holds, as Python values by column."""
    if any(pa.types.is_fixed_size_list(column.type) for column in schema):
        return to_table(sources, schema).to_pylist()  # type: ignore[no-any-return]
    blank: dict[str, Any] = dict.fromkeys(schema.names)
    lists = [column.name for column in schema if pa.types.is_list(column.type)]
    dates = [column.name for column in schema if pa.types.is_timestamp(column.type)]
    rows: list[dict[str, Any]] = [{**blank, **source} for source in sources]
    for row in rows:
        if len(row) > len(blank):
            for name in row.keys() - blank.keys():
                del row[name]
        for name in lists:
            if row[name] is None:
                row[name] = []
        for name in dates:
            if row[name] is not None:
                row[name] = from_micros(row[name])
    return rows


def _filled(column: pa.Array) -> pa.Array:
    """Lists that were left out are empty."""
    if column.null_count and pa.types.is_list(column.type):
        return pa.ListArray.from_arrays(column.offsets, column.values)
    return column
