"""Recipes, buckets and plans: pure functions, checked over random inputs."""

from __future__ import annotations

import random
import re

import pytest
from blake3 import blake3
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import datago
from datago import ConfigError, InputError, Recipe, ShardPlan
from datago.recipe import ENCODER_VERSION, encoder_of


def bucket_recipe(side: int, patch: int, least: float, most: float) -> Recipe:
    try:
        return Recipe(side=side, patch=patch, min_aspect=least, max_aspect=most)
    except ConfigError:
        assume(False)
        raise


recipes = st.builds(
    bucket_recipe,
    st.integers(32, 1536),
    st.sampled_from([1, 2, 8, 14, 16, 32, 64]),
    st.one_of(st.sampled_from([0.25, 0.5, 0.75, 1.0]), st.floats(0.1, 1.5)),
    st.one_of(st.sampled_from([1.0, 4 / 3, 2.0, 4.0]), st.floats(0.8, 8)),
)


@given(recipes)
@settings(max_examples=150, deadline=None)
def test_every_bucket_is_divisible_and_strictly_within_the_bounds_and_near_the_area(recipe: Recipe) -> None:
    sizes = datago.buckets(recipe)
    assert sizes
    assert len(set(sizes)) == len(sizes)
    for width, height in sizes:
        assert width % recipe.patch == 0
        assert height % recipe.patch == 0
        assert recipe.min_aspect < width / height < recipe.max_aspect
        # Half a patch on one side is the most that rounding can cost.
        assert abs(width * height - recipe.side**2) <= recipe.patch * max(width, height)


def test_the_square_is_a_bucket_and_the_bounds_are_not() -> None:
    sizes = datago.buckets(Recipe(side=512, patch=64, min_aspect=0.5, max_aspect=2.0))
    assert (512, 512) in sizes
    assert all(0.5 < w / h < 2 for w, h in sizes)
    assert datago.buckets(Recipe(side=64, patch=64)) == [(64, 64)]


@given(st.integers(1, 20_000), st.integers(1, 20_000), recipes)
@settings(max_examples=100, deadline=None)
def test_a_picture_is_assigned_to_the_bucket_nearest_in_ratio(
    width: int, height: int, recipe: Recipe
) -> None:
    sizes = datago.buckets(recipe)
    chosen = int(datago.assign([width], [height], sizes)[0])

    def distance(size: tuple[int, int]) -> float:
        a, b = width * size[1], height * size[0]
        return max(a, b) / min(a, b)

    assert distance(sizes[chosen]) == min(map(distance, sizes))


def planned(count: int, seed: int = 0) -> tuple[list[str], list[int], list[int]]:
    dice = random.Random(seed)
    ids = [blake3(f"{seed}/{i}".encode()).hexdigest() for i in range(count)]
    return ids, [dice.randint(50, 2000) for _ in ids], [dice.randint(50, 2000) for _ in ids]


sizes_of_plan = st.sampled_from(["bucket", "fixed", "bytes"])


@given(
    st.integers(0, 400),
    st.integers(1, 60),
    sizes_of_plan,
    st.integers(0, 5),
    st.randoms(use_true_random=False),
)
@settings(max_examples=60, deadline=None)
def test_a_plan_covers_every_sample_once_whatever_the_order(
    count: int, most: int, size: str, seed: int, dice: random.Random
) -> None:
    recipe = Recipe(size=size, samples_per_shard=most, side=256, patch=64, seed=seed)  # type: ignore[arg-type]
    ids, widths, heights = planned(count, seed)
    plan = datago.plan(ids, widths, heights, recipe)
    placed = [sample_id for shard in plan for sample_id in shard.sample_ids]
    assert sorted(placed) == sorted(ids)
    assert all(0 < len(shard.sample_ids) <= most for shard in plan)
    names = [shard.name for shard in plan]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+\.tar", name) for name in names)
    order = list(range(count))
    dice.shuffle(order)
    shuffled = datago.plan(
        [ids[i] for i in order], [widths[i] for i in order], [heights[i] for i in order], recipe
    )
    assert shuffled == plan


@given(st.integers(1, 400), st.integers(1, 40), sizes_of_plan)
@settings(max_examples=80, deadline=None)
def test_one_more_sample_changes_only_the_shard_it_falls_in(count: int, most: int, size: str) -> None:
    recipe = Recipe(size=size, samples_per_shard=most, side=256, patch=64)  # type: ignore[arg-type]
    ids, widths, heights = planned(count)
    before = set(datago.plan(ids[:-1], widths[:-1], heights[:-1], recipe))
    after = set(datago.plan(ids, widths, heights, recipe))
    gone, come = before - after, after - before
    assert len(gone) <= 1
    assert {i for shard in come for i in shard.sample_ids} == {i for s in gone for i in s.sample_ids} | {
        ids[-1]
    }
    if gone:
        assert all(shard.bucket == next(iter(gone)).bucket for shard in come)


def test_another_seed_shuffles_otherwise() -> None:
    ids, widths, heights = planned(200)
    orders = {datago.plan(ids, widths, heights, Recipe(size="bytes", seed=s))[0].sample_ids for s in range(4)}
    assert len(orders) == 4


def test_shards_are_named_by_format() -> None:
    ids, widths, heights = planned(3)
    for form, extension in (("webdataset", "tar"), ("mds", "mds"), ("parquet", "parquet")):
        recipe = Recipe(format=form, size="fixed", side=64)  # type: ignore[arg-type]
        shard = datago.plan(ids, widths, heights, recipe)[0]
        assert (shard.name, shard.bucket) == (f"64x64-all.{extension}", (64, 64))


def test_a_plan_refuses_duplicates_and_contradictions() -> None:
    with pytest.raises(InputError, match="more than once"):
        datago.plan(["a", "a"], [1, 1], [1, 1], Recipe())
    with pytest.raises(InputError, match="one length"):
        datago.plan(["a", "b"], [1], [1], Recipe())
    with pytest.raises(InputError, match="at least 1 pixel"):
        datago.plan(["a"], [0], [5], Recipe())
    assert datago.plan([], [], [], Recipe()) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"formt": "mds"}, "did you mean 'format'"),
        ({"colour": 1}, "there is no 'colour'"),
        ({"format": "webdatset"}, "did you mean 'webdataset'"),
        ({"side": 0}, "side"),
        ({"side": 12.5}, "side"),
        ({"quality": 101}, "quality"),
        ({"quality": True}, "quality"),
        ({"samples_per_shard": 0}, "samples_per_shard"),
        ({"seed": -1}, "seed"),
        ({"min_aspect": 2.0, "max_aspect": 0.5}, "min_aspect"),
        ({"min_aspect": 1.0, "max_aspect": 1.0}, "min_aspect"),
        ({"min_aspect": "wide"}, "min_aspect"),
        ({"max_aspect": float("nan")}, "max_aspect"),
        ({"side": 64, "patch": 128}, "patch"),
        ({"subsampling": "4:2:2"}, "subsampling"),
        ({"subsampling": "4:2:0", "encode": "webp"}, "is for encode='jpeg', not for 'webp'"),
        ({"encode": "npy"}, "encode"),
        ({"format": "mds", "compression": "zst"}, "did you mean 'zstd'"),
        ({"format": "mds", "compression": ""}, "compression must be one of 'zstd', 'gz', or left out"),
        ({"format": "parquet", "compression": "zstd"}, "is for format='mds', not for 'parquet'"),
        ({"side": 64, "patch": 64, "min_aspect": 1.01, "max_aspect": 1.02}, "no size"),
    ],
)
def test_a_wrong_recipe_is_a_config_error_that_names_the_field(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Recipe.from_dict(values)
    assert isinstance(caught.value, ValueError)
    assert (caught.value.kind, caught.value.retryable) == ("config", False)


def test_a_recipe_survives_a_round_trip_and_its_digest_names_its_content() -> None:
    recipe = Recipe(format="mds", side=768, max_aspect=3)
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert recipe.digest == Recipe.from_dict({"format": "mds", "side": 768, "max_aspect": 3.0}).digest
    assert len({recipe.digest, Recipe().digest, Recipe(seed=1).digest}) == 3
    assert re.fullmatch(r"[0-9a-f]{64}", recipe.digest)


def test_a_recipe_without_compression_is_what_it_was_before_there_was_one() -> None:
    assert "compression" not in Recipe(format="mds").to_dict()
    known = "2034d71e1e9775d1807914321723b9b66a8429bfeac11dda47ebb1b66a9fc7a0"
    assert encoder_of(Recipe(format="mds").to_dict(), known) == 2
    packed = Recipe(format="mds", compression="zstd")
    assert Recipe.from_dict(packed.to_dict()) == packed
    assert packed.digest != known
    assert packed.extension == "mds.zstd"


def test_a_recipe_of_a_former_version_is_read_and_its_digest_is_known() -> None:
    values = Recipe().to_dict()
    newer = values.pop("subsampling"), values.pop("extra_images")
    assert (newer, ENCODER_VERSION) == (("4:4:4", []), 3)
    assert Recipe.from_dict(values) == Recipe()
    former = "7d1e3d31b79f344d85ba231fc7210e32df85fff54471bf451af0dfc1e876819c"
    assert encoder_of(values, former) == 1
    assert encoder_of(values | {"quality": 91}, former) is None
    assert encoder_of(Recipe().to_dict(), former) is None
    second = "28f72b2868ce2dbf0186a6821003e472d1e25086e273dc73eafe286edac504bc"
    assert encoder_of(Recipe().to_dict(), second) == 2
    assert encoder_of(Recipe().to_dict(), Recipe().digest) == 3


def test_a_plan_is_a_value() -> None:
    assert ShardPlan("a.tar", None, ("x",)) == ShardPlan("a.tar", None, ("x",))
    assert hash(ShardPlan("a.tar", (64, 64), ("x",)))
