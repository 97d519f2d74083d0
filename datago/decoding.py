"""Pictures as NumPy arrays, and headers alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar, overload

import numpy as np
import numpy.typing as npt

from datago import _core
from datago.errors import ConfigError
from datago.inspection import MAX_BYTES, MAX_PIXELS, check_caps
from datago.remote import S3Object

_MAX_SIDE = 16_384
Images = TypeVar("Images")
Input: TypeAlias = str | os.PathLike[str] | bytes | S3Object


@dataclass(frozen=True, slots=True)
class Headers:
    """What `probe` found: one entry for each input in every column, in the order of the inputs. The columns are those of
    `Inspection`, and after a failure hold what stands there after one."""

    reason: list[str | None]
    """The reason code, or `None` if the header could be read; what follows it may still be damaged."""
    detail: list[str | None]
    retryable: npt.NDArray[np.bool_]
    format: list[str | None]
    width: npt.NDArray[np.int64]
    """Pixels as displayed, after the EXIF orientation."""
    height: npt.NDArray[np.int64]
    mode: list[str | None]
    orientation: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.reason)


@dataclass(frozen=True, slots=True)
class Decoded(Generic[Images]):
    """What `decode` found, in the order of the inputs. `images` are uint8, RGB: without a size a list of arrays of shape
    (height, width, 3), `None` where an input failed; with one an array of shape (inputs, height, width, 3), zero there."""

    images: Images
    reason: list[str | None]
    """The reason code, or `None` if the picture was decoded."""
    detail: list[str | None]
    """One sentence for a human."""
    retryable: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.reason)


def probe(inputs: Sequence[Input], *, max_bytes: int = MAX_BYTES, threads: int = 0) -> Headers:
    """Read the header of every input: local paths, objects on S3, or the bytes of pictures. Nothing is decoded, so a
    picture that is damaged further on is not noticed. Of a local JPEG or GIF only the beginning is read.

    Raises `ConfigError` if an option is out of range and `InputError` if an input is none of the three.
    """
    check_caps(max_bytes, 1, threads)
    return Headers(**_core.probe(list(inputs), max_bytes=max_bytes, threads=threads))


@overload
def decode(
    inputs: Sequence[Input],
    *,
    size: None = None,
    max_bytes: int = ...,
    max_pixels: int = ...,
    threads: int = ...,
) -> Decoded[list[npt.NDArray[np.uint8] | None]]: ...
@overload
def decode(
    inputs: Sequence[Input],
    *,
    size: tuple[int, int],
    max_bytes: int = ...,
    max_pixels: int = ...,
    threads: int = ...,
) -> Decoded[npt.NDArray[np.uint8]]: ...
def decode(
    inputs: Sequence[Input],
    *,
    size: tuple[int, int] | None = None,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
    threads: int = 0,
) -> Decoded[Any]:
    """Decode every input (local paths, objects on S3, or the bytes of pictures) to 8-bit RGB: the first frame, upright by
    EXIF, alpha over white. A bad picture never raises: it has a reason.

    Without `size` at full size, each picture in memory of its own. With `size=(width, height)`, in pixels as displayed, all
    in one block: of each picture the largest centred part with these proportions, resized by Lanczos3; JPEGs far larger
    are decoded at 1/2, 1/4 or 1/8, never below the target. All is held at once: pass as many inputs as fit in memory.
    The result does not depend on `threads` (0: every core).

    Raises `ConfigError` if an option is out of range and `InputError` if an input is none of the three.
    """
    check_caps(max_bytes, max_pixels, threads)
    if size is not None and not (len(size) == 2 and all(1 <= side <= _MAX_SIDE for side in size)):
        raise ConfigError(f"size must be (width, height), each from 1 to {_MAX_SIDE}, not {size!r}")
    images, columns = _core.decode(
        list(inputs), size=size, max_bytes=max_bytes, max_pixels=max_pixels, threads=threads
    )
    return Decoded(images, **columns)
