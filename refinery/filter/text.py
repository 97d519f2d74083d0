"""A filter's canonical text."""

from __future__ import annotations

from datetime import datetime

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

RESERVED = frozenset(["and", "or", "not", "in", "is", "null", "like", "between", "true", "false", "escape"])
HAS = {"flags": "has_flag", "tags": "has_tag", "payloads": "has_payload", "datasets": "in_dataset"}


def to_text(node: Node) -> str:
    """`node` in the filter language; parsing it gives an equal node."""
    if isinstance(node, Or):
        return " OR ".join(to_text(item) for item in node.items)
    if isinstance(node, And):
        return " AND ".join(f"({to_text(i)})" if isinstance(i, Or) else to_text(i) for i in node.items)
    if isinstance(node, Not):
        if isinstance(node.item, And | Or | Not):
            return f"NOT ({to_text(node.item)})"
        return _atom(node.item, "NOT ")
    return _atom(node, "")


def _atom(node: Atom, no: str) -> str:
    """The text of a comparison; `no` is "NOT " or nothing."""
    match node:
        case Constant(value):
            return no + _literal(value)
        case Compare(field, "=", True):
            return no + _name(field)
        case Compare(field, op, value):
            return f"{no}{_name(field)} {op} {_literal(value)}"
        case OneOf(field, values):
            return f"{_name(field)} {no}IN {_list(values)}"
        case Between(field, low, high):
            return f"{_name(field)} {no}BETWEEN {_literal(low)} AND {_literal(high)}"
        case Like(field, pattern):
            return f"{_name(field)} {no}LIKE {_literal(pattern)}"
        case IsNull(field) | IsEmpty(field):
            return f"{_name(field)} IS {no}NULL"
        case Matches(field, words):
            return f"{no}matches({_name(field)}, {_literal(' '.join(words))})"
        case Contains(field, (value,)):
            if field in HAS:
                return f"{no}{HAS[field]}({_literal(value)})"
            return f"{_name(field)} {'!=' if no else '='} {_literal(value)}"
        case Contains(field, values):
            return f"{_name(field)} {no}IN {_list(values)}"


def _name(field: str) -> str:
    return f'"{field}"' if field in RESERVED else field


def _list(values: tuple[Value, ...] | tuple[str, ...]) -> str:
    return "(" + ", ".join(_literal(value) for value in values) + ")"


def _literal(value: Value) -> str:
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, datetime):
        return f"'{value.isoformat()}'"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value)
