"""Which of some vectors a set of others does not cover, and the regions that these lie in.

Around each target is the ball that reaches to its k-th nearest target, and what counts is how many covered vectors lie in it (density
and coverage: Naeem, Oh, Uh, Choi, Yoo 2020, "Reliable fidelity and diversity metrics for generative models"): the measure is the
target's own neighbourhood, so that a kind of pictures that is spread out is not taken for a gap. A target is uncovered when it
is not in the set and its ball holds so few that of a set that is thinned alike everywhere hardly a ball would.
The uncovered ones are grouped by their modes: each joins its densest neighbour, and two groups are one where the density between
them is not much lower than at the lower peak (ToMATo: Chazal, Guibas, Oudot, Skraba 2013, "Persistence-based clustering in
Riemannian manifolds").
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

import numpy as np
import numpy.typing as npt

from refinery.embedding_map.layout import Vectors
from refinery.progress import NullProgress, Progress

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
_FEWEST, _MOST = 10, 200
_EXPECTED = 8
"""So many covered vectors a ball is to hold on average."""
_RARE = 0.02
"""A ball is uncovered when fewer than this share of all would hold so few (Poisson)."""
_LINKS = 8
"""Neighbours that a target may be grouped with: fewer than a ball has, so that small groups stay apart."""
_SADDLE = 1.2
"""Two groups are one when the radius between them is at most so many times that of the lower peak."""
_LEAST = 3
"""Fewer uncovered targets together are no region."""
_BLOCK = 1 << 22
_SAME = 1e-3


@dataclass(frozen=True)
class Region:
    """Uncovered targets that lie together: positions of its `members`, the most central one first, then by distance to the set,
    the farthest first; `deficit`, how many they are, each by the share of covered vectors that its ball lacks; `nearest`, position of the covered
    vector that is nearest to any of them, at `nearest_distance`; `distance`, the median of the members. Distances are cosine
    distances, 1 - cos."""

    members: Ints
    deficit: float
    distance: float
    nearest: int
    nearest_distance: float


def under_covered(
    targets: Vectors,
    inside: npt.NDArray[np.bool_],
    covered: Vectors,
    progress: Progress | None = None,
) -> list[Region]:
    """The regions of `targets` (n, d) that `covered` (m, d) does not cover, the largest deficit first. All are unit vectors.

    `inside`: which targets are in the covered set themselves (n,). Works in blocks of about 75 MB.
    """
    outside = np.flatnonzero(~inside)
    k = _ball(len(targets), len(covered))
    if not len(outside) or k < 1:
        return []
    progress = progress or NullProgress()
    progress.start(len(outside) * (2 if len(covered) else 1), "comparisons")
    try:
        near, chords = _nearest_targets(targets, outside, k, progress)
        radii = chords[:, -1]
        nearest, gaps, counts = _nearest_covered(
            targets[outside], covered, radii + np.float32(_SAME), progress
        )
    finally:
        progress.done()
    links = min(_LINKS, k)
    expected = k * min(len(covered) / len(targets), 1)
    far = np.flatnonzero(counts <= _rare(expected))
    place = np.full(len(targets), -1, np.int64)
    place[outside[far]] = np.arange(len(far))
    labels = _modes(place[near[far, :links]], chords[far, links - 1])
    lacking = 1 - counts[far] / expected if expected else np.ones(len(far))
    found = []
    for label in np.unique(labels):
        group = np.flatnonzero(labels == label)
        if len(group) < _LEAST:
            continue
        rows = far[group]
        vectors = targets[outside[rows]]
        central = int((vectors @ vectors.mean(axis=0)).argmax())
        order = np.argsort(-gaps[rows], kind="stable")
        order = np.concatenate([[central], order[order != central]])
        closest = rows[gaps[rows].argmin()]
        found.append(
            Region(
                members=outside[rows[order]],
                deficit=float(lacking[group].sum()),
                distance=_cosine(float(np.median(gaps[rows]))),
                nearest=int(nearest[closest]),
                nearest_distance=_cosine(float(gaps[closest])),
            )
        )
    return sorted(found, key=lambda r: (-r.deficit, int(r.members[0])))


def typical_distance(covered: Vectors, most: int = 2000) -> float | None:
    """The median cosine distance of the first `most` covered vectors to their nearest other one; None of fewer than two."""
    if len(covered) < 2:
        return None
    some = np.arange(min(most, len(covered)))
    _, chords = _nearest_targets(covered, some, 1, NullProgress())
    return _cosine(float(np.median(chords)))


def _ball(targets: int, covered: int) -> int:
    """How many neighbours the ball of a target reaches to; a small set has smaller balls."""
    share = min(covered / max(targets, 1), 1)
    wanted = min(max(_FEWEST, int(np.ceil(_EXPECTED / share)) if share else _FEWEST), _MOST)
    return min(wanted, max(_LEAST, targets // 10), targets - 1)


def _nearest_targets(targets: Vectors, chosen: Ints, k: int, progress: Progress) -> tuple[Ints, Floats]:
    """Of the targets at `chosen` (u,) the k nearest others, the nearest first, and their chord distances (both (u, k))."""
    near = np.empty((len(chosen), k), np.int64)
    chords = np.empty((len(chosen), k), np.float32)
    step = max(1, _BLOCK // max(len(targets), 1))
    for start in range(0, len(chosen), step):
        part = chosen[start : start + step]
        cosines = targets[part] @ targets.T
        cosines[np.arange(len(part)), part] = -2
        best = np.argpartition(cosines, -k, axis=1)[:, -k:]
        values = np.take_along_axis(cosines, best, 1)
        order = np.argsort(-values, axis=1, kind="stable")
        near[start : start + step] = np.take_along_axis(best, order, 1)
        chords[start : start + step] = _chord(np.take_along_axis(values, order, 1))
        progress.advance(len(part))
    return near, chords


def _nearest_covered(
    vectors: Vectors, covered: Vectors, radii: Floats, progress: Progress
) -> tuple[Ints, Floats, Ints]:
    """The nearest covered vector of each, its chord distance, and how many are within the radius; -1, 2 and 0 when there is none."""
    counts = np.zeros(len(vectors), np.int64)
    if not len(covered):
        return np.full(len(vectors), -1, np.int64), np.full(len(vectors), 2, np.float32), counts
    nearest = np.empty(len(vectors), np.int64)
    gaps = np.empty(len(vectors), np.float32)
    step = max(1, _BLOCK // len(covered))
    for start in range(0, len(vectors), step):
        part = slice(start, start + step)
        cosines = vectors[part] @ covered.T
        nearest[part] = best = cosines.argmax(axis=1)
        gaps[part] = _chord(cosines[np.arange(len(best)), best])
        counts[part] = (cosines >= 1 - radii[part, None] ** 2 / 2).sum(axis=1)
        progress.advance(len(best))
    return nearest, gaps, counts


def _rare(expected: float) -> int:
    """The largest count that fewer than _RARE of balls hold when they hold so many on average; 0 when that is too many already."""
    count, term = 0, exp(-expected)
    below = term
    while True:
        term *= expected / (count + 1)
        if below + term > _RARE:
            return count
        count, below = count + 1, below + term


def _modes(near: Ints, radii: Floats) -> Ints:
    """The group of each of n points: `near` (n, k) are neighbours as positions, -1 for those that do not count; points are taken
    densest first, which is smallest radius first."""
    rows, columns = np.nonzero(near >= 0)
    ends = near[rows, columns]
    a, b = np.concatenate([rows, ends]), np.concatenate([ends, rows])
    order = np.argsort(a, kind="stable")
    starts = np.searchsorted(a[order], np.arange(len(near) + 1))
    others = b[order]
    rank = np.empty(len(near), np.int64)
    dense = np.argsort(radii, kind="stable")
    rank[dense] = np.arange(len(near))
    parent = np.arange(len(near))

    def root(point: int) -> int:
        while parent[point] != point:
            parent[point] = parent[parent[point]]
            point = int(parent[point])
        return point

    for point in dense.tolist():
        around = others[starts[point] : starts[point + 1]]
        denser = around[rank[around] < rank[point]]
        if not len(denser):
            continue
        roots = sorted({root(int(i)) for i in denser}, key=lambda r: int(rank[r]))
        parent[point] = peak = roots[0]
        for lower in roots[1:]:
            if radii[point] <= _SADDLE * radii[lower]:
                parent[lower] = peak
    return np.array([root(i) for i in range(len(near))], np.int64)


def _chord(cosines: npt.NDArray[np.float32]) -> Floats:
    return np.asarray(np.sqrt(np.maximum(2 - 2 * cosines, 0)), np.float32)


def _cosine(chord: float) -> float:
    """A chord of the unit sphere as a cosine distance, 0 to 2."""
    return chord * chord / 2
