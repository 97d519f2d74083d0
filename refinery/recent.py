"""What was read last, kept in memory up to a bound: for values that never change under their name."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """Values by name, those used last, of at most `most` by the sum of their `weight`, but always one. Safe among threads."""

    def __init__(self, most: int, weight: Callable[[T], int]) -> None:
        self._most, self._weight = most, weight
        self._values: dict[str, T] = {}
        self._total = 0
        self._lock = threading.Lock()

    def get(self, name: str, read: Callable[[], T]) -> T:
        """The value of this name, from `read` when it is not here. Two threads may both read it."""
        value = self._values.get(name)
        return self.put(name, read() if value is None else value)

    def peek(self, name: str) -> T | None:
        """The value of this name when it is here."""
        return self._values.get(name)

    def put(self, name: str, value: T) -> T:
        """Remember a value, as the one used last."""
        with self._lock:
            self._take(name)
            self._values[name] = value
            self._total += self._weight(value)
            while self._total > self._most and len(self._values) > 1:
                self._take(next(iter(self._values)))
        return value

    def _take(self, name: str) -> None:
        value = self._values.pop(name, None)
        if value is not None:
            self._total -= self._weight(value)
