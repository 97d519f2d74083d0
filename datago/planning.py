"""Which sample goes into which shard: a pure function of the set of samples and the recipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from datago.aspect import assign, buckets
from datago.errors import InputError
from datago.recipe import Recipe


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """One shard to be: its file name, the exact (width, height) of its pictures (`None`: untouched bytes), and its
    samples in the order in which they are written."""

    name: str
    bucket: tuple[int, int] | None
    sample_ids: tuple[str, ...]


def plan(
    sample_ids: Sequence[str], widths: npt.ArrayLike, heights: npt.ArrayLike, recipe: Recipe
) -> list[ShardPlan]:
    """Distribute the samples over shards; sorted by bucket, then by name. `widths` and `heights` are as displayed.

    The order of the arguments does not matter. Within a bucket, samples are ordered by BLAKE3(seed, sample id); while
    a group holds more than `samples_per_shard`, it is split by the next bit of that hash. The bits are the shard's
    name, so a sample that comes or goes changes the one shard it falls in (which may split, or vanish).

    Raises `InputError` for duplicate ids, lengths that differ, or sides that are not positive.
    """
    if len(set(sample_ids)) != len(sample_ids):
        raise InputError("plan: the same sample id is there more than once")
    if not len(sample_ids) == np.size(widths) == np.size(heights):
        raise InputError("plan: sample_ids, widths and heights must have one length")
    seed = recipe.seed.to_bytes(8, "little")
    keyed = [(blake3(seed + sample_id.encode()).digest(), sample_id) for sample_id in sample_ids]
    groups: list[tuple[str, tuple[int, int] | None, list[tuple[bytes, str]]]]
    if recipe.size == "bucket":
        sizes = buckets(recipe)
        members: list[list[tuple[bytes, str]]] = [[] for _ in sizes]
        for index, entry in zip(assign(widths, heights, sizes).tolist(), keyed, strict=True):
            members[index].append(entry)
        groups = [(f"{w}x{h}", (w, h), group) for (w, h), group in zip(sizes, members, strict=True)]
    elif recipe.size == "fixed":
        groups = [(f"{recipe.side}x{recipe.side}", (recipe.side, recipe.side), keyed)]
    else:
        groups = [("bytes", None, keyed)]
    return [
        ShardPlan(
            f"{prefix}-{bits or 'all'}.{recipe.extension}", bucket, tuple(sample_id for _, sample_id in part)
        )
        for prefix, bucket, group in groups
        for bits, part in _split(sorted(group), "", recipe.samples_per_shard)
    ]


def _split(
    ordered: list[tuple[bytes, str]], bits: str, most: int
) -> Iterator[tuple[str, list[tuple[bytes, str]]]]:
    if not ordered:
        return
    if len(ordered) <= most:
        yield bits, ordered
        return
    byte, shift = divmod(len(bits), 8)
    mask = 0x80 >> shift
    # Sorted by hash, a group with common leading bits is all zeros, then all ones, in the next.
    low, high = 0, len(ordered)
    while low < high:
        middle = (low + high) // 2
        if ordered[middle][0][byte] & mask:
            high = middle
        else:
            low = middle + 1
    yield from _split(ordered[:low], bits + "0", most)
    yield from _split(ordered[low:], bits + "1", most)
