"""One comparison: the samples of some batches that were not compared yet, with all that were and with each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from refinery.facts import FactStore, Step
from refinery.near_duplicates.components import Ints
from refinery.near_duplicates.edges import Vectors, close_hashes, close_vectors, equal_values
from refinery.near_duplicates.state import POINTS

_INSPECTED = ["sample_id", "reason", "pixel_digest", "phash", "contrast", "entropy"]


@dataclass(frozen=True)
class Edges:
    """Pairs of one kind that are near-duplicates: positions in the universe, and (but for `pixels`) how close they are."""

    kind: str
    a: Ints
    b: Ints
    values: npt.NDArray[np.float64] | None = None


class Comparison:
    """Collects the new samples of batches (`add`), then yields what they are joined to (`edges`).

    `points` are the samples compared before (rows of POINTS). A sample is compared once by its pixels and hash, and once
    by its vector, whichever batches its facts are in. A plain picture is compared by its pixels alone.
    """

    def __init__(
        self, facts: FactStore, inspect_step: Step, embed_step: Step | None, step: Step, points: pa.Table
    ) -> None:
        self._facts, self._inspect, self._embed = facts, inspect_step, embed_step
        self._params = step.params
        self._points = points
        by_pixels = pc.equal(points["signal"], "pixels")
        self._old = points.filter(by_pixels)
        self._known_vectors = points.filter(pc.invert(by_pixels))["sample_id"].combine_chunks()
        self._seen_pixels = set(self._old["sample_id"].to_pylist())
        self._plain = set(self._old.filter(self._old["phash"].is_null())["sample_id"].to_pylist())
        self._seen_vectors = set(self._known_vectors.to_pylist())
        self._compared_before = self._seen_pixels | self._seen_vectors
        self._fresh: list[pa.Table] = [POINTS.empty_table()]
        self._vector_ids: list[pa.Array] = []
        self._vectors: list[Vectors] = []
        self._newcomers: set[str] = set()
        self.pairs = 0

    @property
    def new(self) -> int:
        """How many samples are compared for the first time."""
        return len(self._newcomers)

    def add(self, batch: str) -> None:
        """Take the samples whose facts are in the files of `batch` and were not compared yet."""
        fresh = self._add_pixels(batch, self._facts.read(self._inspect, batches=[batch], columns=_INSPECTED))
        if self._embed is None:
            return
        here = self._read_vectors([batch])
        strays = [i for i in here[0].to_pylist() if i not in self._seen_pixels]
        self._add_pixels(batch, self._facts.read(self._inspect, sample_ids=strays, columns=_INSPECTED))
        self._add_vectors(batch, *here)
        self._add_vectors(batch, *self._read_vectors(None, [i for i in fresh if i not in self._seen_vectors]))

    def universe(self) -> pa.Array:
        """All samples compared before or now, sorted: what positions refer to."""
        ids = pa.concat_tables([self._points, self.added()])["sample_id"]
        found: pa.Array = pc.unique(ids).sort()
        return found

    def added(self) -> pa.Table:
        """The new rows of POINTS."""
        return pa.concat_tables(self._fresh)

    def edges(self) -> Iterator[Edges]:
        """What joins the new samples to others."""
        universe = self.universe()
        new = self.added()
        new = new.filter(pc.equal(new["signal"], "pixels"))
        yield from self._by_pixels(universe, new)
        yield from self._by_hash(universe, new)
        if self._embed is not None:
            yield from self._by_vector(universe)

    def _add_pixels(self, batch: str, table: pa.Table) -> list[str]:
        """Note the successes among facts of inspect that were not seen; their ids."""
        table = table.filter(table["reason"].is_null())
        table = table.filter(
            pa.array([i not in self._seen_pixels for i in table["sample_id"].to_pylist()], pa.bool_())
        )
        ids: list[str] = table["sample_id"].to_pylist()
        hashes = self._hashes(table)
        self._seen_pixels.update(ids)
        self._plain.update(table["sample_id"].filter(hashes.is_null()).to_pylist())
        self._note(batch, "pixels", ids, table["pixel_digest"], hashes)
        return ids

    def _add_vectors(self, batch: str, ids: pa.Array, vectors: Vectors) -> None:
        """Note the vectors of pictures that are not plain and were not seen."""
        mask = np.array(
            [
                i in self._seen_pixels and i not in self._seen_vectors and i not in self._plain
                for i in ids.to_pylist()
            ],
            dtype=bool,
        )
        ids = ids.filter(pa.array(mask))
        self._seen_vectors.update(ids.to_pylist())
        self._vector_ids.append(ids)
        self._vectors.append(vectors[mask])
        self._note(
            batch, "vector", ids.to_pylist(), pa.nulls(len(ids), pa.string()), pa.nulls(len(ids), pa.uint64())
        )

    def _note(
        self, batch: str, signal: str, ids: list[str], pixels: pa.Array | pa.ChunkedArray, hashes: pa.Array
    ) -> None:
        n = len(ids)
        self._fresh.append(
            pa.table(
                {
                    "sample_id": pa.array(ids, pa.string()),
                    "batch": pa.array([batch] * n, pa.string()),
                    "signal": pa.array([signal] * n, pa.string()),
                    "pixel_digest": pixels,
                    "phash": hashes,
                },
                schema=POINTS,
            )
        )
        self._newcomers.update(set(ids) - self._compared_before)

    def _hashes(self, table: pa.Table) -> pa.Array:
        """Perceptual hashes as numbers, null where the picture is too plain for one to mean anything."""
        values = np.array([int(text, 16) for text in table["phash"].to_pylist()], dtype=np.uint64)
        plain = (table["contrast"].to_numpy() < self._params["min_contrast"]) | (
            table["entropy"].to_numpy() < self._params["min_entropy"]
        )
        return pa.array(values, pa.uint64(), mask=plain)

    def _by_pixels(self, universe: pa.Array, new: pa.Table) -> Iterator[Edges]:
        digests = pc.unique(new["pixel_digest"])
        old = self._old.filter(pc.is_in(self._old["pixel_digest"], value_set=digests))
        codes = [
            pc.index_in(table["pixel_digest"], value_set=digests).to_numpy().astype(np.int64)
            for table in (old, new)
        ]
        at = _positions(universe, old, new)
        a, b = equal_values(*codes)
        yield Edges("pixels", at[a], at[b])

    def _by_hash(self, universe: pa.Array, new: pa.Table) -> Iterator[Edges]:
        old, new = (table.filter(table["phash"].is_valid()) for table in (self._old, new))
        old_hashes, new_hashes = (table["phash"].to_numpy() for table in (old, new))
        at = _positions(universe, old, new)
        values, inverse = np.unique(np.concatenate([old_hashes, new_hashes]), return_inverse=True)
        a, b = equal_values(inverse[: len(old_hashes)], inverse[len(old_hashes) :])
        yield Edges("phash", at[a], at[b], np.zeros(len(a)))
        stands_for = np.empty(len(values), np.int64)
        stands_for[inverse[::-1]] = at[::-1]
        known = np.zeros(len(values), dtype=bool)
        known[inverse[: len(old_hashes)]] = True
        order = np.concatenate([np.flatnonzero(known), np.flatnonzero(~known)])
        a, b, bits = close_hashes(values[known], values[~known], self._params["phash_distance"])
        yield Edges("phash", stands_for[order[a]], stands_for[order[b]], bits)

    def _by_vector(self, universe: pa.Array) -> Iterator[Edges]:
        assert self._embed is not None
        cosine = self._params["cosine"]
        if not any(len(vectors) for vectors in self._vectors):
            return
        left = np.concatenate(self._vectors)
        ids = pa.concat_arrays(self._vector_ids)
        here = pc.index_in(ids, value_set=universe).to_numpy().astype(np.int64)
        self.pairs += len(left) * (len(left) - 1) // 2
        for a, b, values in close_vectors(left, left, cosine, same=True):
            yield Edges("cosine", here[a], here[b], values)
        if len(self._known_vectors) == 0:
            return
        for batch in sorted(self._facts.files(self._embed)):
            others, right = self._read_vectors([batch])
            known = pc.is_in(others, value_set=self._known_vectors).to_numpy(zero_copy_only=False)
            there = (
                pc.index_in(others.filter(pa.array(known)), value_set=universe).to_numpy().astype(np.int64)
            )
            self.pairs += len(left) * len(there)
            for a, b, values in close_vectors(left, right[known], cosine):
                yield Edges("cosine", here[a], there[b], values)

    def _read_vectors(
        self, batches: list[str] | None, sample_ids: list[str] | None = None
    ) -> tuple[pa.Array, Vectors]:
        """Sample ids and vectors (n, d) in files of embeddings."""
        assert self._embed is not None
        table = self._facts.read(
            self._embed, batches=batches, sample_ids=sample_ids, columns=["sample_id", "reason", "vector"]
        )
        table = table.filter(table["reason"].is_null()).combine_chunks()
        width = self._embed.params["dimension"]
        if table.num_rows == 0:
            return pa.array([], pa.string()), np.empty((0, width), np.float32)
        vectors = table["vector"].combine_chunks().flatten().to_numpy()
        return table["sample_id"].combine_chunks(), vectors.reshape(-1, width)


def _positions(universe: pa.Array, *tables: pa.Table) -> Ints:
    """Positions in the universe of the samples of tables, one after the other."""
    parts = [pc.index_in(table["sample_id"], value_set=universe).to_numpy() for table in tables]
    found: Ints = np.concatenate(parts).astype(np.int64)
    return found
