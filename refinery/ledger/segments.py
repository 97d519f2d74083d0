"""The chain of segments: each is lines of canonical JSON, a header that names the digest of the one before, then events."""

from __future__ import annotations

import json
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any

from refinery.digests import canonical_json, digest
from refinery.errors import CorruptionError
from refinery.ledger.events import RECORDS, ActorKind, Event, EventType

FORMATS = ("refinery.ledger/1", "refinery.ledger/2")
_SINCE_2 = frozenset({EventType.UNFLAG, EventType.EVAL, EventType.FEEDBACK, *RECORDS})
_DIGEST = 32


def segment_key(number: int) -> str:
    """The key of segment `number`, from 1."""
    return f"ledger/{number:020d}.jsonl"


class Chain:
    """Where each segment of a ledger ends, and the digest of its bytes. It only grows."""

    def __init__(self) -> None:
        self.ends = array("Q")
        self.digests = bytearray()

    def __len__(self) -> int:
        """How many segments there are."""
        return len(self.ends)

    @property
    def end(self) -> int:
        """The offset of the newest event."""
        return self.ends[-1] if self.ends else 0

    def digest(self, number: int) -> str | None:
        """The digest of segment `number`, from 1; None for 0."""
        return bytes(self.digests[_DIGEST * (number - 1) : _DIGEST * number]).hex() if number else None

    def segment_of(self, offset: int) -> int:
        """The number of the segment that holds the event at `offset`, 0 for offset 0; beyond the end one too many."""
        return bisect_left(self.ends, offset) + 1 if offset else 0

    def add(self, end: int, digest: str) -> None:
        """One more segment, whose last event is at offset `end`."""
        self.ends.append(end)
        self.digests += bytes.fromhex(digest)

    def copy(self) -> Chain:
        """The chain as it is now."""
        same = Chain()
        same.ends, same.digests = self.ends[:], self.digests[:]
        return same

    def segment_after(self, number: int, events: Sequence[Event], write_id: str) -> bytes:
        """The bytes of the segment after segment `number`, of events that have their offsets."""
        header: dict[str, Any] = {
            "format": _format(events),
            "segment": number + 1,
            "previous": self.digest(number),
            "first_offset": events[0].offset,
            "events": len(events),
            "write_id": write_id,
        }
        return b"\n".join([canonical_json(header), *(e.line() for e in events)]) + b"\n"

    def accept(self, data: bytes) -> list[Event]:
        """Add the next segment as it was read; its events. CorruptionError when it is damaged or does not continue the chain."""
        number = len(self) + 1
        lines = data.split(b"\n")
        try:
            header = json.loads(lines[0])
            events = list(map(Event.from_json, json.loads(b"[" + b",".join(lines[1:-1]) + b"]")))
        except ValueError as error:
            raise CorruptionError(
                f"Ledger segment {number} is damaged: {error}.", kind="damaged_segment"
            ) from None
        header = header if isinstance(header, dict) else {}
        if header.get("format") not in FORMATS:
            raise CorruptionError(
                f"Ledger segment {number} has format {header.get('format')!r}; this version reads {' and '.join(FORMATS)}.",
                kind="unknown_format",
            )
        first = self.end + 1
        if (
            header.get("segment") != number
            or header.get("previous") != self.digest(number - 1)
            or not header.get("events") == len(events) == len(lines) - 2
            or [e.offset for e in events] != list(range(first, first + len(events)))
            or lines[-1] != b""
            or header["format"] < _format(events)
        ):
            raise CorruptionError(
                f"Ledger segment {number} does not continue segment {number - 1}: the chain is broken.",
                kind="broken_chain",
            )
        self.add(self.end + len(events), digest(data))
        return events


def _format(events: Iterable[Event]) -> str:
    """The oldest format that has words for these events: who reads only that one can still read them."""
    new = any(e.type in _SINCE_2 or e.actor.kind is ActorKind.USER for e in events)
    return FORMATS[new]
