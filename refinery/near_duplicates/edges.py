"""Which pairs are near-duplicates. Whether a pair is joined depends on the two samples alone, never on the others.

Where many samples are equal to each other one of them stands for all (a star instead of every pair): the connected
components are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import numpy.typing as npt

from refinery.near_duplicates.components import Ints

Hashes = npt.NDArray[np.uint64]
Vectors = npt.NDArray[np.float32]
Pairs = tuple[Ints, Ints, npt.NDArray[np.float64]]
"""Edges as (a, b, value): positions of the two samples, and how far or how close they are."""

_BANDS = 4
_BAND_BITS = 16
_CANDIDATES = 1 << 22
_BLOCK = 2048


def equal_values(old: Ints, new: Ints) -> tuple[Ints, Ints]:
    """A star per value over `new` (m,) and `old` (n,): positions (in the concatenation old, new) of each edge's ends.

    Values are codes: equal codes, equal values. Every new position is joined to the first position with its value.
    """
    both = np.concatenate([old, new])
    _, first, inverse = np.unique(both, return_index=True, return_inverse=True)
    positions = np.arange(len(old), len(both), dtype=np.int64)
    heads = first[inverse[len(old) :]].astype(np.int64)
    apart = heads != positions
    return heads[apart], positions[apart]


def close_hashes(old: Hashes, new: Hashes, distance: int) -> Pairs:
    """All pairs of a new hash with an old one or another new one at a Hamming distance of at most `distance`.

    `old` and `new` hold distinct values. Positions are in the concatenation old, new. Exact: of four 16-bit bands at
    least one differs in at most `distance // 4` bits (multi-index hashing; Norouzi, Punjani, Fleet, CVPR 2012).
    """
    both = np.concatenate([old, new])
    found: list[Ints] = []
    masks = _masks(distance // _BANDS)
    for band in range(_BANDS):
        keys = ((both >> np.uint64(band * _BAND_BITS)) & np.uint64(0xFFFF)).astype(np.int64)
        order = np.argsort(keys, kind="stable")
        starts = np.searchsorted(keys[order], np.arange(0x10001))
        for mask in masks:
            wanted = keys[len(old) :] ^ mask
            for left, at in _expand(starts[wanted], starts[wanted + 1]):
                right = order[at]
                left = left + len(old)
                near = (np.bitwise_count(both[left] ^ both[right]) <= distance) & (right < left)
                found.append(left[near] * len(both) + right[near])
    codes = np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)
    a, b = codes % max(len(both), 1), codes // max(len(both), 1)
    return a, b, np.bitwise_count(both[a] ^ both[b]).astype(np.float64)


def close_vectors(left: Vectors, right: Vectors, cosine: float, *, same: bool = False) -> Iterator[Pairs]:
    """All pairs (row of `left`, row of `right`) of unit vectors with a cosine of at least `cosine`, block by block.

    With `same` the two are one table and each pair of different rows comes once. Exact: products in single precision find
    what is near the bound, and double precision decides there, so that the answer does not depend on the blocks.
    """
    margin = (left.shape[1] + 16) * 2.0**-23
    for i in range(0, len(left), _BLOCK):
        block = left[i : i + _BLOCK]
        for j in range(i if same else 0, len(right), _BLOCK):
            products = block @ right[j : j + _BLOCK].T
            if same and i == j:
                products[np.tril_indices(len(block))] = -1
            if products.max(initial=-1) < cosine - margin:
                continue
            a, b = np.nonzero(products >= cosine - margin)
            values = products[a, b].astype(np.float64)
            unsure = np.flatnonzero(values < cosine + margin)
            values[unsure] = exact_cosines(left, right, a[unsure] + i, b[unsure] + j)
            sure = values >= cosine
            if sure.any():
                yield a[sure] + i, b[sure] + j, values[sure]


def exact_cosines(left: Vectors, right: Vectors, a: Ints, b: Ints) -> npt.NDArray[np.float64]:
    """Cosines of the pairs (left[a[i]], right[b[i]]) in double precision: a function of the pair alone."""
    values = np.empty(len(a), np.float64)
    for start in range(0, len(a), _BLOCK):
        part = slice(start, start + _BLOCK)
        values[part] = (left[a[part]].astype(np.float64) * right[b[part]].astype(np.float64)).sum(axis=1)
    return values


def _masks(radius: int) -> list[int]:
    """All 16-bit masks with at most `radius` bits set."""
    return [
        sum(1 << bit for bit in bits)
        for weight in range(radius + 1)
        for bits in combinations(range(_BAND_BITS), weight)
    ]


def _expand(starts: Ints, ends: Ints) -> Iterator[tuple[Ints, Ints]]:
    """(i, p) for every i and every p in starts[i]..ends[i], in pieces that fit in memory."""
    counts = ends - starts
    total = np.cumsum(counts)
    at = 0
    while at < len(counts):
        before = int(total[at - 1]) if at else 0
        stop = max(int(np.searchsorted(total, before + _CANDIDATES, side="right")), at + 1)
        some = counts[at:stop]
        owners = np.repeat(np.arange(at, stop, dtype=np.int64), some)
        offsets = np.arange(len(owners), dtype=np.int64) - np.repeat(np.cumsum(some) - some, some)
        if len(owners):
            yield owners, starts[owners] + offsets
        at = stop
