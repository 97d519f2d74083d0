"""Aggregates of one column in memory."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refinery.errors import InputError
from refinery.fields import Field, FieldType
from refinery.index import Aggregate, AggregateKind, Bucket

_SUITS: dict[FieldType, AggregateKind] = {
    FieldType.INTEGER: "histogram",
    FieldType.NUMBER: "histogram",
    FieldType.DATE: "date",
}


def kind_for(field: Field, kind: AggregateKind | None, size: int) -> AggregateKind:
    """The kind to aggregate `field` by; InputError(kind="bad_aggregate") when it does not fit."""
    found = kind or _SUITS.get(field.type, "terms")
    fits = field.type is not FieldType.JSON and (found == "terms" or found == _SUITS.get(field.type))
    if not fits or not 1 <= size <= 10_000:
        raise InputError(
            f"Field {field.name!r} is of type {field.type.value}: it has no {found} aggregate of {size} buckets.",
            kind="bad_aggregate",
        )
    return found


def aggregate(column: pa.Array, kind: AggregateKind, size: int) -> Aggregate:
    """The buckets of `column`, an array of a document column's type."""
    if pa.types.is_list(column.type):
        missing = int(pc.sum(pc.equal(pc.fill_null(pc.list_value_length(column), 0), 0)).as_py() or 0)
        values = pc.list_flatten(column)
    else:
        missing, values = column.null_count, column.drop_null()
    if len(values) == 0:
        return Aggregate(missing=missing)
    if kind == "terms":
        return _terms(values, size, missing)
    return _histogram(values, size, missing) if kind == "histogram" else _dates(values, size, missing)


def _terms(values: pa.Array, size: int, missing: int) -> Aggregate:
    counts = pc.value_counts(values)
    pairs = zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)
    ordered = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
    return Aggregate(
        tuple(Bucket(value, count) for value, count in ordered[:size]),
        missing,
        sum(count for _, count in ordered[size:]),
    )


def _histogram(values: pa.Array, size: int, missing: int) -> Aggregate:
    numbers = values.to_numpy(zero_copy_only=False).astype(np.float64)
    low, high = float(numbers.min()), float(numbers.max())
    if low == high:
        return Aggregate((Bucket(low, len(numbers), high),), missing)
    edges = np.linspace(low, high, size + 1)
    counts, _ = np.histogram(numbers, bins=edges)
    return Aggregate(
        tuple(
            Bucket(float(start), int(count), float(end))
            for start, end, count in zip(edges[:-1], edges[1:], counts, strict=True)
        ),
        missing,
    )


def _dates(values: pa.Array, size: int, missing: int) -> Aggregate:
    for unit in ("hour", "day", "month", "year"):
        counts = pc.value_counts(pc.floor_temporal(values, unit=unit))
        if len(counts) <= size:
            break
    pairs = sorted(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))
    shown = pairs[-size:]
    return Aggregate(
        tuple(Bucket(start, count, following(start, unit)) for start, count in shown),
        missing,
        sum(count for _, count in pairs[: len(pairs) - len(shown)]),
    )


def following(start: datetime, unit: str) -> datetime | None:
    """The start of the next interval; None after the last year that a date can have."""
    try:
        if unit == "year":
            return start.replace(year=start.year + 1)
        if unit == "month":
            return (start + timedelta(days=31)).replace(day=1)
        return start + timedelta(**{f"{unit}s": 1})
    except (OverflowError, ValueError):
        return None
