"""Pixels against Pillow's: every kind of picture, turned every way.

Equal where decoding is exact. JPEG and lossy WebP leave the last bit of the transform, and how chroma is enlarged, to the decoder.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
from blake3 import blake3
from PIL import Image, ImageOps

import datago
from datago import Recipe, Record, ShardPlan
from tests.hardening.build import SIGNATURE, chunk, riff
from tests.hardening.seeds import saved, seeds
from tests.hardening.test_malformed import UNREAD

Pixels = npt.NDArray[np.uint8]
ORIENTATIONS = range(1, 9)
# Pillow reads nothing of these, or reads them otherwise than the format says
ELSEWHERE = {
    "tiff: tiles larger than the picture": "Pillow refuses it",
    "gif: a frame smaller than the canvas": "Pillow fills the canvas with a colour, browsers and datago leave it clear",
}


def exif(orientation: int) -> bytes:
    return b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + struct.pack("<HHI", orientation, 0, 0)


def turned(data: bytes, orientation: int) -> bytes:
    """The same picture, said to be turned."""
    block = exif(orientation)
    if data.startswith(SIGNATURE):
        return data[:33] + chunk(b"eXIf", block) + data[33:]
    if data.startswith(b"\xff\xd8"):
        body = b"Exif\0\0" + block
        return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
    with Image.open(io.BytesIO(data)) as image:
        flags = 0x08 | (0x10 if image.mode == "RGBA" else 0)
        sides = struct.pack("<I", image.width - 1)[:3] + struct.pack("<I", image.height - 1)[:3]
    length = struct.unpack_from("<I", data, 16)[0]
    return riff(
        (b"VP8X", bytes([flags, 0, 0, 0]) + sides), (data[12:16], data[20 : 20 + length]), (b"EXIF", block)
    )


def expected(data: bytes) -> Pixels:
    """The first frame, upright; four channels only if some pixel is not opaque."""
    with Image.open(io.BytesIO(data)) as opened:
        opened.load()
        image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    alpha = image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info
    found = np.asarray(image.convert("RGBA" if alpha else "RGB"))
    return found[..., :3] if alpha and (found[..., 3] == 255).all() else found


def digest(pixels: Pixels) -> str:
    height, width, channels = pixels.shape
    return blake3(struct.pack("<III", width, height, channels) + pixels.tobytes()).hexdigest()


def exact(name: str) -> bool:
    return (
        not name.startswith(("jpeg", "webp: lossy", "webp: animated lossy", "webp: oriented"))
        and "jpeg" not in name
    )


EXACT = [name for name in seeds() if exact(name) and name not in {*UNREAD, *ELSEWHERE}]
CLOSE = [name for name in seeds() if not exact(name) and name not in UNREAD]
TURNED = [
    n
    for n in EXACT
    if n.startswith(("png", "webp: lossless")) and "oriented" not in n and "animated" not in n
]
TURNED_CLOSE = [n for n in CLOSE if n.startswith("jpeg") and "oriented" not in n]


@pytest.mark.parametrize("name", EXACT)
def test_pixels_are_those_of_pillow(name: str) -> None:
    found = datago.inspect([seeds()[name]]).columns
    assert found["reason"] == [None]
    assert found["pixel_digest"][0] == digest(expected(seeds()[name]))


@pytest.mark.parametrize("name", TURNED)
def test_turned_pictures_are_upright_as_with_pillow(name: str) -> None:
    datas = [turned(seeds()[name], orientation) for orientation in ORIENTATIONS]
    found = datago.inspect(datas).columns
    assert list(found["orientation"]) == list(ORIENTATIONS)
    assert found["pixel_digest"] == [digest(expected(data)) for data in datas]


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK", "I;16", "P", "1"])
def test_turned_tiffs_are_upright_as_with_pillow(mode: str) -> None:
    datas = [saved("tiff", mode, tiffinfo={274: orientation}) for orientation in ORIENTATIONS]
    found = datago.inspect(datas).columns
    assert found["pixel_digest"] == [digest(expected(data)) for data in datas]


def stored(datas: list[bytes], size: tuple[int, int], folder: Path) -> list[Pixels]:
    """Pixels as a shard has them, over white."""
    records = [Record(str(n), data, "jpg") for n, data in enumerate(datas)]
    plan = ShardPlan("x", size, tuple(r.sample_id for r in records))
    recipe = Recipe(size="fixed", side=16, encode="png", format="parquet")
    assert datago.write_shard(folder / "x", plan, records, recipe).failures == []
    return [np.asarray(Image.open(io.BytesIO(v))) for v in pq.read_table(folder / "x")["image"].to_pylist()]


def over_white(pixels: Pixels) -> npt.NDArray[np.int16]:
    colours = pixels[..., :3].astype(np.int16)
    if pixels.shape[2] == 3:
        return colours
    alpha = pixels[..., 3:].astype(np.int32)
    return ((colours * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.int16)


@pytest.mark.parametrize("name", CLOSE)
def test_lossy_pixels_are_within_two_of_pillow(name: str, tmp_path: Path) -> None:
    wanted = expected(seeds()[name])
    (found,) = stored([seeds()[name]], (wanted.shape[1], wanted.shape[0]), tmp_path)
    assert np.abs(found.astype(np.int16) - over_white(wanted)).max() <= 2


@pytest.mark.parametrize("name", TURNED_CLOSE)
@pytest.mark.parametrize("sides", [(1, 2, 3, 4), (5, 6, 7, 8)])
def test_turned_jpegs_are_upright_as_with_pillow(name: str, sides: tuple[int, ...], tmp_path: Path) -> None:
    datas = [turned(seeds()[name], orientation) for orientation in sides]
    wanted = [expected(data) for data in datas]
    for found, one in zip(stored(datas, wanted[0].shape[1::-1], tmp_path), wanted, strict=True):
        assert np.abs(found.astype(np.int16) - over_white(one)).max() <= 2


def test_the_matrix_is_large() -> None:
    turns = 8 * (len(TURNED) + len(TURNED_CLOSE) + 7)
    assert len(EXACT) + len(CLOSE) >= 100
    assert len(EXACT) + len(CLOSE) + turns >= 150
