"""Writes the samples of today's formats: `python -m tests.formats.make_samples FOLDER`.

A version of the formats is sampled once, when it is new; its samples are kept and read for ever.
"""

from __future__ import annotations

import json
import shutil
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image

from refinery.blobs import blob_key
from refinery.digests import digest
from refinery.export import Exporter, parse_recipe
from refinery.ledger import Actor, ActorKind, Event, EventType, checkpoints
from refinery.near_duplicates import read_clusters
from refinery.snapshot_splits import record_splits
from refinery.snapshots import Snapshots
from refinery.splits import Splits
from refinery.states.head import read_head
from refinery.store.local import LocalStore
from refinery.takedown import Takedown
from tests.synthetic import Sample, Synthetic, gold


class Picture(Sample):
    """A made-up sample with real bytes: a PNG of one colour."""

    @property
    def bytes(self) -> bytes:
        sink = BytesIO()
        Image.new("RGB", (8, 8), (30 * self.number, 0, 0)).save(sink, "PNG")
        return sink.getvalue()

    @property
    def id(self) -> str:
        return digest(self.bytes)


SAMPLES = [
    Picture(1, look=1, side=200, attributes={"caption": "a »cat«\n"}),
    Picture(2, look=1, side=150),
    Picture(3, sharpness=0.05),
    Picture(4, side=40),
    Picture(5, failure="truncated"),
    Picture(6),
    Picture(7),
]
ANA, CRITIC = Actor(ActorKind.PERSON, "ana"), Actor(ActorKind.MODEL, "critic")
EVAL = Actor(ActorKind.EVAL, "probe")


def make(folder: Path) -> dict[str, object]:
    """A store of every format, and what its readers must find in it."""
    store = LocalStore(folder / "store")
    project = Synthetic(store)
    for sample in SAMPLES:
        store.put_if_absent(blob_key(sample.id), sample.bytes)
    caption = {"type": "text", "description": "What it shows."}
    project.ledger.append([Event(EventType.FIELD, ANA, kind="caption", value=caption)])
    project.compute(project.land(SAMPLES), SAMPLES)
    [rejected] = project.ledger.append([_flag(6, ANA, "reject", "a watermark"), _flag(7, CRITIC, "blocked")])[
        :1
    ]
    project.ledger.append([Event(EventType.TAG, ANA, SAMPLES[0].id, kind="tag", value="cats")])
    project.ledger.append([Event(EventType.ATTRIBUTE, ANA, SAMPLES[1].id, kind="caption", value="another")])
    project.ledger.append([_flag(3, ANA, "keep")])
    project.ledger.undo([rejected], ANA, "it was none")
    reviewed = [_flag(1, CRITIC, "review"), Event(EventType.EVAL, EVAL, SAMPLES[0].id, "probe/loss", 0.25)]
    checkpoints.EVENTS_BEHIND = 1  # so that this append leaves one
    project.ledger.append([*reviewed, Event(EventType.UNFLAG, ANA, SAMPLES[0].id, "review")])
    project.replayer.replay(project.policy)
    head, _ = read_head(store)
    snapshots = Snapshots(store)
    rows = gold(project.replayer.trees.rows(head.node))["sample_id"].to_pylist()
    clusters = read_clusters(store, project.steps.near_duplicates)
    names = dict(zip(clusters["sample_id"].to_pylist(), clusters["cluster"].to_pylist(), strict=True))
    splits = record_splits(store, "samples", Splits({"train": 0.5, "test": 0.5}, 3), rows, names)
    snapshot, _ = project.freeze_state(snapshots, "samples", gold, splits=splits)
    exporter = Exporter(store, snapshots)
    digests = {}
    for name in ("webdataset", "mds", "parquet"):
        exporter.export(snapshot, parse_recipe({"format": name, "size": "bytes"}))
    exporter.export(snapshot, parse_recipe({"format": "webdataset", "size": "bytes"}), split="train")
    for compression in ("zstd", "gz"):
        exporter.export(
            snapshot, parse_recipe({"format": "mds", "size": "bytes", "compression": compression})
        )
    down = Takedown(
        store, project.ledger, project.batches, snapshots, exporter, project.replayer, project.steps
    )
    down.run([rows[0]], "asked by its author", ANA, project.policy)
    head, _ = read_head(store)
    for index in exporter.exports(snapshot):
        digests |= {f"{index['prefix']}/{f['name']}": f["digest"] for f in index["files"]}
    return {
        "state": head.root,
        "policy": head.policy,
        "snapshot": snapshot.root,
        "gold": snapshots.rows(snapshot)["sample_id"].to_pylist(),
        "ledger": [e.to_json() for e in project.ledger.events()],
        "shards": digests,
        "splits": snapshots.splits(snapshot).assign(rows),
        "taken_down": [rows[0]],
    }


def _flag(number: int, actor: Actor, kind: str, reason: str | None = None) -> Event:
    sample_id = next(s.id for s in SAMPLES if s.number == number)
    return Event(EventType.FLAG, actor, sample_id, kind, reason=reason)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    expected = make(target)
    shutil.rmtree(target / "store/.tmp")
    (target / "expected.json").write_text(
        json.dumps(expected, indent=1, ensure_ascii=False), encoding="utf-8"
    )
