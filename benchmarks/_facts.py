"""A corpus of facts and flags without pixels: batches, facts and near-duplicate clusters of any number of samples.

Written straight in the formats of docs/formats.md, because a million samples are too many to be made one by one. The ids
are digests of numbers, so every run makes the same corpus; figures are drawn with a seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
from blake3 import blake3

from refinery.batches import BatchReport, landed_key, manifest_bytes, manifest_key
from refinery.digests import canonical_json, digest
from refinery.facts import facts_table
from refinery.near_duplicates.state import CLUSTERS, State
from refinery.store import ObjectStore
from tests.synthetic import Synthetic

POLICY = """
name: synthetic
requires: [inspect, embed, near_duplicates]
rules:
  - {name: too_small, hold: "min_side < 256"}
  - {name: blurry, hold: "sharpness < 10"}
  - {name: flagged, hold: "has_flag('reject')"}
  - {name: near_duplicate, hold: "near_duplicate"}
"""
BATCH = 50_000
_CLUSTERED = 20
"""One sample in so many is in a cluster of two."""


class Corpus(Synthetic):
    """A store with any number of made-up samples, and the replay over them."""

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store, POLICY)

    def make(self, samples: int, seed: int = 0) -> list[str]:
        """Write batches, facts and clusters of samples 0 … n-1; their ids, in order."""
        for start in range(0, samples, BATCH):
            self._batch(range(start, min(start + BATCH, samples)), seed)
        ids = sorted(map(sample_id, range(samples)))
        self._clusters(ids)
        return ids

    def _batch(self, numbers: range, seed: int) -> None:
        ids = [sample_id(n) for n in numbers]
        order = np.argsort(ids)
        rng = np.random.default_rng([seed, numbers.start])
        ids = [ids[i] for i in order]
        batch = f"synthetic-{digest(canonical_json(ids))[:12]}"
        report = BatchReport(
            batch,
            "synthetic",
            "folder",
            "made-up",
            entries=len(ids),
            origins=len(ids),
            ingested_at="2026-01-01T00:00:00+00:00",
        )
        self.store.put_if_absent(manifest_key(batch), manifest_bytes(_origins(ids), report))
        n = len(ids)
        side = rng.integers(200, 2000, (2, n)).astype(np.int32)
        inspected = {
            "sample_id": ids,
            "format": ["jpeg"] * n,
            "width": side[0],
            "height": side[1],
            "mode": ["RGB"] * n,
            "orientation": np.ones(n, np.int32),
            "has_alpha": [False] * n,
            "pixel_digest": ids,
            "phash": [i[:16] for i in ids],
            "brightness": rng.random(n),
            "contrast": rng.random(n),
            "entropy": 8 * rng.random(n),
            "sharpness": 100 * rng.random(n),
            "thumbnail": [b""] * n,
        }
        inspect, embed = self.steps.inspect, self.steps.default_embed
        width = embed.columns.field("vector").type.list_size
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(rng.random(width * n, np.float32)), width)
        columns = {k: pa.array(v) if isinstance(v, np.ndarray) else v for k, v in inspected.items()}
        self.facts.write(inspect, batch, facts_table(inspect, columns))
        self.facts.write(
            embed,
            batch,
            facts_table(embed, {"sample_id": ids, "embedder": ["made-up"] * n, "vector": vectors}),
        )
        near = self.steps.near_duplicates
        self.facts.write(
            near, batch, facts_table(near, {"sample_id": ids, "pixels": [True] * n, "vector": [True] * n})
        )
        self.store.put_if_absent(landed_key(batch), canonical_json(report.to_json()))

    def _clusters(self, ids: list[str]) -> None:
        state = State(self.store, self.steps.near_duplicates)
        head, etag = state.head()
        pairs = ids[: len(ids) // _CLUSTERED // 2 * 2]
        rows = {
            "sample_id": pairs,
            "cluster": [pairs[i // 2 * 2] for i in range(len(pairs))],
            "size": [2] * len(pairs),
        }
        key = state.save(head, "clusters", pa.table(rows, schema=CLUSTERS))
        root = digest(canonical_json(pairs))
        state.swap(head, etag, replace(head, clusters=key, root=root, samples=len(ids)))


def sample_id(number: int) -> str:
    """The id of a made-up sample."""
    return blake3(number.to_bytes(8, "big")).hexdigest()


def _origins(ids: list[str]) -> Iterator[dict[str, object]]:
    for i in ids:
        yield {
            "sample_id": i,
            "uri": f"made-up/{i[:12]}.jpg",
            "source": "synthetic",
            "bytes": 1000 + int(i[:4], 16),
            "extension": "jpg",
            "stored": True,
            "attributes": "{}",
            "extras": "{}",
            "payloads": [],
        }
