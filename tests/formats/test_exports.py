"""Exports of a snapshot: the official readers give back what was frozen, and the bytes do not depend on who wrote them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from refinery.digests import digest, digest_file
from refinery.export import Exporter, parse_recipe
from refinery.export_index import export_prefix
from refinery.ledger import Actor, ActorKind
from refinery.project import Refinery
from refinery.snapshots import Snapshot
from tests.formats.shards import alone_with_mosaicml

SIZES = (
    {"size": "bytes"},
    {"size": "bucket", "side": 128, "patch": 16},
    {"size": "fixed", "side": 96, "patch": 16},
)
FORMATS = ("webdataset", "mds", "parquet")


@pytest.fixture
def project(refined: Path) -> Refinery:
    return Refinery.open(refined)


@pytest.fixture
def snapshot(project: Refinery) -> Snapshot:
    return project.freeze("set")[0]


def shards(project: Refinery, prefix: str) -> dict[str, str]:
    folder = project.store.root / prefix
    return {p.name: digest_file(p) for p in sorted(folder.iterdir()) if p.is_file()}


def read_back(folder: Path, kind: str) -> list[tuple[str, bytes]]:
    """(sample id, image bytes) of every sample, through the reader that the format's own people wrote."""
    if kind == "parquet":
        tables = [pq.read_table(p) for p in sorted(folder.glob("*.parquet"))]
        return [(r["sample_id"], r["image"]) for t in tables for r in t.to_pylist()]
    code = READERS[kind]
    env = {**os.environ, "PYTHONWARNINGS": "ignore"}
    with alone_with_mosaicml():
        out = subprocess.run(
            [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True, env=env
        )
    return [(row[0], bytes.fromhex(row[1])) for row in json.loads(out.stdout.splitlines()[-1])]


READERS = {
    "webdataset": """
import json, sys, pathlib, webdataset
urls = [str(p) for p in sorted(pathlib.Path(sys.argv[1]).glob("*.tar"))]
images = {"jpg", "png", "webp", "gif", "bmp", "tif"}
rows = []
for sample in webdataset.WebDataset(urls, shardshuffle=False, nodesplitter=None):
    [kind] = [k for k in sample if k in images]
    rows.append((sample["__key__"], sample[kind].hex()))
print(json.dumps(rows))
""",
    "mds": """
import json, sys
from streaming import StreamingDataset
from streaming.base.format import reader_from_json
import pathlib
index = json.loads((pathlib.Path(sys.argv[1]) / "index.json").read_text())
rows = []
for shard in index["shards"]:
    reader = reader_from_json(sys.argv[1], None, shard)
    names = list(reader.column_names)
    reader.column_encodings = ["bytes" if n == "image" else e for n, e in zip(names, reader.column_encodings)]
    rows += [(r["id"], r["image"].hex()) for r in (reader[i] for i in range(len(reader)))]
dataset = StreamingDataset(local=sys.argv[1], batch_size=1, shuffle=False)
assert len(dataset) == len(rows)
print(json.dumps(rows))
""",
}


@pytest.mark.parametrize("size", SIZES, ids=lambda s: str(s["size"]))
@pytest.mark.parametrize("kind", FORMATS)
def test_the_official_reader_gives_back_every_sample_of_the_snapshot(
    project: Refinery, snapshot: Snapshot, kind: str, size: dict[str, Any]
) -> None:
    recipe = parse_recipe({"format": kind, "samples_per_shard": 4, **size})
    report = project.exporter.export(snapshot, recipe)
    found = read_back(project.store.root / report.prefix, kind)
    ids = project.snapshots.rows(snapshot)["sample_id"].to_pylist()
    assert Counter(i for i, _ in found) == Counter(ids)
    assert (report.samples, report.shards > 1) == (len(ids), True)
    for sample_id, data in found:
        if size["size"] == "bytes":
            assert digest(data) == sample_id
        else:
            width, height = Image.open(io.BytesIO(data)).size
            assert (width % 16, height % 16) == (0, 0)
            assert 0.5 < width / height < 2.0


def test_a_killed_export_is_finished_without_writing_a_shard_twice(
    project: Refinery, snapshot: Snapshot
) -> None:
    recipe = parse_recipe({"format": "webdataset", "size": "bytes", "samples_per_shard": 4})
    whole = project.exporter.export(snapshot, recipe)
    before = shards(project, whole.prefix)
    folder = project.store.root / whole.prefix
    lost = sorted(folder.glob("*.tar"))[0]
    (folder / "index.json").unlink()
    (folder / "records" / f"{lost.name}.json").unlink()
    lost.unlink()
    again = project.exporter.export(snapshot, recipe)
    assert (again.written, again.found) == (1, whole.shards - 1)
    assert shards(project, whole.prefix) == before


def test_after_a_flag_only_the_shards_that_held_the_sample_are_written_again(
    project: Refinery, snapshot: Snapshot
) -> None:
    recipe = parse_recipe({"format": "webdataset", "size": "bytes", "samples_per_shard": 4})
    project.exporter.export(snapshot, recipe)
    chosen = project.snapshots.rows(snapshot)["sample_id"].to_pylist()[0]
    project.flag([chosen], "blocked", Actor(ActorKind.PERSON, "ana"))
    project.replay()
    second, _ = project.freeze("set")
    report = project.exporter.export(second, recipe)
    assert report.written <= 1 + len(project.diff("set@1", "set@2").ids("added"))
    assert report.reused > 0
    assert chosen not in [i for i, _ in read_back(project.store.root / report.prefix, "webdataset")]


def test_verify_names_the_shard_in_which_a_byte_was_flipped(project: Refinery, snapshot: Snapshot) -> None:
    recipe = parse_recipe({"format": "parquet", "size": "bytes"})
    report = project.exporter.export(snapshot, recipe)
    [index] = Exporter(project.store, project.snapshots).exports(snapshot)
    assert list(project.verify("set@1")) == []
    victim = project.store.root / export_prefix(snapshot, recipe) / index["files"][0]["name"]
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    assert [victim.name in finding for finding in project.verify("set@1")] == [True]
    assert report.shards >= 1
