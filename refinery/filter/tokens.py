"""The tokens of a filter, checked before sqlglot parses them.

Only what the language knows goes through: field names become quoted identifiers, so that no field collides with a
keyword of SQL, and every parenthesis becomes a group of its own, so that sqlglot never recurses into nesting.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TypeVar

from sqlglot import Token, Tokenizer, TokenType
from sqlglot.errors import SqlglotError

from refinery.errors import InputError, did_you_mean
from refinery.filter.text import RESERVED

FUNCTIONS = ("has_flag", "has_tag", "has_payload", "lacks_payload", "in_dataset", "matches")
MAX_BYTES = 64 << 10
MAX_NESTING = 64
_MAX_NOTS = 16

_T = TokenType
_SYMBOLS = frozenset([_T.EQ, _T.NEQ, _T.LT, _T.LTE, _T.GT, _T.GTE, _T.L_PAREN, _T.R_PAREN, _T.COMMA, _T.DASH])
_KEYWORDS = frozenset([_T.AND, _T.OR, _T.NOT, _T.IN, _T.IS, _T.NULL, _T.LIKE, _T.BETWEEN, _T.TRUE, _T.FALSE])
ALLOWED = (
    "=, !=, <, <=, >, >=, IN (…), BETWEEN, LIKE, IS NULL, AND, OR, NOT, parentheses, "
    "and the functions " + ", ".join(f"{name}(…)" for name in FUNCTIONS)
)

R = TypeVar("R")


def bad(message: str) -> InputError:
    """The error for a filter that cannot be read."""
    return InputError(message, kind="bad_filter")


def shown(piece: str) -> str:
    """A piece of the filter as an error quotes it."""
    return repr(piece if len(piece) <= 60 else piece[:57] + "…")


def check_text(text: str) -> None:
    """InputError unless `text` is Unicode text of at most 64 KiB."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise bad("The filter is not Unicode text: it holds half of a surrogate pair.") from None
    if size > MAX_BYTES:
        raise bad(f"The filter is {size} bytes long; at most {MAX_BYTES} are allowed.")


def tokenize(text: str, known: Collection[str]) -> list[Token]:
    """The tokens of `text`: symbols, keywords and literals of the language; every other word a quoted identifier.

    `known` holds the field names. InputError(kind="bad_filter") names the first piece that the language does not have.
    """
    check_text(text)
    try:
        raw = Tokenizer().tokenize(text)
    except SqlglotError as error:
        raise bad(
            f"The filter cannot be read: {shown(str(error))}. Is a quote or comment left open?"
        ) from None
    tokens: list[Token] = []
    nots = 0
    for i, token in enumerate(raw):
        follower = raw[i + 1].token_type if i + 1 < len(raw) else None
        if token.token_type in (_T.DATE, _T.TIMESTAMP) and follower is _T.STRING:
            continue
        tokens.append(_checked(token, follower, known))
        nots = nots + 1 if tokens[-1].token_type is _T.NOT else 0
        if nots > _MAX_NOTS:
            raise bad(f"The filter has more than {_MAX_NOTS} NOTs in a row.")
    return tokens


def _checked(token: Token, follower: TokenType | None, known: Collection[str]) -> Token:
    kind, text = token.token_type, token.text
    if kind in (_T.STRING, _T.NUMBER, _T.IDENTIFIER) or (kind is _T.DASH and follower is _T.NUMBER):
        return token
    if kind in _SYMBOLS and kind is not _T.DASH:
        return token
    word = text.lower()
    if kind in _KEYWORDS and word in RESERVED:
        return token
    if word.isidentifier():
        if word in FUNCTIONS and follower is _T.L_PAREN:
            return _retyped(token, _T.VAR, word)
        if word in known or (kind is _T.VAR and follower is not _T.L_PAREN):
            return _retyped(token, _T.IDENTIFIER, word)
        if kind is _T.VAR:
            raise bad(
                f"There is no function {shown(text)}.{did_you_mean(word, FUNCTIONS)} Allowed are {ALLOWED}."
            )
    raise bad(f"A filter cannot use {shown(text)}. Allowed are {ALLOWED}.")


def _retyped(token: Token, kind: TokenType, text: str) -> Token:
    return Token(kind, text, token.line, token.col, token.start, token.end)


@dataclass(slots=True)
class _Group:
    """The tokens inside one pair of parentheses, and whether a call or list is open among them."""

    start: Token | None = None
    tokens: list[Token] = field(default_factory=list)
    in_call: bool = False


def fold_groups(tokens: list[Token], parse: Callable[[list[Token]], R]) -> tuple[R, dict[str, R]]:
    """Parse every pair of grouping parentheses on its own, innermost first.

    Returns the outermost result, and the inner ones by the identifier that stands in their place. Those identifiers
    hold a parenthesis, which no field name does.
    """
    results: dict[str, R] = {}
    stack = [_Group()]
    for token in tokens:
        group = stack[-1]
        if token.token_type is _T.L_PAREN:
            if group.tokens and group.tokens[-1].token_type in (_T.VAR, _T.IN):
                if group.in_call:
                    raise bad("A function or list cannot stand inside another one.")
                group.in_call = True
                group.tokens.append(token)
            elif len(stack) > MAX_NESTING:
                raise bad(
                    f"The filter is nested too deeply: at most {MAX_NESTING} parentheses inside each other."
                )
            else:
                stack.append(_Group(token))
        elif token.token_type is _T.R_PAREN and not group.in_call:
            if group.start is None:
                raise bad("The filter has a ')' without its '('.")
            stack.pop()
            name = f"({len(results)})"
            results[name] = parse(group.tokens)
            stack[-1].tokens.append(_retyped(group.start, _T.IDENTIFIER, name))
        else:
            group.in_call = group.in_call and token.token_type is not _T.R_PAREN
            group.tokens.append(token)
    if len(stack) > 1 or stack[0].in_call:
        raise bad("The filter has a '(' without its ')'.")
    return parse(stack[0].tokens), results
