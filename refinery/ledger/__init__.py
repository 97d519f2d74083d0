"""The append-only ledger: hash-chained segments of events in the object store.

Segment n is the object `ledger/<20-digit n>.jsonl`, written with put-if-absent, so of all writers exactly one makes it.
Its first line is a header that names the digest of segment n-1; each further line is one event. An event's offset is
its position in the whole ledger, from 1; "up to offset L" means the first L events. Nothing is ever rewritten. Checkpoints
(see `refinery.ledger.checkpoints`) make opening quick; the segments alone are the truth.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress

from refinery.digests import digest
from refinery.errors import ConflictError, InputError, RefineryError
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
from refinery.ledger.checkpoints import Checkpoints, is_due
from refinery.ledger.events import RECORDS, Actor, ActorKind, Event, EventType, fresh_id
from refinery.ledger.log import EventLog
from refinery.ledger.segments import Chain, segment_key
from refinery.ledger.selection import Selection, parse_actor, undo_events
from refinery.ledger.view import LedgerView
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

_MOST_TRIES = 10_000


class Ledger:
    """The ledger of one store. Reading catches up with other writers at every call; appending is safe among many, be they
    threads that share one Ledger or other processes."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self._checkpoints = Checkpoints(store)
        self._chain, self._log = Chain(), EventLog()
        self._opened = False
        self._growing = threading.RLock()  # held while chain and log grow, never while a segment is written
        self._writing_checkpoint = threading.Lock()
        self._looked_at = 0, 0  # segments and offset when a checkpoint was last thought of

    @property
    def offset(self) -> int:
        """The offset of the newest event (0: the ledger is empty)."""
        return self._caught_up().end

    @property
    def moving_offset(self) -> int:
        """The offset of the newest event that can move a verdict: what a verdict state is compared with."""
        return self.view().moving_offset

    def events(self, *, after: int = 0, upto: int | None = None) -> Sequence[Event]:
        """Events with `after` < offset ≤ `upto` (None: the newest), in order; each is read when it is looked at."""
        log = self._caught_up()
        return log.between(after, log.end if upto is None else min(upto, log.end))

    def view(self, upto: int | None = None) -> LedgerView:
        """What stands on every sample at offset `upto` (None: now). InputError when the ledger is not that long."""
        log = self._caught_up()
        end = log.end
        if upto is not None and not 0 <= upto <= end:
            raise InputError(
                f"The ledger ends at offset {end}: there is no offset {upto}. `refinery log` lists the offsets.",
                kind="no_such_offset",
            )
        return LedgerView(log, end if upto is None else upto)

    def append(self, events: Iterable[Event]) -> list[Event]:
        """Append events as one act, durably and all or none; they come back with their offsets.

        An event whose id the ledger already holds is not appended again (the call may be repeated after a crash).
        """
        pending = {event.id: event for event in events}
        group, write_id = fresh_id(), fresh_id()
        for _ in range(_MOST_TRIES):
            with self._growing:
                log = self._caught_up()
                known = log.holding(pending)
                first, last = log.end + 1, len(self._chain)
            fresh = [e for i, e in pending.items() if i not in known]
            placed = [e.at(first + n, group) for n, e in enumerate(fresh)]
            if placed and not self._put(placed, last, write_id):
                continue
            if known:  # perhaps their writer died before they were durable
                self.store.settle(segment_key(len(self._chain)))
            self._note()
            found = [e for i in known if (e := log.get(i, log.end))]
            return sorted([*found, *placed], key=lambda e: e.offset)
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
        end = self._caught_up().end
        if offset > end:
            raise InputError(
                f"The ledger ends at offset {end}: there is no offset {offset}.",
                kind="no_such_offset",
            )
        number = self._chain.segment_of(offset)
        return number, self._chain.digest(number)

    def verify(self) -> int:
        """Read the whole chain anew, from the segments alone, and compare the checkpoints with it; the number of segments.
        CorruptionError names the first bad one."""
        fresh = Ledger(self.store)
        fresh._opened = True
        log = fresh._caught_up()
        self._checkpoints.verify(fresh._chain, log)
        return len(fresh._chain)

    def _put(self, placed: Sequence[Event], last: int, write_id: str) -> bool:
        """Write the segment after segment `last`. False: somebody else wrote it."""
        data = self._chain.segment_after(last, placed, write_id)
        if not self.store.put_if_absent(segment_key(last + 1), data):
            return False
        with self._growing:
            if len(self._chain) == last:  # else another thread has read it already
                self._chain.add(placed[-1].offset, digest(data))
                self._log.extend(placed)
        return True

    def _caught_up(self) -> EventLog:
        """The log with everything that is in the store by now."""
        with self._growing:
            if not self._opened:
                self._chain, self._log = self._checkpoints.open()
                self._looked_at = len(self._chain), self._chain.end
                self._opened = True
            ahead = 1
            while True:
                first = len(self._chain) + 1
                for data in get_many(self.store, map(segment_key, range(first, first + ahead))):
                    if data is None:
                        return self._log
                    self._log.extend(self._chain.accept(data))
                ahead = min(2 * ahead, self.store.concurrency)

    def _note(self) -> None:
        """Write a checkpoint when it is time. The act is done already: it does not fail because a checkpoint does."""
        segments, offset = self._looked_at
        due = is_due(len(self._chain) - segments, self._chain.end - offset)
        if not due or not self._writing_checkpoint.acquire(blocking=False):
            return
        try:
            with self._growing:
                chain, log = self._chain.copy(), self._log
                self._looked_at = len(chain), chain.end
            with suppress(RefineryError, ValueError):
                self._checkpoints.write(chain, log)
        finally:
            self._writing_checkpoint.release()
