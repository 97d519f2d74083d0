"""Splits: no cluster in two of them, about the shares asked for, and nothing but a merge moves a sample."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refinery.digests import digest
from refinery.errors import ConfigError
from refinery.splits import Splits

IDS = [digest(str(n).encode()) for n in range(60)]
SHARES = st.lists(st.integers(1, 20), min_size=1, max_size=5).map(
    lambda parts: {f"part{n}": part / sum(parts) for n, part in enumerate(parts)}
)
GROUPS = st.lists(st.integers(0, 25), min_size=len(IDS), max_size=len(IDS))
SEEDS = st.integers(0, 2**64 - 1)


def named(groups: list[int], upto: int = len(IDS)) -> dict[str, str]:
    """The clusters of the first so many samples by their groups: the smallest id names those of two or more."""
    members = defaultdict(list)
    for sample_id, group in list(zip(IDS, groups, strict=True))[:upto]:
        members[group].append(sample_id)
    return {i: min(ids) for ids in members.values() if len(ids) > 1 for i in ids}


@given(SHARES, SEEDS, GROUPS, st.permutations(IDS))
def test_a_cluster_is_in_one_split_whatever_the_order(
    shares: dict[str, float], seed: int, groups: list[int], order: list[str]
) -> None:
    splits, clusters = Splits(shares, seed), named(groups)
    found = dict(zip(IDS, splits.assign(IDS, clusters), strict=True))
    assert dict(zip(order, splits.assign(order, clusters), strict=True)) == found
    assert set(found.values()) <= set(shares)
    of_group = defaultdict(set)
    for sample_id, group in zip(IDS, groups, strict=True):
        of_group[group].add(found[sample_id])
    assert all(len(names) == 1 for names in of_group.values())


@given(SHARES, SEEDS, GROUPS, st.integers(0, len(IDS)))
def test_a_set_that_grows_keeps_its_splits_but_where_a_smaller_id_joined_the_cluster(
    shares: dict[str, float], seed: int, groups: list[int], upto: int
) -> None:
    splits, before, after = Splits(shares, seed), named(groups, upto), named(groups)
    moved = splits.moved(IDS[:upto], before, after)
    old = dict(zip(IDS[:upto], splits.assign(IDS[:upto], before), strict=True))
    new = dict(zip(IDS[:upto], splits.assign(IDS[:upto], after), strict=True))
    assert moved == {i: (old[i], new[i]) for i in old if old[i] != new[i]}
    for sample_id in moved:
        assert after[sample_id] < before.get(sample_id, sample_id)
    assert splits.moved(IDS, after, after) == {}


@settings(max_examples=25, deadline=None)
@given(SHARES, SEEDS)
def test_splits_have_the_shares_asked_for_within_what_chance_allows(
    shares: dict[str, float], seed: int
) -> None:
    n = 4000
    ids = [digest(f"many {i}".encode()) for i in range(n)]
    counts = Counter(Splits(shares, seed).assign(ids, {}))
    for name, share in shares.items():
        assert abs(counts[name] - n * share) <= 6 * math.sqrt(n * share * (1 - share)) + 1


def test_another_seed_is_another_split_and_the_rule_never_changes() -> None:
    shares = {"train": 0.5, "val": 0.25, "test": 0.25}
    assert Splits(shares, 1).assign(IDS, {}) != Splits(shares, 2).assign(IDS, {})
    assert Splits(shares, 7).assign(IDS[:6], {}) == EXPECTED


EXPECTED = ["test", "test", "val", "test", "val", "train"]


@pytest.mark.parametrize(
    "shares", [{}, {"train": 1.1}, {"train": 0.5}, {"train": 1.0, "val": 0.0}, {"train": 1.5, "val": -0.5}]
)
def test_shares_that_are_none_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="sum to 1"):
        Splits(shares)


def test_a_seed_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="seed"):
        Splits({"all": 1.0}, -1)
