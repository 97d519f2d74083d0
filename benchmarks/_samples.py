"""Synthetic documents for the search bench: a million samples' metadata and embeddings from a seed.

Embeddings are unit vectors of 512 dimensions around 400 centres in a subspace of 48 dimensions, with noise: real image
embeddings are clustered and of low intrinsic dimension; uniform ones have no neighbours worth finding.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from refinery.digests import digest
from refinery.fields import Field, Fields, FieldType

FIELDS = Fields(
    [
        Field("caption", FieldType.TEXT),
        Field("licence", FieldType.STRING),
        Field("score", FieldType.NUMBER),
    ]
)
DIMENSIONS = 512
CHUNK = 10_000
WORDS = [
    "panda",
    "red",
    "house",
    "tree",
    "snow",
    "river",
    "person",
    "dog",
    "car",
    "bridge",
    "night",
    "portrait",
    "boat",
    "mountain",
    "flower",
]
_DAY = 86_400_000_000


class Samples:
    """`count` samples; `chunks` gives their documents, `vectors` the embeddings of all, shape (count, 512)."""

    def __init__(self, count: int, seed: int = 0) -> None:
        self.count = count
        self._rng = np.random.default_rng(seed)
        basis = self._rng.standard_normal((48, DIMENSIONS)).astype(np.float32)
        centres = self._rng.standard_normal((400, 48)).astype(np.float32) * 1.5
        self._basis, self._centres = basis, centres
        self.vectors = self._around(self._rng.integers(0, 400, count))
        self.ids = [digest(f"{seed} {n}".encode()) for n in range(count)]

    def queries(self, count: int) -> npt.NDArray[np.float32]:
        """Vectors to ask for, shape (count, 512): of the same distribution, and none of the samples'."""
        return self._around(self._rng.integers(0, 400, count))

    def chunks(self) -> Iterator[pa.Table]:
        """Documents with vectors, 10,000 at a time."""
        for start in range(0, self.count, CHUNK):
            yield self._documents(start, min(start + CHUNK, self.count))

    def _around(self, members: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        latent = self._centres[members] + self._rng.standard_normal((len(members), 48)).astype(np.float32)
        raw = latent @ self._basis + 0.5 * self._rng.standard_normal((len(members), DIMENSIONS)).astype(
            np.float32
        )
        return np.asarray(raw / np.linalg.norm(raw, axis=1, keepdims=True), np.float32)

    def _documents(self, start: int, end: int) -> pa.Table:
        n = end - start
        rng = np.random.default_rng([start, 7])
        number = np.arange(start, end)
        width, height = rng.integers(200, 4000, n), rng.integers(200, 4000, n)
        strings = pa.list_(pa.string())
        cells: dict[str, pa.Array] = {
            "sample_id": pa.array(self.ids[start:end]),
            "bytes": pa.array(width * height // 4),
            "source": _lists(rng.choice(["imagenet", "web", "crawl", "studio"], n)),
            "batch": _lists(np.array([f"batch{i // 2000:05d}" for i in number])),
            "uri": _lists(np.array([f"file:///pictures/{i:07d}.jpg" for i in number])),
            "ingested_at": pa.array(
                (
                    np.int64(datetime(2023, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
                    + rng.integers(0, 1000 * _DAY, n)
                ),
                pa.int64(),
            ).cast(pa.timestamp("us", tz="UTC")),
            "payloads": pa.array([["mask"] if x else [] for x in rng.random(n) < 0.2], strings),
            "format": pa.array(rng.choice(["jpeg", "png", "webp"], n, p=[0.8, 0.15, 0.05])),
            "width": pa.array(width),
            "height": pa.array(height),
            "min_side": pa.array(np.minimum(width, height)),
            "aspect": pa.array(width / height),
            "mode": pa.array(["RGB"] * n),
            "brightness": pa.array(rng.random(n)),
            "contrast": pa.array(rng.random(n) / 2),
            "entropy": pa.array(rng.random(n) * 8),
            "sharpness": pa.array(rng.gamma(2, 20, n)),
            "embedder": pa.array(["synthetic"] * n),
            "flags": pa.array([["review"] if x else [] for x in rng.random(n) < 0.02], strings),
            "tags": pa.array([_tags(u) for u in rng.random(n)], strings),
            "verdict": pa.array(rng.choice(["gold", "held"], n, p=[0.7, 0.3])),
            "reasons": pa.array([["blurry"] if x else [] for x in rng.random(n) < 0.1], strings),
            "datasets": pa.array([["evals", "evals@1"] if x else [] for x in rng.random(n) < 0.1], strings),
            "caption": pa.array([" ".join(rng.choice(WORDS, 8)) for _ in range(n)]),
            "licence": pa.array(rng.choice(["cc0", "cc-by", "unknown"], n)),
            "score": pa.array(rng.random(n), mask=rng.random(n) < 0.1),
            "doc_digest": pa.array(self.ids[start:end]),
        }
        schema = FIELDS.schema().append(pa.field("doc_digest", pa.string()))
        table = pa.table({f.name: cells.get(f.name, pa.nulls(n, f.type)).cast(f.type) for f in schema})
        flat = pa.array(self.vectors[start:end].reshape(-1))
        return table.append_column("vector_default", pa.FixedSizeListArray.from_arrays(flat, DIMENSIONS))


def _lists(values: npt.NDArray[np.str_]) -> pa.Array:
    return pa.array([[str(v)] for v in values], pa.list_(pa.string()))


def _tags(u: float) -> list[str]:
    """Tags that a tenth, a hundredth and a thousandth of all samples have."""
    return [name for name, share in (("tenth", 0.1), ("hundredth", 0.01), ("thousandth", 0.001)) if u < share]
