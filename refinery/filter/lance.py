"""A filter as LanceDB (DataFusion) SQL.

Negations are pushed down to the comparisons and parentheses kept to the minimum: DataFusion's parser gives up at a
recursion of about fifty.
"""

from __future__ import annotations

from datetime import datetime

from refinery.fields import to_micros
from refinery.filter.ast import (
    And,
    Atom,
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
from refinery.filter.patterns import escape_like, like_parts, word_regex


def to_sql(node: Node, negated: bool = False) -> str:
    """`node`, or its negation, as SQL that LanceDB accepts after WHERE."""
    if isinstance(node, Not):
        return to_sql(node.item, not negated)
    if isinstance(node, And | Or):
        parts = [to_sql(item, negated) for item in node.items]
        if isinstance(node, Or) != negated:
            return " OR ".join(parts)
        return " AND ".join(
            f"({part})" if _is_or(item, negated) else part
            for item, part in zip(node.items, parts, strict=True)
        )
    return ("NOT " if negated else "") + _atom(node)


def _is_or(node: Node, negated: bool) -> bool:
    while isinstance(node, Not):
        node, negated = node.item, not negated
    return isinstance(node, And) if negated else isinstance(node, Or)


def _atom(node: Atom) -> str:
    match node:
        case Constant(value):
            return literal(value)
        case Compare(field, op, value):
            return f"{column(field)} {op} {literal(value)}"
        case OneOf(field, values):
            return f"{column(field)} IN ({', '.join(map(literal, values))})"
        case Between(field, low, high):
            return f"{column(field)} BETWEEN {literal(low)} AND {literal(high)}"
        case IsNull(field):
            return f"{column(field)} IS NULL"
        case Like(field, pattern):
            return f"{column(field)} LIKE {literal(escape_like(like_parts(pattern)))}"
        case Matches(field, words):
            found = (f"regexp_like({column(field)}, {literal(word_regex(word))})" for word in words)
            return f"({' AND '.join(found)})" if len(words) > 1 else next(found)
        case Contains(field, (value,)):
            return f"coalesce(array_has({column(field)}, {literal(value)}), false)"
        case Contains(field, values):
            items = ", ".join(map(literal, values))
            return f"coalesce(array_has_any({column(field)}, make_array({items})), false)"
        case IsEmpty(field):
            return f"coalesce(array_length({column(field)}), 0) = 0"


def column(name: str) -> str:
    """A quoted column name."""
    return f"`{name}`"


def literal(value: Value) -> str:
    """A literal of exactly the column's type; a text's quotes are doubled, which is its only escape."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return f"arrow_cast({to_micros(value)}, 'Timestamp(Microsecond, Some(\"UTC\"))')"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, int):
        return str(value) if value > -(2**63) else f"CAST('{value}' AS BIGINT)"
    return repr(value)
