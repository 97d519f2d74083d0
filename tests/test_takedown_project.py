"""Takedown of real pictures: taken in again they are not kept, payloads go unless shared, and people see what was done."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from refinery.blobs import blob_key
from refinery.corpus import CorpusReport
from refinery.digests import digest
from refinery.ingest import ingest
from refinery.ledger import Actor, ActorKind
from refinery.project import Refinery
from refinery.sources import open_source
from refinery.tombstones import Tombstones
from tests.test_cli import Cli

ANA = Actor(ActorKind.PERSON, "ana")
WHY = "asked by its author"


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], refined: Path) -> Cli:
    return Cli(capsys, refined)


def taken_in(project: Refinery, folder: Path, name: str) -> dict[str, int]:
    source = open_source(folder, name=name, kind="folder")
    return ingest(project.store, project.fields, source, batch_size=50, max_bytes=1 << 30).totals


@pytest.fixture
def pair(corpus: CorpusReport, tmp_path: Path) -> Path:
    """Two pictures: each with a mask of its own, and one that both have; the first with a caption."""
    folder = tmp_path / "pair"
    folder.mkdir()
    for stem, name in (("one", "coffee.png"), ("two", "coins.png")):
        shutil.copy(corpus.folder / "photographs" / name, folder / f"{stem}.png")
        shutil.copy(corpus.folder / "blank/black.png", folder / f"{stem}.mask.png")
        (folder / f"{stem}.npy").write_text(stem)
    (folder / "one.txt").write_text("a cup of coffee")
    return folder


def test_bytes_that_come_again_are_not_kept_and_the_sample_stays_held(
    refined: Path, pair: Path, tmp_path: Path
) -> None:
    from assets.run import run

    project = Refinery.open(refined)
    taken_in(project, pair, "pairs")
    run(project)
    gone, stays = (digest((pair / f"{stem}.png").read_bytes()) for stem in ("one", "two"))
    own, shared = (digest((pair / name).read_bytes()) for name in ("one.npy", "one.mask.png"))
    report = project.takedown.run([gone], WHY, ANA, project.policy)
    assert [h.blobs for h in report.held] == [sorted([gone, own])], "a payload that another sample has stays"
    assert project.store.exists(blob_key(shared))
    before = {i.key: i.version for i in project.store.list("blobs/")}
    again = shutil.copytree(pair, tmp_path / "again")
    (again / "two.npy").unlink()
    totals = taken_in(project, again, "again")
    assert (totals["samples"], totals["known"], totals["new"], totals["over_cap"]) == (2, 2, 0, 0)
    assert {i.key: i.version for i in project.store.list("blobs/")} == before
    origins = project.batches.origins(sample_ids=[gone]).to_pylist()
    [origin] = [o for o in origins if o["source"] == "again"]
    assert (origin["stored"], origin["attributes"], origin["payloads"]) == (False, "{}", [])
    assert len(next(o for o in origins if o["source"] == "pairs")["payloads"]) == 2
    run(project)
    explained = project.explain(gone)
    assert (explained.verdict, explained.reasons) == ("held", ["blocked"])
    assert project.explain(stays).verdict != "pending"
    assert project.store.exists(blob_key(shared))
    assert not project.store.exists(blob_key(gone))


def test_once_the_block_is_taken_off_the_bytes_may_come_back_and_all_is_computed_again(
    refined: Path, pair: Path, tmp_path: Path
) -> None:
    from assets.run import run

    project = Refinery.open(refined)
    [source] = list((pair / "two.png").parent.glob("two.png"))
    gone = digest(source.read_bytes())
    was = project.explain(gone).verdict
    first, _ = project.freeze("set")
    project.takedown.run([gone], WHY, ANA, project.policy)
    project.undo(ANA)
    run(project)
    assert (project.explain(gone).verdict, project.explain(gone).reasons) == ("held", ["taken_down"])
    folder = tmp_path / "returns"
    folder.mkdir()
    shutil.copy(source, folder / "picture.png")
    assert taken_in(project, folder, "returns")["new"] == 1
    run(project)
    assert project.explain(gone).verdict == was == "gold"
    facts = {
        name: project.facts.read(step, sample_ids=[gone]) for name, step in project.steps.by_name().items()
    }
    assert {name: table["reason"].to_pylist() for name, table in facts.items()} == {
        "inspect": [None],
        "embed": [None],
        "near_duplicates": [None],
    }
    assert list(project.verify(first.ref)) == []
    assert Tombstones(project.store).ids() == {gone}


def test_people_see_where_a_sample_is_what_was_done_and_what_stays(cli: Cli) -> None:
    project = Refinery.open(cli.project)
    snapshot, _ = project.freeze("train")
    [gone, *_] = project.snapshots.rows(snapshot)["sample_id"].to_pylist()
    cli("export", "train", "--format", "webdataset", "--side", "64")
    out, _ = cli("takedown", gone[:12])
    assert "would take down 1 sample" in out
    assert "train@1" in out
    assert "exports/train@1/webdataset-" in out
    assert cli.json("takedown", gone, "--yes", code=3)["kind"] == "no_reason"
    assert cli.json("status")["ledger_offset"] == project.ledger.offset
    out, _ = cli("takedown", gone, "--yes", "--reason", WHY, "--actor", "ana")
    assert f"tombstones/{gone}.json" in out
    out, _ = cli("snapshot", "verify", "train@1")
    assert "train@1 is whole" in out
    assert "1 sample taken down" in out
    assert WHY in out
    found = cli.json("snapshot", "verify", "train@1")
    assert (found["ok"], [s["sample_id"] for s in found["taken_down"]]) == (True, [gone])
    assert cli.json("search", "--where", "has_flag('blocked')", "--ids")["hits"][0]["sample_id"] == gone
    shown = cli.json("show", gone)
    assert shown["document"]["verdict"] == "held"
    assert WHY in json.dumps(cli.json("explain", gone))
    assert cli.json("snapshot", "create", "train")["count"] == snapshot.count - 1 or snapshot.count
    error = cli.json("snapshot", "rebuild", "train@1", "--into", str(cli.project.parent / "there"), code=3)
    assert error["kind"] == "taken_down"
    assert cli.json("takedown", gone)["samples"][0]["taken_down"] is True
    card, _ = cli("snapshot", "card", "train@1", "--to", str(cli.project.parent / "card"))
    assert "README.md" in card
