"""Events in Arrow columns: a long past in little memory, found by id and by sample, made into events when asked for."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from refinery.digests import canonical_json
from refinery.ledger.events import Actor, ActorKind, Event, EventType

Rows = NDArray[np.int64]
_WORDS = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [
        pa.field("id", pa.binary(16), nullable=False),
        pa.field("sample_id", pa.binary(32)),
        pa.field("type", _WORDS, nullable=False),
        pa.field("actor", _WORDS, nullable=False),
        pa.field("kind", _WORDS),
        pa.field("group", _WORDS, nullable=False),
        pa.field("time", pa.string(), nullable=False),
        pa.field("value", pa.string()),
        pa.field("confidence", pa.string()),
        pa.field("evidence", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("cause", pa.string()),
        pa.field("target", pa.string()),
    ]
)
_AT_ONCE = 1 << 16


def columns_of(events: Sequence[Event]) -> pa.Table:
    """Events in the columns of SCHEMA, one row each; their offsets are left out.

    ValueError for what no column holds: an id that is not 32 lower-case hex digits, a sample id that is not 64.
    """
    spoken = [e.sample_id is not None for e in events]
    samples = _binary(
        [e.sample_id or "" if said else "0" * 64 for e, said in zip(events, spoken, strict=True)], 32
    )
    columns = {
        "id": _binary([e.id for e in events], 16),
        "sample_id": samples if all(spoken) else pc.if_else(pa.array(spoken, pa.bool_()), samples, None),
        "type": _words([e.type for e in events]),
        "actor": _words([_actor_text(e.actor) for e in events]),
        "kind": _words([e.kind for e in events]),
        "group": _words([e.group for e in events]),
        "time": [e.time for e in events],
        "value": [None if e.value is None else _json(e.value) for e in events],
        "confidence": [None if e.confidence is None else _json(e.confidence) for e in events],
        "evidence": [None if e.evidence is None else _json(e.evidence) for e in events],
        "reason": [e.reason for e in events],
        "cause": [e.cause for e in events],
        "target": [e.target for e in events],
    }
    return pa.table([columns[f.name] for f in SCHEMA], schema=SCHEMA)


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Rows of several tables as one, in one piece and with one dictionary a column."""
    whole = pa.concat_tables(tables)
    pieces = max(column.num_chunks for column in whole.columns)
    return whole if pieces == 1 else whole.unify_dictionaries().combine_chunks()


def check_words(table: pa.Table) -> None:
    """An error when it holds a type or actor that is not known."""
    for piece in table["type"].chunks:
        {_TYPES[word] for word in piece.dictionary.to_pylist()}
    for piece in table["actor"].chunks:
        {_actor(word) for word in piece.dictionary.to_pylist()}


class Columns:
    """The events with the offsets 1 to `end`. Nothing in it changes; what was made into events once is kept.

    `upto` is an offset: later events are not there.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = joined([table])
        self.end: int = table.num_rows
        self._made: dict[int, Event] = {}
        self._histories: dict[str, list[Event]] = {}
        self._of_types: dict[frozenset[EventType], Rows] = {}

    def position(self, offset: int) -> int:
        """How many events have an offset of at most this."""
        return min(offset, self.end)

    def take(self, start: int, stop: int) -> list[Event]:
        """The events of these positions, from 0; they are not kept."""
        return list(self._read(start, max(0, stop - start)))

    def get(self, event_id: str, upto: int) -> Event | None:
        """The event with this id."""
        name = _raw(event_id, 16)
        rows = self._ids.rows(name).tolist() if name else []
        return self._events(rows[:1])[0] if rows and rows[0] < upto else None

    def holding(self, ids: Collection[str]) -> set[str]:
        """Which of these ids it holds."""
        return {self._id_at(int(row)) for row in self._ids.rows_of(_names(ids, 16))} & set(ids)

    def like(self, prefix: str, upto: int) -> list[str]:
        """The ids that start so."""
        digits = prefix[:16]
        if not set("0123456789abcdef").issuperset(digits):
            return []
        rows = self._ids.between(int(digits.ljust(16, "0"), 16), int(digits.ljust(16, "f"), 16))
        ids = map(self._id_at, rows[rows < upto].tolist())
        return [i for i in ids if i.startswith(prefix)]

    def history(self, sample_id: str, upto: int) -> list[Event]:
        """The events that speak of a sample, oldest first."""
        found = self._histories.get(sample_id)
        if found is None:
            name = _raw(sample_id, 32)
            found = self._events(self._samples.rows(name)) if name else []
            if found:
                self._histories[sample_id] = found
        return found if upto >= self.end else [e for e in found if e.offset <= upto]

    def recall(self, sample_ids: Collection[str]) -> None:
        """Make the histories of many samples at once: that is much quicker than one by one."""
        wanted = set(sample_ids) - self._histories.keys()
        rows = np.sort(self._samples.rows_of(_names(wanted, 32)))
        found: dict[str, list[Event]] = defaultdict(list)
        for start in range(0, len(rows), _AT_ONCE):
            for event in self._events(rows[start : start + _AT_ONCE]):
                if event.sample_id in wanted:
                    found[str(event.sample_id)].append(event)
        self._histories.update(found)

    def undos_of(self, event_id: str, upto: int) -> list[Event]:
        """The undos that target an event, oldest first."""
        rows = self._undos.get(event_id, ())
        return self._events([row for row in rows if row < upto])

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
        rows = np.arange(self.end) if types is None else self._of(types)
        rows = rows[rows < upto]
        if actor is not None:
            rows = rows[self._matches("actor", {_actor_text(actor)})[rows]]
        if group is not None:
            rows = rows[self._matches("group", {group})[rows]]
        if caused:
            rows = rows[pc.fill_null(pc.not_equal(self._table["cause"], ""), False).to_numpy()[rows]]
        return self._events(rows)

    def acts(self, prefix: str, upto: int) -> set[str]:
        """The acts whose id starts so."""
        codes, words = self._coded("group")
        return {words[code] for code in np.unique(codes[:upto]).tolist() if words[code].startswith(prefix)}

    def actors(self, upto: int) -> set[str]:
        """Who said anything, as `model blur-critic`."""
        codes, words = self._coded("actor")
        return {str(_actor(words[code])) for code in np.unique(codes[:upto]).tolist()}

    def touched(self, after: int, upto: int) -> set[str]:
        """The samples that events with `after` < offset ≤ `upto` speak of."""
        found = (
            self._table["sample_id"].slice(after, max(0, min(upto, self.end) - after)).unique().drop_null()
        )
        return {name.hex() for name in found.to_pylist()}

    def spoken_among(self, sample_ids: Collection[str]) -> set[str]:
        """Which of these samples any event speaks of."""
        rows = self._samples.rows_of(_names(sample_ids, 32))
        return {bytes(name).hex() for name in self._samples.raw[rows]} & set(sample_ids)

    def spoken_of(self) -> Iterator[str]:
        """The samples that any event speaks of, each once."""
        return (name.hex() for name in self._spoken.to_pylist())

    def columns(self, after: int, upto: int) -> pa.Table:
        """The events with `after` < offset ≤ `upto` in columns."""
        return self._table.slice(after, min(upto, self.end) - after)

    @property
    def samples(self) -> int:
        """How many samples its events speak of."""
        return len(self._spoken)

    @cached_property
    def _spoken(self) -> pa.Array:
        return self._table["sample_id"].unique().drop_null()

    @cached_property
    def _ids(self) -> _Names:
        return _Names(self._table["id"])

    @cached_property
    def _samples(self) -> _Names:
        return _Names(self._table["sample_id"])

    @cached_property
    def _undos(self) -> dict[str, list[int]]:
        rows = self._of(frozenset({EventType.UNDO}))
        found: dict[str, list[int]] = defaultdict(list)
        for row, target in zip(
            rows.tolist(), self._table["target"].take(_numbers(rows)).to_pylist(), strict=True
        ):
            if target:
                found[target].append(row)
        return dict(found)

    def _of(self, types: frozenset[EventType]) -> Rows:
        if types not in self._of_types:
            self._of_types[types] = np.flatnonzero(self._matches("type", {t.value for t in types}))
        return self._of_types[types]

    def _coded(self, name: str) -> tuple[NDArray[np.int32], list[str]]:
        """A column of words without nulls: the number of each row's word, and the words."""
        column = _piece(self._table[name])
        return values_of(column.indices, np.int32), column.dictionary.to_pylist()

    def _matches(self, name: str, wanted: set[str]) -> NDArray[np.bool_]:
        codes, words = self._coded(name)
        return np.isin(codes, [code for code, word in enumerate(words) if word in wanted])

    def _id_at(self, row: int) -> str:
        return bytes(self._ids.raw[row]).hex()

    def _events(self, rows: Sequence[int] | Rows) -> list[Event]:
        """The events of these rows, made now if they were not yet."""
        numbers: list[int] = [int(row) for row in rows]
        missing = [row for row in numbers if row not in self._made]
        if len(missing) == 1:
            self._made[missing[0]] = next(self._read(missing[0], 1))
        elif missing:
            taken = self._table.take(_numbers(missing))
            self._made.update(zip(missing, _made(taken, missing), strict=True))
        return [self._made[row] for row in numbers]

    def _read(self, start: int, count: int) -> Iterator[Event]:
        return _made(self._table.slice(start, count), range(start, start + count))


class _Names:
    """Where each name of a column of digests or ids is, by its first eight bytes."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        piece = _piece(column)
        self.raw = values_of(piece, np.uint8).reshape(-1, piece.type.byte_width)
        rows = np.flatnonzero(_is_valid(piece))
        keys = _first(self.raw)[rows]
        order = np.argsort(keys)
        self._keys, self._rows = keys[order], rows[order]

    def rows(self, name: bytes) -> Rows:
        """The rows that hold this name, in order."""
        key = int.from_bytes(name[:8], "big")
        found = self.between(key, key)
        same = (self.raw[found] == np.frombuffer(name, np.uint8)).all(axis=1)
        return np.sort(found[same])

    def between(self, first: int, last: int) -> Rows:
        """The rows whose first eight bytes, as a number, are within these bounds."""
        start = np.searchsorted(self._keys, np.uint64(first), "left")
        return self._rows[start : np.searchsorted(self._keys, np.uint64(last), "right")]

    def rows_of(self, names: NDArray[np.uint8]) -> Rows:
        """The rows that hold one of many names; perhaps a few others, whose names begin as theirs do."""
        keys = np.unique(_first(names))
        starts = np.searchsorted(self._keys, keys, "left")
        counts = np.searchsorted(self._keys, keys, "right") - starts
        skipped = np.cumsum(counts) - counts
        places = np.repeat(starts - skipped, counts) + np.arange(counts.sum())
        found: Rows = self._rows[places]
        return found


def values_of(piece: Any, kind: type[Any]) -> NDArray[Any]:
    """The values of an array of fixed width as NumPy numbers, nulls as whatever lies there; nothing is copied, and pandas,
    which `to_numpy` imports, is not needed."""
    start, end = (row * piece.type.byte_width for row in (piece.offset, piece.offset + len(piece)))
    return np.frombuffer(piece.buffers()[1] or b"", np.uint8)[start:end].view(kind)


def _is_valid(piece: Any) -> NDArray[np.bool_]:
    bits = piece.buffers()[0]
    if bits is None:
        return np.ones(len(piece), bool)
    return np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")[piece.offset :][
        : len(piece)
    ].astype(bool)


def _numbers(rows: Sequence[int] | Rows) -> Any:
    numbers = np.asarray(rows, np.int64)
    return pa.Array.from_buffers(pa.int64(), len(numbers), [None, pa.py_buffer(numbers)])


def _first(names: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The first eight bytes of each name as a number."""
    return np.ascontiguousarray(names[:, :8]).view(">u8")[:, 0].astype(np.uint64)


def _piece(column: pa.ChunkedArray) -> Any:
    """The only chunk of a column in one piece."""
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def _made(table: pa.Table, rows: Sequence[int]) -> Iterator[Event]:
    lists = [table[name].to_pylist() for name in SCHEMA.names]
    for row, (
        name,
        sample,
        kind_of,
        actor,
        kind,
        group,
        time,
        value,
        sure,
        evidence,
        reason,
        cause,
        target,
    ) in zip(rows, zip(*lists, strict=True), strict=True):
        yield Event(
            _TYPES[kind_of],
            _actor(actor),
            None if sample is None else sample.hex(),
            kind,
            None if value is None else json.loads(value),
            None if sure is None else json.loads(sure),
            reason,
            None if evidence is None else json.loads(evidence),
            cause,
            target,
            time,
            name.hex(),
            group,
            row + 1,
        )


_TYPES = {kind.value: kind for kind in EventType}


def _names(texts: Collection[str], width: int) -> NDArray[np.uint8]:
    """Names of `width` bytes each, one a row, of their hex digits; without those that are none."""
    raw = _raw_all(texts, width)
    if raw is None:
        raw = b"".join(filter(None, (_raw(text, width) for text in texts)))
    return np.frombuffer(raw, np.uint8).reshape(-1, width)


def _raw(text: str, width: int) -> bytes | None:
    """The bytes that 2 × `width` lower-case hex digits stand for; None for any other text."""
    return _raw_all([text], width) or None


def _raw_all(texts: Collection[str], width: int) -> bytes | None:
    """The bytes of many such names one after the other; None when one of them is none."""
    joined = "".join(texts)
    try:
        raw = bytes.fromhex(joined)
    except ValueError:
        return None
    return raw if raw.hex() == joined and {2 * width}.issuperset(map(len, texts)) else None


def _binary(texts: list[str], width: int) -> pa.Array:
    raw = _raw_all(texts, width)
    if raw is None:
        raise ValueError(f"an id that is not {2 * width} lower-case hex digits")
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(texts), [None, pa.py_buffer(raw)])


def _words(texts: Sequence[str | None]) -> pa.Array:
    return pa.array(texts, pa.string()).dictionary_encode()


def _json(value: Any) -> str:
    return canonical_json(value).decode()


@lru_cache(maxsize=10_000)
def _actor_text(actor: Actor) -> str:
    return _json({"kind": actor.kind.value, "name": actor.name})


@lru_cache(maxsize=10_000)
def _actor(text: str) -> Actor:
    raw = json.loads(text)
    return Actor(ActorKind(raw["kind"]), raw["name"])
