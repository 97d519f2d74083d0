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
    """A LIKE pattern as single literal characters and wildcards. A backslash at the end is literal."""
    parts: list[str | Wildcard] = []
    characters = iter(pattern)
    for character in characters:
        if character == "\\":
            parts.append(next(characters, "\\"))
        elif character in "%_":
            wildcard = Wildcard(character)
            if parts[-1:] != [Wildcard.ANY] or wildcard is not Wildcard.ANY:
                parts.append(wildcard)
        else:
            parts.append(character)
    return parts


def escape_like(parts: list[str | Wildcard]) -> str:
    """The parts as a LIKE pattern in which exactly %, _ and \\ are escaped by a backslash."""
    return "".join(
        part.value if isinstance(part, Wildcard) else f"\\{part}" if part in "%_\\" else part
        for part in parts
    )


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
    """Unicode's simple case folding as `word_regex` has it: letters of one class, each by the shortest one in UTF-8.

    A letter that is alone in its class, or that the class is named by, is left out.
    """
    classes: dict[str, list[str]] = {}
    for code in range(0x20000):
        character = chr(code)
        if unicodedata.category(character)[0] in "LMN":
            classes.setdefault(_simple_fold(character), []).append(character)
    table: dict[str, str] = {}
    for same in classes.values():
        name = min(same, key=lambda character: (len(character.encode()), character))
        table |= {character: name for character in same if character != name}
    return table


def _simple_fold(character: str) -> str:
    for folded in (_FOLDED_ALIKE.get(character, character), character.casefold(), character.lower()):
        if folded != character and len(folded) == 1:
            return folded
    return character


# canonically equal to a letter that case folding alone does not tell (Unicode 15.1)
_FOLDED_ALIKE = {"\u1fd3": "\u0390", "\u1fe3": "\u03b0", "\ufb05": "\ufb06"}


def fold(word: str) -> str:
    """What `word` and every word that differs from it only in case have in common. Never longer in UTF-8."""
    return word.translate(_translation())


@lru_cache(maxsize=1)
def _translation() -> dict[int, str]:
    return {ord(character): name for character, name in folds().items()}
