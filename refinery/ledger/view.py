"""What stands on each sample after the first L events: the ledger, folded."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from refinery.errors import InputError
from refinery.fields import Field, FieldType
from refinery.ledger.events import RECORDS, Actor, ActorKind, Event, EventType
from refinery.ledger.log import EventLog, Spoken

_NOT_BARELY_UNDONE = RECORDS | {EventType.UNDO, EventType.FIELD}


@dataclass(frozen=True, slots=True)
class Decision:
    """The newest word of a person on a sample: `keep` or `reject`, and the event that said it."""

    keep: bool
    event: Event


class LedgerView:
    """A fold over the first `offset` events. An event stands unless an undo that stands targets it.

    Making one costs nothing; what stands is worked out for the samples one asks for.
    """

    def __init__(self, log: EventLog, offset: int | None = None) -> None:
        self.offset = log.end if offset is None else offset
        self._log = log

    @property
    def events(self) -> Sequence[Event]:
        """The first `offset` events of the ledger, in order; each is read when it is looked at."""
        return self._log.between(0, self.offset)

    def get(self, event_id: str) -> Event | None:
        """The event with this id, if it is one of the first `offset`."""
        return self._log.get(event_id, self.offset)

    def where(
        self,
        *,
        types: Collection[EventType] | None = None,
        actor: Actor | None = None,
        group: str | None = None,
        caused: bool = False,
    ) -> list[Event]:
        """The events of these types, of this actor, of this act and (with `caused`) with a cause, oldest first."""
        chosen = None if types is None else frozenset(types)
        return self._log.where(self.offset, types=chosen, actor=actor, group=group, caused=caused)

    def acts(self, prefix: str) -> set[str]:
        """The acts whose id starts so."""
        return self._log.acts(prefix, self.offset)

    def actors(self) -> set[str]:
        """Who said anything, as `model blur-critic`."""
        return self._log.actors(self.offset)

    def find(self, event_id: str) -> Event:
        """The event with this id, or with the only id that starts so. InputError when there is none or several."""
        if exact := self.get(event_id):
            return exact
        found = self._log.like(event_id, self.offset)
        event = self.get(found[0]) if len(found) == 1 and event_id else None
        if event is None:
            count = "no event" if not found else f"{len(found)} events"
            raise InputError(
                f"The ledger has {count} with an id that starts with {event_id!r}.", kind="no_such_event"
            )
        return event

    def with_events(self, events: Sequence[Event]) -> LedgerView:
        """The view as it would be if `events` were appended: for what-if, nothing is written."""
        fresh = [event.at(self.offset + n) for n, event in enumerate(events, start=1)]
        return LedgerView(EventLog(fresh, self._log, self.offset), self.offset + len(fresh))

    @property
    def moving_offset(self) -> int:
        """The offset of the newest event that can move a verdict. Verdicts at it and at `offset` are the same."""
        offset = self.offset
        for event in reversed(self.where(types=RECORDS)):
            if event.offset < offset:
                break
            offset -= 1
        return offset

    def records(self, kind: EventType, name: str | None = None) -> list[Event]:
        """The events of one of RECORDS (of one name), oldest first: policies adopted, views saved, snapshots frozen."""
        return [e for e in self.where(types={kind}) if name in (None, e.kind)]

    def about(self, sample_ids: Collection[str]) -> LedgerView:
        """What the view says of some samples and of the fields, with nothing of others: for what-if, again and again."""
        spoken = [e for i in sample_ids for e in self.history(i)]
        fields = self.where(types={EventType.FIELD})
        undos = [u for e in fields for u in self._log.undos_of(e.id, self.offset)]
        events = {e.id: e for e in (*spoken, *fields, *undos)}
        return LedgerView(EventLog(sorted(events.values(), key=lambda e: e.offset)), self.offset)

    def standing(self, sample_id: str) -> Sequence[Event]:
        """The events that stand on a sample, oldest first: neither undone nor taken off."""
        found = [
            e for e in self.history(sample_id) if e.type is not EventType.UNDO and self.undone_by(e) is None
        ]
        unflags = [e for e in found if e.type is EventType.UNFLAG]
        return [e for e in found if not any(u.takes_off(e) for u in unflags)] if unflags else found

    def stands(self, event: Event) -> bool:
        """Whether no undo compensates the event, and no unflag that stands takes it off."""
        return self.undone_by(event) is None and self.taken_off_by(event) is None

    def taken_off_by(self, event: Event) -> Event | None:
        """The (oldest) unflag that stands and takes off this flag or tag, if any."""
        if event.type not in (EventType.FLAG, EventType.TAG) or event.sample_id is None:
            return None
        unflags = (e for e in self.history(event.sample_id) if e.takes_off(event))
        return next((e for e in unflags if self.undone_by(e) is None), None)

    def undone_by(self, event: Event) -> Event | None:
        """The (oldest) undo that stands and compensates the event, if any."""
        chain = [event]
        for each in chain:
            chain += [u for u in self._log.undos_of(each.id, self.offset) if each.offset < u.offset]
        if len(chain) == 1:
            return None
        undone: dict[str, Event] = {}
        for undo in sorted(chain[1:], key=lambda u: u.offset, reverse=True):
            if undo.id not in undone:
                undone[str(undo.target)] = undo
        return undone.get(event.id)

    def flags(self, sample_id: str, kind: str | None = None) -> list[Event]:
        """The flags that stand on a sample (of one kind), oldest first."""
        return [e for e in self.standing(sample_id) if e.type is EventType.FLAG and kind in (None, e.kind)]

    def tags(self, sample_id: str) -> list[str]:
        """The tags that stand on a sample, in order of name."""
        return sorted({str(e.value) for e in self.standing(sample_id) if e.type is EventType.TAG})

    def evals(self, sample_id: str, metric: str | None = None) -> list[Event]:
        """The eval results that stand on a sample (of one metric), oldest first."""
        return [e for e in self.standing(sample_id) if e.type is EventType.EVAL and metric in (None, e.kind)]

    def feedback(self, sample_id: str, kind: str | None = None) -> list[Event]:
        """The feedback that stands on a sample (of one word), oldest first."""
        return [
            e for e in self.standing(sample_id) if e.type is EventType.FEEDBACK and kind in (None, e.kind)
        ]

    def blocked(self, sample_id: str) -> list[Event]:
        """The `blocked` flags that stand on a sample, whoever stood them."""
        return self.flags(sample_id, "blocked")

    def decision(self, sample_id: str) -> Decision | None:
        """The newest `keep` or `reject` of a person, if one stands."""
        for event in reversed(self.standing(sample_id)):
            if (
                event.type is EventType.FLAG
                and event.actor.kind is ActorKind.PERSON
                and event.kind in ("keep", "reject")
            ):
                return Decision(event.kind == "keep", event)
        return None

    def attributes(self, sample_id: str) -> dict[str, object]:
        """Attributes set through the ledger: a person's word beats any other actor's, then the newest wins."""
        resolved: dict[str, object] = {}
        standing = self.standing(sample_id)
        for person in (False, True):
            for event in standing:
                if event.type is EventType.ATTRIBUTE and (event.actor.kind is ActorKind.PERSON) is person:
                    resolved[str(event.kind)] = event.value
        return resolved

    def touched(self, after: int) -> set[str]:
        """Every sample that an event with offset > `after` speaks of, undo included."""
        return self._log.touched(after, self.offset)

    def spoken_of(self) -> Spoken:
        """Every sample that an event of the ledger speaks of; a few more when the view is of an earlier offset."""
        return Spoken(self._log)

    def history(self, sample_id: str) -> list[Event]:
        """Every event that ever spoke of a sample, undone ones and undos included, oldest first."""
        return self._log.history(sample_id, self.offset)

    def recall(self, sample_ids: Collection[str]) -> None:
        """Say that these samples will be asked for: reading what was said of many at once is much quicker."""
        self._log.recall(sample_ids)

    def registered_fields(self) -> list[Field]:
        """The attributes registered so far: for each name the newest registration that stands."""
        fields: dict[str, Field] = {}
        for event in self.where(types={EventType.FIELD}):
            if self.stands(event):
                name = str(event.kind)
                fields[name] = Field(name, FieldType(event.value["type"]), event.value.get("description", ""))
        return list(fields.values())

    def last_group(self) -> list[Event]:
        """The events of the newest act that is not undone, nor an undo, field or record: what a bare `undo` compensates."""
        for event in reversed(self.events):
            if event.type not in _NOT_BARELY_UNDONE and self.undone_by(event) is None:
                return [e for e in self.where(group=event.group) if self.undone_by(e) is None]
        return []
