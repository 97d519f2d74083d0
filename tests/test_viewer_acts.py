"""What people do in the viewer's core: each act once, in a name, taken back whole, and never without leave."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import pytest
import streamlit

from refinery.errors import ConfigError, ConflictError, InputError, RefineryError, TransientError
from refinery.ledger import Event, Ledger
from refinery.ledger.events import fresh_id
from refinery.propagation import Reach, Relation
from ui import desk, show
from ui.core import Act, Screen, Viewer


@pytest.fixture
def viewer(refined: Path) -> Viewer:
    return Viewer.open(refined)


def ids(viewer: Viewer, where: str, count: int) -> list[str]:
    """The first samples of a filter."""
    found = [hit.sample_id for hit in viewer.browse(Screen(where=where)).hits[:count]]
    assert len(found) == count
    return found


def count(viewer: Viewer, where: str) -> int:
    return viewer.browse(Screen(where=where)).selected


def sends(viewer: Viewer) -> dict[str, Callable[[str], Act]]:
    """Each kind of act, to be sent with an id."""
    first, second = ids(viewer, "verdict = 'gold'", 2)
    viewer.acts.flag([first], "review", "ana")
    flag = viewer.project.ledger.events()[-1].id
    return {
        "flag": lambda act: viewer.acts.flag([first, second], "keep", "ana", act=act),
        "tag": lambda act: viewer.acts.tag([first, second], "portrait", "ana", act=act),
        "decide": lambda act: viewer.acts.decide([first], [second], "ana", "the same", act=act),
        "unflag": lambda act: viewer.acts.unflag([first], "review", "ana", act=act),
        "undo": lambda act: viewer.acts.undo("ana", event=flag, act=act),
    }


@pytest.mark.parametrize("kind", ["flag", "tag", "decide", "unflag", "undo"])
def test_an_act_that_is_sent_again_is_answered_with_what_it_wrote(viewer: Viewer, kind: str) -> None:
    send, act = sends(viewer)[kind], fresh_id()
    once, offset = send(act), viewer.project.ledger.offset
    again = send(act)
    assert again.events == once.events != ()
    assert (again.id, viewer.project.ledger.offset) == (act, offset)
    assert {event.group for event in once.events} == {act}


@pytest.mark.parametrize("kind", ["flag", "tag", "decide"])
def test_an_act_that_two_viewers_send_at_once_stands_once(
    refined: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    both = [Viewer.open(refined) for _ in range(2)]
    acts, offset, meet = [sends(v)[kind] for v in both], both[0].project.ledger.offset, Barrier(2, timeout=30)
    append, act = Ledger.append, fresh_id()

    def together(ledger: Ledger, events: Iterable[Event]) -> list[Event]:
        meet.wait()  # neither has written when both have looked
        return append(ledger, events)

    monkeypatch.setattr(Ledger, "append", together)
    with ThreadPoolExecutor(2) as pool:
        first, second = (done.result().events for done in [pool.submit(send, act) for send in acts])
    assert first == second
    assert both[0].project.ledger.offset == offset + 2


@pytest.mark.parametrize("act", ["x", "F" * 32, "0" * 31, "0" * 33, "é" * 32, "0" * 32 + "\n"])
def test_an_id_that_is_none_is_refused_and_nothing_is_written(viewer: Viewer, act: str) -> None:
    sample, offset = ids(viewer, "verdict = 'gold'", 1), viewer.project.ledger.offset
    with pytest.raises(InputError) as error:
        viewer.acts.flag(sample, "keep", "ana", act=act)
    assert error.value.kind == "bad_act"
    assert viewer.project.ledger.offset == offset


def test_an_undo_takes_a_whole_act_back_and_its_own_undo_brings_it_again(viewer: Viewer) -> None:
    keep, reject = ids(viewer, "verdict = 'gold'", 2)
    done = viewer.acts.decide([keep], [reject], "ana", "the same")
    both = "has_flag('keep') OR has_flag('reject')"
    assert count(viewer, both) == 2
    undone = viewer.acts.undo("ben", of_act=done.id)
    assert count(viewer, both) == 0
    with pytest.raises(InputError) as error:
        viewer.acts.undo("ben", of_act=done.id)
    assert error.value.kind == "nothing_to_undo"
    viewer.acts.undo("ana", of_act=undone.id)
    assert count(viewer, both) == 2


def test_a_flag_that_went_on_to_others_goes_with_them_and_comes_back_with_them(viewer: Viewer) -> None:
    held = ids(viewer, "reasons = 'near_duplicate'", 1)
    flag = viewer.acts.flag(held, "review", "ana")
    reach = Reach(Relation.CLUSTER)
    children = viewer.apply(viewer.propose(flag.events[0].id, reach, "ana"))
    assert children
    assert count(viewer, "has_flag('review')") == 1 + len(children)
    assert viewer.apply(viewer.propose(flag.events[0].id, reach, "ana")) == []
    undone = viewer.acts.undo("ana", event=flag.events[0].id)
    assert count(viewer, "has_flag('review')") == 0
    viewer.acts.undo("ana", of_act=undone.id)
    assert count(viewer, "has_flag('review')") == 1 + len(children)


def test_an_act_without_samples_says_so(viewer: Viewer) -> None:
    offset = viewer.project.ledger.offset
    attempts: list[Callable[[], object]] = [
        lambda: viewer.acts.flag([], "keep", "ana"),
        lambda: viewer.acts.tag([], "portrait", "ana"),
        lambda: viewer.acts.decide([], [], "ana", ""),
    ]
    for attempt in attempts:
        with pytest.raises(InputError) as error:
            attempt()
        assert error.value.kind == "no_samples"
    with pytest.raises(InputError):
        viewer.acts.unflag(ids(viewer, "verdict = 'gold'", 1), "review", "ana")
    assert viewer.project.ledger.offset == offset


def test_of_an_act_on_many_none_is_written_when_one_is_no_sample(viewer: Viewer) -> None:
    sample, offset = ids(viewer, "verdict = 'gold'", 1), viewer.project.ledger.offset
    for attempt in (
        lambda: viewer.acts.flag([*sample, "0" * 64], "keep", "ana"),
        lambda: viewer.acts.tag([*sample, "x"], "portrait", "ana"),
        lambda: viewer.acts.decide(sample, ["0" * 64], "ana", "the same"),
    ):
        with pytest.raises(InputError):
            attempt()
    assert viewer.project.ledger.offset == offset


def test_a_viewer_that_only_reads_refuses_every_act_of_the_browser(refined: Path) -> None:
    viewer = Viewer.open(refined, read_only=True)
    sample, act = ids(viewer, "verdict = 'gold'", 1), fresh_id()
    event = viewer.project.ledger.events()[0]
    attempts: list[Callable[[], object]] = [
        lambda: viewer.acts.decide(sample, [], "ana", "", act=act),
        lambda: viewer.acts.unflag(sample, "keep", "ana", act=act),
        lambda: viewer.acts.undo("ana", of_act=event.group, act=act),
        lambda: viewer.propose(event.id, Reach(Relation.CLUSTER), "ana"),
        lambda: viewer.save_view(Screen(), "all", "ana"),
    ]
    for attempt in attempts:
        with pytest.raises(ConfigError) as error:
            attempt()
        assert error.value.kind == "read_only"


# What the desk does with what the browser sends


@pytest.fixture
def session(viewer: Viewer, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A browser session of ana's."""
    state: dict[str, Any] = {"viewer": viewer, "name": "ana"}
    monkeypatch.setattr(streamlit, "session_state", state)
    return state


def heard(session: dict[str, Any], *acts: object) -> dict[str, dict[str, Any]]:
    """The server's answers after the browser sent acts."""
    session["desk"] = SimpleNamespace(acts={"sent": 1, "acts": list(acts)})
    desk._heard("desk")
    answers: dict[str, dict[str, Any]] = session[desk._ANSWERS]
    return answers


def flag(sample: str, act: str, **more: object) -> dict[str, object]:
    return {"do": "flag", "id": act, "kind": "keep", "samples": [sample], "reason": "", "as": "ana"} | more


def test_what_the_browser_sends_again_is_done_once(session: dict[str, Any], viewer: Viewer) -> None:
    (sample,), act = ids(viewer, "verdict = 'gold'", 1), fresh_id()
    answers = heard(session, flag(sample, act))
    assert answers[act]["done"], answers
    offset = viewer.project.ledger.offset
    assert heard(session, flag(sample, act)) == answers
    del session[desk._ANSWERS]  # as after a reload of the page
    assert heard(session, flag(sample, act))[act]["done"]
    assert viewer.project.ledger.offset == offset


@pytest.mark.parametrize(
    "why",
    [
        TransientError("The store did not answer.", kind="unreachable"),
        ConflictError("The ledger's end moved too often.", kind="ledger_busy"),
    ],
)
def test_an_act_is_pending_while_the_ledger_takes_nothing_and_then_done(
    session: dict[str, Any], viewer: Viewer, monkeypatch: pytest.MonkeyPatch, why: RefineryError
) -> None:
    (sample,), act = ids(viewer, "verdict = 'gold'", 1), fresh_id()

    def lost(*_: object) -> list[Event]:
        raise why

    with monkeypatch.context() as cut:
        cut.setattr(Ledger, "append", lost)
        assert heard(session, flag(sample, act)) == {}
    assert heard(session, flag(sample, act))[act]["done"]
    assert [e.group for e in viewer.project.ledger.view().flags(sample, "keep")] == [act]


def test_an_act_that_is_refused_is_answered_with_why(session: dict[str, Any], viewer: Viewer) -> None:
    (sample,), offset = ids(viewer, "verdict = 'gold'", 1), viewer.project.ledger.offset
    refused = {
        "needs a reason": flag(sample, fresh_id(), kind="reject"),
        "no flag kind": flag(sample, fresh_id(), kind="kepe"),
        "No sample was chosen": flag(sample, fresh_id(), samples=[]),
        "is no id of an act": flag(sample, "short"),
        "asked for an act that there is not": {"do": "erase", "id": fresh_id()},
        "act that there is not": flag(sample, fresh_id(), samples=[1]),
        "there is not.": {"do": "decide", "id": fresh_id(), "keep": [None], "reject": [], "reason": ""},
        "no act with an id": {"do": "undo", "id": fresh_id(), "of": "f" * 32, "as": "ana"},
    }
    answers = heard(session, *refused.values())
    for why, act in refused.items():
        answer = answers[str(act["id"])]
        assert not answer["done"]
        assert why in answer["text"]
    assert viewer.project.ledger.offset == offset


@pytest.mark.parametrize("sent", [None, 3, {}, {"acts": 3}, {"acts": ["x", {}, {"id": 4}, {"id": ["x"]}]}])
def test_what_holds_no_act_does_nothing(session: dict[str, Any], sent: object) -> None:
    session["desk"] = SimpleNamespace(acts=sent)
    desk._heard("desk")
    assert session[desk._ANSWERS] == {}


def test_an_act_carries_the_name_under_which_it_was_made(session: dict[str, Any], viewer: Viewer) -> None:
    first, second = ids(viewer, "verdict = 'gold'", 2)
    session["name"] = "ben"
    made_before = desk.perform(flag(first, fresh_id()))
    assert {e.actor.name for e in made_before.events} == {"ana"}
    session[show.VOUCHED] = True
    with pytest.raises(InputError) as error:
        desk.perform(flag(second, fresh_id()))
    assert error.value.kind == "another_person"


def test_answers_do_not_pile_up(session: dict[str, Any]) -> None:
    for _ in range(3):
        heard(session, *({"do": "erase", "id": fresh_id()} for _ in range(desk._MOST_ANSWERS - 1)))
    assert len(session[desk._ANSWERS]) == desk._MOST_ANSWERS


def test_what_came_of_an_act_is_said_with_its_offset(viewer: Viewer) -> None:
    samples = ids(viewer, "verdict = 'gold'", 2)
    done = viewer.acts.flag(samples, "keep", "ana")
    offset = viewer.project.ledger.offset
    assert desk.written(done).startswith(f"2 events in the ledger, up to offset {offset:,}. Search knows it")
    assert desk.written(replace(done, behind="No index.")).endswith(
        "No index. Verdicts and search follow at the next `refinery run`."
    )
