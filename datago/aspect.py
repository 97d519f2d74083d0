"""Aspect-ratio buckets: few sizes, so that pictures of one batch stack, and close to what the pictures are."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from datago.errors import ConfigError, InputError
from datago.recipe import Recipe

_CHUNK = 65_536


def buckets(recipe: Recipe) -> list[tuple[int, int]]:
    """The (width, height) of every bucket, in pixels, sorted from the tallest to the widest.

    Both sides are multiples of `patch`, width / height lies strictly between `min_aspect` and `max_aspect`, and of all
    sizes with one width, or one height, the one with its area nearest to `side` * `side` is taken.
    Raises `ConfigError` if no size fits.
    """
    return list(_buckets(recipe.side, recipe.patch, recipe.min_aspect, recipe.max_aspect))


@lru_cache(maxsize=128)
def _buckets(side: int, patch: int, least: float, most: float) -> tuple[tuple[int, int], ...]:
    area = side * side
    found: set[tuple[int, int]] = set()
    # In steps of the patch; beyond the widest possible ratio nothing can fit.
    longest = int(side * max(most, 1 / least) ** 0.5) + 2 * patch
    for a in range(patch, longest + 1, patch):
        # The multiple of `patch` that brings a * b nearest to the area; of two equally near ones the smaller.
        low = area // (a * patch)
        b = patch * max(1, min((low, low + 1), key=lambda n: (abs(a * n * patch - area), n)))
        # The division of two whole numbers is correctly rounded, so equality with a bound is never missed.
        found.update((w, h) for w, h in ((a, b), (b, a)) if least < w / h < most)
    if not found:
        raise ConfigError(
            f"recipe: no size with sides divisible by {patch} and about {side}x{side} pixels has an aspect ratio "
            f"strictly between {least} and {most}; widen the bounds or lower the patch"
        )
    return tuple(sorted(found, key=lambda size: (size[0] / size[1], size)))


def assign(
    widths: npt.ArrayLike, heights: npt.ArrayLike, sizes: list[tuple[int, int]]
) -> npt.NDArray[np.int64]:
    """For each picture the index of the bucket whose aspect ratio is nearest in logarithm; of equals the first.

    Computed without logarithms, from exactly rounded divisions, so that every machine assigns alike.
    Raises `InputError` if a side is not positive.
    """
    width, height = np.asarray(widths, np.int64), np.asarray(heights, np.int64)
    if width.shape != height.shape or width.ndim != 1:
        raise InputError("widths and heights must be sequences of one length")
    if len(width) and min(width.min(), height.min()) < 1:
        raise InputError("every width and height must be at least 1 pixel")
    across = np.array([w for w, _ in sizes], np.int64)
    along = np.array([h for _, h in sizes], np.int64)
    out = np.empty(len(width), np.int64)
    for start in range(0, len(width), _CHUNK):
        part = slice(start, start + _CHUNK)
        a = width[part, None] * along[None, :]
        b = height[part, None] * across[None, :]
        out[part] = np.argmin(np.maximum(a, b) / np.minimum(a, b), axis=1)
    return out
