"""The viewer's page of the policy, run without a browser: try, look, adopt, compare."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from refinery.project import Refinery
from tests.test_viewer_app import ANA, APP, click, link, run, shown, words


def write(app: AppTest, old: str, new: str) -> AppTest:
    """Change the text of the editor."""
    area = app.text_area(key="policy-text")
    return shown(area.set_value(str(area.value).replace(old, new)).run())


def metrics(app: AppTest) -> dict[str, tuple[str, str]]:
    return {m.label: (m.value, m.delta) for m in app.metric}


def test_a_policy_is_tried_adopted_and_compared_with_the_last_snapshot(
    monkeypatch: pytest.MonkeyPatch, refined: Path
) -> None:
    project = Refinery.open(refined)
    project.freeze("gold", actor=ANA)
    gold = project.status().gold
    app = run(monkeypatch, refined, page="policy")
    app.text_input(key="name").set_value("ana").run()
    assert "too_small" in str(app.dataframe[0].value)
    app = click(write(app, "min_side < 256", "min_side < 400"), "Try")
    then = int(metrics(app)["● gold"][0])
    assert then < gold
    assert metrics(app)["● gold"][1] == f"{then - gold:+,}"
    assert project.status().gold == gold
    # what was tried stays, whatever else is clicked
    app = shown(app.selectbox[-1].set_value("format").run())
    assert int(metrics(app)["● gold"][0]) == then
    assert "jpeg" in str(app.dataframe[-1].value)
    app = click(app, "Adopt")
    assert "is in force" in words(app)
    assert project.status().gold == then
    assert "min_side < 400" in (refined / "policy.yaml").read_text(encoding="utf-8")
    app = click(app, "Freeze it again and compare")
    assert link(app) == {"page": "snapshots", "ref": "gold@2", "against": "gold@1"}
    assert f"gold@1 → gold@2: 0 added, {gold - then} removed" in words(app)


def test_what_is_wrong_with_a_draft_is_said_and_the_draft_stays(
    monkeypatch: pytest.MonkeyPatch, refined_folder: Path
) -> None:
    app = click(write(run(monkeypatch, refined_folder, page="policy"), "min_side", "min_seite"), "Try")
    assert "min_seite" in words(app)
    assert "min_seite" in app.text_area(key="policy-text").value
    assert not [b for b in app.button if b.label == "Adopt"]
    app = click(write(app, "rules:", "rules: [<script>**x**"), "Try")
    assert "policy.yaml is not YAML" in words(app)
    assert "<script>**x**" in words(app)  # the parser shows the line
    for element in (*app.markdown, *app.caption, *app.subheader):
        assert "<script>" not in str(element.value)
    app = click(app, "Begin anew")
    assert app.text_area(key="policy-text").value == (refined_folder / "policy.yaml").read_text(
        encoding="utf-8"
    )


def test_a_text_that_was_not_tried_cannot_be_adopted(
    monkeypatch: pytest.MonkeyPatch, refined_folder: Path
) -> None:
    app = click(run(monkeypatch, refined_folder, page="policy"), "Try")
    assert any(c.value.startswith("Nothing moves") for c in app.caption)
    app = write(app, "sharpness < 10", "sharpness < 20")
    [adopt] = [b for b in app.button if b.label == "Adopt"]
    assert adopt.disabled
    app = click(app, "Try")
    [adopt] = [b for b in app.button if b.label == "Adopt"]
    assert not adopt.disabled


def test_a_draft_outlives_other_pages_and_a_policy_that_others_changed(
    monkeypatch: pytest.MonkeyPatch, refined: Path
) -> None:
    app = write(run(monkeypatch, refined, page="policy"), "sharpness < 10", "sharpness < 20")
    app = shown(app.radio(key="screen-page").set_value("fields").run())
    app = shown(app.radio(key="screen-page").set_value("policy").run())
    assert "sharpness < 20" in app.text_area(key="policy-text").value
    file = refined / "policy.yaml"
    file.write_text(
        file.read_text(encoding="utf-8").replace("entropy < 1.0", "entropy < 2.0"), encoding="utf-8"
    )
    app = shown(app.run())
    assert "this draft began from another one" in words(app)
    app = click(click(app, "Try"), "Adopt")
    assert "was changed since this draft began" in words(app)
    assert "sharpness < 20" in app.text_area(key="policy-text").value
    app = click(click(click(app, "Keep the draft, on the new one"), "Try"), "Adopt")
    assert "is in force" in words(app)
    assert "sharpness < 20" in file.read_text(encoding="utf-8")


def test_an_untouched_page_follows_a_policy_that_others_changed(
    monkeypatch: pytest.MonkeyPatch, refined: Path
) -> None:
    app = run(monkeypatch, refined, page="policy")
    file = refined / "policy.yaml"
    file.write_text(
        file.read_text(encoding="utf-8").replace("entropy < 1.0", "entropy < 2.0"), encoding="utf-8"
    )
    app = shown(app.run())
    assert "entropy < 2.0" in app.text_area(key="policy-text").value
    assert "this draft began from another one" not in words(app)


def test_a_project_whose_policy_is_broken_says_so_and_can_be_mended(
    monkeypatch: pytest.MonkeyPatch, refined: Path
) -> None:
    file = refined / "policy.yaml"
    good = file.read_text(encoding="utf-8")
    file.write_text("rules: 7", encoding="utf-8")
    app = run(monkeypatch, refined, page="policy")
    assert "policy.yaml" in words(app)
    app = shown(app.text_area(key="policy-text").set_value(good.replace("< 256", "< 257")).run())
    app = click(click(app, "Try"), "Adopt")
    assert "is in force" in words(app)
    file.unlink()
    assert "cannot be read" in words(shown(app.run()))


def test_a_read_only_viewer_tries_and_never_adopts(
    monkeypatch: pytest.MonkeyPatch, refined_folder: Path
) -> None:
    monkeypatch.setattr("sys.argv", ["app.py", "--project", str(refined_folder), "--read-only"])
    app = AppTest.from_file(str(APP), default_timeout=60)
    app.query_params["page"] = "policy"
    app = click(write(shown(app.run()), "< 256", "< 400"), "Try")
    assert metrics(app)
    assert not [b for b in app.button if b.label == "Adopt"]
