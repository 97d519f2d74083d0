"""The viewer's page of snapshots, run without a browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from refinery.blobs import blob_path
from refinery.cards import PICTURES
from refinery.project import Refinery
from tests.test_viewer_app import ANA, ESCAPED, HOSTILE, click, desks, link, run, shown, words
from ui.core import Screen, Viewer


@pytest.fixture
def frozen(refined: Path) -> tuple[Path, str]:
    """A project with two snapshots of gold, and the sample that only the first one holds."""
    project = Refinery.open(refined)
    project.freeze("gold", actor=ANA)
    gone = Viewer(project).browse(Screen(verdict="gold")).hits[0].sample_id
    project.flag([gone], "reject", ANA, reason=HOSTILE)
    project.replay()
    project.project()
    project.freeze("gold", actor=ANA)
    return refined, gone


def test_the_newest_snapshot_is_shown_with_what_differs_from_its_parent_and_why(
    monkeypatch: pytest.MonkeyPatch, frozen: tuple[Path, str]
) -> None:
    folder, gone = frozen
    app = run(monkeypatch, folder, page="snapshots")
    assert app.selectbox(key="screen-ref").value == "gold@2"
    assert app.selectbox(key="screen-against").value == "gold@1"
    said = words(app)
    assert "gold@1 → gold@2: 0 added, 1 removed, 0 changed" in said
    ((tile,),) = [group["tiles"] for desk in desks(app) for group in desk["groups"]]
    assert (tile["id"], tile["mark"]) == (gone, "▼ removed")
    assert ESCAPED in tile["line"]
    app.query_params["sample"] = gone
    app = shown(app.run())
    assert "flag reject by person ana" in words(app)
    app = click(app, "← Back to the grid")
    assert app.header[0].value == "Snapshots"


def test_snapshots_compared_the_other_way_round_tell_it_the_other_way_round(
    monkeypatch: pytest.MonkeyPatch, frozen: tuple[Path, str]
) -> None:
    app = run(monkeypatch, frozen[0], page="snapshots", ref="gold@1", against="gold@2")
    assert "gold@2 → gold@1: 1 added, 0 removed, 0 changed" in words(app)


def test_a_snapshot_is_verified_and_shows_its_card(
    monkeypatch: pytest.MonkeyPatch, frozen: tuple[Path, str]
) -> None:
    app = click(run(monkeypatch, frozen[0], page="snapshots"), "Verify")
    assert any(text.startswith("its root ") for text in words(app).splitlines())
    viewer = Viewer.open(frozen[0])
    blob = blob_path(viewer.project.store, viewer.browse(Screen(verdict="gold")).hits[0].sample_id)
    assert blob
    blob.chmod(0o600)
    blob.write_bytes(b"damaged")
    app = click(app, "Verify")
    assert "finding" in words(app)
    before = len(app.get("image"))
    app = click(app, "Card")
    assert len(app.get("image")) == before + len(PICTURES)
    assert app.get("download_button")


def test_a_link_to_a_snapshot_that_is_not_there_says_so(
    monkeypatch: pytest.MonkeyPatch, frozen: tuple[Path, str]
) -> None:
    app = run(monkeypatch, frozen[0], page="snapshots", ref="gold@9")
    assert "gold@9" in words(app)
    app = click(app, "Show the newest")
    assert app.selectbox(key="screen-ref").value == "gold@2"
    app = run(monkeypatch, frozen[0], page="snapshots", against="silver@1")
    assert "silver" in words(app)


def test_a_project_without_snapshots_says_how_to_make_one(
    monkeypatch: pytest.MonkeyPatch, refined_folder: Path
) -> None:
    app = run(monkeypatch, refined_folder)
    app = shown(app.radio(key="screen-page").set_value("snapshots").run())
    assert link(app) == {"page": "snapshots"}
    assert any("snapshot create" in caption.value for caption in app.caption)
