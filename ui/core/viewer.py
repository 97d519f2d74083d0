"""The viewer without its pages: what the URL says, what is found, and what people do. Knows nothing of Streamlit."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

from refinery.accounting import Status
from refinery.catalogue import Catalogue, catalogue
from refinery.config import FILE_NAME
from refinery.diffs import SnapshotDiff
from refinery.digests import digest_json
from refinery.embedding_map import EmbeddingMap
from refinery.errors import InputError
from refinery.explain import Explanation
from refinery.filter import Filter, conjunction, parse
from refinery.index import Aggregate
from refinery.ledger import Event
from refinery.project import Refinery
from refinery.propagation import Proposal, Reach
from refinery.recent import Recent
from refinery.search import Hit, SearchRequest, search, vector_of
from refinery.snapshots import Snapshot
from refinery.vectors import (
    vector_from_link,
    vector_in_file,
    vector_of_picture,
    vector_of_words,
    vector_to_link,
)
from refinery.views import View
from ui.core import lasso, pictures
from ui.core.acts import Acts
from ui.core.freezing import Freezing
from ui.core.payloads import ArrayFigures, Payload, figures, overlay, payloads_of
from ui.core.policies import Policies
from ui.core.screen import FACETS, Screen

_MOST_VALUES = 200
_COUNTED: Recent[dict[str, int]] = Recent(20_000, lambda counts: len(counts) + 1)
"""What facets count, of every project that this process shows."""

Stage = Literal["nothing_ingested", "no_index", "ready"]


@dataclass(frozen=True, slots=True)
class Results:
    """A page of hits, the cursor of the next one, and how many samples the filter selects: in a large lasso about so many, not
    `exact`."""

    hits: tuple[Hit, ...]
    cursor: str | None
    selected: int
    exact: bool = True


class Viewer:
    """One person's view of an open project. With `read_only`, every act is refused."""

    def __init__(self, project: Refinery, *, read_only: bool = False) -> None:
        self.project, self.read_only = project, read_only
        self.acts = Acts(project, read_only=read_only)
        self.policies = Policies(project, self.acts)
        self.freezing = Freezing(project, self.acts)
        self.fields = project.fields
        self._lassoed: tuple[object, lasso.Ids | None] = (None, None)
        self._narrowed: tuple[object, lasso.Inside | None] = (None, None)
        self._meaning = lru_cache(maxsize=64)(lambda words: vector_of_words(project, words))
        self._figures = lru_cache(maxsize=64)(lambda payload: tuple(figures(project, payload)))
        self._config = _config(project.path)
        self._diff: SnapshotDiff | None = None
        self._beside = ThreadPoolExecutor(1, "beside")

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
        chosen, view = self.selected(screen), self._view(screen)
        if screen.lasso:
            inside = self._inside(screen, chosen)
            if inside.whole is None:
                return self._browse_inside(screen, inside)
            chosen = inside.whole
        like = self.project.resolve(screen.like) if screen.like else None
        if like is not None:
            chosen = conjunction([chosen, parse(f"sample_id != '{like}'", self.fields)])
        own = screen.ordered or view is None
        request = SearchRequest(
            filter=chosen.text,
            text=(screen.words or None) if own or view is None else view.text,
            sort=(screen.sort or None) if own or view is None else view.sort,
            vector=self._vector(screen, like),
            seed=screen.seed,
            limit=screen.size,
            cursor=screen.cursor or None,
        )
        found = search(self.project.index, self.fields, request)
        return Results(found.hits, found.cursor, self.project.index.count(chosen))

    @cached_property
    def map(self) -> EmbeddingMap:
        """The map of the default embedding space."""
        return EmbeddingMap.of(self.project)

    def ids_inside(self, screen: Screen) -> Sequence[str]:
        """The samples in a screen's lasso (see `ui.core.lasso`), in order; the last answer is kept."""
        at = screen.lasso, self.map.version()
        known, ids = self._lassoed
        if ids is None or known != at:
            ids = lasso.ids_inside(self.map, screen)
            self._lassoed = at, ids
        return ids

    def _inside(self, screen: Screen, chosen: Filter) -> lasso.Inside:
        """What is in a screen's lasso; that of the last screen is kept, for as long as the index says the same."""
        ids = self.ids_inside(screen)
        at = self._lassoed[0], chosen.text, self.at()
        known, inside = self._narrowed
        if inside is None or known != at:
            inside = lasso.Inside(self.project.index, ids, chosen)
            self._narrowed = at, inside
        return inside

    def at(self) -> object:
        """Of when the index is: changes whenever what it holds may."""
        return digest_json(self.project.index.position()), self.project.ledger.offset

    def _browse_inside(self, screen: Screen, inside: lasso.Inside) -> Results:
        """A page of a lasso that is too large for one filter: in order of id. InputError when the screen says another order."""
        if screen.ordered:
            raise InputError(
                f"There are {len(inside.ids):,} samples in the lasso, too many for this order: draw a smaller one, or choose "
                "no order.",
                kind="bad_query",
            )
        found, cursor = inside.page(screen.size, screen.cursor)
        hits = tuple(Hit(d["sample_id"], None, d) for d in found)
        return Results(hits, cursor, inside.count(), inside.exact)

    def _vector(self, screen: Screen, like: str | None) -> tuple[float, ...] | None:
        """What the screen says that pictures are to be near to."""
        if like is not None:
            return vector_of(self.project.index, like)
        if screen.meaning:
            return self._meaning(screen.meaning)
        return vector_from_link(screen.vector) if screen.vector else None

    def vector_of_upload(self, data: bytes, name: str) -> str:
        """The vector of a picture, or in a file of numbers (.json, .npy), that somebody brought, as the screen says it.
        InputError when it is neither."""
        if name.lower().endswith((".json", ".npy")):
            return vector_to_link(vector_in_file(data, name))
        return vector_to_link(vector_of_picture(self.project, data, name=name))

    def counts(self, screen: Screen, facet: str) -> dict[str, int]:
        """How many of the samples that a screen selects have each value of a facet (verdict, reason, source), the most
        frequent first; the last answers are kept for all sessions, for as long as the index says the same. InputError when
        `where` is no filter."""
        chosen = self.selected(screen)
        if screen.lasso:
            return self._inside(screen, chosen).counts(FACETS[facet], _MOST_VALUES)

        def count() -> dict[str, int]:
            found = self.project.index.aggregate(FACETS[facet], "terms", chosen, size=_MOST_VALUES)
            return {str(bucket.value): bucket.count for bucket in found.buckets}

        return _COUNTED.get(digest_json([str(self.project.path), self.at(), chosen.text, facet]), count)

    def counts_soon(self, screen: Screen, *facets: str) -> Callable[[], list[dict[str, int]]]:
        """`counts` of these facets, made while the caller does something else; ask for them when they are needed."""

        def count() -> list[dict[str, int]]:
            return [self.counts(screen, facet) for facet in facets]

        # a lasso's come from what `browse` reads
        return count if screen.lasso else self._beside.submit(count).result

    def values(self, facet: str) -> tuple[str, ...]:
        """The values that a facet has over all samples, as far as the index is by now."""
        return tuple(self.counts(Screen(), facet))

    def spread(self, screen: Screen, field: str, size: int = 30) -> Aggregate:
        """How the samples that a screen selects are spread over a field: intervals of numbers and dates, the most frequent
        values of texts."""
        chosen = self.selected(screen)
        if screen.lasso:
            return self._inside(screen, chosen).spread(self.fields[field], size)
        return self.project.index.aggregate(field, None, chosen, size=size)

    def selected(self, screen: Screen) -> Filter:
        """What a screen selects: its view, narrowed by all else. InputError when a part of it does not fit."""
        view = self._view(screen)
        own = screen.filter(self.fields) if screen.narrows else None
        return conjunction([view.selects(self.fields) if view else None, own])

    def selected_text(self, screen: Screen) -> str:
        """What a screen selects, as filter text; empty when that is everything. InputError as `selected`."""
        return self.selected(screen).text if screen.narrows or screen.view else ""

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

    def similar_soon(self, sample_id: str) -> Callable[[], tuple[Hit, ...]]:
        """`similar`, looked for while the caller does something else; ask for it when it is needed."""
        return self._beside.submit(self.similar, sample_id).result

    def explain(self, sample: str) -> Explanation:
        """Everything about one sample, by its id or how it begins. InputError when there is none."""
        return self.project.explain(self.project.resolve(sample))

    def document(self, sample_id: str) -> dict[str, Any]:
        """A sample's document as truth says it now: attributes, flags, tags, size."""
        found: dict[str, Any] = self.project.projector.documents([sample_id]).to_pylist()[0]
        return found

    def documents(self, sample_ids: Sequence[str]) -> dict[str, dict[str, Any] | None]:
        """The documents of samples as the index has them, in this order; None for one that it does not have."""
        known = {d["sample_id"]: d for d in self.project.index.get(list(sample_ids)).to_pylist()}
        return {sample_id: known.get(sample_id) for sample_id in sample_ids}

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

    def thumbnails(self, sample_ids: Sequence[str]) -> dict[str, bytes | None]:
        """The thumbnail of each sample (see `ui.core.pictures`)."""
        return pictures.thumbnails(self.project, sample_ids)

    def picture(self, sample_id: str) -> bytes | None:
        """The large picture of a sample (see `ui.core.pictures`)."""
        return pictures.picture(self.project, sample_id)

    def payloads(self, sample_id: str) -> list[Payload]:
        """The payloads of a sample, by name."""
        return payloads_of(self.project, sample_id)

    def overlay(self, mask: Payload) -> bytes | None:
        """A mask as a coloured PNG to lay over its picture (see `ui.core.payloads`)."""
        return overlay(self.project, mask)

    def figures(self, payload: Payload) -> tuple[ArrayFigures, ...]:
        """What is in the arrays of a payload (see `ui.core.payloads`); the last answers are kept."""
        return self._figures(payload)

    # Propagation and views

    def propose(self, event_id: str, reach: Reach, name: str) -> Proposal:
        """Who a flag would go on to, and what would come of it (see `refinery.propagation`). Nothing is written."""
        actor, parent = self.acts.actor(name), self.project.ledger.find(event_id)
        return self.project.propagator.propose(parent, reach, actor, self.project.policy)

    def apply(self, proposal: Proposal) -> list[Event]:
        """Flag those that were proposed; once, however often it is asked for."""
        self.acts.check_writable()
        events = self.project.propagator.apply(proposal)
        self.acts.follow()
        return events

    def save_view(self, screen: Screen, name: str, who: str) -> tuple[View, bool]:
        """Save what a screen selects, and its words, as the next version of a view (see `Views.save`). InputError without
        a name of either, and for an order that no view keeps: likeness and random."""
        actor = self.acts.actor(who)
        if screen.like or screen.meaning or screen.vector or screen.lasso or screen.seed is not None:
            raise InputError(
                "A view keeps no likeness, no lasso and no random order: choose another order, or a filter.",
                kind="bad_query",
            )
        view = self._view(screen)
        words, sort = screen.words, screen.sort
        if not screen.ordered and view is not None:
            words, sort = view.text or "", view.sort or ""
        saved = self.project.views.save(
            name.strip(), self.selected_text(screen), actor, text=words or None, sort=sort or None
        )
        self.acts.follow()
        return saved


def default_name() -> str:
    """The user of this machine; empty when nobody knows."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return ""


def _config(folder: Path) -> bytes:
    path = folder / FILE_NAME
    return path.read_bytes() if path.is_file() else b""
