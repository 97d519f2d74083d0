"""The viewer's pages, run without a browser: browse, open, flag, and what hostile words become."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import streamlit
from streamlit.testing.v1 import AppTest

from refinery.cli import main
from refinery.filter import parse
from refinery.ledger import Actor, ActorKind, Event, EventType
from refinery.project import Refinery
from ui import show
from ui.core import Screen, Viewer

APP = Path(__file__).resolve().parent.parent / "ui" / "app.py"
HOSTILE = (
    "<script>window.hacked=1</script> ![x](http://127.0.0.1:9/x.png) **bold** $x$ :red[r] \x1b[31m\u202e"
)
ESCAPED = HOSTILE.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")
ANA = Actor(ActorKind.PERSON, "ana")


def run(monkeypatch: pytest.MonkeyPatch, project: Path, **params: str) -> AppTest:
    """The app as one finds it under this link."""
    monkeypatch.setenv("REFINERY_PROJECT", str(project))
    app = AppTest.from_file(str(APP), default_timeout=60)
    for name, value in params.items():
        app.query_params[name] = value
    return shown(app.run())


def shown(app: AppTest) -> AppTest:
    assert not app.exception, app.exception[0].value
    return app


def words(app: AppTest) -> str:
    """All text on the page that cannot be markup."""
    return "\n".join(str(t.value) for t in app.text)


def link(app: AppTest) -> dict[str, str]:
    return {name: value[0] if isinstance(value, list) else value for name, value in app.query_params.items()}


def click(app: AppTest, label: str) -> AppTest:
    (button,) = [b for b in app.button if b.label == label]
    return shown(button.click().run())


def tab(app: AppTest, label: str) -> AppTest:
    """The page of a sample with this tab open."""
    app.session_state["tab"] = label
    return shown(app.run())


def desks(app: AppTest) -> list[dict[str, Any]]:
    """What the desks of the page show."""
    return [
        json.loads(e.proto.json)
        for e in app.get("bidi_component")
        if e.proto.component_name == "refinery_desk"
    ]


def test_facets_narrow_the_grid_and_a_sample_says_what_stands_on_it(
    monkeypatch: pytest.MonkeyPatch, refined: Path
) -> None:
    app = run(monkeypatch, refined)
    app = shown(app.selectbox(key="screen-verdict").select("gold").run())
    assert link(app) == {"verdict": "gold"}
    (grid,) = desks(app)
    tiles = grid["groups"][0]["tiles"]
    assert {tile["verdict"] for tile in tiles} == {"gold"}
    assert all(tile["image"] for tile in tiles)
    sample = tiles[0]["id"]
    Viewer.open(refined).acts.flag([sample], "reject", "ana", HOSTILE)
    app = run(monkeypatch, refined, sample=sample)
    assert f"flag reject by person ana: {ESCAPED}" in words(tab(app, "History"))
    assert "The last replay said gold; the next one will say held." in words(app)
    app = click(app, "Replay now")
    assert "The last replay said" not in words(app)
    assert Viewer.open(refined).browse(Screen(reason="rejected")).hits[0].sample_id == sample
    app = click(app, "Undo")
    app = click(app, "Replay now")
    assert "no rule of the policy holds it" in words(app)


def test_a_change_counts_even_when_the_browser_has_not_heard_of_the_url_before_it(
    monkeypatch: pytest.MonkeyPatch, refined_folder: Path
) -> None:
    app = run(monkeypatch, refined_folder, seed="3")
    app.text_input(key="screen-where").set_value("width > 5").run()
    app.query_params.clear()
    app.query_params["seed"] = "3"
    app.selectbox(key="screen-verdict").select("gold")
    app = shown(app.run())
    assert link(app) == {"where": "width > 5", "verdict": "gold", "seed": "3"}
    app = shown(app.text_input(key="screen-words").set_value("cat").run())
    assert link(app) == {"where": "width > 5", "verdict": "gold", "words": "cat"}


def test_what_a_run_told_that_was_cut_short_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Noted(dict[str, object]):
        told = 0

        def __setitem__(self, key: str, value: object) -> None:
            self.told += key == "screen-where"
            super().__setitem__(key, value)

    state = Noted()
    monkeypatch.setattr(streamlit, "session_state", state)
    for value, ends, told in (
        ("a", False, 1),
        ("a", True, 2),
        ("a", True, 2),
        ("b", True, 3),
        ("b", True, 3),
    ):
        show.bound("where", value)
        assert state.told == told
        if ends:
            show.finished()


def test_words_from_data_are_text_and_never_markup(monkeypatch: pytest.MonkeyPatch, refined: Path) -> None:
    project = Refinery.open(refined)
    sample = Viewer(project).browse(Screen(verdict="gold")).hits[0].sample_id
    project.tag([sample], HOSTILE[:190], ANA)
    project.flag([sample], "review", ANA, reason=HOSTILE)
    project.ledger.append([Event(EventType.ATTRIBUTE, ANA, sample, kind="caption", value=HOSTILE)])
    project.project()
    app = run(monkeypatch, refined, sample=sample, where=HOSTILE, source=HOSTILE)
    said = {label: words(tab(app, label)) for label in (t.label for t in app.tabs)}
    assert f"caption: {ESCAPED}" in said["Attributes"]
    assert f"flag review by person ana: {ESCAPED}" in said["History"]
    app = click(app, "← Back to the grid")
    assert "filter" in words(app)
    for element in (*app.markdown, *app.caption, *app.button, *app.error, *app.subheader):
        assert "hacked" not in f"{element.value} {getattr(element, 'label', '')}"


def test_a_wrong_filter_is_answered_in_words(monkeypatch: pytest.MonkeyPatch, refined_folder: Path) -> None:
    app = run(monkeypatch, refined_folder, where="widht > 5")
    assert "Did you mean 'width'?" in words(app)
    app = shown(app.text_input(key="screen-where").set_value("width > 5").run())
    assert "Did you mean" not in words(app)
    app = run(monkeypatch, refined_folder, cursor="nonsense")
    assert "cursor" in words(app)
    app = click(app, "Start anew")
    assert link(app) == {}


def test_states_with_nothing_to_show_say_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, refined_folder: Path
) -> None:
    assert "is not a refinery project" in words(run(monkeypatch, tmp_path / "none"))
    Refinery.create(tmp_path / "empty", "embedder: {kind: efficientnet_lite0}\n")
    app = run(monkeypatch, tmp_path / "empty")
    assert app.subheader[0].value == "Nothing has been ingested yet"
    app = run(monkeypatch, refined_folder, where="width > 100000")
    assert any(c.value.startswith("No sample is like that") for c in app.caption)
    assert "names no sample" in words(run(monkeypatch, refined_folder, sample="deadbeef"))


def test_the_catalogue_tells_of_each_field_how_many_samples_have_it(
    monkeypatch: pytest.MonkeyPatch, refined_folder: Path
) -> None:
    app = run(monkeypatch, refined_folder)
    app = shown(app.radio(key="screen-page").set_value("fields").run())
    assert link(app) == {"page": "fields"}
    table = app.dataframe[0].value.set_index("field")
    project = Refinery.open(refined_folder)
    assert list(table.index) == [field.name for field in project.fields.values()]
    assert table.loc["sample_id", "filled"] == "100%"
    assert table.loc["width", "samples"] == f"{project.index.count(parse('width > 0', project.fields)):,}"
    assert table.loc["verdict", "examples"].split(", ")[0] in ("gold", "held")


def test_a_read_only_viewer_offers_no_acts(monkeypatch: pytest.MonkeyPatch, refined_folder: Path) -> None:
    monkeypatch.setattr("sys.argv", ["app.py", "--project", str(refined_folder), "--read-only"])
    sample = Viewer.open(refined_folder).browse(Screen(verdict="gold")).hits[0].sample_id
    app = AppTest.from_file(str(APP), default_timeout=60)
    app.query_params["sample"] = sample
    app = shown(app.run())
    assert "no rule of the policy holds it" in words(app)
    assert not app.text_input
    assert all(desk["readOnly"] for desk in desks(app))
    assert {b.label for b in app.button} & {"Flag", "Tag", "Undo", "Replay now"} == set()


def test_the_command_says_when_its_port_is_taken(
    refined_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SystemExit) as exit_:
            main(["--project", str(refined_folder), "view", "--port", str(taken.getsockname()[1])])
    assert exit_.value.code == 4
    assert "--port" in capfd.readouterr().err
