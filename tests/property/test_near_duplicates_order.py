"""Clusters do not depend on order, on how samples are cut into batches, nor on how often or how far an update ran."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refinery.config import InspectSettings, NearDuplicateSettings
from refinery.digests import digest
from refinery.facts import FactStore, Step, facts_table
from refinery.near_duplicates import near_duplicates_step, read_clusters, update_clusters
from refinery.near_duplicates.clusters import MIN_CONTRAST, MIN_ENTROPY
from refinery.near_duplicates.edges import close_hashes, close_vectors
from refinery.steps.inspect import inspect_step
from refinery.store.local import LocalStore

D = 4
INSPECT = inspect_step(InspectSettings())
EMBED = Step(
    "embed",
    1,
    {"dimension": D},
    columns=pa.schema([("embedder", pa.string()), ("vector", pa.list_(pa.float32(), D))]),
)
STEP = near_duplicates_step(NearDuplicateSettings(phash_distance=5, cosine=0.97), INSPECT, EMBED)

sample = st.fixed_dictionaries(
    {
        "pixels": st.sampled_from("abcdefgh"),
        "base": st.sampled_from([0, 0x0F0F_1234_8000_FFFF, 0xFFFF_FFFF_0000_0000]),
        "flips": st.sets(st.integers(0, 63), max_size=4),
        "plain": st.booleans(),
        "angle": st.none() | st.floats(0, 3.1),
        "fails": st.integers(0, 9).map(lambda n: n == 0),
        "embedded_late": st.booleans(),
    }
)


def describe(numbered: tuple[int, dict[str, Any]]) -> dict[str, Any]:
    number, drawn = numbered
    phash = drawn["base"]
    for bit in drawn["flips"]:
        phash ^= 1 << bit
    vector = None
    if drawn["angle"] is not None:
        vector = np.array([np.cos(drawn["angle"]), np.sin(drawn["angle"]), 0, 0], np.float32)
    return {**drawn, "id": digest(str(number).encode()), "phash": phash, "vector": vector}


def land(
    store: LocalStore, batch: str, samples: list[dict[str, Any]], embedded: list[dict[str, Any]]
) -> None:
    """Write the facts of one batch: inspections of `samples`, vectors of `embedded`."""
    good = [not s["fails"] for s in samples]
    facts = FactStore(store)
    rows = {
        "sample_id": [s["id"] for s in samples],
        "reason": [None if ok else "truncated" for ok in good],
        "pixel_digest": [s["pixels"] if ok else None for s, ok in zip(samples, good, strict=True)],
        "phash": [f"{s['phash']:016x}" if ok else None for s, ok in zip(samples, good, strict=True)],
        "contrast": [0.0 if s["plain"] else MIN_CONTRAST * 2 for s in samples],
        "entropy": [MIN_ENTROPY * 2 for s in samples],
    }
    facts.write(INSPECT, batch, facts_table(INSPECT, rows))
    embedded = [s for s in embedded if not s["fails"]]
    rows = {
        "sample_id": [s["id"] for s in embedded],
        "reason": ["non_finite" if s["vector"] is None else None for s in embedded],
        "vector": [None if s["vector"] is None else s["vector"].tolist() for s in embedded],
    }
    facts.write(EMBED, batch, facts_table(EMBED, rows))


def expected(samples: list[dict[str, Any]]) -> dict[str, str]:
    """The cluster of every sample that has near-duplicates, pair by pair."""
    good = [s for s in samples if not s["fails"]]
    group = {s["id"]: s["id"] for s in good}
    for a in good:
        for b in good:
            near = a["pixels"] == b["pixels"]
            if not a["plain"] and not b["plain"]:
                near |= (a["phash"] ^ b["phash"]).bit_count() <= 5
                if a["vector"] is not None and b["vector"] is not None:
                    near |= float((a["vector"].astype(float) * b["vector"].astype(float)).sum()) >= 0.97
            if near and group[a["id"]] != group[b["id"]]:
                low, high = sorted((group[a["id"]], group[b["id"]]))
                group = {i: low if g == high else g for i, g in group.items()}
    sizes = [list(group.values()).count(g) for g in group.values()]
    return {i: g for (i, g), n in zip(group.items(), sizes, strict=True) if n > 1}


def found(store: LocalStore) -> dict[str, str]:
    table = read_clusters(store, STEP)
    assert table["sample_id"].to_pylist() == sorted(table["sample_id"].to_pylist())
    clusters = dict(zip(table["sample_id"].to_pylist(), table["cluster"].to_pylist(), strict=True))
    sizes = list(clusters.values())
    assert table["size"].to_pylist() == [sizes.count(cluster) for cluster in sizes]
    return clusters


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.data_too_large, HealthCheck.too_slow]
)
@given(drawn=st.lists(sample, max_size=12), data=st.data())
def test_incremental_equals_full_for_any_split_in_any_order(
    drawn: list[dict[str, Any]], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    samples = [describe(numbered) for numbered in enumerate(drawn)]
    shuffled = data.draw(st.permutations(samples))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(samples)), max_size=2)))
    names = data.draw(st.permutations(["a", "b", "c"]))
    bounds = [0, *cuts, len(samples)]
    store = LocalStore(tmp_path_factory.mktemp("store"))
    waiting: list[dict[str, Any]] = []
    for name, start, end in zip(names, bounds, bounds[1:], strict=False):
        again = shuffled[max(0, start - 1) : start]
        here = shuffled[start:end]
        late = [s for s in here if s["embedded_late"] and name != names[len(bounds) - 2]]
        land(store, name, [*again, *here], [*waiting, *(s for s in here if all(s is not w for w in late))])
        waiting = late
        if data.draw(st.booleans()):
            update_clusters(store, STEP, INSPECT, EMBED)
    last = update_clusters(store, STEP, INSPECT, EMBED)
    clusters = found(store)
    assert clusters == expected(samples)
    assert last.clustered == len(clusters)
    assert set(FactStore(store).files(STEP)) == set(names[: len(bounds) - 1])
    rebuilt = update_clusters(store, STEP, INSPECT, EMBED, rebuild=True)
    assert rebuilt.root == last.root
    assert rebuilt.changed == []


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    distance=st.integers(0, 16),
    split=st.integers(0, 30),
)
def test_close_hashes_finds_exactly_the_pairs_within_the_distance(
    seed: int, distance: int, split: int
) -> None:
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 2**64, 4, dtype=np.uint64)
    flips = rng.integers(0, 64, (30, 12))
    values = base[rng.integers(0, 4, 30)]
    for column in range(int(rng.integers(0, 12))):
        values = values ^ (np.uint64(1) << flips[:, column].astype(np.uint64))
    values = rng.permutation(np.unique(values))
    split = min(split, len(values))
    a, b, bits = close_hashes(values[:split], values[split:], distance)
    pairs = {
        (i, j): int(values[i] ^ values[j]).bit_count()
        for j in range(split, len(values))
        for i in range(j)
        if int(values[i] ^ values[j]).bit_count() <= distance
    }
    assert dict(zip(zip(a.tolist(), b.tolist(), strict=True), bits.tolist(), strict=True)) == pairs


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cosine=st.floats(0.5, 1))
def test_close_vectors_decides_each_pair_alike_in_any_block(seed: int, cosine: float) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(3, 8))[rng.integers(0, 3, 24)] + rng.normal(size=(24, 8)) * 0.1
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    whole = {
        (a, b)
        for block in close_vectors(vectors, vectors, cosine, same=True)
        for a, b in zip(*block[:2], strict=True)
    }
    cut = int(rng.integers(0, 25))
    left, right = vectors[:cut], vectors[cut:]
    parts = {
        (a, b)
        for block in close_vectors(left, left, cosine, same=True)
        for a, b in zip(*block[:2], strict=True)
    }
    parts |= {
        (a + cut, b + cut)
        for block in close_vectors(right, right, cosine, same=True)
        for a, b in zip(*block[:2], strict=True)
    }
    parts |= {
        (b, a + cut) for block in close_vectors(right, left, cosine) for a, b in zip(*block[:2], strict=True)
    }
    assert whole == parts
