"""The memory of writing shards is bounded by what is under way, not by how much is written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MIB = 1 << 20
# Prints how much the peak of resident memory rose above what it was before the first shard, in bytes.
WRITE = """
import re, sys
from pathlib import Path
import datago
picture, folder, form, count = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
recipe = datago.Recipe(format=form, side=512)
ids = [f"{n:064x}" for n in range(count)]
plans = datago.plan(ids, [1024] * count, [768] * count, recipe)
before = peak()
for plan in plans:
    records = [datago.Record(i, picture, "jpg", b'{"caption":"a"}') for i in plan.sample_ids]
    path = folder / plan.name
    assert datago.write_shard(path, plan, records, recipe, threads=2).samples == len(records)
    path.unlink()
print(peak() - before)
"""


def rise(folder: Path, form: str, count: int) -> int:
    picture = folder / "picture.jpg"
    if not picture.exists():
        noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
        Image.fromarray(noise).resize((1024, 768), Image.Resampling.BICUBIC).save(picture, quality=90)
    done = subprocess.run(
        [sys.executable, "-c", WRITE, str(picture), str(folder), form, str(count)],
        capture_output=True,
        check=True,
    )
    return int(done.stdout)


# the bounds that docs/datago.md states for two threads and pictures of 1024x768
BOUNDS = {"webdataset": 48 * MIB, "mds": 192 * MIB, "parquet": 96 * MIB}


@pytest.mark.parametrize("form", BOUNDS)
def test_many_shards_take_no_more_memory_than_one(form: str, tmp_path: Path) -> None:
    one, many = rise(tmp_path, form, 700), rise(tmp_path, form, 2100)
    assert many - one < 24 * MIB
    assert many < BOUNDS[form]


@pytest.mark.heavy
@pytest.mark.parametrize("form", BOUNDS)
def test_ten_thousand_pictures_take_no_more_memory_than_a_thousand(form: str, tmp_path: Path) -> None:
    some, all_of_them = rise(tmp_path, form, 1_000), rise(tmp_path, form, 10_000)
    assert all_of_them - some < 24 * MIB
    assert all_of_them < BOUNDS[form]
