"""The map page without the page: which points are shown, and what colours them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from refinery.digests import digest_json
from refinery.embedding_map import MapReport, MapStatus
from refinery.embedding_map.embedding_map import GROWTH, Watch
from refinery.filter import Filter, parse
from refinery.gaps import GapReport, gaps
from refinery.index import MAX_LIMIT, Query
from refinery.states.ids import find, sorted_ids
from ui.core.screen import Screen
from ui.core.viewer import Viewer

SHOWN = 50_000
"""The most points that are shown: the first in order of id, which is a uniform sample, for ids are digests."""
COLOURS = {
    "": "verdict",
    "source": "source",
    "cluster": "cluster",
    "flag": "flags",
    "near_duplicate": "near_duplicate",
}
_VERDICTS = ("gold", "held", "pending")
_VALUES = 8
OTHER, NONE = "other", "none"


@dataclass(frozen=True, slots=True)
class Kind:
    """What some points have in common, and how many of those shown do. `other`: all that is rarer; `none`: no value."""

    value: str
    count: int
    special: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """Points to draw: their `ids` in order, `places` (n, 2) in 65,535ths of the map, `kinds` (n,) as places in the legend; of
    `selected` samples that the screen selects, `unplaced` of those looked at are not on the map."""

    ids: tuple[str, ...]
    places: npt.NDArray[np.uint16]
    kinds: npt.NDArray[np.uint8]
    legend: tuple[Kind, ...]
    selected: int
    unplaced: int


class MapView:
    """One viewer's map of the default space."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer, self.map = viewer, viewer.map
        self._pictures: dict[str, Picture] = {}

    def status(self) -> MapStatus | None:
        """What there is of a map."""
        return self.map.status()

    def outgrown(self, status: MapStatus) -> bool:
        """Whether it was fitted to far fewer samples than it shows."""
        return len(self.map.points()) > GROWTH * status.samples

    def make(self, *, refit: bool = False, progress: Watch | None = None) -> MapReport:
        """Make the map. ConfigError when the viewer is read only."""
        self._viewer.acts.check_writable()
        return self.map.make(refit=refit, progress=progress)

    def place(self, progress: Watch | None = None) -> int:
        """Place what is missing. ConfigError when the viewer is read only."""
        self._viewer.acts.check_writable()
        return self.map.place(progress)

    def picture(self, screen: Screen) -> Picture:
        """The points that a screen selects, whether or not they are in its lasso. InputError when a part of it does not fit."""
        chosen, field = self._viewer.selected(screen), COLOURS.get(screen.colour, COLOURS[""])
        project = self._viewer.project
        points = self.map.points()
        state = [chosen.text, field, project.index.position(), project.ledger.offset, len(points)]
        token = digest_json([*state, self.map.version()])
        if token not in self._pictures:
            self._pictures = {token: self._draw(chosen, field)}
        return self._pictures[token]

    def _draw(self, chosen: Filter, field: str) -> Picture:
        ids, values = self._rows(chosen, field)
        points = self.map.points()
        at, there = find(points.ids, sorted_ids(ids))
        kinds, legend = _kinds([v for v, t in zip(values, there.tolist(), strict=True) if t], field)
        places = np.round(points.places[at[there]] * 65_535).astype(np.uint16)
        return Picture(
            tuple(i for i, t in zip(ids, there.tolist(), strict=True) if t),
            places,
            kinds,
            legend,
            self._viewer.project.index.count(chosen),
            int((~there).sum()),
        )

    def _rows(self, chosen: Filter, field: str) -> tuple[list[str], list[str | None]]:
        """The ids of the first `SHOWN` samples that a filter selects, and of each the value that colours it."""
        ids: list[str] = []
        values: list[str | None] = []
        cursor: str | None = None
        while len(ids) < SHOWN:
            limit = min(MAX_LIMIT, SHOWN - len(ids))
            query = Query(chosen, limit=limit, cursor=cursor, columns=("sample_id", field))
            page = self._viewer.project.index.query(query)
            ids += page.documents["sample_id"].to_pylist()
            values += [_word(v) for v in page.documents[field].to_pylist()]
            cursor = page.cursor
            if cursor is None:
                break
        return ids, values

    def gaps(self, target: str, limit: int = 8) -> GapReport:
        """The gaps of gold in what `target` selects (empty: all). InputError when it is no filter, or nothing has a vector."""
        known = self._viewer.fields
        return gaps(self._viewer.project, parse(target, known) if target.strip() else None, None, limit)


def _word(value: Any) -> str | None:
    """What colours a sample: the first of several values; None for no value."""
    if isinstance(value, list):
        return str(sorted(value)[0]) if value else None
    if isinstance(value, bool):
        return "near-duplicate" if value else "not one"
    return None if value is None else str(value)


def _kinds(values: Sequence[str | None], field: str) -> tuple[npt.NDArray[np.uint8], tuple[Kind, ...]]:
    """The place of each value in the legend, and the legend: the most frequent values, then the others, then none."""
    counts = Counter(v for v in values if v is not None)
    if field == "verdict":
        named = [v for v in _VERDICTS if v in counts]
    else:
        named = [v for v, _ in sorted(counts.items(), key=lambda c: (-c[1], c[0]))[:_VALUES]]
    place: dict[str | None, int] = {v: i for i, v in enumerate(named)}
    legend = [Kind(v, counts[v]) for v in named]
    rest = len(counts) - len(named)
    if rest:
        legend.append(Kind(OTHER, sum(n for v, n in counts.items() if v not in place), special=True))
    missing = len(values) - sum(counts.values())
    if missing:
        place[None] = len(legend)
        legend.append(Kind(NONE, missing, special=True))
    kinds = np.array([place.get(v, len(named)) for v in values], np.uint8)
    return kinds, tuple(legend)
