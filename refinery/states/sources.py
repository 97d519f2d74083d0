"""The bytes of one immutable object, by spans: mapped from a local disk, or read in ranges from a store across a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa

from refinery.errors import CorruptionError, InputError
from refinery.recent import Recent
from refinery.store import ObjectStore
from refinery.store.bulk import each

Span = tuple[int, int]
"""Where bytes begin and where they end, counted from the object's start."""
PAGE = 128 << 10
_PAGES_PER_READ = 64
_FIRST_PAGES = 4


class Source(Protocol):
    """The bytes of an object."""

    def read(self, spans: Sequence[Span]) -> list[pa.Buffer]:
        """The bytes of each span. CorruptionError when the object ends before."""
        ...


def open_source(store: ObjectStore, key: str, pages: Recent[bytes]) -> Source:
    """An object's bytes; `pages` remembers what was read of remote ones. InputError(kind="no_such_object") without it."""
    path = store.local_path(key)
    if path is None:
        return _Ranged(store, key, pages)
    try:
        with pa.memory_map(str(path)) as file:
            return Held(key, file.read_buffer())
    except FileNotFoundError:
        raise InputError(
            f"There is no object {key!r} in the store {store.url}.", kind="no_such_object"
        ) from None


class Held:
    """Bytes in memory or mapped into it: spans are slices, and nothing is copied."""

    def __init__(self, key: str, data: pa.Buffer) -> None:
        self._key, self._data = key, data

    def read(self, spans: Sequence[Span]) -> list[pa.Buffer]:
        for start, stop in spans:
            if not 0 <= start <= stop <= self._data.size:
                raise _too_short(self._key, stop)
        return [self._data.slice(start, stop - start) for start, stop in spans]


class _Ranged:
    """An object across a network: pages that lie side by side come in one request, several requests at a time."""

    def __init__(self, store: ObjectStore, key: str, pages: Recent[bytes]) -> None:
        self._store, self._key, self._recent = store, key, pages
        self._pages(range(_FIRST_PAGES))

    def read(self, spans: Sequence[Span]) -> list[pa.Buffer]:
        wanted = {page for start, stop in spans for page in range(start // PAGE, -(-stop // PAGE))}
        pages = self._pages(sorted(wanted))
        return [self._assembled(pages, start, stop) for start, stop in spans]

    def _assembled(self, pages: dict[int, bytes], start: int, stop: int) -> pa.Buffer:
        first, last = start // PAGE, -(-stop // PAGE)
        if last - first == 1:
            data = pages[first][start - first * PAGE : stop - first * PAGE]
        else:
            joined = b"".join(pages[page] for page in range(first, last))
            data = joined[start - first * PAGE : stop - first * PAGE]
        if len(data) != stop - start:
            raise _too_short(self._key, stop)
        return pa.py_buffer(data)

    def _pages(self, wanted: Sequence[int]) -> dict[int, bytes]:
        found = {page: self._recent.peek(self._name(page)) for page in wanted}
        pages = {page: data for page, data in found.items() if data is not None}
        missing = np.array([page for page in wanted if page not in pages], np.int64)
        breaks = np.flatnonzero(np.diff(missing) != 1) + 1
        runs = [
            (int(run[at]), min(_PAGES_PER_READ, len(run) - at))
            for run in np.split(missing, breaks)
            for at in range(0, len(run), _PAGES_PER_READ)
        ]
        for (first, count), data in zip(runs, each(self._store, self._fetch, runs), strict=True):
            for number in range(count):
                page = data[number * PAGE : (number + 1) * PAGE]
                pages[first + number] = self._recent.put(self._name(first + number), page)
        return pages

    def _fetch(self, run: tuple[int, int]) -> bytes:
        return self._store.get_range(self._key, run[0] * PAGE, run[1] * PAGE)

    def _name(self, page: int) -> str:
        return f"{self._key}:{page}"


def _too_short(key: str, stop: int) -> CorruptionError:
    return CorruptionError(
        f"{key} is damaged: it ends before byte {stop:,}, where something should lie. Restore it from a backup.",
        kind="damaged_state",
    )
