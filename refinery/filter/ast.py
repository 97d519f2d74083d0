"""The nodes of a filter, and `Filter`, the value that search, policies and snapshots hold.

Every node is a value in SQL's three-valued logic: true, false, or unknown when the field it reads has no value.
The Python type of a literal says the field's type: str, int (integer), float (number), bool, datetime in UTC (date).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from refinery.fields import Fields

Value = str | int | float | bool | datetime
Operator = Literal["=", "!=", "<", "<=", ">", ">="]


@dataclass(frozen=True, slots=True)
class Constant:
    """TRUE or FALSE."""

    value: bool


@dataclass(frozen=True, slots=True)
class Compare:
    """A field that holds one value, against a literal."""

    field: str
    op: Operator
    value: Value


@dataclass(frozen=True, slots=True)
class OneOf:
    """A field that holds one value equals one of two or more literals."""

    field: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Between:
    """A field's value lies between two literals, both included."""

    field: str
    low: Value
    high: Value


@dataclass(frozen=True, slots=True)
class IsNull:
    """A field that holds one value has none. Never unknown."""

    field: str


@dataclass(frozen=True, slots=True)
class Like:
    """A text matches a pattern: % stands for any text, _ for one character, \\ makes the next character literal."""

    field: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Matches:
    """Every word occurs in a text, whatever the case. A word is a run of Unicode letters, marks and digits."""

    field: str
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Contains:
    """A string list holds at least one of the values. Never unknown."""

    field: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IsEmpty:
    """A string list holds nothing. Never unknown."""

    field: str


@dataclass(frozen=True, slots=True)
class Not:
    """Negation; NOT unknown is unknown."""

    item: Node


@dataclass(frozen=True, slots=True)
class And:
    """All of two or more."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Any of two or more."""

    items: tuple[Node, ...]


Atom = Constant | Compare | OneOf | Between | IsNull | Like | Matches | Contains | IsEmpty
Node = Atom | Not | And | Or

TRUE = Constant(True)


def negate(node: Node) -> Node:
    """NOT `node`, without a double negation."""
    return node.item if isinstance(node, Not) else Not(node)


def all_of(items: Iterable[Node]) -> Node:
    """The conjunction of `items`, flat, each once in order of first occurrence; TRUE of none."""
    flat = dict.fromkeys(
        part for item in items for part in (item.items if isinstance(item, And) else (item,))
    )
    if not flat:
        return TRUE
    return And(tuple(flat)) if len(flat) > 1 else next(iter(flat))


def any_of(items: Iterable[Node]) -> Node:
    """The disjunction of `items`, flat, each once in order of first occurrence; FALSE of none."""
    flat = dict.fromkeys(part for item in items for part in (item.items if isinstance(item, Or) else (item,)))
    if not flat:
        return Constant(False)
    return Or(tuple(flat)) if len(flat) > 1 else next(iter(flat))


def depth(node: Node) -> int:
    """How many levels of AND and OR lie inside each other."""
    if isinstance(node, Not):
        return depth(node.item)
    if isinstance(node, And | Or):
        return 1 + max(depth(item) for item in node.items)
    return 0


def comparisons(node: Node) -> int:
    """How many comparisons it takes: of several equalities of one field that OR joins (their negations, AND) only one;
    each word of Matches is one."""
    if isinstance(node, Not):
        return comparisons(node.item)
    if isinstance(node, Matches):
        return len(node.words)
    if not isinstance(node, And | Or):
        return 1
    equal = [_equality(item, isinstance(node, Or)) for item in node.items]
    others = sum(comparisons(item) for item, field in zip(node.items, equal, strict=True) if not field)
    return others + len(set(filter(None, equal)))


def _equality(node: Node, truth: bool) -> str:
    """The field that `node` (or its negation, unless `truth`) says to equal or hold a value; else ""."""
    while isinstance(node, Not):
        node, truth = node.item, not truth
    if isinstance(node, OneOf | Contains) or (isinstance(node, Compare) and node.op == "="):
        return node.field if truth else ""
    return node.field if isinstance(node, Compare) and node.op == "!=" and not truth else ""


def _literals(node: Node) -> Iterator[Node]:
    """The atoms of `node` in order, each with the NOT that stands right before it."""
    if isinstance(node, And | Or):
        for item in node.items:
            yield from _literals(item)
    elif isinstance(node, Not) and isinstance(node.item, And | Or):
        yield from _literals(node.item)
    else:
        yield node


@dataclass(frozen=True, slots=True)
class Filter:
    """A checked filter. Two filters are equal when they say the same in the same order."""

    root: Node

    @property
    def text(self) -> str:
        """The canonical text; parsing it gives an equal filter."""
        from refinery.filter.text import to_text

        return to_text(self.root)

    @property
    def fields(self) -> frozenset[str]:
        """Names of the fields it reads."""
        return frozenset(atom.field for atom in self._atoms() if not isinstance(atom, Constant))

    @property
    def datasets(self) -> frozenset[str]:
        """What its in_dataset(…) calls name: `name`, or `name@version` where the version is pinned."""
        return frozenset(
            value
            for atom in self._atoms()
            if isinstance(atom, Contains) and atom.field == "datasets"
            for value in atom.values
        )

    @property
    def unpinned_datasets(self) -> frozenset[str]:
        """The datasets it names without a version: what it selects changes when they get a new one."""
        return frozenset(name for name in self.datasets if "@" not in name)

    def leaves(self) -> tuple[Filter, ...]:
        """Its comparisons in order of the text, each once, as filters of their own.

        A NOT right before a comparison belongs to the leaf; a NOT before a parenthesis does not.
        """
        return tuple(Filter(node) for node in dict.fromkeys(_literals(self.root)))

    def mask(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        """Which rows of a table of documents it selects: shape (rows,). Unknown is not selected.

        `table` holds at least `fields`, typed as in `Fields.schema()`; InputError(kind="missing_column") otherwise.
        """
        from refinery.filter.arrow import mask

        return mask(self.root, table)

    def to_lance(self) -> str:
        """The filter as LanceDB SQL: built from checked names and escaped literals only."""
        from refinery.filter.lance import to_sql

        return to_sql(self.root)

    def to_opensearch(self, fields: Fields) -> dict[str, Any]:
        """The filter as an OpenSearch query on an index with these fields; errors as `refinery.filter.opensearch.to_query`."""
        from refinery.filter.opensearch import to_query

        return to_query(self.root, fields)

    def _atoms(self) -> Iterator[Atom]:
        for node in _literals(self.root):
            atom = node.item if isinstance(node, Not) else node
            assert not isinstance(atom, Not | And | Or)
            yield atom


def conjunction(filters: Iterable[Filter | None]) -> Filter:
    """The filter that selects what all `filters` select; None selects everything."""
    return Filter(all_of(item.root for item in filters if item is not None))
