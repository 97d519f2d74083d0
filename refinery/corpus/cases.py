"""The readable files of the corpus: photographs, and honest cases derived from them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from refinery.corpus.photographs import Photograph

Make = Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Case:
    """One file to make. Fields but `path` and `make` are what `truth.json` says about it (see `PlantedFile`)."""

    path: str
    kind: str
    make: Make
    photograph: Photograph | None = None
    near_duplicate_of: str | None = None
    readable: bool | None = True
    reason: str | None = None
    caption: str | None = None
    mask: Make | None = None
    credited: bool = field(default=False)


class Darkroom:
    """Opens photographs as RGB, at most `long_side` pixels long, each once; and cuts regions that no other case shows."""

    def __init__(self, photographs: list[Photograph], seed: int, long_side: int = 1600) -> None:
        self.photographs = {p.name: p for p in photographs}
        self._seed = seed
        self._long_side = long_side
        self._opened: dict[str, Image.Image] = {}
        self._locks = {p.name: Lock() for p in photographs}

    def open(self, name: str) -> Image.Image:
        """The whole photograph. Shared by threads: copy it before changing or saving it (Pillow keeps state for a save)."""
        with self._locks[name]:
            if name not in self._opened:
                with Image.open(self.photographs[name].path) as source:
                    source.draft("RGB", (self._long_side, self._long_side))
                    picture = source.convert("RGB")
                picture.thumbnail((self._long_side, self._long_side), Image.Resampling.LANCZOS)
                self._opened[name] = picture
            return self._opened[name]

    def region(self, name: str, number: int) -> Image.Image:
        """The region `number` of a photograph: 40 to 60 % of each side, placed by the seed."""
        picture = self.open(name)
        draw = np.random.default_rng([self._seed, number, *name.encode()])
        width, height = (int(side * draw.uniform(0.4, 0.6)) for side in picture.size)
        left = int(draw.integers(0, picture.width - width + 1))
        top = int(draw.integers(0, picture.height - height + 1))
        return picture.crop((left, top, left + width, top + height))


def encode(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """The picture as bytes of a format that Pillow writes."""
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


jpeg = partial(encode, kind="JPEG", quality=90)
png = partial(encode, kind="PNG")
webp = partial(encode, kind="WEBP", quality=85)


def png_from_rows(width: int, height: int, rows: bytes, *, bits: int, colour: int) -> bytes:
    """A PNG of given filtered rows (PNG specification, §11.2): for depths and sizes that Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def photographs(room: Darkroom, packaged: list[Photograph], wallpapers: list[Photograph]) -> Iterator[Case]:
    """The packaged photographs byte for byte, and the wallpapers at a size that keeps the demo quick."""
    masks: dict[str, Make] = {
        "coins": partial(_mask, room, "coins", lambda luma: luma > 120),
        "retina": partial(_mask, room, "retina", lambda luma: luma > 12),
        "horse": partial(_mask, room, "horse", lambda luma: luma < 128),
    }
    for photo in packaged:
        path = f"photographs/{photo.path.name}"
        yield Case(
            path,
            "photograph",
            photo.path.read_bytes,
            photo,
            None,
            True,
            None,
            photo.caption,
            masks.get(photo.name),
            True,
        )
    formats = {".jpg": (".jpg", jpeg, 1600), ".webp": (".webp", webp, 1600), ".png": (".png", png, 960)}
    for photo in wallpapers:
        suffix, write, side = formats[photo.path.suffix]
        group, _, name = photo.name.partition(" ")
        folder = {"gnome": "GNOME", "mate": "MATE", "plasma": "KDE Plasma"}[group]
        make = partial(_resized, room, photo.name, side, write)
        path = f"wallpapers/{folder}/{name}{suffix}"
        yield Case(path, "photograph", make, photo, None, True, None, photo.caption, None, True)


def _resized(room: Darkroom, name: str, side: int, write: Callable[[Image.Image], bytes]) -> bytes:
    picture = room.open(name).copy()
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return write(picture)


def _mask(room: Darkroom, name: str, inside: Callable[[Any], Any]) -> bytes:
    """A mask of a packaged photograph by a threshold on its luma: 255 inside, 0 outside, of the photograph's size."""
    luma = np.asarray(room.open(name).convert("L"))
    return png(Image.fromarray(np.where(inside(luma), 255, 0).astype(np.uint8)))


def crops(room: Darkroom, names: list[str]) -> Iterator[Case]:
    """One region of each photograph: a picture of its own, with a caption in a `.txt` and the photograph's credit."""
    for name in names:
        photo = room.photographs[name]
        make = partial(_of_region, room, name, 0, jpeg)
        caption = f"A part of: {photo.caption}"
        yield Case(f"crops/{name} – Ausschnitt.jpg", "crop", make, photo, caption=caption, credited=True)


def _of_region(room: Darkroom, name: str, number: int, develop: Callable[[Image.Image], bytes]) -> bytes:
    return develop(room.region(name, number))


def names_of_all_kinds(room: Darkroom) -> Iterator[Case]:
    """Regions under names that real folders have: other scripts, decomposed accents, quotes, dots, depth, no extension."""
    paths = (
        ("写真/猫.jpg", "chelsea", jpeg),
        ("写真/☕ カップ.webp", "coffee", webp),
        ("odd names/e\u0301te\u0301 (1).jpg", "flower", jpeg),
        ('odd names/it\'s 100% real, #1 & "quoted".JPG', "rocket", jpeg),
        ("odd names/v1.2 final.jpeg", "china", jpeg),
        ("odd names/no extension", "astronaut", jpeg),
        ("odd names/really a png.jpg", "coffee", png),
        ("a/b/c/d/e/f/g/deep.png", "retina", png),
    )
    for number, (path, name, write) in enumerate(paths, start=10):
        photo = room.photographs[name]
        yield Case(
            path,
            "odd_name",
            partial(_of_region, room, name, number, write),
            photo,
            # beside a file without extension, a .txt is a sample of its own
            caption=f"{name}, a part." if "." in path.rpartition("/")[2] else None,
        )


def copies(packaged: list[Photograph], names: list[str]) -> Iterator[Case]:
    """The same bytes under another name: a second origin of one sample."""
    for photo in packaged:
        if photo.name in names:
            original = f"photographs/{photo.path.name}"
            path = f"copies/Kopie von {photo.path.name}"
            yield Case(path, "copy", photo.path.read_bytes, photo, near_duplicate_of=original)


def near_duplicates(room: Darkroom, names: list[str], variants: int) -> Iterator[Case]:
    """Re-encodings and small edits of whole photographs: what near-duplicate detection has to find."""
    edits: tuple[tuple[str, str, Callable[[Image.Image], bytes]], ...] = (
        ("re_encoding", "quality 40.jpg", partial(jpeg, quality=40)),
        ("near_duplicate", "cropped by 1 %.jpg", lambda p: jpeg(_inner(p, 0.01))),
        (
            "near_duplicate",
            "smaller.jpg",
            lambda p: jpeg(ImageOps.scale(p, 0.6, Image.Resampling.LANCZOS)),
        ),
        ("re_encoding", "as webp.webp", partial(webp, quality=80)),
        ("near_duplicate", "brighter.jpg", lambda p: jpeg(ImageEnhance.Brightness(p).enhance(1.06))),
        ("re_encoding", "as tiff.tif", partial(encode, kind="TIFF", compression="tiff_lzw")),
    )
    for name in names:
        photo = room.photographs[name]
        for kind, title, develop in edits[:variants]:
            folder = "re-encoded" if kind == "re_encoding" else "near duplicates"
            make = partial(_of_whole, room, name, develop)
            original = f"photographs/{photo.path.name}"
            yield Case(
                f"{folder}/{name} {title}",
                kind,
                make,
                photo,
                original,
                credited=True,
            )


def _of_whole(room: Darkroom, name: str, develop: Callable[[Image.Image], bytes]) -> bytes:
    return develop(room.open(name).copy())


def _inner(picture: Image.Image, part: float) -> Image.Image:
    """The picture without `part` of each side, at all four edges."""
    width, height = picture.size
    return picture.crop(
        (int(width * part), int(height * part), int(width * (1 - part)), int(height * (1 - part)))
    )


def quality(room: Darkroom, names: list[str], seed: int) -> Iterator[Case]:
    """Blurred regions, and pictures of nothing."""
    for name in names:
        make = partial(_of_region, room, name, 1, lambda p: jpeg(p.filter(ImageFilter.GaussianBlur(7))))
        yield Case(f"blurred/{name}.jpg", "blur", make, room.photographs[name])
    noise = np.random.default_rng(seed).integers(-2, 3, (300, 400, 3)) + 128
    blanks: tuple[tuple[str, Make], ...] = (
        ("white.jpg", lambda: jpeg(Image.new("RGB", (640, 480), "white"))),
        ("black.png", lambda: png(Image.new("RGB", (512, 512)))),
        ("transparent.png", lambda: png(Image.new("RGBA", (400, 300), (0, 0, 0, 0)))),
        ("almost grey.png", lambda: png(Image.fromarray(noise.astype(np.uint8)))),
    )
    for file, make_blank in blanks:
        yield Case(f"blank/{file}", "blank", make_blank)


# The transposition that undoes each EXIF orientation, so that all files are displayed alike.
_STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def orientations(room: Darkroom) -> Iterator[Case]:
    """One region stored in all eight EXIF orientations, displayed alike: near-duplicates of the first."""
    first = "exif orientation/1.jpg"
    for number in range(1, 9):
        make = partial(
            _of_region,
            room,
            "rocket",
            2,
            partial(_oriented, number, partial(jpeg, quality=95, subsampling=0)),
        )
        path = f"exif orientation/{number}.jpg"
        yield Case(path, "orientation", make, room.photographs["rocket"], None if number == 1 else first)
    make = partial(_of_region, room, "rocket", 2, partial(_oriented, 6, png))
    yield Case("exif orientation/6 as png.png", "orientation", make, room.photographs["rocket"], first)


def _oriented(number: int, write: Callable[..., bytes], picture: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = number
    return write(picture.transpose(_STORED[number]) if number in _STORED else picture, exif=exif)


def modes(room: Darkroom) -> Iterator[Case]:
    """Pixel modes, depths and containers, each of another region."""
    developed: tuple[tuple[str, str, Callable[[Image.Image], bytes]], ...] = (
        ("grey.jpg", "astronaut", lambda p: jpeg(p.convert("L"))),
        ("cmyk.jpg", "flower", lambda p: jpeg(p.convert("CMYK"))),
        ("progressive.jpg", "china", partial(jpeg, progressive=True)),
        ("grey with alpha.png", "camera", lambda p: png(_vignette(p.convert("LA")))),
        ("alpha.png", "chelsea", lambda p: png(_vignette(p.convert("RGBA")))),
        ("palette.png", "coffee", lambda p: png(p.quantize(64))),
        ("one bit.png", "horse", lambda p: png(p.convert("1"))),
        ("16 bit grey.png", "gravel", _sixteen_bit_grey),
        ("16 bit.png", "flower", _sixteen_bit_rgb),
        ("lossless.webp", "chelsea", partial(webp, lossless=True)),
        ("alpha as webp.webp", "astronaut", lambda p: webp(_vignette(p.convert("RGBA")))),
        ("animated.gif", "coffee", _animated),
        ("lzw.tif", "china", partial(encode, kind="TIFF", compression="tiff_lzw")),
        ("bitmap.bmp", "rocket", lambda p: encode(_fitting(p, 320), "BMP")),
    )
    for number, (file, name, develop) in enumerate(developed, start=30):
        make = partial(_of_region, room, name, number, develop)
        yield Case(f"modes/{file}", "mode", make, room.photographs[name], credited=True)


def _fitting(picture: Image.Image, side: int) -> Image.Image:
    picture = picture.copy()
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return picture


def _vignette(picture: Image.Image) -> Image.Image:
    """The picture with an alpha that shows an ellipse of it."""
    alpha = Image.new("L", picture.size, 0)
    ImageDraw.Draw(alpha).ellipse((0, 0, picture.width - 1, picture.height - 1), fill=255)
    picture.putalpha(alpha)
    return picture


def _sixteen_bit_grey(picture: Image.Image) -> bytes:
    return png(Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257))


def _sixteen_bit_rgb(picture: Image.Image) -> bytes:
    pixels = np.asarray(picture).astype(">u2") * np.uint16(257)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return png_from_rows(picture.width, picture.height, rows, bits=16, colour=2)


def _animated(picture: Image.Image) -> bytes:
    frames = [_fitting(frame, 240) for frame in (picture, ImageOps.mirror(picture), ImageOps.invert(picture))]
    return encode(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=200, loop=0)


def extremes(room: Darkroom) -> Iterator[Case]:
    """Aspects and sizes that a policy holds or a bucket cannot take."""
    developed: tuple[tuple[str, str, Callable[[Image.Image], bytes]], ...] = (
        ("panorama.jpg", "hubble_deep_field", lambda p: jpeg(p.resize((1600, 48), Image.Resampling.LANCZOS))),
        ("tower.png", "brick", lambda p: png(p.resize((40, 1200), Image.Resampling.LANCZOS))),
        ("32 pixels.png", "grass", lambda p: png(p.resize((32, 32), Image.Resampling.LANCZOS))),
        ("one pixel.png", "ihc", lambda p: png(p.resize((1, 1), Image.Resampling.BOX))),
    )
    for number, (file, name, develop) in enumerate(developed, start=50):
        make = partial(_of_region, room, name, number, develop)
        yield Case(f"extremes/{file}", "extreme", make, room.photographs[name])
