"""Data inside Markdown, without ever being markup."""

from __future__ import annotations

import re
from unicodedata import category

_MARKUP = re.compile(r"""[\\`*_{}\[\]()#+\-!|<>&~:@"'$=^]|(?<!\d)\.|\.(?!\d)""")
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def escape(text: object) -> str:
    """Text as Markdown that shows exactly it: no markup, no link, one line. What cannot be seen, or turns the direction of
    what is beside it, is written as its code point."""
    return _MARKUP.sub(r"\\\g<0>", "".join(map(_visible, " ".join(str(text).split()))))


def _visible(char: str) -> str:
    return char.encode("unicode_escape").decode() if category(char) in _UNSEEN else char
