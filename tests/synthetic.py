"""Synthetic projects: batches and facts without pixels, for what does not depend on pixels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refinery.batches import Batches, BatchReport, landed_key, manifest_bytes, manifest_key
from refinery.config import InspectSettings, NearDuplicateSettings
from refinery.digests import canonical_json, digest
from refinery.facts import FactStore, Step
from refinery.fields import Fields
from refinery.inputs import Steps
from refinery.ledger import Ledger
from refinery.near_duplicates import near_duplicates_step, update_clusters
from refinery.policy import Policy, parse_policy
from refinery.replay import Replayer
from refinery.snapshots import Snapshot, Snapshots
from refinery.states.head import read_head
from refinery.steps.inspect import inspect_step
from refinery.store import ObjectStore
from refinery.store.local import LocalStore


def quick_folder() -> TemporaryDirectory[str]:
    """A temporary folder in memory where there is one, for suites of many small durable writes."""
    memory = Path("/dev/shm")
    return TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None)


class Hidden(LocalStore):
    """A store whose objects do not lie on this disk, as far as one can see."""

    def local_path(self, key: str) -> None:  # type: ignore[override]
        return None


POLICY = """
name: synthetic
requires: [inspect, embed, near_duplicates]
rules:
  - {name: too_small, hold: "min_side < 64"}
  - {name: blurry, hold: "sharpness < 0.1"}
  - {name: flagged, hold: "has_flag('reject')"}
  - {name: near_duplicate, hold: "near_duplicate"}
"""


@dataclass(frozen=True)
class Sample:
    """One made-up sample. Samples with the same `look` have the same perceptual hash, so they are near-duplicates;
    those with the same `pixels` have the same pixel digest."""

    number: int
    look: int | None = None
    pixels: int | None = None
    side: int = 100
    sharpness: float = 0.5
    failure: str | None = None
    retryable: bool = False
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return digest(f"synthetic {self.number}".encode())

    @property
    def phash(self) -> str:
        return digest(f"look {self.number if self.look is None else f'shared {self.look}'}".encode())[:16]


def gold(rows: pa.Table) -> pa.Table:
    """The rows of a state that are gold."""
    return rows.filter(pc.equal(rows["verdict"], "gold"))


class Synthetic:
    """A store with made-up batches and facts, and the replay over them."""

    def __init__(self, store: ObjectStore, policy: str = POLICY) -> None:
        self.store = store
        self.ledger, self.batches, self.facts = Ledger(store), Batches(store), FactStore(store)
        inspect = inspect_step(InspectSettings())
        columns = pa.schema([("embedder", pa.string()), ("vector", pa.list_(pa.float32(), 32))])
        embed = Step("embed", 1, {"embedder": "synthetic", "dimension": 32}, None, columns)
        near = near_duplicates_step(NearDuplicateSettings(), inspect, embed)
        self.steps = Steps(inspect, {"default": embed}, near)
        self.policy = self.parse(policy)

    def parse(self, text: str) -> Policy:
        return parse_policy(text, self.fields)

    @property
    def fields(self) -> Fields:
        return Fields(self.ledger.view().registered_fields())

    @property
    def replayer(self) -> Replayer:
        return Replayer(self.store, self.ledger, self.batches, self.facts, self.fields, self.steps)

    def land(self, samples: Iterable[Sample], at: str = "2026-01-01T00:00:00+00:00") -> str:
        """Write a batch as if it had been ingested; its facts are not there yet."""
        rows = [
            {
                "sample_id": s.id,
                "uri": f"made-up/{s.number}.jpg",
                "source": "synthetic",
                "bytes": 1000 + s.number,
                "extension": "jpg",
                "stored": True,
                "attributes": canonical_json(dict(s.attributes)).decode(),
                "extras": "{}",
                "payloads": [],
            }
            for s in samples
        ]
        batch = f"synthetic-{digest(canonical_json([rows, at]))[:12]}"
        report = BatchReport(
            batch, "synthetic", "folder", "made-up", entries=len(rows), origins=len(rows), ingested_at=at
        )
        self.store.put_if_absent(manifest_key(batch), manifest_bytes(rows, report))
        self.store.put_if_absent(landed_key(batch), canonical_json(report.to_json()))
        return batch

    def compute(self, batch: str, samples: Iterable[Sample]) -> None:
        """Write the facts of a batch, and bring the clusters up to date."""
        chosen = list(samples)
        inspect, embed = self.steps.inspect, self.steps.default_embed
        self.facts.write(inspect, batch, _table(inspect, [_inspected(s) for s in chosen]))
        embedded = [_embedded(s) for s in chosen if s.failure is None]
        self.facts.write(embed, batch, _table(embed, embedded))
        self.cluster()

    def freeze_state(
        self,
        snapshots: Snapshots,
        name: str,
        chosen: Callable[[pa.Table], pa.Table] = lambda rows: rows,
        splits: dict[str, Any] | None = None,
        **recorded: Any,
    ) -> tuple[Snapshot, bool]:
        """Freeze rows of the newest state as the next version of `name`; `recorded` are steps in place of those in force."""
        head, _ = read_head(self.store)
        return snapshots.freeze(
            name,
            chosen(self.replayer.trees.rows(head.node)),
            filter_text=None,
            policy=head.policy,
            ledger_offset=head.ledger_offset,
            state=head.node,
            steps={n: {"key": s.key, **s.to_json()} for n, s in self.steps.by_name().items()} | recorded,
            fields=[[f.name, f.type.value] for f in self.fields.attributes],
            splits=splits,
        )

    def cluster(self) -> None:
        update_clusters(self.store, self.steps.near_duplicates, self.steps.inspect, self.steps.default_embed)


def _inspected(sample: Sample) -> dict[str, Any]:
    base = {"sample_id": sample.id, "reason": sample.failure, "detail": None, "retryable": sample.retryable}
    if sample.failure:
        return base
    return base | {
        "format": "jpeg",
        "width": sample.side,
        "height": sample.side,
        "mode": "RGB",
        "orientation": 1,
        "has_alpha": False,
        "pixel_digest": digest(
            f"pixels {sample.number if sample.pixels is None else sample.pixels}".encode()
        ),
        "phash": sample.phash,
        "brightness": 0.5,
        "contrast": 0.2,
        "entropy": 6.0,
        "sharpness": sample.sharpness,
        "thumbnail": b"",
    }


def _embedded(sample: Sample) -> dict[str, Any]:
    vector = np.random.default_rng(sample.number).normal(size=32).astype(np.float32)
    vector /= np.linalg.norm(vector)
    return {
        "sample_id": sample.id,
        "reason": None,
        "detail": None,
        "retryable": False,
        "embedder": "synthetic",
        "vector": vector.tolist(),
    }


def _table(step: Step, rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(
        [{name: row.get(name) for name in step.schema.names} for row in rows], schema=step.schema
    )
