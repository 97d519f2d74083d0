"""Facts as canonical rows: what a lock says of a file of facts, whatever bytes some Parquet writer made of it.

The digest of a row is over its columns in order of name, each as name and value (see docs/formats.md); the root of a file
is that of a set of rows, as for verdict states. Successes never change; another fact may be replaced by a better one, so it
is kept in the lock as it was. A file with more facts than were locked is as good as the one that was there.
"""

from __future__ import annotations

import io
import struct
from base64 import b64decode, b64encode
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from blake3 import blake3

from refinery.digests import digest
from refinery.errors import CorruptionError
from refinery.facts import OUTCOME, TAKEN_DOWN, encode
from refinery.states.merkle import set_digest

_UNREADABLE = (pa.ArrowException, OSError, ValueError, KeyError, TypeError)
_WIDTHS = {"int32": "<i8", "int64": "<i8", "uint64": "<u8", "double": "<f8", "float": "<f4", "bool": "<u1"}


@dataclass(frozen=True, slots=True)
class LockedFacts:
    """What a lock says of one file of facts.

    `digest` and `version` (the store's token) are those of the file when it was locked. `root` is that of the `rows`
    successes there were among the samples of the batch; `present` says of which of them, in order of id: None for all, else a
    Base64 bitmap, most significant bit first. `others` are the outcomes of the samples without success.
    """

    digest: str
    version: str
    rows: int
    root: str
    present: str | None = None
    others: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, data: bytes, version: str, samples: Sequence[str], key: str) -> LockedFacts:
        """Lock the facts of a file, of the samples of its batch (in order of id). CorruptionError for no Parquet."""
        table = read_facts(data, key)
        good, others = _parted(table, samples)
        ids: list[str] = good["sample_id"].to_pylist()
        have = set(ids)
        present = np.array([i in have for i in samples], bool)
        bitmap = None if present.all() else b64encode(np.packbits(present).tobytes()).decode()
        return cls(digest(data), version, len(ids), _root(ids, row_digests(good)), bitmap, others)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def ids(self, samples: Sequence[str]) -> list[str]:
        """Those of the batch's samples (in order of id) of which there was a success."""
        if self.present is None:
            return list(samples)
        bits = np.unpackbits(np.frombuffer(b64decode(self.present), np.uint8), count=len(samples))
        return [i for i, bit in zip(samples, bits, strict=True) if bit]

    def damage(
        self, data: bytes, samples: Sequence[str], key: str, removed: Mapping[str, str] | None = None
    ) -> str | None:
        """What is wrong with the file as it is now, in a sentence; None when every locked fact is as it was.

        `removed` has the row digests of facts that were taken down since.
        """
        if digest(data) == self.digest:
            return None
        gone = removed or {}
        try:
            table = read_facts(data, key)
            wanted = self.ids(samples)
            good, others = _parted(table, samples)
            rows = dict(zip(good["sample_id"].to_pylist(), row_digests(good), strict=True))
            rows |= {i: bytes.fromhex(d) for i, d in gone.items()}
            lost = [i for i in wanted if i not in rows]
            if lost:
                return f"Facts {key} are damaged: {len(lost)} that were there are missing, the first of sample {lost[0]}."
            if _root(wanted, [rows[i] for i in wanted]) != self.root:
                return (
                    f"Facts {key} are damaged: their rows do not have the root {self.root} that was locked."
                )
            for sample_id, then in self.others.items():
                if sample_id not in rows and not _no_worse(others.get(sample_id), then):
                    return f"Facts {key} are damaged: the outcome of sample {sample_id} is not the one that was locked."
            grown = bool(gone) or set(rows) != set(wanted) or others != self.others
            if not grown or (
                pq.ParquetFile(io.BytesIO(data)).metadata.created_by == _writer() and encode(table) != data
            ):
                return f"Facts {key} are damaged: these are not the bytes that were written, though their rows are."
        except CorruptionError as error:
            return str(error)
        except _UNREADABLE as error:
            return f"Facts {key} are damaged, they cannot be read: {error}"
        return None

    def then(self, table: pa.Table, samples: Sequence[str]) -> pa.Table:
        """Of the facts of now, undamaged, those there were when it was locked, in order of sample id."""
        good = table.filter(pc.is_in(table["sample_id"], pa.array(self.ids(samples), pa.string())))
        rest = pa.Table.from_pylist(
            [{"sample_id": i, **outcome} for i, outcome in self.others.items()], schema=OUTCOME
        )
        padded = pa.table(
            [rest[f.name] if f.name in OUTCOME.names else pa.nulls(len(rest), f.type) for f in table.schema],
            schema=table.schema,
        )
        return pa.concat_tables([good, padded]).sort_by("sample_id")


def read_facts(data: bytes, key: str) -> pa.Table:
    """The rows of a file of facts. CorruptionError when it is none."""
    try:
        table = pq.read_table(io.BytesIO(data))
        table.validate(full=True)
        if not set(OUTCOME.names) <= set(table.column_names):
            raise ValueError(f"it lacks columns of {OUTCOME.names}")
    except _UNREADABLE as error:
        raise CorruptionError(
            f"Facts {key} are damaged, they cannot be read: {error}", kind="damaged_facts"
        ) from None
    return table


def withdrawn(data: bytes, key: str, sample_ids: Collection[str]) -> tuple[bytes | None, dict[str, str]]:
    """A file of facts without what was found out about some samples, and the digests of the rows that were successes; (None,
    {}) when it has nothing of them. Of the inspection a failure stays, `taken_down`, so that it is not tried again; nothing
    follows a failed inspection, so of other steps no row stays. Failures are as they were, but for those to be tried again."""
    table = read_facts(data, key)
    inspected = key.split("/")[1] == "inspect"
    good = pc.is_null(table["reason"])
    chosen = pc.and_(
        pc.is_in(table["sample_id"], pa.array(sorted(sample_ids), pa.string())),
        pc.or_(good, table["retryable"]) if inspected else good,
    )
    mine = table.filter(chosen)
    if not len(mine):
        return None, {}
    kept = table.filter(pc.invert(chosen))
    if inspected:
        outcome: dict[str, Any] = {"reason": TAKEN_DOWN, "retryable": False}
        rows = [{"sample_id": i, **outcome} for i in mine["sample_id"].to_pylist()]
        kept = pa.concat_tables([kept, pa.Table.from_pylist(rows, schema=table.schema)]).sort_by("sample_id")
    successes = mine.filter(pc.is_null(mine["reason"]))
    removed = zip(successes["sample_id"].to_pylist(), row_digests(successes), strict=True)
    return encode(kept), {i: row.hex() for i, row in removed}


def row_digests(table: pa.Table) -> list[bytes]:
    """The 32-byte digest of each row, column by column. Types: strings, binary, numbers, booleans, lists of float32."""
    columns = []
    for name in sorted(table.column_names):
        head = name.encode()
        columns.append([struct.pack("<Q", len(head)) + head] * len(table))
        columns.append(_values(table[name].combine_chunks()))
    return [blake3(b"".join(parts)).digest() for parts in zip(*columns, strict=True)]


def _values(array: pa.Array) -> list[bytes]:
    """Each value as bytes: 0x00 for null, else 0x01 and the value; what varies in length begins with its length."""
    kind = array.type
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        plain = array.cast(pa.binary()).to_pylist()
        return [b"\0" if v is None else b"\1" + struct.pack("<Q", len(v)) + v for v in plain]
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    present = array.drop_null()
    if pa.types.is_fixed_size_list(kind):
        count, dtype = kind.list_size, _WIDTHS[str(kind.value_type)]
        body = present.flatten().to_numpy(zero_copy_only=False).astype(dtype).reshape(len(present), count)
        head = b"\1" + struct.pack("<Q", count)
    else:
        body = present.to_numpy(zero_copy_only=False).astype(_WIDTHS[str(kind)]).reshape(len(present), 1)
        head = b"\1"
    data, width = np.ascontiguousarray(body).tobytes(), body.shape[1] * body.itemsize
    pieces = (head + data[at : at + width] for at in range(0, len(present) * width, width))
    return [next(pieces) if v else b"\0" for v in valid]


def _parted(table: pa.Table, samples: Sequence[str]) -> tuple[pa.Table, dict[str, dict[str, Any]]]:
    """The successes among a batch's samples in order of id, and the outcomes of the others."""
    mine = table
    if table["sample_id"].to_pylist() != list(samples):
        mine = table.filter(pc.is_in(table["sample_id"], pa.array(list(samples), pa.string()))).sort_by(
            "sample_id"
        )
    good = pc.is_null(mine["reason"])
    rest = mine.select(OUTCOME.names).filter(pc.invert(good)).to_pylist()
    return (mine.filter(good) if rest else mine), {row.pop("sample_id"): row for row in rest}


def _no_worse(now: dict[str, Any] | None, then: dict[str, Any]) -> bool:
    return now == then or (now is not None and bool(then["retryable"]) and not now["retryable"])


def _root(ids: Sequence[str], rows: Sequence[bytes]) -> str:
    return set_digest([bytes.fromhex(i) for i in ids], rows).hex()


def _writer() -> str:
    sink = io.BytesIO()
    pq.write_table(pa.table({}), sink)
    return str(pq.ParquetFile(sink).metadata.created_by)
