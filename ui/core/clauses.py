"""A filter as clauses that widgets add and take away, and what the widget of each kind of field says."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from math import ceil, floor
from typing import Literal

from refinery.errors import InputError
from refinery.fields import Field, Fields, FieldType
from refinery.filter import Filter, parse
from refinery.filter.ast import And, Or
from ui.core.screen import quoted

Kind = Literal["range", "dates", "values", "typed", "words", "truth", "none"]

_KINDS: dict[FieldType, Kind] = {
    FieldType.INTEGER: "range",
    FieldType.NUMBER: "range",
    FieldType.DATE: "dates",
    FieldType.STRING: "values",
    FieldType.STRING_LIST: "values",
    FieldType.TEXT: "words",
    FieldType.BOOLEAN: "truth",
    FieldType.JSON: "none",
}
_MANY = frozenset({"sample_id", "pixel_digest", "phash", "uri"})  # nearly as many values as samples


def split(where: str, known: Fields) -> list[str]:
    """The clauses that AND joins, each as canonical text. InputError when `where` is no filter."""
    if not where.strip():
        return []
    root = parse(where, known).root
    return [Filter(item).text for item in (root.items if isinstance(root, And) else (root,))]


def join(clauses: Sequence[str], known: Fields) -> str:
    """The filter that selects what every clause does. InputError when one is no filter."""
    return " AND ".join(f"({c})" if _is_or(c, known) else c for c in clauses)


def kind_of(field: Field) -> Kind:
    """Which kind of widget asks for a field."""
    return "typed" if field.name in _MANY and field.builtin else _KINDS[field.type]


def in_range(field: Field, low: float, high: float) -> str:
    """The clause for numbers from `low` to `high`, both included."""
    if field.type is FieldType.INTEGER:
        low, high = ceil(low), floor(high)
    return f"{_name(field)} BETWEEN {low!r} AND {high!r}"


def on_days(field: Field, first: date | None, last: date | None) -> str:
    """The clause for dates from the day `first` to the end of `last` (UTC). InputError without either."""
    parts = []
    if first is not None:
        parts.append(f"{_name(field)} >= '{first.isoformat()}'")
    if last is not None:
        parts.append(f"{_name(field)} <= '{last.isoformat()}T23:59:59.999999'")
    if not parts:
        raise InputError("Choose a first or a last day.", kind="bad_filter")
    return " AND ".join(parts)


def is_any_of(field: Field, values: Sequence[str]) -> str:
    """The clause for one of several values, or (of a list) for holding one of them. InputError without any."""
    if not values:
        raise InputError(f"Choose at least one value of {field.name}.", kind="bad_filter")
    return f"{_name(field)} IN ({', '.join(map(quoted, values))})"


def has_words(field: Field, words: str) -> str:
    """The clause for texts with all of the words."""
    return f"matches({_name(field)}, {quoted(words)})"


def is_true(field: Field, value: bool) -> str:
    """The clause for a boolean field."""
    return f"{_name(field)} = {'TRUE' if value else 'FALSE'}"


def is_missing(field: Field) -> str:
    """The clause for samples without a value."""
    return f"{_name(field)} IS NULL"


def checked(clause: str, known: Fields, *, negated: bool = False) -> str:
    """The canonical text of a clause, or of its negation. InputError when it does not fit."""
    return parse(f"NOT ({clause})" if negated else clause, known).text


def _is_or(clause: str, known: Fields) -> bool:
    return isinstance(parse(clause, known).root, Or)


def _name(field: Field) -> str:
    return f'"{field.name}"'
