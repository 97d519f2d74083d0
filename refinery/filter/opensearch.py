"""A filter as an OpenSearch query, for filter context: it selects and gives no score.

OpenSearch knows no unknown: a query finds a document or does not. So "is true" and "is false" are compiled apart, and
what is unknown, because the field has no value, is neither. The fields are those of `refinery.index.opensearch.mapping`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from refinery.errors import InputError
from refinery.fields import Fields, FieldType, to_micros
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
    Operator,
    Or,
    Value,
)
from refinery.filter.patterns import Wildcard, fold, like_parts, wildcards

# of the 1,024 that a server allows unless told otherwise; the rest are for what stands around the filter
MAX_CLAUSES = 1000

Query = dict[str, Any]
_ALL: Final[Query] = {"match_all": {}}
_NONE: Final[Query] = {"match_none": {}}
_RANGE: Final[dict[Operator, str]] = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}
_OPPOSITE: Final[dict[Operator, Operator]] = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_WHOLE = (FieldType.STRING, FieldType.STRING_LIST, FieldType.TEXT)


def to_query(node: Node, fields: Fields) -> Query:
    """The query that finds the documents for which `node` is true.

    InputError(kind="bad_filter") when a server would refuse it as too large: filters joined by `conjunction` can be,
    one that was parsed is not. InputError(kind="unknown_field") for a field that `fields` lacks.
    """
    compiler = _Compiler(fields)
    query = compiler.query(node, True)
    clauses = compiler.clauses(query)
    if clauses > MAX_CLAUSES:
        raise InputError(
            f"The filter comes to {clauses:,} clauses; OpenSearch takes at most {MAX_CLAUSES:,}. Say less, or say "
            "several values of one field with IN.",
            kind="bad_filter",
        )
    return query


class _Compiler:
    """Compiles nodes whose fields are `fields`."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields

    def query(self, node: Node, truth: bool) -> Query:
        """What finds the documents for which `node` is true, or those for which it is false."""
        match node:
            case Not(item):
                return self.query(item, not truth)
            case And(items):
                parts = [self.query(item, truth) for item in items]
                return _every(parts) if truth else _some(parts)
            case Or(items):
                parts = [self.query(item, truth) for item in items]
                return _some(parts) if truth else _every(parts)
            case Constant(value):
                return _ALL if value is truth else _NONE
            case IsNull(field) | IsEmpty(field):
                return _no(self._exists(field)) if truth else self._exists(field)
            case Contains(field, values):
                held = _terms(self._exact(field), values)
                return held if truth else _no(held)
            case Compare(field, "!=", value):
                return self.query(Compare(field, "=", value), not truth)
            case Compare(field, op, value) if op in _OPPOSITE and not truth:
                return self.query(Compare(field, _OPPOSITE[op], value), True)
            case Compare(field) | OneOf(field) | Between(field) | Like(field) | Matches(field):
                found = self._found(node)
                return found if truth else _every([self._exists(field), _no(found)])

    def _found(self, node: Compare | OneOf | Between | Like | Matches) -> Query:
        """What finds the documents whose field has such a value."""
        name = self._exact(node.field)
        match node:
            case Compare(_, op, value):
                if op in _RANGE:
                    return {"range": {name: {_RANGE[op]: _value(value)}}}
                return _terms(name, (_value(value),))
            case OneOf(_, values):
                return _terms(name, map(_value, values))
            case Between(_, low, high):
                return {"range": {name: {"gte": _value(low), "lte": _value(high)}}}
            case Like(field, pattern):
                parts = like_parts(pattern)
                if parts == [Wildcard.ANY]:
                    return self._exists(field)
                literals = [part for part in parts if isinstance(part, str)]
                if literals == parts:
                    return _terms(name, ("".join(literals),))
                return {"wildcard": {name: {"value": wildcards(parts)}}}
            case Matches(field, words):
                return _every([{"term": {f"{field}.words": fold(word)}} for word in words])

    def clauses(self, query: Query) -> int:
        """How many clauses a server counts: two of a field that is no text, one of others and of a bare negation."""
        ((kind, body),) = query.items()
        if kind == "bool":
            inner = sum(
                self.clauses(part) for occurrence in _OCCURRENCES for part in body.get(occurrence, ())
            )
            return inner + (set(body) == {"must_not"})
        if kind in ("term", "terms", "range"):
            (name,) = body
            return 1 if self._fields[name.partition(".")[0]].type in _WHOLE else 2
        return 1

    def _exact(self, field: str) -> str:
        return f"{field}.exact" if self._fields[field].type is FieldType.TEXT else field

    def _exists(self, field: str) -> Query:
        return {"exists": {"field": self._exact(field)}}


_OCCURRENCES = ("filter", "should", "must_not")


def _value(value: Value) -> str | int | float | bool:
    """A literal as the index holds it."""
    if isinstance(value, datetime):
        return to_micros(value)
    return value + 0.0 if isinstance(value, float) else value


def _terms(name: str, values: Iterable[Any]) -> Query:
    several = list(dict.fromkeys(values))
    return {"terms": {name: several}} if len(several) > 1 else {"term": {name: several[0]}}


def _no(query: Query) -> Query:
    return {"bool": {"must_not": [query]}}


def _every(queries: Iterable[Query]) -> Query:
    """What all of `queries` find."""
    wanted: list[Query] = []
    unwanted: list[Query] = []
    for query in queries:
        body = query.get("bool", {})
        if body and not body.keys() - {"filter", "must_not"}:
            wanted += body.get("filter", ())
            unwanted += body.get("must_not", ())
        else:
            wanted.append(query)
    wanted, unwanted = _distinct(wanted, _ALL), _merged(unwanted)
    if _NONE in wanted:
        return _NONE
    if not unwanted and len(wanted) < 2:
        return wanted[0] if wanted else _ALL
    occurrences = {"filter": wanted, "must_not": unwanted}
    return {"bool": {name: parts for name, parts in occurrences.items() if parts}}


def _some(queries: Iterable[Query]) -> Query:
    """What at least one of `queries` finds."""
    parts: list[Query] = []
    for query in queries:
        parts += query.get("bool", {}).get("should", (query,))
    parts = _merged(parts)
    if _ALL in parts:
        return _ALL
    if len(parts) < 2:
        return parts[0] if parts else _NONE
    return {"bool": {"should": parts, "minimum_should_match": 1}}


def _merged(queries: Iterable[Query]) -> list[Query]:
    """`queries` of which one is enough, with all values that one field may equal in one of them."""
    values: dict[str, list[Any]] = {}
    others: list[Query] = []
    for query in queries:
        for name, value in query.get("term", {}).items():
            values.setdefault(name, []).append(value)
        for name, several in query.get("terms", {}).items():
            values.setdefault(name, []).extend(several)
        if query.keys().isdisjoint(("term", "terms")):
            others.append(query)
    return [_terms(name, several) for name, several in values.items()] + _distinct(others, _NONE)


def _distinct(queries: Iterable[Query], idle: Query) -> list[Query]:
    """`queries` without those equal to one before, and without `idle`."""
    return list({repr(query): query for query in queries if query != idle}.values())
