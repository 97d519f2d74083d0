"""An export's bytes are a function of the snapshot and the recipe: not of workers, machine, clock, locale or interruptions."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import datago
from datago import Record
from refinery.digests import digest_file
from refinery.project import Refinery
from tests.formats.shards import exported

RECIPES: list[dict[str, Any]] = [
    {"format": form, "samples_per_shard": 4, **treatment}
    for form in ("webdataset", "mds", "parquet")
    for treatment in (
        {"size": "bytes"},
        {"size": "bucket", "side": 96},
        {"size": "bucket", "side": 96, "encode": "webp"},
        {"size": "fixed", "side": 64, "encode": "png"},
    )
]
# Exports by every recipe; from the n-th write of a record on, the process is no more.
EXPORT = """
import json, os, signal, sys
from pathlib import Path
from refinery.export import parse_recipe
from refinery.project import Refinery
folder, recipes, workers, last = json.loads(sys.argv[1])
project = Refinery.open(Path(folder))
put, written = project.store.put_if_absent, 0
def counted(key, data):
    global written
    written += "/records/" in key
    if last and written == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return put(key, data)
object.__setattr__(project.exporter._store, "put_if_absent", counted)
for recipe in recipes:
    project.exporter.export(project.snapshots.get("set@1"), parse_recipe(recipe), workers=workers)
"""


def export(folder: Path, workers: int, *, last: int = 0, **env: str) -> int:
    argument = json.dumps([str(folder), RECIPES, workers, last])
    umask = 0o077 if env else -1
    done = subprocess.run(
        [sys.executable, "-c", EXPORT, argument], env=os.environ | env, capture_output=True, umask=umask
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
    return done.returncode


def written(folder: Path) -> dict[str, str]:
    """The digest of every file below the exports, records and indexes included."""
    root = folder / "store" / "exports"
    found = {str(p.relative_to(root)): digest_file(p) for p in sorted(root.rglob("*")) if p.is_file()}
    shutil.rmtree(root)
    return found


@pytest.fixture
def folder(refined: Path) -> Path:
    Refinery.open(refined).freeze("set")
    return refined


def test_workers_locale_time_zone_and_kills_leave_no_trace_in_an_export(folder: Path) -> None:
    assert export(folder, 1) == 0
    alone = written(folder)
    assert len({name.rsplit(".")[-1] for name in alone}) == 4  # tar, mds, parquet, json
    assert sum(name.endswith("index.json") for name in alone) == len(RECIPES)

    assert export(folder, 2, TZ="Asia/Kathmandu", LC_ALL="tr_TR.UTF-8", PYTHONHASHSEED="1") == 0
    assert written(folder) == alone
    assert export(folder, 8, TZ="America/Lima", LC_ALL="C", LANG="", PYTHONHASHSEED="2") == 0
    assert written(folder) == alone

    kills = 0
    for last in random.Random(6).choices(range(1, 12), k=6):
        kills += export(folder, 2, last=last) != 0
    assert kills == 6
    assert export(folder, 2) == 0
    assert written(folder) == alone


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_samples_in_any_order_give_the_same_shards(
    threads: int, records: dict[str, Record], tmp_path: Path
) -> None:
    mixed = list(records.items())
    random.Random(threads).shuffle(mixed)
    assert [i for i, _ in mixed] != list(records)
    for recipe in RECIPES:
        made = [
            [
                (result.name, result.digest, result.format_meta)
                for _, result, _ in exported(
                    tmp_path / name, some, datago.Recipe.from_dict(recipe), threads=count
                )
            ]
            for name, some, count in (("a", records, 1), ("b", dict(mixed), threads))
        ]
        assert made[0] == made[1]
