"""Distances between two samples of numbers, categories or vectors. Pure functions of their arguments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from refinery.digests import digest

Floats = npt.NDArray[np.float64]
_BLOCK = 1024


def kolmogorov_smirnov(base: Floats, head: Floats) -> float:
    """The two-sample Kolmogorov–Smirnov statistic: the largest difference of the two empirical distribution functions,
    0 to 1. Neither side may be empty."""
    points = np.concatenate([base, head])
    below = (np.searchsorted(np.sort(side), points, side="right") / len(side) for side in (base, head))
    return float(np.abs(next(below) - next(below)).max())


def population_stability_index(base: Floats, head: Floats, bins: int = 10) -> float:
    """The population stability index, Σ (h − b) ln(h / b) over bins, where b and h are the shares of BASE and HEAD.

    Bins are cut at the quantiles of `base`, with one more bin below its least and one above its greatest value. Half a
    sample is added to every bin of either side, so that an empty bin has a logarithm and small sets are not called adrift
    by it. Yurdakul and Naranjo, "Statistical properties of the population stability index", Journal of Risk Model
    Validation 14(4), 2020. Neither side may be empty.
    """
    inner = np.quantile(base, np.linspace(0, 1, bins + 1))
    edges = np.unique(np.append(inner[:-1], np.nextafter(inner[-1], np.inf)))
    counts = [
        np.bincount(np.searchsorted(edges, side, side="right"), minlength=len(edges) + 1) + 0.5
        for side in (base, head)
    ]
    b, h = (c / c.sum() for c in counts)
    return float(np.sum((h - b) * np.log(h / b)))


def shares(values: Sequence[Hashable]) -> dict[Hashable, float]:
    """The share of each value among all, the most frequent first; values that are as frequent in order of their text."""
    counts = sorted(Counter(values).items(), key=lambda item: (-item[1], str(item[0])))
    return {value: count / len(values) for value, count in counts}


def total_variation(base: dict[Hashable, float], head: dict[Hashable, float]) -> float:
    """The total variation distance of two distributions over categories: half the sum of the differences, 0 to 1."""
    return sum(abs(head.get(v, 0) - base.get(v, 0)) for v in sorted({*base, *head}, key=str)) / 2


def cosine_of_means(base: Floats, head: Floats) -> float:
    """One minus the cosine of the mean vectors of (n, d) and (m, d) matrices: 0 to 2, and 1 when a mean is zero."""
    x, y = base.mean(axis=0), head.mean(axis=0)
    lengths = float(np.linalg.norm(x) * np.linalg.norm(y))
    return 1 - float(x @ y) / lengths if lengths else 1.0


def maximum_mean_discrepancy(base: Floats, head: Floats) -> float:
    """The maximum mean discrepancy of (n, d) and (m, d) matrices of unit vectors: the distance of their mean embeddings
    under the Gaussian kernel exp(−|x − y|² / 2), whose width 1 suits unit vectors. 0 exactly when both hold the same
    vectors; for two samples of one distribution √(1/n + 1/m) or less in the mean.

    The biased estimate (equation 5) of Gretton et al., "A Kernel Two-Sample Test", JMLR 13, 2012. Preferred to Fréchet's
    distance because it assumes no normal distribution and needs no covariance of d × d entries from few samples: see
    Jayasumana et al., "Rethinking FID", CVPR 2024 (arXiv:2401.09603).
    """
    squared = _mean_kernel(base, base) + _mean_kernel(head, head) - 2 * _mean_kernel(base, head)
    return float(np.sqrt(max(squared, 0.0)))


def _mean_kernel(x: Floats, y: Floats) -> float:
    """The mean of the kernel over all pairs, in blocks of rows: memory does not grow with n × m."""
    squares = (y**2).sum(axis=1)
    total = 0.0
    for start in range(0, len(x), _BLOCK):
        rows = x[start : start + _BLOCK]
        distances = (rows**2).sum(axis=1)[:, None] + squares[None, :] - 2 * (rows @ y.T)
        total += float(np.exp(-np.maximum(distances, 0) / 2).sum())
    return total / (len(x) * len(y))


def chosen(sample_ids: Sequence[str], at_most: int, seed: int) -> list[str]:
    """At most so many of these samples, in order of id: those whose digest with the seed is least. A sample is chosen by
    its own id, so two sets that overlap are represented by choices that overlap."""
    if len(sample_ids) <= at_most:
        return sorted(sample_ids)
    return sorted(sorted(sample_ids, key=lambda i: digest(f"{seed} {i}".encode()))[:at_most])
