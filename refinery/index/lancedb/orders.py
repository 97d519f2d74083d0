"""The orders of a query on one LanceDB table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import isqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from refinery.errors import InputError, did_you_mean
from refinery.fields import Fields, FieldType
from refinery.filter import Filter, conjunction
from refinery.filter.ast import Compare
from refinery.index import VECTOR, Nearest, Query, Sort
from refinery.index.fusion import WINDOW, fuse
from refinery.index.order import (
    ID,
    Mark,
    after,
    check_vector,
    decode_cursor,
    random_keys,
    rows_after,
    rows_near,
    sort_field,
)

_BATCH_ROWS = 65_536
_FEW_ROWS = 10_000
_ROW = "_rowid"
_MOST_HEADS = 1 << 64
_SPARE, _WIDER = 4, 16
_Fetch = Callable[[int], tuple[npt.NDArray[Any], npt.NDArray[np.str_], pa.Table]]
"""The keys, ids and rows of the n samples of least key."""


@dataclass(frozen=True, slots=True)
class Found:
    """Up to limit + 1 samples in order: ids, marks, scores if the order has them, and their rows if those came along."""

    ids: list[str]
    marks: list[Mark]
    scores: list[float] | None = None
    rows: pa.Table | None = None


def ordered(table: Any, fields: Fields, query: Query, columns: Sequence[str]) -> Found:
    """The samples that the query's page begins with, and one more when there is one; `columns` are worth reading along."""
    if query.nearest is not None and query.text is not None:
        return _by_both(table, fields, query, query.nearest, query.text)
    if query.seed is not None:
        return _by_chance(table, query, query.seed)
    if query.nearest is None and query.text is None:
        return _by_field(table, fields, query, columns)
    mark = decode_cursor(query, (float, int))
    along = columns if mark is None else ()  # a later page reads what came before it, too
    if query.nearest is not None:
        found = _best(_similar(table, query.filter, query.nearest, along), mark, query.limit)
        scores = [1.0 - m.key for m in found.marks]
    else:
        fetch = _matching(table, fields, query.filter, query.text or "", along)
        found = _best(fetch, mark, query.limit)
        scores = [-m.key for m in found.marks]
    return replace(found, scores=scores, rows=found.rows if along else None)


def _by_field(table: Any, fields: Fields, query: Query, columns: Sequence[str]) -> Found:
    sort = query.sort or ID
    later, seen = after(query, sort, sort_field(sort, fields))
    chosen = conjunction([query.filter, later])
    if sort == ID:
        mark = decode_cursor(query, (str,))
        found = _by_id(
            table, chosen, mark.sample_id if mark else "", query.limit + 1, _with(ID.field, columns)
        )
    else:
        found = _sorted(table, chosen, sort, query.limit + 1, [ID.field, sort.field])
    ids = found.column("sample_id").to_pylist()
    keys = found.column(sort.field).to_pylist()
    marks = [Mark(k, i, seen + n + 1) for n, (k, i) in enumerate(zip(keys, ids, strict=True))]
    return Found(ids, marks, rows=found if sort == ID else None)


def _sorted(table: Any, filter: Filter | None, sort: Sort, most: int, columns: list[str]) -> pa.Table:
    from lancedb.query import ColumnOrdering

    orders = [ColumnOrdering(column_name=sort.field, ascending=not sort.descending, nulls_first=False)]
    if sort.field != ID.field:
        orders.append(ColumnOrdering(column_name=ID.field, ascending=True, nulls_first=False))
    search = table.search().order_by(orders).select(list(dict.fromkeys(columns)))
    return _filtered(search, filter).limit(most).to_arrow()


def _by_id(table: Any, filter: Filter | None, after: str, most: int, columns: list[str]) -> pa.Table:
    """The first samples in order of id that a filter selects, `after` one of them.

    Ids are digests, so the next few lie within a small part of all there can be: the part that is looked at grows until it
    holds enough. Else every sample after would be read to find the first ones.
    """
    first = int(after[:16] or "0", 16)
    span = _MOST_HEADS * _SPARE * most // max(table.count_rows(), 1)
    while (end := first + span) < _MOST_HEADS:
        part = Filter(Compare(ID.field, "<", f"{end:016x}"))
        found = _sorted(table, conjunction([filter, part]), ID, most, columns)
        if len(found) == most:
            return found
        span *= _WIDER
    return _sorted(table, filter, ID, most, columns)


def head(table: Any, filter: Filter | None, limit: int, columns: list[str]) -> pa.Table:
    """The first samples in order of id that a filter selects, without an order of all of them: of ids, which are digests, the
    part is looked at that holds a little more than `limit` of those selected, as far as chance goes."""
    where = filter.to_lance() if filter else None
    few = scan(table, _with(ID.field, columns), where, limit + 1) if limit <= _FEW_ROWS else None
    if few is not None and few.num_rows <= limit:
        found = few
    else:
        selected = table.count_rows(where)
        end = _MOST_HEADS * (limit + 6 * isqrt(limit) + 16) // max(selected, 1)
        bound = Filter(Compare(ID.field, "<", f"{end:016x}")) if end < _MOST_HEADS else None
        found = _within(table, filter, bound, columns, min(selected, limit))
        if bound is not None and found.num_rows < limit:
            found = _within(table, filter, None, columns, selected)
    order = pc.sort_indices(found[ID.field])[:limit]
    return found.select(columns).take(order)


def _within(
    table: Any, filter: Filter | None, bound: Filter | None, columns: list[str], most: int
) -> pa.Table:
    """What a filter selects within a bound on ids, about `most`, in any order. Lists of many rows are read by themselves, see `values_of`."""
    both = conjunction([filter, bound]).to_lance() if filter or bound else None
    lists = [name for name in columns if pa.types.is_list(table.schema.field(name).type)]
    if filter is None or not lists or most <= _FEW_ROWS:
        return scan(table, _with(ID.field, columns), both)
    found = scan(table, [*(n for n in _with(ID.field, columns) if n not in lists), _ROW], both)
    others = scan(table, [*lists, _ROW], bound.to_lance() if bound else None)
    places = pc.index_in(found[_ROW], value_set=others[_ROW])
    for name in lists:
        found = found.append_column(name, others[name].take(places))
    return found


def _by_chance(table: Any, query: Query, seed: int) -> Found:
    mark = decode_cursor(query, (int,))
    where = None if query.filter is None else query.filter.to_lance()
    ids = scan(table, ["sample_id"], where).column("sample_id").combine_chunks()
    keys = random_keys(seed, ids)
    near = rows_near(keys, mark, query.limit + 1)
    keys, some = keys[near], np.array(ids.take(pa.array(near)).to_pylist(), np.str_)
    rows = rows_after(keys, some, mark)[: query.limit + 1]
    return Found(some[rows].tolist(), _marks(keys[rows], some[rows], mark))


def _by_both(table: Any, fields: Fields, query: Query, nearest: Nearest, text: str) -> Found:
    mark = decode_cursor(query, (float, int))
    rankings = [
        _best(fetch, None, WINDOW).ids
        for fetch in (
            _matching(table, fields, query.filter, text),
            _similar(table, query.filter, nearest),
        )
    ]
    start = mark.seen if mark else 0
    shown = fuse(*rankings)[start : start + query.limit + 1]
    marks = [Mark(score, i, start + n + 1) for n, (i, score) in enumerate(shown)]
    return Found([i for i, _ in shown], marks, [score for _, score in shown])


def _similar(table: Any, filter: Filter | None, nearest: Nearest, columns: Sequence[str] = ()) -> _Fetch:
    """The samples least far from a vector, with their cosine distance; always exactly."""
    column = VECTOR + nearest.space
    spaces = [name.removeprefix(VECTOR) for name in table.schema.names if name.startswith(VECTOR)]
    if nearest.space not in spaces:
        raise InputError(
            f"The index has no embedding space {nearest.space!r}; it has {spaces}."
            f"{did_you_mean(nearest.space, spaces)}",
            kind="unknown_space",
        )
    vector = check_vector(nearest, table.schema.field(column).type.list_size)

    def fetch(size: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.str_], pa.Table]:
        search = table.search(vector, vector_column_name=column).distance_type("cosine")
        search = _filtered(search.bypass_vector_index(), filter)
        rows = search.select(_with("_distance", columns)).limit(size).to_arrow()
        return rows.column("_distance").to_numpy(), _ids(rows), rows

    return fetch


def _matching(
    table: Any, fields: Fields, filter: Filter | None, text: str, columns: Sequence[str] = ()
) -> _Fetch:
    """The samples that match any word of a text, with their BM25 score negated."""
    from lancedb.query import MultiMatchQuery

    searched = text_fields(fields)
    if not searched:
        raise InputError(
            "There is no text field to search: register one first, such as a caption.", kind="no_text_field"
        )

    def fetch(size: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.str_], pa.Table]:
        search = _filtered(table.search(MultiMatchQuery(text, searched)), filter)
        rows = search.select(_with("_score", columns)).limit(size).to_arrow()
        return -rows.column("_score").to_numpy(), _ids(rows), rows

    return fetch


def text_fields(fields: Fields) -> list[str]:
    """The fields that words are searched in."""
    return [field.name for field in fields.values() if field.type is FieldType.TEXT]


def scan(table: Any, columns: list[str], where: str | None = None, most: int | None = None) -> pa.Table:
    """Some columns of all rows (that a condition selects), or of any `most` of them."""
    search = table.search().select(columns).limit(most)
    # `to_arrow` reads the same several times more slowly
    return (search.where(where) if where else search).to_batches(batch_size=_BATCH_ROWS).read_all()


def values_of(table: Any, name: str, where: str | None) -> pa.ChunkedArray:
    """A column of the rows that a condition selects, in any order.

    A filtered scan fetches its rows one by one, which for lists takes several times as long as reading all of them does: of
    many rows the column and the selected row ids are read by themselves.
    """
    if where is None or not pa.types.is_list(table.schema.field(name).type):
        return scan(table, [name], where).column(name)
    if table.count_rows(where) <= _FEW_ROWS:
        return scan(table, [name], where).column(name)
    rows = np.sort(scan(table, [_ROW], where).column(_ROW).to_numpy())
    found = scan(table, [name, _ROW])
    ids = found.column(_ROW).to_numpy()
    places = np.minimum(np.searchsorted(rows, ids), len(rows) - 1)
    return found.column(name).filter(pa.array(rows[places] == ids))


def _best(fetch: _Fetch, mark: Mark | None, limit: int) -> Found:
    """Up to limit + 1 of what `fetch(n)`, the n samples of least key, has after `mark`: ties in order of sample id.

    The backend cuts ties anywhere, so more is fetched until the last key fetched is greater than any that is shown.
    """
    size = (mark.seen if mark else 0) + limit + 2
    while True:
        keys, ids, along = fetch(size)
        rows = rows_after(keys, ids, mark)[: limit + 1]
        if len(keys) < size or (len(rows) > limit and keys[rows[-1]] < keys.max()):
            return Found(ids[rows].tolist(), _marks(keys[rows], ids[rows], mark), rows=along.take(rows))
        size *= 4


def _marks(keys: npt.NDArray[Any], ids: npt.NDArray[np.str_], mark: Mark | None) -> list[Mark]:
    seen = mark.seen if mark else 0
    return [
        Mark(key, i, seen + n + 1) for n, (key, i) in enumerate(zip(keys.tolist(), ids.tolist(), strict=True))
    ]


def _with(key: str, columns: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(["sample_id", key, *columns]))


def _ids(rows: pa.Table) -> npt.NDArray[np.str_]:
    return np.array(rows.column("sample_id").to_pylist(), np.str_)


def _filtered(search: Any, filter: Filter | None) -> Any:
    return search if filter is None else search.where(filter.to_lance(), prefilter=True)
