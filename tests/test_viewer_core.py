"""The viewer's core: links, searches, pictures, and acts that end in the ledger."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from refinery.config import FILE_NAME
from refinery.corpus import CorpusReport
from refinery.errors import ConfigError, InputError
from refinery.fields import Field, FieldType
from refinery.ledger import Actor, ActorKind
from refinery.project import Refinery
from ui.core import FACETS, Screen, Viewer

ANA = Actor(ActorKind.PERSON, "ana")
HOSTILE = "x' OR '1'='1"


@pytest.fixture(scope="module")
def viewer(refined_folder: Path) -> Viewer:
    """A viewer that only reads."""
    return Viewer.open(refined_folder, read_only=True)


@pytest.fixture
def writer(refined: Path) -> Viewer:
    return Viewer.open(refined)


def first(viewer: Viewer, where: str) -> str:
    return viewer.browse(Screen(where=where)).hits[0].sample_id


texts = st.text(max_size=30)


screens = st.builds(
    Screen,
    **{f.name: texts for f in fields(Screen) if f.name != "seed"},
    seed=st.none() | st.integers(0, 10**18 - 1),
)


@given(screens)
def test_a_link_says_the_whole_screen(screen: Screen) -> None:
    assert Screen.from_params(screen.to_params()) == screen


def test_a_link_with_strange_parameters_says_what_can_be_understood() -> None:
    assert Screen.from_params({"seed": "٣", "embed": "true", "verdict": "gold"}) == Screen(verdict="gold")


def test_another_search_starts_on_its_first_page_and_a_new_order_ends_the_old_one() -> None:
    screen = Screen(words="panda", cursor="abc")
    assert screen.change(verdict="gold") == Screen(words="panda", verdict="gold")
    assert screen.change(sample="ff") == Screen(words="panda", cursor="abc", sample="ff")
    assert screen.change(seed=0) == Screen(seed=0)
    assert Screen(seed=3).change(words="panda") == Screen(words="panda")
    assert Screen(seed=3).change(words="") == Screen(seed=3)
    assert Screen(words="panda").change(like="ff") == Screen(words="panda", like="ff")
    assert Screen(words="panda", like="ff").change(meaning="a cat") == Screen(words="panda", meaning="a cat")
    assert Screen(words="panda", like="ff").change(sort="-width") == Screen(sort="-width")
    assert Screen(sort="width").change(words="panda") == Screen(words="panda")


def test_another_page_closes_the_sample_and_a_sample_stays_on_its_page() -> None:
    screen = Screen(page="snapshots", ref="gold@2").change(sample="ab")
    assert (screen.page, screen.ref, screen.sample) == ("snapshots", "gold@2", "ab")
    assert screen.change(page="") == Screen()
    assert Screen(queue="held").change(page="snapshots", ref="gold@1") == Screen(
        page="snapshots", ref="gold@1"
    )


@pytest.mark.parametrize("screen", [Screen(), Screen(seed=7), Screen(verdict="held")])
def test_pages_show_every_selected_sample_once(viewer: Viewer, screen: Screen) -> None:
    seen: list[str] = []
    while True:
        found = viewer.browse(screen)
        seen += [hit.sample_id for hit in found.hits]
        if found.cursor is None:
            break
        screen = screen.change(cursor=found.cursor)
    assert len(seen) == len(set(seen)) == found.selected > 24


def test_facets_count_what_the_screen_selects(viewer: Viewer) -> None:
    status = viewer.status()
    held = sum(status.held.values())
    assert viewer.counts(Screen(), "verdict") == {"held": held, "gold": status.gold}
    assert viewer.counts(Screen(verdict="gold"), "reason") == {}
    counts = viewer.counts(Screen(where="width > 0"), "reason")
    assert counts
    assert all(viewer.browse(Screen(where="width > 0", reason=r)).selected == n for r, n in counts.items())


def test_what_a_facet_says_is_a_value_and_never_a_piece_of_filter(viewer: Viewer) -> None:
    for facet in FACETS:
        assert viewer.browse(Screen().change(**{facet: HOSTILE})).selected == 0
    alternatives = Screen(where="verdict = 'gold' OR verdict = 'held'", verdict="gold")
    assert viewer.browse(alternatives).selected == viewer.status().gold
    with pytest.raises(InputError) as error:
        viewer.browse(Screen(where="TRUE) OR (TRUE", verdict="gold"))
    assert error.value.kind == "bad_filter"


def test_similar_samples_leave_out_the_sample_itself(viewer: Viewer) -> None:
    sample = first(viewer, "reasons = 'near_duplicate'")
    similar = viewer.similar(sample)
    assert sample not in {hit.sample_id for hit in similar}
    assert [hit.score for hit in similar] == sorted((hit.score or 0 for hit in similar), reverse=True)
    assert (similar[0].score or 0) > 0.9
    shown = viewer.browse(Screen(like=sample[:12])).hits
    assert [hit.sample_id for hit in shown[:6]] == [hit.sample_id for hit in similar]
    assert viewer.similar(first(viewer, "failure IS NOT NULL")) == ()


def test_every_inspected_sample_has_a_thumbnail_and_no_picture_is_the_bytes_that_came_in(
    viewer: Viewer, corpus: CorpusReport
) -> None:
    ids = sorted({planted.sample_id for planted in corpus.files.values()})
    thumbnails = viewer.thumbnails(ids)
    assert list(thumbnails) == ids
    for name, planted in corpus.files.items():
        small, large = thumbnails[planted.sample_id], viewer.picture(planted.sample_id)
        if planted.readable is False:
            assert small is large is None, name
        for data, most in ((small, 256), (large, 1600)):
            if data is not None:
                picture = Image.open(io.BytesIO(data))
                assert picture.format == "JPEG"
                assert max(picture.size) <= most
                assert data != (corpus.folder / name).read_bytes()


def test_a_flag_can_be_found_at_once_moves_the_verdict_at_a_replay_and_can_be_undone(writer: Viewer) -> None:
    sample = first(writer, "verdict = 'gold'")
    done = writer.acts.flag([sample], "reject", " ana ", "a logo")
    assert done.behind == ""
    assert done.events[0].actor == ANA
    assert writer.browse(Screen(where="has_flag('reject')", verdict="gold")).selected == 1
    explained = writer.explain(sample[:8])
    assert (explained.verdict, explained.stored_verdict) == ("held", "gold")
    assert writer.status().stale
    writer.acts.replay()
    assert [h.sample_id for h in writer.browse(Screen(reason="rejected")).hits] == [sample]
    writer.acts.undo("ana", event=done.events[0].id)
    writer.acts.tag([sample], "portrait", "ana")
    writer.acts.replay()
    assert writer.browse(Screen(where="has_tag('portrait')", verdict="gold")).selected == 1


def test_an_act_is_searchable_at_once_although_verdicts_have_moved_on(writer: Viewer) -> None:
    sample = first(writer, "verdict = 'gold'")
    writer.project.flag([sample], "reject", ANA)
    writer.project.replay()
    assert not writer.acts.flag([sample], "review", "ana").behind
    assert writer.browse(Screen(where="has_flag('review') AND has_flag('reject')")).selected == 1
    assert not writer.project.projector.is_current()


def test_an_act_is_safe_even_when_there_is_no_index(writer: Viewer) -> None:
    sample = first(writer, "verdict = 'gold'")
    shutil.rmtree(writer.project.path / "index")
    done = writer.acts.flag([sample], "review", "ana")
    assert done.behind
    assert writer.project.ledger.find(done.events[0].id).kind == "review"
    assert writer.browse(Screen(where="has_flag('review')")).selected == 0
    writer.acts.replay()
    assert writer.browse(Screen(where="has_flag('review')")).selected == 1


def test_an_act_needs_a_name_and_a_reject_or_block_a_reason(writer: Viewer) -> None:
    sample, before = first(writer, "verdict = 'gold'"), writer.project.ledger.offset
    refused: list[tuple[str, Callable[[], object]]] = [
        ("no_reason", lambda: writer.acts.flag([sample], "reject", "ana", "  ")),
        ("no_reason", lambda: writer.acts.flag([sample], "blocked", "ana")),
        ("no_actor", lambda: writer.acts.flag([sample], "keep", " ")),
        ("no_actor", lambda: writer.acts.tag([sample], "portrait", "")),
        ("unknown_flag_kind", lambda: writer.acts.flag([sample], "kepe", "ana")),
    ]
    for kind, attempt in refused:
        with pytest.raises(InputError) as error:
            attempt()
        assert error.value.kind == kind
    assert writer.project.ledger.offset == before


def test_a_read_only_viewer_writes_nothing(viewer: Viewer) -> None:
    sample, before = first(viewer, "verdict = 'gold'"), viewer.project.ledger.offset
    event = viewer.project.ledger.events()[0].id
    attempts: list[Callable[[], object]] = [
        lambda: viewer.acts.flag([sample], "keep", "ana"),
        lambda: viewer.acts.tag([sample], "portrait", "ana"),
        lambda: viewer.acts.undo("ana", event=event),
        viewer.acts.replay,
    ]
    for attempt in attempts:
        with pytest.raises(ConfigError) as error:
            attempt()
        assert error.value.kind == "read_only"
    assert viewer.project.ledger.offset == before


def test_a_project_says_how_far_it_is(tmp_path: Path, refined: Path) -> None:
    empty = Viewer(Refinery.create(tmp_path / "empty", "embedder: {kind: efficientnet_lite0}\n"))
    assert empty.stage(empty.status()) == "nothing_ingested"
    ready = Viewer.open(refined)
    assert ready.stage(ready.status()) == "ready"
    (refined / ready.project.settings.index.path).rename(tmp_path / "gone")
    fresh = Viewer.open(refined)
    assert fresh.stage(fresh.status()) == "no_index"
    assert not (refined / ready.project.settings.index.path).exists()


def test_a_viewer_follows_the_configuration_and_the_registered_attributes(tmp_path: Path) -> None:
    project = Refinery.create(tmp_path / "project", "embedder: {kind: efficientnet_lite0}\n")
    viewer = Viewer(project)
    assert viewer.current() is viewer
    project.register_field(Field("score", FieldType.NUMBER), ANA)
    followed = viewer.current()
    assert "score" in followed.fields
    (project.path / FILE_NAME).write_text("embedder: {kind: efficientnet_lite0}\nflag_kinds: [logo]\n")
    assert "logo" in followed.current().project.settings.known_flag_kinds


def test_a_screen_is_saved_as_a_view_and_a_link_with_the_view_shows_the_same(writer: Viewer) -> None:
    screen = Screen(where="aspect > 1", verdict="gold")
    view, new = writer.save_view(screen, "wide", "ana")
    assert (view.ref, view.saved_by, new) == ("wide@1", "person ana", True)
    shown = Viewer.open(writer.project.path).browse(Screen.from_params({"view": "wide"}))
    assert shown.hits == writer.browse(screen).hits != ()
    narrowed = Screen(view="wide@1", where="format = 'jpeg'")
    assert {h.document["format"] for h in writer.browse(narrowed).hits} == {"jpeg"}
    assert writer.counts(Screen(view="wide"), "verdict").keys() == {"gold"}
    assert writer.save_view(narrowed, "wide", "ben")[0].filter.endswith("AND format = 'jpeg'")
    assert writer.save_view(Screen(), "all", "ben")[0].filter == ""


def test_what_a_view_cannot_keep_or_nobody_says_is_not_saved(writer: Viewer, viewer: Viewer) -> None:
    for screen, name, who in ((Screen(), "", "ana"), (Screen(), "a", " "), (Screen(seed=1), "a", "ana")):
        with pytest.raises(InputError):
            writer.save_view(screen, name, who)
    with pytest.raises(InputError, match="no view 'none'"):
        writer.browse(Screen(view="none"))
    with pytest.raises(ConfigError):
        viewer.save_view(Screen(), "a", "ana")
    assert writer.project.views.all() == []
