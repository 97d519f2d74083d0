"""Stores that former versions wrote are read for ever; what no version wrote is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from refinery.digests import digest
from refinery.errors import CorruptionError, RefineryError
from refinery.export import Exporter
from refinery.export_check import ExportCheck
from refinery.facts import Step
from refinery.fields import Fields
from refinery.inputs import Steps
from refinery.ledger import Ledger
from refinery.policy import stored_policy
from refinery.replay import Replayer
from refinery.snapshots import Snapshots
from refinery.states.head import KEY, read_head
from refinery.states.inputs import KeptInputs
from refinery.states.tree import StateTrees
from refinery.store.local import LocalStore
from refinery.tombstones import Tombstones
from tests.synthetic import Synthetic

SAMPLES = sorted(path for path in (Path(__file__).parent / "samples").iterdir() if path.is_dir())


@pytest.fixture(params=SAMPLES, ids=[path.name for path in SAMPLES])
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[LocalStore, dict[str, Any]]:
    """A copy of a store that a version wrote, and what is in it."""
    shutil.copytree(request.param / "store", tmp_path / "store")
    expected = json.loads((request.param / "expected.json").read_text(encoding="utf-8"))
    return LocalStore(tmp_path / "store"), expected


def recorded_steps(store: LocalStore) -> Steps:
    """The steps under whose keys the facts are stored, whatever the steps of today are."""
    today = Synthetic(store).steps.by_name()
    snapshot = Snapshots(store).get("samples@1")

    def step(name: str) -> Step:
        raw = {k: v for k, v in snapshot.steps[name].items() if k != "key"}
        found = Step(**raw, columns=today[name].columns)
        assert found.key == snapshot.steps[name]["key"]
        return found

    return Steps(step("inspect"), {"default": step("embed")}, step("near_duplicates"))


def test_every_event_is_read_as_it_was_written(sample: tuple[LocalStore, dict[str, Any]]) -> None:
    store, expected = sample
    ledger = Ledger(store)
    assert [e.to_json() for e in ledger.events()] == expected["ledger"]
    assert ledger.verify() == len(list(store.list("ledger/")))


def test_truth_is_replayed_to_the_root_of_then(sample: tuple[LocalStore, dict[str, Any]]) -> None:
    store, expected = sample
    project, ledger = Synthetic(store), Ledger(store)
    fields = Fields(ledger.view().registered_fields())
    policy = stored_policy(store.get(f"policies/{expected['policy']}.json"), fields)
    assert policy.digest == expected["policy"]
    assert read_head(store)[0].root == expected["state"]
    store.delete(KEY)
    replayer = Replayer(store, ledger, project.batches, project.facts, fields, recorded_steps(store))
    assert replayer.replay(policy).root == expected["state"]


def test_snapshot_and_shards_are_whole(sample: tuple[LocalStore, dict[str, Any]]) -> None:
    store, expected = sample
    snapshots = Snapshots(store)
    snapshot = snapshots.get("samples")
    assert snapshot.root == expected["snapshot"]
    assert snapshots.rows(snapshot)["sample_id"].to_pylist() == expected["gold"]
    assert list(snapshots.verify(snapshot)) == []
    exporter = Exporter(store, snapshots)
    indexes = list(exporter.exports(snapshot))
    shards = {f"{index['prefix']}/{f['name']}": f["digest"] for index in indexes for f in index["files"]}
    assert shards == expected["shards"]
    assert [finding for index in indexes for finding in exporter.verify(index)] == []
    assert list(ExportCheck(store, snapshots).findings(snapshot)) == []
    assert (snapshot.splits is not None) is ("splits" in expected)
    if snapshot.splits is not None:
        assert snapshots.splits(snapshot).assign(expected["gold"]) == expected["splits"]
    assert [s.sample_id for s in snapshots.taken_down(snapshot)] == expected.get("taken_down", [])


def _read_everything(store: LocalStore, expected: dict[str, Any]) -> None:
    Ledger(store).events()
    head, _ = read_head(store)
    trees = StateTrees(store)
    trees.rows(head.node)
    snapshots = Snapshots(store)
    for snapshot in snapshots.all():
        list(Exporter(store, snapshots).exports(snapshot))
    Tombstones(store).all()
    stored_policy(store.get(f"policies/{expected['policy']}.json"), Synthetic(store).fields)


def rewrite(path: Path, version: bytes, other: bytes) -> None:
    """Make an object one of another version."""
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        assert table.schema.metadata[b"format"] == version
        pq.write_table(table.replace_schema_metadata({b"format": other}), path)
        return
    data = path.read_bytes()
    assert data.count(version) == 1
    path.write_bytes(data.replace(version, other))


FIRST, PACKS, SPLITS = "2026-11-27", "2026-11-27-packs", "2026-11-28"
COMPRESSED = "2026-11-28-compressed"
VERSIONS = [
    (FIRST, "ledger/00000000000000000001.jsonl", b"refinery.ledger/1"),
    (FIRST, "states/head.json", b"refinery.state/1"),
    (FIRST, "snapshots/samples/1.json", b"refinery.snapshot/1"),
    (FIRST, "policies/*.json", b"refinery.policy/1"),
    (FIRST, "states/leaves/*/*.parquet", b"refinery.leaf/1"),
    (PACKS, "ledger/00000000000000000007.jsonl", b"refinery.ledger/2"),
    (PACKS, "states/head.json", b"refinery.state/2"),
    (PACKS, "states/roots/*.json", b"refinery.root/1"),
    (PACKS, "states/packs/*.pack", b"refinery.pack/1"),
    (SPLITS, "snapshots/samples/1.json", b"refinery.snapshot/2"),
    (SPLITS, "exports/*/*-train/index.json", b"refinery.export/2"),
    (COMPRESSED, "exports/*/mds-230fd185e4f5dd34/index.json", b"refinery.export/3"),
    (SPLITS, "tombstones/*.json", b"refinery.tombstone/1"),
]


@pytest.mark.parametrize(("written", "pattern", "version"), VERSIONS, ids=[v.decode() for *_, v in VERSIONS])
def test_a_version_that_nobody_wrote_yet_is_refused(
    tmp_path: Path, written: str, pattern: str, version: bytes
) -> None:
    [origin] = [path for path in SAMPLES if path.name == written]
    folder = shutil.copytree(origin / "store", tmp_path / "store")
    expected = json.loads((origin / "expected.json").read_text(encoding="utf-8"))
    _read_everything(LocalStore(folder), expected)
    found = list(folder.glob(pattern))
    assert found
    for path in found:
        rewrite(path, version, version[:-1] + b"9")
    with pytest.raises(RefineryError) as caught:
        _read_everything(LocalStore(folder), expected)
    assert caught.value.kind in ("unknown_format", "damaged_state")
    assert not caught.value.retryable


def test_inputs_of_a_version_that_nobody_wrote_yet_are_read_from_truth_again(tmp_path: Path) -> None:
    [origin] = [path for path in SAMPLES if path.name == PACKS]
    folder = shutil.copytree(origin / "store", tmp_path / "store")
    segments = read_head(LocalStore(folder))[0].inputs
    assert KeptInputs(LocalStore(folder)).rows(segments).num_rows == 7
    for key in segments:
        data = (folder / key).read_bytes()
        assert b"refinery.inputs/1" in data
        (folder / key).write_bytes(data.replace(b"refinery.inputs/1", b"refinery.inputs/9"))
    with pytest.raises(CorruptionError) as caught:
        KeptInputs(LocalStore(folder)).rows(segments)
    assert caught.value.kind == "lost_inputs"


def test_a_checkpoint_of_a_former_version_is_read_and_one_that_nobody_wrote_yet_is_not(
    tmp_path: Path,
) -> None:
    [origin] = [path for path in SAMPLES if path.name == PACKS]
    store = LocalStore(shutil.copytree(origin / "store", tmp_path / "store"))
    expected = json.loads((origin / "expected.json").read_text(encoding="utf-8"))
    first, *_, last = [info.key for info in store.list("ledger/")]
    store.delete(first)  # so that nobody but the checkpoint says what was in it
    assert [e.to_json() for e in Ledger(store).events()] == expected["ledger"]
    [key] = [info.key for info in store.list("checkpoints/")]
    data = store.get(key).replace(b"refinery.checkpoint/1", b"refinery.checkpoint/9")
    store.delete(key)
    store.put_if_absent(key.replace(key[-70:-6], digest(data)), data)
    assert store.exists(last)
    assert list(Ledger(store).events()) == []
