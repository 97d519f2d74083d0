"""The map of the viewer: which points are shown, what a lasso selects, and the page without a browser."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from streamlit.testing.v1 import AppTest

from refinery.embedding_map import EmbeddingMap
from refinery.errors import ConfigError, InputError
from refinery.filter import Filter, conjunction, parse
from refinery.filter.ast import OneOf
from refinery.project import Refinery
from tests.test_viewer_app import click, desks, link, run, shown, words
from ui.core import Screen, Viewer, lasso
from ui.core.map import MapView

ALL = "0,0;1000,0;1000,1000;0,1000"


@pytest.fixture
def viewer(refined: Path) -> Iterator[Viewer]:
    EmbeddingMap.of(Refinery.open(refined)).make()
    return Viewer.open(refined)


def embedded(viewer: Viewer, where: str = "") -> list[str]:
    """The samples with a vector that a filter selects, in order of id."""
    return paged(viewer, Screen(where=" AND ".join(filter(None, ["embedder IS NOT NULL", where]))))


def paged(viewer: Viewer, screen: Screen) -> list[str]:
    """The ids of all pages of a screen."""
    ids: list[str] = []
    cursor = ""
    while True:
        found = viewer.browse(screen.change(cursor=cursor))
        ids += [hit.sample_id for hit in found.hits]
        if found.cursor is None:
            return ids
        cursor = found.cursor


def half(viewer: Viewer) -> str:
    """A lasso around the left half of the map, cut where no point is."""
    x = np.sort(viewer.map.points().places[:, 0])
    gaps = np.diff(x[len(x) // 4 : -len(x) // 4])
    at = len(x) // 4 + int(gaps.argmax())
    cut = round(float(x[at] + x[at + 1]) / 2 * 1000)
    return f"0,0;{cut},0;{cut},1000;0,1000"


def test_a_polygon_is_the_same_after_the_way_through_a_link() -> None:
    polygon = [(0.1234, 0.5), (1.2, 0.25), (0.3, -0.1)]
    assert lasso.to_link(polygon) == "123,500;1000,250;300,0"
    assert lasso.from_link("123,500;1000,250;300,0") == [(0.123, 0.5), (1.0, 0.25), (0.3, 0.0)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1,2",
        "1,2;3,4",
        "a,b;c,d;e,f",
        "1;2;3",
        ";".join(["1,2"] * 61),
        f"1,2;3,4;5,{'9' * 999}",
        "1,2,3;1,2;3,4",
    ],
)
def test_a_link_with_another_lasso_is_refused(text: str) -> None:
    with pytest.raises(InputError) as refused:
        lasso.from_link(text)
    assert refused.value.kind == "bad_polygon"


def test_the_picture_shows_what_the_filter_selects_and_says_what_has_no_place(viewer: Viewer) -> None:
    view = MapView(viewer)
    picture = view.picture(Screen())
    assert list(picture.ids) == embedded(viewer)
    assert picture.selected == viewer.browse(Screen()).selected
    assert picture.unplaced == picture.selected - len(picture.ids) > 0
    assert picture.places.dtype == np.uint16
    assert sum(kind.count for kind in picture.legend) == len(picture.ids) == len(picture.kinds)
    gold = view.picture(Screen(verdict="gold"))
    assert [(k.value, k.count) for k in gold.legend] == [("gold", len(gold.ids))]


@pytest.mark.parametrize("colour", ["", "source", "cluster", "flag", "near_duplicate", "nonsense"])
def test_every_colour_counts_every_point_once(viewer: Viewer, colour: str) -> None:
    picture = MapView(viewer).picture(Screen(colour=colour))
    counts = np.bincount(picture.kinds, minlength=len(picture.legend))
    assert counts.tolist() == [kind.count for kind in picture.legend]
    assert len(picture.legend) <= 10


def test_a_flag_colours_its_point_at_once(viewer: Viewer) -> None:
    view = MapView(viewer)
    assert [k.value for k in view.picture(Screen(colour="flag")).legend] == ["none"]
    chosen = view.picture(Screen()).ids[0]
    viewer.acts.flag([chosen], "review", "ana", "")
    after = view.picture(Screen(colour="flag"))
    assert (after.legend[0].value, after.legend[0].count, after.legend[0].special) == ("review", 1, False)
    assert after.legend[after.kinds[0]].value == "review"


def test_a_lasso_shows_just_its_samples_and_the_filter_narrows_them(viewer: Viewer) -> None:
    everything = Screen(lasso=ALL)
    assert paged(viewer, everything) == embedded(viewer)
    left = Screen(lasso=half(viewer))
    inside = list(viewer.ids_inside(left))
    assert inside == sorted(inside)
    assert 0 < len(inside) < len(embedded(viewer))
    assert paged(viewer, left) == inside
    assert viewer.browse(left).selected == len(inside)
    gold = paged(viewer, left.change(verdict="gold"))
    assert gold == [i for i in embedded(viewer, "verdict = 'gold'") if i in set(inside)]
    assert viewer.counts(left, "verdict").get("gold", 0) == len(gold)
    assert set(paged(viewer, left.change(seed=3))) == set(inside)


def test_a_large_lasso_is_asked_for_in_pieces_with_the_same_answer(
    viewer: Viewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Screen(lasso=ALL, where="verdict != 'gold'", density="large")
    whole, count = paged(viewer, screen), viewer.browse(screen).selected
    counts = viewer.counts(screen, "reason")
    monkeypatch.setattr(lasso, "_CHUNK", 7)
    found = viewer.browse(screen)
    assert (paged(viewer, screen), found.selected, found.exact) == (whole, count, True)
    assert viewer.counts(screen, "reason") == counts
    with pytest.raises(InputError, match="too many for this order"):
        viewer.browse(screen.change(sort="width"))
    monkeypatch.setattr(lasso, "EXACT", 21)
    viewer = Viewer(viewer.project)
    about = viewer.browse(screen)
    assert not about.exact
    assert about.selected == pytest.approx(count, rel=0.5)


@pytest.mark.parametrize("field", ["width", "ingested_at", "reasons", "source"])
def test_a_field_is_spread_over_the_lasso_and_nothing_outside(
    viewer: Viewer, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    left = Screen(lasso=half(viewer), where="width > 0")
    inside = list(viewer.ids_inside(left))
    expected = viewer.project.index.aggregate(
        field,
        None,
        conjunction([Filter(OneOf("sample_id", tuple(inside))), parse("width > 0", viewer.fields)]),
        size=30,
    )
    everywhere = viewer.spread(left.change(lasso=""), field)
    assert viewer.spread(left, field) == expected != everywhere
    monkeypatch.setattr(lasso, "_CHUNK", 5)
    assert Viewer(viewer.project).spread(left, field) == expected
    nothing = viewer.spread(Screen(lasso="0,0;1,0;0,1"), field)
    assert (nothing.buckets, nothing.missing) == ((), 0)


def test_what_is_kept_of_a_lasso_is_read_anew_after_a_flag(viewer: Viewer) -> None:
    screen = Screen(lasso=ALL, where="has_flag('review')")
    assert viewer.browse(screen).selected == sum(viewer.counts(screen, "verdict").values()) == 0
    viewer.acts.flag(embedded(viewer)[:2], "review", "ana", "")
    assert viewer.browse(screen).selected == sum(viewer.counts(screen, "verdict").values()) == 2


def test_a_lasso_of_nothing_selects_nothing(viewer: Viewer) -> None:
    found = viewer.browse(Screen(lasso="0,0;1,0;0,1"))
    assert (found.hits, found.selected, found.cursor) == ((), 0, None)
    assert viewer.counts(Screen(lasso="0,0;1,0;0,1"), "verdict") == {}


def test_a_view_narrows_a_lasso(viewer: Viewer) -> None:
    viewer.save_view(Screen(where="verdict = 'gold'"), "good", "ana")
    found = paged(viewer, Screen(lasso=ALL, view="good"))
    assert found == embedded(viewer, "verdict = 'gold'")


def test_a_viewer_that_is_read_only_makes_no_map(refined: Path) -> None:
    viewer = Viewer.open(refined, read_only=True)
    with pytest.raises(ConfigError) as refused:
        MapView(viewer).make()
    assert refused.value.kind == "read_only"
    assert viewer.map.status() is None


def scatter(app: AppTest) -> dict[str, Any]:
    """What the map of the page shows."""
    (found,) = [
        json.loads(e.proto.json)
        for e in app.get("bidi_component")
        if e.proto.component_name == "refinery_scatter"
    ]
    return dict(found)


def marked(app: AppTest) -> str:
    """The constant words and numbers of a page."""
    return "\n".join(m.value for m in app.markdown)


def test_the_map_is_made_by_a_button_and_then_shows_every_sample(
    monkeypatch: pytest.MonkeyPatch, refined: Path
) -> None:
    app = run(monkeypatch, refined, page="map")
    assert "There is no map yet" in [h.value for h in app.subheader]
    app = click(app, "Make the map")
    data = scatter(app)
    viewer = Viewer.open(refined)
    points = len(embedded(viewer))
    assert len(base64.b64decode(data["x_y"])) == 4 * points
    assert len(base64.b64decode(data["kinds"])) == points
    assert {line["word"] for line in data["legend"]} == {"gold", "held"}
    assert data["verdicts"]
    app = run(monkeypatch, refined, page="map", lasso=ALL)
    assert scatter(app)["lasso"] == [[0, 0], [1, 0], [1, 1], [0, 1]]
    app = click(app, "Show in grid")
    assert link(app) == {"lasso": ALL}
    (grid,) = desks(app)
    assert [t["id"] for g in grid["groups"] for t in g["tiles"]] == embedded(viewer)[:24]
    app = click(app, "Without the lasso")
    assert link(app) == {}


def test_what_came_since_is_placed_when_the_map_is_opened(
    monkeypatch: pytest.MonkeyPatch, refined: Path
) -> None:
    project = Refinery.open(refined)
    made = EmbeddingMap.of(project)
    fit = made.make().fit
    key = next(i.key for i in project.store.list("maps/") if "photographs" in i.key)
    project.store.delete(key)
    before = made.status()
    assert before is not None
    assert before.missing == 1
    app = run(monkeypatch, refined, page="map")
    assert len(base64.b64decode(scatter(app)["kinds"])) == len(embedded(Viewer.open(refined)))
    status = made.status()
    assert status is not None
    assert (status.fit, status.missing) == (fit, 0)


def test_gaps_are_looked_for_at_a_press_and_shown_on_a_desk(
    monkeypatch: pytest.MonkeyPatch, refined: Path
) -> None:
    EmbeddingMap.of(Refinery.open(refined)).make()
    app = run(monkeypatch, refined, page="map")
    assert desks(app) == []
    app = click(app, "Look for gaps")
    (desk,) = desks(app)
    assert desk["groups"]
    assert all(group["title"].startswith("Gap ") for group in desk["groups"])
    marks = {tile["mark"] for group in desk["groups"] for tile in group["tiles"]}
    assert "example" in marks
    app = click(app, "Gap 1 in grid")
    assert link(app)["like"] == desk["groups"][0]["tiles"][0]["id"]


def test_gaps_of_a_set_are_kept_and_said_to_be_old_after_a_flag(
    monkeypatch: pytest.MonkeyPatch, refined: Path
) -> None:
    EmbeddingMap.of(Refinery.open(refined)).make()
    app = run(monkeypatch, refined, page="map", covered="source = 'nothing'")
    app = click(app, "Look for gaps")
    (desk,) = desks(app)
    assert "gaps of a set of 0 in" in marked(app)
    assert "Look again" not in [b.label for b in app.button]
    chosen = desk["groups"][0]["tiles"][0]["id"]
    Viewer.open(refined).acts.flag([chosen], "review", "ana", "")
    app.run()
    assert "Found before the last changes" in marked(app)
    (after,) = desks(app)
    assert after["groups"][0]["tiles"][0]["flags"] == ["review"]
    app.text_input(key="screen-target").set_value("verdict = 'held'").run()
    assert desks(app) == [], "gaps in another target were not looked for"
    app.text_input(key="screen-target").set_value("").run()
    assert desks(app) == [after], "they were kept"
    app = click(app, "Look again")
    assert "Found before the last changes" not in marked(app)


def test_the_set_that_should_cover_may_be_a_snapshot(monkeypatch: pytest.MonkeyPatch, refined: Path) -> None:
    project = Refinery.open(refined)
    EmbeddingMap.of(project).make()
    snapshot, _ = project.freeze("train")
    ref = snapshot.ref
    project.project()
    app = run(monkeypatch, refined, page="map")
    app.selectbox(key="screen-covered").set_value(f"in_dataset('{ref}')").run()
    assert link(app) == {"page": "map", "covered": f"in_dataset('{ref}')"}
    app = click(app, "Look for gaps")
    count = Viewer.open(refined).browse(Screen(where=f"in_dataset('{ref}')")).selected
    assert f"gaps of a set of {count:,} in" in marked(app)


@pytest.mark.parametrize(
    ("params", "words_"),
    [
        ({"where": "widht > 3"}, "widht"),
        ({"lasso": "nonsense"}, "lasso"),
        ({"target": "widht > 3"}, "widht"),
        ({"covered": "widht > 3"}, "widht"),
    ],
)
def test_a_link_that_does_not_fit_is_said_in_words(
    monkeypatch: pytest.MonkeyPatch, refined: Path, params: dict[str, str], words_: str
) -> None:
    EmbeddingMap.of(Refinery.open(refined)).make()
    app = run(monkeypatch, refined, page="map", **params)
    if {"target", "covered"} & set(params):
        app = click(app, "Look for gaps")
    assert words_ in words(shown(app))


def test_sample_ids_of_a_lasso_are_one_comparison_of_a_filter(viewer: Viewer) -> None:
    ids = embedded(viewer)
    inside = lasso.Inside(viewer.project.index, ids, conjunction([parse("verdict = 'gold'", viewer.fields)]))
    whole = inside.whole
    assert whole is not None
    assert parse(whole.text, viewer.fields) == whole
    table = pa.table({"sample_id": ids[:3], "verdict": ["gold", "held", "gold"]})
    assert whole.mask(table).tolist() == [True, False, True]
