"""Parquet files in order of `sample_id`, of which one wants few rows."""

from __future__ import annotations

import bisect

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

GROUP_ROWS = 256
"""Rows of a row group: what is decoded at least to read one row."""


def rows_of(file: pq.ParquetFile, ids: list[str] | None, columns: list[str]) -> pa.Table:
    """The rows of these samples (`ids` in order; None: all), with `columns`, of a file in order of `sample_id`.

    Only the row groups that may hold one of them are read. The file is closed.
    """
    with file:
        if ids is None:
            return file.read(columns=columns)
        groups = _groups_with(file.metadata, ids)
        table = file.read_row_groups(groups, columns=list(dict.fromkeys(["sample_id", *columns])))
        chosen = pc.is_in(table["sample_id"], value_set=pa.array(ids, pa.string()))
        return table.filter(chosen).select(columns)


def _groups_with(metadata: pq.FileMetaData, ids: list[str]) -> list[int]:
    """The row groups whose sample ids may include one of `ids` (sorted)."""
    column = metadata.schema.names.index("sample_id")
    groups = []
    for number in range(metadata.num_row_groups):
        stats = metadata.row_group(number).column(column).statistics
        if stats is None or not stats.has_min_max:
            groups.append(number)
            continue
        at = bisect.bisect_left(ids, stats.min)
        if at < len(ids) and ids[at] <= stats.max:
            groups.append(number)
    return groups
