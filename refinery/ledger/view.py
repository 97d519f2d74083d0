"""What stands on each sample after the first L events: the ledger, folded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from refinery.fields import Field, FieldType
from refinery.ledger.events import ActorKind, Event, EventType


@dataclass(frozen=True, slots=True)
class Decision:
    """The newest word of a person on a sample: `keep` or `reject`, and the event that said it."""

    keep: bool
    event: Event


class LedgerView:
    """A fold over the first `offset` events. An event stands unless an undo that stands targets it."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.offset = len(events)
        self._by_id = {e.id: e for e in events}
        self._undone: dict[str, Event] = {}
        for event in reversed(events):
            if event.type is EventType.UNDO and event.id not in self._undone and event.target:
                self._undone[event.target] = event
        self._by_sample: dict[str, list[Event]] = defaultdict(list)
        for event in events:
            if event.sample_id and event.type is not EventType.UNDO and event.id not in self._undone:
                self._by_sample[event.sample_id].append(event)
        self._events = events

    def with_event(self, event: Event) -> LedgerView:
        """The view as it would be if `event` were appended: for what-if, nothing is written."""
        return LedgerView([*self._events, event.at(self.offset + 1)])

    def standing(self, sample_id: str) -> Sequence[Event]:
        """The events that stand on a sample, oldest first."""
        return self._by_sample.get(sample_id, ())

    def stands(self, event: Event) -> bool:
        """Whether no undo compensates the event."""
        return event.id not in self._undone

    def undone_by(self, event: Event) -> Event | None:
        """The undo that compensates the event, if any."""
        return self._undone.get(event.id)

    def flags(self, sample_id: str, kind: str | None = None) -> list[Event]:
        """The flags that stand on a sample (of one kind), oldest first."""
        return [e for e in self.standing(sample_id) if e.type is EventType.FLAG and kind in (None, e.kind)]

    def tags(self, sample_id: str) -> list[str]:
        """The tags that stand on a sample, in order of name."""
        return sorted({str(e.value) for e in self.standing(sample_id) if e.type is EventType.TAG})

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
        for person in (False, True):
            for event in self.standing(sample_id):
                if event.type is EventType.ATTRIBUTE and (event.actor.kind is ActorKind.PERSON) is person:
                    resolved[str(event.kind)] = event.value
        return resolved

    def touched(self, after: int) -> set[str]:
        """Every sample that an event with offset > `after` speaks of, undo included."""
        return {e.sample_id for e in self._events[after:] if e.sample_id}

    def history(self, sample_id: str) -> list[Event]:
        """Every event that ever spoke of a sample, undone ones and undos included, oldest first."""
        return [e for e in self._events if e.sample_id == sample_id]

    def registered_fields(self) -> list[Field]:
        """The attributes registered so far: for each name the newest registration that stands."""
        fields: dict[str, Field] = {}
        for event in self._events:
            if event.type is EventType.FIELD and event.id not in self._undone:
                name = str(event.kind)
                fields[name] = Field(name, FieldType(event.value["type"]), event.value.get("description", ""))
        return list(fields.values())

    def last_group(self) -> list[Event]:
        """The events of the newest act that still stands and is no undo: what a bare `undo` compensates."""
        for event in reversed(self._events):
            if event.type not in (EventType.UNDO, EventType.FIELD) and event.id not in self._undone:
                return [e for e in self._events if e.group == event.group and e.id not in self._undone]
        return []
