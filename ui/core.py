"""The viewer without its pages: what the URL says, what is found, and what people do. Knows nothing of Streamlit."""

from __future__ import annotations

import getpass
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from refinery.accounting import Status
from refinery.blobs import blob_path, read_blob
from refinery.catalogue import Catalogue, catalogue
from refinery.config import FILE_NAME
from refinery.diffs import SnapshotDiff
from refinery.errors import ConfigError, InputError, RefineryError
from refinery.explain import Explanation
from refinery.fields import Fields
from refinery.filter import Filter, conjunction, parse
from refinery.ledger import Actor, ActorKind, Event
from refinery.project import Refinery
from refinery.replay import ReplayReport
from refinery.search import Hit, SearchRequest, search, vector_of
from refinery.snapshots import Snapshot
from refinery.views import View

PAGE = 24
FACETS = {"verdict": "verdict", "reason": "reasons", "source": "source"}
NEED_REASON = ("reject", "blocked")
_ORDERS = ("words", "like", "seed")
_PICTURE_SIDE = 1024
_TILE_SIDE = 256
_MOST_VALUES = 200

Stage = Literal["nothing_ingested", "no_index", "ready"]


@dataclass(frozen=True, slots=True)
class Screen:
    """All that a screen shows, as its URL says it: the same link, the same screen.

    `where` is filter text; `verdict`, `reason` and `source` narrow further; one of `words`, `like` (a sample id) and
    `seed` orders; `cursor` is the page; `sample` (an id, or its first 8 hex digits or more) is the sample that is open;
    `view` (`name` or `name@version`) is a saved view that all of this narrows, and whose order holds when none is chosen.
    `page` is empty for the grid, `fields`, or `snapshots`: then `ref` is the one that is shown, `against` the one that it is compared with.
    """

    where: str = ""
    verdict: str = ""
    reason: str = ""
    source: str = ""
    words: str = ""
    like: str = ""
    seed: int | None = None
    cursor: str = ""
    sample: str = ""
    view: str = ""
    page: str = ""
    ref: str = ""
    against: str = ""

    @classmethod
    def from_params(cls, params: Mapping[str, str]) -> Screen:
        """The screen of a URL's query. Parameters that are unknown, and a seed that is no whole number, say nothing."""
        known: dict[str, Any] = {f.name: params[f.name] for f in fields(cls) if f.name in params}
        if "seed" in known:
            text = known["seed"]
            known["seed"] = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
        return cls(**known)

    def to_params(self) -> dict[str, str]:
        """The URL's query: what is set, in order of the fields."""
        return {name: str(value) for name, value in asdict(self).items() if value not in ("", None)}

    def change(self, **changes: Any) -> Screen:
        """The screen after somebody changed something: another search starts on its first page, a new order ends the old, and
        another page closes the sample."""
        if set(changes) - {"cursor", "sample"}:
            changes = {"cursor": "", **changes}
        if "page" in changes:
            changes = {"sample": "", **changes}
        for order in _ORDERS:
            if changes.get(order) not in (None, ""):
                changes |= {o: (None if o == "seed" else "") for o in _ORDERS if o != order}
        return replace(self, **changes)

    @property
    def narrows(self) -> bool:
        """Whether the filter or a facet says anything."""
        return bool(self.where.strip() or any(getattr(self, facet) for facet in FACETS))

    def filter(self, known: Fields) -> Filter:
        """What the screen selects. InputError when `where` is no filter."""
        parts = [parse(self.where, known)] if self.where.strip() else []
        for facet, field in FACETS.items():
            value: str = getattr(self, facet)
            if value:
                parts.append(parse(f"{field} = {_quoted(value)}", known))
        return conjunction(parts)


@dataclass(frozen=True, slots=True)
class Results:
    """A page of hits, the cursor of the next one, and how many samples the filter selects."""

    hits: tuple[Hit, ...]
    cursor: str | None
    selected: int


@dataclass(frozen=True, slots=True)
class Act:
    """What an act wrote, and why the index did not follow at once; empty when it did."""

    events: tuple[Event, ...]
    behind: str = ""


class Viewer:
    """One person's view of an open project. With `read_only`, every act is refused."""

    def __init__(self, project: Refinery, *, read_only: bool = False) -> None:
        self.project, self.read_only = project, read_only
        self.fields = project.fields
        self._config = _config(project.path)
        self._diff: SnapshotDiff | None = None

    @classmethod
    def open(cls, folder: Path, *, read_only: bool = False) -> Viewer:
        """ConfigError when the folder is no project."""
        return cls(Refinery.open(folder), read_only=read_only)

    def current(self) -> Viewer:
        """This viewer, or a fresh one when refinery.yaml or the registered attributes are others by now."""
        if self._config == _config(self.project.path) and dict(self.fields) == dict(self.project.fields):
            return self
        return Viewer.open(self.project.path, read_only=self.read_only)

    # What there is

    def status(self) -> Status:
        return self.project.status()

    def stage(self, status: Status) -> Stage:
        """How far the project is from having something to show."""
        if not status.seen:
            return "nothing_ingested"
        return "ready" if self.project.has_index else "no_index"

    def browse(self, screen: Screen) -> Results:
        """The samples a screen shows. InputError when a part of it does not fit."""
        like = self.project.resolve(screen.like) if screen.like else None
        chosen = self.selected(screen)
        view = self._view(screen)
        ordered = view is None or bool(screen.words or like or screen.seed is not None)
        if like is not None:
            chosen = conjunction([chosen, parse(f"sample_id != '{like}'", self.fields)])
        request = SearchRequest(
            filter=chosen.text,
            text=(screen.words or None) if ordered or view is None else view.text,
            sort=None if ordered or view is None else view.sort,
            vector=vector_of(self.project.index, like) if like else None,
            seed=screen.seed,
            limit=PAGE,
            cursor=screen.cursor or None,
        )
        found = search(self.project.index, self.fields, request)
        return Results(found.hits, found.cursor, self.project.index.count(chosen))

    def counts(self, screen: Screen, facet: str) -> dict[str, int]:
        """How many of the samples that a screen selects have each value of a facet (verdict, reason, source), the most
        frequent first. InputError when `where` is no filter."""
        chosen = self.selected(screen)
        found = self.project.index.aggregate(FACETS[facet], "terms", chosen, size=_MOST_VALUES)
        return {str(bucket.value): bucket.count for bucket in found.buckets}

    def selected(self, screen: Screen) -> Filter:
        """What a screen selects: its view, narrowed by all else. InputError when a part of it does not fit."""
        view = self._view(screen)
        return conjunction([view.selects(self.fields) if view else None, screen.filter(self.fields)])

    def _view(self, screen: Screen) -> View | None:
        return self.project.views.get(screen.view) if screen.view else None

    def similar(self, sample_id: str, limit: int = 6) -> tuple[Hit, ...]:
        """The samples that look most like one; none when it has no embedding or is not indexed yet."""
        try:
            vector = vector_of(self.project.index, sample_id)
        except InputError as error:
            if error.kind in ("no_embedding", "unknown_sample"):
                return ()
            raise
        request = SearchRequest(f"sample_id != '{sample_id}'", vector=vector, limit=limit)
        return search(self.project.index, self.fields, request).hits

    def explain(self, sample: str) -> Explanation:
        """Everything about one sample, by its id or how it begins. InputError when there is none."""
        return self.project.explain(self.project.resolve(sample))

    def document(self, sample_id: str) -> dict[str, Any]:
        """A sample's document as truth says it now: attributes, flags, tags, size."""
        found: dict[str, Any] = self.project.projector.documents([sample_id]).to_pylist()[0]
        return found

    def catalogue(self) -> Catalogue:
        """The fields, and how many samples have each."""
        return catalogue(self.project)

    def snapshots(self) -> list[Snapshot]:
        """All snapshots, the newest first."""
        return sorted(self.project.snapshots.all(), key=lambda s: (s.created_at, s.version), reverse=True)

    def diff(self, old: str, new: str) -> SnapshotDiff:
        """What differs between two snapshots, and why. Neither changes, so the last answer is kept. InputError when there
        is no such snapshot."""
        if self._diff is None or (self._diff.old, self._diff.new) != (old, new):
            self._diff = self.project.diff(old, new)
        return self._diff

    # Pictures: always decoded and encoded anew by us, never the bytes that came from outside

    def tiles(self, sample_ids: Sequence[str]) -> dict[str, bytes]:
        """A square picture (WebP, 256 × 256) for each sample; crossed out without one."""
        step = self.project.steps.inspect
        found = self.project.facts.read(step, sample_ids=sample_ids, columns=["sample_id", "thumbnail"])
        thumbnails = dict(zip(*(column.to_pylist() for column in found.columns), strict=True))
        return {sample_id: _tile(thumbnails.get(sample_id)) for sample_id in sample_ids}

    def picture(self, sample_id: str) -> bytes | None:
        """The picture at most 1024 pixels wide and high, decoded under the caps of the inspection; None when it
        cannot be decoded or its bytes are not kept."""
        import datago

        store, caps = self.project.store, self.project.settings.inspect
        path = blob_path(store, sample_id)
        try:
            source = str(path) if path is not None and path.is_file() else read_blob(store, sample_id)
        except InputError as error:
            if error.kind == "no_such_object":
                return None
            raise
        result = datago.inspect(
            [source],
            thumbnail_side=_PICTURE_SIDE,
            max_bytes=caps.max_bytes,
            max_pixels=caps.max_pixels,
            threads=1,
        )
        found: bytes | None = result.columns["thumbnail"][0]
        return found

    # What people do: ledger events in their name

    def flag(self, sample_id: str, kind: str, name: str, reason: str = "") -> Act:
        """Stand a flag. InputError without a name, and for a reject or blocked without a reason."""
        if kind in NEED_REASON and not reason.strip():
            raise InputError(f"Say why: {kind} needs a reason.", kind="no_reason")
        actor = self._actor(name)
        return self._done(self.project.flag([sample_id], kind, actor, reason=reason.strip() or None))

    def tag(self, sample_id: str, tag: str, name: str) -> Act:
        """Stand a tag. InputError without a name, and for an empty or very long tag."""
        return self._done(self.project.tag([sample_id], tag, self._actor(name)))

    def undo(self, event_id: str, name: str) -> Act:
        """Compensate one event. InputError when it is undone already."""
        return self._done(self.project.undo(self._actor(name), event_id=event_id))

    def save_view(self, screen: Screen, name: str, who: str) -> tuple[View, bool]:
        """Save what a screen selects, and its words, as the next version of a view (see `Views.save`). InputError without
        a name of either, and for an order that no view keeps: likeness and random."""
        actor = self._actor(who)
        if screen.like or screen.seed is not None:
            raise InputError(
                "A view keeps no likeness and no random order: choose another order.", kind="bad_query"
            )
        view = self._view(screen)
        words, sort = (screen.words, None) if screen.words or view is None else (view.text, view.sort)
        chosen = "" if view is None and not screen.narrows else self.selected(screen).text
        saved = self.project.views.save(name.strip(), chosen, actor, text=words, sort=sort)
        self._done(())
        return saved

    def replay(self) -> ReplayReport:
        """Bring verdicts and index up to date."""
        self._check_writable()
        report = self.project.replay()
        self.project.project()
        return report

    def _actor(self, name: str) -> Actor:
        self._check_writable()
        if not name.strip():
            raise InputError("Say who you are: every act carries a name.", kind="no_actor")
        return Actor(ActorKind.PERSON, name.strip())

    def _check_writable(self) -> None:
        if self.read_only:
            raise ConfigError(
                "This viewer is read only: start it without --read-only to write.", kind="read_only"
            )

    def _done(self, events: Sequence[Event]) -> Act:
        """The events are safe in the ledger by now: an index that cannot follow at once catches up at the next run."""
        behind = ""
        try:
            if self.project.projector.follow_ledger() is None:
                behind = "There is no index yet."
        except RefineryError as error:
            behind = f"The index did not follow: {error}"
        return Act(tuple(events), behind)


def default_name() -> str:
    """The user of this machine; empty when nobody knows."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return ""


def _config(folder: Path) -> bytes:
    path = folder / FILE_NAME
    return path.read_bytes() if path.is_file() else b""


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _tile(thumbnail: bytes | None) -> bytes:
    from PIL import Image, ImageDraw

    side = _TILE_SIDE
    tile = Image.new("RGBA", (side, side))
    pen = ImageDraw.Draw(tile)
    pen.rounded_rectangle((0, 0, side - 1, side - 1), 12, fill=(128, 128, 128, 28))
    if thumbnail is None:
        for line in ((88, 88, 168, 168), (88, 168, 168, 88)):
            pen.line(line, fill=(128, 128, 128, 150), width=6)
    else:
        picture = Image.open(io.BytesIO(thumbnail)).convert("RGB")
        picture.thumbnail((side, side))
        tile.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    out = io.BytesIO()
    tile.save(out, "WEBP", quality=82, method=2)
    return out.getvalue()
