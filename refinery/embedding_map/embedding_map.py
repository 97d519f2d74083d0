"""The map of one embedding space: made at a request, then kept up with new batches without moving."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from refinery.embedding_map.kept import Fit, KeptMap, places_name
from refinery.embedding_map.layout import Vectors, lay_out, place, unit
from refinery.embedding_map.points import Points
from refinery.errors import InputError
from refinery.facts import FactStore, Step
from refinery.progress import NullProgress, Progress
from refinery.states.ids import Bytes, order_of, to_bytes, to_text, words

if TYPE_CHECKING:
    from refinery.project import Refinery

LANDMARKS = 3000
"""The most samples that are laid out; the others are placed among them."""
Watch = Callable[[str], Progress]
"""Makes what is told about a piece of work, by its title."""
GROWTH = 4
"""A map of more than so many times as many samples as it was fitted to is outgrown: new kinds of pictures may have no landmark."""


@dataclass(frozen=True, slots=True)
class MapStatus:
    """A map as it is: its fit, its `landmarks`, how many `samples` had a vector when it was fitted, `batches` of vectors by now,
    and how many of these are `missing` from it."""

    fit: str
    landmarks: int
    samples: int
    batches: int
    missing: int


@dataclass(frozen=True, slots=True)
class MapReport:
    """What making a map did: whether it was `fitted` anew, its `landmarks`, all of its `samples`, and how many of them were
    `placed` now (in `batches` files of facts)."""

    space: str
    fit: str
    fitted: bool
    landmarks: int
    samples: int
    placed: int
    batches: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class EmbeddingMap:
    """The map of the vectors that an embed step has computed. Reading it costs memory of 40 bytes a sample, once."""

    def __init__(self, facts: FactStore, step: Step, space: str = "default") -> None:
        self._facts, self._step, self._space = facts, step, space
        self._kept = KeptMap.of(facts.store, step)
        self._known: tuple[tuple[str, ...], Points] | None = None

    @classmethod
    def of(cls, project: Refinery, space: str = "default") -> EmbeddingMap:
        """The map of a project's embedding space. InputError for an unknown space."""
        if space not in project.steps.embed:
            project.embedder(space)  # says which there are
        return cls(project.facts, project.steps.embed[space], space)

    def status(self) -> MapStatus | None:
        """What there is; None before a map was made. Costs two listings."""
        name, _ = self._kept.head()
        if name is None:
            return None
        fit = self._kept.fit(name)
        wanted = self._wanted()
        missing = len(wanted.keys() - self._kept.placed(name).keys())
        return MapStatus(name, len(fit.ids), fit.samples, len(wanted), missing)

    def version(self) -> tuple[str, ...]:
        """Changes whenever what `points` gives does. Costs two listings. InputError(kind="no_map")."""
        name = self._fitted()
        placed = self._kept.placed(name)
        return (name, *sorted(placed[n] for n in self._wanted().keys() & placed.keys()))

    def make(self, *, refit: bool = False, progress: Watch | None = None) -> MapReport:
        """Bring the map up to date: place what is missing on the one that there is. A new one is fitted when there is none, when
        `refit` asks for it, or when that of now is outgrown. Interrupted, another one goes on.

        InputError(kind="no_vectors") when no sample has a vector; ConfigError when scikit-learn is not there.
        """
        started = time.monotonic()
        watch = progress or unwatched
        name, etag = self._kept.head()
        fitted = refit or name is None or len(self._ids()) > GROWTH * self._kept.fit(name).samples
        if fitted:
            made = self._kept.save_fit(self._fit(watch("laying out")))
            # when somebody else was faster, theirs is as good
            name = made if self._kept.set_head(made, etag) else self._kept.head()[0] or made
        assert name is not None
        batches, placed = self._place_missing(name, watch("placing"))
        return MapReport(
            space=self._space,
            fit=name,
            fitted=fitted,
            landmarks=len(self._kept.fit(name).ids),
            samples=len(self.points()),
            placed=placed,
            batches=batches,
            seconds=time.monotonic() - started,
        )

    def place(self, progress: Watch | None = None) -> int:
        """Place what is missing on the map that there is, which never moves; how many samples. InputError(kind="no_map")."""
        return self._place_missing(self._fitted(), (progress or unwatched)("placing"))[1]

    def points(self) -> Points:
        """The samples that have a place, in order of id: what is kept by now, nothing is computed.

        InputError(kind="no_map") when no map was made.
        """
        version = self.version()
        if self._known is None or self._known[0] != version:
            self._known = None  # not two at a time
            parts = [self._kept.places(key) for key in version[1:]]
            ids = np.concatenate([np.zeros((0, 32), np.uint8), *(i for i, _ in parts)])
            places = np.concatenate([np.zeros((0, 2), np.float32), *(p for _, p in parts)])
            del parts
            order = order_of(ids)
            ids = ids[order]
            places = places[order]
            first = np.ones(len(ids), np.bool_)
            first[1:] = words(ids[1:]) != words(ids[:-1])
            if not first.all():
                ids, places = ids[first], places[first]
            self._known = (version, Points(ids, places))
        return self._known[1]

    def _wanted(self) -> dict[str, str]:
        """The names of the places of all batches that have vectors, with their batch."""
        return {places_name(batch, token): batch for batch, token in self._facts.files(self._step).items()}

    def _fitted(self) -> str:
        name, _ = self._kept.head()
        if name is None:
            raise InputError(
                f"There is no map of the space {self._space!r} yet: `refinery map` makes it.", kind="no_map"
            )
        return name

    def _ids(self) -> Bytes:
        """The distinct ids of all samples that have a vector, in order."""
        parts = [np.zeros((0, 32), np.uint8)]
        for batch in self._facts.files(self._step):
            table = self._facts.read(self._step, batches=[batch], columns=["sample_id", "reason"])
            parts.append(to_bytes(table.filter(table["reason"].is_null())["sample_id"]))
        names = np.unique(words(np.concatenate(parts)))
        return np.frombuffer(names.tobytes(), np.uint8).reshape(-1, 32)

    def _fit(self, progress: Progress) -> Fit:
        """Landmarks are the samples of the smallest ids: these are digests, so that they are a uniform sample."""
        ids = self._ids()
        if not len(ids):
            raise InputError(
                f"No sample has a vector in the space {self._space!r}: `refinery run` embeds what was ingested.",
                kind="no_vectors",
            )
        chosen = to_text(ids[:LANDMARKS]).to_pylist()
        table = self._facts.read(self._step, sample_ids=chosen, columns=["sample_id", "reason", "vector"])
        marks, vectors = vectors_of(table)
        progress.start(len(marks), "landmarks")
        try:
            places = lay_out(vectors)
            progress.advance(len(marks))
        finally:
            progress.done()
        return Fit(marks, vectors, places, len(ids))

    def _place_missing(self, name: str, progress: Progress) -> tuple[int, int]:
        """Place the samples of batches that have no places yet; how many batches, and samples."""
        placed, wanted = self._kept.placed(name), self._wanted()
        missing = sorted(wanted.keys() - placed.keys())
        samples = 0
        if missing:
            fit = self._kept.fit(name)
            progress.start(len(missing), "batches")
            try:
                for some in missing:
                    table = self._facts.read(
                        self._step, batches=[wanted[some]], columns=["sample_id", "reason", "vector"]
                    )
                    ids, vectors = vectors_of(table)
                    self._kept.save_places(name, some, ids, place(vectors, fit.vectors, fit.places))
                    samples += len(ids)
                    progress.advance(1)
            finally:
                progress.done()
        return len(missing), samples


def unwatched(_title: str) -> Progress:
    """Watches nothing."""
    return NullProgress()


def vectors_of(table: pa.Table) -> tuple[Bytes, Vectors]:
    """Ids (n, 32) and unit vectors (n, d) of the successes among facts of an embed step."""
    good = table.filter(table["reason"].is_null())
    column = good["vector"].combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    vectors = np.asarray(flat, np.float32).reshape(len(column), column.type.list_size)
    return to_bytes(good["sample_id"]), unit(vectors)
