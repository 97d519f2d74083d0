"""A snapshot is computed again elsewhere, on either backend, from what its lock names: the same bytes, or an error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from refinery.blobs import blob_key
from refinery.config import S3StoreSettings
from refinery.errors import ConflictError, CorruptionError
from refinery.export import Exporter, parse_recipe
from refinery.ledger import Actor, ActorKind, Event, EventType
from refinery.project import Refinery
from refinery.rebuild import Rebuild
from refinery.snapshots import Snapshots
from refinery.store import ObjectStore
from refinery.store.local import LocalStore
from refinery.store.s3 import S3Store
from tests.formats.make_samples import Picture
from tests.synthetic import Sample, Synthetic, gold

ANA = Actor(ActorKind.PERSON, "ana")
RECIPE = {"format": "webdataset", "size": "bucket", "side": 64, "patch": 16, "samples_per_shard": 4}


def pictures(*numbers: int) -> list[Picture]:
    return [Picture(n, look=n // 2, side=100 + n) for n in numbers]


def frozen(store: ObjectStore) -> Synthetic:
    """A synthetic project with `set@1`, whose facts, ledger, clusters and batches have gone on since."""
    project = Synthetic(store)
    first = [*pictures(1, 2, 3, 4), Sample(30, failure="truncated"), Sample(31, sharpness=0.01)]
    late = pictures(6, 7)
    for sample in (*first, *late):
        if isinstance(sample, Picture):
            store.put_if_absent(blob_key(sample.id), sample.bytes)
    batch = project.land([*first, *late])
    project.compute(batch, first)
    project.ledger.append(
        [project_flag(first[0], "reject")],
    )
    project.replayer.replay(project.policy)
    project.freeze_state(Snapshots(store), "set", gold)
    project.compute(batch, late)
    project.ledger.append([project_flag(first[1], "reject")])
    after = pictures(5, 8)
    project.compute(project.land(after, "2026-02-01T00:00:00+00:00"), after)
    project.replayer.replay(project.policy)
    return project


def project_flag(sample: Sample, kind: str) -> Event:
    return Event(EventType.FLAG, ANA, sample_id=sample.id, kind=kind)


def test_a_snapshot_is_computed_again_though_facts_and_ledger_have_gone_on(
    store: LocalStore, tmp_path: Path
) -> None:
    frozen(store)
    for info in list(store.list("states/")):
        store.delete(info.key)  # none of the rows is taken from there
    target = LocalStore(tmp_path / "elsewhere")
    report = Rebuild(store, target, "set@1").run()
    assert (report.samples, report.batches, report.blobs) == (8, 1, report.members)
    assert target.get("snapshots/set/1.json") == store.get("snapshots/set/1.json")
    assert list(Snapshots(target).verify(Snapshots(target).get("set@1"))) == []


def test_a_rebuild_that_was_interrupted_goes_on_and_one_that_is_done_changes_nothing(
    store: LocalStore, tmp_path: Path
) -> None:
    frozen(store)
    target = LocalStore(tmp_path / "elsewhere")
    first = Rebuild(store, target, "set").run()
    whole = {info.key: target.get(info.key) for info in target.list("")}
    for key in [k for k in whole if k.startswith(("snapshots/", "states/", "blobs/", "ledger/"))]:
        target.delete(key)
    assert Rebuild(store, target, "set").run() == first
    again = Rebuild(store, target, "set").run()
    assert (again.copied, again.blobs) == (0, first.blobs)
    assert {info.key: target.get(info.key) for info in target.list("")} == whole


def test_what_is_damaged_is_named_and_no_snapshot_comes_of_it(store: LocalStore, tmp_path: Path) -> None:
    frozen(store)
    snapshot = Snapshots(store).get("set@1")
    [member, *_] = Snapshots(store).rows(snapshot)["sample_id"].to_pylist()
    lock = json.loads(store.get("snapshots/set/1.lock.json"))
    objects = [k for k in lock["objects"] if k.startswith(("batches/", "policies/")) or "step.json" in k]
    wanted = [*objects, *lock["facts"], "ledger/00000000000000000001.jsonl", blob_key(member)]
    for number, key in enumerate(wanted):
        path = store.local_path(key)
        data = path.read_bytes()
        path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
        target = LocalStore(tmp_path / str(number))
        with pytest.raises(CorruptionError) as caught:
            Rebuild(store, target, "set@1").run()
        assert key in str(caught.value)
        assert not target.exists("snapshots/set/1.json")
        path.write_bytes(data)
    assert len({key.split("/")[0] for key in wanted}) == 5


def test_a_place_that_holds_something_else_is_left_alone(store: LocalStore, tmp_path: Path) -> None:
    frozen(store)
    other = Synthetic(LocalStore(tmp_path / "elsewhere"))
    other.land([Sample(77)])
    before = [info.key for info in other.store.list("")]
    with pytest.raises(ConflictError, match="empty place"):
        Rebuild(store, other.store, "set@1").run()
    assert [info.key for info in other.store.list("")] == before


@pytest.fixture
def bucket_store(s3_settings: S3StoreSettings) -> Callable[[str], S3Store]:
    """Stores below prefixes of an empty bucket on the real server."""
    return lambda prefix: S3Store(s3_settings.model_copy(update={"prefix": prefix}))


def test_real_pictures_are_rebuilt_on_s3_and_give_the_same_shards(
    refined: Path, bucket_store: Callable[[str], S3Store], tmp_path: Path
) -> None:
    project = Refinery.open(refined)
    project.freeze("evals", "min_side >= 300 AND format = 'png'")
    project.freeze("set")
    [chosen, *_] = project.snapshots.rows(project.snapshots.get("set"))["sample_id"].to_pylist()
    project.flag([chosen], "blocked", ANA)
    project.replay()
    second, _ = project.freeze("set", "sharpness > 0 AND NOT in_dataset('evals')")
    assert (second.ref, second.count > 0) == ("set@2", True)
    remote, back = bucket_store("there"), LocalStore(tmp_path / "back")
    there = Rebuild(project.store, remote, "set@2").run()
    assert (there.root, there.state) == (second.root, second.state)
    files = exported(project.store)
    assert exported(remote) == files
    with pytest.raises(
        CorruptionError, match="set@2 cannot be rebuilt"
    ):  # evals, of which its filter speaks, is not there
        Rebuild(remote, back, "set@2").run()


def test_a_snapshot_on_s3_is_rebuilt_in_a_folder(
    bucket_store: Callable[[str], S3Store], tmp_path: Path
) -> None:
    remote, back = bucket_store("there"), LocalStore(tmp_path / "back")
    frozen(remote)
    Rebuild(remote, back, "set@1").run()
    assert back.get("snapshots/set/1.json") == remote.get("snapshots/set/1.json")
    assert exported(back, "set@1") == exported(remote, "set@1")


def exported(store: ObjectStore, ref: str = "set@2") -> dict[str, bytes]:
    snapshots = Snapshots(store)
    recipe = parse_recipe({"format": "parquet", "size": "bytes"} if ref == "set@1" else RECIPE)
    prefix = Exporter(store, snapshots).export(snapshots.get(ref), recipe, workers=2).prefix
    return {info.key: store.get(info.key) for info in store.list(f"{prefix}/")}
