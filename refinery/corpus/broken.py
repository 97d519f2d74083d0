"""The files of the corpus that no decoder should swallow, and those it may take or leave."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from refinery.corpus.cases import Case, Darkroom, encode, jpeg, png, png_from_rows, webp


def broken(room: Darkroom, seed: int) -> Iterator[Case]:
    """Damaged files and files that are no pictures: `readable` is False, or None where decoders may differ.

    `reason` is the reason code that must be found, or None where more than one is fair.
    """
    yield from _without_picture(seed)
    for number, (file, name, write, damage, readable, reason) in enumerate(_DAMAGES, start=70):
        make = partial(_damaged, room, name, number, write, damage, seed)
        yield Case(f"broken/{file}", "broken", make, room.photographs[name], None, readable, reason)


def _without_picture(seed: int) -> Iterator[Case]:
    junk = np.random.default_rng([seed, 1]).bytes(4096)
    rows: tuple[tuple[str, bytes, str | None], ...] = (
        ("empty.jpg", b"", "empty"),
        ("a text.jpg", b"This is no picture, whatever its name says.\n" * 8, "not_an_image"),
        ("report.pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + junk + b"\n%%EOF\n", "not_an_image"),
        ("noise.png", junk, "not_an_image"),
        ("page.webp", b"<!doctype html><title>404</title><p>Not found\n", "not_an_image"),
        (
            "forged header.jpg",
            b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00" + junk,
            None,
        ),
        ("forged header.webp", b"RIFF" + (4096).to_bytes(4, "little") + b"WEBPVP8 " + junk, None),
        ("only a signature.png", b"\x89PNG\r\n\x1a\n", None),
        (
            "billions of pixels.png",
            png_from_rows(100_000, 100_000, b"\0" * 4096, bits=8, colour=2),
            "too_many_pixels",
        ),
    )
    for file, data, reason in rows:
        yield Case(f"broken/{file}", "broken", partial(bytes, data), readable=False, reason=reason)


Damage = Callable[[bytes, np.random.Generator], bytes]


def _damaged(
    room: Darkroom, name: str, number: int, write: Callable[..., bytes], damage: Damage, seed: int
) -> bytes:
    return damage(write(room.region(name, number)), np.random.default_rng([seed, number]))


def _cut(part: float, data: bytes, _draw: np.random.Generator) -> bytes:
    return data[: int(len(data) * part)]


def _flip(bits: int, data: bytes, draw: np.random.Generator) -> bytes:
    """Flips bits in the latter half, where formats keep pixels."""
    damaged = bytearray(data)
    for place in draw.integers(len(data) // 2, len(data) - 16, bits):
        damaged[int(place)] ^= 1 << int(draw.integers(0, 8))
    return bytes(damaged)


def _splice(data: bytes, draw: np.random.Generator) -> bytes:
    """Other bytes in the middle, the length kept."""
    middle = len(data) // 2
    return data[:middle] + draw.bytes(512) + data[middle + 512 :]


def _appended(data: bytes, draw: np.random.Generator) -> bytes:
    return data + draw.bytes(2048)


_gif: Any = partial(encode, kind="GIF")
_jpeg2000: Any = partial(encode, kind="JPEG2000")
_DAMAGES: tuple[tuple[str, str, Callable[..., bytes], Damage, bool | None, str | None], ...] = (
    ("truncated.jpg", "coffee", jpeg, partial(_cut, 0.6), False, "truncated"),
    ("truncated.png", "chelsea", png, partial(_cut, 0.7), False, "truncated"),
    ("truncated.webp", "flower", webp, partial(_cut, 0.5), False, None),
    ("truncated.gif", "camera", _gif, partial(_cut, 0.5), False, None),
    ("truncated early.jpg", "rocket", jpeg, partial(_cut, 0.02), False, None),
    ("flipped bits.png", "astronaut", png, partial(_flip, 8), False, None),
    ("flipped bits.jpg", "china", jpeg, partial(_flip, 24), None, None),
    ("spliced.jpg", "astronaut", jpeg, _splice, None, None),
    ("trailing bytes.jpg", "retina", jpeg, _appended, True, None),
    ("another format.jp2", "coins", _jpeg2000, partial(_cut, 1.0), None, None),
)
