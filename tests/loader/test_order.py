"""The order of a stream: complete, the same for every world size and place, and resumable anywhere."""

from __future__ import annotations

from itertools import islice
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datago.errors import ConfigError, InputError
from datago.order import Order, Part, Planned

PARTS = st.lists(st.lists(st.integers(0, 3), max_size=25), min_size=1, max_size=9).map(
    lambda found: [Part(f"s{n}", np.array(buckets, np.int32)) for n, buckets in enumerate(found)]
)
SEEDS = st.integers(0, 2**63 - 1)
SIZES = st.integers(1, 7)
WINDOWS = st.integers(1, 10)
Sample = tuple[str, int]


def samples(order: Order, batch: Planned) -> list[Sample]:
    pairs = zip(batch.parts.tolist(), batch.rows.tolist(), strict=True)
    return [(order.parts[part].stem, row) for part, row in pairs]


def everything(parts: list[Part]) -> list[Sample]:
    return sorted((part.stem, row) for part in parts for row in range(len(part.buckets)))


def made(parts: list[Part], size: int, seed: int = 0, **options: Any) -> Order | None:
    if not any(len(part.buckets) for part in parts):
        with pytest.raises(ConfigError, match="no samples"):
            Order(parts, batch_size=size, seed=seed)
        return None
    return Order(parts, batch_size=size, seed=seed, **options)


def epoch(order: Order, number: int = 0) -> list[Planned]:
    return list(islice(order.batches(number * order.per_epoch), order.per_epoch))


@given(PARTS, SIZES, SEEDS, WINDOWS, st.booleans(), st.integers(0, 3))
def test_every_epoch_has_every_sample_once_in_batches_of_one_bucket(
    parts: list[Part], size: int, seed: int, shards: int, shuffle: bool, number: int
) -> None:
    order = made(parts, size, seed, shuffle_shards=shards, shuffle=shuffle)
    if order is None:
        return
    batches = epoch(order, number)
    assert [b.position for b in batches] == [number * order.per_epoch + n for n in range(order.per_epoch)]
    assert {b.epoch for b in batches} == {number}
    assert sorted(s for b in batches for s in samples(order, b)) == everything(parts)
    buckets = {(part.stem, row): int(b) for part in parts for row, b in enumerate(part.buckets)}
    small = []
    for batch in batches:
        assert {buckets[s] for s in samples(order, batch)} == {batch.bucket}
        assert 1 <= len(batch.rows) <= size
        small += [batch.bucket] if len(batch.rows) < size else []
    assert len(small) == len(set(small))


@given(PARTS, SIZES, SEEDS, st.randoms())
def test_the_order_is_that_of_the_set_of_shards(
    parts: list[Part], size: int, seed: int, random: Random
) -> None:
    shuffled = list(parts)
    random.shuffle(shuffled)
    one, other = made(parts, size, seed), made(shuffled, size, seed)
    if one is None or other is None:
        return
    told = [[samples(o, b) for b in epoch(o)] for o in (one, other)]
    assert told[0] == told[1]


@given(PARTS, SIZES, SEEDS, WINDOWS, st.integers(0, 60))
def test_it_begins_anywhere_as_if_it_had_come_from_the_start(
    parts: list[Part], size: int, seed: int, shards: int, start: int
) -> None:
    order = made(parts, size, seed, shuffle_shards=shards)
    if order is None:
        return
    whole = [(b.position, b.epoch, samples(order, b)) for b in islice(order.batches(), start + 12)]
    later = [(b.position, b.epoch, samples(order, b)) for b in islice(order.batches(start), 12)]
    assert later == whole[start:]


@given(PARTS, SIZES, SEEDS, WINDOWS)
def test_no_shard_is_asked_for_after_its_window_unless_it_was_said_to_wait(
    parts: list[Part], size: int, seed: int, shards: int
) -> None:
    order = made(parts, size, seed, shuffle_shards=shards)
    if order is None:
        return
    left, waiting = order.per_epoch, set(range(len(parts)))  # windows before the first batch are not told of
    for window in order.windows():
        assert len(window.parts) <= shards
        used = {int(part) for batch in window.batches for part in batch.parts}
        assert used <= {*window.parts, *waiting}
        assert window.waiting <= {*window.parts, *waiting}
        waiting = window.waiting
        left -= len(window.batches)
        if not left:
            break
    assert not waiting


@given(PARTS, SIZES, SEEDS)
def test_what_is_dropped_is_the_small_batches_alone(parts: list[Part], size: int, seed: int) -> None:
    order = made(parts, size, seed)
    if order is None:
        return
    full = [samples(order, b) for b in epoch(order) if len(b.rows) == size]
    if not full:
        with pytest.raises(ConfigError, match="drop_last"):
            Order(parts, batch_size=size, seed=seed, drop_last=True)
        return
    dropping = Order(parts, batch_size=size, seed=seed, drop_last=True)
    assert [samples(dropping, b) for b in epoch(dropping)] == full


def test_without_shuffling_samples_come_as_they_are_stored() -> None:
    order = Order([Part.of("b", 3, 0), Part.of("a", 2, 0)], batch_size=2, shuffle=False, shuffle_shards=1)
    expected = [[("a", 0), ("a", 1)], [("b", 0), ("b", 1)], [("b", 2)]]
    assert [samples(order, b) for b in epoch(order, 0)] == expected
    assert [samples(order, b) for b in epoch(order, 1)] == expected


def test_another_seed_or_epoch_is_another_order() -> None:
    parts = [Part.of(f"s{n}", 50, 0) for n in range(4)]
    orders = [Order(parts, batch_size=10, seed=seed) for seed in (0, 1)]
    told = [[samples(o, b) for b in epoch(o, n)] for o in orders for n in (0, 1)]
    assert all(a != b for i, a in enumerate(told) for b in told[i + 1 :])


def test_the_order_of_a_fixed_example_never_changes() -> None:
    """A promise to tokens of before: machines, releases and NumPy's generators do not move it."""
    order = Order(
        [Part.of(f"64x64-{n:02b}", 5, n % 2) for n in range(4)], batch_size=3, seed=7, shuffle_shards=2
    )
    told = [" ".join(f"{stem[6:]}.{row}" for stem, row in samples(order, b)) for b in epoch(order, 3)]
    assert told == [
        "00.1 00.4 00.2",
        "01.3 01.0 01.1",
        "00.3 00.0 10.0",
        "01.4 01.2 11.4",
        "11.0 11.3 11.2",
        "10.1 10.4 10.2",
        "10.3",
        "11.1",
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": True}, "batch_size"),
        ({"batch_size": 2, "seed": -1}, "seed"),
        ({"batch_size": 2, "shuffle_shards": 0}, "shuffle_shards"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Order([Part.of("a", 1, 0)], **options)  # type: ignore[arg-type]


def test_two_shards_of_one_stem_are_refused() -> None:
    with pytest.raises(InputError, match="'a'"):
        Order([Part.of("a", 1, 0), Part.of("a", 2, 0)], batch_size=1)
