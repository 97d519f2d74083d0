"""The screen: all that a page shows, as its URL says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from refinery.fields import Fields
from refinery.filter import Filter, conjunction, parse
from refinery.filter.ast import OneOf

FACETS = {"verdict": "verdict", "reason": "reasons", "source": "source"}
DENSITIES = {"": 24, "dense": 60, "large": 8}
_NEAR = ("like", "meaning", "vector")
_ALONE = ("sort", "seed")
_ORDERS = ("words", *_NEAR, *_ALONE)


@dataclass(frozen=True, slots=True)
class Screen:
    """All that a screen shows, as its URL says it: the same link, the same screen.

    `where` is filter text; `verdict`, `reason` and `source` narrow further; `lasso` is a polygon on the map. One order:
    `words`, one of `like` (a sample id), `meaning` (words that a model reads) and `vector` (see `ui.core.vectors`), words
    and one of these together, `sort` (a field, after a - descending) or `seed` (random). `cursor` is the page, `density`
    how many a page has; `sample` (an id, or its first 8 hex digits or more) is the sample that is open; `view` (`name` or
    `name@version`) is a saved view that all of this narrows, and whose order holds when none is chosen.
    `page` is empty for the grid. `ref` is the snapshot that is shown, `against` the one that it is compared with; `queue`
    is what is triaged; `colour` is what the map is coloured by; gaps are what `target` (a filter; empty: all that one
    owns) holds and `covered` (a filter; empty: gold) hardly does.
    """

    where: str = ""
    verdict: str = ""
    reason: str = ""
    source: str = ""
    words: str = ""
    like: str = ""
    meaning: str = ""
    vector: str = ""
    sort: str = ""
    seed: int | None = None
    lasso: str = ""
    density: str = ""
    cursor: str = ""
    sample: str = ""
    view: str = ""
    page: str = ""
    ref: str = ""
    against: str = ""
    queue: str = ""
    colour: str = ""
    target: str = ""
    covered: str = ""

    @classmethod
    def from_params(cls, params: Mapping[str, str]) -> Screen:
        """The screen of a URL's query. Parameters that are unknown, and a seed that is no whole number, say nothing."""
        known: dict[str, Any] = {f.name: params[f.name] for f in fields(cls) if f.name in params}
        if "seed" in known:
            known["seed"] = _whole(known["seed"])
        return cls(**known)

    def to_params(self) -> dict[str, str]:
        """The URL's query: what is set, in order of the fields."""
        return {name: str(value) for name, value in asdict(self).items() if value not in ("", None)}

    def change(self, **changes: Any) -> Screen:
        """The screen after somebody changed something: another search starts on its first page, a new order ends the old
        (but words and likeness go together), and another page closes the sample and forgets queue and snapshots."""
        if set(changes) - {"cursor", "sample", "colour", "target", "covered"}:
            changes = {"cursor": "", **changes}
        if "page" in changes:
            changes = {"sample": "", "queue": "", "ref": "", "against": "", **changes}
        for order in _ORDERS:
            if changes.get(order) not in (None, ""):
                ended = (o for o in _ORDERS if o != order and not _together(o, order))
                changes |= {o: None if o == "seed" else "" for o in ended}
        return replace(self, **changes)

    @property
    def narrows(self) -> bool:
        """Whether the filter or a facet says anything."""
        return bool(self.where.strip() or any(getattr(self, facet) for facet in FACETS))

    @property
    def ordered(self) -> bool:
        """Whether it says an order."""
        return any(getattr(self, order) not in (None, "") for order in _ORDERS)

    @property
    def size(self) -> int:
        """How many samples a page has."""
        return DENSITIES.get(self.density, DENSITIES[""])

    @property
    def start(self) -> int:
        """How many come before this page, where the cursor is a count of them."""
        return _whole(self.cursor) or 0

    def filter(self, known: Fields) -> Filter:
        """What the screen selects. InputError when `where` is no filter."""
        parts = [parse(self.where, known)] if self.where.strip() else []
        for facet, field in FACETS.items():
            value: str = getattr(self, facet)
            if value:
                parts.append(parse(f"{field} = {quoted(value)}", known))
        return conjunction(parts)


def among(sample_ids: Sequence[str]) -> Filter:
    """The filter that selects these samples; none without any."""
    return Filter(OneOf("sample_id", tuple(sample_ids) or ("",)))  # no sample has an empty id


def quoted(text: str) -> str:
    """A text as the filter language writes it."""
    return "'" + text.replace("'", "''") + "'"


def _whole(text: str) -> int | None:
    """The whole number that a text is, of at most 18 digits."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _together(one: str, other: str) -> bool:
    return {one, other} & set(_NEAR) != set() and "words" in (one, other)
