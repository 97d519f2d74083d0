"""Views: saved queries with versions that never change, read as of any offset, frozen by datasets, opened by the viewer."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from refinery.config import FILE_NAME
from refinery.errors import ConfigError, CorruptionError, InputError
from refinery.fields import Field, Fields, FieldType
from refinery.ledger import Actor, ActorKind, Event, EventType, Ledger, view_event
from refinery.project import Refinery
from refinery.store.local import LocalStore
from refinery.views import Views
from tests.synthetic import quick_folder
from tests.test_cli import Cli

ANA, BEN = Actor(ActorKind.PERSON, "ana"), Actor(ActorKind.PERSON, "ben")
FIELDS = Fields([Field("score", FieldType.NUMBER)])


def views_of(store: LocalStore, fields: Fields = FIELDS) -> Views:
    return Views(Ledger(store), lambda: fields)


def test_each_save_is_another_version_and_the_old_ones_stay_what_they_were(store: LocalStore) -> None:
    views = views_of(store)
    first, new = views.save("sharp", "sharpness>=50", ANA, sort="-sharpness")
    assert (first.ref, first.filter, first.sort, first.saved_by, new) == (
        "sharp@1",
        "sharpness >= 50.0",
        "-sharpness",
        "person ana",
        True,
    )
    second, _ = views.save("sharp", "sharpness >= 80", BEN)
    assert (second.ref, second.saved_by) == ("sharp@2", "person ben")
    fresh = views_of(store)
    assert fresh.get("sharp@1") == first
    assert fresh.get("sharp") == fresh.get("sharp@2") == second
    assert [v.ref for v in fresh.versions("sharp")] == ["sharp@1", "sharp@2"]


def test_saving_what_the_newest_version_says_makes_no_version(store: LocalStore) -> None:
    views = views_of(store)
    first, _ = views.save("wide", "aspect > 1", ANA)
    assert views.save("wide", "aspect  >  1.0", BEN) == (first, False)
    assert views.save("wide", "aspect > 1", ANA, text="panda")[0].ref == "wide@2"
    assert views.save("wide", "aspect > 1", ANA)[0].ref == "wide@3"


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3)), max_size=12), st.data())
@settings(max_examples=30, deadline=None)
def test_views_as_of_an_offset_are_those_that_were_there(
    saves: list[tuple[str, int]], data: st.DataObject
) -> None:
    with quick_folder() as folder:
        views = views_of(LocalStore(Path(folder)))
        model: list[dict[str, str]] = [{}]
        for name, n in saves:
            view, new = views.save(name, f"score > {n}", ANA)
            if new:
                model.append({**model[-1], name: view.ref})
        offset = data.draw(st.integers(0, len(model) - 1))
        assert {v.name: v.ref for v in views.all(offset)} == model[offset]
        for ref in {r for state in model for r in state.values()} - {
            r for state in model[: offset + 1] for r in state.values()
        }:
            with pytest.raises(InputError, match=f"no view '{ref}' at ledger offset {offset}"):
                views.get(ref, offset)


def test_writers_who_save_at_once_get_a_version_each(store: LocalStore) -> None:
    saved: list[tuple[str, str]] = []

    def save(n: int) -> None:
        view, new = views_of(store).save("hot", f"score > {n}", Actor(ActorKind.PERSON, f"writer-{n}"))
        saved.append((view.ref, view.filter))
        assert new

    threads = [threading.Thread(target=save, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = views_of(store).versions("hot")
    assert [v.version for v in found] == list(range(1, 9))
    assert sorted((v.ref, v.filter) for v in found) == sorted(saved)


def test_a_view_whose_field_is_gone_says_which_and_what_to_do(store: LocalStore) -> None:
    views_of(store).save("scored", "score > 1", ANA)
    views_of(store).save("ranked", "", ANA, sort="-score")
    without = views_of(store, Fields())
    for ref in ("scored", "ranked"):
        with pytest.raises(InputError, match=f"View {ref}@1 asks .*no field 'score'") as error:
            without.get(ref).selects(Fields())
        assert error.value.kind == "stale_view"


def test_what_does_not_fit_is_not_saved(store: LocalStore) -> None:
    views = views_of(store)
    for name, text, more in (
        ("no name", "", {}),
        ("a", "scroe > 1", {}),
        ("a", "score >", {}),
        ("a", "", {"sort": "-scroe"}),
        ("a", "", {"sort": "score", "text": "panda"}),
    ):
        with pytest.raises(InputError):
            views.save(name, text, ANA, **more)
    assert views.all() == []
    with pytest.raises(InputError, match="no view 'a'"):
        views.get("a")


def test_a_view_of_a_newer_version_of_refinery_is_refused(store: LocalStore) -> None:
    Ledger(store).append([view_event("odd", 1, "score > 1", ANA, ranked_by="magic")])
    with pytest.raises(CorruptionError, match="ranked_by"):
        views_of(store).get("odd")


def test_saving_a_view_leaves_verdicts_up_to_date(refined: Path) -> None:
    project = Refinery.open(refined)
    project.views.save("wide", "aspect > 1", ANA)
    assert not project.status().stale
    assert project.freeze("train")[1]


def test_a_dataset_freezes_what_its_view_and_its_filter_select(refined: Path) -> None:
    project = Refinery.open(refined)
    project.views.save("wide", "aspect > 1", ANA)
    project.views.save("wide", "aspect > 1 AND min_side >= 256", ANA)
    project.views.save("worded", "", ANA, text="cat")

    def frozen(**dataset: str) -> tuple[str | None, str | None]:
        config = yaml.safe_load((refined / FILE_NAME).read_text()) | {"datasets": {"train": dataset}}
        (refined / FILE_NAME).write_text(yaml.safe_dump(config))
        snapshot, _ = Refinery.open(refined).freeze("train")
        rows = project.snapshots.rows(snapshot).to_pylist()
        assert rows
        assert all(r["width"] > r["height"] for r in rows)
        return snapshot.filter, snapshot.view

    assert frozen(view="wide@1") == ("aspect > 1.0", "wide@1")
    assert frozen(view="wide", filter="format = 'jpeg'") == (
        "aspect > 1.0 AND min_side >= 256 AND format = 'jpeg'",
        "wide@2",
    )
    assert frozen(filter="aspect > 1") == ("aspect > 1", None)
    with pytest.raises(ConfigError, match="matches"):
        frozen(view="worded")
    with pytest.raises(InputError, match=r"no view 'wid'.*wide"):
        frozen(view="wid")


def test_a_snapshot_of_a_view_says_which_and_an_unchanged_run_starts_nothing(
    capsys: pytest.CaptureFixture[str], refined: Path
) -> None:
    cli = Cli(capsys, refined)
    plain = cli.json("snapshot", "create", "plain")
    assert (plain["format"], "view" in plain) == ("refinery.snapshot/1", False)
    cli("views", "save", "wide", "aspect > 1", "--actor", "ana")
    config = yaml.safe_load((refined / FILE_NAME).read_text()) | {"datasets": {"train": {"view": "wide"}}}
    (refined / FILE_NAME).write_text(yaml.safe_dump(config))
    assert cli.json("run")["frozen"] == ["train@1"]
    assert cli.json("run")["runs_launched"] == 0
    shown = cli.json("snapshot", "show", "train")
    assert (shown["format"], shown["view"]) == ("refinery.snapshot/2", "wide@1")
    assert "view           wide@1" in cli("snapshot", "show", "train")[0]
    assert ", of view wide" in cli("snapshot", "card", "train")[0]
    assert cli("snapshot", "verify", "train")
    file = Path(Refinery.open(refined).store.local_path("snapshots/train/1.json") or "")
    file.write_text(file.read_text().replace("refinery.snapshot/2", "refinery.snapshot/1"))
    with pytest.raises(CorruptionError, match="damaged"):
        Refinery.open(refined).snapshots.get("train@1")


def test_search_combines_a_view_with_a_filter_and_takes_its_order(
    capsys: pytest.CaptureFixture[str], refined: Path
) -> None:
    cli = Cli(capsys, refined)

    def ids(*arguments: str) -> list[str]:
        return cli("search", *arguments, "--limit", "100", "--ids")[0].split()

    before = cli.json("status")["ledger_offset"]
    cli("views", "save", "wide", "aspect > 1", "--sort", "sharpness:desc", "--actor", "ana")
    both = "aspect > 1 AND verdict = 'gold'"
    gold = ("--view", "wide", "--where", "verdict = 'gold'")
    assert ids(*gold) == ids("--where", both, "--sort", "sharpness:desc") != []
    assert ids(*gold, "--random", "7") == ids("--where", both, "--random", "7")
    assert ids(*gold, "--at", str(before + 1)) == ids(*gold)
    assert cli.json("search", *gold, "--count")["count"] == len(ids(*gold))
    assert cli.json("search", *gold, "--at", str(before), code=3)["kind"] == "no_such_view"
    assert "wide@1" in cli("views", "list")[0]
    assert "by person ana" in cli("views", "show", "wide")[0]
    assert cli.json("views", "list", "--at", str(before))["views"] == []
    cli("views", "save", "cats", "", "--text", "cat")
    assert set(ids("--view", "cats")) == set(ids("--text", "cat"))


def test_a_view_is_a_record_that_undo_leaves_alone(store: LocalStore) -> None:
    views_of(store).save("a", "score > 1", ANA)
    [event] = Ledger(store).events()
    assert (event.type, event.moves_verdicts) == (EventType.VIEW, False)
    assert isinstance(event, Event)
