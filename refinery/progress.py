"""How long work reports that it moves: a small protocol, a silent implementation and one for terminals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import rich.console
    import rich.progress


class Progress(Protocol):
    """Told about work as it is done. Calls come from one thread at a time: start, any number of advance, done."""

    def start(self, total: int | None, unit: str) -> None:
        """Work begins: `total` items called `unit` ("files"), None when nobody knows how many."""
        ...

    def advance(self, n: int, bytes: int = 0) -> None:
        """`n` more items, and `bytes` more bytes, are done."""
        ...

    def done(self) -> None:
        """The work ended, whether or not it succeeded."""
        ...


class NullProgress:
    """Says nothing."""

    def start(self, total: int | None, unit: str) -> None: ...

    def advance(self, n: int, bytes: int = 0) -> None: ...

    def done(self) -> None: ...


class RichProgress:
    """A line on the terminal: what, a bar, items done, items and megabytes (10^6 bytes) per second, time left."""

    def __init__(self, title: str, console: rich.console.Console | None = None) -> None:
        self._title = title
        self._console = console
        self._bar: rich.progress.Progress | None = None
        self._task: rich.progress.TaskID | None = None
        self._bytes = 0

    def start(self, total: int | None, unit: str) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bytes = 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(f"{unit}  {{task.fields[rates]}}"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._task = self._bar.add_task(self._title, total=total, rates="")
        self._bar.start()

    def advance(self, n: int, bytes: int = 0) -> None:
        if self._bar is None or self._task is None:
            return
        self._bytes += bytes
        task = self._bar.tasks[0]
        seconds = task.elapsed or 0.0
        count = task.completed + n
        rates = f"{count / seconds:,.0f}/s  {self._bytes / seconds / 1e6:,.1f} MB/s" if seconds else ""
        self._bar.update(self._task, advance=n, rates=rates)

    def done(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None
