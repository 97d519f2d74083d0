"""The register of bombs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

# as many pixels as the cap lets through, near enough
WIDE, HIGH = 13_376, 13_376
# near the cap on bytes
HUGE = 250 << 20


@dataclass(frozen=True)
class Bomb:
    make: Callable[[int], bytes]
    """The picture, of about so many bytes where many bytes are the point."""
    reasons: frozenset[str | None]
    heavy: bool
    """Takes long to make: left to `make nightly`."""
    sized: bool


BOMBS: dict[str, Bomb] = {}


def bomb(*reasons: str | None, heavy: bool = False) -> Callable[[Callable[[], bytes]], None]:
    def named(make: Callable[[], bytes]) -> None:
        BOMBS[make.__name__] = Bomb(lambda _size: make(), frozenset(reasons), heavy, sized=False)

    return named


def sized_bomb(*reasons: str | None) -> Callable[[Callable[[int], bytes]], None]:
    def named(make: Callable[[int], bytes]) -> None:
        BOMBS[make.__name__] = Bomb(make, frozenset(reasons), heavy=False, sized=True)

    return named
