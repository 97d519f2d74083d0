"""The map of an embedding space: near is alike, new batches move nothing, and it may be thrown away at any time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from refinery.embedding_map import EmbeddingMap, Points
from refinery.embedding_map import kept as maps
from refinery.embedding_map.layout import lay_out, place, unit
from refinery.embedding_map.points import even_odd
from refinery.errors import ConfigError, CorruptionError, InputError
from refinery.gc import Garbage
from refinery.ledger import Actor, ActorKind
from refinery.project import Refinery
from refinery.states.ids import order_of, to_bytes
from refinery.store.local import LocalStore
from tests.synthetic import Sample, Synthetic, quick_folder

ANA = Actor(ActorKind.PERSON, "ana")


@pytest.fixture
def world() -> Iterator[Synthetic]:
    with quick_folder() as folder:
        yield Synthetic(LocalStore(Path(folder)))


def land(world: Synthetic, numbers: range) -> str:
    samples = [Sample(n) for n in numbers]
    batch = world.land(samples)
    world.compute(batch, samples)
    return batch


def map_of(world: Synthetic) -> EmbeddingMap:
    return EmbeddingMap(world.facts, world.steps.default_embed)


def clusters(count: int, each: int, dimension: int = 32, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(count, dimension))
    return unit(
        (np.repeat(centres, each, axis=0) + 0.3 * rng.normal(size=(count * each, dimension))).astype(
            np.float32
        )
    )


def test_the_same_vectors_are_laid_out_alike_and_clusters_stay_apart() -> None:
    vectors = clusters(4, 40)
    places = lay_out(vectors)
    assert np.array_equal(places, lay_out(vectors))
    assert places.dtype == np.float32
    assert places.min() >= 0
    assert places.max() <= 1
    gaps = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(gaps, np.inf)
    nearest = gaps.argmin(axis=1) // 40
    assert (nearest == np.repeat(np.arange(4), 40)).mean() > 0.97


@pytest.mark.parametrize("count", [1, 2, 5, 15, 16])
def test_even_few_samples_have_places(count: int) -> None:
    vectors = clusters(1, count)
    places = lay_out(vectors)
    assert places.shape == (count, 2)
    assert np.isfinite(places).all()
    assert np.isfinite(place(vectors, vectors, places)).all()


def test_a_landmark_keeps_its_place_and_others_lie_with_their_kind() -> None:
    vectors, more = clusters(4, 40), clusters(4, 60)[::7]
    places = lay_out(vectors)
    assert np.abs(place(vectors, vectors, places) - places).max() < 1e-3
    found = place(more, vectors, places)
    together = np.concatenate([place(more[i : i + 1], vectors, places) for i in range(len(more))])
    assert np.abs(found - together).max() < 1e-5, "a place depends on no other sample"
    kinds = np.linalg.norm(found[:, None] - places[None], axis=2).argmin(axis=1) // 40
    assert (kinds == (vectors @ more.T).argmax(axis=0) // 40).mean() > 0.95


def test_without_scikit_learn_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(ConfigError, match=r"image-refinery\[map\]"):
        lay_out(clusters(1, 20))


def test_copies_of_one_picture_lie_in_one_place() -> None:
    vectors = np.repeat(clusters(1, 1), 30, axis=0)
    assert np.isfinite(place(vectors, vectors, lay_out(vectors))).all()


def test_new_batches_are_placed_without_moving_what_stands(world: Synthetic) -> None:
    land(world, range(40))
    first = map_of(world).make()
    assert (first.fitted, first.landmarks, first.placed, first.batches) == (True, 40, 40, 1)
    before = map_of(world).points()
    land(world, range(40, 60))
    status = map_of(world).status()
    assert status is not None
    assert (status.batches, status.missing) == (2, 1)
    assert len(map_of(world).points()) == 40
    second = map_of(world).make()
    assert (second.fitted, second.fit, second.placed, second.samples) == (False, first.fit, 20, 60)
    after = map_of(world).points()
    places, there = after.positions(before.ids)
    assert there.all()
    assert np.array_equal(after.places[places], before.places)
    assert map_of(world).make().placed == 0
    refitted = map_of(world).make(refit=True)
    assert (refitted.fitted, refitted.landmarks, refitted.fit != first.fit) == (True, 60, True)


def test_a_map_that_is_outgrown_is_laid_out_anew(world: Synthetic) -> None:
    land(world, range(10))
    map_of(world).make()
    land(world, range(10, 41))
    made = map_of(world).make()
    assert (made.fitted, made.landmarks, made.samples) == (True, 41, 41)


def test_placing_alone_never_moves_a_map_that_is_outgrown(world: Synthetic) -> None:
    land(world, range(10))
    fit = map_of(world).make().fit
    land(world, range(10, 41))
    assert map_of(world).place() == 31
    status = map_of(world).status()
    assert status is not None
    assert (status.fit, status.samples, status.missing) == (fit, 10, 0)


def test_points_are_in_order_of_id_and_a_sample_of_two_batches_is_there_once(world: Synthetic) -> None:
    land(world, range(20))
    land(world, range(10, 30))
    map_of(world).make()
    points = map_of(world).points()
    ids = points.text(np.arange(len(points))).to_pylist()
    assert ids == sorted({Sample(n).id for n in range(30)})
    assert points.ids.nbytes + points.places.nbytes == 40 * 30


def test_without_a_map_there_are_no_points_and_without_vectors_there_is_no_map(world: Synthetic) -> None:
    assert map_of(world).status() is None
    with pytest.raises(InputError) as missing:
        map_of(world).points()
    assert missing.value.kind == "no_map"
    with pytest.raises(InputError) as empty:
        map_of(world).make()
    assert empty.value.kind == "no_vectors"


def test_a_file_of_facts_that_was_written_again_is_placed_again(world: Synthetic) -> None:
    batch = land(world, range(20))
    map_of(world).make()
    world.compute(batch, [Sample(n) for n in range(25)])
    made = map_of(world).make()
    assert (made.batches, made.placed, made.samples) == (1, 25, 25)


def test_damage_is_named(world: Synthetic) -> None:
    land(world, range(20))
    fit = map_of(world).make().fit
    key = f"maps/{world.steps.default_embed.key}/{fit}/landmarks.arrow"
    world.store.delete(key)
    with pytest.raises(CorruptionError, match=r"landmarks\.arrow"):
        map_of(world).status()


def test_garbage_collection_takes_former_maps_and_leaves_the_one_in_force(world: Synthetic) -> None:
    land(world, range(20))
    former = map_of(world).make().fit
    land(world, range(20, 40))
    map_of(world).make(refit=True)
    before = map_of(world).points()
    steps = [world.steps.inspect, world.steps.near_duplicates, world.steps.default_embed]
    assert Garbage(world.store, steps).find().objects == 0, "what is young stays"
    found = Garbage(world.store, steps, older_than=timedelta(0)).collect()
    assert [key.split("/")[2] for key in found.keys if key.startswith("maps/")] == [former, former]
    assert np.array_equal(map_of(world).points().places, before.places)
    others = [world.steps.inspect, world.steps.near_duplicates]
    Garbage(world.store, others, older_than=timedelta(0)).collect()
    assert not list(world.store.list("maps/"))


def test_what_is_taken_down_leaves_the_map_and_nothing_else_moves(world: Synthetic) -> None:
    land(world, range(30))
    map_of(world).make()
    land(world, range(30, 40))
    map_of(world).make()
    gone = [Sample(3).id, Sample(33).id]
    before = map_of(world).points()
    assert maps.forget(world.store, gone) > 0
    assert maps.forget(world.store, gone) == 0, "done twice, it does nothing"
    raw = [bytes.fromhex(i) for i in gone]
    for info in world.store.list("maps/"):
        assert not any(i in world.store.get(info.key) for i in raw), info.key
    kept = maps.KeptMap.of(world.store, world.steps.default_embed)
    name, _ = kept.head()
    assert name is not None
    fit = kept.fit(name)
    at, there = before.positions(fit.ids)
    assert there.all()
    assert np.abs(before.places[at] - fit.places).max() < 1e-3


def test_a_takedown_of_the_project_reaches_its_map(refined: Path) -> None:
    project = Refinery.open(refined)
    made = EmbeddingMap.of(project)
    made.make()
    points = made.points()
    victim = points.text(np.array([0])).to_pylist()[0]
    project.takedown.run([victim], "asked by its author", ANA, project.policy)
    for info in project.store.list("maps/"):
        assert bytes.fromhex(victim) not in project.store.get(info.key)
    after = EmbeddingMap.of(project)
    after.make()
    assert len(after.points()) == len(points) - 1
    assert victim not in after.points().text(np.arange(len(points) - 1)).to_pylist()


def test_ids_are_put_in_order_by_all_of_their_bytes() -> None:
    rng = np.random.default_rng(4)
    ids = rng.integers(0, 256, (3000, 32), np.uint8)
    ids[::3, :8] = ids[0, :8]  # the same beginnings of different ids
    ids[5::50] = ids[5]
    for some in (ids, np.delete(ids, np.arange(0, 3000, 3), axis=0), ids[:0]):
        order = order_of(some)
        assert [bytes(i) for i in some[order]] == sorted(bytes(i) for i in some)
        same = np.flatnonzero((some[order][1:] == some[order][:-1]).all(axis=1))
        assert (order[same] < order[same + 1]).all(), "equal ones stay as they stand"


STAR = [(0.5, 0.98), (0.2, 0.05), (0.97, 0.6), (0.03, 0.6), (0.8, 0.05)]
COMB = [(0.0, 0.0), *((x / 10, 0.9 if x % 2 else 0.1) for x in range(11)), (1.0, 0.0)]


@pytest.mark.parametrize("polygon", [STAR, COMB, [(0.1, 0.1), (0.9, 0.1), (0.9, 0.9)]])
def test_a_polygon_holds_what_looking_at_every_point_says(polygon: list[tuple[float, float]]) -> None:
    rng = np.random.default_rng(1)
    places = rng.random((20_000, 2)).astype(np.float32)
    points = Points(rng.integers(0, 256, (20_000, 32), np.uint8), places)
    expected = np.flatnonzero(even_odd(places.astype(np.float64), np.asarray(polygon)))
    assert np.array_equal(points.inside(polygon), expected)
    assert 0 < len(expected) < 20_000


def test_a_point_within_a_star_is_out_where_the_edges_cross_twice() -> None:
    points = Points(to_bytes(_texts(["0" * 64, "1" * 64])), np.array([[0.5, 0.45], [0.5, 0.8]], np.float32))
    assert points.inside(STAR).tolist() == [1]


@pytest.mark.parametrize(
    "polygon", [[], [(0, 0), (1, 1)], [(0, 0)] * 61, [(0, 0), (1, float("nan")), (1, 1)]]
)
def test_what_is_no_polygon_is_refused(polygon: list[tuple[float, float]]) -> None:
    with pytest.raises(InputError) as refused:
        Points(np.zeros((0, 32), np.uint8), np.zeros((0, 2), np.float32)).inside(polygon)
    assert refused.value.kind == "bad_polygon"


def _texts(ids: list[str]) -> object:
    import pyarrow as pa

    return pa.array(ids)
