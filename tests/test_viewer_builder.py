"""The filter builder on the page: clauses that are added and taken away, and what it does with strange data."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from streamlit.testing.v1 import AppTest

from refinery.fields import Field, FieldType
from refinery.ledger import Actor, ActorKind, Event, EventType
from refinery.project import Refinery
from tests.test_viewer_app import HOSTILE, click, link, run, shown, words
from ui.core import Screen, Viewer

ANA = Actor(ActorKind.PERSON, "ana")
VALUES: dict[str, tuple[FieldType, list[Any]]] = {
    "taken": (
        FieldType.DATE,
        [datetime(2024, 2, 28, 12, tzinfo=UTC), datetime(2024, 3, 1, 23, 59, tzinfo=UTC)],
    ),
    "safe": (FieldType.BOOLEAN, [True, False]),
    "licence": (FieldType.STRING, ["it's mine", HOSTILE]),
    "score": (FieldType.NUMBER, [-0.5, 1e22]),
    "huge": (FieldType.INTEGER, [-(2**62), 2**62]),
    "ages": (FieldType.DATE, [datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)]),
}


def clauses(app: AppTest) -> Any:
    """The clauses of the filter, to take away."""
    (found,) = [m for m in app.multiselect if m.label == "Clauses"]
    return found


@pytest.fixture(scope="module")
def folder(refined_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of which two samples have a value in each of some attributes. Read only."""
    project = Refinery.open(shutil.copytree(refined_folder, tmp_path_factory.mktemp("valued") / "project"))
    project.replay()
    for name, (kind, _) in VALUES.items():
        project.register_field(Field(name, kind), ANA)
    project = Refinery.open(project.path)
    samples = two(project)
    events = [
        Event(
            EventType.ATTRIBUTE, ANA, sample, kind=name, value=v.isoformat() if isinstance(v, datetime) else v
        )
        for name, (_, values) in VALUES.items()
        for sample, v in zip(samples, values, strict=True)
    ]
    project.ledger.append(events)
    project.project()
    return project.path


def two(project: Refinery) -> list[str]:
    """The two samples that have values."""
    return [hit.sample_id for hit in Viewer(project).browse(Screen(where="format = 'png'")).hits[:2]]


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, folder: Path) -> AppTest:
    """The page with the builder open."""
    return opened(run(monkeypatch, folder))


def opened(app: AppTest) -> AppTest:
    return shown(app.toggle(key="builder-open").set_value(True).run())


def choose(app: AppTest, field: str, how: str = "") -> AppTest:
    (fields,) = [s for s in app.selectbox if s.label == "Field"]
    app = shown(fields.select(field).run())
    return shown(app.radio(key=f"builder-how-{field}").set_value(how).run()) if how else app


def found(folder: Path, app: AppTest) -> int:
    """How many samples the page's link selects."""
    return Viewer.open(folder).browse(Screen.from_params(link(app))).selected


def test_a_range_is_added_narrowed_by_another_clause_and_taken_away(app: AppTest, folder: Path) -> None:
    app = choose(app, "width")
    everything = found(folder, app)
    app = shown(app.number_input(key="builder-width-low").set_value(100).run())
    app = shown(app.number_input(key="builder-width-high").set_value(400).run())
    app = click(app, "Add")
    assert link(app) == {"where": "width BETWEEN 100 AND 400"}
    narrow = found(folder, app)
    assert 0 < narrow < everything
    app = choose(app, "format")
    app = shown(app.multiselect(key="builder-format").set_value(["png"]).run())
    app = click(app, "Add")
    assert link(app)["where"] == "width BETWEEN 100 AND 400 AND format = 'png'"
    assert clauses(app).value == ["width BETWEEN 100 AND 400", "format = 'png'"]
    app = shown(clauses(app).unselect("width BETWEEN 100 AND 400").run())
    assert link(app) == {"where": "format = 'png'"}
    app = shown(clauses(app).unselect("format = 'png'").run())
    assert link(app) == {}
    assert found(folder, app) == everything


@pytest.mark.parametrize(
    "field", [n for n, (k, _) in VALUES.items() if k not in (FieldType.BOOLEAN, FieldType.STRING)]
)
def test_what_a_range_or_dates_offer_first_selects_everything_with_a_value(
    app: AppTest, folder: Path, field: str
) -> None:
    app = click(choose(app, field), "Add")
    assert found(folder, app) == 2, link(app)


def test_days_are_chosen_and_reach_to_the_end_of_the_last(app: AppTest, folder: Path) -> None:
    app = choose(app, "taken")
    app = shown(app.date_input(key="builder-taken-low").set_value(date(2024, 3, 1)).run())
    app = shown(app.date_input(key="builder-taken-high").set_value(date(2024, 3, 1)).run())
    app = click(app, "Add")
    assert found(folder, app) == 1


def test_other_days_than_the_screen_has_can_be_chosen_whatever_was_there_before(
    app: AppTest, folder: Path
) -> None:
    app = choose(app, "taken")
    app = shown(app.date_input(key="builder-taken-low").set_value(date(1990, 1, 1)).run())
    app = shown(app.date_input(key="builder-taken-high").set_value(date(2050, 1, 1)).run())
    app = shown(app.text_input(key="screen-where").set_value("taken > '2024-03-01'").run())
    app = click(app, "Add")
    assert found(folder, app) == 1


def test_a_boolean_a_value_with_a_quote_and_their_negations_are_added(app: AppTest, folder: Path) -> None:
    app = choose(app, "safe")
    app = shown(app.radio(key="builder-safe").set_value("false").run())
    app = click(app, "Add")
    assert (link(app), found(folder, app)) == ({"where": "safe = FALSE"}, 1)
    app = choose(app, "licence")
    app = shown(app.multiselect(key="builder-licence").set_value([HOSTILE]).run())
    app = click(app, "Add")
    assert found(folder, app) == 1
    app = choose(app, "licence", "is, by typing")
    app = shown(app.text_input(key="builder-licence-typed").set_value("it's mine").run())
    app = shown(app.checkbox(key="builder-not").set_value(True).run())
    app = click(app, "Add")
    assert link(app)["where"].endswith("NOT licence = 'it''s mine'"), link(app)["where"]
    assert found(folder, app) == 1


def test_no_value_and_its_negation_part_all_samples(app: AppTest, folder: Path) -> None:
    everything = found(folder, app)
    app = click(choose(app, "taken", "has no value"), "Add")
    assert (link(app), found(folder, app)) == ({"where": "taken IS NULL"}, everything - 2)
    app = shown(clauses(app).set_value([]).run())
    app = shown(app.checkbox(key="builder-not").set_value(True).run())
    app = click(app, "Add")
    assert found(folder, app) == 2


def test_words_are_looked_for_all_together(app: AppTest) -> None:
    app = choose(app, "caption")
    assert not [b for b in app.button if b.label == "Add"]
    app = shown(app.text_input(key="builder-caption").set_value("a cat's").run())
    app = click(app, "Add")
    assert link(app)["where"].startswith("matches(caption, ")
    app = shown(app.text_input(key="builder-caption").set_value("?!").run())
    where = link(app)["where"]
    app = click(app, "Add")
    assert link(app)["where"] == where
    assert "needs 1 to 64 words; found 0" in words(app)


def test_a_filter_that_is_none_is_said_and_the_builder_goes_on(app: AppTest) -> None:
    app = choose(app, "width")
    app = shown(app.text_input(key="screen-where").set_value("widht > 5").run())
    assert "Did you mean 'width'?" in words(app)
    app = choose(app, "width", "has no value")
    app = click(app, "Add")
    assert link(app) == {"where": "widht > 5"}
    app = shown(app.text_input(key="screen-where").set_value("").run())
    app = click(app, "Add")
    assert link(app) == {"where": "width IS NULL"}


@pytest.mark.parametrize("where", ["", "width > 300", "width > 300 AND format = 'png'", "width > 100000"])
@pytest.mark.parametrize("field", ["width", "aspect", "ingested_at"])
def test_the_histogram_adds_up_to_what_the_screen_selects(folder: Path, where: str, field: str) -> None:
    viewer, screen = Viewer.open(folder), Screen(where=where)
    spread = viewer.spread(screen, field)
    assert sum(b.count for b in spread.buckets) + spread.missing == viewer.browse(screen).selected


def test_the_bars_that_are_drawn_are_the_histogram(app: AppTest, folder: Path) -> None:
    app = choose(app, "width")
    (chart,) = app.get("vega_lite_chart")
    data = chart.proto.datasets[0].data if chart.proto.datasets else chart.proto.data
    drawn = pa.ipc.open_stream(data.data).read_all().to_pylist()
    spread = Viewer.open(folder).spread(Screen(), "width")
    assert [(bar["from"], bar["samples"]) for bar in drawn] == [(b.value, b.count) for b in spread.buckets]
    missing = [c.value for c in app.caption if c.value.endswith("have no value.")]
    assert spread.missing
    assert missing == [f"{spread.missing:,} samples of this screen have no value."]
