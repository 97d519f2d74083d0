"""The ledger: nothing acknowledged is lost or doubled, undo is an event, and the chain tells when it was touched."""

from __future__ import annotations

import functools
import json
import multiprocessing
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import groupby
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refinery.config import S3StoreSettings
from refinery.digests import canonical_json, digest
from refinery.errors import CorruptionError, InputError
from refinery.fields import Field, FieldType
from refinery.ledger import (
    Actor,
    ActorKind,
    Event,
    EventType,
    Ledger,
    eval_event,
    feedback_event,
    flag_event,
    policy_event,
    segment_key,
    snapshot_event,
    tag_event,
    unflag_events,
    view_event,
)
from refinery.store import ObjectStore
from refinery.store.local import LocalStore
from refinery.store.s3 import S3Store
from tests.synthetic import quick_folder

ANA = Actor(ActorKind.PERSON, "ana")
MODEL = Actor(ActorKind.MODEL, "blur-net")
KINDS = ("keep", "reject", "blocked", "review")


def sample(number: int) -> str:
    return digest(str(number).encode())


def flag(number: int, kind: str = "reject", actor: Actor = ANA) -> Event:
    return flag_event(sample(number), kind, actor, known_kinds=KINDS)


@pytest.fixture(params=["local", "s3"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], ObjectStore]:
    """Opens the same, initially empty, store in any process."""
    if request.param == "local":
        return functools.partial(LocalStore, tmp_path / "store")
    return functools.partial(S3Store, request.getfixturevalue("s3_settings"))


@pytest.fixture
def store(opener: Callable[[], ObjectStore]) -> ObjectStore:
    return opener()


@pytest.fixture
def ledger(store: ObjectStore) -> Ledger:
    return Ledger(store)


@pytest.fixture
def quick() -> Iterator[Ledger]:
    """A ledger for what does not depend on the store."""
    with quick_folder() as folder:
        yield Ledger(LocalStore(Path(folder)))


def test_appended_events_are_read_back_by_a_fresh_ledger(store: ObjectStore, ledger: Ledger) -> None:
    written = ledger.append([flag(1), flag(2, "keep"), tag_event(sample(1), "portrait", ANA)])
    assert list(Ledger(store).events()) == written
    assert [e.offset for e in written] == [1, 2, 3]


def test_appending_the_same_event_again_changes_nothing(store: ObjectStore, ledger: Ledger) -> None:
    event = flag(1)
    first = ledger.append([event])
    assert Ledger(store).append([event]) == first
    assert ledger.offset == 1


def test_an_undo_can_be_undone(ledger: Ledger) -> None:
    [event] = ledger.append([flag(1)])
    [undo] = ledger.undo([event], ANA)
    assert not ledger.view().standing(sample(1))
    ledger.undo([undo], ANA)
    assert [e.id for e in ledger.view().standing(sample(1))] == [event.id]


def test_as_of_an_earlier_offset_the_ledger_says_what_it_said_then(ledger: Ledger) -> None:
    [event] = ledger.append([flag(1)])
    ledger.undo([event], ANA)
    assert [e.id for e in ledger.view(1).standing(sample(1))] == [event.id]
    with pytest.raises(InputError, match="ends at offset 2"):
        ledger.view(3)


def test_the_newest_word_of_a_person_decides_and_models_do_not(ledger: Ledger) -> None:
    ledger.append([flag(1, "reject", MODEL)])
    assert ledger.view().decision(sample(1)) is None
    ledger.append([flag(1, "reject")])
    ledger.append([flag(1, "keep")])
    decision = ledger.view().decision(sample(1))
    assert decision is not None
    assert decision.keep


def test_an_unknown_flag_kind_is_refused_with_a_suggestion() -> None:
    with pytest.raises(InputError, match="Did you mean 'reject'"):
        flag(1, "rejct")


def test_a_registered_field_is_known_until_its_registration_is_undone(ledger: Ledger) -> None:
    [event] = ledger.append(
        [Event(EventType.FIELD, ANA, kind="score", value={"type": "number", "description": "how good"})]
    )
    assert ledger.view().registered_fields() == [Field("score", FieldType.NUMBER, "how good")]
    ledger.undo([event], ANA)
    assert ledger.view().registered_fields() == []


def rewrite(store: ObjectStore, number: int, change: Callable[[bytes], bytes]) -> None:
    """Do to a segment what nobody may."""
    key = [info.key for info in store.list("ledger/")][number]
    data = change(store.get(key))
    store.delete(key)
    store.put_if_absent(key, data)


def test_a_changed_segment_breaks_the_chain_and_is_named(store: ObjectStore, ledger: Ledger) -> None:
    for number in range(3):
        ledger.append([flag(number)])
    rewrite(store, 1, lambda data: data.replace(b"reject", b"rejekt"))
    with pytest.raises(CorruptionError, match="segment 3"):
        Ledger(store).verify()


def test_a_torn_segment_is_reported_not_skipped(store: ObjectStore, ledger: Ledger) -> None:
    ledger.append([flag(1), flag(2)])
    rewrite(store, 0, lambda data: data[:-20])
    with pytest.raises(CorruptionError, match="segment 1"):
        Ledger(store).offset  # noqa: B018 - reading is what is tested


def _write_many(opener: Callable[[], ObjectStore], writer: int, count: int) -> None:
    ledger = Ledger(opener())
    actor = Actor(ActorKind.PERSON, f"writer-{writer}")
    for number in range(count):
        ledger.append([flag(number, "review", actor)])


def test_racing_writers_lose_and_double_nothing(opener: Callable[[], ObjectStore]) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(opener, w, 10)) for w in range(3)]
    for process in writers:
        process.start()
    for process in writers:
        process.join()
    assert [p.exitcode for p in writers] == [0] * 3
    ledger = Ledger(opener())
    seen = [(e.actor.name, e.sample_id) for e in ledger.events()]
    assert sorted(seen) == sorted((f"writer-{w}", sample(n)) for w in range(3) for n in range(10))
    assert ledger.verify() == 30


_texts = st.none() | st.text()
_anything = st.none() | st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(
    st.builds(
        Event,
        st.sampled_from(EventType),
        st.builds(Actor, st.sampled_from(ActorKind), st.text()),
        *(_texts, _texts, _anything, st.none() | st.floats(0, 1) | st.integers(0, 1)),
        *(_texts, _anything, _texts, _texts, st.text(), st.text(), st.text(), st.integers(0, 2**40)),
    )
)
@settings(max_examples=300, deadline=None)
def test_the_line_of_any_event_is_the_canonical_json_of_its_members(event: Event) -> None:
    assert event.line() == canonical_json(event.to_json())
    assert event.at(7, "act").to_json() == event.to_json() | {"group": event.group or "act", "offset": 7}


@pytest.mark.parametrize("acts", [3, pytest.param(50, marks=pytest.mark.heavy)])
def test_32_writers_over_100_hot_samples_lose_and_double_nothing(
    opener: Callable[[], ObjectStore], acts: int
) -> None:
    ready = threading.Barrier(32)

    def write(writer: int) -> list[Event]:
        ledger, told = Ledger(opener()), list[Event]()
        ready.wait()
        for act in range(acts):
            about = [(writer * 7 + act * 31 + n) % 100 for n in range(5)]
            told += ledger.append([flag(n, actor=Actor(ActorKind.MODEL, f"writer-{writer}")) for n in about])
        return told

    with ThreadPoolExecutor(32) as pool:
        told = [event for events in pool.map(write, range(32)) for event in events]
    ledger = Ledger(opener())
    events = list(ledger.events())
    assert sorted(told, key=lambda e: e.offset) == events
    assert [e.offset for e in events] == list(range(1, 32 * acts * 5 + 1))
    assert len({e.id for e in events}) == len(events)
    assert ledger.verify() == 32 * acts
    by_group = [list(group) for _, group in groupby(events, key=lambda e: e.group)]
    assert [len(group) for group in by_group] == [5] * (32 * acts), "an act is never torn apart"


def _write_until_killed(opener: Callable[[], ObjectStore], told: Connection) -> None:
    ledger = Ledger(opener())
    for number in range(10_000):
        [event] = ledger.append([flag(number)])
        told.send(event)


def test_what_a_killed_writer_was_told_stands_and_nothing_is_torn(opener: Callable[[], ObjectStore]) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    writer = context.Process(target=_write_until_killed, args=(opener, theirs))
    writer.start()
    theirs.close()
    acknowledged = [ours.recv() for _ in range(20)]
    writer.kill()
    writer.join()
    with suppress(EOFError):
        while True:
            acknowledged.append(ours.recv())
    ours.close()
    events = list(Ledger(opener()).events())
    assert events[: len(acknowledged)] == acknowledged
    assert len(events) <= len(acknowledged) + 1, "at most one was written and not told"
    Ledger(opener()).append([flag(0)])
    assert Ledger(opener()).verify() == len(events) + 1


actions = st.lists(
    st.one_of(
        st.tuples(st.just("flag"), st.integers(0, 4), st.sampled_from(KINDS)),
        st.tuples(st.just("undo"), st.integers(0, 20), st.just("")),
    ),
    max_size=20,
)


def check_what_stands(store: ObjectStore, history: list[tuple[str, int, str]]) -> None:
    ledger = Ledger(store)
    for action, number, kind in history:
        events = ledger.events()
        if action == "flag":
            ledger.append([flag(number, kind)])
        elif events:
            ledger.undo([events[number % len(events)]], ANA)
    events = list(ledger.events())

    def stands(event: Event) -> bool:
        return not any(e.target == event.id and stands(e) for e in events)

    view = Ledger(store).view()
    for number in range(5):
        expected = [
            e.id for e in events if e.type is EventType.FLAG and e.sample_id == sample(number) and stands(e)
        ]
        assert [e.id for e in view.standing(sample(number))] == expected


@given(actions)
@settings(max_examples=60, deadline=None)
def test_what_stands_equals_a_plain_model_of_flags_and_undos(history: list[tuple[str, int, str]]) -> None:
    with quick_folder() as folder:
        check_what_stands(LocalStore(Path(folder)), history)


@given(actions)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_stands_on_s3_equals_the_same_model(
    s3_settings: S3StoreSettings, history: list[tuple[str, int, str]]
) -> None:
    check_what_stands(S3Store(s3_settings.model_copy(update={"prefix": uuid.uuid4().hex})), history)


def unflag(ledger: Ledger, number: int, kind: str, actor: Actor = ANA, tag: str | None = None) -> Event:
    events = unflag_events(ledger.view(), [sample(number)], kind, actor, known_kinds=KINDS, tag=tag)
    return ledger.append(events)[0]


def standing_flags(ledger: Ledger, number: int = 1) -> list[str | None]:
    return [e.kind for e in ledger.view().flags(sample(number))]


def test_an_unflag_takes_off_every_flag_of_its_kind_whoever_stood_it_until_it_is_undone(
    quick: Ledger,
) -> None:
    flags = quick.append([flag(1, "review"), flag(1, "review", MODEL), flag(1, "keep"), flag(2, "review")])
    event = unflag(quick, 1, "review")
    assert (standing_flags(quick), standing_flags(quick, 2)) == (["keep"], ["review"])
    assert [quick.view().stands(e) for e in flags] == [False, False, True, True]
    assert quick.view(4).stands(flags[0]), "before it was said it had no effect"
    quick.append([flag(1, "review", MODEL)])
    assert standing_flags(quick) == ["keep", "review"], "what is said later stands"
    quick.undo([event], ANA)
    assert standing_flags(quick) == ["review", "review", "keep", "review"]


def test_what_a_person_said_and_blocked_are_taken_off_by_a_person_only(quick: Ledger) -> None:
    quick.append([flag(1, "review"), flag(1, "review", MODEL), flag(2, "blocked", MODEL)])
    for number, kind in [(1, "review"), (2, "blocked")]:
        with pytest.raises(InputError, match="by a person only") as caught:
            unflag(quick, number, kind, MODEL)
        assert caught.value.kind == "persons_word"
    quick.append([Event(EventType.UNFLAG, MODEL, sample_id=sample(n), kind="review") for n in (1, 2)])
    quick.append([Event(EventType.UNFLAG, MODEL, sample_id=sample(2), kind="blocked")])
    assert [e.actor for e in quick.view().flags(sample(1))] == [ANA], (
        "written past the check it has no effect"
    )
    assert standing_flags(quick, 2) == ["blocked"]
    unflag(quick, 2, "blocked")
    assert standing_flags(quick, 2) == []


def test_one_tag_is_taken_off_and_the_others_stay(quick: Ledger) -> None:
    quick.append([tag_event(sample(1), "sky", ANA), tag_event(sample(1), "sea", ANA)])
    unflag(quick, 1, "tag", tag="sky")
    assert quick.view().tags(sample(1)) == ["sea"]
    with pytest.raises(InputError) as caught:
        unflag(quick, 1, "tag", tag="sky")
    assert caught.value.kind == "nothing_to_unflag"


def test_a_kept_sample_is_no_longer_decided_once_the_keep_is_taken_off(quick: Ledger) -> None:
    quick.append([flag(1, "reject")])
    quick.append([flag(1, "keep")])
    unflag(quick, 1, "keep")
    decision = quick.view().decision(sample(1))
    assert decision is not None
    assert not decision.keep, "the reject of before is the newest word again"


def test_evals_and_feedback_are_checked_and_found_by_sample(quick: Ledger) -> None:
    run = Actor(ActorKind.EVAL, "coco-val")
    user = Actor(ActorKind.USER, "u-17")
    quick.append(
        [
            eval_event(sample(1), "coco-val/ap50", 0.25, run, evidence={"run": 3, "model": "m"}),
            eval_event(sample(1), "outcome", "missed", run),
            feedback_event(sample(1), "down", user, value=1, reason="blurred"),
        ]
    )
    view = Ledger(quick.store).view()
    assert [e.value for e in view.evals(sample(1), "coco-val/ap50")] == [0.25]
    assert [e.describe() for e in view.feedback(sample(1))] == ["feedback down (1) by user u-17: blurred"]
    for value in (float("nan"), float("inf"), "", "x" * 201):
        with pytest.raises(InputError, match="finite number or an outcome"):
            eval_event(sample(1), "ap50", value, run)
    for word in ("", "Up", "two words", "up\n"):
        with pytest.raises(InputError, match="word of feedback"):
            feedback_event(sample(1), word, user)


def test_records_speak_of_no_sample_move_no_verdict_and_cannot_be_undone(quick: Ledger) -> None:
    [said] = quick.append([flag(1)])
    root = digest(b"")
    records = [
        *quick.append([policy_event("default", root, ANA)]),
        *quick.append([view_event("dark", 2, "brightness < 0.2", ANA, sort="sharpness")]),
        *quick.append([snapshot_event("train", 1, root, ANA)]),
    ]
    view = Ledger(quick.store).view()
    assert (view.offset, view.moving_offset, quick.moving_offset) == (4, 1, 1)
    assert view.touched(1) == set()
    assert view.records(EventType.VIEW, "dark") == [records[1]]
    assert [e.describe() for e in records] == [
        f"policy default adopted ({root[:12]}) by person ana",
        "view dark@2 saved by person ana",
        "snapshot train@1 frozen by person ana",
    ]
    assert view.last_group() == [said], "a bare undo takes back what was said last, not what was done"
    for record in records:
        with pytest.raises(InputError) as caught:
            quick.undo([record], ANA)
        assert caught.value.kind == "not_undoable"
    quick.append([flag(2)])
    assert quick.moving_offset == 5
    assert quick.view(4).moving_offset == 1


def test_a_segment_states_the_oldest_format_that_has_words_for_its_events(quick: Ledger) -> None:
    quick.append([flag(1)])
    quick.append([eval_event(sample(1), "ap50", 1, MODEL)])
    quick.append([feedback_event(sample(1), "up", Actor(ActorKind.USER, "u"))])
    formats = [json.loads(quick.store.get(segment_key(n)).split(b"\n")[0])["format"] for n in (1, 2, 3)]
    assert formats == ["refinery.ledger/1", "refinery.ledger/2", "refinery.ledger/2"]
    rewrite(quick.store, 2, lambda data: data.replace(b"refinery.ledger/2", b"refinery.ledger/1"))
    with pytest.raises(CorruptionError, match="segment 3"):
        Ledger(quick.store).verify()
