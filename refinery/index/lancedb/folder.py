"""The folder of a LanceDB index: which tables there are, which of them answers, and whose turn it is to write.

state.json       the table that answers, the one being built to replace it, their positions, the greatest sequence given
documents-*      tables; one that was replaced stays for `KEPT`, because a reader may hold it
documents-*.own  locked for as long as the replacement that builds the table lives
deleted.arrow    which samples were deleted within `REMEMBERED`, and with which sequence
writer.lock      writers take turns, across threads and processes; readers never wait
"""

from __future__ import annotations

import fcntl
import json
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from refinery.digests import canonical_json
from refinery.errors import CorruptionError

KEPT = timedelta(minutes=10)
REMEMBERED = timedelta(hours=24)
_INDEX_CACHE, _METADATA_CACHE, _READ_AHEAD = 256 << 20, 64 << 20, 64 << 20
"""Bytes: LanceDB's own bounds are 6 GiB, 1 GiB and 2 GiB, and a scan is no quicker for them."""
_DELETED = pa.schema([("sample_id", pa.string()), ("sequence", pa.int64())])


@dataclass(slots=True)
class Generation:
    """A table of documents, what it was projected from, and the sequence that this was recorded with."""

    table: str
    position: dict[str, Any] = field(default_factory=dict)
    sequence: int = 0


@dataclass(slots=True)
class State:
    """What state.json says. `retired` holds tables that no longer answer, with the time (Unix seconds) they ceased to."""

    current: Generation | None = None
    building: Generation | None = None
    sequence: int = 0
    retired: dict[str, float] = field(default_factory=dict)

    def take(self, sequence: int | None = None) -> int:
        """`sequence`, or without one the next: microseconds since 1970, or one more than any given before."""
        if sequence is None:
            sequence = max(self.sequence + 1, time.time_ns() // 1000)
        self.sequence = max(self.sequence, sequence)
        return sequence


class Folder:
    """The tables in `path`. Nothing is created before the first write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: Any = None

    def read(self) -> State:
        """The state of now. A table that is gone takes its position with it, but not the sequence."""
        try:
            raw = json.loads((self.path / "state.json").read_text(encoding="utf-8"))
            for name in ("current", "building"):
                found = raw[name] and Generation(**raw[name])
                raw[name] = found if found and (self.path / f"{found.table}.lance").is_dir() else None
            return State(**raw)
        except FileNotFoundError:
            return State()
        except (ValueError, TypeError, KeyError) as error:
            raise self.unreadable(error) from None

    @contextmanager
    def writing(self) -> Iterator[State]:
        """The writer's turn: the state, which is stored again when it was changed. A dead replacement is dropped first."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "writer.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = self.read()
            before = asdict(state)
            try:
                if state.building and not self._is_owned(state.building.table):
                    self.drop(state.building.table)
                    state.building = None
                yield state
            finally:
                if asdict(state) != before:
                    self._store("state.json", canonical_json(asdict(state)))

    @contextmanager
    def owning(self, table: str) -> Iterator[None]:
        """Until the block ends or the process dies, the table being built is known to be wanted."""
        self.path.mkdir(parents=True, exist_ok=True)
        path = self.path / f"{table}.own"
        with path.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    def _is_owned(self, table: str) -> bool:
        try:
            with (self.path / f"{table}.own").open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def open(self, table: str) -> Any:
        """A table as it is now; the handle goes on seeing just that, and what is written through it."""
        try:
            return self.connect().open_table(table)
        except (OSError, RuntimeError, ValueError) as error:
            raise self.unreadable(error) from None

    def create(self, schema: pa.Schema) -> tuple[str, Any]:
        """A new, empty table, and its name."""
        name = f"documents-{uuid.uuid4().hex}"
        return name, self.connect().create_table(name, schema=schema)

    def drop(self, table: str) -> None:
        """Remove a table that nobody reads."""
        self.connect().drop_table(table, ignore_missing=True)
        (self.path / f"{table}.own").unlink(missing_ok=True)

    def sweep(self, state: State) -> None:
        """Remove every table that neither answers nor is being built, once readers have had time to let go of it."""
        now = time.time()
        state.retired = {n: at for n, at in state.retired.items() if now - at < KEPT.total_seconds()}
        named = {g.table for g in (state.current, state.building) if g}
        for table in self.connect().list_tables().tables:
            if table not in named and table not in state.retired:
                self.drop(table)

    def deleted_after(self, sequence: int) -> pa.Array:
        """The samples that were deleted with a greater sequence (and within `REMEMBERED`)."""
        deleted = self._deleted()
        return deleted.filter(pc.greater(deleted["sequence"], sequence))["sample_id"].combine_chunks()

    def note_deleted(self, sample_ids: Sequence[str], sequence: int) -> None:
        """Remember that these samples were deleted, and forget those whose time is over."""
        fresh = pa.table([pa.array(sample_ids, pa.string()), [sequence] * len(sample_ids)], schema=_DELETED)
        newest = (
            pa.concat_tables([self._deleted(), fresh])
            .group_by("sample_id")
            .aggregate([("sequence", "max")])
            .rename_columns({"sequence_max": "sequence"})
            .select(_DELETED.names)
        )
        horizon = time.time_ns() // 1000 - REMEMBERED // timedelta(microseconds=1)
        kept = newest.filter(pc.greater_equal(newest["sequence"], min(horizon, sequence)))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, _DELETED) as writer:
            writer.write_table(kept)
        self._store("deleted.arrow", sink.getvalue())

    def _deleted(self) -> pa.Table:
        try:
            return pa.ipc.open_file(pa.memory_map(str(self.path / "deleted.arrow"))).read_all()
        except FileNotFoundError:
            return _DELETED.empty_table()
        except pa.ArrowInvalid as error:
            raise self.unreadable(error) from None

    def connect(self) -> Any:
        """The connection to the folder, made at first use."""
        if self._connection is None:
            os.environ.setdefault("LANCE_LOG", "error")
            os.environ.setdefault("LANCE_DEFAULT_IO_BUFFER_SIZE", str(_READ_AHEAD))
            import lancedb

            self.path.mkdir(parents=True, exist_ok=True)
            session = lancedb.Session(_INDEX_CACHE, _METADATA_CACHE)
            self._connection = lancedb.connect(str(self.path), session=session)
        return self._connection

    def unreadable(self, error: Exception) -> CorruptionError:
        return CorruptionError(
            f"The index {self.path} cannot be read ({error}): delete the folder and run `refinery rebuild-index`.",
            kind="index_unreadable",
        )

    def _store(self, name: str, data: Any) -> None:
        scratch = self.path / f"{name}-{uuid.uuid4().hex}.tmp"
        try:
            with scratch.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(self.path / name)
        finally:
            with suppress(FileNotFoundError):
                scratch.unlink()
