"""The pixels of shards: upright, aligned with their masks, and close to the best resampling."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps

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


def psnr(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other.astype(float)) ** 2)))


def photograph(size: tuple[int, int]) -> Image.Image:
    with Image.open(SKIMAGE / "coffee.png") as image:
        return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def saved(image: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, "jpeg", **{"quality": 95, **options})
    return out.getvalue()


def reference(data: bytes, target: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """The picture as Pillow decodes it in full, cut, and resized by Lanczos."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.mode == "CMYK":  # Pillow undoes Adobe's inversion itself
        image = image.convert("RGB")
    return np.asarray(ImageOps.fit(image.convert("RGB"), target, Image.Resampling.LANCZOS))


KINDS = ["4:4:4", "4:2:2", "4:2:0", "grey", "progressive", "cmyk"]


def of_kind(kind: str, image: Image.Image, **options: Any) -> bytes:
    if kind in ("grey", "cmyk"):
        return saved(image.convert("L" if kind == "grey" else "CMYK"), **options)
    return saved(
        image,
        progressive=kind == "progressive",
        subsampling="4:2:0" if kind == "progressive" else kind,
        **options,
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("size", "least"), [((600, 400), 43), ((331, 507), 37), ((1201, 801), 43), ((90, 61), 39)]
)
def test_every_kind_of_jpeg_is_close_to_pillows_lanczos(
    kind: str, size: tuple[int, int], least: float
) -> None:
    data = of_kind(kind, photograph(size))
    target = (144, 112)
    found = datago.decode([data], size=target)
    assert found.reason == [None]
    assert psnr(found.images[0], reference(data, target)) > least


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_of_every_kind_is_stored_upright(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = of_kind(kind, photograph((401, 300)), exif=exif.tobytes())
    for target in ((96, 128), (128, 96)):
        assert psnr(datago.decode([data], size=target).images[0], reference(data, target)) > 38


@pytest.mark.parametrize("kind", ["4:4:4", "4:2:2", "4:2:0", "grey"])
@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_a_picture_decoded_at_a_fraction_is_the_whole_one(kind: str, scale: int) -> None:
    """The margin over the target is the least there may be, so the fraction alone has made the picture smaller."""
    target = (96, 80)
    data = of_kind(kind, photograph((target[0] * scale + 4, target[1] * scale + 2)))
    assert psnr(datago.decode([data], size=target).images[0], reference(data, target)) > 33


def test_colour_lies_where_luma_does() -> None:
    """A crop of colour that is off by half of one of its pixels would show as a fringe along the edge."""
    pixels = np.zeros((256, 512, 3), np.uint8)
    pixels[:, :250] = (200, 40, 60)
    pixels[:, 250:] = (40, 120, 200)
    data = saved(Image.fromarray(pixels), quality=98, subsampling="4:2:0")
    for target in ((128, 128), (100, 100), (200, 256)):
        found, expected = datago.decode([data], size=target).images[0], reference(data, target)
        red = [np.argmax(p[target[1] // 2, :, 0] < 120) for p in (found, expected)]
        assert abs(int(red[0]) - int(red[1])) <= 1
        assert psnr(found, expected) > 30


def shard(data: bytes, folder: Path, recipe: Recipe, size: tuple[int, int]) -> dict[str, Any]:
    result = datago.write_shard(
        folder / "x", ShardPlan("x", size, ("a",)), [Record("a", data, "jpg")], recipe
    )
    assert result.failures == []
    [row] = pq.read_table(folder / "x").to_pylist()
    return dict(row)


def layers(data: bytes) -> list[tuple[int, ...]]:
    """The sampling factors of a JPEG's components."""
    return [layer[1:3] for layer in Image.open(io.BytesIO(data)).layer]  # type: ignore[attr-defined]


@pytest.mark.parametrize("source", ["4:4:4", "4:2:0", "grey", "cmyk", "png"])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_a_jpeg_is_written_with_the_recipes_subsampling(
    source: str, subsampling: Any, tmp_path: Path
) -> None:
    picture = photograph((400, 300))
    data = png(picture) if source == "png" else of_kind(source, picture)
    recipe = Recipe(format="parquet", size="fixed", side=128, subsampling=subsampling, quality=95)
    row = shard(data, tmp_path, recipe, (128, 96))
    sparse = (2, 2) if subsampling == "4:2:0" else (1, 1)
    assert layers(row["image"]) == [sparse, (1, 1), (1, 1)]
    assert psnr(np.asarray(opened(row["image"])), reference_of(data, source, (128, 96))) > 30
    # A side that can not be halved keeps all of the colour.
    assert layers(shard(data, tmp_path, recipe, (127, 96))["image"]) == [(1, 1)] * 3


def reference_of(data: bytes, source: str, target: tuple[int, int]) -> npt.NDArray[np.uint8]:
    if source != "png":
        return reference(data, target)
    return np.asarray(ImageOps.fit(Image.open(io.BytesIO(data)), target, Image.Resampling.LANCZOS))


@pytest.mark.parametrize("source", ["4:2:0", "png"])
def test_raw_pixels_are_what_numpy_saves(source: str, tmp_path: Path) -> None:
    picture = photograph((400, 300))
    data = png(picture) if source == "png" else of_kind(source, picture)
    recipe = Recipe(format="parquet", size="fixed", side=64, encode="raw")
    row = shard(data, tmp_path, recipe, (96, 64))
    expected = datago.decode([data], size=(96, 64)).images[0]
    np.testing.assert_array_equal(np.load(io.BytesIO(row["image"])), expected)
    out = io.BytesIO()
    np.save(out, expected)
    assert row["image"] == out.getvalue()
    assert (row["format"], row["width"], row["height"]) == ("npy", 96, 64)
