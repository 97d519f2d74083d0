"""Something that happens at the n-th call with which a process writes to a local store: the process dies, the disk fails."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from refinery.store.local import LocalStore

NAMES = ("open", "link", "fsync", "unlink", "replace", "mkdir")

# Processes that start at once: everything that they need is imported in the server that they are forked from.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "pandas",
        "pyarrow.dataset",
        "pytest",
        "refinery.filter.arrow",
        "refinery.filter.parser",
        "tests.synthetic",
    ]
)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def failing(code: int) -> Callable[[], None]:
    """A disk that is full (ENOSPC) or broken (EIO)."""

    def fail() -> None:
        raise OSError(code, os.strerror(code))

    assert code in (errno.ENOSPC, errno.EIO)
    return fail


class Calls:
    """Counts the calls, and does `act` at the one with number `moment`: before it, and in the middle of a write."""

    def __init__(self, moment: int, act: Callable[[], None]) -> None:
        self.seen, self._moment, self._act = 0, moment, act

    def install(self, replace: Callable[[Any, str, Any], None]) -> None:
        """Put itself in place of the functions, with `setattr` or that of a MonkeyPatch."""
        for name in NAMES:
            replace(os, name, self._before(getattr(os, name)))
        replace(LocalStore, "_new_file", self._tearing(LocalStore._new_file))

    def _is_now(self) -> bool:
        self.seen += 1
        return self.seen == self._moment

    def _before(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **more: Any) -> Any:
            if self._is_now():
                self._act()
            return real(*args, **more)

        return wrapped

    def _tearing(self, real: Callable[[LocalStore], Any]) -> Callable[[LocalStore], Any]:
        calls = self

        class Torn:
            """A file of which half is written when it happens."""

            def __init__(self, file: Any) -> None:
                self._file = file

            def __getattr__(self, name: str) -> Any:
                return getattr(self._file, name)

            def write(self, data: bytes) -> int:
                if calls._is_now():
                    self._file.write(data[: len(data) // 2])
                    self._file.flush()
                    calls._act()
                return int(self._file.write(data))

        @contextmanager
        def wrapped(store: LocalStore) -> Iterator[tuple[Any, Path]]:
            with real(store) as (file, scratch):
                yield Torn(file), scratch

        return wrapped
