"""The figures of `datago.inspect` against their definition in docs/datago.md, written down again in NumPy."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageFilter

import datago

SKIMAGE = Path(pytest.importorskip("skimage").__file__).parent / "data"
Plane = npt.NDArray[np.int64]


def photo(size: tuple[int, int], name: str = "retina.jpg") -> Image.Image:
    with Image.open(SKIMAGE / name) as image:
        return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def saved(image: Image.Image, kind: str = "png", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **({"compress_level": 1} if kind == "png" else {}), **options)
    return out.getvalue()


def one(image: Image.Image, **options: Any) -> dict[str, Any]:
    columns = datago.inspect([saved(image)], **options).columns
    assert columns["reason"] == [None]
    return {name: column[0] for name, column in columns.items()}


def boxes(plane: Plane, factor: int) -> Plane:
    """Means of boxes, halves up; at the edges of what there is."""
    rows, columns = (range(0, side, factor) for side in plane.shape)
    sums = np.add.reduceat(np.add.reduceat(plane, rows, 0), columns, 1)
    ones = np.ones_like(plane)
    areas = np.add.reduceat(np.add.reduceat(ones, rows, 0), columns, 1)
    return (sums + areas // 2) // areas


def reduced(image: Image.Image) -> tuple[int, Plane, Plane]:
    """The factor, the reduced picture (height, width, 3) and its luma."""
    pixels = np.asarray(image).astype(np.int64)
    factor = 1
    while factor < 256 and max(image.size) >= 512 * 2 * factor:
        factor *= 2
    small = np.stack([boxes(pixels[..., channel], factor) for channel in range(3)], axis=2)
    return factor, small, (small @ np.array([19595, 38470, 7471]) + 32768) >> 16


def softened(luma: Plane) -> Plane:
    padded = np.pad(luma, 1, mode="edge")
    down = padded[:-2] + 8 * padded[1:-1] + padded[2:]
    return (down[:, :-2] + 8 * down[:, 1:-1] + down[:, 2:] + 50) // 100


def laplacian_variance(luma: Plane) -> float:
    around = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    return float((around - 4 * luma[1:-1, 1:-1]).var())


@pytest.mark.parametrize(
    ("size", "factor"),
    [((300, 200), 1), ((1023, 767), 1), ((1025, 771), 2), ((601, 2050), 4), ((4100, 7), 8)],
)
def test_figures_are_those_of_the_luma_of_the_reduced_picture(size: tuple[int, int], factor: int) -> None:
    image = photo(size)
    found = one(image)
    used, _, luma = reduced(image)
    assert used == factor
    share = np.bincount(luma.ravel(), minlength=256) / luma.size
    share = share[share > 0]
    assert found["brightness"] == pytest.approx(luma.mean() / 255, abs=1e-9)
    assert found["contrast"] == pytest.approx(luma.std() / 255, abs=1e-9)
    assert found["entropy"] == pytest.approx(-(share * np.log2(share)).sum(), abs=1e-9)


@pytest.mark.parametrize("size", [(1024, 768), (768, 1024), (2048, 1365), (1361, 2048)])
def test_sharpness_where_boxes_lead_to_its_scale_is_that_of_the_softened_means(size: tuple[int, int]) -> None:
    _, _, luma = reduced(photo(size))
    factor = max(size) // 512
    width, height = (max(1, int(side / factor + 0.5)) for side in size)
    expected = laplacian_variance(softened(luma)[:height, :width])
    assert one(photo(size))["sharpness"] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("size", [(800, 600), (1000, 700), (512, 384)])
def test_sharpness_elsewhere_is_near_that_of_pillows_triangle(size: tuple[int, int]) -> None:
    _, _, luma = reduced(photo(size))
    target = (512, round(512 * size[1] / size[0]))
    scaled = Image.fromarray(luma.astype(np.uint8)).resize(target, Image.Resampling.BILINEAR)
    expected = laplacian_variance(np.asarray(scaled).astype(np.int64))
    assert one(photo(size))["sharpness"] == pytest.approx(expected, rel=0.05, abs=1)


def test_sharpness_is_alike_at_all_sizes() -> None:
    rng = np.random.default_rng(0)
    side = 2200
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None])
    frequency[0, 0] = 1
    noise = np.fft.ifft2(np.fft.fft2(rng.standard_normal((side, side))) / frequency).real
    values = np.clip(128 + 45 * noise / noise.std(), 0, 255).astype(np.uint8)
    natural = Image.fromarray(values).convert("RGB")
    found = [
        one(natural.resize((width, width * 3 // 4), Image.Resampling.LANCZOS))["sharpness"]
        for width in (640, 800, 1000, 1023, 1024, 1030, 1280, 1536, 1800, 2047, 2048, 2060)
    ]
    middle = (max(found) + min(found)) / 2
    assert max(found) / middle < 1.2, found
    blurred = one(natural.filter(ImageFilter.GaussianBlur(8)))["sharpness"]
    assert blurred < middle / 10


@pytest.mark.parametrize("size", [(1024, 768), (2048, 2048)])
def test_a_thumbnail_that_boxes_lead_to_is_their_means(size: tuple[int, int]) -> None:
    image = photo(size)
    found = one(image, thumbnail_side=256)["thumbnail"]
    pixels = np.asarray(image).astype(np.int64)
    factor = max(size) // 256
    expected = np.stack([boxes(pixels[..., channel], factor) for channel in range(3)], axis=2)
    with Image.open(io.BytesIO(found)) as thumbnail:
        assert thumbnail.size == (size[0] // factor, size[1] // factor)
        assert abs(np.asarray(thumbnail).astype(int) - expected).mean() < 3


@pytest.mark.parametrize("side", [300, 700])
def test_a_thumbnail_of_any_size_shows_the_picture(side: int) -> None:
    image = photo((1300, 1000), "astronaut.png")
    with Image.open(io.BytesIO(one(image, thumbnail_side=side)["thumbnail"])) as thumbnail:
        assert thumbnail.size == (side, round(side * 1000 / 1300))
        expected = np.asarray(image.resize(thumbnail.size, Image.Resampling.BOX)).astype(int)
        assert abs(np.asarray(thumbnail).astype(int) - expected).mean() < 5


def decibels(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    return float(10 * np.log10(255**2 / ((a.astype(float) - b.astype(float)) ** 2).mean()))


@pytest.mark.parametrize("fit", ["crop", "squash"])
@pytest.mark.parametrize(
    ("size", "side"),
    [((1024, 768), 224), ((768, 1024), 224), ((2048, 1536), 224), ((2048, 1152), 224), ((1500, 1100), 32)],
)
@pytest.mark.parametrize("name", ["astronaut.png", "coffee.png"])
def test_the_tensor_is_within_40_decibels_of_pillows_bicubic_of_the_full_picture(
    name: str, size: tuple[int, int], side: int, fit: Any
) -> None:
    # a mosaic keeps the sharpness that enlarging would take
    with Image.open(SKIMAGE / name) as source:
        tile = np.asarray(source.convert("RGB"))
    down, across = (-(-side // length) for side, length in zip(size[::-1], tile.shape, strict=False))
    image = Image.fromarray(np.tile(tile, (down, across, 1))[: size[1], : size[0]])
    tensors = datago.inspect([saved(image)], tensor_side=side, tensor_fit=fit).tensors
    assert tensors is not None
    short = min(size)
    left, top = ((length - short) / 2 for length in size)
    box = (left, top, left + short, top + short) if fit == "crop" else None
    expected = np.asarray(image.resize((side, side), Image.Resampling.BICUBIC, box=box))
    assert decibels(tensors[0], expected) >= 40


def test_alpha_is_over_white_in_a_reduced_picture_too() -> None:
    image = photo((1400, 1000), "astronaut.png")
    alpha = Image.fromarray(np.linspace(0, 255, 1400 * 1000).astype(np.uint8).reshape(1000, 1400))
    clear = image.copy()
    clear.putalpha(alpha)
    over = Image.alpha_composite(Image.new("RGBA", image.size, "white"), clear).convert("RGB")
    found, expected = one(clear, tensor_side=224), one(over, tensor_side=224)
    assert found["has_alpha"]
    assert not expected["has_alpha"]
    for figure in ("brightness", "contrast", "entropy"):
        assert found[figure] == pytest.approx(expected[figure], abs=0.005)
    assert found["sharpness"] == pytest.approx(expected["sharpness"], rel=0.02)
    assert int(found["phash"] ^ expected["phash"]).bit_count() <= 2


@pytest.mark.parametrize(
    "size", [(65000, 20), (20, 65000), (1, 3000), (3000, 1), (513, 511), (1024, 1), (300_000, 2)]
)
@pytest.mark.parametrize("fit", ["crop", "squash"])
def test_long_pictures_and_tiny_ones_are_measured(size: tuple[int, int], fit: Any) -> None:
    image = Image.new("RGB", size, (10, 200, 30))
    result = datago.inspect([saved(image)], tensor_side=48, tensor_fit=fit, thumbnail_side=128)
    assert result.columns["reason"] == [None]
    assert result.tensors is not None
    assert abs(result.tensors[0].astype(int) - [10, 200, 30]).max() <= 1
    assert result.columns["sharpness"][0] == result.columns["contrast"][0] == 0
    with Image.open(io.BytesIO(result.columns["thumbnail"][0])) as thumbnail:
        assert max(thumbnail.size) == min(128, max(size))
