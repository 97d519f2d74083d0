"""`refinery snapshot verify`: one altered byte, anywhere in what a snapshot rests on, is found and named."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from refinery.corpus import CorpusReport
from refinery.export import parse_recipe
from refinery.ingest import ingest
from refinery.ledger import Actor, ActorKind
from refinery.locks import Locks
from refinery.project import Refinery
from refinery.sources import open_source
from refinery.states import writing
from refinery.states.tree import StateTrees
from tests.projects import copy_pictures

ANA = Actor(ActorKind.PERSON, "ana")
FLIPS = 2
RECIPES = (
    {"format": "mds", "side": 64},
    {"format": "parquet", "size": "bytes", "samples_per_shard": 3},
)


@pytest.fixture(scope="module")
def folder(corpus: CorpusReport, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a snapshot, two exports of it, and a ledger that has gone on since."""
    home = tmp_path_factory.mktemp("verify")
    project = Refinery.create(home / "project", "embedder: {kind: efficientnet_lite0}\n")
    source = open_source(copy_pictures(corpus, home / "pictures"), name="pictures", kind="folder")
    ingest(project.store, project.fields, source, batch_size=50, max_bytes=1 << 30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "LEAF_ROWS", 2)
        from assets.run import run

        run(project)
        members, _ = project.freeze("set")
        for recipe in RECIPES:
            project.exporter.export(members, parse_recipe(recipe))
        sample = project.snapshots.rows(members)["sample_id"].to_pylist()[0]
        project.flag([sample], "review", ANA)
    return project.path


@pytest.fixture
def project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Refinery:
    monkeypatch.setattr(writing, "LEAF_ROWS", 2)
    return Refinery.open(folder)


def objects(project: Refinery) -> Iterator[str]:
    """The keys of all that the snapshot and its exports rest on; near-duplicates follow from the other facts."""
    snapshot = project.snapshots.get("set@1")
    trees = StateTrees(project.store)
    segments, _ = project.ledger.segment_at(snapshot.ledger_offset)
    yield from {*trees.keys(snapshot.node), *trees.keys(snapshot.state_node)}
    yield from (f"ledger/{n:020d}.jsonl" for n in range(1, segments + 1))
    yield from ("snapshots/set/1.json", "snapshots/set/1.lock.json", f"policies/{snapshot.policy}.json")
    yield from (
        f"facts/{n}/{s['key']}/step.json" for n, s in snapshot.steps.items() if n != "near_duplicates"
    )
    for prefix in ("exports/set@1/", "batches/", "facts/inspect/", "facts/embed/"):
        yield from (info.key for info in project.store.list(prefix) if not info.key.endswith("/step.json"))
    for row in project.snapshots.rows(snapshot).to_pylist():
        yield f"blobs/{row['sample_id'][:2]}/{row['sample_id'][2:4]}/{row['sample_id']}"


def findings(project: Refinery) -> list[str]:
    return list(Refinery.open(project.path).verify("set@1"))


@contextmanager
def altered(project: Refinery, key: str, data: bytes | None) -> Iterator[None]:
    """While the object has these bytes, or (None) is missing."""
    path = project.store.root / key  # type: ignore[attr-defined]
    aside = path.with_suffix(".aside")
    path.rename(aside)
    try:
        if data is not None:
            path.write_bytes(data)
        yield
    finally:
        aside.replace(path)


def test_a_whole_snapshot_has_no_findings(project: Refinery) -> None:
    assert findings(project) == []
    kinds = {key.split("/")[0] + Path(key).suffix for key in objects(project)}
    assert kinds >= {
        "states.json",
        "states.pack",
        "ledger.jsonl",
        "batches.json",
        "batches.parquet",
        "facts.parquet",
        "exports.mds",
        "exports.parquet",
        "blobs",
    }


def test_one_flipped_bit_anywhere_is_found_and_named(project: Refinery) -> None:
    draw = random.Random(0)
    missed = []
    for key in sorted(objects(project)):
        data = project.store.get(key)
        for at in {0, len(data) - 1, *(draw.randrange(len(data)) for _ in range(FLIPS))}:
            flipped = bytes([data[at] ^ 1 << draw.randrange(8)])
            with altered(project, key, data[:at] + flipped + data[at + 1 :]):
                found = findings(project)
            if not any(key in finding for finding in found):
                missed.append((key, at, flipped, data[max(0, at - 20) : at + 20], found))
    assert not missed
    assert findings(project) == []


def test_a_missing_object_is_found_and_named(project: Refinery) -> None:
    absent_is_fine = re.compile(
        r"snapshots/set/1\.|exports/.*/index\.json"
    )  # then there is no snapshot, lock or export
    for key in sorted(objects(project)):
        if not absent_is_fine.match(key):
            with altered(project, key, None):
                assert any(key in finding for finding in findings(project)), key


def test_a_pack_with_other_bytes_of_the_same_rows_is_found(project: Refinery) -> None:
    snapshot = project.snapshots.get("set@1")
    trees = StateTrees(project.store)
    key = next(k for k in trees.keys(snapshot.node) if k.endswith(".pack"))
    with altered(project, key, project.store.get(key) + b"\0"):
        assert list(trees.verify(snapshot.node)) == []
        [finding] = findings(project)
        assert key in finding


def test_an_older_snapshot_without_a_lock_is_verified_by_its_root(project: Refinery) -> None:
    with altered(project, "snapshots/set/1.lock.json", None):
        assert findings(project) == []
        root = project.snapshots.get("set@1").node
        pack = next(k for k in StateTrees(project.store).keys(root) if k.endswith(".pack"))
        with altered(project, pack, b"refinery.pack/1"):
            assert pack in "".join(findings(project))


def test_a_version_that_follows_takes_over_what_its_parent_locked(project: Refinery) -> None:
    first = project.snapshots.get("set@1")
    sample = project.snapshots.rows(first)["sample_id"].to_pylist()[0]
    project.flag([sample], "reject", ANA)
    project.replay()
    second, new = project.freeze("set")
    assert (new, second.ref) == (True, "set@2")
    assert list(project.verify("set@2")) == findings(project) == []
    locks = [json.loads(project.store.get(f"snapshots/set/{n}.lock.json")) for n in (1, 2)]
    shared = locks[0]["objects"].keys() & locks[1]["objects"].keys()
    assert {key.split("/")[1] for key in shared if key.startswith("states/")} >= {"packs"}
    assert locks[1]["ledger"]["segments"] > locks[0]["ledger"]["segments"]
    assert Locks(project.store).write(second, project.ledger) is False
