"""The viewer's page of views, and snapshots made in the viewer, run without a browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from refinery.errors import ConfigError, InputError
from refinery.fields import Field, FieldType
from refinery.ledger import Actor, ActorKind, EventType
from refinery.project import Refinery
from tests.test_viewer_app import ANA, APP, ESCAPED, HOSTILE, click, link, run, shown, words
from ui.core import Viewer


def press(app: AppTest, key: str) -> AppTest:
    return shown(app.button(key=key).click().run())


def test_views_are_listed_counted_opened_and_shared(monkeypatch: pytest.MonkeyPatch, refined: Path) -> None:
    project = Refinery.open(refined)
    mallory = Actor(ActorKind.PERSON, HOSTILE)
    project.views.save("sharp", "sharpness >= 10", ANA)
    project.views.save("sharp", "sharpness >= 50", mallory)
    project.views.save("named", f"caption = '{HOSTILE.replace(chr(39), chr(39) * 2)}'", ANA)
    app = run(monkeypatch, refined)
    app = shown(app.radio(key="screen-page").set_value("views").run())
    count = project.index.count(project.views.get("sharp").selects(project.fields))
    assert f"{count:,} samples now" in {c.value for c in app.caption}
    assert ESCAPED in words(app)
    assert any(str(c.value).endswith("/?view=sharp%401") for c in app.code)
    for element in (*app.markdown, *app.caption, *app.button):
        assert "hacked" not in f"{element.value} {getattr(element, 'label', '')}"
    app = shown(app.text_input(key="find-view").set_value("SHARP").run())
    assert [b.key for b in app.button if str(b.key).startswith("open-view")] == ["open-view-sharp"]
    app = press(app, "open-view-sharp")
    assert link(app) == {"view": "sharp"}


def test_a_project_without_views_says_how_to_save_one(
    monkeypatch: pytest.MonkeyPatch, refined_folder: Path
) -> None:
    app = run(monkeypatch, refined_folder, page="views")
    assert any("Save view" in c.value for c in app.caption)
    assert link(click(app, "Browse")) == {}


def test_a_view_of_a_field_that_is_gone_says_so_and_hides_no_other(
    monkeypatch: pytest.MonkeyPatch, refined: Path
) -> None:
    project = Refinery.open(refined)
    field = project.register_field(Field("score", FieldType.NUMBER, ""), ANA)
    project.project()
    project.views.save("scored", "score > 1", ANA)
    project.views.save("wide", "width > 1", ANA)
    project.undo(ANA, event_id=field.id)
    app = run(monkeypatch, refined, page="views")
    assert "asks for what is no longer there" in words(app)
    assert {b.key for b in app.button} >= {"open-view-scored", "open-view-wide"}


def test_what_the_screen_selects_is_frozen_in_the_persons_name(
    monkeypatch: pytest.MonkeyPatch, refined: Path
) -> None:
    project = Refinery.open(refined)
    project.views.save("large", "min_side >= 300", ANA)
    app = run(monkeypatch, refined, page="snapshots", view="large", where="width >= 300")
    app.text_input(key="name").set_value("ana")
    app.text_input(key="typed-dataset").set_value("large")
    app.text_input(key="typed-splits").set_value("train=0.5,val=0.5")
    app = click(app, "Freeze")
    assert "large@1 is frozen" in words(app)
    assert link(app)["ref"] == "large@1"
    frozen = project.snapshots.get("large@1")
    assert frozen.filter == "min_side >= 300 AND width >= 300"
    assert frozen.splits is not None
    [event] = project.ledger.view().records(EventType.SNAPSHOT)
    assert event.actor == ANA
    assert any("digest of its bytes" in str(d.value) for d in app.dataframe)
    app.text_input(key="typed-dataset").set_value("large")
    app.text_input(key="typed-splits").set_value("train=0.5,val=0.5")
    assert "Nothing differs from large@1" in words(click(app, "Freeze"))


def test_what_cannot_be_frozen_is_said_and_what_was_typed_stays(
    monkeypatch: pytest.MonkeyPatch, refined_folder: Path
) -> None:
    app = run(monkeypatch, refined_folder, page="snapshots")
    assert "Name the dataset" in words(click(app, "Freeze"))
    app.text_input(key="typed-dataset").set_value("gold")
    app.text_input(key="typed-splits").set_value("train=0.5")
    app = click(app, "Freeze")
    assert "sum to" in words(app)
    assert app.text_input(key="typed-dataset").value == "gold"
    app = run(monkeypatch, refined_folder, page="snapshots", where="widht > 3")
    assert "Did you mean" in words(app)


def test_a_read_only_viewer_freezes_nothing(monkeypatch: pytest.MonkeyPatch, refined_folder: Path) -> None:
    reader = Viewer.open(refined_folder, read_only=True)
    with pytest.raises(ConfigError, match="read only"):
        reader.freezing.freeze("gold", None, "", "ana")
    with pytest.raises(InputError, match="who you are"):
        Viewer.open(refined_folder).freezing.freeze("gold", None, "", " ")
    monkeypatch.setattr("sys.argv", ["app.py", "--project", str(refined_folder), "--read-only"])
    app = AppTest.from_file(str(APP), default_timeout=60)
    app.query_params["page"] = "snapshots"
    assert not [b for b in shown(app.run()).button if b.label == "Freeze"]


def test_a_lock_that_is_damaged_or_missing_says_so(refined: Path) -> None:
    viewer = Viewer.open(refined)
    snapshot, _ = viewer.project.freeze("gold", actor=ANA)
    assert "objects" in viewer.freezing.pinned(snapshot.ref)
    lock = refined / "store" / "snapshots" / "gold" / "1.lock.json"
    lock.chmod(0o600)
    lock.write_bytes(lock.read_bytes().replace(b"gold@1", b"gold@2"))
    assert Viewer.open(refined).freezing.pinned(snapshot.ref)["lock"].startswith("damaged")
    lock.unlink()
    assert "Freeze it again" in Viewer.open(refined).freezing.pinned(snapshot.ref)["lock"]
