"""Garbage collection takes nothing that anybody needs: random histories, and every interleaving with one operation."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refinery.blobs import blob_key
from refinery.config import InspectSettings, NearDuplicateSettings
from refinery.errors import ConflictError
from refinery.export import Exporter, parse_recipe
from refinery.export_check import ExportCheck
from refinery.gc import Garbage, GarbageReport
from refinery.inputs import Steps
from refinery.ledger import Actor, ActorKind, Event, EventType
from refinery.near_duplicates import near_duplicates_step, read_clusters
from refinery.rebuild import Rebuild
from refinery.removal import Removal
from refinery.snapshot_splits import record_splits
from refinery.snapshots import Snapshots
from refinery.splits import Splits
from refinery.states import writing
from refinery.states.head import KEY, read_head
from refinery.states.tree import StateTrees
from refinery.steps.inspect import inspect_step
from refinery.store import ObjectStore
from refinery.store.local import LocalStore
from tests.formats.make_samples import Picture
from tests.synthetic import Synthetic, gold, quick_folder

ANA = Actor(ActorKind.PERSON, "ana")
RECIPE = parse_recipe({"format": "webdataset", "size": "bytes", "samples_per_shard": 3})
PICTURES = [Picture(n, look=n // 3, side=100 + n) for n in range(24)]
LATER = timedelta(days=1)
"""A grace period of nothing but this, seen from then: all that is there is old."""


class Project(Synthetic):
    """A synthetic project of pictures whose inspection may change."""

    def __init__(self, store: ObjectStore, side: int = 256) -> None:
        super().__init__(store)
        self.side = side
        inspect = inspect_step(InspectSettings(thumbnail_side=side))
        embed = self.steps.default_embed
        near = near_duplicates_step(NearDuplicateSettings(), inspect, embed)
        self.steps = Steps(inspect, {"default": embed}, near)
        self.snapshots = Snapshots(store, self.ledger)

    def add(self, pictures: list[Picture]) -> None:
        for picture in pictures:
            self.store.put_if_absent(blob_key(picture.id), picture.bytes)
        self.compute(
            self.land(pictures, f"2026-01-{len(self.batches.landed()) + 1:02d}T00:00:00+00:00"), pictures
        )

    def recompute(self) -> None:
        """The facts of the steps in force, of all batches."""
        by_id = {p.id: p for p in PICTURES}
        for batch in self.batches.landed():
            self.compute(batch, [by_id[i] for i in self.batches.samples(batch)])

    def replay(self) -> str:
        return self.replayer.replay(self.policy).root

    def freeze(self, seed: int | None = None) -> None:
        """Freeze gold, in splits when there is a seed."""
        head, _ = read_head(self.store)
        table = read_clusters(self.store, self.steps.near_duplicates)
        clusters = dict(zip(table["sample_id"].to_pylist(), table["cluster"].to_pylist(), strict=True))
        ids = gold(self.replayer.trees.rows(head.node))["sample_id"].to_pylist()
        rule = None if seed is None else Splits({"train": 0.5, "test": 0.5}, seed)
        splits = None if rule is None else record_splits(self.store, "set", rule, ids, clusters)
        self.freeze_state(self.snapshots, "set", gold, splits=splits)

    def flag(self, number: int, kind: str = "reject") -> None:
        self.ledger.append([Event(EventType.FLAG, ANA, PICTURES[number].id, kind)])

    def undo(self) -> None:
        self.ledger.undo(self.ledger.view().last_group(), ANA)

    def garbage(self, **given: Any) -> Garbage:
        steps = [self.steps.inspect, self.steps.near_duplicates, self.steps.default_embed]
        return Garbage(self.store, steps, **given)

    def collect(self) -> GarbageReport:
        """Everything that is there counts as old."""
        return self.garbage(now=datetime.now(UTC) + LATER, older_than=timedelta(0)).collect()

    def check(self, folder: Path) -> None:
        """Every snapshot and export verifies, every snapshot is rebuilt, and the head replays without starting over."""
        snapshots = Snapshots(self.store)
        for snapshot in snapshots.all():
            assert list(snapshots.verify(snapshot)) == []
            assert list(ExportCheck(self.store, snapshots).findings(snapshot)) == []
            target = LocalStore(
                folder / snapshot.ref / str(len(list(folder.iterdir())) if folder.exists() else 0)
            )
            assert Rebuild(self.store, target, snapshot.ref).run().root == snapshot.root
        self.check_head()

    def check_head(self) -> None:
        head, _ = read_head(self.store)
        assert list(StateTrees(self.store).verify(head.node)) == []
        assert StateTrees(self.store).rows(head.node).num_rows == head.count
        assert self.replayer._kept.verify(head.inputs) == []


ACTIONS = st.lists(
    st.sampled_from(
        [
            "flag",
            "flag",
            "undo",
            "add",
            "replay",
            "replay",
            "freeze",
            "freeze",
            "step",
            "export",
            "leave",
            "rm",
            "gc",
        ]
    ),
    min_size=4,
    max_size=14,
)


@settings(max_examples=25, deadline=None)
@given(ACTIONS, st.randoms(use_true_random=False))
def test_after_any_history_and_a_collection_everything_that_was_frozen_is_whole_and_rebuilt(
    actions: list[str], draw: Any
) -> None:
    with quick_folder() as home, pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "LEAF_ROWS", 2)
        folder = Path(home)
        project = Project(LocalStore(folder / "store"))
        left = list(PICTURES)
        project.add([left.pop() for _ in range(6)])
        project.replay()
        for action in [*actions, "gc"]:
            snapshots = project.snapshots.all()
            current = project.replayer.is_current(project.policy)
            if action == "flag":
                project.flag(draw.randrange(len(PICTURES)))
            elif action == "undo" and project.ledger.view().last_group():
                project.undo()
            elif action == "add" and left:
                project.add([left.pop() for _ in range(3)])
            elif action == "replay":
                project.replay()
            elif action == "freeze" and current:
                project.freeze(draw.choice([None, 1, 2]))
            elif action == "step":
                project = Project(project.store, draw.choice([64, 128, 256]))
                project.recompute()
                project.replay()
            elif action == "export" and snapshots:
                Exporter(project.store, project.snapshots).export(draw.choice(snapshots), RECIPE)
            elif action == "leave":  # an export that was not finished
                for info in [i for i in project.store.list("exports/") if i.key.endswith("/index.json")]:
                    project.store.delete(info.key)
            elif action == "rm" and len(snapshots) > 1:
                Removal(project.store, project.snapshots).run(
                    draw.choice(snapshots).ref, ANA, "no longer used"
                )
            elif action == "gc":
                found = project.garbage(now=datetime.now(UTC) + LATER, older_than=timedelta(0)).find()
                root = read_head(project.store)[0].root
                report = project.collect()
                assert set(report.keys) == set(found.keys)
                assert project.collect().keys == []
                project.check(folder / f"rebuilt-{draw.random()}")
                expected = read_head(project.store)[0]
                if current:
                    assert project.replay() == root
                    assert read_head(project.store)[0] == expected
                project.store.delete(KEY)
                project.replay()


class Interrupted:
    """A store at whose call with number `at` something else happens first."""

    def __init__(self, store: LocalStore, at: int, act: Callable[[], None]) -> None:
        self._store, self._at, self._act = store, at, act
        self.seen = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not callable(found) or name == "local_path":
            return found

        def call(*given: Any, **more: Any) -> Any:
            self.seen += 1
            if self.seen == self._at:
                self._act()
            return found(*given, **more)

        return call


def age(store: LocalStore) -> None:
    """Everything that is there was written a month ago."""
    then = datetime.now(UTC).timestamp() - 30 * 86_400
    for info in store.list(""):
        os.utime(store.root / info.key, (then, then))


def undone(folder: Path) -> None:
    """A store whose verdicts went on from a state of before, which undos that are not replayed yet bring back."""
    project = Project(LocalStore(folder))
    project.add(PICTURES[:9])
    project.replay()
    for number in (0, 4):
        project.flag(number)
    project.replay()
    project.undo()
    project.undo()
    age(LocalStore(folder))


def replay(store: ObjectStore) -> None:
    Project(store).replay()


def freeze(store: ObjectStore) -> None:
    """Freeze the newest state, while somebody else may replay away from it."""
    Project(store).freeze()


def collect(store: ObjectStore) -> None:
    Project(store).garbage().collect()


def replay_and_collect(store: ObjectStore) -> None:
    """What other processes do: the state goes on, and what nobody names then is collected."""
    replay(store)
    collect(store)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (replay, collect),
        (collect, replay),
        (freeze, collect),
        (collect, freeze),
        (freeze, replay_and_collect),
        (collect, replay_and_collect),
    ],
)
def test_whatever_comes_between_the_calls_of_an_operation_nothing_that_counts_is_lost(
    first: Callable[[ObjectStore], None],
    second: Callable[[ObjectStore], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writing, "LEAF_ROWS", 2)
    calls, at = 1, 1
    conflicts = set[str]()
    with quick_folder() as home:
        undone(begun := Path(home) / "begun")
        while at <= calls:
            store = LocalStore(shutil.copytree(begun, Path(home) / str(at)))
            interrupted = Interrupted(store, at, partial(second, store))
            try:
                first(interrupted)  # type: ignore[arg-type]
            except ConflictError as error:
                conflicts.add(error.kind)
            calls, at = interrupted.seen, at + 1
            project = Project(store)
            project.check_head()
            for snapshot in project.snapshots.all():
                assert list(project.snapshots.verify(snapshot)) == []
            root = project.replay()
            project.check_head()
            assert project.replayer.replay(project.policy, full=True).root == root
            shutil.rmtree(store.root)
    assert calls > 10
    assert conflicts <= {"tree_removed"}


def test_what_is_young_is_never_taken_and_a_look_takes_nothing(any_store: ObjectStore) -> None:
    store = any_store
    project = Project(store)
    project.add(PICTURES[:6])
    project.replay()
    project.flag(0)
    project.replay()
    before = {info.key for info in store.list("")}
    assert project.garbage().find().keys == project.garbage().collect().keys == []
    soon = project.garbage(now=datetime.now(UTC) + timedelta(days=8)).find()
    assert soon.objects == len(soon.keys) > 0
    assert {info.key for info in store.list("")} == before
    removed = project.garbage(now=datetime.now(UTC) + timedelta(days=8)).collect()
    assert removed.keys == soon.keys
    assert {info.key for info in store.list("")} == before - set(removed.keys)
