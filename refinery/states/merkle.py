"""The root digest of a set of rows: a binary Merkle radix tree over sample ids.

    digest(∅)     = BLAKE3("")
    digest({r})   = BLAKE3(0x00 ‖ sample_id ‖ row digest)
    digest(S)     = BLAKE3(0x01 ‖ digest(S₀) ‖ digest(S₁)), S split at the first bit of the ids in which S differs

It depends on the set alone: not on the order of arrival, the storage layout or anybody's Parquet writer.
(Crit-bit trees: D. J. Bernstein, "Crit-bit trees", 2006; Merkle: R. C. Merkle, 1987.)
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from blake3 import blake3

EMPTY = blake3(b"").digest()


def leaf_digest(sample_id: bytes, row: bytes) -> bytes:
    """The digest of a set of one row; both arguments are 32 bytes."""
    return blake3(b"\x00" + sample_id + row).digest()


def branch_digest(left: bytes, right: bytes) -> bytes:
    """The digest of two disjoint sets that part at one bit."""
    return blake3(b"\x01" + left + right).digest()


def set_digest(ids: Sequence[bytes], rows: Sequence[bytes]) -> bytes:
    """The digest of a set given as ids in ascending order, without repeats, and their row digests."""
    if not ids:
        return EMPTY
    numbers = [int.from_bytes(i, "big") for i in ids]
    leaves = [leaf_digest(i, r) for i, r in zip(ids, rows, strict=True)]

    def fold(low: int, high: int) -> bytes:
        if high - low == 1:
            return leaves[low]
        first, last = numbers[low], numbers[high - 1]
        bit = (first ^ last).bit_length() - 1
        middle = bisect_left(numbers, (last >> bit) << bit, low, high)
        return branch_digest(fold(low, middle), fold(middle, high))

    return fold(0, len(leaves))


def join_nibbles(children: Sequence[bytes | None]) -> bytes:
    """The digest of the union of 16 sets whose ids differ in one hex digit, by that digit; None: that set is empty."""
    level: list[bytes | None] = list(children)
    while len(level) > 1:
        level = [_join(level[i], level[i + 1]) for i in range(0, len(level), 2)]
    return level[0] if level[0] is not None else EMPTY


def _join(left: bytes | None, right: bytes | None) -> bytes | None:
    if left is None or right is None:
        return right if left is None else left
    return branch_digest(left, right)
