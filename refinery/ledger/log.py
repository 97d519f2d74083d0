"""The events of a ledger so far and where to find them: a past that does not change, and what came after it."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from operator import attrgetter
from typing import Protocol, overload

import pyarrow as pa

from refinery.ledger.columns import columns_of, joined
from refinery.ledger.events import Actor, Event, EventType

_OFFSET = attrgetter("offset")
_AT_ONCE = 8192


class Past(Protocol):
    """Events that others are added to. `upto` is an offset: later events are not there."""

    def position(self, offset: int) -> int: ...
    def take(self, start: int, stop: int) -> list[Event]: ...
    def get(self, event_id: str, upto: int) -> Event | None: ...
    def holding(self, ids: Collection[str]) -> set[str]: ...
    def like(self, prefix: str, upto: int) -> list[str]: ...
    def history(self, sample_id: str, upto: int) -> list[Event]: ...
    def recall(self, sample_ids: Collection[str]) -> None: ...
    def undos_of(self, event_id: str, upto: int) -> list[Event]: ...
    def where(
        self,
        upto: int,
        *,
        types: frozenset[EventType] | None = None,
        actor: Actor | None = None,
        group: str | None = None,
        caused: bool = False,
    ) -> list[Event]: ...
    def acts(self, prefix: str, upto: int) -> set[str]: ...
    def actors(self, upto: int) -> set[str]: ...
    def touched(self, after: int, upto: int) -> set[str]: ...
    def spoken_among(self, sample_ids: Collection[str]) -> set[str]: ...
    def spoken_of(self) -> Iterator[str]: ...
    @property
    def samples(self) -> int: ...
    def columns(self, after: int, upto: int) -> pa.Table: ...


class EventLog:
    """A past up to offset `limit`, and the events after it, in order. It only grows, so views of it stay what they are."""

    def __init__(self, events: Sequence[Event] = (), past: Past | None = None, limit: int = 0) -> None:
        self._past, self._limit = past, limit
        self._before = past.position(limit) if past else 0
        self._events: list[Event] = []
        self._by_id: dict[str, Event] = {}
        self._by_sample: dict[str, list[Event]] = defaultdict(list)
        self._by_type: dict[EventType, list[Event]] = {kind: [] for kind in EventType}
        self._undos: dict[str, list[Event]] = defaultdict(list)
        self.extend(events)

    def extend(self, events: Sequence[Event]) -> None:
        """Add events that have their offsets. They can be found before `end` says that they are there."""
        for event in events:
            self._by_id[event.id] = event
            self._by_type[event.type].append(event)
            if event.sample_id:
                self._by_sample[event.sample_id].append(event)
            if event.type is EventType.UNDO and event.target:
                self._undos[event.target].append(event)
        self._events.extend(events)

    @property
    def end(self) -> int:
        """The offset of the newest event."""
        return self._events[-1].offset if self._events else self._limit

    def position(self, offset: int) -> int:
        """How many events have an offset of at most this."""
        if self._past and offset <= self._limit:
            return self._past.position(offset)
        return self._before + bisect_right(self._events, offset, key=_OFFSET)

    def take(self, start: int, stop: int) -> list[Event]:
        """The events of these positions, from 0."""
        own = self._events[max(0, start - self._before) : max(0, stop - self._before)]
        if self._past and start < self._before:
            return self._past.take(start, min(stop, self._before)) + own
        return own

    def between(self, after: int, upto: int) -> Sequence[Event]:
        """The events with `after` < offset ≤ `upto`, read when they are looked at."""
        return _Events(self, range(self.position(after), self.position(upto)))

    def get(self, event_id: str, upto: int) -> Event | None:
        """The event with this id."""
        event = self._by_id.get(event_id)
        if event is None and self._past:
            return self._past.get(event_id, min(upto, self._limit))
        return event if event and event.offset <= upto else None

    def holding(self, ids: Collection[str]) -> set[str]:
        """Which of these ids it holds."""
        own = {i for i in ids if i in self._by_id}
        return own | self._past.holding(ids) if self._past else own

    def like(self, prefix: str, upto: int) -> list[str]:
        """The ids that start so."""
        before = self._past.like(prefix, min(upto, self._limit)) if self._past else []
        return before + [e.id for e in self._upto(upto) if e.id.startswith(prefix)]

    def history(self, sample_id: str, upto: int) -> list[Event]:
        """The events that speak of a sample, oldest first."""
        own = [e for e in self._by_sample.get(sample_id, ()) if e.offset <= upto]
        return self._past.history(sample_id, min(upto, self._limit)) + own if self._past else own

    def recall(self, sample_ids: Collection[str]) -> None:
        """Make ready the histories of many samples at once: that is much quicker than one by one."""
        if self._past:
            self._past.recall(sample_ids)

    def undos_of(self, event_id: str, upto: int) -> list[Event]:
        """The undos that target an event, oldest first."""
        own = [e for e in self._undos.get(event_id, ()) if e.offset <= upto]
        return self._past.undos_of(event_id, min(upto, self._limit)) + own if self._past else own

    def where(
        self,
        upto: int,
        *,
        types: frozenset[EventType] | None = None,
        actor: Actor | None = None,
        group: str | None = None,
        caused: bool = False,
    ) -> list[Event]:
        """The events of these types, of this actor, of this act and (with `caused`) with a cause, oldest first."""
        before: list[Event] = []
        if self._past:
            before = self._past.where(
                min(upto, self._limit), types=types, actor=actor, group=group, caused=caused
            )
        if types is None:
            found = self._upto(upto)
        else:
            found = [e for kind in types for e in self._by_type[kind] if e.offset <= upto]
            found.sort(key=_OFFSET)
        return before + [
            e
            for e in found
            if (actor is None or e.actor == actor)
            and (group is None or e.group == group)
            and (e.cause or not caused)
        ]

    def acts(self, prefix: str, upto: int) -> set[str]:
        """The acts whose id starts so."""
        own = {e.group for e in self._upto(upto) if e.group.startswith(prefix)}
        return own | self._past.acts(prefix, min(upto, self._limit)) if self._past else own

    def actors(self, upto: int) -> set[str]:
        """Who said anything, as `model blur-critic`."""
        own = {str(e.actor) for e in self._upto(upto)}
        return own | self._past.actors(min(upto, self._limit)) if self._past else own

    def touched(self, after: int, upto: int) -> set[str]:
        """The samples that events with `after` < offset ≤ `upto` speak of."""
        first, last = (bisect_right(self._events, offset, key=_OFFSET) for offset in (after, upto))
        own = {e.sample_id for e in self._events[first:last] if e.sample_id}
        return own | self._past.touched(after, min(upto, self._limit)) if self._past else own

    def spoken_among(self, sample_ids: Collection[str]) -> set[str]:
        """Which of these samples any event speaks of."""
        own = {i for i in sample_ids if i in self._by_sample}
        return own | self._past.spoken_among(sample_ids) if self._past else own

    def spoken_of(self) -> Iterator[str]:
        """The samples that any event speaks of, each once."""
        if self._past:
            yield from self._past.spoken_of()
        yield from self._own_samples()

    @property
    def samples(self) -> int:
        """How many samples its events speak of."""
        return len(self._own_samples()) + (self._past.samples if self._past else 0)

    def columns(self, after: int, upto: int) -> pa.Table:
        """The events with `after` < offset ≤ `upto` in columns. ValueError for what no column holds."""
        own = columns_of(self.take(max(self.position(after), self._before), self.position(upto)))
        if self._past and after < self._limit:
            return joined([self._past.columns(after, min(upto, self._limit)), own])
        return own

    def _upto(self, offset: int) -> list[Event]:
        return self._events[: bisect_right(self._events, offset, key=_OFFSET)]

    def _own_samples(self) -> list[str]:
        """The samples that its past does not speak of."""
        own = list(self._by_sample)
        before = self._past.spoken_among(own) if self._past else ()
        return [i for i in own if i not in before]


class Spoken(Collection[str]):
    """The samples that a log speaks of."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def __len__(self) -> int:
        return self._log.samples

    def __contains__(self, sample_id: object) -> bool:
        return isinstance(sample_id, str) and bool(self._log.spoken_among((sample_id,)))

    def __iter__(self) -> Iterator[str]:
        return self._log.spoken_of()

    def among(self, sample_ids: Collection[str]) -> set[str]:
        """Which of these many samples it speaks of."""
        return self._log.spoken_among(sample_ids)


class _Events(Sequence[Event]):
    """Events of a log by position, a few thousand at a time in memory."""

    def __init__(self, log: EventLog, places: range) -> None:
        self._log, self._places = log, places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Event: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Event]: ...

    def __getitem__(self, index: int | slice) -> Event | Sequence[Event]:
        if isinstance(index, slice):
            places = self._places[index]
            return (
                _Events(self._log, places) if places.step == 1 else [self[i] for i in range(len(self))[index]]
            )
        place = self._places[index]
        return self._log.take(place, place + 1)[0]

    def __iter__(self) -> Iterator[Event]:
        for start in self._places[::_AT_ONCE]:
            yield from self._log.take(start, min(start + _AT_ONCE, self._places.stop))

    def __reversed__(self) -> Iterator[Event]:
        stop, at_once = self._places.stop, 16  # who goes backwards mostly stops soon
        while stop > self._places.start:
            start = max(stop - at_once, self._places.start)
            yield from reversed(self._log.take(start, stop))
            stop, at_once = start, min(2 * at_once, _AT_ONCE)
