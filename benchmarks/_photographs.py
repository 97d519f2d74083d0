"""The pictures of the benches, and how near a resized one comes to the ideal.

Photographs of one size are mosaics of tiles of 256 x 256 pixels, each cut at its own scale from a photograph that ships with
scikit-image or scikit-learn: enlarging these would give large files without detail, which decode faster than photographs do.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from refinery.corpus.photographs import packaged

QUALITY, SUBSAMPLING = 90, "4:2:0"
TILE = 256
_COLOUR = ("astronaut", "chelsea", "coffee", "rocket", "retina", "china", "flower", "hubble_deep_field")
Pixels = npt.NDArray[np.uint8]


def photographs(folder: Path, size: tuple[int, int], count: int, seed: int = 0) -> list[str]:
    """`count` different JPEG files of (width, height), multiples of 256, quality 90, 4:2:0."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng([seed, *size])
    sources = [np.asarray(Image.open(p.path).convert("RGB")) for p in packaged() if p.name in _COLOUR]
    paths = []
    for number in range(count):
        rows = [
            np.hstack([_tile(sources, rng) for _ in range(size[0] // TILE)]) for _ in range(size[1] // TILE)
        ]
        path = folder / f"{number:04}.jpg"
        Image.fromarray(np.vstack(rows)).save(path, quality=QUALITY, subsampling=SUBSAMPLING)
        paths.append(str(path))
    return paths


def small(folder: Path, side: int, count: int) -> list[str]:
    """`count` JPEG files of `side` x `side` pixels, cut from the same photographs, quality 92, 4:4:4."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng([side, count])
    sources = [np.asarray(Image.open(p.path).convert("RGB")) for p in packaged() if p.name in _COLOUR]
    paths = [folder / f"{number:05}.jpg" for number in range(count)]
    for path in paths:
        tile = Image.fromarray(_tile(sources, rng)).resize((side, side), Image.Resampling.LANCZOS)
        tile.save(path, quality=92, subsampling="4:4:4")
    return [str(path) for path in paths]


def stripes(path: Path, size: tuple[int, int], target: tuple[int, int]) -> None:
    """A picture of upright stripes 1.6 times too fine for `target`: a resize that does not alias makes it flat."""
    scale = min(size[0] / target[0], size[1] / target[1])
    wave = 127.5 + 100 * np.cos(2 * np.pi * 0.8 / scale * np.arange(size[0]))
    grey = np.broadcast_to(wave.round().astype(np.uint8), (size[1], size[0]))
    Image.fromarray(np.ascontiguousarray(grey)).convert("RGB").save(path, quality=98, subsampling="4:4:4")


def ideal(path: str, target: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Shape (height, width, 3): the largest centred part with the target's proportions, Lanczos3 in floats on the full decode."""
    image = Image.open(path).convert("RGB")
    width = min(image.width, image.height * target[0] / target[1])
    height = min(image.height, image.width * target[1] / target[0])
    left, top = (image.width - width) / 2, (image.height - height) / 2
    box = (left, top, left + width, top + height)
    planes = [
        np.asarray(plane.convert("F").resize(target, Image.Resampling.LANCZOS, box=box))
        for plane in image.split()
    ]
    return np.asarray(np.clip(np.stack(planes, axis=2), 0, 255), np.float32)


def psnr(found: Sequence[npt.NDArray[Any]], ideals: Sequence[npt.NDArray[np.float32]]) -> float | None:
    """In dB over all pictures together; None where one has another size than the ideal."""
    if any(a.shape != b.shape for a, b in zip(found, ideals, strict=True)):
        return None
    errors = [np.mean((a.astype(np.float32) - b) ** 2) for a, b in zip(found, ideals, strict=True)]
    return float(10 * np.log10(255**2 / np.mean(errors)))


def survives(found: npt.NDArray[Any]) -> float:
    """The share of the stripes' contrast that is left, away from the edges: false detail."""
    return float(found[:, 32:-32].mean(axis=2).std() / (100 / np.sqrt(2)))


def pixels(found: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What a system handed out as pixels: itself, or the decoded file."""
    return found if found.ndim == 3 else np.asarray(Image.open(io.BytesIO(found.tobytes())).convert("RGB"))


def _tile(sources: Sequence[Pixels], rng: np.random.Generator) -> Pixels:
    source = sources[rng.integers(len(sources))]
    top, left = (int(rng.integers(side - TILE + 1)) for side in source.shape[:2])
    tile = source[top : top + TILE, left : left + TILE]
    return tile[:, ::-1] if rng.integers(2) else tile
