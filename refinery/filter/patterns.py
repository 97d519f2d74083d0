"""LIKE patterns and words, in the forms that more than one compiler needs."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from enum import Enum

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
