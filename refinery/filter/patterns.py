"""LIKE patterns and words, in the forms that more than one compiler needs."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from enum import Enum
from functools import lru_cache

_GAP = r"[^\p{L}\p{N}\p{M}]"


class Wildcard(Enum):
    """What in a LIKE pattern stands for other text."""

    ANY = "%"
    ONE = "_"


def like_parts(pattern: str) -> list[str | Wildcard]:
    """A LIKE pattern as single literal characters and wildcards. A backslash at the end is literal.

    Of wildcards in a row at most one is %, the last.
    """
    parts: list[str | Wildcard] = []
    characters = iter(pattern)
    for character in characters:
        if character == "\\":
            parts.append(next(characters, "\\"))
        elif character in "%_":
            after_any = parts[-1:] == [Wildcard.ANY]
            if character == "_":
                parts.insert(len(parts) - after_any, Wildcard.ONE)
            elif not after_any:
                parts.append(Wildcard.ANY)
        else:
            parts.append(character)
    return parts


def escape_like(parts: list[str | Wildcard]) -> str:
    """The parts as a LIKE pattern in which exactly %, _ and \\ are escaped by a backslash."""
    return "".join(
        part.value if isinstance(part, Wildcard) else f"\\{part}" if part in "%_\\" else part
        for part in parts
    )


def wildcards(parts: list[str | Wildcard]) -> str:
    """The parts in the syntax of OpenSearch's wildcard query."""
    signs = {Wildcard.ANY: "*", Wildcard.ONE: "?"}
    return "".join(
        signs[part] if isinstance(part, Wildcard) else f"\\{part}" if part in "*?\\" else part
        for part in parts
    )


def like_effort(parts: list[str | Wildcard], limit: int) -> int:
    """How much it costs to match the parts in one pass, one step per character: the sizes of all sets of places in the
    pattern that some text can lead to at once, summed, until `limit`.

    About the pattern's length for most, its square where what follows a % repeats, and 2^n for n times _ behind a
    character behind a %.
    """
    # bit i of a set: parts[:i] are matched; behind a %, for any more of the text
    ones = loops = 0
    literals: dict[str, int] = {}
    for i, part in enumerate(parts):
        if part is Wildcard.ONE:
            ones |= 1 << i
        elif part is Wildcard.ANY:
            loops |= 1 << i + 1
        else:
            literals[part] = literals.get(part, 0) | 1 << i
    before, inside = loops >> 1, (1 << len(parts)) - 1
    seen = {1}
    waiting = [1]
    effort = 0
    while waiting and effort < limit:
        places = waiting.pop()
        effort += places.bit_count()
        reached = places | (places & before) << 1
        rest = (reached & loops) | (reached & ones) << 1
        expected = {part for i in _bits(reached & inside) if isinstance(part := parts[i], str)}
        for found in (rest, *(rest | (reached & literals[part]) << 1 for part in expected)):
            if found and found not in seen:
                seen.add(found)
                waiting.append(found)
    return effort


def _bits(places: int) -> Iterator[int]:
    while places:
        low = places & -places
        yield low.bit_length() - 1
        places ^= low


def like_regex(parts: list[str | Wildcard]) -> str:
    """The parts as a regular expression for a whole text, in the syntax RE2 and Rust share."""
    return r"(?s)\A" + "".join(_regex(part) for part in parts) + r"\z"


def _regex(part: str | Wildcard) -> str:
    if isinstance(part, Wildcard):
        return ".*" if part is Wildcard.ANY else "."
    return part if part.isalnum() or ord(part) > 127 else rf"\x{ord(part):02x}"


def words(text: str) -> tuple[str, ...]:
    """The words of a text, each once, in order: runs of Unicode letters, marks and digits."""
    return tuple(dict.fromkeys(_words(text)))


def _words(text: str) -> Iterator[str]:
    word = ""
    for character in text:
        if unicodedata.category(character)[0] in "LMN":
            word += character
        elif word:
            yield word
            word = ""
    if word:
        yield word


def word_regex(word: str) -> str:
    """A regular expression that finds `word` as a whole word whatever the case, in the syntax RE2 and Rust share."""
    return rf"(?i)(?:\A|{_GAP}){word}(?:\z|{_GAP})"


@lru_cache(maxsize=1)
def folds() -> dict[str, str]:
    """Unicode's simple case folding, as the regular expressions have it: each letter and the one that stands for all
    that differ from it only in case. None gets longer in UTF-8; a letter that stands for itself is left out."""
    classes: dict[str, list[str]] = {}
    for character in map(chr, range(0x20000)):
        if unicodedata.category(character)[0] in "LMN":
            classes.setdefault(_simple_fold(character), []).append(character)
    table: dict[str, str] = {}
    for folded, same in classes.items():
        name = min(same, key=lambda character: (len(character.encode()), character != folded))
        table |= {character: name for character in same if character != name}
    return table


# one letter in all but code point (Unicode 15.1)
_TWINS = {"\u1fd3": "\u0390", "\u1fe3": "\u03b0", "\ufb05": "\ufb06"}


def _simple_fold(character: str) -> str:
    for folded in (_TWINS.get(character, character), character.casefold(), character.lower()):
        if folded != character and len(folded) == 1:
            return folded
    return character


def fold(word: str) -> str:
    """What all words that differ from `word` only in case have in common."""
    return word.translate(_translation())


@lru_cache(maxsize=1)
def _translation() -> dict[int, str]:
    return str.maketrans(folds())
