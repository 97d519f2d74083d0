"""What a stream may be fed with: untouched and raw exports, and folders of plain pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datago import ConfigError, Recipe
from tests.loader.exports import FORMATS, SIDES, export, picture, recipe_of, record, stream


def test_bytes_are_handed_over_untouched_when_asked_for(tmp_path: Path) -> None:
    for form in FORMATS:
        folder = export(tmp_path / form, 12, recipe_of(form, size="bytes"))
        with pytest.raises(ConfigError, match="decode=False"):
            stream(folder)
        for batch in stream(folder, decode=False, payloads=["latent"]):
            assert batch.images is None
            for sample_id, data in zip(batch.ids, batch.encoded, strict=True):
                assert data == record(int(sample_id[1:])).image
        [shape] = {
            b.images.shape[1:]
            for b in stream(folder, recipe=Recipe(size="fixed", side=24))
            if b.images is not None
        }
        assert shape == (24, 24, 3)


@pytest.mark.parametrize("form", FORMATS)
def test_untouched_pictures_are_dealt_to_buckets_by_their_sizes(tmp_path: Path, form: str) -> None:
    folder = export(tmp_path / "e", 40, recipe_of(form, size="bytes"))
    recipe = Recipe(side=32, patch=8)
    seen = []
    for batch in stream(folder, recipe=recipe):
        assert batch.images is not None
        [ratio] = {SIDES[int(i[1:]) % len(SIDES)] for i in batch.ids}
        assert (batch.images.shape[2] > batch.images.shape[1]) == (ratio[0] > ratio[1])
        for n, sample_id in enumerate(batch.ids):
            assert (batch.images[n] == picture(int(sample_id[1:]))[0, 0]).all()
        seen += batch.ids
    assert sorted(seen) == [f"s{n:05}" for n in range(40)]


@pytest.mark.parametrize("form", FORMATS)
def test_pixels_that_an_export_stores_raw_come_back(form: str, tmp_path: Path) -> None:
    raw, png = (export(tmp_path / how, 20, recipe_of(form, encode=how)) for how in ("raw", "png"))
    for ours, theirs in zip(stream(raw), stream(png), strict=True):
        assert ours.ids == theirs.ids
        assert ours.images is not None
        assert np.array_equal(ours.images, theirs.images)  # type: ignore[arg-type]


def test_a_folder_of_plain_pictures_is_streamed(tmp_path: Path) -> None:
    for n in range(20):
        path = tmp_path / ("a/b" if n % 2 else "c") / f"{n}.any"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(record(n).image)  # type: ignore[arg-type]
    (tmp_path / "c" / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.png").write_bytes(record(1).image)  # type: ignore[arg-type]
    recipe = Recipe(side=32, patch=8)
    seen = []
    for batch in stream(tmp_path, recipe=recipe):
        assert batch.images is not None
        for n, sample_id in enumerate(batch.ids):
            number = int(sample_id.rpartition("/")[2].removesuffix(".any"))
            assert sample_id == f"{'a/b' if number % 2 else 'c'}/{number}.any"
            assert (batch.images[n] == picture(number)[0, 0]).all()
            seen.append(number)
    assert sorted(seen) == list(range(20))
    token = stream(tmp_path, recipe=recipe).token()
    (tmp_path / "c" / "0.any").write_bytes(record(1).image)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="source"):
        stream(tmp_path, recipe=recipe, resume=token)
