"""The pixels of shards: upright, aligned with their masks, and close to the best resampling."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import datago
from datago import Payload, Recipe, Record, ShardPlan
from tests.formats.shards import SKIMAGE, labels, opened, png


def test_the_resized_picture_is_close_to_pillows_lanczos(tmp_path: Path) -> None:
    with Image.open(SKIMAGE / "coffee.png") as image:
        source = image.convert("RGB")
    recipe = Recipe(size="fixed", side=160, encode="png", format="parquet")
    record = Record("a", png(source), "png")
    datago.write_shard(tmp_path / "x", ShardPlan("x", (160, 160), ("a",)), [record], recipe)
    found = opened(pq.read_table(tmp_path / "x")["image"][0].as_py())
    w, h = source.size
    box = ((w - h) / 2, 0, (w + h) / 2, h)
    expected = source.resize((160, 160), Image.Resampling.LANCZOS, box=box)
    assert abs(np.asarray(found).astype(int) - np.asarray(expected)).mean() < 0.6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_is_stored_upright_and_its_mask_stays_aligned(
    orientation: int, tmp_path: Path
) -> None:
    upright = labels(1200, 700).point(lambda v: 60 if v == 1 else 200).convert("RGB")
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    stored.save(out, "jpeg", quality=95, exif=exif.tobytes())
    record = Record("a", out.getvalue(), "jpg", b"{}", [Payload("mask", "png", png(labels(1200, 700)), True)])
    recipe = Recipe(size="fixed", side=64, encode="png", format="parquet")
    result = datago.write_shard(tmp_path / "x", ShardPlan("x", (64, 64), ("a",)), [record], recipe)
    assert result.failures == []
    row = pq.read_table(tmp_path / "x").to_pylist()[0]
    light = np.asarray(opened(row["image"]).convert("L")) > 130
    mask = np.asarray(opened(row["mask"])) == 2
    assert (light == mask).mean() > 0.98


@pytest.mark.parametrize("mode", ["1", "P", "I;16", "RGB", "LA"])
def test_a_mask_keeps_its_kind_and_its_labels(mode: str, tmp_path: Path) -> None:
    if mode == "I;16":
        source = Image.fromarray((np.arange(48 * 48, dtype=np.uint16) % 7 * 5000).reshape(48, 48))
    elif mode == "P":
        source = Image.fromarray((np.arange(48 * 48, dtype=np.uint8) % 5).reshape(48, 48)).convert("P")
        source.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9, 77, 77, 77])
    else:
        source = labels(48, 48).point(lambda v: 255 * (v - 1)).convert(mode)
    record = Record(
        "a", png(Image.new("RGB", (48, 48))), "png", b"{}", [Payload("mask", "png", png(source), True)]
    )
    recipe = Recipe(size="fixed", side=24, format="parquet")
    datago.write_shard(tmp_path / "x", ShardPlan("x", (24, 24), ("a",)), [record], recipe)
    mask = opened(pq.read_table(tmp_path / "x")["mask"][0].as_py())
    assert mask.mode == {"1": "L"}.get(mode, mode)
    expected = np.asarray(source)[1::2, 1::2]
    if mode == "1":
        expected = expected.astype(np.uint8) * 255
    np.testing.assert_array_equal(np.asarray(mask), expected)


def test_a_mask_of_other_proportions_is_a_mismatch(tmp_path: Path) -> None:
    record = Record(
        "a", png(Image.new("RGB", (40, 40))), "png", b"{}", [Payload("m", "png", png(labels(40, 30)), True)]
    )
    result = datago.write_shard(
        tmp_path / "x.tar", ShardPlan("x.tar", (16, 16), ("a",)), [record], Recipe(size="fixed", side=16)
    )
    assert [(i, reason) for i, reason, _ in result.failures] == [("a", "mask_mismatch")]


def test_payload_columns_can_be_asked_for_where_no_sample_has_them(tmp_path: Path) -> None:
    record = Record("a", png(Image.new("RGB", (8, 8))), "png")
    plan = ShardPlan("x", None, ("a",))
    datago.write_shard(
        tmp_path / "p", plan, [record], Recipe(format="parquet", size="bytes"), payload_names=["mask"]
    )
    assert pq.read_table(tmp_path / "p")["mask"].to_pylist() == [None]
    mds = datago.write_shard(
        tmp_path / "m", plan, [record], Recipe(format="mds", size="bytes"), payload_names=["mask"]
    )
    assert "mask" in mds.format_meta["column_names"]


def test_a_dct_scaled_decode_stays_close_to_a_full_one(tmp_path: Path) -> None:
    path = SKIMAGE / "retina.jpg"
    recipe = Recipe(size="fixed", side=96, encode="png", format="parquet")
    records = [Record("a", str(path), "jpg")]
    with Image.open(path) as image:
        records.append(Record("b", png(image.convert("RGB")), "png"))
    datago.write_shard(tmp_path / "x", ShardPlan("x", (96, 96), ("a", "b")), records, recipe)
    scaled, full = (
        np.asarray(opened(v)).astype(int) for v in pq.read_table(tmp_path / "x")["image"].to_pylist()
    )
    assert abs(scaled - full).mean() < 1.0
