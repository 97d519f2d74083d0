"""Whatever the bytes, `datago.inspect` gives a verdict."""

from __future__ import annotations

import io
import os
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3
from PIL import Image

import datago
from tests.hardening.conftest import OF_THE_BYTES

REASONS = {*OF_THE_BYTES, "unreadable"}
SKIMAGE = Path(pytest.importorskip("skimage").__file__).parent / "data"


def saved(kind: str, size: tuple[int, int] = (96, 64), mode: str = "RGB", **options: Any) -> bytes:
    with Image.open(SKIMAGE / "coffee.png") as image:
        picture = image.convert("RGB").resize(size).convert(mode)
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def one(data: bytes | str, **options: Any) -> dict[str, Any]:
    return {name: column[0] for name, column in datago.inspect([data], **options).columns.items()}


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with(width: int, height: int) -> bytes:
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + head + png_chunk(b"IDAT", zlib.compress(b"\0" * 100)) + png_chunk(b"IEND", b"")
    )


KINDS: dict[str, bytes] = {
    "jpeg": saved("jpeg"),
    "progressive jpeg": saved("jpeg", progressive=True),
    "cmyk jpeg": saved("jpeg", mode="CMYK"),
    "png": saved("png"),
    "interlaced-free palette png": saved("png", mode="P"),
    "lossy webp": saved("webp"),
    "lossless webp": saved("webp", lossless=True),
    "gif": saved("gif", mode="P"),
    "bmp": saved("bmp"),
    "tiff": saved("tiff", compression="tiff_lzw"),
    "raw tiff": saved("tiff"),
}


@pytest.mark.parametrize("share", [0.5, 0.75, 0.98])
@pytest.mark.parametrize("kind", [k for k in KINDS if "tiff" not in k])
def test_a_file_cut_in_the_middle_is_reported_as_truncated(kind: str, share: float) -> None:
    data = KINDS[kind]
    cut = data[: int(len(data) * share)]
    found = one(cut)
    assert found["reason"] == "truncated", found["detail"]
    assert found["digest"] == blake3(cut).hexdigest()
    assert found["thumbnail"] is None


@pytest.mark.parametrize("kind", ["tiff", "raw tiff"])
def test_a_tiff_cut_in_the_middle_is_not_half_a_picture(kind: str) -> None:
    data = KINDS[kind]
    assert one(data[: len(data) // 2])["reason"] in ("truncated", "corrupt")


def test_a_truncated_jpeg_is_reported_as_truncated_wherever_it_is_cut() -> None:
    data = KINDS["jpeg"]
    cuts = [data[:n] for n in range(2, len(data) - 2, max(1, len(data) // 120))]
    assert set(datago.inspect(cuts).columns["reason"]) == {"truncated"}


def test_a_truncated_png_is_reported_as_truncated_wherever_it_is_cut() -> None:
    data = KINDS["png"]
    cuts = [data[:n] for n in range(2, len(data) - 1, max(1, len(data) // 120))]
    assert set(datago.inspect(cuts).columns["reason"]) == {"truncated"}


def test_a_jpeg_with_a_hole_in_its_data_is_corrupt_not_a_grey_half() -> None:
    data = bytearray(KINDS["jpeg"])
    start = data.index(b"\xff\xda") + 40
    data[start : start + 200] = b"\xff\x00" * 100
    assert one(bytes(data))["reason"] == "corrupt"


def test_stray_bytes_before_the_end_marker_of_a_jpeg_are_harmless() -> None:
    data = KINDS["jpeg"]
    padded = data[:-2] + b"\0" * 16 + data[-2:]
    assert one(padded)["reason"] is None
    assert one(padded)["pixel_digest"] == one(data)["pixel_digest"]
    assert one(data + b"trailing")["reason"] is None


def test_a_flipped_bit_in_a_png_is_corrupt() -> None:
    data = bytearray(KINDS["png"])
    data[data.index(b"IDAT") + 40] ^= 0x10
    assert one(bytes(data))["reason"] == "corrupt"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello, this is a text", "not_an_image"),
        (b"<!doctype html><html></html>", "not_an_image"),
        (b"%PDF-1.7 " + b"x" * 50, "not_an_image"),
        (b"\0" * 4096, "not_an_image"),
        (b"BM is how this text begins, but it is none", "not_an_image"),
        (b"\0\0\0\x1cftypavif" + b"\0" * 40, "unsupported_format"),
        (b"\0\0\0\x1cftypheic" + b"\0" * 40, "unsupported_format"),
        (b"\xff\x0a" + b"\0" * 40, "unsupported_format"),
        (b"8BPS\0\x01" + b"\0" * 40, "unsupported_format"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (b"\xff\xd8", "truncated"),
        (b"GIF8", "truncated"),
        (b"RIFF\x10\0\0\0", "truncated"),
        (b"II*\0\x08\0\0\0", "truncated"),
    ],
)
def test_bytes_that_are_no_usable_picture_have_the_reason(data: bytes, reason: str) -> None:
    found = one(data)
    assert found["reason"] == reason, found["detail"]
    assert found["detail"]
    assert found["digest"] == blake3(data).hexdigest()
    assert not found["retryable"]
    assert np.isnan(found["brightness"])


def test_a_file_over_the_cap_is_too_large_and_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.png"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    found = one(str(path))
    assert (found["reason"], found["digest"], found["bytes"]) == ("too_large", None, -1)
    assert one(KINDS["png"], max_bytes=100)["reason"] == "too_large"


def test_a_header_that_claims_too_many_pixels_is_refused_before_allocation() -> None:
    bombs = {
        "png": png_with(60_000, 60_000),
        "png to the limit": png_with(2**31 - 1, 2**31 - 1),
        "gif": b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + KINDS["gif"][10:],
        "bmp": KINDS["bmp"][:18]
        + struct.pack("<ii", 100_000, 100_000)
        + KINDS["bmp"][26:30]
        + b"\x01"
        + KINDS["bmp"][31:],
    }
    start = KINDS["jpeg"].index(b"\xff\xc0") + 5
    bombs["jpeg"] = KINDS["jpeg"][:start] + b"\xff\xff\xff\xff" + KINDS["jpeg"][start + 4 :]
    found = datago.inspect(list(bombs.values())).columns
    assert dict(zip(bombs, found["reason"], strict=True)) == dict.fromkeys(bombs, "too_many_pixels")
    assert found["width"][0] == 60_000
    small = datago.inspect(list(KINDS.values()), max_pixels=96 * 64 - 1).columns
    assert set(small["reason"]) == {"too_many_pixels"}
    assert set(datago.inspect(list(KINDS.values()), max_pixels=96 * 64).columns["reason"]) == {None}


def test_a_webp_frame_larger_than_its_canvas_is_refused() -> None:
    data = bytearray(saved("webp", mode="RGB", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"))
    at = data.index(b"VP8 ") + 8 + 6
    data[at : at + 4] = struct.pack("<HH", 16_383, 16_383)
    assert one(bytes(data))["reason"] in ("corrupt", "truncated")


def test_a_palette_png_whose_zlib_stream_is_endless_is_bounded() -> None:
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    bomb = png_chunk(b"IDAT", zlib.compress(b"\0" * 50_000_000, 9))
    data = b"\x89PNG\r\n\x1a\n" + head + bomb + png_chunk(b"IEND", b"")
    assert one(data)["reason"] in (None, "corrupt")


def test_a_progressive_jpeg_with_endless_scans_is_refused() -> None:
    data = KINDS["progressive jpeg"]
    start, end = data.rindex(b"\xff\xda"), len(data) - 2
    assert one(data[:end] + data[start:end] * 2000 + data[end:])["reason"] == "too_costly"


@pytest.mark.parametrize("name", ["missing.png", "."])
def test_what_can_not_be_read_is_retryable(name: str, tmp_path: Path) -> None:
    found = one(str(tmp_path / name))
    assert (found["reason"], found["retryable"], found["digest"]) == ("unreadable", True, None)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert one(str(tmp_path / "pipe.png"))["reason"] == "unreadable"


def test_one_bad_picture_does_not_disturb_its_neighbours() -> None:
    good = KINDS["png"]
    result = datago.inspect([good, b"", good[:50], good], tensor_side=16)
    assert result.columns["reason"] == [None, "empty", "truncated", None]
    assert result.tensors is not None
    assert result.tensors[0].any()
    assert not result.tensors[1:3].any()
    np.testing.assert_array_equal(result.tensors[0], result.tensors[3])


def mutated(data: bytes, dice: random.Random) -> bytes:
    """Flip, cut, splice, forge: one to four small accidents."""
    out = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(out))
        match dice.randrange(6):
            case 0:
                out[at] ^= 1 << dice.randrange(8)
            case 1:
                out[at : at + dice.randint(1, 8)] = dice.randbytes(dice.randint(0, 8))
            case 2:
                out = out[: max(1, at)]
            case 3:
                out[at:at] = out[dice.randrange(len(out)) :][: dice.randint(1, 300)]
            case 4:
                head = dice.randrange(min(64, len(out)))
                out[head : head + 4] = dice.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"])
            case _:
                out[at : at + 2] = b"\xff\xd9"
        out = out or bytearray(b"\0")
    return bytes(out)


@pytest.mark.parametrize("kind", list(KINDS))
def test_mutated_files_never_crash_and_always_get_a_verdict(kind: str) -> None:
    dice = random.Random(kind)
    datas = [mutated(KINDS[kind], dice) for _ in range(120)]
    result = datago.inspect(datas, max_pixels=10_000_000, tensor_side=8, thumbnail_side=32)
    reasons = result.columns["reason"]
    assert len(reasons) == len(datas)
    for data, reason, digest, thumbnail in zip(
        datas, reasons, result.columns["digest"], result.columns["thumbnail"], strict=True
    ):
        assert reason is None or reason in REASONS, (reason, result.columns["detail"][datas.index(data)])
        assert digest == blake3(data).hexdigest()
        assert (thumbnail is None) == (reason is not None)
    again = datago.inspect(datas, max_pixels=10_000_000, threads=1)
    assert again.columns["reason"] == reasons
