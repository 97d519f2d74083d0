"""The sample's page without a browser: undoing, letting a flag go on, and that one sample's widgets are not another's."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from refinery.ledger import EventType
from refinery.project import Refinery
from tests.test_viewer_app import HOSTILE, click, desks, link, run, shown, words
from ui.core import Screen, Viewer


@pytest.fixture
def viewer(refined: Path) -> Viewer:
    return Viewer.open(refined)


def clustered(viewer: Viewer) -> list[str]:
    """The samples of one cluster, the one that is held first."""
    held = viewer.browse(Screen(where="near_duplicate")).hits[0].document
    everybody = viewer.browse(Screen(where=f"cluster = '{held['cluster']}'")).hits
    return sorted((h.sample_id for h in everybody), key=lambda i: i != held["sample_id"])


def opened(monkeypatch: pytest.MonkeyPatch, viewer: Viewer, sample: str, name: str = "ana") -> AppTest:
    app = run(monkeypatch, viewer.project.path, sample=sample)
    return shown(app.text_input(key="name").set_value(name).run())


def go_on(app: AppTest, to: str = "cluster") -> AppTest:
    app = shown(app.selectbox(key="propagate-to").select(to).run())
    return click(app, "Preview")


def proposed(app: AppTest) -> set[str]:
    """The samples that a proposal shows."""
    shows = [{t["id"] for g in d["groups"] for t in g["tiles"]} for d in desks(app)]
    labels = [b.label for b in app.button if b.label.startswith("Flag these ")]
    return next((s for s in shows[1:] if labels == [f"Flag these {len(s)}"]), set()) if labels else set()


def tags(viewer: Viewer, sample: str) -> list[object]:
    view = viewer.project.ledger.view()
    return [e.value for e in view.history(sample) if e.type is EventType.TAG and view.stands(e)]


def flags(viewer: Viewer, kind: str) -> dict[str, str]:
    """Who stood a flag of a kind, by sample."""
    events = viewer.project.ledger.view().events
    view = viewer.project.ledger.view()
    return {str(e.sample_id): e.actor.name for e in events if e.kind == kind and view.stands(e)}


def test_a_flag_is_previewed_goes_on_once_and_is_undone_with_the_first(
    monkeypatch: pytest.MonkeyPatch, viewer: Viewer
) -> None:
    first, *others = clustered(viewer)
    viewer.acts.flag([first], "review", "ana")
    app = go_on(opened(monkeypatch, viewer, first))
    assert proposed(app) == set(others)
    assert f"{len(others)} would be flagged" in words(app).replace("related sample: ", "").replace(
        "related samples: ", ""
    )
    assert set(flags(viewer, "review")) == {first}
    app = click(app, f"Flag these {len(others)}")
    assert flags(viewer, "review") == dict.fromkeys([first, *others], "ana")
    offset = viewer.project.ledger.offset
    app = go_on(app)
    assert f"0 would be flagged, {len(others)} are already" in words(app)
    assert not [b for b in app.button if b.label.startswith("Flag these")]
    assert viewer.project.ledger.offset == offset
    app = click(app, "Undo")
    assert flags(viewer, "review") == {}


def test_a_proposal_is_not_applied_twice_from_two_pages(
    monkeypatch: pytest.MonkeyPatch, viewer: Viewer
) -> None:
    first, *others = clustered(viewer)
    viewer.acts.flag([first], "review", "ana")
    pages = [go_on(opened(monkeypatch, viewer, first)) for _ in range(2)]
    for app in pages:
        click(app, f"Flag these {len(others)}")
    events = viewer.project.ledger.view().events
    assert len([e for e in events if e.kind == "review"]) == 1 + len(others)


def test_a_proposal_belongs_to_its_sample_its_flag_and_who_asked_for_it(
    monkeypatch: pytest.MonkeyPatch, viewer: Viewer
) -> None:
    first, other, *_ = clustered(viewer)
    viewer.acts.flag([first], "review", "ana")
    viewer.acts.flag([other], "keep", "ana")
    app = go_on(opened(monkeypatch, viewer, first))
    assert proposed(app)
    app.query_params["sample"] = other
    app = shown(app.run())
    assert not proposed(app)
    app.query_params["sample"] = first
    app = go_on(shown(app.run()))
    assert proposed(app)
    app = shown(app.text_input(key="name").set_value("ben").run())
    assert not proposed(app)
    app = click(go_on(app), f"Flag these {len(clustered(viewer)) - 1}")
    assert flags(viewer, "review") == {first: "ana"} | dict.fromkeys(clustered(viewer)[1:], "ben")


def test_a_proposal_whose_flag_was_undone_meanwhile_is_gone_or_refused(
    monkeypatch: pytest.MonkeyPatch, viewer: Viewer
) -> None:
    first, *others = clustered(viewer)
    flag = viewer.acts.flag([first], "review", "ana").events[0]
    app = go_on(opened(monkeypatch, viewer, first))
    viewer.acts.undo("ben", event=flag.id)
    app = click(app, f"Flag these {len(others)}")
    assert not proposed(app)
    assert flags(viewer, "review") == {}


def test_neighbours_out_of_reach_and_wishes_that_do_not_fit_are_said(
    monkeypatch: pytest.MonkeyPatch, viewer: Viewer
) -> None:
    broken = viewer.browse(Screen(where="failure IS NOT NULL")).hits[0].sample_id
    viewer.acts.flag([broken], "review", "ana")
    app = go_on(opened(monkeypatch, viewer, broken), "neighbours")
    assert "has no embedding" in words(app)
    assert not proposed(app)
    app = shown(app.text_input(key="name").set_value(" ").run())
    app = go_on(app)
    assert "every act carries a name" in words(app)


def test_what_stands_on_one_sample_is_not_undone_on_another(
    monkeypatch: pytest.MonkeyPatch, viewer: Viewer
) -> None:
    one, two = (hit.sample_id for hit in viewer.browse(Screen(verdict="gold")).hits[:2])
    for sample in (one, two):
        viewer.acts.tag([sample], "first", "ana")
        viewer.acts.tag([sample], "second", "ana")
    app = opened(monkeypatch, viewer, one)
    app.selectbox(key="event").select(viewer.project.ledger.view().history(one)[-2].id)
    app = click(app, "Undo")
    assert tags(viewer, one) == ["second"]
    app.query_params["sample"] = two
    app = click(shown(app.run()), "Undo")
    assert (tags(viewer, one), tags(viewer, two)) == (["second"], ["first"])


def test_of_two_events_that_say_the_same_the_chosen_one_is_undone(
    monkeypatch: pytest.MonkeyPatch, viewer: Viewer
) -> None:
    sample = viewer.browse(Screen(verdict="gold")).hits[0].sample_id
    older, newer = (viewer.acts.tag([sample], "portrait", "ana").events[0] for _ in range(2))
    app = opened(monkeypatch, viewer, sample)
    labels = app.selectbox(key="event").options
    assert len(set(labels)) == len(labels) == 2
    app.selectbox(key="event").select(older.id)
    app = click(app, "Undo")
    view = viewer.project.ledger.view()
    assert (view.stands(older), view.stands(newer)) == (False, True)


def test_labels_and_marks_are_constants_whatever_is_said(
    monkeypatch: pytest.MonkeyPatch, viewer: Viewer
) -> None:
    first = clustered(viewer)[0]
    viewer.acts.flag([first], "reject", HOSTILE[:100].replace("\x1b", ""), HOSTILE)
    viewer.acts.tag([first], HOSTILE[:190], "ana")
    viewer.save_view(Screen(where="width > 1"), "wide", "ana")
    app = go_on(opened(monkeypatch, viewer, first))
    marked = [app.markdown, app.caption, app.subheader, app.header, app.button, app.expander, app.tabs]
    for element in (e for kind in marked for e in kind):
        said = f"{getattr(element, 'value', '')} {getattr(element, 'label', '')}"
        assert "hacked" not in said
        assert "**bold**" not in said
    helps = [str(getattr(e, "help", "")) for e in (*app.button, *app.selectbox, *app.text_input)]
    assert "hacked" not in "".join(helps)


def test_no_embedding_no_cluster_and_no_picture_still_make_a_page(
    monkeypatch: pytest.MonkeyPatch, viewer: Viewer
) -> None:
    broken = viewer.browse(Screen(where="failure IS NOT NULL")).hits[0].sample_id
    app = opened(monkeypatch, viewer, broken)
    assert "It cannot be decoded, or its bytes are not kept." in words(app)
    assert any(c.value == "No embedding, so nothing to compare with." for c in app.caption)
    assert all(desk["plain"] or desk["groups"] for desk in desks(app))
    app = click(app, "← Back to the grid")
    assert link(app) == {}


def test_a_sample_of_a_project_whose_index_is_gone_is_explained_all_the_same(
    monkeypatch: pytest.MonkeyPatch, viewer: Viewer
) -> None:
    sample = clustered(viewer)[0]
    shutil.rmtree(viewer.project.path / "index")
    app = run(monkeypatch, viewer.project.path, sample=sample)
    assert any(s.value == "There is no index yet" for s in app.subheader)
    assert Refinery.open(viewer.project.path).explain(sample).verdict == "held"
