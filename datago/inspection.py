"""One decode for each picture, and everything worth knowing from it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from datago import _core
from datago.errors import ConfigError
from datago.remote import S3Object
from datago.stages import Stages

MAX_BYTES = 256 * 1024 * 1024
MAX_PIXELS = 178_956_970


@dataclass(frozen=True, slots=True)
class Inspection:
    """What `inspect` found: one entry for each input in every column, in the order of the inputs.

    Columns that hold text or bytes are lists with `None` where nothing is known; columns of numbers are arrays.
    An input succeeded if and only if its `reason` is `None`.

    | column | type | meaning; what stands there after a failure |
    |---|---|---|
    | `reason` | str or None | `None`, or the reason code: `empty`, `not_an_image`, `unsupported_format`, `truncated`, \
`corrupt`, `too_large`, `too_many_pixels`, `too_costly`, `unreadable`, `internal` |
    | `detail` | str or None | one sentence for a human |
    | `retryable` | bool | whether the same input may succeed later (`unreadable` only) |
    | `digest` | str or None | BLAKE3 of the bytes, hex; `None` only if they could not be read or are over the cap |
    | `bytes` | int64 | number of bytes; -1 where `digest` is None |
    | `format` | str or None | `jpeg`, `png`, `webp`, `gif`, `bmp`, `tiff`; `None` if the header could not be read |
    | `width`, `height` | int64 | pixels as displayed, after the EXIF orientation; 0 if the header could not be read |
    | `mode` | str or None | the source's kind of pixel in Pillow's words: `1 L LA P RGB RGBA CMYK I;16` |
    | `orientation` | uint8 | EXIF orientation 1..8; 0 if the header could not be read |
    | `pixel_digest` | str or None | BLAKE3, hex, of width, height, channels (u32 LE) and the upright 8-bit RGB \
pixels, RGBA if some pixel is not opaque |
    | `phash` | uint64 | 64-bit DCT hash (see docs/datago.md); compare by Hamming distance; 0 after a failure |
    | `brightness` | float64 | mean luma, 0..1, of the picture reduced to a long side of 512 to 1023, as the next two; NaN after a \
failure, as the next three |
    | `contrast` | float64 | standard deviation of luma, 0..0.5 |
    | `entropy` | float64 | of the 256-bin luma histogram, 0..8 bits |
    | `sharpness` | float64 | variance of the Laplacian of luma (0..255), with the long side scaled to 512 pixels |
    | `has_alpha` | bool | whether some pixel is not opaque |
    | `thumbnail` | bytes or None | JPEG, long side at most `thumbnail_side`, never enlarged, alpha over white |
    """

    columns: dict[str, list[Any] | npt.NDArray[Any]]
    tensors: npt.NDArray[np.uint8] | None
    """Shape (inputs, side, side, 3), RGB 0..255, alpha over white; all zeros for a failed input. `None` if no
    `tensor_side` was given."""
    stages: Stages = field(default_factory=Stages, compare=False)
    """Where the time went."""

    def __len__(self) -> int:
        return len(self.columns["reason"])


def inspect(
    inputs: Sequence[str | os.PathLike[str] | bytes | S3Object],
    *,
    thumbnail_side: int = 256,
    tensor_side: int | None = None,
    tensor_fit: Literal["crop", "squash"] = "crop",
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
    threads: int = 0,
) -> Inspection:
    """Decode every input once and measure it. Every input gets an entry; a bad picture never raises.

    `inputs` are local paths, objects on S3 (fetched ahead, many at a time) or the bytes of pictures. `tensor_side` asks for `Inspection.tensors`: with
    `tensor_fit="crop"` the short side becomes `tensor_side` and the centre is kept, with `"squash"` both sides are
    stretched; Catmull-Rom (bicubic), antialiased. More than `max_bytes` are not read; more than `max_pixels`, by the
    header, are not decoded, nor is what would take more than 1 GiB or too much work (docs/datago.md#caps). `threads=0` uses every core; the result does not depend on it.

    Raises `ConfigError` if an option is out of range and `InputError` if an input is none of the three.
    """
    _positive("thumbnail_side", thumbnail_side, 4096)
    if tensor_side is not None:
        _positive("tensor_side", tensor_side, 4096)
    check_caps(max_bytes, max_pixels, threads)
    start = time.perf_counter()
    columns, tensors, seconds = _core.inspect(
        list(inputs),
        thumbnail_side=thumbnail_side,
        tensor_side=tensor_side,
        tensor_fit=tensor_fit,
        max_bytes=max_bytes,
        max_pixels=max_pixels,
        threads=threads,
    )
    wall = time.perf_counter() - start
    return Inspection(columns, tensors, Stages(**dict(seconds), wall=wall))


def check_caps(max_bytes: int, max_pixels: int, threads: int) -> None:
    """Raises `ConfigError` if one of them is out of range."""
    _positive("max_bytes", max_bytes, 2**62)
    _positive("max_pixels", max_pixels, 2**40)
    check_threads(threads)


def check_threads(threads: int) -> None:
    """Raises `ConfigError` if there are to be fewer than none, or far too many."""
    if not 0 <= threads <= 1024:
        raise ConfigError(f"threads must be between 0 (every core) and 1024, not {threads}")


def _positive(name: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise ConfigError(f"{name} must be between 1 and {most}, not {value}")
