"""A lasso: a polygon on the map as the URL says it, and the samples in it that a screen selects."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

import pyarrow as pa

from refinery.embedding_map import EmbeddingMap, Points
from refinery.embedding_map.points import check_polygon
from refinery.errors import InputError
from refinery.fields import Field
from refinery.filter import Filter, conjunction
from refinery.index import Aggregate, SampleIndex
from refinery.index.buckets import aggregate, kind_for
from refinery.states.ids import Ints
from ui.core.screen import FACETS, Screen, among

EXACT = 20_000
"""Up to so many samples in a lasso are counted one by one; of more the first so many are, a uniform sample."""
_CHUNK, _AT_ONCE = 1000, 5
"""Ids of a filter for a page of documents; and so many times as many where nothing but some columns is read."""
_ID = "sample_id"
_UNITS = 1000


def to_link(polygon: Sequence[Sequence[float]]) -> str:
    """A polygon as the URL says it: thousandths, `x,y` joined by `;`. InputError when it is none."""
    corners = check_polygon([(float(x), float(y)) for x, y in polygon])
    whole = (corners.clip(0, 1) * _UNITS).round().astype(int)
    return ";".join(f"{x},{y}" for x, y in whole.tolist())


def from_link(text: str) -> list[tuple[float, float]]:
    """The polygon that a URL says. InputError when it is none."""
    try:
        pairs = [pair.split(",") for pair in text.split(";")]
        corners = [(int(x) / _UNITS, int(y) / _UNITS) for x, y in pairs]
    except (ValueError, OverflowError):
        raise InputError(
            "The link's lasso is no polygon: it is x,y in thousandths, joined by semicolons.",
            kind="bad_polygon",
        ) from None
    check_polygon(corners)
    return corners


class Ids(Sequence[str]):
    """Samples of a map by id, in order; texts are made of those that are asked for."""

    def __init__(self, points: Points, positions: Ints) -> None:
        self._points, self._positions = points, positions

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        some = at if isinstance(at, slice) else [at]
        found: list[str] = self._points.text(self._positions[some]).to_pylist()
        return found if isinstance(at, slice) else found[0]


def ids_inside(found: EmbeddingMap, screen: Screen) -> Ids:
    """The samples in the screen's lasso, in order of id, whatever else it selects. InputError for no polygon and no map."""
    points = found.points()
    return Ids(points, points.inside(from_link(screen.lasso)))


@dataclass(frozen=True)
class Inside:
    """Samples by id, in order, that a filter narrows: asked of the index in pieces. What was read of them is kept."""

    index: SampleIndex
    ids: Sequence[str]
    chosen: Filter
    _read: dict[str, pa.ChunkedArray] = field(default_factory=dict, repr=False)

    @property
    def whole(self) -> Filter | None:
        """All of it as one filter; None when it is too long for one."""
        return self._narrowed(self.ids[:]) if len(self.ids) <= _CHUNK else None

    @property
    def exact(self) -> bool:
        """Whether all are looked at: of many as many as of a uniform sample."""
        return len(self.ids) <= EXACT

    def page(self, size: int, after: str = "") -> tuple[list[dict[str, Any]], str | None]:
        """At most `size` documents in order of id, those behind `after`, and the cursor of the next page."""
        found: list[str] = []
        start = bisect_right(self.ids, after) if after else 0
        for chunk in self._chunks(start, len(self.ids), _CHUNK):
            found += self.index.head(self._narrowed(chunk), len(chunk), (_ID,))[_ID].to_pylist()
            if len(found) > size:
                break
        shown = self.index.get(found[:size]).to_pylist()
        return shown, found[size - 1] if len(found) > size else None

    def count(self) -> int:
        """How many the filter selects; about so many when not `exact`."""
        return self._of_all(len(self._column(_ID)))

    def counts(self, name: str, size: int) -> dict[str, int]:
        """How many of them have each value of a field, the most frequent first; as exact as `count`."""
        buckets = aggregate(self._values(name), "terms", size).buckets
        return {str(bucket.value): self._of_all(bucket.count) for bucket in buckets}

    def spread(self, of: Field, size: int) -> Aggregate:
        """How they are spread over a field (see `SampleIndex.aggregate`); as exact as `count`."""
        found = aggregate(self._values(of.name), kind_for(of, None, size), size)
        buckets = tuple(replace(b, count=self._of_all(b.count)) for b in found.buckets)
        return Aggregate(buckets, self._of_all(found.missing), self._of_all(found.other))

    def _of_all(self, count: int) -> int:
        """What a count of those that were looked at means for all."""
        return count if self.exact else round(count * len(self.ids) / EXACT)

    def _values(self, name: str) -> pa.Array:
        column: pa.Array = self._column(name).combine_chunks()
        return column

    def _column(self, name: str) -> pa.ChunkedArray:
        """A column of those that are looked at; what counts stand for is read at once."""
        if name not in self._read:
            wanted = (_ID, *FACETS.values()) if name == _ID or name in FACETS.values() else (name,)
            looked = min(len(self.ids), EXACT)
            chunks = list(self._chunks(0, looked, _AT_ONCE * _CHUNK)) or [()]
            parts = [self.index.head(self._narrowed(c), max(1, len(c)), wanted) for c in chunks]
            self._read.update((n, pa.concat_tables(parts)[n]) for n in wanted)
        return self._read[name]

    def _chunks(self, start: int, stop: int, size: int) -> Iterator[Sequence[str]]:
        for at in range(start, stop, size):
            yield self.ids[at : min(at + size, stop)]

    def _narrowed(self, ids: Sequence[str]) -> Filter:
        """Those of these samples that the filter selects."""
        return conjunction([among(ids), self.chosen])
