"""The loader's role: small pictures reach the training loop in batches."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import datago
from benchmarks._photographs import small
from benchmarks._race import System
from benchmarks._roles import Bench, table, threads_in_words
from benchmarks._table import Row
from datago import Recipe, Record

SIDE, BATCH = 64, 256
GOAL = 20_000
"""Pictures a second, with two cores."""
_PEERS = "_peer_loaders.py"


def handover(bench: Bench) -> list[Row]:
    """Exports of 64×64 pictures, as JPEG and as raw pixels, read in batches of 256; theirs in order, ours shuffled."""
    return [*_jpeg(bench), *_raw(bench)]


def _jpeg(bench: Bench) -> list[Row]:
    systems = [
        System("refinery", "_ours.py", "stream", note="WebDataset, shuffled"),
        System("datago (PyPI)", _PEERS, "photoroom", True, "files, stacked"),
        System("webdataset", _PEERS, "webdataset", note="WebDataset"),
        System("mosaicml StreamingDataset", _PEERS, "mosaicml", note="MDS"),
        System("torch DataLoader + Pillow", _PEERS, "torch_files", note="files"),
        System("limit: memcpy", _PEERS, "memory", note="pixels in memory"),
    ]
    tars, mds = _export(bench, "webdataset", "jpeg"), _export(bench, "mds", "jpeg")
    return _race(bench, systems, "JPEG", tars, mds)


def _raw(bench: Bench) -> list[Row]:
    systems = [
        System("refinery", "_ours.py", "stream", note="WebDataset, shuffled"),
        System("webdataset", _PEERS, "webdataset", note="WebDataset", options={"key": "npy"}),
        System("mosaicml StreamingDataset", _PEERS, "mosaicml", note="MDS"),
        System("limit: memcpy", _PEERS, "memory", note="pixels in memory"),
    ]
    tars, mds = _export(bench, "webdataset", "raw"), _export(bench, "mds", "raw")
    return _race(bench, systems, "raw", tars, mds)


def _race(bench: Bench, systems: list[System], kind: str, tars: Path, mds: Path) -> list[Row]:
    root = _files(tars) if kind == "JPEG" else tars
    paths = sorted(str(path) for path in root.glob("*.jpg"))
    job: dict[str, Any] = {
        "export": str(tars),
        "tars": sorted(str(path) for path in tars.glob("*.tar")),
        "mds": str(mds),
        "root": str(root),
        "paths": paths,
        "count": _count(bench),
        "side": SIDE,
        "batch": BATCH,
        "held": BATCH,
        "target": None,
    }
    rows = []
    for threads in bench.threads:
        work = f"{kind} {SIDE}×{SIDE} handed over in batches, {threads_in_words(threads)}"
        results = bench.race(systems, job, threads)
        rows += table(work, "images/s", systems, results, threads == 1)
        ours = results[0].rate
        if threads == 2 and ours:
            rows.append(Row(work, f"goal: {GOAL:,}", ours, "images/s", ours / GOAL, 1, ours >= GOAL))
    return rows


def _count(bench: Bench) -> int:
    return 4096 if bench.quick else 16_384


def _export(bench: Bench, form: str, encode: str) -> Path:
    """A folder of four or more shards with their index, as `refinery` lays one out."""
    folder = bench.folder / f"{form}-{encode}"
    folder.mkdir()
    source = bench.folder / "small"
    paths = sorted(map(str, source.glob("*"))) if source.exists() else small(source, SIDE, _count(bench))
    recipe = Recipe.from_dict(
        {"format": form, "encode": encode, "size": "fixed", "side": SIDE, "samples_per_shard": 1024}
    )
    records = {Path(path).stem: Record(Path(path).stem, path, "jpg") for path in paths}
    sides, files, entries = [SIDE] * len(records), [], []
    for plan in datago.plan(list(records), sides, sides, recipe):
        made = datago.write_shard(folder / plan.name, plan, [records[i] for i in plan.sample_ids], recipe)
        files.append(
            {
                "name": made.name,
                "bytes": made.bytes,
                "digest": made.digest,
                "samples": made.samples,
                "bucket": plan.bucket,
            }
        )
        entries.append(made.format_meta)
    index = {
        "format": "refinery.export/1",
        "recipe": recipe.to_dict(),
        "recipe_digest": recipe.digest,
        "samples": len(records),
        "files": files,
        **({"version": 2, "shards": entries} if form == "mds" else {}),
    }
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def _files(tars: Path) -> Path:
    """The same JPEGs as files."""
    folder = tars.with_name("small-files")
    folder.mkdir()
    for path in tars.glob("*.tar"):
        with tarfile.open(path) as tar:
            tar.extractall(folder, [m for m in tar if m.name.endswith(".jpg")], filter="data")
    return folder
