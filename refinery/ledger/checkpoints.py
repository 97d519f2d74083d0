"""Checkpoints: what the segments say, in columns, so that a long ledger opens quickly.

A checkpoint is a projection of whole segments, tied to the chain by their digests. It is never the authority: one that is
missing, damaged, of an unknown format or of another chain is ignored, and the segments are read.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from refinery.digests import canonical_json, digest
from refinery.errors import CorruptionError
from refinery.ledger.columns import SCHEMA, Columns, check_words, joined, values_of
from refinery.ledger.log import EventLog
from refinery.ledger.segments import Chain, segment_key
from refinery.store import ObjectStore
from refinery.store.bulk import each, get_many

FORMAT = "refinery.checkpoint/1"
# a checkpoint is due when so many events or segments lie behind the last one
EVENTS_BEHIND = 1 << 13
SEGMENTS_BEHIND = 512
# so many neighbours of about one size become one: of n events there are about 7 log₈ n checkpoints
_MERGED = 8
_PREFIX = "checkpoints/"
_KEY = re.compile(_PREFIX + r"(\d{20})-(\d{20})-([0-9a-f]{64})\.arrow")
_HEADER = b"refinery.checkpoint"
_UNREADABLE = (ValueError, KeyError, TypeError, IndexError, OSError, pa.ArrowException)
_SEGMENTS = pa.schema(
    [pa.field("last_offset", pa.uint64(), nullable=False), pa.field("digest", pa.binary(32), nullable=False)]
)


def is_due(segments: int, events: int) -> bool:
    """Whether a checkpoint is due when so much lies behind the last one."""
    return segments >= SEGMENTS_BEHIND or events >= EVENTS_BEHIND


@dataclass(frozen=True, slots=True)
class Part:
    """A checkpoint by its key: it holds the events from `first` to `last`."""

    first: int
    last: int
    digest: str

    @property
    def key(self) -> str:
        return f"{_PREFIX}{self.first:020d}-{self.last:020d}-{self.digest}.arrow"

    @property
    def events(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True)
class Checkpoint:
    """Some segments in a row and their events. `previous` is the digest of the segment before them (None: there is none),
    `ends` and `digests` are those of a `Chain`."""

    first_segment: int
    previous: str | None
    ends: array[int]
    digests: bytes
    events: pa.Table

    @property
    def last_digest(self) -> str:
        return self.digests[-32:].hex()

    @property
    def next_segment(self) -> int:
        return self.first_segment + len(self.ends)

    def agrees(self, chain: Chain) -> bool:
        """Whether these segments are those of the chain."""
        before = self.first_segment - 1
        return (
            self.previous == chain.digest(before)
            and self.ends == chain.ends[before : before + len(self.ends)]
            and self.digests == chain.digests[32 * before : 32 * (before + len(self.ends))]
        )


class Checkpoints:
    """The checkpoints of one store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._ignored: set[Part] = set()  # what this process could not read or found wrong
        self._wrong: set[Part] = set()

    def open(self) -> tuple[Chain, EventLog]:
        """The chain and the events as far as checkpoints reach that continue each other and whose last segment is the
        ledger's."""
        read: dict[Part, Checkpoint] = {}
        while True:
            parts = self._parts()
            missing = [part for part in parts if part not in read]
            for part, found in zip(missing, each(self._store, self._read, missing), strict=True):
                if found is None:
                    self._ignored.add(part)
                else:
                    read[part] = found
            if self._ignored.isdisjoint(parts) and self._hold_together(
                [(part, read[part]) for part in parts]
            ):
                return _put_together([read[part] for part in parts])

    def write(self, chain: Chain, log: EventLog) -> None:
        """Write what lies behind the last checkpoint, when it is much; the small ones before it become one with it.

        A RefineryError or ValueError leaves the ledger as it was, without a checkpoint of its newest events.
        """
        for part in self._wrong:
            self._store.delete(part.key)
        self._wrong.clear()
        parts = self._parts()
        after = parts[-1].last if parts else 0
        before = chain.segment_of(after)
        unknown = after > chain.end or (before > 0 and chain.ends[before - 1] != after)
        if unknown or not is_due(len(chain) - before, chain.end - after):
            return
        merged: list[Checkpoint] = [_of_chain(chain, before, log.columns(after, chain.end))]
        first, count = after + 1, chain.end - after
        while len(near := _near(parts, count)) + 1 >= _MERGED:
            found = list(each(self._store, self._read, near))
            wrong = {part for part, c in zip(near, found, strict=True) if c is None or not c.agrees(chain)}
            if wrong:
                self._ignored |= wrong
                break
            merged = [*(c for c in found if c), *merged]
            parts = parts[: -len(near)]
            first, count = near[0].first, chain.end - near[0].first + 1
        whole = _merged(merged)
        data = _encoded(whole, first)
        part = Part(first, chain.end, digest(data))
        self._store.put_if_absent(part.key, data)
        for other in set(self._listed()) - self._ignored:
            if first <= other.first and other.last <= part.last and other != part:
                self._store.delete(other.key)

    def verify(self, chain: Chain, log: EventLog) -> None:
        """Compare every checkpoint with the segments. CorruptionError names the first that says something else."""
        for part in self._listed():
            [data] = get_many(self._store, [part.key])
            if data is None or part.last > chain.end:  # merged meanwhile, or newer than what was read
                continue
            try:
                same = digest(data) == part.digest
                found = _decoded(data, part) if same else None
                same = same and (found is None or _says(found, chain, log, part))
            except _UNREADABLE:
                same = False
            if not same:
                raise CorruptionError(
                    f"Ledger checkpoint {part.key} does not say what the segments say: delete it, it will be written anew.",
                    kind="damaged_checkpoint",
                )

    def _listed(self) -> list[Part]:
        found = [_KEY.fullmatch(info.key) for info in self._store.list(_PREFIX)]
        return [Part(int(m[1]), int(m[2]), m[3]) for m in found if m and int(m[1]) <= int(m[2])]

    def _parts(self) -> list[Part]:
        """The checkpoints that reach farthest without a gap from offset 1 on, and of those that do the fewest."""
        best: dict[int, list[Part]] = {}
        for part in sorted(set(self._listed()) - self._ignored, key=lambda p: (-p.first, p.last, p.digest)):
            chain = [part, *best.get(part.last + 1, ())]
            known = best.get(part.first)
            if known is None or (chain[-1].last, -len(chain)) > (known[-1].last, -len(known)):
                best[part.first] = chain
        return best.get(1, [])

    def _read(self, part: Part) -> Checkpoint | None:
        """The checkpoint, None when it is gone, damaged or of a format that is not known."""
        found = self._store.get_with_etag(part.key)
        if found is None:
            return None
        if digest(found[0]) != part.digest:
            self._wrong.add(part)
            return None
        try:
            return _decoded(found[0], part)
        except _UNREADABLE:
            return None

    def _hold_together(self, found: Sequence[tuple[Part, Checkpoint]]) -> bool:
        """Whether they continue each other, up to a segment that is there; if not, one that is wrong is ignored from now on."""
        for (_, before), (part, after) in pairwise(found):
            if (after.first_segment, after.previous) != (before.next_segment, before.last_digest):
                return self._leave_out(part)
        if not found:
            return True
        (first, oldest), (last, newest) = found[0], found[-1]
        if (oldest.first_segment, oldest.previous) != (1, None):
            return self._leave_out(first)
        segment = self._store.get_with_etag(segment_key(newest.next_segment - 1))
        if segment is None or digest(segment[0]) != newest.last_digest:
            return self._leave_out(last)
        return True

    def _leave_out(self, part: Part) -> bool:
        self._ignored.add(part)
        self._wrong.add(part)
        return False


def _level(events: int) -> int:
    return (events.bit_length() - 1) // 3


def _near(parts: Sequence[Part], events: int) -> list[Part]:
    """The newest checkpoints in a row that are about as small as one of so many events, or smaller."""
    start = len(parts)
    while start and _level(parts[start - 1].events) <= _level(events):
        start -= 1
    return list(parts[start:])


def _of_chain(chain: Chain, before: int, events: pa.Table) -> Checkpoint:
    """Of the segments after `before`, whose events these are."""
    return Checkpoint(
        before + 1, chain.digest(before), chain.ends[before:], bytes(chain.digests[32 * before :]), events
    )


def _merged(found: Sequence[Checkpoint]) -> Checkpoint:
    ends: array[int] = array("Q")
    for each_one in found:
        ends.extend(each_one.ends)
    return Checkpoint(
        found[0].first_segment,
        found[0].previous,
        ends,
        b"".join(c.digests for c in found),
        joined([c.events for c in found]),
    )


def _put_together(found: Sequence[Checkpoint]) -> tuple[Chain, EventLog]:
    chain = Chain()
    if not found:
        return chain, EventLog()
    whole = _merged(found)
    chain.ends, chain.digests = whole.ends, bytearray(whole.digests)
    past = Columns(whole.events)
    return chain, EventLog(past=past, limit=past.end)


def _says(found: Checkpoint, chain: Chain, log: EventLog, part: Part) -> bool:
    truth = log.columns(part.first - 1, part.last)
    return found.agrees(chain) and _plain(found.events).equals(_plain(truth))


def _plain(events: pa.Table) -> pa.Table:
    """Without dictionaries, whose order says nothing."""
    types = [t.value_type if pa.types.is_dictionary(t) else t for t in events.schema.types]
    return events.cast(pa.schema(list(zip(SCHEMA.names, types, strict=True)))).combine_chunks()


def _encoded(whole: Checkpoint, first: int) -> bytes:
    """Two Arrow streams one after the other: the segments, with the header in the schema's metadata, and the events."""
    header: dict[str, Any] = {
        "format": FORMAT,
        "first_offset": first,
        "events": whole.events.num_rows,
        "first_segment": whole.first_segment,
        "segments": len(whole.ends),
        "previous": whole.previous,
    }
    digests = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(32), len(whole.ends), [None, pa.py_buffer(whole.digests)]
    )
    ends = pa.array(np.frombuffer(whole.ends, np.uint64))
    schema = _SEGMENTS.with_metadata({_HEADER: canonical_json(header)})
    sink = pa.BufferOutputStream()
    for table in (pa.table([ends, digests], schema=schema), whole.events):
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
            writer.write_table(table)
    return bytes(sink.getvalue())


def _decoded(data: bytes, part: Part) -> Checkpoint | None:
    """What the bytes of a checkpoint hold, None when their format is not known. An error when they are no checkpoint, or
    of other events than their key says."""
    source = pa.BufferReader(data)
    segments = pa.ipc.open_stream(source)
    header = json.loads(segments.schema.metadata[_HEADER])
    if header["format"] != FORMAT:
        return None
    ends, digests = (column.chunk(0) for column in segments.read_all().combine_chunks().columns)
    events = pa.ipc.open_stream(source).read_all()
    check_words(events)
    found = Checkpoint(
        header["first_segment"],
        header["previous"],
        array("Q", values_of(ends, np.uint64).tobytes()),
        values_of(digests, np.uint8).tobytes(),
        events.select(SCHEMA.names),
    )
    stated = (header["first_offset"], header["events"], header["segments"], found.ends[-1])
    if stated != (part.first, events.num_rows, len(found.ends), part.last) or events.schema != SCHEMA:
        raise ValueError("it does not hold what its key says")
    return found
