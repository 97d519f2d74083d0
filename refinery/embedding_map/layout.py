"""Where samples lie: landmarks by t-SNE, every other sample among its nearest landmarks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from refinery.errors import ConfigError

Vectors = npt.NDArray[np.float32]
Places = npt.NDArray[np.float32]
SEED = 0
NEIGHBOURS = 10
_PERPLEXITY = 30
_FEWEST = 16
"""Fewer landmarks than this are laid out by their principal components: t-SNE has nothing to go by."""
_CHUNK = 1024
_MARGIN = 0.02
_NOTHING = 1e-6


def lay_out(vectors: Vectors, seed: int = SEED) -> Places:
    """Places (n, 2) within [0, 1] of n unit vectors (n, d): the same vectors, the same places on one machine.

    t-SNE (van der Maaten, Hinton 2008) of cosine distances from the first two principal components, which keep what is far
    apart in its order (Kobak, Berens 2019, "The art of using t-SNE for single-cell transcriptomics"). ConfigError when
    scikit-learn is not there.
    """
    if len(vectors) < _FEWEST:
        return _fit_square(_components(vectors))
    try:
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits
    except ImportError:
        raise ConfigError(
            "A map is laid out by scikit-learn: install image-refinery[map].", kind="missing_package"
        ) from None
    perplexity = min(_PERPLEXITY, (len(vectors) - 1) / 3)
    start = _components(vectors)
    spread = start[:, 0].std()
    with threadpool_limits(1):  # sums in one order: the same places every time
        model: Any = TSNE(
            init=start / max(spread, _NOTHING) * 1e-4,
            metric="cosine",
            perplexity=perplexity,
            learning_rate="auto",
            random_state=seed,
            n_jobs=1,
        )
        return _fit_square(model.fit_transform(vectors))


def place(vectors: Vectors, landmarks: Vectors, places: Places) -> Places:
    """Places (n, 2) of n unit vectors (n, d) among landmarks: unit vectors (m, d) with their places (m, 2). Each is a function
    of its vector and the landmarks alone.

    The mean of the places of the k nearest landmarks, weighted by (1/d - 1/r)², where r is the distance to the next one (Franke,
    Nielson 1980, "Smooth interpolation of large sets of scattered data"): a landmark keeps its own place, and where the
    nearest change, nothing jumps.
    """
    found = np.empty((len(vectors), 2), np.float32)
    for start in range(0, len(vectors), _CHUNK):
        part = slice(start, start + _CHUNK)
        found[part] = _place(vectors[part], landmarks, places)
    return found


def unit(vectors: Vectors) -> Vectors:
    """The rows with length 1; rows of zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, _NOTHING), np.float32)


def _place(vectors: Vectors, landmarks: Vectors, places: Places) -> Places:
    if len(landmarks) == 1:
        return np.repeat(places, len(vectors), axis=0)
    near = min(NEIGHBOURS, len(landmarks) - 1)
    cosines = vectors @ landmarks.T
    chosen = np.argpartition(cosines, len(landmarks) - near - 1, axis=1)[:, -near - 1 :]
    distances = np.sqrt(np.maximum(2 - 2 * np.take_along_axis(cosines, chosen, 1), 0)) + np.float32(_NOTHING)
    weights = (1 / distances - 1 / distances.max(axis=1, keepdims=True)) ** 2
    weights += np.float32(1e-12)  # all equally far: their mean
    weights /= weights.sum(axis=1, keepdims=True)
    means: Places = np.einsum("nk,nkc->nc", weights, places[chosen]).clip(0, 1).astype(np.float32)
    return means


def _components(vectors: Vectors) -> npt.NDArray[np.float64]:
    """The first two principal components (n, 2), each with the sign that makes its largest part positive."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)
    two = axes[:, ::-1][:, :2]
    two = two * np.where(two[np.abs(two).argmax(axis=0), [0, 1][: two.shape[1]]] < 0, -1.0, 1.0)
    found = np.zeros((len(vectors), 2))
    found[:, : two.shape[1]] = centred @ two
    return found


def _fit_square(places: npt.NDArray[Any]) -> Places:
    """Scaled alike in both directions, into the middle of the unit square."""
    low, high = places.min(axis=0), places.max(axis=0)
    scale = (1 - 2 * _MARGIN) / max(float((high - low).max()), _NOTHING)
    return np.asarray(((places - (low + high) / 2) * scale + 0.5).clip(0, 1), np.float32)
