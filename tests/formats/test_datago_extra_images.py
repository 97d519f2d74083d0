"""Pictures that go with a sample's picture (`Recipe.extra_images`) share its bucket."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import datago
from datago import Payload, Recipe, Record, ShardPlan
from tests.formats.shards import labels, opened, png

SIZE = (96, 64)
PLAN = ShardPlan("x.parquet", SIZE, ("a",))


def slope(width: int, height: int) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 255 - x], axis=-1).astype(np.uint8))


def record(depth: bytes) -> Record:
    payloads = [
        Payload("depth", "png", depth),
        Payload("mask", "png", png(labels(300, 200)), True),
        Payload("latent", "bin", b"1234"),
    ]
    return Record("a", png(slope(300, 200)), "png", b"{}", payloads)


def row(folder: Path, depth: bytes, **options: Any) -> dict[str, Any]:
    recipe = Recipe(format="parquet", size="fixed", side=64, encode="png", **options)
    result = datago.write_shard(folder / "x.parquet", PLAN, [record(depth)], recipe)
    assert result.failures == []
    found: dict[str, Any] = pq.read_table(folder / "x.parquet").to_pylist()[0]
    return found


def test_an_extra_image_is_cut_resized_and_encoded_as_the_picture_is(tmp_path: Path) -> None:
    # the same picture at twice the size: what is cut from it is the same
    found = row(tmp_path, png(slope(600, 400)), extra_images=["depth"])
    picture, depth, mask = (opened(found[name]) for name in ("image", "depth", "mask"))
    assert picture.size == depth.size == mask.size == SIZE
    assert np.abs(np.asarray(picture, int) - np.asarray(depth, int)).max() <= 2
    assert found["latent"] == b"1234"
    assert found["depth"] != png(slope(600, 400))


def test_a_payload_that_the_recipe_does_not_name_is_untouched(tmp_path: Path) -> None:
    depth = png(slope(600, 400))
    assert row(tmp_path, depth)["depth"] == depth
    assert row(tmp_path, depth, extra_images=["mask"])["depth"] == depth


def test_an_extra_image_is_turned_upright_by_its_own_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    slope(300, 200).transpose(Image.Transpose.ROTATE_90).save(out, "png", exif=exif.tobytes())
    found = row(tmp_path, out.getvalue(), extra_images=["depth"])
    assert (
        np.abs(np.asarray(opened(found["depth"]), int) - np.asarray(opened(found["image"]), int)).max() <= 2
    )


def test_a_sample_whose_extra_image_is_none_is_left_out_and_the_payload_named(tmp_path: Path) -> None:
    recipe = Recipe(format="parquet", size="fixed", side=64, extra_images=("depth",))
    result = datago.write_shard(tmp_path / "x", PLAN, [record(b"no picture")], recipe)
    [(sample_id, reason, detail)] = result.failures
    assert (sample_id, reason) == ("a", "not_an_image")
    assert detail.startswith("Payload depth: ")


def test_names_of_extra_images_are_a_set_and_part_of_the_digest() -> None:
    assert Recipe(extra_images=("b", "a", "b")) == Recipe.from_dict({"extra_images": ["a", "b"]})
    assert Recipe(extra_images=("a",)).digest != Recipe().digest
    assert Recipe.from_dict(Recipe(extra_images=("a",)).to_dict()) == Recipe(extra_images=("a",))
    for wrong in ("depth", ["a b"], [1]):
        with pytest.raises(datago.ConfigError, match="extra_images"):
            Recipe.from_dict({"extra_images": wrong})
