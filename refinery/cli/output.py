"""What commands print: one JSON document for machines, or lines for people, and everything else on standard error.

Text that comes from data is never markup and never moves the cursor: control characters are shown escaped.
"""

from __future__ import annotations

import json
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from refinery.errors import RefineryError

if TYPE_CHECKING:
    from refinery.progress import Progress

Line = str | Text | Table
VERDICT_STYLES = {"gold": "green", "held": "yellow", "pending": "cyan"}
_UNSAFE = ("Cc", "Cf", "Cs", "Zl", "Zp")
_NO_WRAP = 100_000


class Output:
    """Where a command's words go. With `json`, standard output carries exactly one JSON document."""

    def __init__(self) -> None:
        self.json = False

    def show(self, document: Any, lines: Callable[[], Iterable[Line]]) -> None:
        """The result of a command: `document` for machines, or `lines()` for people."""
        if self.json:
            sys.stdout.write(json.dumps(document, default=_plain) + "\n")
            sys.stdout.flush()
            return
        console = _console(sys.stdout)
        for line in lines():
            if isinstance(line, Table):
                _print_table(console, line)
            else:
                console.print(Text(safe(line)) if isinstance(line, str) else line, soft_wrap=True)

    def note(self, text: str) -> None:
        """A remark that is no part of the result."""
        _console(sys.stderr).print(Text(safe(text)), soft_wrap=True)

    def error(self, error: RefineryError) -> None:
        """An error: a JSON object on standard output for machines, its message on standard error for people."""
        if self.json:
            sys.stdout.write(json.dumps(error.to_json()) + "\n")
            return
        _console(sys.stderr).print(line(("error: ", "bold red"), str(error)), soft_wrap=True)

    def progress(self, title: str) -> Progress:
        """How long work shows that it moves: a bar with its rate on a terminal, else one line when it is done."""
        from refinery.progress import RichProgress

        console = _console(sys.stderr)
        return RichProgress(title, console) if console.is_terminal else _LineProgress(title, self.note)


def safe(text: object) -> str:
    """`text` on one line, with control, format and surrogate characters escaped as Python writes them."""
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in _UNSAFE else char
        for char in str(text)
    )


def line(*parts: str | tuple[str, str]) -> Text:
    """One line of parts, each a text or a (text, style)."""
    return Text.assemble(*(safe(p) if isinstance(p, str) else (safe(p[0]), p[1]) for p in parts))


def heading(text: str) -> Text:
    return line((text, "bold"))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> Table:
    """An aligned table; a cell that names a verdict is coloured as one."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(safe(cell), style=VERDICT_STYLES.get(str(cell), "")) for cell in row))
    return made


def many(n: int, noun: str) -> str:
    """`1 batch`, `2 batches`."""
    plural = "es" if noun.endswith(("ch", "x")) else "s"
    return f"{n:,} {noun}{'' if n == 1 else plural}"


def bytes_text(size: int) -> str:
    """A size for people, in powers of 1000."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"


def counted(counts: dict[str, int]) -> str:
    """Counts by name as `12 too_small, 3 blurry`, the largest first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{n:,} {name}" for name, n in ordered) or "none"


class _LineProgress:
    """Says one line when work is done: how much, how long, how fast."""

    def __init__(self, title: str, say: Callable[[str], None]) -> None:
        self._title, self._say = title, say
        self._done = self._bytes = 0
        self._unit = "items"
        self._started = time.monotonic()

    def start(self, total: int | None, unit: str) -> None:
        self._done = self._bytes = 0
        self._unit, self._started = unit, time.monotonic()

    def advance(self, n: int, bytes: int = 0) -> None:
        self._done += n
        self._bytes += bytes

    def done(self) -> None:
        if not self._done:
            return
        seconds = max(time.monotonic() - self._started, 1e-9)
        size = f", {bytes_text(self._bytes)}" if self._bytes else ""
        self._say(
            f"{self._title}: {self._done:,} {self._unit}{size} in {seconds:.1f} s ({self._done / seconds:,.0f}/s)"
        )


def _console(stream: Any) -> Console:
    console = Console(file=stream, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _NO_WRAP
    return console


def _print_table(console: Console, table: Table) -> None:
    """A table; without the blanks that fill its last column where nobody looks at them."""
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    console.file.write("".join(f"{row.rstrip()}\n" for row in captured.get().splitlines()))


def _plain(value: Any) -> Any:
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")
