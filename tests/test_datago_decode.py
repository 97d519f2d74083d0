"""`datago.decode` and `datago.probe` against Pillow."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

import datago
from datago import ConfigError, InputError
from tests.formats.shards import SKIMAGE, png


def jpeg(image: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, "jpeg", **{"quality": 92, **options})
    return out.getvalue()


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    with Image.open(SKIMAGE / "astronaut.png") as image:
        return image.convert("RGB").resize((171, 130))


def test_pictures_are_decoded_at_full_size_each_in_memory_of_its_own(photo: Image.Image) -> None:
    found = datago.decode([png(photo), jpeg(photo), png(photo.convert("L"))])
    assert found.reason == [None] * 3
    exact, lossy, grey = found.images
    assert exact is not None
    assert lossy is not None
    assert grey is not None
    np.testing.assert_array_equal(exact, np.asarray(photo))
    assert abs(lossy.astype(int) - np.asarray(Image.open(io.BytesIO(jpeg(photo))))).max() <= 3
    np.testing.assert_array_equal(grey[..., 0], np.asarray(photo.convert("L")))
    assert {(a.dtype.name, a.flags.writeable, a.flags.c_contiguous) for a in (exact, lossy, grey)} == {
        ("uint8", True, True)
    }
    lossy[:] = 0
    assert exact.any()
    assert grey.any()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_decoded_upright(photo: Image.Image, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = jpeg(photo, exif=exif.tobytes())
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    [found] = datago.decode([data]).images
    assert found is not None
    assert found.shape == expected.shape
    assert abs(found.astype(int) - expected).max() <= 3
    headers = datago.probe([data])
    assert (headers.height[0], headers.width[0], 3) == expected.shape
    assert headers.orientation[0] == orientation


def test_transparent_pixels_are_over_white() -> None:
    image = Image.new("RGBA", (3, 2), (255, 0, 0, 0))
    [found] = datago.decode([png(image)]).images
    assert found is not None
    assert (found == 255).all()


def test_a_size_gives_one_block_that_is_zero_where_a_picture_failed(photo: Image.Image) -> None:
    data = jpeg(photo)
    found = datago.decode([data, data[:900], b"no picture", data], size=(48, 32))
    assert found.images.shape == (4, 32, 48, 3)
    assert found.reason == [None, "truncated", "not_an_image", None]
    assert not found.images[1:3].any()
    assert found.images[0].any()
    np.testing.assert_array_equal(found.images[0], found.images[3])


def test_a_jpeg_of_exactly_the_size_is_decoded_and_not_resampled(photo: Image.Image) -> None:
    data = jpeg(photo)
    [full] = datago.decode([data]).images
    assert full is not None
    np.testing.assert_array_equal(datago.decode([data], size=photo.size).images[0], full)


def test_failures_say_why_and_leave_no_picture(tmp_path: Path, photo: Image.Image) -> None:
    data = png(photo)
    found = datago.decode([b"", data[:-20], str(tmp_path / "missing.png"), data], max_pixels=100)
    assert found.reason == ["empty", "truncated", "unreadable", "too_many_pixels"]
    assert found.retryable.tolist() == [False, False, True, False]
    assert found.images == [None] * 4
    assert all(found.detail)
    assert datago.decode([data], max_bytes=10).reason == ["too_large"]


def test_the_result_does_not_depend_on_the_threads(photo: Image.Image) -> None:
    inputs = [jpeg(photo.resize((200 + 8 * i, 150)), subsampling=i % 3) for i in range(9)]
    one, many = (datago.decode(inputs, size=(64, 48), threads=n).images for n in (1, 4))
    np.testing.assert_array_equal(one, many)


def test_headers_are_told_without_decoding(tmp_path: Path, photo: Image.Image) -> None:
    data = jpeg(photo.resize((900, 700)), quality=98)
    long = tmp_path / "long.jpg"
    long.write_bytes(data)
    assert len(data) > 1 << 16
    # Of a file only the beginning is read; its end is not even there.
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(data[: (1 << 16) + 10])
    found = datago.probe([str(long), str(cut), png(photo.convert("P")), b"GIF89a", str(tmp_path / "no")])
    assert found.reason == [None, None, None, "truncated", "unreadable"]
    assert found.format[:3] == ["jpeg", "jpeg", "png"]
    assert found.width.tolist() == [900, 900, 171, 0, 0]
    assert found.height.tolist() == [700, 700, 130, 0, 0]
    assert found.mode == ["RGB", "RGB", "P", None, None]
    assert found.orientation.tolist() == [1, 1, 1, 0, 0]
    assert len(found) == 5


def test_a_header_longer_than_what_is_read_first_is_found(tmp_path: Path, photo: Image.Image) -> None:
    path = tmp_path / "profile.jpg"
    path.write_bytes(jpeg(photo, icc_profile=bytes(200_000)))
    assert datago.probe([str(path)]).width.tolist() == [171]


def test_no_inputs_give_no_pictures() -> None:
    assert datago.decode([]).images == []
    assert datago.decode([], size=(4, 6)).images.shape == (0, 6, 4, 3)
    assert len(datago.probe([])) == 0


def test_what_is_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="size"):
        datago.decode([], size=(0, 10))
    with pytest.raises(ConfigError, match="threads"):
        datago.decode([], threads=-1)
    with pytest.raises(ConfigError, match="max_bytes"):
        datago.probe([], max_bytes=0)
    with pytest.raises(InputError, match="an input must be"):
        datago.decode([3])  # type: ignore[list-item]
