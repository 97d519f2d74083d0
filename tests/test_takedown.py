"""Takedown: bytes and what was made of them go, only what held them is written again, and every root is still explained."""

from __future__ import annotations

import io
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from datago.recipe import ENCODER_VERSION
from refinery.blobs import blob_key
from refinery.digests import digest
from refinery.errors import CorruptionError, InputError
from refinery.export import Exporter, parse_recipe
from refinery.export_check import ExportCheck
from refinery.ledger import Actor, ActorKind, Ledger
from refinery.near_duplicates import read_clusters, update_clusters
from refinery.rebuild import Rebuild
from refinery.snapshots import Snapshots
from refinery.states.head import KEY, read_head
from refinery.store import ObjectStore
from refinery.store.local import LocalStore
from refinery.takedown import Takedown
from refinery.tombstones import Tombstones
from tests.formats.make_samples import Picture
from tests.synthetic import Synthetic, gold, quick_folder

ANA = Actor(ActorKind.PERSON, "ana")
RECIPES = (
    {"format": "webdataset", "size": "bytes", "samples_per_shard": 2},
    {"format": "mds", "size": "bytes", "samples_per_shard": 2},
    {"format": "parquet", "size": "bytes", "samples_per_shard": 3},
)
Taken = tuple["Project", str, Callable[[str, Callable[[Any], Any]], None]]
WHY = "asked by the photographer"


class Project(Synthetic):
    """A synthetic project of pictures with three exports of `set@1`: one that is taken down, its near-duplicates, and others."""

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store)
        self.snapshots = Snapshots(store, self.ledger)
        self.exporter = Exporter(store, self.snapshots)

    def fill(self) -> Picture:
        """Freeze and export; the sample that is to go."""
        samples = [Picture(n, look=9 if n < 3 else n, side=100 + 10 * n) for n in range(8)]
        for sample in samples:
            self.store.put_if_absent(blob_key(sample.id), sample.bytes)
        for some, at in ((samples[:5], "2026-01-01"), (samples[4:], "2026-01-02")):
            self.compute(self.land(some, f"{at}T00:00:00+00:00"), some)
        self.replayer.replay(self.policy)
        snapshot, _ = self.freeze_state(self.snapshots, "set", gold)
        for recipe in RECIPES:
            self.exporter.export(snapshot, parse_recipe(recipe))
        return samples[2]

    @property
    def takedown(self) -> Takedown:
        return Takedown(
            self.store, self.ledger, self.batches, self.snapshots, self.exporter, self.replayer, self.steps
        )

    def take(self, *ids: str) -> Any:
        return self.takedown.run(list(ids), WHY, ANA, self.policy)

    def findings(self) -> list[str]:
        snapshots = Snapshots(self.store)
        found = []
        try:
            everything = snapshots.all()
        except CorruptionError as error:
            return [str(error)]
        for snapshot in everything:
            found += [*snapshots.verify(snapshot), *ExportCheck(self.store, snapshots).findings(snapshot)]
        return found


def contents(store: ObjectStore, prefix: str = "") -> dict[str, bytes]:
    return {info.key: store.get(info.key) for info in store.list(prefix)}


def test_only_what_held_the_sample_is_written_again_and_the_old_root_is_still_explained(
    any_store: ObjectStore,
) -> None:
    project = Project(any_store)
    gone = project.fill()
    before = contents(any_store)
    [held] = project.takedown.preview([gone.id])
    assert contents(any_store) == before, "a preview writes nothing"
    assert (list(held.snapshots), len(held.exports), len(held.shards)) == (["set@1"], 3, 3)
    assert held.blobs == [gone.id]
    assert sorted(key.split("/")[1] for key in held.facts) == ["embed", "inspect"]
    report = project.take(gone.id)
    assert (report.blobs, report.facts, report.shards) == (1, 2, 3)
    after = contents(any_store)
    shards = {k for k in before if k.startswith("exports/") and "/records/" not in k and "/index" not in k}
    assert {k for k in shards if after.get(k) != before[k]} == set(held.shards)
    locked = json.loads(before["snapshots/set/1.lock.json"])["objects"]
    assert all(after[key] == before[key] for key in locked)
    assert project.findings() == []
    [stone] = Snapshots(any_store).taken_down(Snapshots(any_store).get("set@1"))
    assert (stone.sample_id, stone.reason, stone.actor) == (gone.id, WHY, {"kind": "person", "name": "ana"})
    assert stone.shards == held.shards
    assert [e.kind for e in project.ledger.events() if e.id == stone.event] == ["blocked"]


def test_neither_bytes_nor_thumbnail_vector_or_hash_of_it_is_anywhere_afterwards(store: LocalStore) -> None:
    project = Project(store)
    gone = project.fill()
    inspect, embed = project.steps.inspect, project.steps.default_embed
    vector = project.facts.read(embed, sample_ids=[gone.id])["vector"].to_pylist()
    assert vector
    project.take(gone.id)
    [row] = project.facts.read(inspect, sample_ids=[gone.id]).to_pylist()
    assert (row["reason"], row["retryable"]) == ("taken_down", False)
    assert not any(v for name, v in row.items() if name not in ("sample_id", "reason", "retryable"))
    assert not len(project.facts.read(embed, sample_ids=[gone.id]))
    for key, data in contents(store).items():
        assert gone.bytes not in data, key
        assert digest(f"pixels {gone.number}".encode()).encode() not in data, key
        if key.startswith("facts/near_duplicates/") and key.endswith(".parquet"):
            table = pq.read_table(io.BytesIO(data))
            ids = [
                i for n in ("sample_id", "a", "b") if n in table.column_names for i in table[n].to_pylist()
            ]
            assert gone.id not in ids, key


def test_clusters_and_verdicts_afterwards_are_those_of_facts_without_it(store: LocalStore) -> None:
    project = Project(store)
    gone = project.fill()
    steps = project.steps
    assert gone.id in read_clusters(store, steps.near_duplicates)["sample_id"].to_pylist()
    root = project.take(gone.id).root
    found = read_clusters(store, steps.near_duplicates)
    update_clusters(store, steps.near_duplicates, steps.inspect, steps.default_embed, rebuild=True)
    assert read_clusters(store, steps.near_duplicates).equals(found)
    assert found.num_rows == 2
    assert project.replayer.replay(project.policy, full=True).root == root
    rows = {r["sample_id"]: r for r in project.replayer.trees.rows(read_head(store)[0].node).to_pylist()}
    assert (rows[gone.id]["verdict"], rows[gone.id]["reasons"]) == ("held", ["blocked"])
    snapshot, new = project.freeze_state(project.snapshots, "set", gold)
    assert new
    assert gone.id not in project.snapshots.rows(snapshot)["sample_id"].to_pylist()
    assert project.findings() == []


class Stops(LocalStore):
    """A folder whose write or removal with number `at` does not happen; the process has died."""

    at = -1
    seen = 0

    def _step(self) -> None:
        self.seen += 1
        if self.seen == self.at:
            raise KeyboardInterrupt

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self._step()
        return super().put_if_absent(key, data)

    def put_if_match(self, key: str, data: bytes, etag: str | None) -> str:
        self._step()
        return super().put_if_match(key, data, etag)

    def delete(self, key: str) -> bool:
        self._step()
        return super().delete(key)


def lasting(store: ObjectStore) -> dict[str, Any]:
    """What must come out the same: everything but generations, times and made-up ids."""
    found: dict[str, Any] = {}
    for key, data in contents(store).items():
        if key.startswith(("blobs/", "exports/", "facts/inspect/", "facts/embed/", "snapshots/")):
            found[key] = data
        elif key.startswith("tombstones/"):
            raw = json.loads(data)
            found[key] = {n: v for n, v in raw.items() if n not in ("time", "event", "digest")}
    return found


def test_a_takedown_that_dies_at_any_write_is_finished_by_the_same_one_again() -> None:
    with quick_folder() as folder:
        begun = Path(folder) / "begun"
        gone = Project(LocalStore(begun)).fill()

        def copy(name: str) -> tuple[Stops, Project]:
            store = Stops(shutil.copytree(begun, Path(folder) / name))
            return store, Project(store)

        store, project = copy("whole")
        project.take(gone.id)
        writes, expected = store.seen, lasting(store)
        assert writes > 20
        for at in range(1, writes + 1):
            store, project = copy(str(at))
            store.at = at
            with pytest.raises(KeyboardInterrupt):
                project.take(gone.id)
            store.at = -1
            again = Project(store)
            again.take(gone.id)
            assert lasting(store) == expected, at
            assert len(again.ledger.events()) == 1
            assert again.findings() == []
            whole = contents(store)
            assert again.take(gone.id).blobs == 0
            assert lasting(store) == expected
            assert {k for k, v in contents(store).items() if whole.get(k) != v} <= {KEY}
            shutil.rmtree(Path(folder) / str(at))


def test_a_block_that_is_lifted_leaves_the_sample_out_until_its_bytes_come_back(store: LocalStore) -> None:
    project = Project(store)
    gone = project.fill()
    project.take(gone.id)
    tombstones = Tombstones(store)
    assert tombstones.refused() == {gone.id}
    project.ledger.undo(project.ledger.events(), ANA)
    assert (tombstones.refused(), tombstones.gone([gone.id])) == (frozenset(), {gone.id})
    project.replayer.replay(project.policy)
    row = project.replayer.trees.lookup(read_head(store)[0].node, [gone.id]).to_pylist()[0]
    assert (row["verdict"], row["reasons"]) == ("held", ["taken_down"])
    assert project.findings() == []
    store.put_if_absent(blob_key(gone.id), gone.bytes)
    project.compute(project.land([gone], "2026-03-01T00:00:00+00:00"), [gone])
    project.replayer.replay(project.policy)
    row = project.replayer.trees.lookup(read_head(store)[0].node, [gone.id]).to_pylist()[0]
    assert row["verdict"] == "gold"
    assert tombstones.gone([gone.id]) == frozenset()
    snapshot = project.snapshots.get("set@1")
    assert project.snapshots.taken_down(snapshot) == []
    for recipe in RECIPES:
        assert project.exporter.export(snapshot, parse_recipe(recipe)).samples == snapshot.count
    assert project.findings() == []


def test_facts_of_a_sample_that_was_taken_down_are_not_taken_in_by_a_run_that_had_them(
    store: LocalStore,
) -> None:
    project = Project(store)
    gone = project.fill()
    project.take(gone.id)
    project.compute(project.batches.landed()[0], [gone])
    assert project.facts.read(project.steps.inspect, sample_ids=[gone.id])["reason"].to_pylist() == [
        "taken_down"
    ]
    assert not len(project.facts.read(project.steps.default_embed, sample_ids=[gone.id]))


def test_what_was_taken_down_cannot_be_rebuilt_and_is_named_but_a_later_version_can(
    store: LocalStore, tmp_path: Path
) -> None:
    project = Project(store)
    gone = project.fill()
    project.take(gone.id)
    with pytest.raises(InputError, match=rf"1 of the 8 samples[\s\S]*{gone.id}[\s\S]*{WHY}") as caught:
        Rebuild(store, LocalStore(tmp_path / "first"), "set@1").run()
    assert caught.value.kind == "taken_down"
    project.freeze_state(project.snapshots, "set", gold)
    target = LocalStore(tmp_path / "second")
    Rebuild(store, target, "set@2").run()
    assert target.get("snapshots/set/2.json") == store.get("snapshots/set/2.json")
    assert Tombstones(target).refused() == {gone.id}
    assert not target.exists(blob_key(gone.id))


def test_shards_of_an_unfinished_export_go_too(store: LocalStore) -> None:
    project = Project(store)
    gone = project.fill()
    for info in [i for i in store.list("exports/") if i.key.endswith("/index.json")][:2]:
        store.delete(info.key)
    report = project.take(gone.id)
    assert (report.shards, report.leftovers > 0) == (1, True)
    assert not any(gone.bytes in data for data in contents(store).values())
    for recipe in RECIPES:
        project.exporter.export(project.snapshots.get("set@1"), parse_recipe(recipe))
    assert project.findings() == []


def test_exports_of_a_former_encoder_are_whole_until_they_hold_what_is_taken_down(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(store)
    gone = project.fill()
    before = {i.key for i in store.list("exports/")}
    monkeypatch.setattr("datago.recipe.ENCODER_VERSION", ENCODER_VERSION + 1)
    assert project.findings() == []
    report = project.take(gone.id)
    assert (report.shards, report.leftovers > 0) == (0, True)
    assert not any(gone.bytes in data for data in contents(store).values())
    for recipe in RECIPES:
        project.exporter.export(project.snapshots.get("set@1"), parse_recipe(recipe))
    assert project.findings() == []
    assert not before.intersection(i.key for i in store.list("exports/"))


@pytest.fixture
def taken(store: LocalStore) -> Taken:
    """A project with a takedown, the sample, and a way to alter a JSON object of its store."""
    project = Project(store)
    gone = project.fill()
    project.take(gone.id)

    def alter(key: str, change: Callable[[Any], Any]) -> None:
        path = store.local_path(key)
        path.write_bytes(json.dumps(change(json.loads(path.read_bytes()))).encode())

    return project, gone.id, alter


def test_a_forged_or_lost_tombstone_explains_nothing(
    taken: Taken,
) -> None:
    project, gone, alter = taken
    key = f"tombstones/{gone}.json"
    whole = project.store.get(key)
    alter(key, lambda raw: raw | {"reason": "another"})
    found = project.findings()
    assert any(key in f and "damaged" in f for f in found)
    assert any(gone in f and "missing" in f for f in found)
    with pytest.raises(CorruptionError, match=key):
        Tombstones(project.store).all()
    project.store.delete(key)
    assert any("there is no tombstone" in f for f in project.findings())
    project.store.put_if_absent(key, whole)
    assert project.findings() == []


def test_a_flipped_bit_in_what_explains_a_takedown_is_named_and_never_an_error(taken: Taken) -> None:
    project, _, _ = taken
    store, draw = project.store, random.Random(0)
    for prefix in ("tombstones/", "ledger/", "exports/", "facts/inspect/", "snapshots/set/1."):
        for info in [i for i in store.list(prefix) if not i.key.endswith("step.json")]:
            path = store.local_path(info.key)
            assert path is not None
            data = path.read_bytes()
            for at in {0, len(data) - 1, *(draw.randrange(len(data)) for _ in range(3))}:
                path.write_bytes(data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :])
                project.ledger = Ledger(store)
                found = project.findings()
                # no lock names this segment of the ledger: a flip in words of its event is none that anybody can tell
                assert prefix == "ledger/" or any(info.key in f for f in found), (info.key, at, found)
            path.write_bytes(data)
    assert project.findings() == []


def test_bytes_that_are_back_in_spite_of_a_takedown_are_named(
    taken: Taken,
) -> None:
    project, gone, _ = taken
    sample = next(s for s in (Picture(n) for n in range(8)) if s.id == gone)
    project.store.put_if_absent(blob_key(gone), sample.bytes)
    assert [f for f in project.findings() if "still there" in f and gone in f]
    project.take(gone)
    assert project.findings() == []


def test_a_takedown_needs_a_reason(store: LocalStore) -> None:
    project = Project(store)
    gone = project.fill()
    with pytest.raises(InputError, match="reason"):
        project.takedown.run([gone.id], "  ", ANA, project.policy)
    assert project.ledger.offset == 0
