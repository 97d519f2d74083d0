"""`datago.inspect` against Pillow, over formats, pixel kinds and orientations."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3
from PIL import Image, ImageOps

import datago

SIDE = 64
SKIMAGE = Path(pytest.importorskip("skimage").__file__).parent / "data"


def photo(mode: str = "RGB", size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """A piece of a real photograph."""
    with Image.open(SKIMAGE / "astronaut.png") as image:
        picture = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    if mode in ("RGBA", "LA"):
        alpha = Image.fromarray(
            np.linspace(0, 255, size[0] * size[1]).astype(np.uint8).reshape(size[1], size[0])
        )
        picture.putalpha(alpha)
    return picture if mode == "RGB" else picture.convert(mode)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def one(data: bytes, **options: Any) -> dict[str, Any]:
    columns = datago.inspect([data], **options).columns
    return {name: column[0] for name, column in columns.items()}


def canonical_digest(image: Image.Image) -> str:
    """The documented pixel digest, computed from Pillow's pixels."""
    rgba = np.asarray(image.convert("RGBA"))
    pixels = rgba if (rgba[..., 3] != 255).any() else rgba[..., :3]
    head = np.array([image.width, image.height, pixels.shape[2]], "<u4").tobytes()
    return blake3(head + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def pixels_of(data: bytes, side: int = SIDE) -> np.ndarray:
    """A picture whose sides equal the tensor's comes through untouched."""
    tensors = datago.inspect([data], tensor_side=side).tensors
    assert tensors is not None
    return tensors[0].astype(int)


LOSSLESS: list[tuple[str, str, Callable[[], bytes]]] = [
    ("png", mode, lambda mode=mode: saved(photo(mode, (61, 43)), "png"))  # type: ignore[misc]
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA")
]
LOSSLESS += [
    ("webp", "RGB", lambda: saved(photo("RGB", (61, 43)), "webp", lossless=True)),
    ("webp", "RGBA", lambda: saved(photo("RGBA", (61, 43)), "webp", lossless=True, exact=True)),
    ("gif", "P", lambda: saved(photo("P", (61, 43)), "gif")),
    ("bmp", "RGB", lambda: saved(photo("RGB", (61, 43)), "bmp")),
    ("bmp", "P", lambda: saved(photo("P", (61, 43)), "bmp")),
    ("bmp", "RGB", lambda: saved(photo("RGBA", (61, 43)), "bmp")),
    ("tiff", "1", lambda: saved(photo("1", (61, 43)), "tiff")),
    ("tiff", "L", lambda: saved(photo("L", (61, 43)), "tiff")),
    ("tiff", "P", lambda: saved(photo("P", (61, 43)), "tiff")),
    ("tiff", "RGB", lambda: saved(photo("RGB", (61, 43)), "tiff", compression="tiff_lzw")),
    ("tiff", "RGB", lambda: saved(photo("RGB", (61, 43)), "tiff", compression="tiff_deflate")),
    ("tiff", "RGBA", lambda: saved(photo("RGBA", (61, 43)), "tiff")),
    ("tiff", "CMYK", lambda: saved(photo("CMYK", (61, 43)), "tiff")),
]


@pytest.mark.parametrize(("kind", "mode", "make"), LOSSLESS, ids=lambda v: v if isinstance(v, str) else "")
def test_a_lossless_picture_has_exactly_the_pixels_that_pillow_sees(
    kind: str, mode: str, make: Callable[[], bytes]
) -> None:
    data = make()
    found = one(data)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert (found["reason"], found["format"], found["mode"]) == (None, kind, mode)
        assert (found["width"], found["height"], found["orientation"]) == (61, 43, 1)
        assert found["digest"] == blake3(data).hexdigest()
        assert found["bytes"] == len(data)
        assert found["has_alpha"] == (mode in ("RGBA", "LA"))
        assert found["pixel_digest"] == canonical_digest(image)


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("L", {}),
        ("RGB", {}),
        ("RGB", {"progressive": True}),
        ("RGB", {"subsampling": "4:4:4"}),
        ("RGB", {"subsampling": "4:2:2"}),
        ("CMYK", {}),
    ],
)
def test_a_jpeg_has_the_pixels_that_pillow_sees_within_rounding(mode: str, options: dict[str, Any]) -> None:
    data = saved(photo(mode), "jpeg", quality=92, **options)
    assert one(data)["mode"] == mode
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.convert("RGB")).astype(int)
    assert abs(pixels_of(data) - expected).max() <= 2


def test_an_adobe_ycck_jpeg_has_the_colours_that_pillow_sees() -> None:
    # A CMYK JPEG whose Adobe marker claims YCCK is decoded as YCCK by everyone.
    data = saved(photo("CMYK"), "jpeg", quality=92)
    at = data.index(b"Adobe") + 11
    data = data[:at] + b"\x02" + data[at + 1 :]
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.convert("RGB")).astype(int)
    assert abs(pixels_of(data) - expected).max() <= 2


def test_a_lossy_webp_has_the_pixels_that_pillow_sees_within_rounding() -> None:
    data = saved(photo(), "webp", quality=80)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.convert("RGB")).astype(int)
    assert abs(pixels_of(data) - expected).max() <= 3


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_sixteen_bit_grey_keeps_the_high_byte(kind: str) -> None:
    values = np.linspace(0, 65535, SIDE * SIDE).astype(np.uint16).reshape(SIDE, SIDE)
    data = saved(Image.fromarray(values), kind)
    assert one(data)["mode"] == "I;16"
    assert (pixels_of(data) == (values >> 8)[..., None]).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "tiff"])
def test_every_exif_orientation_is_turned_upright(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"exif": exif.tobytes()}
    if kind == "tiff":
        options = {"tiffinfo": {0x0112: orientation}}
    if kind == "webp":
        options["lossless"] = True
    data = saved(photo("RGB", (60, 40)), kind, **options)
    found = one(data)
    with Image.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    assert found["orientation"] == orientation
    assert (found["width"], found["height"]) == upright.size
    if kind != "jpeg":
        assert found["pixel_digest"] == canonical_digest(upright)
    with Image.open(io.BytesIO(found["thumbnail"])) as thumbnail:
        assert thumbnail.size == upright.size
        assert (
            abs(np.asarray(thumbnail.convert("L")).astype(int) - np.asarray(upright.convert("L"))).mean() < 6
        )


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_of_an_animation_the_first_frame_is_taken(kind: str) -> None:
    frames = [photo(), Image.new("RGB", (SIDE, SIDE), "red")]
    options = {"lossless": True} if kind == "webp" else {}
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.convert("RGB")).astype(int)
    assert (pixels_of(data) == expected).all()


def test_alpha_is_shown_over_white() -> None:
    clear = saved(Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0)), "png")
    assert (pixels_of(clear) == 255).all()
    assert one(clear)["brightness"] == 1.0
    half = saved(Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 128)), "png")
    assert (pixels_of(half) == 127).all()


def test_a_redundant_alpha_channel_does_not_change_the_pixel_digest() -> None:
    with_alpha, without = one(saved(photo().convert("RGBA"), "png")), one(saved(photo(), "png"))
    assert with_alpha["mode"] == "RGBA"
    assert not with_alpha["has_alpha"]
    assert with_alpha["pixel_digest"] == without["pixel_digest"]
    assert with_alpha["digest"] != without["digest"]


def test_the_figures_are_those_of_the_luma() -> None:
    image = photo("RGB", (200, 120))
    found = one(saved(image, "png"))
    luma = np.asarray(image.convert("L"))
    share = np.bincount(luma.ravel(), minlength=256) / luma.size
    share = share[share > 0]
    assert found["brightness"] == pytest.approx(luma.mean() / 255, abs=1e-9)
    assert found["contrast"] == pytest.approx(luma.std() / 255, abs=1e-9)
    assert found["entropy"] == pytest.approx(-(share * np.log2(share)).sum(), abs=1e-9)


def test_a_flat_picture_has_no_contrast_no_entropy_no_sharpness_and_hash_zero() -> None:
    found = one(saved(Image.new("RGB", (90, 50), (40, 90, 200)), "png"))
    assert (found["contrast"], found["entropy"], found["sharpness"], found["phash"]) == (0, 0, 0, 0)


def test_sharpness_hardly_depends_on_resolution_and_falls_when_blurred() -> None:
    from PIL import ImageFilter

    with Image.open(SKIMAGE / "retina.jpg") as image:
        large = image.convert("RGB")
    small = large.resize((700, 700), Image.Resampling.LANCZOS)
    blurred = large.filter(ImageFilter.GaussianBlur(8))
    sharp, scaled, soft = (
        one(saved(i, "png", compress_level=1))["sharpness"] for i in (large, small, blurred)
    )
    assert scaled == pytest.approx(sharp, rel=0.25)
    assert soft < sharp / 3


def test_the_perceptual_hash_survives_scaling_and_recompression_and_tells_pictures_apart() -> None:
    image = photo("RGB", (512, 384))
    base = one(saved(image, "png"))["phash"]
    smaller = one(saved(image.resize((200, 150), Image.Resampling.LANCZOS), "jpeg", quality=60))["phash"]
    other = one((SKIMAGE / "coffee.png").read_bytes())["phash"]
    assert int(base ^ smaller).bit_count() <= 6
    assert int(base ^ other).bit_count() > 16


@pytest.mark.parametrize("fit", ["crop", "squash"])
def test_the_tensor_is_close_to_pillows_bicubic(fit: Any) -> None:
    image = photo("RGB", (300, 200))
    tensors = datago.inspect([saved(image, "png")], tensor_side=96, tensor_fit=fit).tensors
    assert tensors is not None
    assert (tensors.shape, tensors.dtype) == ((1, 96, 96, 3), np.uint8)
    box = (50, 0, 250, 200) if fit == "crop" else None
    expected = np.asarray(image.resize((96, 96), Image.Resampling.BICUBIC, box=box)).astype(int)
    assert abs(tensors[0] - expected).mean() < 0.5
    assert abs(tensors[0] - expected).max() < 12


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (2, 3), (1025, 7)])
def test_pictures_of_odd_shape_are_measured(size: tuple[int, int]) -> None:
    result = datago.inspect([saved(Image.new("RGB", size, "teal"), "png")], tensor_side=32, thumbnail_side=64)
    assert result.columns["reason"] == [None]
    with Image.open(io.BytesIO(result.columns["thumbnail"][0])) as thumbnail:
        assert max(thumbnail.size) == min(64, max(size))


def test_a_small_picture_is_not_enlarged_for_its_thumbnail() -> None:
    with Image.open(io.BytesIO(one(saved(photo("RGB", (50, 20)), "png"))["thumbnail"])) as thumbnail:
        assert thumbnail.size == (50, 20)
        assert thumbnail.format == "JPEG"


def test_paths_and_bytes_give_the_same_in_the_order_of_the_inputs_whatever_the_threads(
    tmp_path: Path,
) -> None:
    datas = [saved(photo("RGB", (20 + i, 30)), "png") for i in range(24)]
    datas[5] = b"nonsense"
    paths = []
    for i, data in enumerate(datas):
        path = tmp_path / f"{i}.bin"
        path.write_bytes(data)
        paths.append(str(path))
    base = datago.inspect(datas, tensor_side=32, threads=1)
    assert base.columns["width"].tolist() == [0 if i == 5 else 20 + i for i in range(24)]
    assert len(base) == 24
    for inputs, threads in ((paths, 1), (datas, 4), (paths, 4)):
        again = datago.inspect(inputs, tensor_side=32, threads=threads)
        for name, column in base.columns.items():
            np.testing.assert_array_equal(column, again.columns[name], err_msg=name)
        np.testing.assert_array_equal(base.tensors, again.tensors)


def test_no_inputs_give_no_rows() -> None:
    result = datago.inspect([], tensor_side=16)
    assert len(result) == 0
    assert result.tensors is not None
    assert result.tensors.shape == (0, 16, 16, 3)


@pytest.mark.parametrize(
    "options",
    [
        {"thumbnail_side": 0},
        {"tensor_side": -1},
        {"tensor_fit": "stretch"},
        {"max_pixels": 0},
        {"threads": -1},
    ],
)
def test_an_option_out_of_range_is_a_config_error(options: dict[str, Any]) -> None:
    with pytest.raises(datago.ConfigError, match=next(iter(options))):
        datago.inspect([b""], **options)


def test_an_input_of_another_type_is_an_input_error() -> None:
    with pytest.raises(datago.InputError, match="int"):
        datago.inspect([3])  # type: ignore[list-item]
