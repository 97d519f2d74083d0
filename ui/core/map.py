"""The map page without the page: which points are shown, and what colours them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from refinery.embedding_map import MapReport, MapStatus, Points
from refinery.embedding_map.embedding_map import GROWTH, Watch
from refinery.filter import Filter, parse
from refinery.gaps import GapReport, gaps
from refinery.states.ids import Bytes, find, to_bytes, to_text
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
_PROPOSALS, _REPORTS = 8, 8
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


@dataclass(frozen=True)
class _Spots:
    """Where samples by id (n, 32) are on a map `of` points: `there`, whether they are (n,), and those `shown` with their `places`."""

    of: Points
    ids: Bytes
    there: npt.NDArray[np.bool_]
    shown: tuple[str, ...]
    places: npt.NDArray[np.uint16]

    @classmethod
    def of_samples(cls, ids: Bytes, points: Points) -> _Spots:
        at, there = find(points.ids, ids)
        places = np.round(points.places[at[there]] * 65_535).astype(np.uint16)
        return cls(points, ids, there, tuple(to_text(ids[there]).to_pylist()), places)


class MapView:
    """One viewer's map of the default space."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer, self.map = viewer, viewer.map
        self._spots: _Spots | None = None
        self._pictures: tuple[object, dict[str, Picture]] = (None, {})
        self._reports: dict[tuple[str, str], tuple[object, GapReport]] = {}

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
        chosen, name = self._viewer.selected(screen), COLOURS.get(screen.colour, COLOURS[""])
        state = chosen.text, self._viewer.at(), self.map.version()
        if self._pictures[0] != state:
            self._pictures = (state, {})
        kept = self._pictures[1]
        if name not in kept:
            kept[name] = self._draw(chosen, name)
        return kept[name]

    def _draw(self, chosen: Filter, name: str) -> Picture:
        """The picture in one colour. Places are looked up once for all colours, and as long as the samples are the same."""
        table = self._viewer.project.index.head(chosen, SHOWN, ("sample_id", name))
        ids, points = to_bytes(table["sample_id"]), self.map.points()
        spots = self._spots
        if spots is None or spots.of is not points or not np.array_equal(spots.ids, ids):
            spots = self._spots = _Spots.of_samples(ids, points)
        values = table[name].filter(pa.array(spots.there)).to_pylist()
        kinds, legend = _kinds([_word(v) for v in values], name)
        few = len(ids) < SHOWN
        selected = len(ids) if few else self._viewer.project.index.count(chosen)
        return Picture(spots.shown, spots.places, kinds, legend, selected, len(ids) - len(kinds))

    def gaps(self, screen: Screen, progress: Watch | None = None) -> GapReport:
        """Look for what the screen's set (`covered`; empty: gold) lacks of its `target` (empty: all that one owns), and keep what
        came of it. InputError when one of them is no filter, or nothing has a vector."""
        known, at = self._viewer.fields, self._viewer.at()
        target, covered = (parse(t, known) if t.strip() else None for t in (screen.target, screen.covered))
        report = gaps(self._viewer.project, target, covered, _PROPOSALS, progress=progress)
        self._reports.pop(_asked(screen), None)
        self._reports[_asked(screen)] = at, report
        for old in list(self._reports)[:-_REPORTS]:
            del self._reports[old]
        return report

    def known_gaps(self, screen: Screen) -> tuple[GapReport, bool] | None:
        """What was found for this set and target before, and whether that is of what the index holds now; None: nobody looked."""
        at, report = self._reports.get(_asked(screen), (None, None))
        return None if report is None else (report, at == self._viewer.at())


def _asked(screen: Screen) -> tuple[str, str]:
    return screen.target.strip(), screen.covered.strip()


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
