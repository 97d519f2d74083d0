"""A ledger opened through checkpoints is the ledger that its segments say, and checkpoints bound what opening reads."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refinery.config import S3StoreSettings
from refinery.digests import digest
from refinery.errors import CorruptionError, TransientError
from refinery.ledger import Actor, ActorKind, Event, EventType, Ledger, LedgerView, flag_event, segment_key
from refinery.ledger import checkpoints as module
from refinery.ledger.columns import Columns, columns_of
from refinery.ledger.log import EventLog
from refinery.ledger.segments import Chain
from refinery.store import ObjectStore
from refinery.store.local import LocalStore
from refinery.store.s3 import S3Store
from tests.synthetic import quick_folder

ACTORS = [Actor(ActorKind.PERSON, "ana"), Actor(ActorKind.MODEL, "blur-net"), Actor(ActorKind.USER, "u-1")]
ANA = ACTORS[0]
SAMPLES = [digest(str(n).encode()) for n in range(5)]


@contextmanager
def often(events: int = 3, segments: int = 1000, merged: int = 3) -> Iterator[LocalStore]:
    """A store whose ledger writes checkpoints after so few events, and merges so few of one size."""
    with quick_folder() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "EVENTS_BEHIND", events)
        patch.setattr(module, "SEGMENTS_BEHIND", segments)
        patch.setattr(module, "_MERGED", merged)
        yield LocalStore(Path(folder))


def keys(store: ObjectStore) -> list[str]:
    return [info.key for info in store.list("checkpoints/")]


def from_segments(store: ObjectStore) -> tuple[Chain, EventLog]:
    """What the segments alone say."""
    chain, log = Chain(), EventLog()
    while (found := store.get_with_etag(segment_key(len(chain) + 1))) is not None:
        log.extend(chain.accept(found[0]))
    return chain, log


def flag(number: int, kind: str = "reject", actor: Actor = ANA) -> Event:
    return flag_event(SAMPLES[number % 5], kind, actor, known_kinds=("reject", "keep", "review", "blocked"))


_samples = st.sampled_from(SAMPLES)
_json = st.none() | st.sampled_from([0, 1, 1.0, True, "", "sky", {"a": [1, 2.5]}, []])
_said = st.builds(
    Event,
    st.sampled_from([EventType.FLAG, EventType.TAG, EventType.ATTRIBUTE, EventType.EVAL, EventType.FEEDBACK]),
    st.sampled_from(ACTORS),
    sample_id=_samples,
    kind=st.sampled_from(["keep", "reject", "review", "blocked"]),
    value=_json,
    confidence=st.none() | st.sampled_from([0, 0.5, 1, 1.0]),
    reason=st.none() | st.text(max_size=3),
    evidence=_json,
)
_unflag = st.builds(
    Event,
    st.just(EventType.UNFLAG),
    st.sampled_from(ACTORS),
    sample_id=_samples,
    kind=st.sampled_from(["keep", "reject", "tag"]),
    value=st.sampled_from([None, "sky"]),
)
_of_project = st.builds(
    Event,
    st.sampled_from([EventType.FIELD, EventType.POLICY, EventType.VIEW]),
    st.just(ANA),
    kind=st.sampled_from(["score", "size"]),
    value=st.just({"type": "number"}),
)
_link = st.integers(0, 30)
_histories = st.lists(
    st.tuples(
        st.lists(st.tuples(_said | _unflag | _of_project, st.none() | _link), min_size=1, max_size=4),
        st.lists(_link, max_size=3),
        st.booleans(),
    ),
    max_size=6,
)


def play(store: LocalStore, history: list[Any]) -> Ledger:
    """Append acts: new events, some that follow from others, and undos; some by a process that has just opened the ledger."""
    ledger = Ledger(store)
    for said, undone, reopened in history:
        if reopened:
            ledger = Ledger(store)
        known = ledger.events()
        act = []
        for event, link in said:
            cause = known[link % len(known)].id if link is not None and known else None
            act.append(Event(**{**_members(event), "cause": cause}))
        ledger.append(act)
        undoable = [e for e in ledger.events() if e.type not in (EventType.POLICY, EventType.VIEW)]
        if undone and undoable:
            targets = {e.id: e for e in (undoable[n % len(undoable)] for n in undone)}
            ledger.undo(list(targets.values()), ANA)
    return ledger


def _members(event: Event) -> dict[str, Any]:
    return {name: getattr(event, name) for name in Event.__slots__ if name not in ("id", "time")}


def answers(view: LedgerView, events: Sequence[Event]) -> Iterator[Any]:
    """Everything that a view answers."""
    yield list(view.events), list(reversed(view.events)), len(view.events), list(view.events[1:3])
    yield view.offset, view.moving_offset, view.last_group(), view.registered_fields()
    yield view.acts(""), view.actors(), [view.where(caused=True, types=t) for t in (None, {EventType.FLAG})]
    yield [view.where(types={kind}) for kind in EventType], [view.where(actor=a) for a in ACTORS]
    yield [view.records(kind, "score") for kind in (EventType.POLICY, EventType.VIEW)]
    yield [view.touched(after) for after in range(view.offset + 1)]
    for event in events:
        yield view.get(event.id), view.where(group=event.group), attempt(lambda e=event: view.find(e.id[:20]))
        yield view.stands(event), view.undone_by(event), view.taken_off_by(event)
    yield [attempt(lambda p=prefix: view.find(p)) for prefix in ("", "a", "0", "g", "f" * 32)]
    for sample_id in (*SAMPLES, "no sample"):
        yield view.history(sample_id), view.standing(sample_id), view.decision(sample_id)
        yield (
            view.tags(sample_id),
            view.evals(sample_id),
            view.feedback(sample_id),
            view.flags(sample_id, "keep"),
        )
        yield view.blocked(sample_id), view.attributes(sample_id)
    about = view.about(SAMPLES[:2])
    yield [about.standing(s) for s in SAMPLES], about.registered_fields()


def attempt(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - the error is the answer
        return type(error), str(error)


@given(_histories)
@settings(max_examples=25, deadline=None)
def test_a_ledger_opened_through_checkpoints_answers_as_one_read_from_its_segments(
    history: list[Any],
) -> None:
    with often() as store:
        writer = play(store, history)
        chain, truth = from_segments(store)
        events = truth.take(0, truth.end)
        opened = Ledger(store)
        assert bool(keys(store)) == (len(events) >= 3)
        if len(events) >= 3:
            covered = max(int(key.split("-")[1]) for key in keys(store))
            assert len(events) - covered < 3, "what lies behind the last checkpoint is little"
        assert opened.verify() == len(chain)
        for offset in range(len(events) + 1):
            expected = list(answers(LedgerView(truth, offset), events))
            assert list(answers(opened.view(offset), events)) == expected
            number = chain.segment_of(offset)
            assert opened.segment_at(offset) == (number, chain.digest(number))
            undo = Event(EventType.UNDO, ANA, target=events[0].id) if events else flag(1)
            more = [undo, flag(1, "keep"), flag(7, "review", ACTORS[1])]
            then, meant = (v.with_events(more) for v in (opened.view(offset), LedgerView(truth, offset)))
            assert list(answers(then, events)) == list(answers(meant, events))
        assert list(answers(writer.view(), events)) == list(answers(LedgerView(truth), events))
        assert set(opened.view().spoken_of()) == set(LedgerView(truth).spoken_of())
        assert len(opened.view().spoken_of()) == len(set(opened.view().spoken_of()))
        assert opened.view().spoken_of().among([*SAMPLES, "none"]) == set(LedgerView(truth).spoken_of())
        recalled = Ledger(store).view()
        recalled.recall([*SAMPLES, "no sample"])
        assert [recalled.history(s) for s in SAMPLES] == [LedgerView(truth).history(s) for s in SAMPLES]


_hex = st.binary(min_size=16, max_size=16).map(bytes.hex)
_texts = st.none() | st.text()
_anything = st.none() | st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
_events = st.builds(
    Event,
    st.sampled_from(EventType),
    st.builds(Actor, st.sampled_from(ActorKind), st.text()),
    *(st.none() | st.binary(min_size=32, max_size=32).map(bytes.hex), _texts, _anything),
    *(st.none() | st.floats(0, 1) | st.integers(0, 1), _texts, _anything, _texts, _texts),
    *(st.text(min_size=1), _hex, st.text()),
)


@given(st.lists(_events, min_size=1, max_size=5, unique_by=lambda e: e.id))
@settings(max_examples=200, deadline=None)
def test_columns_give_back_exactly_the_events_that_a_segment_holds(said: list[Event]) -> None:
    chain, read = Chain(), Chain()
    placed = [event.at(n, "act") for n, event in enumerate(said, start=1)]
    events = read.accept(chain.segment_after(0, placed, "w"))
    made = Columns(columns_of(placed)).take(0, len(placed))
    assert [repr(e) for e in made] == [repr(e) for e in events], "1, 1.0 and True are told apart"
    assert made == events


@pytest.mark.parametrize(
    "odd", [{"id": "x"}, {"id": "A" * 32}, {"sample_id": "0" * 63}, {"reason": "\ud800"}]
)
def test_a_ledger_with_what_no_column_holds_is_read_from_its_segments(odd: dict[str, Any]) -> None:
    with often() as store:
        events = [flag(n) for n in range(4)]
        events[2] = Event(**{**_members(events[2]), **odd})
        if "reason" in odd:  # JSON can say it with an escape, as another program might
            data = Chain().segment_after(0, [e.at(n, "act") for n, e in enumerate(events[:2], start=1)], "w")
            store.put_if_absent(
                segment_key(1), data.replace(b'"kind":"reject"', b'"kind":"reject","reason":"\\ud800"')
            )
        else:
            Ledger(store).append(events)
        ledger = Ledger(store)
        ledger.append([flag(n) for n in range(4)])
        assert keys(store) == []
        _, truth = from_segments(store)
        assert list(Ledger(store).events()) == truth.take(0, truth.end)


def grown(store: LocalStore, acts: int = 20) -> list[Event]:
    ledger = Ledger(store)
    for n in range(acts):
        ledger.append([flag(n), flag(n + 1, "review", ACTORS[1])])
    return list(ledger.events())


def damaged(data: bytes, how: str) -> bytes | None:
    """What is found in place of a checkpoint."""
    match how:
        case "missing":
            return None
        case "torn":
            return data[: len(data) // 2]
        case "flipped":
            return data[:300] + bytes([data[300] ^ 1]) + data[301:]
        case _:
            return how.encode()


@pytest.mark.parametrize("damage", ["missing", "torn", "flipped", "", "{}"])
@pytest.mark.parametrize("place", [0, -1])
def test_a_damaged_checkpoint_is_ignored_named_by_verify_and_written_anew(damage: str, place: int) -> None:
    with often() as store:
        events = grown(store)
        key = keys(store)[place]
        data = damaged(store.get(key), damage)
        store.delete(key)
        if data is not None:
            store.put_if_absent(key, data)
            with pytest.raises(CorruptionError, match=key) as caught:
                Ledger(store).verify()
            assert caught.value.kind == "damaged_checkpoint"
        ledger = Ledger(store)
        assert list(ledger.events()) == events
        ledger.append([flag(n) for n in range(4)])
        assert ledger.verify() == 21
        covered = Ledger(store)._checkpoints.open()[0].end
        assert covered == ledger.offset, "the gap is closed"


def restated(store: LocalStore, change: Callable[[dict[str, Any]], object]) -> str:
    """Rewrite the newest checkpoint with another header, under the key that its bytes then have."""
    key = keys(store)[-1]
    data = store.get(key)
    start = data.index(b'{"events"')
    end = data.index(b"}", start) + 1
    header = json.loads(data[start:end])
    change(header)
    text = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
    assert len(text) == end - start
    fresh = data[:start] + text + data[end:]
    store.delete(key)
    name = key[: -len("0" * 64 + ".arrow")] + digest(fresh) + ".arrow"
    store.put_if_absent(name, fresh)
    return name


def test_a_checkpoint_of_an_unknown_format_is_ignored_and_left_alone() -> None:
    with often() as store:
        events = grown(store)
        name = restated(store, lambda header: header.update(format="refinery.checkpoint/9"))
        ledger = Ledger(store)
        assert list(ledger.events()) == events
        ledger.append([flag(n) for n in range(4)])
        assert ledger.verify() == 21
        assert name in keys(store)


def test_a_checkpoint_of_another_chain_is_ignored_and_removed() -> None:
    with often() as store, often() as other:
        events = grown(store)
        grown(other)
        for key in keys(store):
            store.delete(key)
        for key in keys(other):
            store.put_if_absent(key, other.get(key))
        ledger = Ledger(store)
        assert list(ledger.events()) == events
        with pytest.raises(CorruptionError, match="checkpoints/"):
            ledger.verify()
        ledger.append([flag(n) for n in range(4)])
        assert ledger.verify() == 21
        assert list(Ledger(store).events())[:-4] == events


def test_a_checkpoint_that_lies_under_a_right_digest_is_found_by_verify() -> None:
    with often() as store:
        grown(store)
        name = restated(store, lambda header: header.update(first_segment=header["first_segment"] - 1))
        with pytest.raises(CorruptionError, match=name):
            Ledger(store).verify()


@pytest.mark.parametrize("bulk", [1, 7, 40])
def test_a_long_ledger_has_few_checkpoints_and_a_short_tail(bulk: int) -> None:
    with often(events=8, segments=4, merged=8) as store:
        ledger = Ledger(store)
        for _ in range(600 // bulk):
            ledger.append([flag(n) for n in range(bulk)])
            assert len(keys(store)) <= 7 * 4
        chain, log = Ledger(store)._checkpoints.open()
        assert ledger.offset - chain.end < max(8, bulk)
        assert log.end == chain.end
        assert ledger.verify() == 600 // bulk


def test_a_checkpoint_that_cannot_be_written_fails_no_append(monkeypatch: pytest.MonkeyPatch) -> None:
    with often() as store:
        put = LocalStore.put_if_absent

        def full(self: LocalStore, key: str, data: bytes) -> bool:
            if key.startswith("checkpoints/"):
                raise TransientError("The disk is full.", kind="store_not_written")
            return put(self, key, data)

        monkeypatch.setattr(LocalStore, "put_if_absent", full)
        events = grown(store, 5)
        assert keys(store) == []
        monkeypatch.undo()
        assert list(Ledger(store).events()) == events
        Ledger(store).append([flag(n) for n in range(3)])
        assert len(keys(store)) == 1, "the next one covers it all"


@pytest.mark.parametrize("ledgers", [1, 4])
def test_threads_that_share_ledgers_lose_and_double_nothing(ledgers: int) -> None:
    with often(events=16, segments=8) as store:
        shared = [Ledger(store) for _ in range(ledgers)]
        ready = threading.Barrier(8)

        def write(writer: int) -> list[Event]:
            ledger, told = shared[writer % ledgers], list[Event]()
            ready.wait()
            for n in range(15):
                told += ledger.append([flag(n), flag(n + 1, "review", ACTORS[1])])
                view = ledger.view()
                assert told[-1] in view.history(str(told[-1].sample_id))
                assert view.offset == len(view.events) == view.events[-1].offset
                assert set(view.spoken_of()) <= set(SAMPLES)
            return told

        with ThreadPoolExecutor(8) as pool:
            told = [event for events in pool.map(write, range(8)) for event in events]
        expected = sorted(told, key=lambda e: e.offset)
        assert [e.offset for e in expected] == list(range(1, 241))
        for ledger in (*shared, Ledger(store)):
            assert list(ledger.events()) == expected
            assert ledger.verify() == 120


def test_checkpoints_on_s3_are_written_merged_and_read(
    s3_settings: S3StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EVENTS_BEHIND", 4)
    monkeypatch.setattr(module, "_MERGED", 3)
    store = S3Store(s3_settings)
    ledger = Ledger(store)
    for n in range(12):
        ledger.append([flag(n), flag(n + 1, "review", ACTORS[1])])
    assert 0 < len(keys(store)) < 6
    opened = Ledger(store)
    assert opened._checkpoints.open()[0].end > 20
    assert list(opened.events()) == list(ledger.events())
    assert opened.verify() == 12
