"""Health: flows that sum, the lag of the index, and findings; the core, and the page without a browser."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refinery.accounting import Status
from refinery.project import Refinery
from refinery.states.head import StateHead
from tests.test_viewer_app import ANA, click, link, run, shown, words
from ui.core import Screen, Viewer
from ui.core.health import Flows, Health, account

COUNTS = st.dictionaries(st.text("abc_", min_size=1, max_size=4), st.integers(0, 50), max_size=20)


def check_sums(found: Flows) -> None:
    """What goes into a stage, and what comes out of it, is what it has."""
    for place, stage in enumerate(found.stages):
        into = sum(f.count for f in found.flows if f.end == place)
        out = sum(f.count for f in found.flows if f.start == place)
        assert not stage.column or into == stage.count, stage
        assert out in (0, stage.count), stage
        assert stage.count > 0


def project_of(
    entries: dict[str, int], lost: int, again: int, gold: int, held: dict[str, int]
) -> tuple[Counter[str], int, Status, StateHead]:
    """Numbers of a project that add up: of all entries some are unreadable, some known, some gold, some held, the rest pending."""
    listed = sum(entries.values())
    origins = max(0, listed - lost)
    seen = max(0, origins - again)
    gold = min(gold, seen)
    left, kept = seen - gold, {}
    for reason, count in held.items():
        kept[reason] = min(count, left)
        left -= kept[reason]
    status = Status(seen, gold, kept, left, origins, 1, 0, 0, 0, "", "", False)
    counts = {"gold": gold, "held": sum(kept.values()), "pending": left}
    return Counter(entries), origins, status, StateHead(count=seen, counts=counts, held=kept)


@given(COUNTS, st.integers(0, 50), st.integers(0, 50), st.integers(0, 200), COUNTS)
def test_every_stage_is_the_sum_of_the_next(
    entries: dict[str, int], lost: int, again: int, gold: int, held: dict[str, int]
) -> None:
    found = account(*project_of(entries, lost, again, gold, held))
    assert found.wrong == ()
    check_sums(found)
    assert sum(s.count for s in found.stages if s.column == 0) == sum(entries.values())


@pytest.mark.parametrize("member", ["seen", "gold", "pending", "origins"])
def test_numbers_that_do_not_add_up_are_named(member: str) -> None:
    entries, origins, status, head = project_of({"a": 20}, 2, 3, 7, {"small": 4})
    wrong = replace(status, **{member: getattr(status, member) + 1})
    assert account(entries, origins, wrong, head).wrong


@pytest.mark.parametrize(
    "head",
    [{"count": 99}, {"counts": {"gold": 7, "held": 5, "pending": 4}}, {"counts": {"gold": 8, "held": 4}}],
)
def test_a_head_that_counts_otherwise_is_named(head: dict[str, object]) -> None:
    entries, origins, status, right = project_of({"a": 20}, 2, 3, 7, {"small": 4})
    assert account(entries, origins, status, replace(right, **head)).wrong  # type: ignore[arg-type]


def test_the_flows_of_a_project_are_its_status(refined_folder: Path) -> None:
    viewer = Viewer.open(refined_folder)
    found, status = Health(viewer.project).flows(), viewer.status()
    check_sums(found)
    assert found.wrong == ()
    by_label = {(s.column, s.label): s.count for s in found.stages}
    assert by_label[3, "samples"] == status.seen
    assert by_label[4, "gold"] == status.gold
    assert {label: n for (column, label), n in by_label.items() if column == 5} == {
        k: v for k, v in status.held.items() if v
    }


def test_the_index_lags_by_the_events_that_it_does_not_know(refined: Path) -> None:
    project = Refinery.open(refined)
    before = Health(project).index()
    assert before is not None
    assert (before.events, before.seconds, before.verdicts_current) == (0, 0.0, True)
    assert before.documents == before.samples
    sample = Viewer(project).browse(Screen(verdict="gold")).hits[0].sample_id
    project.flag([sample], "reject", ANA, reason="x")
    behind = Health(project).index()
    assert behind is not None
    assert behind.events == 1
    assert behind.seconds > 0
    project.replay()
    replayed = Health(project).index()
    assert replayed is not None
    assert not replayed.verdicts_current
    project.project()
    after = Health(project).index()
    assert after is not None
    assert (after.events, after.verdicts_current) == (0, True)


def test_a_project_without_an_index_has_no_lag(tmp_path: Path) -> None:
    project = Refinery.create(tmp_path / "new", "embedder: {kind: efficientnet_lite0}\n")
    assert Health(project).index() is None
    assert Health(project).flows() == Flows((), (), ())


def test_a_viewer_that_only_reads_looks_without_writing(refined_folder: Path) -> None:
    project = Refinery.open(refined_folder)
    heard: list[str] = []
    found = Health(project, read_only=True).examine(lambda finding: heard.append(finding.check))
    assert [f.check for f in found.findings] == heard
    assert "store" not in heard
    assert {f.state for f in found.findings} == {"ok"}
    told = Health(project).examine(print)
    assert "store" in {f.check for f in told.findings}


def test_the_page_draws_the_sum_and_finds_damage(monkeypatch: pytest.MonkeyPatch, refined: Path) -> None:
    monkeypatch.delenv("REFINERY_DAGSTER_URL", raising=False)
    app = run(monkeypatch, refined)
    app = shown(app.radio(key="screen-page").set_value("health").run())
    assert link(app) == {"page": "health"}
    assert "Runs and checks in Dagster" not in {s.value for s in app.subheader}
    head = refined / "store" / "states" / "head.json"
    head.chmod(0o600)
    head.write_text(head.read_text().replace('"gold":', '"gold":1'))
    app = shown(app.run())
    assert "samples are counted by it" in words(app) or "are gold, held or pending" in words(app)
    app = click(app, "Look at everything")
    table = app.dataframe[-1].value.set_index("check")
    assert table.loc["accounting", "state"] == "✕ broken"
    assert table.loc["ledger", "state"] == "✓ ok"
    monkeypatch.setenv("REFINERY_DAGSTER_URL", "http://127.0.0.1:3000")
    app = shown(app.run())
    assert "Runs and checks in Dagster" in {s.value for s in app.subheader}
