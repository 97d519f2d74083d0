"""Splits of snapshots: kept for good, no cluster in two, exported one by one, rebuilt elsewhere, and seen by people."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refinery.blobs import blob_key
from refinery.cards import make_card
from refinery.diffs import Differ
from refinery.errors import ConfigError, InputError
from refinery.export import Exporter, parse_export, parse_recipe
from refinery.export_check import ExportCheck
from refinery.ledger import Actor, ActorKind
from refinery.near_duplicates import read_clusters
from refinery.project import Refinery
from refinery.rebuild import Rebuild
from refinery.snapshot_splits import record_splits
from refinery.snapshots import Snapshot, Snapshots
from refinery.splits import Splits
from refinery.states.head import read_head
from refinery.store import ObjectStore
from refinery.store.local import LocalStore
from refinery.takedown import Takedown
from tests.formats.make_samples import Picture
from tests.synthetic import Sample, Synthetic, gold, quick_folder
from tests.test_cli import Cli

ANA = Actor(ActorKind.PERSON, "ana")
HALVES = Splits({"train": 0.5, "test": 0.5}, 5)
RECIPE = parse_recipe({"format": "webdataset", "size": "bytes", "samples_per_shard": 3})


class Project(Synthetic):
    """A synthetic project that freezes all that was judged, near-duplicates included, in splits."""

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store)
        self.snapshots = Snapshots(store, self.ledger)

    def add(self, samples: list[Sample]) -> None:
        for sample in samples:
            if isinstance(sample, Picture):
                self.store.put_if_absent(blob_key(sample.id), sample.bytes)
        number = len(self.batches.landed()) + 1
        self.compute(self.land(samples, f"2026-01-{number:02d}T00:00:00+00:00"), samples)
        self.replayer.replay(self.policy)

    def clusters(self) -> dict[str, str]:
        table = read_clusters(self.store, self.steps.near_duplicates)
        return dict(zip(table["sample_id"].to_pylist(), table["cluster"].to_pylist(), strict=True))

    def freeze(
        self, splits: Splits | None, chosen: Callable[[pa.Table], pa.Table] = lambda rows: rows
    ) -> tuple[Snapshot, bool]:
        head, _ = read_head(self.store)
        ids = chosen(self.replayer.trees.rows(head.node))["sample_id"].to_pylist()
        recorded = record_splits(self.store, "set", splits, ids, self.clusters()) if splits else None
        return self.freeze_state(self.snapshots, "set", chosen, splits=recorded)

    def splits_of(self, snapshot: Snapshot) -> dict[str, str]:
        ids = self.snapshots.rows(snapshot)["sample_id"].to_pylist()
        return dict(zip(ids, self.snapshots.splits(snapshot).assign(ids), strict=True))

    def findings(self, snapshot: Snapshot) -> list[str]:
        snapshots = Snapshots(self.store)
        return [*snapshots.verify(snapshot), *ExportCheck(self.store, snapshots).findings(snapshot)]


def pictures(*numbers: int) -> list[Picture]:
    return [Picture(n, look=n // 3, side=100 + n) for n in numbers]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=8, max_size=24), st.integers(1, 23), st.integers(0, 99))
def test_no_cluster_is_in_two_splits_and_growth_moves_only_what_a_smaller_id_joined(
    looks: list[int], first: int, seed: int
) -> None:
    splits = Splits({"train": 0.6, "val": 0.2, "test": 0.2}, seed)
    samples = [Sample(n, look=look) for n, look in enumerate(looks)]
    with quick_folder() as folder:
        project = Project(LocalStore(Path(folder)))
        project.add(samples[:first])
        before = project.clusters()
        old, _ = project.freeze(splits)
        then = project.splits_of(old)
        project.add(samples[first:])
        after = project.clusters()
        new, _ = project.freeze(splits)
        now = project.splits_of(new)
        assert project.splits_of(old) == then, "a snapshot keeps its splits for good"
        for mine, clusters in ((then, before), (now, after)):
            of_cluster: dict[str, set[str]] = {}
            for sample_id, split in mine.items():
                of_cluster.setdefault(clusters.get(sample_id, sample_id), set()).add(split)
            assert all(len(found) == 1 for found in of_cluster.values())
        diff = Differ(project.store, project.ledger).diff(old, new)
        assert diff.split_moves == {i: (s, now[i]) for i, s in then.items() if now[i] != s}
        for sample_id in diff.split_moves:
            assert after[sample_id] < before.get(sample_id, sample_id)
        counts = Counter(now.values())
        assert new.splits is not None
        assert new.splits["counts"] == {name: counts[name] for name in splits.names}


def test_the_same_rows_in_other_splits_are_another_version_and_without_splits_the_bytes_of_before(
    store: LocalStore,
) -> None:
    project = Project(store)
    project.add(pictures(*range(8)))
    plain, _ = project.freeze(None)
    assert b"splits" not in store.get(plain.key)
    assert json.loads(store.get(plain.key))["format"] == "refinery.snapshot/1"
    split, new = project.freeze(HALVES)
    assert (new, split.ref, split.root) == (True, "set@2", plain.root)
    assert project.freeze(HALVES) == (split, False)
    other, new = project.freeze(Splits(HALVES.shares, 4))
    assert (new, other.ref) == (True, "set@3")
    assert [project.findings(s) for s in Snapshots(store).all()] == [[], [], []]
    assert Snapshots(store).get("set@2").splits == split.splits


def test_each_split_is_exported_by_itself_and_a_takedown_touches_only_its_own(store: LocalStore) -> None:
    project = Project(store)
    project.add(pictures(*range(8)))
    snapshot, _ = project.freeze(HALVES)
    exporter = Exporter(store, project.snapshots)
    of = project.splits_of(snapshot)
    found: dict[str, set[str]] = {}
    for split in HALVES.names:
        report = exporter.export(snapshot, RECIPE, split=split)
        assert report.prefix.endswith(f"-{split}")
        assert report.samples == snapshot.splits["counts"][split]  # type: ignore[index]
        keys = [i.key for i in store.list(report.prefix) if i.key.endswith(".tar")]
        found[split] = {i for i in of for key in keys if i.encode() in store.get(key)}
    assert found == {name: {i for i, s in of.items() if s == name} for name in HALVES.names}
    exporter.export(snapshot, RECIPE)
    assert len(list(exporter.exports(snapshot))) == 3
    assert project.findings(snapshot) == []
    before = {i.key: i.version for i in store.list("exports/")}
    gone = min(found["test"])
    takedown = Takedown(
        store, project.ledger, project.batches, project.snapshots, exporter, project.replayer, project.steps
    )
    [held] = takedown.preview([gone])
    assert sorted(p.rsplit("-", 1)[1] == "test" for p in held.exports) == [False, True]
    takedown.run([gone], "asked by its author", ANA, project.policy)
    train = {key: version for key, version in before.items() if "-train/" in key}
    assert train
    assert {i.key: i.version for i in store.list("exports/") if "-train/" in i.key} == train
    assert project.findings(snapshot) == []


def test_an_unchanged_split_of_the_next_version_is_taken_over_from_the_one_before(store: LocalStore) -> None:
    project = Project(store)
    alone = [Picture(n, side=200) for n in range(9)]
    late = next(p for p in alone if HALVES.of(p.id) == "test")
    project.add([p for p in alone if p != late])
    first, _ = project.freeze(HALVES)
    exporter = Exporter(store, project.snapshots)
    for split in HALVES.names:
        exporter.export(first, RECIPE, split=split)
    project.add([late])
    second, _ = project.freeze(HALVES)
    assert exporter.export(second, RECIPE, split="train").written == 0
    assert exporter.export(second, RECIPE, split="test").written > 0
    assert project.findings(second) == []


def test_a_rebuild_computes_the_splits_again_though_clusters_have_grown(
    store: LocalStore, tmp_path: Path
) -> None:
    project = Project(store)
    project.add(pictures(*range(7)))
    first, _ = project.freeze(HALVES, gold)
    project.add(pictures(7, 8))
    target = LocalStore(tmp_path / "elsewhere")
    Rebuild(store, target, first.ref).run()
    assert target.get(first.key) == store.get(first.key)
    for split in HALVES.names:
        prefix = Exporter(target, Snapshots(target)).export(first, RECIPE, split=split).prefix
        Exporter(store, project.snapshots).export(first, RECIPE, split=split)
        files = {i.key: store.get(i.key) for i in store.list(f"{prefix}/")}
        assert {i.key: target.get(i.key) for i in target.list(f"{prefix}/")} == files


def test_what_a_snapshot_kept_of_clusters_is_verified_and_needed(store: LocalStore) -> None:
    project = Project(store)
    project.add(pictures(*range(8)))
    snapshot, _ = project.freeze(HALVES)
    [key] = [i.key for i in store.list("snapshots/set/clusters/")]
    path = store.local_path(key)
    data = path.read_bytes()
    path.write_bytes(data[:-5] + b"0" + data[-4:])
    assert any(key in finding for finding in project.findings(snapshot))
    with pytest.raises(Exception, match=key):
        Exporter(store, project.snapshots).export(snapshot, RECIPE, split="train")
    path.write_bytes(data)
    assert project.findings(snapshot) == []


def test_a_card_counts_the_splits(store: LocalStore) -> None:
    project = Project(store)
    project.add(pictures(*range(8)))
    plain, _ = project.freeze(None)
    snapshot, _ = project.freeze(HALVES)
    card = make_card(store, project.batches, project.facts, snapshot).markdown()
    assert snapshot.splits is not None
    for name, count in snapshot.splits["counts"].items():
        assert f"| {name} | 0.5 | {count} |" in card
    assert "## Splits" not in make_card(store, project.batches, project.facts, plain).markdown()


@pytest.mark.parametrize(
    "text", ["", "train", "train=1,train=0", "train=x", "train=0.5,test=0.6", "Train=1", "a-b=1", "../x=1"]
)
def test_words_that_say_no_splits_are_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Splits.parse(text)
    assert caught.value.kind == "bad_splits"


def test_words_say_splits_in_order() -> None:
    found = Splits.parse("train=0.9, val=0.05,test=0.05", 7)
    assert (found.names, found.seed) == (("train", "val", "test"), 7)
    assert found == Splits({"train": 0.9, "val": 0.05, "test": 0.05}, 7)
    assert found != Splits({"train": 0.9, "val": 0.05, "test": 0.05}, 8)


def test_a_split_that_is_not_there_is_an_error_with_those_that_are(store: LocalStore) -> None:
    project = Project(store)
    project.add(pictures(*range(4)))
    plain, _ = project.freeze(None)
    snapshot, _ = project.freeze(HALVES)
    with pytest.raises(InputError, match="it has train, test") as caught:
        Exporter(store, project.snapshots).export(snapshot, RECIPE, split="trian")
    assert caught.value.kind == "no_such_split"
    with pytest.raises(InputError) as caught:
        Exporter(store, project.snapshots).export(plain, RECIPE, split="train")
    assert caught.value.kind == "no_splits"
    recipe, split = parse_export(
        {"format": "webdataset", "size": "bytes", "samples_per_shard": 3, "split": "test"}
    )
    assert (recipe, split) == (RECIPE, "test")


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], refined: Path) -> Cli:
    return Cli(capsys, refined)


def test_people_freeze_in_splits_export_one_and_a_gate_watches_them(cli: Cli, tmp_path: Path) -> None:
    made: dict[str, Any] = cli.json(
        "snapshot", "create", "train", "--splits", "train=0.8,test=0.2", "--split-seed", "1"
    )
    counts = made["splits"]["counts"]
    assert (set(counts), sum(counts.values())) == ({"train", "test"}, made["count"])
    out, _ = cli("snapshot", "show", "train")
    assert f"splits         {counts['train']} train, {counts['test']} test (seed 1)" in out
    report = cli.json("export", "train", "--split", "test", "--format", "webdataset", "--side", "64")
    assert (report["split"], report["samples"]) == ("test", counts["test"])
    assert cli.json("snapshot", "show", "train")["exports"][0]["split"] == "test"
    assert cli.json("snapshot", "verify", "train")["ok"]
    rules = tmp_path / "gate.yaml"
    rules.write_text("rules: [{name: apart, kind: leakage, splits: true}]")
    assert cli.json("gate", "train@1", "train@1", "--rules", str(rules))["passed"]
    assert (
        cli.json("snapshot", "create", "train", "--split-seed", "1", code=3)["kind"] == "seed_without_splits"
    )
    elsewhere = cli.project.parent / "elsewhere"
    assert cli.json("snapshot", "rebuild", "train@1", "--into", str(elsewhere))["root"] == made["root"]
    source, target = Refinery.open(cli.project).store, LocalStore(elsewhere)
    assert target.get("snapshots/train/1.json") == source.get("snapshots/train/1.json")
    snapshots = Snapshots(target)
    again = Exporter(target, snapshots).export(
        snapshots.get("train@1"), parse_recipe({"side": 64}), split="test"
    )
    files = {i.key: source.get(i.key) for i in source.list(f"{again.prefix}/")}
    assert {i.key: target.get(i.key) for i in target.list(f"{again.prefix}/")} == files


def test_a_dataset_of_the_configuration_is_frozen_and_exported_in_its_splits(refined: Path) -> None:
    from assets.plan import dataset_is_due
    from assets.run import run

    config = refined / "refinery.yaml"
    plain = config.read_text()
    recipes = "".join(f"\n      - {{format: webdataset, side: 64, split: {s}}}" for s in ("train", "val"))
    dataset = "datasets:\n  demo:\n    splits: {train: 0.7, val: 0.3}\n    exports:" + recipes
    config.write_text(f"{plain}\n{dataset}\n")
    project = Refinery.open(refined)
    run(project)
    snapshot = project.snapshots.get("demo")
    assert snapshot.splits is not None
    exports = list(project.exporter.exports(snapshot))
    assert {e["split"]: e["samples"] for e in exports} == snapshot.splits["counts"]
    assert not dataset_is_due(project, "demo")
    config.write_text(f"{plain}\n{dataset}\n    split_seed: 5\n")
    again = Refinery.open(refined)
    assert dataset_is_due(again, "demo")
    run(again)
    assert again.snapshots.get("demo").ref == "demo@2"
    assert not dataset_is_due(again, "demo")
