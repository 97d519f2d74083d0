"""The append-only ledger: hash-chained segments of events in the object store.

Segment n is the object `ledger/<20-digit n>.jsonl`, written with put-if-absent, so of all writers exactly one makes it.
Its first line is a header that names the digest of segment n-1; each further line is one event. An event's offset is
its position in the whole ledger, from 1; "up to offset L" means the first L events. Nothing is ever rewritten.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any

from refinery.digests import canonical_json, digest
from refinery.errors import ConflictError, CorruptionError, InputError
from refinery.ledger.checked import (
    eval_event,
    feedback_event,
    flag_event,
    policy_event,
    snapshot_event,
    tag_event,
    unflag_events,
    view_event,
)
from refinery.ledger.events import RECORDS, Actor, ActorKind, Event, EventType, fresh_id
from refinery.ledger.selection import Selection, parse_actor, undo_events
from refinery.ledger.view import EventLog, LedgerView
from refinery.store import ObjectStore
from refinery.store.bulk import get_many

__all__ = [
    "RECORDS",
    "Actor",
    "ActorKind",
    "Event",
    "EventType",
    "Ledger",
    "LedgerView",
    "Selection",
    "eval_event",
    "feedback_event",
    "flag_event",
    "parse_actor",
    "policy_event",
    "segment_key",
    "snapshot_event",
    "tag_event",
    "unflag_events",
    "view_event",
]

FORMATS = ("refinery.ledger/1", "refinery.ledger/2")
_SINCE_2 = frozenset({EventType.UNFLAG, EventType.EVAL, EventType.FEEDBACK, *RECORDS})
_MOST_TRIES = 10_000


class Ledger:
    """The ledger of one store. Reading catches up with other writers at every call; appending is safe among many."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self._log = EventLog()
        self._segments = 0
        self._last_digest: str | None = None
        self._ends: list[tuple[int, str]] = []

    @property
    def offset(self) -> int:
        """The offset of the newest event (0: the ledger is empty)."""
        self._catch_up()
        return len(self._log.events)

    @property
    def moving_offset(self) -> int:
        """The offset of the newest event that can move a verdict: what a verdict state is compared with."""
        return self.view().moving_offset

    def events(self, *, after: int = 0, upto: int | None = None) -> Sequence[Event]:
        """Events with `after` < offset ≤ `upto` (None: the newest), in order."""
        self._catch_up()
        return self._log.events[after : len(self._log.events) if upto is None else upto]

    def view(self, upto: int | None = None) -> LedgerView:
        """What stands on every sample at offset `upto` (None: now). InputError when the ledger is not that long."""
        self._catch_up()
        if upto is not None and not 0 <= upto <= len(self._log.events):
            raise InputError(
                f"The ledger ends at offset {len(self._log.events)}: there is no offset {upto}. `refinery log` lists the offsets.",
                kind="no_such_offset",
            )
        return LedgerView(self._log, upto)

    def append(self, events: Iterable[Event]) -> list[Event]:
        """Append events as one act, durably and all or none; they come back with their offsets.

        An event whose id the ledger already holds is not appended again (the call may be repeated after a crash).
        """
        pending = list(events)
        group, write_id = fresh_id(), fresh_id()
        for _ in range(_MOST_TRIES):
            self._catch_up()
            fresh = [e for e in pending if e.id not in self._log.by_id]
            if fresh:
                first = len(self._log.events) + 1
                placed = [e.at(first + i, group) for i, e in enumerate(fresh)]
                data = self._segment(placed, write_id)
                if not self.store.put_if_absent(segment_key(self._segments + 1), data):
                    continue
                self._extend(placed, data)
            if len(fresh) < len(
                pending
            ):  # some were there: perhaps their writer died before they were durable
                self.store.settle(segment_key(self._segments))
            return sorted((self._log.by_id[i] for i in {e.id for e in pending}), key=lambda e: e.offset)
        raise ConflictError(
            "The ledger's end moved too often: other writers never paused. Try again.", kind="ledger_busy"
        )

    def find(self, event_id: str) -> Event:
        """The event with this id, or with the only id that starts so. InputError when there is none or several."""
        return self.view().find(event_id)

    def undo(self, targets: Sequence[Event], actor: Actor, reason: str | None = None) -> list[Event]:
        """Compensate events: they stand no longer, and stay in the ledger. An undo can itself be undone."""
        return self.append(undo_events(self.view(), targets, actor, reason))

    def segment_at(self, offset: int) -> tuple[int, str | None]:
        """The number of the segment that holds the event at `offset`, and the digest of its bytes; (0, None) at offset 0.

        InputError when the ledger is not that long.
        """
        self._catch_up()
        if offset == 0:
            return 0, None
        at = bisect_left(self._ends, (offset, ""))
        if at == len(self._ends):
            raise InputError(
                f"The ledger ends at offset {len(self._log.events)}: there is no offset {offset}.",
                kind="no_such_offset",
            )
        return at + 1, self._ends[at][1]

    def verify(self) -> int:
        """Read the whole chain anew; the number of segments. CorruptionError names the first bad one."""
        fresh = Ledger(self.store)
        fresh._catch_up()
        return fresh._segments

    def _segment(self, events: Sequence[Event], write_id: str) -> bytes:
        header: dict[str, Any] = {
            "format": _format(events),
            "segment": self._segments + 1,
            "previous": self._last_digest,
            "first_offset": events[0].offset,
            "events": len(events),
            "write_id": write_id,
        }
        return b"\n".join([canonical_json(header), *(e.line() for e in events)]) + b"\n"

    def _catch_up(self) -> None:
        ahead = 1
        while True:
            first = self._segments + 1
            for data in get_many(self.store, map(segment_key, range(first, first + ahead))):
                if data is None:
                    return
                self._accept(data)
            ahead = min(2 * ahead, self.store.concurrency)

    def _accept(self, data: bytes) -> None:
        number = self._segments + 1
        lines = data.split(b"\n")
        try:
            header = json.loads(lines[0])
            events = list(map(Event.from_json, json.loads(b"[" + b",".join(lines[1:-1]) + b"]")))
        except ValueError as error:
            raise CorruptionError(
                f"Ledger segment {number} is damaged: {error}.", kind="damaged_segment"
            ) from None
        if header.get("format") not in FORMATS:
            raise CorruptionError(
                f"Ledger segment {number} has format {header.get('format')!r}; this version reads {' and '.join(FORMATS)}.",
                kind="unknown_format",
            )
        offsets = [e.offset for e in events]
        first = len(self._log.events) + 1
        if (
            header["segment"] != number
            or header["previous"] != self._last_digest
            or not header["events"] == len(events) == len(lines) - 2
            or offsets != list(range(first, first + len(events)))
            or lines[-1] != b""
            or header["format"] < _format(events)
        ):
            raise CorruptionError(
                f"Ledger segment {number} does not continue segment {number - 1}: the chain is broken.",
                kind="broken_chain",
            )
        self._extend(events, data)

    def _extend(self, events: Sequence[Event], segment: bytes) -> None:
        self._log.extend(events)
        self._segments += 1
        self._last_digest = digest(segment)
        self._ends.append((len(self._log.events), self._last_digest))


def segment_key(number: int) -> str:
    """The key of segment `number`, from 1."""
    return f"ledger/{number:020d}.jsonl"


def _format(events: Iterable[Event]) -> str:
    """The oldest format that has words for these events: who reads only that one can still read them."""
    new = any(e.type in _SINCE_2 or e.actor.kind is ActorKind.USER for e in events)
    return FORMATS[new]
