"""Data inside Markdown, without ever being markup."""

from __future__ import annotations

import re

_MARKUP = re.compile(r"""[\\`*_{}\[\]()#+\-!|<>&~:@"'$=^]|(?<!\d)\.|\.(?!\d)""")


def escape(text: object) -> str:
    """Text as Markdown that shows exactly it: no markup, no link, one line."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(str(text).split()))
