"""Filter text → `Filter`: sqlglot parses, this module accepts what the language has and checks it against the fields."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from sqlglot import Token, exp
from sqlglot.errors import SqlglotError
from sqlglot.parser import Parser

from refinery.errors import InputError
from refinery.fields import Field, Fields, FieldType, to_utc
from refinery.filter.ast import (
    Between,
    Compare,
    Constant,
    Contains,
    Filter,
    IsEmpty,
    IsNull,
    Like,
    Matches,
    Node,
    Not,
    OneOf,
    Operator,
    Value,
    all_of,
    any_of,
    comparisons,
    depth,
    negate,
)
from refinery.filter.patterns import like_effort, like_parts, words
from refinery.filter.text import HAS
from refinery.filter.tokens import ALLOWED, bad, check_text, fold_groups, shown, tokenize

MAX_DEPTH = 24
MAX_COMPARISONS = 300
MAX_WORDS = 64
MAX_PATTERN = 1024
MAX_LIKE_EFFORT = 50_000

_OPERATORS: Final[dict[type[exp.Expression], Operator]] = {
    exp.EQ: "=",
    exp.NEQ: "!=",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}
_FLIPPED: Final[dict[Operator, Operator]] = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_LIST_OF = {function: name for name, function in HAS.items()} | {"lacks_payload": "payloads"}
_TEXTUAL = (FieldType.STRING, FieldType.TEXT)
_NUMBER = re.compile(r"[0-9]+\Z")


def read(text: str, fields: Fields) -> Filter:
    """See `refinery.filter.parse`."""
    if not text.strip():
        raise bad(
            "The filter is empty. Write a condition such as width >= 512, or TRUE to select everything."
        )
    root, groups = fold_groups(tokenize(text, fields), _expression)
    found = Filter(_Reader(fields, groups).condition(root))
    if depth(found.root) > MAX_DEPTH:
        raise bad(
            f"The filter is nested too deeply: at most {MAX_DEPTH} levels of AND and OR inside each other."
        )
    if (count := comparisons(found.root)) > MAX_COMPARISONS:
        raise bad(
            f"The filter has {count:,} comparisons; at most {MAX_COMPARISONS} are allowed. IN counts once, whatever the "
            "number of values."
        )
    _check_patterns(found)
    check_text(found.text)
    return found


def _check_patterns(found: Filter) -> None:
    """InputError when a server would have too much to do for the LIKE patterns of a filter."""
    effort = 0
    for leaf in found.leaves():
        node = leaf.root.item if isinstance(leaf.root, Not) else leaf.root
        if isinstance(node, Like):
            effort += like_effort(like_parts(node.pattern), MAX_LIKE_EFFORT - effort)
            if effort >= MAX_LIKE_EFFORT:
                raise bad(
                    f"The LIKE pattern {shown(node.pattern)} can match in too many ways: use fewer % and _, "
                    "or shorter text after a %."
                )


def _expression(tokens: list[Token]) -> exp.Expression:
    """sqlglot's tree of a condition without grouping parentheses."""
    if not tokens:
        raise bad("The filter has an empty pair of parentheses.")
    try:
        (tree,) = Parser().parse_into(exp.Condition, tokens, " ".join(token.text for token in tokens))
    except SqlglotError as error:
        raise bad(_syntax(error)) from None
    except RecursionError:
        raise bad("The filter is nested too deeply.") from None
    if not isinstance(tree, exp.Expression):
        raise bad("The filter has an empty pair of parentheses.")
    return tree


def _syntax(error: SqlglotError) -> str:
    details: list[dict[str, str]] = getattr(error, "errors", [])
    near = details[0].get("highlight") if details else None
    place = f" near {shown(near)}" if near else ""
    return f"The filter cannot be read{place}: it is not a condition. Allowed are {ALLOWED}."


class _Reader:
    """Turns sqlglot's trees into nodes; `groups` are the trees that identifiers such as "(3)" stand for."""

    def __init__(self, fields: Fields, groups: dict[str, exp.Expression]) -> None:
        self._fields = fields
        self._groups = groups

    def condition(self, tree: exp.Expression) -> Node:
        """`tree` as something true, false or unknown."""
        tree = self._resolved(tree)
        node: Node
        match tree:
            case exp.And():
                node = all_of(self.condition(part) for part in _chain(tree, exp.And))
            case exp.Or():
                node = any_of(self.condition(part) for part in _chain(tree, exp.Or))
            case exp.Not():
                node = negate(self.condition(tree.this))
            case exp.Boolean():
                node = Constant(bool(tree.this))
            case exp.Column():
                node = self._bare(self._field(tree))
            case exp.In():
                node = self._in(tree)
            case exp.Between():
                node = self._between(tree)
            case exp.Is():
                node = self._is(tree)
            case exp.Like():
                node = self._like(tree)
            case exp.Anonymous():
                node = self._call(tree)
            case _ if type(tree) in _OPERATORS:
                node = self._compare(tree, _OPERATORS[type(tree)])
            case _:
                raise bad(f"{_piece(tree)} is not a condition. Allowed are {ALLOWED}.")
        return negate(node) if tree.args.get("negate") else node

    def _resolved(self, tree: exp.Expression) -> exp.Expression:
        while isinstance(tree, exp.Column) and tree.name in self._groups:
            tree = self._groups[tree.name]
        return tree

    def _field(self, tree: exp.Expression) -> Field:
        tree = self._resolved(tree)
        if not isinstance(tree, exp.Column) or len(tree.parts) != 1:
            raise bad(f"{_piece(tree)} stands where the name of a field should.")
        name = tree.name
        if name not in self._fields:
            if any(ord(character) < 32 for character in name) or len(name) > 64:
                raise InputError(f"There is no field {shown(name)}.", kind="unknown_field")
            try:
                return self._fields[name]
            except InputError as error:
                hint = f" Text goes in single quotes: '{name}'." if tree.this.quoted and " " in name else ""
                raise InputError(f"{error}{hint}", kind=error.kind) from None
        found = self._fields[name]
        if found.type is FieldType.JSON:
            raise bad(f"Field {name!r} is stored-only JSON: it is shown, but a filter cannot read it.")
        return found

    def _bare(self, field: Field) -> Node:
        if field.type is not FieldType.BOOLEAN:
            raise bad(
                f"Field {field.name!r} is of type {field.type.value}, so it is no condition by itself: compare it with a value."
            )
        return Compare(field.name, "=", True)

    def _compare(self, tree: exp.Expression, op: Operator) -> Node:
        left, right = self._resolved(tree.this), self._resolved(tree.expression)
        if not isinstance(left, exp.Column):
            left, right, op = right, left, _FLIPPED[op]
        field = self._field(left)
        if field.type is FieldType.STRING_LIST:
            if op not in ("=", "!="):
                raise bad(
                    f"Field {field.name!r} is a list: ask with =, != or IN whether it holds a value, not with {op}."
                )
            held = Contains(field.name, (self._string(field, right),))
            return held if op == "=" else negate(held)
        if field.type is FieldType.BOOLEAN and op not in ("=", "!="):
            raise bad(f"Field {field.name!r} is a boolean: write {field.name} or NOT {field.name}.")
        return Compare(field.name, op, self._value(field, right))

    def _in(self, tree: exp.In) -> Node:
        field = self._field(tree.this)
        items: Sequence[exp.Expression] = tree.expressions
        if not items:
            raise bad(
                f"IN needs a list of values in parentheses after {field.name!r}, such as IN ('a', 'b')."
            )
        values = tuple(dict.fromkeys(self._value(field, item) for item in items))
        if field.type is FieldType.STRING_LIST:
            return Contains(field.name, tuple(str(value) for value in values))
        return OneOf(field.name, values) if len(values) > 1 else Compare(field.name, "=", values[0])

    def _between(self, tree: exp.Between) -> Node:
        field = self._field(tree.this)
        if field.type in (FieldType.STRING_LIST, FieldType.BOOLEAN):
            raise bad(
                f"Field {field.name!r} is of type {field.type.value}: BETWEEN needs a field with an order."
            )
        return Between(
            field.name, self._value(field, tree.args["low"]), self._value(field, tree.args["high"])
        )

    def _is(self, tree: exp.Is) -> Node:
        field = self._field(tree.this)
        if not isinstance(self._resolved(tree.expression), exp.Null):
            raise bad(f"After {field.name!r} IS only NULL or NOT NULL may follow.")
        return IsEmpty(field.name) if field.type is FieldType.STRING_LIST else IsNull(field.name)

    def _like(self, tree: exp.Like) -> Node:
        field = self._field(tree.this)
        if field.type not in _TEXTUAL:
            raise bad(f"Field {field.name!r} is of type {field.type.value}: LIKE needs a string or a text.")
        pattern = self._string(field, tree.expression)
        if len(pattern) > MAX_PATTERN:
            raise bad(f"The LIKE pattern has {len(pattern)} characters; at most {MAX_PATTERN} are allowed.")
        return Like(field.name, pattern)

    def _call(self, tree: exp.Anonymous) -> Node:
        name, arguments = str(tree.this), tree.expressions
        if name == "matches":
            return self._matches(arguments)
        if len(arguments) != 1:
            raise bad(f"{name}(…) takes one text in single quotes; found {len(arguments)} arguments.")
        field = self._fields[_LIST_OF[name]]
        held = Contains(field.name, (self._string(field, arguments[0]),))
        return negate(held) if name == "lacks_payload" else held

    def _matches(self, arguments: list[exp.Expression]) -> Node:
        if len(arguments) != 2:
            raise bad(f"matches(field, 'words') takes two arguments; found {len(arguments)}.")
        field = self._field(arguments[0])
        if field.type is not FieldType.TEXT:
            raise bad(f"Field {field.name!r} is of type {field.type.value}: matches(…) needs a text field.")
        found = words(self._string(field, arguments[1]))
        if not 0 < len(found) <= MAX_WORDS or max(map(len, found)) > MAX_PATTERN:
            raise bad(f"matches({field.name}, …) needs 1 to {MAX_WORDS} words; found {len(found)}.")
        return Matches(field.name, found)

    def _string(self, field: Field, tree: exp.Expression) -> str:
        tree = self._resolved(tree)
        if not isinstance(tree, exp.Literal) or not tree.is_string:
            raise bad(
                f"{_piece(tree)} stands where a text in single quotes should ({field.name!r} is of type {field.type.value})."
            )
        return str(tree.this)

    def _value(self, field: Field, tree: exp.Expression) -> Value:
        """The literal `tree` as a value of the field's type."""
        tree = self._resolved(tree)
        if isinstance(tree, exp.Null):
            raise bad(f"Nothing equals NULL: write {field.name} IS NULL or {field.name} IS NOT NULL.")
        match field.type:
            case FieldType.INTEGER:
                return _integer(field, tree)
            case FieldType.NUMBER:
                return _float(field, tree)
            case FieldType.BOOLEAN:
                if not isinstance(tree, exp.Boolean):
                    raise _mismatch(field, tree, "TRUE or FALSE")
                return bool(tree.this)
            case FieldType.DATE:
                text = self._string(field, tree)
                try:
                    return to_utc(text)
                except (ValueError, OverflowError):
                    raise _mismatch(field, tree, "an ISO 8601 date such as '2024-01-31'") from None
            case _:
                return self._string(field, tree)


def _chain(tree: exp.Expression, kind: type[exp.Expression]) -> list[exp.Expression]:
    """The operands of `a AND b AND c`, which sqlglot nests to the left."""
    parts: list[exp.Expression] = []
    while isinstance(tree, kind):
        parts.append(tree.expression)
        tree = tree.this
    return [tree, *reversed(parts)]


def _digits(tree: exp.Expression) -> str | None:
    """The text of a numeric literal with its sign, or None."""
    if isinstance(tree, exp.Neg):
        inner = _digits(tree.this)
        return None if inner is None or inner.startswith("-") else f"-{inner}"
    return str(tree.this) if isinstance(tree, exp.Literal) and not tree.is_string else None


def _integer(field: Field, tree: exp.Expression) -> int:
    digits = _digits(tree)
    if digits is None:
        raise _mismatch(field, tree, "a whole number")
    if _NUMBER.match(digits.removeprefix("-")) and len(digits) < 30:
        value = int(digits)
    else:
        number = _float(field, tree)
        if not number.is_integer():
            raise _mismatch(field, tree, "a whole number")
        value = int(number)
    if not -(2**63) <= value < 2**63:
        raise _mismatch(field, tree, "a whole number of at most 64 bits")
    return value


def _float(field: Field, tree: exp.Expression) -> float:
    digits = _digits(tree)
    try:
        value = float(digits or "")
    except ValueError:
        raise _mismatch(field, tree, "a number") from None
    if value in (float("inf"), float("-inf")):
        raise _mismatch(field, tree, "a finite number")
    return value + 0.0


def _mismatch(field: Field, tree: exp.Expression, wanted: str) -> InputError:
    return bad(
        f"Field {field.name!r} is of type {field.type.value}: it is compared with {wanted}; found {_piece(tree)}."
    )


def _piece(tree: exp.Expression) -> str:
    """What an error calls a tree."""
    if isinstance(tree, exp.Literal):
        return f"the {'text' if tree.is_string else 'number'} {shown(str(tree.this))}"
    if isinstance(tree, exp.Neg):
        return f"the number {shown('-' + str(tree.this.this))}"
    if isinstance(tree, exp.Column):
        return f"the name {shown(tree.name)}"
    if isinstance(tree, exp.Boolean | exp.Null):
        return tree.sql()
    if isinstance(tree, exp.Anonymous):
        return f"the function {shown(str(tree.this))}"
    return f"an expression of kind {tree.key.upper()}"
