"""A filter evaluated on an Arrow table of documents, with Kleene logic."""

from __future__ import annotations

from datetime import datetime
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from refinery.errors import InputError
from refinery.filter.ast import (
    And,
    Between,
    Compare,
    Constant,
    Contains,
    IsEmpty,
    IsNull,
    Like,
    Matches,
    Node,
    Not,
    OneOf,
    Or,
    Value,
)
from refinery.filter.patterns import like_parts, like_regex, word_regex

_COMPARE = {
    "=": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}


def mask(node: Node, table: pa.Table) -> npt.NDArray[np.bool_]:
    """Which rows of `table` the node is true for: shape (rows,)."""
    known = pc.fill_null(_evaluate(node, table), False)
    return np.asarray(known.to_numpy(zero_copy_only=False), dtype=np.bool_)


def _evaluate(node: Node, table: pa.Table) -> Any:
    """True, false or null for each row."""
    match node:
        case And(items):
            return reduce(pc.and_kleene, (_evaluate(item, table) for item in items))
        case Or(items):
            return reduce(pc.or_kleene, (_evaluate(item, table) for item in items))
        case Not(item):
            return pc.invert(_evaluate(item, table))
        case Constant(value):
            return pa.repeat(pa.scalar(value), table.num_rows)
        case Compare(field, op, value):
            return _COMPARE[op](_column(table, field), _scalar(value))
        case OneOf(field, values):
            column = _column(table, field)
            found = pc.is_in(column, value_set=pa.array(values, column.type))
            return pc.if_else(column.is_valid(), found, None)
        case Between(field, low, high):
            column = _column(table, field)
            return pc.and_kleene(pc.greater_equal(column, _scalar(low)), pc.less_equal(column, _scalar(high)))
        case IsNull(field):
            return _column(table, field).is_null()
        case Like(field, pattern):
            return pc.match_substring_regex(_column(table, field), like_regex(like_parts(pattern)))
        case Matches(field, words):
            column = _column(table, field)
            return reduce(
                pc.and_kleene, (pc.match_substring_regex(column, word_regex(word)) for word in words)
            )
        case Contains(field, values):
            column = _column(table, field)
            found = pc.is_in(pc.list_flatten(column), value_set=pa.array(values, pa.string()))
            rows = np.zeros(table.num_rows, np.bool_)
            rows[pc.list_parent_indices(column).to_numpy()[found.to_numpy(zero_copy_only=False)]] = True
            return pa.array(rows)
        case IsEmpty(field):
            return pc.equal(pc.fill_null(pc.list_value_length(_column(table, field)), 0), 0)


def _column(table: pa.Table, name: str) -> pa.Array:
    if name not in table.column_names:
        raise InputError(
            f"The filter reads the field {name!r}, but the table has only {', '.join(table.column_names)}.",
            kind="missing_column",
        )
    return table.column(name).combine_chunks()


def _scalar(value: Value) -> pa.Scalar:
    return pa.scalar(value, pa.timestamp("us", tz="UTC") if isinstance(value, datetime) else None)
