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
Branch = tuple[int, bytes]
"""One branch on the way from a row up to the root: on which side the row's own set lies (0: left), and the digest of the
set on the other side."""


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


def set_path(ids: Sequence[bytes], rows: Sequence[bytes], wanted: bytes) -> list[Branch]:
    """The way from one member of a set (given as for `set_digest`) up to its digest. ValueError when it is no member."""
    low, high, branches = 0, len(ids), list[Branch]()
    while high - low > 1:
        first, last = (int.from_bytes(ids[at], "big") for at in (low, high - 1))
        bit = (first ^ last).bit_length() - 1
        start = ((last >> bit) << bit).to_bytes(32, "big")
        middle = bisect_left(ids, start, low, high)
        if wanted < start:
            branches.append((0, set_digest(ids[middle:high], rows[middle:high])))
            high = middle
        else:
            branches.append((1, set_digest(ids[low:middle], rows[low:middle])))
            low = middle
    if low == high or ids[low] != wanted:
        raise ValueError(f"{wanted.hex()} is not in the set")
    return branches[::-1]


def nibble_path(children: Sequence[bytes | None], digit: int) -> list[Branch]:
    """The way from the child at `digit` up to the digest of all 16 (given as for `join_nibbles`)."""
    level, branches = list(children), list[Branch]()
    while len(level) > 1:
        sibling = level[digit ^ 1]
        if sibling is not None:
            branches.append((digit & 1, sibling))
        level = [_join(level[i], level[i + 1]) for i in range(0, len(level), 2)]
        digit >>= 1
    return branches


def _join(left: bytes | None, right: bytes | None) -> bytes | None:
    if left is None or right is None:
        return right if left is None else left
    return branch_digest(left, right)
