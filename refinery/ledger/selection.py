"""Which events an undo speaks of: one event, one act, or what an actor said; and everything that follows from them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from refinery.errors import InputError, did_you_mean
from refinery.ledger.events import RECORDS, Actor, ActorKind, Event, EventType
from refinery.ledger.view import LedgerView


@dataclass(frozen=True, slots=True)
class Selection:
    """What to undo: one of `event` and `act` (an id, or how it begins) and `actor`; the newest act when none is given.

    `kind` (of a flag; `tag`; an attribute's or field's name) and `since` (events after this offset) narrow an act or an
    actor. An undo has the kind of what it undid in the end, so that an actor's undos are taken back with their flags.
    """

    event: str | None = None
    act: str | None = None
    actor: Actor | None = None
    kind: str | None = None
    since: int = 0

    def __post_init__(self) -> None:
        given = sum(part is not None for part in (self.event, self.act, self.actor))
        if given > 1:
            raise InputError("Choose what to undo: one event, one act or one actor.", kind="bad_selection")
        if (self.kind is not None or self.since) and self.act is None and self.actor is None:
            raise InputError(
                "A kind or an offset only narrows what an act or an actor said: name one of these as well.",
                kind="bad_selection",
            )


def parse_actor(text: str) -> Actor:
    """The actor that `model blur-critic` names. InputError for anything but a kind of actor and a name."""
    kind, _, name = text.strip().partition(" ")
    kinds = [k.value for k in ActorKind]
    if kind not in kinds or not name.strip():
        raise InputError(
            f"{text!r} names no actor: write its kind ({', '.join(kinds)}), a space and its name, as in 'model blur-critic'.",
            kind="bad_actor",
        )
    return Actor(ActorKind(kind), name.strip())


def select(view: LedgerView, selection: Selection) -> list[Event]:
    """The events whose undoing takes back the selection and all that follows from it, in the order of the ledger.

    They are the standing ones, and those that would stand again because the undo that hides them is selected itself.
    InputError when there is no such event, act or actor, or nothing of it is left to undo.
    """
    targets = undoable(view, _chosen(view, selection))
    if selection.actor and not _changes(view, targets, selection.actor):
        targets = []  # such as undos of others' words that the actor itself undid
    if not targets:
        raise InputError(
            "There is nothing to undo: no act stands in the ledger, or what you chose is undone already.",
            kind="nothing_to_undo",
        )
    return targets


def undoable(view: LedgerView, chosen: Iterable[Event]) -> list[Event]:
    """Which events to undo, in order, so that nothing of the chosen ones or of what follows from them has effect any more:
    those that no undo from outside compensates. An undo of what falls away itself counts as outside, for it agrees."""
    whole = with_followers(view, chosen)
    ids = {event.id for event in whole}
    inside = {e.id: e for e in whole if e.type is not EventType.UNDO or subject(view, e).id not in ids}
    undone: set[str] = set()  # by undos from outside that stand
    for event in reversed(view.where(types={EventType.UNDO})):
        if event.id not in inside and event.target and event.id not in undone:
            undone.add(event.target)
    return [event for event in inside.values() if event.id not in undone]


def with_followers(view: LedgerView, chosen: Iterable[Event]) -> list[Event]:
    """The chosen events and all that follow from them through `cause`, in order of offset."""
    followers: dict[str, list[Event]] = defaultdict(list)
    for event in view.where(caused=True):
        followers[str(event.cause)].append(event)
    found = {event.id: event for event in chosen}
    queue = list(found.values())
    for event in queue:
        fresh = [f for f in followers.get(event.id, ()) if f.id not in found]
        found.update((f.id, f) for f in fresh)
        queue += fresh
    return sorted(queue, key=lambda e: e.offset)


def undo_events(
    view: LedgerView, targets: Sequence[Event], actor: Actor, reason: str | None = None
) -> list[Event]:
    """The undos of these events. The undo of what follows from another follows from that one's undo, so that undoing the
    one undo brings both back."""
    undos: dict[str, Event] = {}
    for target in sorted(targets, key=lambda e: e.offset):
        _check_undoable(target)
        parent = view.get(target.cause or "")
        while parent and parent.id not in undos:
            parent = view.get(parent.cause or "")
        undos[target.id] = Event(
            EventType.UNDO,
            actor,
            sample_id=target.sample_id,
            target=target.id,
            reason=reason,
            cause=undos[parent.id].id if parent else None,
        )
    return list(undos.values())


def count_by_kind(view: LedgerView, events: Iterable[Event]) -> dict[str, int]:
    """How many events of each kind: `flag reject`, `tag sky`, `undo of flag reject`."""
    return _ordered(Counter(_what(view, event) for event in events))


def count_by_actor(events: Iterable[Event]) -> dict[str, int]:
    """How many events of each actor, as `model blur-critic`."""
    return _ordered(Counter(str(event.actor) for event in events))


def subject(view: LedgerView, event: Event) -> Event:
    """The event itself, or for an undo what it undid in the end (through undos of undos)."""
    while event.type is EventType.UNDO and (target := view.get(event.target or "")):
        event = target
    return event


def _chosen(view: LedgerView, selection: Selection) -> list[Event]:
    if selection.event is not None:
        event = view.find(selection.event)
        _check_undoable(event)
        return [event]
    if selection.act is None and selection.actor is None:
        return view.last_group()
    group = None if selection.act is None else _only_act(view, selection.act)
    said = view.where(actor=selection.actor, group=group)
    if selection.actor is not None and not said:
        raise InputError(
            f"The ledger has no event of {selection.actor}.{did_you_mean(str(selection.actor), view.actors())}"
            " `refinery log` names who said what.",
            kind="no_such_actor",
        )
    wanted = (e for e in said if e.offset > selection.since and e.type not in RECORDS)
    return [e for e in wanted if selection.kind in (None, subject(view, e).kind)]


def _check_undoable(event: Event) -> None:
    if event.type in RECORDS:
        raise InputError(
            f"Event {event.id[:12]} ({event.describe()}) is a record: it says what was done, and cannot be undone.",
            kind="not_undoable",
        )


def _changes(view: LedgerView, targets: Sequence[Event], actor: Actor) -> bool:
    """Whether undoing these makes anything but undos stand that did not, or the other way round."""
    then = view.with_events(undo_events(view, targets, actor))
    subjects = [subject(view, e) for e in targets]
    return any((view.undone_by(of) is None) != (then.undone_by(of) is None) for of in subjects)


def _only_act(view: LedgerView, prefix: str) -> str:
    found = view.acts(prefix)
    if len(found) != 1 or not prefix:
        count = "no act" if not found else f"{len(found)} acts"
        raise InputError(
            f"The ledger has {count} with an id that starts with {prefix!r}: `refinery log` shows the acts.",
            kind="no_such_act",
        )
    return found.pop()


def _what(view: LedgerView, event: Event) -> str:
    of = subject(view, event)
    name = of.value if of.type is EventType.TAG else of.kind
    return f"{'undo of ' if event is not of else ''}{of.type.value} {name}"


def _ordered(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
