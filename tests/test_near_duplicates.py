"""Near-duplicates as a user meets them: real pictures, racing and killed updates, cheap when nothing is new."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageEnhance, ImageFilter

import datago
from refinery.config import InspectSettings, NearDuplicateSettings
from refinery.digests import digest
from refinery.errors import CorruptionError, InputError
from refinery.facts import FactStore, Step, facts_table
from refinery.near_duplicates import (
    members,
    near_duplicates_step,
    read_clusters,
    state,
    update,
    update_clusters,
)
from refinery.near_duplicates.edges import close_hashes
from refinery.steps.inspect import inspect_step
from refinery.store.local import LocalStore

D = 16
INSPECT = inspect_step(InspectSettings())
EMBED = Step(
    "embed",
    1,
    {"dimension": D},
    columns=pa.schema([("embedder", pa.string()), ("vector", pa.list_(pa.float32(), D))]),
)
STEP = near_duplicates_step(NearDuplicateSettings(), INSPECT, EMBED)


def land(store: LocalStore, batch: str, numbers: range, *, vectors: bool = True) -> list[str]:
    """Facts of samples of which each even one and the odd one after it are near-duplicates by vector."""
    ids = [digest(str(n).encode()) for n in numbers]
    rng = [np.random.default_rng(n // 2) for n in numbers]
    facts = FactStore(store)
    rows: dict[str, Any] = {
        "sample_id": ids,
        "pixel_digest": ids,
        "phash": [f"{np.random.default_rng(1000 + n).integers(2**63):016x}" for n in numbers],
        "contrast": [0.2] * len(ids),
        "entropy": [7.0] * len(ids),
    }
    facts.write(INSPECT, batch, facts_table(INSPECT, rows))
    if vectors:
        drawn = np.array([r.normal(size=D) for r in rng]).reshape(-1, D)
        unit = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
        facts.write(EMBED, batch, facts_table(EMBED, {"sample_id": ids, "vector": unit.tolist()}))
    return ids


def test_nothing_at_all_is_no_cluster(store: LocalStore) -> None:
    report = update_clusters(store, STEP, INSPECT, EMBED)
    assert (report.samples, report.clusters, report.batches, report.changed) == (0, 0, [], [])
    assert read_clusters(store, STEP).schema.equals(state.CLUSTERS)
    land(store, "a", range(0))
    report = update_clusters(store, STEP, INSPECT, EMBED)
    assert (report.samples, report.batches) == (0, ["a"])
    assert set(FactStore(store).files(STEP)) == {"a"}


def test_a_cluster_is_named_by_its_smallest_sample_and_lists_its_members(store: LocalStore) -> None:
    ids = land(store, "a", range(5))
    report = update_clusters(store, STEP, INSPECT, EMBED)
    pairs = [sorted(ids[:2]), sorted(ids[2:4])]
    assert (report.samples, report.new, report.clusters, report.clustered, report.largest) == (5, 5, 2, 4, 2)
    assert report.joined == {"cosine": 2}
    assert report.changed == sorted(ids[:4])
    assert members(store, STEP, ids[1]) == pairs[0]
    assert {(row["sample_id"], row["cluster"]) for row in read_clusters(store, STEP).to_pylist()} == {
        (i, pair[0]) for pair in pairs for i in pair
    }
    with pytest.raises(InputError, match="no near-duplicate cluster"):
        members(store, STEP, ids[4])


def test_no_pair_is_ever_compared_twice_and_nothing_new_writes_nothing(store: LocalStore) -> None:
    pairs = 0
    for number in range(6):
        land(store, f"b{number}", range(number * 5, number * 5 + 5))
        pairs += update_clusters(store, STEP, INSPECT, EMBED).pairs
    assert pairs == 30 * 29 // 2
    before = {info.key: info.version for info in store.list("facts/near_duplicates")}
    report = update_clusters(store, STEP, INSPECT, EMBED)
    assert (report.pairs, report.new, report.samples, report.clusters) == (0, 0, 30, 15)
    assert {info.key: info.version for info in store.list("facts/near_duplicates")} == before


def test_a_batch_waits_until_it_is_embedded(store: LocalStore) -> None:
    land(store, "a", range(4), vectors=False)
    assert update_clusters(store, STEP, INSPECT, EMBED).batches == []
    without = near_duplicates_step(NearDuplicateSettings(), INSPECT, None)
    assert update_clusters(store, without, INSPECT, None).samples == 4
    land(store, "a", range(4))
    assert update_clusters(store, STEP, INSPECT, EMBED).clusters == 2


def test_only_the_batches_asked_for_are_compared(store: LocalStore) -> None:
    land(store, "a", range(4))
    land(store, "b", range(4, 8))
    assert update_clusters(store, STEP, INSPECT, EMBED, batches=["b"]).batches == ["b"]
    assert update_clusters(store, STEP, INSPECT, EMBED).batches == ["a"]


def test_facts_that_come_later_join_later(store: LocalStore) -> None:
    ids = land(store, "a", range(2))
    facts = FactStore(store)
    late = facts_table(EMBED, {"sample_id": ids[:1], "reason": ["unreadable"], "retryable": [True]})
    other = LocalStore(store.root.parent / "other")
    facts_there = FactStore(other)
    facts_there.write(INSPECT, "a", facts.read(INSPECT))
    facts_there.write(EMBED, "a", pa.concat_tables([late, facts.read(EMBED, sample_ids=ids[1:])]))
    assert update_clusters(other, STEP, INSPECT, EMBED).clusters == 0
    marked = facts_there.files(STEP)
    facts_there.write(EMBED, "a", facts.read(EMBED))
    report = update_clusters(other, STEP, INSPECT, EMBED)
    assert (report.clusters, report.new) == (1, 0)
    assert facts_there.files(STEP) != marked


def test_many_updates_leave_few_objects_and_the_same_root_as_one(store: LocalStore, tmp_path: Path) -> None:
    for number in range(40):
        land(store, f"b{number:02}", range(number, number + 2))
        last = update_clusters(store, STEP, INSPECT, EMBED)
    names = [
        info.key for info in store.list(f"{STEP.folder}/") if "/" in info.key.removeprefix(f"{STEP.folder}/")
    ]
    assert len(names) < 80
    other = LocalStore(tmp_path / "other")
    land(other, "all", range(41))
    assert update_clusters(other, STEP, INSPECT, EMBED).root == last.root


class Killed(Exception):
    pass


class DyingStore(LocalStore):
    """A store whose process dies at its n-th write or deletion."""

    def __init__(self, root: Path, lives: int) -> None:
        super().__init__(root)
        self.lives = lives

    def _live(self) -> None:
        self.lives -= 1
        if self.lives < 0:
            raise Killed

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self._live()
        return super().put_if_absent(key, data)

    def put_if_match(self, key: str, data: bytes, etag: str | None) -> str:
        self._live()
        return super().put_if_match(key, data, etag)

    def delete(self, key: str) -> bool:
        self._live()
        return super().delete(key)


def test_killed_anywhere_and_run_again_it_ends_the_same(store: LocalStore, tmp_path: Path) -> None:
    land(store, "a", range(6))
    land(store, "b", range(5, 9))
    expected = update_clusters(store, STEP, INSPECT, EMBED).root
    lives = 0
    while True:
        root = tmp_path / f"dying{lives}"
        there = LocalStore(root)
        land(there, "a", range(6))
        update_clusters(there, STEP, INSPECT, EMBED)
        land(there, "b", range(5, 9))
        try:
            update_clusters(DyingStore(root, lives), STEP, INSPECT, EMBED)
            survived = True
        except Killed:
            survived = False
        assert update_clusters(there, STEP, INSPECT, EMBED).root == expected
        assert set(FactStore(there).files(STEP)) == {"a", "b"}
        assert {s for row in FactStore(there).read(STEP).to_pylist() for s in [row["sample_id"]]} == {
            digest(str(n).encode()) for n in range(9)
        }
        if survived:
            break
        lives += 1
    assert lives > 4


def test_racing_updates_lose_no_pair(store: LocalStore) -> None:
    for number in range(8):
        land(store, f"b{number}", range(number * 3, number * 3 + 3))
    with ThreadPoolExecutor(4) as pool:
        list(
            pool.map(
                lambda n: update_clusters(store, STEP, INSPECT, EMBED, batches=[f"b{n}", f"b{n + 1}"]),
                range(7),
            )
        )
    report = update_clusters(store, STEP, INSPECT, EMBED)
    assert (report.batches, report.samples, report.clusters) == ([], 24, 12)


def test_a_large_update_is_published_in_several_goes(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(update, "_GROUP_SAMPLES", 4)
    for number in range(4):
        land(store, f"b{number}", range(number * 3, number * 3 + 3))
    report = update_clusters(store, STEP, INSPECT, EMBED)
    assert (report.samples, report.clusters, report.pairs) == (12, 6, 12 * 11 // 2)
    assert state.State(store, STEP).head()[0].generation == 3


def test_a_missing_object_or_a_broken_head_says_how_to_rebuild(store: LocalStore) -> None:
    land(store, "a", range(4))
    update_clusters(store, STEP, INSPECT, EMBED)
    head, _ = state.State(store, STEP).head()
    assert head.clusters is not None
    store.delete(head.clusters)
    with pytest.raises(CorruptionError, match="delete the head"):
        read_clusters(store, STEP)
    (store.root / f"{STEP.folder}/head.json").unlink()
    assert update_clusters(store, STEP, INSPECT, EMBED).root == head.root
    (store.root / f"{STEP.folder}/head.json").write_text("[]")
    with pytest.raises(CorruptionError, match="delete it"):
        read_clusters(store, STEP)


def test_thousands_of_copies_of_one_hash_are_a_star_and_not_all_pairs() -> None:
    hashes = np.array([0, 1, 3], np.uint64)
    a, b, bits = close_hashes(hashes[:1], hashes[1:], 1)
    assert sorted(zip(a.tolist(), b.tolist(), bits.tolist(), strict=True)) == [(0, 1, 1.0), (1, 2, 1.0)]


def variants(picture: Image.Image) -> Iterator[bytes]:
    """A picture and what people make of it: saved worse, smaller, cropped a little, blurred, brighter."""
    w, h = picture.size

    def saved(image: Image.Image, quality: int = 92) -> bytes:
        sink = BytesIO()
        image.save(sink, "JPEG", quality=quality)
        return sink.getvalue()

    yield saved(picture)
    yield saved(picture, 50)
    yield saved(picture.resize((w // 2, h // 2)))
    yield saved(picture.crop((w // 100, h // 100, w - w // 100, h - h // 100)))
    yield saved(picture.filter(ImageFilter.GaussianBlur(1)))
    yield saved(ImageEnhance.Brightness(picture).enhance(1.15))


def test_variants_of_photographs_are_found_by_their_hashes_and_photographs_kept_apart(
    store: LocalStore,
) -> None:
    from skimage import data

    photographs = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket(), data.hubble_deep_field()]
    files = [list(variants(Image.fromarray(p))) for p in photographs]
    plain = [BytesIO() for _ in range(2)]
    for sink, grey in zip(plain, (90, 160), strict=True):
        Image.new("L", (64, 64), grey).save(sink, "PNG")
    everything = [data for group in files for data in group] + [sink.getvalue() for sink in plain]
    columns = datago.inspect(everything).columns
    rows = {name: list(columns[name]) for name in ("pixel_digest", "contrast", "entropy")}
    rows["sample_id"] = [digest(data) for data in everything]
    rows["phash"] = [f"{int(value):016x}" for value in columns["phash"]]
    FactStore(store).write(INSPECT, "a", facts_table(INSPECT, rows))
    step = near_duplicates_step(NearDuplicateSettings(), INSPECT, None)
    update_clusters(store, step, INSPECT, None)
    clusters = read_clusters(store, step)
    found = dict(zip(clusters["sample_id"].to_pylist(), clusters["cluster"].to_pylist(), strict=True))
    assert found == {digest(data): min(digest(d) for d in group) for group in files for data in group}
