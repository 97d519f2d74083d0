"""Payloads as the viewer shows them: masks as a coloured overlay, arrays as figures. Nothing is unpickled."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from refinery.arrays import npy_array
from refinery.errors import InputError
from refinery.inputs import merge_payloads
from refinery.project import Refinery
from ui.core.pictures import kept_bytes

_LARGEST = 256 << 20
_SIDE = 1600
_BLOCK = 1 << 20
_ARRAYS = frozenset({"npy", "npz", "safetensors"})
# Okabe and Ito's colours, which people of any colour vision can tell apart
_COLOURS = np.array(
    [
        (86, 180, 233),
        (240, 228, 66),
        (204, 121, 167),
        (0, 158, 115),
        (213, 94, 0),
        (0, 114, 178),
        (230, 159, 0),
    ],
    np.uint8,
)


@dataclass(frozen=True, slots=True)
class Payload:
    """A binary that belongs to a sample."""

    name: str
    digest: str
    bytes: int
    extension: str
    is_mask: bool


@dataclass(frozen=True, slots=True)
class ArrayFigures:
    """What is in one array of a payload; `least`, `greatest`, `mean` and `deviation` are of its finite numbers, and None
    where there are none."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    finite: float
    least: float | None
    greatest: float | None
    mean: float | None
    deviation: float | None


def payloads_of(project: Refinery, sample_id: str) -> list[Payload]:
    """The payloads of a sample by name; of two with one name the later origin's."""
    origins = project.batches.origins(columns=["sample_id", "payloads"], sample_ids=[sample_id])
    return [Payload(**payload) for payload in merge_payloads(origins["payloads"].to_pylist())]


def overlay(project: Refinery, mask: Payload) -> bytes | None:
    """A mask as a PNG with alpha, at most 1600 pixels wide and high: what is 0 is clear, each other value has a colour of its
    own (7 in turn). None when it is no picture that can be decoded, or its bytes are not kept."""
    import datago

    data, caps = _bytes(project, mask), project.settings.inspect
    if data is None:
        return None
    found = datago.decode([data], max_bytes=caps.max_bytes, max_pixels=caps.max_pixels, threads=1)
    return None if found.images[0] is None else _coloured(found.images[0])


def figures(project: Refinery, payload: Payload) -> list[ArrayFigures]:
    """What is in the arrays of a latent or another array payload (.npy, .npz, .safetensors). InputError, with the reason, for
    anything else: pickles are never opened."""
    if payload.extension.lower() not in _ARRAYS:
        raise InputError(
            f"Payload {payload.name!r} is a .{payload.extension} file: only {', '.join(sorted(_ARRAYS))} are opened.",
            kind="no_array",
        )
    data = _bytes(project, payload)
    if data is None:
        raise InputError(f"The bytes of payload {payload.name!r} are not kept.", kind="no_such_object")
    try:
        return [_figures(name, array) for name, array in _arrays(data, payload.extension.lower())]
    except (
        Exception
    ) as error:  # a damaged archive makes zipfile, zlib and safetensors raise errors of many kinds
        raise InputError(
            f"Payload {payload.name!r} holds no arrays: {error!s:.200}.", kind="bad_array"
        ) from error


def _bytes(project: Refinery, payload: Payload) -> bytes | None:
    if payload.bytes > _LARGEST:
        raise InputError(
            f"Payload {payload.name!r} has {payload.bytes:,} bytes; the viewer opens at most {_LARGEST:,}.",
            kind="too_large",
        )
    return kept_bytes(project, payload.digest)


def _coloured(image: npt.NDArray[np.uint8]) -> bytes:
    from PIL import Image

    step = -(-max(image.shape[:2]) // _SIDE)  # by nearest neighbour: a mask's values are no shades
    small = np.ascontiguousarray(image[::step, ::step])
    packed = small.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    values, places = np.unique(packed, return_inverse=True)
    colours = np.zeros((len(values), 4), np.uint8)
    shown = np.flatnonzero(values)
    colours[shown, :3] = _COLOURS[np.arange(len(shown)) % len(_COLOURS)]
    colours[shown, 3] = 255
    out = io.BytesIO()
    Image.fromarray(colours[places.reshape(packed.shape)], "RGBA").save(out, "PNG")
    return out.getvalue()


def _arrays(data: bytes, extension: str) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    if extension == "npy":
        yield "", npy_array(data)
    elif extension == "npz":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(info.file_size for info in archive.infolist())
            if size > _LARGEST:
                raise ValueError(f"its arrays have {size:,} bytes")
            for name in sorted(archive.namelist()):
                yield name.removesuffix(".npy"), npy_array(archive.read(name))
    else:
        from safetensors.numpy import load

        yield from sorted(load(data).items())


def _figures(name: str, array: npt.NDArray[Any]) -> ArrayFigures:
    shape, dtype = array.shape, str(array.dtype)
    count, mean, squares = 0, 0.0, 0.0  # merged block by block: Chan, Golub and LeVeque 1979
    least, greatest = np.inf, -np.inf
    numbers = array.reshape(-1) if array.dtype.kind in "fiub" else np.empty(0)
    for at in range(0, numbers.size, _BLOCK):
        block = numbers[at : at + _BLOCK].astype(np.float64)
        block = block[np.isfinite(block)]
        if not block.size:
            continue
        least, greatest = min(least, float(block.min())), max(greatest, float(block.max()))
        middle, total = float(block.mean()), count + block.size
        apart = middle - mean
        squares += float(np.square(block - middle).sum()) + apart * apart * count * block.size / total
        mean += apart * block.size / total
        count = total
    if not count:
        return ArrayFigures(name, shape, dtype, 0.0, None, None, None, None)
    return ArrayFigures(
        name, shape, dtype, count / numbers.size, least, greatest, mean, float(np.sqrt(squares / count))
    )
