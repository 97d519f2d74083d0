"""Facts: what the steps computed, in Parquet by step key and batch (`facts/<step>/<step_key>/<batch>.parquet`).

A fact is one row: success (`reason` null) or failure (a reason code, and whether the same call may succeed later).
A sample of several batches may have its fact in the file of any of them; readers take the union.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from refinery.digests import canonical_json, digest_json
from refinery.errors import ConflictError, InputError
from refinery.parquet import GROUP_ROWS, rows_of
from refinery.states.whereabouts import Whereabouts
from refinery.store import ObjectInfo, ObjectStore
from refinery.store.bulk import each, get_many
from refinery.store.ranges import ranged
from refinery.tombstones import Tombstones

OUTCOME = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("retryable", pa.bool_(), nullable=False),
    ]
)
TAKEN_DOWN = "taken_down"
"""The reason of facts about a sample that was taken down."""
_SWAPS = 100
_ASKED_FOR = 8
"""Up to so many files are asked for one by one, more by listing all of their step."""
FEW, SMALL = 100, 1 << 20
"""Of up to so many samples, files elsewhere of more bytes are read in parts."""


@dataclass(frozen=True)
class Step:
    """A pure per-sample computation. Equal keys mean equal facts; `columns` is the schema of the step's own columns."""

    name: str
    code_version: int
    params: dict[str, Any]
    model_digest: str | None = None
    columns: pa.Schema = field(default=pa.schema([]), compare=False, repr=False)

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def key(self) -> str:
        """The step key: 16 hex digits of the digest of name, code version, parameters and model digest."""
        return digest_json(self.to_json())[:16]

    @property
    def folder(self) -> str:
        """The key prefix of everything this step wrote, without a trailing slash."""
        return f"facts/{self.name}/{self.key}"

    @property
    def schema(self) -> pa.Schema:
        """The schema of the step's facts: the outcome, then its own columns (null on failure)."""
        return pa.schema([*OUTCOME, *self.columns])

    def to_json(self) -> dict[str, Any]:
        """What the step key is computed from."""
        return {
            "name": self.name,
            "code_version": self.code_version,
            "params": self.params,
            "model_digest": self.model_digest,
        }


class FactStore:
    """Facts of all steps in one object store."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self._whereabouts = Whereabouts(store)

    def write(self, step: Step, batch: str, table: pa.Table) -> bool:
        """Add facts (columns of `step.schema`, one row per sample, any order) to those of a batch.

        A fact that exists stays, unless it is a failure and the new one is a success (or no longer retryable). No success
        of a sample that was taken down is taken in. False: nothing new, nothing written. ConflictError when other writers
        keep winning.
        """
        table = pa.Table.from_batches(
            table.select(step.schema.names).cast(step.schema).to_batches(), schema=step.schema
        )
        self.store.put_if_absent(f"{step.folder}/step.json", canonical_json(step.to_json()))
        key = facts_key(step, batch)
        for _ in range(_SWAPS):
            found = self.store.get_with_etag(key)
            old = step.schema.empty_table() if found is None else pq.read_table(io.BytesIO(found[0]))
            # asked after the file was read: a takedown that is not seen here yet rewrites the file after this write
            merged = best_of(pa.concat_tables([old, self._allowed(table)]))
            if found is not None and merged.equals(old):
                return False
            try:
                self.store.put_if_match(key, encode(merged), None if found is None else found[1])
            except ConflictError:
                continue
            return True
        raise ConflictError(
            f"Facts {key!r} were rewritten {_SWAPS} times by others while this writer tried: "
            "is the same batch being materialized by many processes? Retry when they are done.",
            kind="busy_facts",
        )

    def read(
        self,
        step: Step,
        *,
        batches: Iterable[str] | None = None,
        sample_ids: Collection[str] | None = None,
        columns: Sequence[str] | None = None,
        best: bool = True,
    ) -> pa.Table:
        """Facts of a step, one row per sample, sorted by sample id.

        `batches` (all), `sample_ids` (all) and `columns` (all of `step.schema`) bound what is read and decoded.
        When a sample has facts in several files, a success wins, then a failure that is not retryable; without `best`
        all of its rows come, file by file.
        """
        wanted = list(columns) if columns is not None else step.schema.names
        needed = list(dict.fromkeys(["sample_id", "reason", "retryable", *wanted]))
        schema = pa.schema([step.schema.field(name) for name in needed])
        ids = None if sample_ids is None else sorted(set(sample_ids))
        if ids == []:
            return schema.empty_table().select(wanted)
        names: Sequence[str] = sorted(self.files(step) if batches is None else set(batches))
        if ids is not None:
            names = self._whereabouts.narrow(names, ids)
        parts = self._rows([facts_key(step, name) for name in names], ids, needed)
        rows = pa.concat_tables([schema.empty_table(), *parts])
        return (best_of(rows) if best else rows).select(wanted)

    def files(self, step: Step) -> dict[str, str]:
        """The batches a step has facts of, each with a token that changes when its facts do."""
        prefix = f"{step.folder}/"
        return {
            info.key[len(prefix) : -len(".parquet")]: info.version
            for info in self.store.list(prefix)
            if info.key.endswith(".parquet") and "/" not in info.key[len(prefix) :]
        }

    def missing(
        self, step: Step, batch: str, sample_ids: Iterable[str], others: Iterable[str] | None = None
    ) -> list[str]:
        """Those of `sample_ids` that `step` has still to compute, sorted: no fact yet, or a retryable failure.

        `others` are the other batches these samples are known to be in; None looks through all of the step's files.
        """
        wanted = sorted(set(sample_ids))
        batches = None if others is None else [batch, *others]
        found = self.read(
            step, batches=batches, sample_ids=wanted, columns=["sample_id", "reason", "retryable"]
        )
        settled = found.filter(pc.invert(found["retryable"]))["sample_id"]
        done = set(settled.to_pylist())
        return [sample_id for sample_id in wanted if sample_id not in done]

    def _allowed(self, table: pa.Table) -> pa.Table:
        """The facts but for successes of samples that were taken down."""
        refused = Tombstones(self.store).refused(table["sample_id"].to_pylist())
        mine = pc.is_in(table["sample_id"], pa.array(sorted(refused), pa.string()))
        return table.filter(pc.invert(pc.and_(mine, pc.is_null(table["reason"])))) if refused else table

    def _rows(self, keys: list[str], ids: list[str] | None, columns: list[str]) -> Iterator[pa.Table]:
        """The rows of these samples (None: all) in those of these files of one step that there are: mapped into memory on a
        local disk; from elsewhere read whole, or for a few samples what holds them."""
        if not keys:
            return
        if self.store.local_path(keys[0]) is None:
            found = self._parts(keys, ids, columns) if ids is not None and len(ids) <= FEW else None
            if found is not None:
                yield from found
                return
            for data in get_many(self.store, keys):
                if data is not None:
                    yield rows_of(pq.ParquetFile(io.BytesIO(data)), ids, columns)
            return
        for key in keys:
            with suppress(FileNotFoundError):
                yield rows_of(pq.ParquetFile(self.store.local_path(key), memory_map=True), ids, columns)

    def _parts(self, keys: list[str], ids: list[str], columns: list[str]) -> list[pa.Table] | None:
        """The rows of these samples, of large files without the rest of them; None when a file was rewritten meanwhile."""
        near = keys if len(keys) <= _ASKED_FOR else [f"{keys[0].rpartition('/')[0]}/"]

        def there() -> dict[str, ObjectInfo]:
            lists = each(self.store, lambda prefix: list(self.store.list(prefix)), near)
            known = {info.key: info for some in lists for info in some}
            return {key: known[key] for key in keys if key in known}

        def rows(info: ObjectInfo) -> pa.Table:
            small = info.bytes <= SMALL
            source = (
                io.BytesIO(self.store.get(info.key)) if small else ranged(self.store, info.key, info.bytes)
            )
            return rows_of(pq.ParquetFile(source, pre_buffer=not small), ids, columns)

        before = there()
        try:
            found = list(each(self.store, rows, before.values()))
        except (pa.ArrowException, OSError, InputError):  # of a file that has changed, which is seen next
            if before == there():
                raise
            return None
        return found if before == there() else None


def facts_table(step: Step, rows: dict[str, Any]) -> pa.Table:
    """A table of `step.schema` from columns (lists or arrays); columns left out are null, `retryable` false."""
    n = len(rows["sample_id"])
    defaults = {"retryable": [False] * n}
    arrays = [
        pa.array(rows.get(f.name, defaults.get(f.name, [None] * n)), f.type)
        if not isinstance(rows.get(f.name), pa.Array | pa.ChunkedArray)
        else rows[f.name]
        for f in step.schema
    ]
    return pa.table(arrays, schema=step.schema)


def best_of(table: pa.Table) -> pa.Table:
    """One row per sample, sorted by sample id: a success, else a settled failure, else the earliest row."""
    if table.num_rows == 0:
        return table
    rank = np.where(
        table["reason"].is_null().to_numpy(zero_copy_only=False),
        0,
        np.where(table["retryable"].to_numpy(zero_copy_only=False), 2, 1),
    )
    keys = pa.table(
        {"sample_id": table["sample_id"], "rank": rank, "row": np.arange(table.num_rows, dtype=np.int64)}
    )
    order = pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in keys.column_names])
    ids = table["sample_id"].take(order).combine_chunks()
    first = np.ones(len(ids), dtype=bool)
    first[1:] = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
    chosen = order.to_numpy()[first]
    if len(chosen) == table.num_rows and bool((chosen[1:] > chosen[:-1]).all()):
        return table
    return table.take(pa.array(chosen))


def encode(table: pa.Table) -> bytes:
    """The table as Parquet bytes: the same rows give the same bytes (with the same library version)."""
    sink = io.BytesIO()
    pq.write_table(
        table.combine_chunks(),
        sink,
        row_group_size=GROUP_ROWS,
        compression="zstd",
        use_dictionary=[
            n for n in ("reason", "detail", "format", "mode", "embedder", "kind") if n in table.schema.names
        ],
        write_statistics=["sample_id"] if "sample_id" in table.schema.names else False,
    )
    return sink.getvalue()


def facts_key(step: Step, batch: str) -> str:
    """The key of a step's facts of a batch."""
    return f"{step.folder}/{batch}.parquet"


def batch_of(key: str) -> str:
    """The batch whose facts an object holds."""
    return key.rsplit("/", 1)[1].removesuffix(".parquet")
