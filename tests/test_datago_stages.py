"""Where the time of datago's work goes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import datago
from datago import Recipe, Record, ShardPlan, Stages

WORK = ("read", "decode", "resize", "encode", "measure", "write")


@pytest.fixture(scope="module")
def picture() -> bytes:
    noise = np.random.default_rng(5).integers(0, 256, (400, 600, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "jpeg")
    return out.getvalue()


def written(folder: Path, picture: bytes, recipe: Recipe, bucket: tuple[int, int] | None) -> Stages:
    ids = tuple(f"s{i}" for i in range(24))
    plan = ShardPlan("x", bucket, ids)
    records = [Record(i, picture, "jpg") for i in ids]
    return datago.write_shard(folder / "x", plan, records, recipe, threads=2).stages


def test_a_shard_of_resized_pictures_spends_time_in_every_stage_but_measuring(
    picture: bytes, tmp_path: Path
) -> None:
    stages = written(tmp_path, picture, Recipe(size="fixed", side=256), (256, 256))
    assert {name for name, seconds in stages.work.items() if seconds} == set(WORK) - {"measure"}
    assert list(stages.work.values()) == sorted(stages.work.values(), reverse=True)
    # two workers and the one that writes
    assert 0 < sum(stages.work.values()) + stages.blocked <= 3 * stages.wall
    assert stages.bottleneck in ("decode", "resize", "encode")


def test_untouched_bytes_are_neither_decoded_nor_encoded(picture: bytes, tmp_path: Path) -> None:
    stages = written(tmp_path, picture, Recipe(size="bytes"), None)
    assert (stages.decode, stages.resize, stages.encode) == (0, 0, 0)
    assert stages.bottleneck == "write"


def test_an_inspection_measures_and_writes_nothing(picture: bytes) -> None:
    stages = datago.inspect([picture] * 8, tensor_side=64).stages
    assert stages.write == 0
    assert min(stages.decode, stages.resize, stages.measure) > 0


def test_one_writer_that_is_always_busy_holds_up_any_number_of_workers() -> None:
    assert Stages(decode=30, write=9, wall=10).bottleneck == "write"
    assert Stages(decode=30, write=5, wall=10).bottleneck == "decode"
    assert Stages().bottleneck is None


def test_stages_of_several_shards_add_up_and_read_well() -> None:
    both = Stages(decode=1, read=1, wall=2) + Stages(decode=2, wall=2)
    assert both == Stages(decode=3, read=1, wall=4)
    assert str(both) == "decode 75 %, read 25 %"
