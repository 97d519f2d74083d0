"""Vectors to search with: of words, of a picture that is no sample, and as text for a link."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from refinery.arrays import npy_array
from refinery.errors import InputError

if TYPE_CHECKING:
    from refinery.project import Refinery

_LONGEST = 8192


def vector_of_words(project: Refinery, words: str, space: str = "default") -> tuple[float, ...]:
    """What words mean in an embedding space, shape (dimensions,). InputError when its model reads no text."""
    return _row(project.embedder(space).embed_text([words]))


def vector_of_picture(
    project: Refinery, picture: Path | bytes, space: str = "default", name: str | None = None
) -> tuple[float, ...]:
    """The vector of a picture, shape (dimensions,), decoded under the caps of the inspection. `name` is what errors call it.
    InputError when it cannot be decoded."""
    import datago

    embedder, limits = project.embedder(space), project.settings.inspect
    found = datago.inspect(
        [picture],
        tensor_side=embedder.input.side,
        tensor_fit=embedder.input.fit,
        max_bytes=limits.max_bytes,
        max_pixels=limits.max_pixels,
    )
    reason = found.columns["reason"][0]
    if reason is not None or found.tensors is None:
        what = name or (str(picture) if isinstance(picture, Path) else "This file")
        raise InputError(
            f"{what} is no picture that can be decoded: {reason} ({found.columns['detail'][0]}).",
            kind="unreadable_picture",
        )
    return _row(embedder.embed_images(found.tensors))


def vector_in_file(data: bytes, name: str) -> tuple[float, ...]:
    """The vector in a file of this name, shape (dimensions,): a JSON array of numbers, or .npy. InputError when it holds none."""
    try:
        values = npy_array(data) if name.lower().endswith(".npy") else np.array(json.loads(data), np.float64)
        if not 0 < values.size <= _LONGEST:
            raise ValueError(f"{values.size:,} numbers, where 1 to {_LONGEST:,} are looked for")
        return tuple(float(value) for value in values.astype(np.float64).reshape(values.size))
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(
            f"{name} holds no vector: {error!s:.200}. Expected a JSON array of numbers, or a .npy file.",
            kind="bad_vector_file",
        ) from None


def vector_to_link(vector: tuple[float, ...]) -> str:
    """A vector's direction as text for a link: base64 of half-precision numbers of which the greatest is 1 (likeness is the
    cosine, which knows no length), about 2.7 characters a dimension. InputError when it has no direction."""
    values = np.asarray(vector, np.float64)
    most = np.abs(values).max(initial=0.0)
    if not 0 < most < np.inf:
        raise InputError("The vector has no direction: it is all zeros, or not finite.", kind="bad_vector")
    return base64.urlsafe_b64encode((values / most).astype("<f2").tobytes()).decode().rstrip("=")


def vector_from_link(text: str) -> tuple[float, ...]:
    """The vector that a link says, shape (dimensions,). InputError when it says none."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
        values = np.frombuffer(data, "<f2").astype(np.float64)
        if not 0 < values.size <= _LONGEST or not np.isfinite(values).all():
            raise ValueError("no finite numbers")
    except ValueError:
        raise InputError(f"{text[:40]!r} in the link is no vector.", kind="bad_vector") from None
    return tuple(values.tolist())


def _row(vectors: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> tuple[float, ...]:
    return tuple(float(value) for value in vectors[0])
