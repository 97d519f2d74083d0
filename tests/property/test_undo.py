"""Undo and propagation: what is taken back was never said, what follows goes with it, and what is foretold happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refinery.documents import DocumentBuilder
from refinery.errors import InputError
from refinery.index.lancedb import LanceIndex
from refinery.ledger import Actor, ActorKind, Event, EventType, Selection, parse_actor
from refinery.ledger.selection import select
from refinery.projection import Projector
from refinery.propagation import Propagator, Reach, Relation
from refinery.snapshots import Snapshots
from refinery.states.head import read_head
from refinery.store.local import LocalStore
from refinery.whatif import Moves, preview_undo
from tests.synthetic import Sample, Synthetic, quick_folder

ANA, BO = Actor(ActorKind.PERSON, "ana"), Actor(ActorKind.PERSON, "bo")
CRITIC, SIZE = Actor(ActorKind.MODEL, "critic"), Actor(ActorKind.RULE, "size")
ACTORS = (ANA, BO, CRITIC, SIZE)
SAMPLES = [
    Sample(
        n, look=n % 3 if n < 7 else None, side=40 if n == 8 else 100 + n, sharpness=0.05 if n == 9 else 0.3
    )
    for n in range(10)
]


@dataclass(frozen=True)
class Word:
    """What somebody says: about a sample, and about (or because of) an event that is in the ledger."""

    who: Actor
    what: str
    sample: int
    kind: str
    which: int


words = st.builds(
    Word,
    st.sampled_from(ACTORS),
    st.sampled_from(
        ["flag", "flag", "unflag", "score", "follow", "follow", "undo", "undo with followers", "replay"]
    ),
    st.integers(0, len(SAMPLES) - 1),
    st.sampled_from(["keep", "reject", "blocked"]),
    st.integers(0, 30),
)
histories = st.lists(words, max_size=12)


def ready(folder: str | Path) -> Synthetic:
    project = Synthetic(LocalStore(Path(folder) / "store"))
    project.compute(project.land(SAMPLES), SAMPLES)
    score = {"type": "number", "description": ""}
    project.ledger.append([Event(EventType.FIELD, Actor(ActorKind.RULE, "init"), kind="score", value=score)])
    return project


def chains(project: Synthetic) -> None:
    """Flags that follow from each other, and undos of other people's words, undone or not."""

    def flag(who: Actor, sample: int, kind: str, cause: Event | None = None) -> Event:
        event = Event(
            EventType.FLAG, who, sample_id=SAMPLES[sample].id, kind=kind, cause=cause.id if cause else None
        )
        return project.ledger.append([event])[0]

    parent = flag(ANA, 7, "reject")
    child = flag(BO, 0, "reject", parent)
    flag(CRITIC, 1, "blocked", child)
    kept, rejected = flag(BO, 8, "keep"), flag(BO, 2, "reject")
    project.ledger.undo([kept], SIZE)
    project.ledger.undo(project.ledger.undo([rejected], CRITIC), CRITIC)


@contextmanager
def told(history: list[Word]) -> Iterator[Synthetic]:
    """A project in which all this was said."""
    with quick_folder() as folder:
        project = ready(folder)
        chains(project)
        for word in history:
            say(project, word)
        yield project


def say(project: Synthetic, word: Word) -> None:
    ledger, sample_id = project.ledger, SAMPLES[word.sample].id
    said = [e for e in ledger.events() if e.type is not EventType.FIELD]
    about = said[-1 - word.which % len(said)] if said else None
    match word.what:
        case "flag":
            ledger.append([Event(EventType.FLAG, word.who, sample_id=sample_id, kind=word.kind)])
        case "unflag":
            ledger.append([Event(EventType.UNFLAG, word.who, sample_id=sample_id, kind=word.kind)])
        case "score":
            value = word.which / 10
            ledger.append(
                [Event(EventType.ATTRIBUTE, word.who, sample_id=sample_id, kind="score", value=value)]
            )
        case "follow" if about and about.type is EventType.FLAG:
            follower = Event(EventType.FLAG, word.who, sample_id=sample_id, kind=about.kind, cause=about.id)
            ledger.append([follower])
        case "undo" if about:
            ledger.undo([about], word.who)
        case "undo with followers" if about:
            undo(project, Selection(about.id), word.who)
        case "replay":
            project.replayer.replay(project.policy)


def undo(project: Synthetic, selection: Selection, who: Actor = ANA) -> list[Event]:
    """The undos, none when nothing is left to undo."""
    try:
        targets = select(project.ledger.view(), selection)
    except InputError:
        return []
    return project.ledger.undo(targets, who)


def root(project: Synthetic) -> str:
    return project.replayer.replay(project.policy).root


def rows(project: Synthetic) -> dict[str, tuple[str, list[str]]]:
    table = project.replayer.trees.rows(read_head(project.store)[0].node)
    return {r["sample_id"]: (r["verdict"], r["reasons"]) for r in table.to_pylist()}


def subject(event: Event, by_id: dict[str, Event]) -> Event:
    return subject(by_id[str(event.target)], by_id) if event.type is EventType.UNDO else event


def never_said(events: list[Event], selection: Selection) -> set[str]:
    """A plain model: what falls away with the selection, for itself, as a follower, or as the undo of such."""
    by_id = {e.id: e for e in events}
    gone = {
        e.id
        for e in events
        if e.actor == selection.actor
        and e.offset > selection.since
        and selection.kind in (None, subject(e, by_id).kind)
    }
    while fresh := {e.id for e in events if e.cause in gone or e.target in gone} - gone:
        gone |= fresh
    return gone


@given(
    histories, st.sampled_from(ACTORS), st.sampled_from([None, None, "keep", "reject"]), st.integers(0, 12)
)
@settings(max_examples=30, deadline=None)
def test_after_undoing_an_actor_gold_is_as_if_that_actor_had_never_spoken(
    history: list[Word], actor: Actor, kind: str | None, since: int
) -> None:
    selection = Selection(actor=actor, kind=kind, since=since if since > 6 else 0)
    with told(history) as project, quick_folder() as elsewhere:
        events = list(project.ledger.events())
        gone = never_said(events, selection)
        undo(project, selection)
        other = ready(elsewhere)
        other.ledger.append(e for e in events[1:] if e.id not in gone)
        assert root(project) == root(other)
        assert not undo(project, selection), "a second time there is nothing left to undo"


@given(histories, st.integers(0, 30) | st.integers(1, 3), st.booleans())
@settings(max_examples=30, deadline=None)
def test_undoing_an_event_removes_what_follows_and_undoing_that_undo_brings_all_back(
    history: list[Word], which: int, by_act: bool
) -> None:
    with told(history) as project:
        events = project.ledger.events()
        parent = events[which % len(events)]
        before, stood = root(project), standing(project)
        undos = undo(project, Selection(parent.id))
        if not undos:
            return
        assert len({u.group for u in undos}) == 1
        if parent.type is not EventType.UNDO:
            assert not standing(project) & followers(events, parent)
        root(project)
        if by_act:
            undo(project, Selection(act=undos[0].group), BO)
        else:
            of_parent = [u for u in undos if u.target == parent.id]
            for first in of_parent or [u for u in undos if u.cause is None]:
                undo(project, Selection(first.id), BO)
        assert standing(project) == stood
        assert root(project) == before


def standing(project: Synthetic) -> set[str]:
    view = project.ledger.view()
    return {e.id for e in view.events if e.type is not EventType.UNDO and view.stands(e)}


def followers(events: Any, parent: Event) -> set[str]:
    """The event and all that follow from it; a cause is always older than what follows."""
    found = {parent.id}
    for event in events:
        if event.cause in found:
            found.add(event.id)
    return found


@given(histories, st.sampled_from(ACTORS))
@settings(max_examples=30, deadline=None)
def test_a_preview_of_an_undo_foretells_what_the_replay_moves(history: list[Word], actor: Actor) -> None:
    with told(history) as project:
        project.replayer.replay(project.policy)
        view, selection = project.ledger.view(), Selection(actor=actor)
        try:
            preview = preview_undo(project.replayer, project.policy, view, selection, BO)
        except InputError:
            return
        assert project.ledger.offset == view.offset, "a preview writes nothing"
        stood, before = standing(project), rows(project)
        undos = undo(project, selection)
        assert [e.id for e in preview.targets] == [u.target for u in undos]
        assert {e.id for e in preview.returning} == standing(project) - stood
        assert preview.moved is not None
        assert_moved(project, before, preview.moved)


def test_a_preview_names_the_flags_that_come_back_when_an_unflag_is_undone(tmp_path: Path) -> None:
    project = ready(tmp_path)
    flags = project.ledger.append(
        Event(EventType.FLAG, who, sample_id=SAMPLES[7].id, kind="reject") for who in (ANA, CRITIC)
    )
    tag = Event(EventType.TAG, ANA, sample_id=SAMPLES[7].id, kind="tag", value="sky")
    project.ledger.append([tag])
    [off] = project.ledger.append([Event(EventType.UNFLAG, BO, sample_id=SAMPLES[7].id, kind="reject")])
    project.replayer.replay(project.policy)
    view = project.ledger.view()
    preview = preview_undo(project.replayer, project.policy, view, Selection(off.id), BO)
    assert [e.id for e in preview.returning] == [e.id for e in flags]
    assert preview.moved is not None
    assert preview.moved.flips == {"gold → held": 1}


def propagator(project: Synthetic, folder: Path) -> Propagator:
    p, index = project, LanceIndex(folder / "index", project.fields)
    builder = DocumentBuilder(p.store, p.batches, p.facts, p.fields, p.steps)
    projector = Projector(p.store, p.ledger, p.facts, builder, Snapshots(p.store), p.steps, index)
    return Propagator(p.store, p.ledger, p.batches, p.replayer, projector, p.fields, p.steps, index)


def assert_moved(project: Synthetic, before: dict[str, tuple[str, list[str]]], foretold: Moves) -> None:
    """The next replay moves exactly what was foretold."""
    report = project.replayer.replay(project.policy)
    assert report.flips == foretold.flips
    after = rows(project)
    assert foretold.moves == [
        {"sample_id": i, "from": v, "to": after[i][0], "reasons_before": r, "reasons": after[i][1]}
        for i, (v, r) in sorted(before.items())
        if after[i] != (v, r)
    ]


@given(
    histories,
    st.sampled_from([Relation.CLUSTER, Relation.SOURCE]),
    st.sampled_from([None, "min_side > 102", "NOT has_flag('keep')"]),
    st.integers(0, 30),
    st.booleans(),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_propagation_moves_what_it_foretold_adds_nothing_twice_and_goes_with_its_parent(
    history: list[Word], to: Relation, where: str | None, which: int, fresh: bool
) -> None:
    with told(history) as project, quick_folder() as folder:
        former = root(project)
        tool = propagator(project, Path(folder))
        view = project.ledger.view()
        flags = [e for e in view.events if e.type is EventType.FLAG and view.stands(e)]
        if fresh:
            parent = Event(EventType.FLAG, ANA, sample_id=SAMPLES[which % 10].id, kind="reject", reason="x")
        elif flags:
            parent = flags[which % len(flags)]
        else:
            return
        before = rows(project)
        proposal = tool.propose(parent, Reach(to, where=where), CRITIC, project.policy)
        assert project.ledger.offset == view.offset, "a proposal writes nothing"
        children = tool.apply(proposal)
        assert len(children) == len(proposal.children) == proposal.related - proposal.flagged
        assert {(c.cause, c.kind, c.reason) for c in children} <= {(parent.id, parent.kind, parent.reason)}
        assert parent.sample_id not in {c.sample_id for c in children}
        assert_moved(project, before, proposal.moved)
        offset = project.ledger.offset
        tool.apply(proposal)
        if where is None:
            parent = project.ledger.find(parent.id)
            again = tool.propose(parent, Reach(to), CRITIC, project.policy)
            assert (again.children, again.flagged) == ((), again.related)
            assert again.moved == Moves({}, [])
            tool.apply(again)
        assert project.ledger.offset == offset, "done twice, the second time adds nothing"
        undo(project, Selection(parent.id))
        view = project.ledger.view()
        assert not any(view.stands(c) for c in children)
        if fresh:
            assert root(project) == former


def test_what_was_propagated_and_undone_can_be_propagated_again(tmp_path: Path) -> None:
    project = ready(tmp_path)
    tool = propagator(project, tmp_path)
    [parent] = project.ledger.append([Event(EventType.FLAG, ANA, sample_id=SAMPLES[0].id, kind="reject")])
    children = tool.apply(tool.propose(parent, Reach(Relation.CLUSTER), BO, project.policy))
    assert {c.sample_id for c in children} == {SAMPLES[3].id, SAMPLES[6].id}
    undo(project, Selection(act=children[0].group))
    again = tool.propose(parent, Reach(Relation.CLUSTER), BO, project.policy)
    assert (len(again.children), again.again) == (2, 2)
    assert {c.id for c in again.children}.isdisjoint({c.id for c in children})
    tool.apply(again)
    assert project.ledger.view().flags(SAMPLES[3].id)


def test_only_a_flag_that_stands_is_propagated(tmp_path: Path) -> None:
    project = ready(tmp_path)
    tool = propagator(project, tmp_path)
    [parent] = project.ledger.append([Event(EventType.FLAG, ANA, sample_id=SAMPLES[0].id, kind="reject")])
    proposal = tool.propose(parent, Reach(Relation.CLUSTER), BO, project.policy)
    [undone] = project.ledger.undo([parent], ANA)
    for event, kind in ((parent, "undone_flag"), (undone, "no_flag")):
        with pytest.raises(InputError) as error:
            tool.propose(event, Reach(Relation.CLUSTER), BO, project.policy)
        assert error.value.kind == kind
    with pytest.raises(InputError, match="is undone"):
        tool.apply(proposal)


@pytest.mark.parametrize("text", ["ana", "cat ana", "person", "person  ", ""])
def test_an_actor_is_named_by_kind_and_name(text: str) -> None:
    assert parse_actor("person Ana Maria") == Actor(ActorKind.PERSON, "Ana Maria")
    with pytest.raises(InputError, match="write its kind"):
        parse_actor(text)


@pytest.mark.parametrize(
    "parts", [{"event": "a", "act": "b"}, {"act": "a", "actor": ANA}, {"kind": "reject"}, {"since": 3}]
)
def test_a_selection_is_one_thing_and_only_acts_and_actors_are_narrowed(parts: dict[str, Any]) -> None:
    with pytest.raises(InputError) as error:
        Selection(**parts)
    assert error.value.kind == "bad_selection"


def test_an_actor_who_took_back_its_own_words_has_only_its_newer_ones_taken_back(tmp_path: Path) -> None:
    project = ready(tmp_path)
    for number in (0, 1):
        [flag] = project.ledger.append(
            [Event(EventType.FLAG, ANA, sample_id=SAMPLES[number].id, kind="reject")]
        )
        assert [u.target for u in undo(project, Selection(actor=ANA), ANA)] == [flag.id]
