"""Payloads of a stream from where samples lie are those of an export of the same samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import datago
from datago import Payload, Pictures, Recipe, Record
from tests.formats.shards import labels, opened, png
from tests.loader.exports import write_export

NAMES = ["depth", "latent", "mask"]


def slope(width: int, height: int, shift: int) -> bytes:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return png(Image.fromarray(np.stack([x, y, 0 * x + 10 * shift], axis=-1).astype(np.uint8)))


def record(number: int) -> Record:
    """Every third sample lacks its depth; a mask may be larger than its picture."""
    width, height = [(90, 60), (60, 90), (80, 80)][number % 3]
    payloads = [
        Payload("mask", "png", png(labels(2 * width, 2 * height)), True),
        Payload("latent", "bin", b"latent %d" % number),
    ]
    if number % 3:
        payloads.append(Payload("depth", "png", slope(3 * width, 3 * height, number)))
    return Record(f"s{number:02}", slope(width, height, number), "png", b"{}", payloads)


def pictures(records: list[Record]) -> Pictures:
    found = {r.sample_id: r for r in records}
    sizes = datago.inspect([r.image for r in records]).columns
    return Pictures(list(found), sizes["width"], sizes["height"], found.__getitem__)


@pytest.mark.parametrize(
    "how", [{"encode": "png"}, {"encode": "jpeg", "subsampling": "4:2:0"}, {"encode": "raw"}]
)
@pytest.mark.parametrize("form", ["webdataset", "mds", "parquet"])
def test_masks_and_extra_images_come_fitted_as_in_an_export(
    form: Any, how: dict[str, Any], tmp_path: Path
) -> None:
    recipe = Recipe(format=form, side=32, patch=8, samples_per_shard=5, extra_images=("depth",), **how)
    records = [record(n) for n in range(15)]
    folder = write_export(tmp_path / "e", records, recipe, NAMES)
    options: dict[str, Any] = {"batch_size": 4, "payloads": NAMES, "shuffle_shards": 2}
    pairs = zip(
        datago.stream(pictures(records), recipe=recipe, **options),
        datago.stream(folder, **options),
        strict=True,
    )
    for ours, theirs in pairs:
        assert (ours.ids, ours.payloads) == (theirs.ids, theirs.payloads)
        assert ours.images is not None
        for mask, latent in zip(ours.payloads["mask"], ours.payloads["latent"], strict=True):
            assert mask is not None
            assert opened(mask).size == ours.images.shape[2:0:-1]
            assert set(np.unique(np.asarray(opened(mask)))) == {1, 2}
            assert latent is not None
            assert latent.startswith(b"latent ")


def test_payloads_that_can_not_be_fitted_are_named_in_the_samples_failure() -> None:
    good = record(1)
    wrong = Record("wrong", good.image, "png", b"{}", [Payload("depth", "png", b"no picture")])
    skewed = Record("skewed", good.image, "png", b"{}", [Payload("mask", "png", png(labels(9, 90)), True)])
    recipe = Recipe(size="fixed", side=32, extra_images=("depth",))
    source = pictures([good, wrong, skewed])
    [batch] = datago.stream(source, batch_size=3, recipe=recipe, payloads=NAMES)
    assert batch.ids == ["s01"]
    told = {i: (reason, detail) for i, reason, detail in batch.failures}
    assert {i: reason for i, (reason, _) in told.items()} == {
        "wrong": "not_an_image",
        "skewed": "mask_mismatch",
    }
    assert told["wrong"][1].startswith("Payload depth: ")
    assert told["skewed"][1].startswith("Payload mask: ")


def test_payloads_of_untouched_pictures_are_untouched() -> None:
    records = [record(n) for n in range(6)]
    found = {r.sample_id: {p.name: p.data for p in r.payloads} for r in records}
    recipe = Recipe(size="bytes", extra_images=("depth",))
    for batch in datago.stream(pictures(records), batch_size=4, recipe=recipe, decode=False, payloads=NAMES):
        for name in NAMES:
            assert batch.payloads[name] == [found[i].get(name) for i in batch.ids]
