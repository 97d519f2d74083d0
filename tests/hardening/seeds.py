"""One small picture of each kind that a format has. `python -m tests.hardening.seeds FOLDER` writes them for fuzzing, and
shards."""

from __future__ import annotations

import io
import random
import struct
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from tests.hardening.build import (
    FULL,
    Bits,
    anmf,
    black_vp8l,
    bmp,
    chunk,
    gif_frame,
    gif_head,
    jpeg,
    lzw_zeros,
    one_symbol,
    png_chunks,
    png_filtered,
    png_head,
    png_interlaced,
    riff,
    scan,
    tiff,
    tiff_tags,
    vp8x,
)
from tests.hardening.seeds_shards import shards

WIDTH, HEIGHT = 37, 26
ORIENTED = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"


def drawn(mode: str, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    """Slopes, an edge and a little noise, the same each time."""
    dice = random.Random(7)
    width, height = size
    values = bytearray()
    for y in range(height):
        for x in range(width):
            noise = dice.randrange(12)
            edge = 90 if x > y else 0
            shades = (x * 160 // width + edge // 2 + noise, y * 200 // height + noise, 70 + edge + noise)
            values += bytes([*shades, 255 if x % 7 else 255 * y // height])
    picture = Image.frombytes("RGBA", size, bytes(values))
    if mode == "I;16":
        grey = picture.convert("L")
        wide = b"".join(struct.pack("<H", v * 257 - v % 3) for v in grey.tobytes())
        return Image.frombytes("I;16", size, wide)
    if mode in ("RGBA", "LA"):
        return picture.convert(mode)
    if mode == "P":
        return picture.convert("RGB").quantize(64)
    return picture.convert("RGB").convert(mode)


def saved(kind: str, mode: str, *, size: tuple[int, int] = (WIDTH, HEIGHT), **options: Any) -> bytes:
    with io.BytesIO() as out:
        drawn(mode, size).save(out, kind, **options)
        return out.getvalue()


def jpegs() -> Iterator[tuple[str, bytes]]:
    for mode in ("L", "RGB", "CMYK"):
        for progressive in (False, True):
            yield (
                f"{mode} progressive={progressive}",
                saved("jpeg", mode, progressive=progressive, quality=80),
            )
    for subsampling in (0, 1, 2):
        yield f"subsampling {subsampling}", saved("jpeg", "RGB", subsampling=subsampling)
    yield "restarts", saved("jpeg", "RGB", restart_marker_blocks=2)
    yield "oriented", saved("jpeg", "RGB", exif=ORIENTED)
    yield "arithmetic", jpeg(WIDTH, HEIGHT, [scan((1,), 0, 63, 0, bytes(200))], frame=0xC9)
    parts = [scan((n,), 0, 63, 0, bytes(50)) for n in (1, 2, 3)]
    yield "one component a scan", jpeg(WIDTH, HEIGHT, parts, sampling=FULL)


def pngs() -> Iterator[tuple[str, bytes]]:
    for colour, depths in {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}.items():
        for depth in depths:
            name = f"colour {colour} depth {depth}"
            yield name, png_filtered(WIDTH, HEIGHT, depth, colour)
            yield f"{name} interlaced", png_interlaced(WIDTH, HEIGHT, depth, colour)
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        yield f"saved {mode}", saved("png", mode)
    yield "transparent palette", saved("png", "P", transparency=3)
    yield "transparent grey", saved("png", "L", transparency=90)
    yield "oriented", saved("png", "RGB", exif=ORIENTED)
    yield "animated", saved("png", "RGB", save_all=True, append_images=[drawn("RGB").rotate(180)], duration=9)
    data = saved("png", "RGB")
    body = b"".join(b for kind, b in png_chunks(data) if kind == b"IDAT")
    parts = b"".join(chunk(b"IDAT", body[i : i + 60]) for i in range(0, len(body), 60))
    yield "many parts", png_head(WIDTH, HEIGHT) + parts + chunk(b"IEND", b"")


def webps() -> Iterator[tuple[str, bytes]]:
    for mode in ("RGB", "RGBA"):
        yield f"lossy {mode}", saved("webp", mode, quality=60)
        yield f"lossless {mode}", saved("webp", mode, lossless=True)
        frames: dict[str, Any] = {"save_all": True, "append_images": [drawn(mode).rotate(180)], "duration": 9}
        yield f"animated lossy {mode}", saved("webp", mode, **frames)
        yield f"animated lossless {mode}", saved("webp", mode, lossless=True, **frames)
    yield "few colours", saved("webp", "P", lossless=True)
    yield "oriented", saved("webp", "RGB", exif=ORIENTED)
    yield "one colour", riff((b"VP8L", black_vp8l(WIDTH, HEIGHT)))
    frame = anmf(16, 16, (b"VP8L", black_vp8l(16, 16)))
    yield "a frame smaller than the canvas", riff(vp8x(WIDTH, HEIGHT, 0x12), (b"ANIM", bytes(6)), frame)


def gifs() -> Iterator[tuple[str, bytes]]:
    for interlace in (0, 1):
        yield f"interlace {interlace}", saved("gif", "P", interlace=interlace)
    yield "transparent", saved("gif", "P", transparency=2)
    yield "grey", saved("gif", "L")
    yield (
        "animated",
        saved("gif", "P", save_all=True, append_images=[drawn("P").rotate(180)], duration=9, loop=0),
    )
    yield "commented", saved("gif", "P", comment=b"words " * 60)
    yield "a frame smaller than the canvas", gif_head(WIDTH, HEIGHT) + gif_frame(9, 8, lzw_zeros(72)) + b";"


def bmps() -> Iterator[tuple[str, bytes]]:
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield mode, saved("bmp", mode)
    yield (
        "runs of eight bits",
        bmp(8, 4, 8, 1, b"\x08\1\0\0\0\x04\1\0\1\0\4\1\0\0\x05\1\0\2\1\0\2\1\0\0\x08\0\0\1"),
    )
    yield "runs of four bits", bmp(8, 4, 4, 2, b"\x08\x10\0\0\0\x04\x10\x01\4\x11\0\0\x08\x01\0\0\x08\0\0\1")
    wide = bmp(5, 4, 16, 3, bytes(range(48)), 0)
    masks = struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    yield "sixteen bits", wide[:10] + struct.pack("<I", 66) + wide[14:54] + masks + wide[54:]
    old = struct.pack("<IHHHH", 12, 8, 4, 1, 8) + bytes(768)
    yield "of old", b"BM" + struct.pack("<IHHI", 14 + len(old) + 32, 0, 0, 14 + len(old)) + old + bytes(32)


def tiffs() -> Iterator[tuple[str, bytes]]:
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"):
        for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"):
            yield f"{mode} {compression}", saved("tiff", mode, compression=compression)
    yield "group 4", saved("tiff", "1", compression="group4")
    yield "jpeg", saved("tiff", "RGB", compression="jpeg")
    yield "grey jpeg", saved("tiff", "L", compression="jpeg")
    yield "big", saved("tiff", "RGB", big_tiff=True)
    yield "oriented", saved("tiff", "RGB", tiffinfo={274: 6})
    yield "predicted", saved("tiff", "RGB", compression="tiff_lzw", tiffinfo={317: 2})
    data = bytes(range(256)) * 4
    for name, tile in {"tiles": (16, 16), "tiles larger than the picture": (64, 16)}.items():
        across, down = -(-WIDTH // tile[0]), -(-HEIGHT // tile[1])
        count, size = across * down, tile[0] * tile[1]
        tags = tiff_tags(WIDTH, HEIGHT, [8] * count, [size] * count, tile=tile)
        yield name, tiff(tags, data)
    planes = tiff_tags(8, 8, [8, 72, 136], [64] * 3, photometric=2, samples=3)
    yield "planes", tiff(planes | {284: (3, [2])}, data)
    deep = tiff_tags(8, 8, [8], [384], photometric=2, samples=3, depth=16)
    yield "sixteen bits of colour", tiff(deep, data)


FORMATS = {"jpeg": jpegs, "png": pngs, "webp": webps, "gif": gifs, "bmp": bmps, "tiff": tiffs}


@cache
def seeds() -> dict[str, bytes]:
    """All kinds, by a name that begins with the format's."""
    return {f"{kind}: {name}": data for kind, make in FORMATS.items() for name, data in make()}


def main(folder: Path) -> None:
    codes = Bits().put(0, 2)
    for _ in range(5):
        one_symbol(codes)
    extra = {
        "exif": [b"\x12\x01" + ORIENTED, ORIENTED, ORIENTED[6:]],
        "webp_codes": [b"\x09\x06" + data[25:] for name, data in seeds().items() if "webp: lossless" in name],
    }
    extra["webp_codes"].append(b"\x04\x04" + codes.data())
    for kind in FORMATS:
        extra[kind] = [data for name, data in seeds().items() if name.startswith(f"{kind}:")]
    extra["any"] = list(seeds().values())
    extra["fit"] = [bytes([23, 17, n % 4]) + data for n, data in enumerate(extra["jpeg"] + extra["png"])]
    extra["mask"] = [b"\x24\x19\x0f\x0f" + data for data in extra["png"] + extra["gif"]]
    extra |= shards(saved("png", "L", size=(12, 8)), saved("png", "1", size=(12, 8)), 12, 8)
    for target, found in extra.items():
        (folder / target).mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(found):
            (folder / target / f"seed-{number:03}").write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
