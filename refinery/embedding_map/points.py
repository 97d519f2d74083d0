"""The samples of a map with their places, and which of them lie in a polygon."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from refinery.errors import InputError
from refinery.states.ids import Bytes, Ints, find, to_text

Polygon = Sequence[tuple[float, float]]
"""The corners of a polygon in the unit square, in order; the last is joined to the first."""
MAX_VERTICES = 60
_CELLS = 128


@dataclass(frozen=True)
class Points:
    """n samples: `ids` as bytes (n, 32) in order, and `places` (n, 2), float32 within [0, 1]. 40 bytes a sample."""

    ids: Bytes
    places: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.ids)

    def text(self, positions: Ints) -> pa.Array:
        """The ids at these positions as hex text."""
        return to_text(self.ids[positions])

    def positions(self, wanted: Bytes) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """Where each of `wanted` (m, 32) stands, and whether it is here at all."""
        return find(self.ids, wanted)

    def inside(self, polygon: Polygon) -> Ints:
        """The positions of the samples in a polygon, by the even-odd rule, in order. InputError when it is no polygon.

        Cells of a grid that no edge comes near are in or out as a whole; only the samples of the others are looked at one by one.
        """
        corners = check_polygon(polygon)
        sides = np.arange(_CELLS, dtype=np.float64) / _CELLS + 0.5 / _CELLS
        centres = np.stack(np.meshgrid(sides, sides), axis=-1).reshape(-1, 2)
        near = _near(centres, corners, 0.75 / _CELLS)
        cells = even_odd(centres, corners)
        found = cells[self._cells]
        unsure = np.flatnonzero(near[self._cells])
        found[unsure] = even_odd(self.places[unsure].astype(np.float64), corners)
        return np.flatnonzero(found)

    @cached_property
    def _cells(self) -> npt.NDArray[np.uint16]:
        """The cell that each sample is in."""
        at = np.minimum((self.places * _CELLS).astype(np.uint16), _CELLS - 1)
        return np.asarray(at[:, 1] * np.uint16(_CELLS) + at[:, 0], np.uint16)


def check_polygon(polygon: Polygon) -> npt.NDArray[np.float64]:
    """The corners (m, 2). InputError unless there are 3 to 60, all of them numbers."""
    corners = np.asarray(polygon, np.float64)
    if (
        corners.ndim != 2
        or corners.shape[1:] != (2,)
        or not 3 <= len(corners) <= MAX_VERTICES
        or not np.isfinite(corners).all()
    ):
        raise InputError(
            f"A polygon has 3 to {MAX_VERTICES} corners, each x and y; found {len(polygon)}.",
            kind="bad_polygon",
        )
    return corners


def even_odd(points: npt.NDArray[np.float64], corners: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Whether a ray to the right of each point (n, 2) crosses the edges an odd number of times."""
    x, y = np.ascontiguousarray(points[:, 0]), np.ascontiguousarray(points[:, 1])
    odd = np.zeros(len(points), np.bool_)
    for (x0, y0), (x1, y1) in _edges(corners):
        if y0 != y1:
            odd ^= ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) * ((x1 - x0) / (y1 - y0)))
    return odd


def _near(
    points: npt.NDArray[np.float64], corners: npt.NDArray[np.float64], distance: float
) -> npt.NDArray[np.bool_]:
    """Which points are at most so far from an edge."""
    near = np.zeros(len(points), np.bool_)
    for start, end in _edges(corners):
        along = end - start
        length = float(along @ along)
        offset = points - start
        share = (offset @ along / length).clip(0, 1) if length else np.zeros(len(points))
        gap = offset - share[:, None] * along
        near |= (gap * gap).sum(axis=1) <= distance * distance
    return near


def _edges(
    corners: npt.NDArray[np.float64],
) -> list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    return list(pairwise([*corners, corners[0]]))
