"""A lasso: a polygon on the map as the URL says it, and the samples in it that a screen selects."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from refinery.embedding_map import EmbeddingMap
from refinery.embedding_map.points import check_polygon
from refinery.errors import InputError
from refinery.filter import Filter, conjunction
from refinery.filter.ast import OneOf
from refinery.index import Query, SampleIndex
from ui.core.screen import Screen

EXACT = 20_000
"""Up to so many samples in a lasso are counted one by one; of more the first so many are, a uniform sample."""
_CHUNK = 1000
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


def ids_inside(found: EmbeddingMap, screen: Screen) -> list[str]:
    """The samples in the screen's lasso, in order of id, whatever else it selects. InputError for no polygon and no map."""
    points = found.points()
    ids: list[str] = points.text(points.inside(from_link(screen.lasso))).to_pylist()
    return ids


@dataclass(frozen=True, slots=True)
class Inside:
    """Samples by id, in order, that a filter narrows: asked of the index in pieces."""

    index: SampleIndex
    ids: Sequence[str]
    chosen: Filter

    @property
    def whole(self) -> Filter | None:
        """All of it as one filter; None when it is too long for one."""
        return self._narrowed(self.ids) if len(self.ids) <= _CHUNK else None

    def page(self, size: int, after: str = "") -> tuple[list[dict[str, Any]], str | None]:
        """At most `size` documents in order of id, those behind `after`, and the cursor of the next page."""
        found: list[dict[str, Any]] = []
        for chunk in self._chunks(bisect_right(self.ids, after) if after else 0, len(self.ids)):
            query = Query(self._narrowed(chunk), limit=min(size + 1 - len(found), _CHUNK))
            found += self.index.query(query).rows()
            if len(found) > size:
                return found[:size], str(found[size - 1]["sample_id"])
        return found, None

    def count(self) -> tuple[int, bool]:
        """How many the filter selects, and whether that is exact: of many, as many as of a uniform sample."""
        looked = min(len(self.ids), EXACT)
        found = sum(self.index.count(self._narrowed(chunk)) for chunk in self._chunks(0, looked))
        exact = looked == len(self.ids)
        return found if exact else round(found * len(self.ids) / looked), exact

    def counts(self, field: str, size: int) -> dict[str, int]:
        """How many of them have each value of a field, the most frequent first; as exact as `count`."""
        counts: Counter[str] = Counter()
        looked = min(len(self.ids), EXACT)
        for chunk in self._chunks(0, looked):
            for bucket in self.index.aggregate(field, "terms", self._narrowed(chunk), size=size).buckets:
                counts[str(bucket.value)] += bucket.count
        return {v: round(n * len(self.ids) / looked) for v, n in counts.most_common(size)}

    def _chunks(self, start: int, stop: int) -> Iterator[Sequence[str]]:
        for at in range(start, stop, _CHUNK):
            yield self.ids[at : min(at + _CHUNK, stop)]

    def _narrowed(self, ids: Sequence[str]) -> Filter:
        """Those of these samples that the filter selects."""
        if not ids:
            ids = ("",)  # no sample has this id
        return conjunction([Filter(OneOf("sample_id", tuple(ids))), self.chosen])
