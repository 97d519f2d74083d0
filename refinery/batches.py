"""Batches in the store: what was staged, what landed, and where every sample was seen.

batches/<batch>/listing.json      staged: everything landing needs (written once, put-if-absent)
batches/<batch>/manifest.parquet  the origins, one row each; the landing's report is in its schema metadata
batches/<batch>/batch.json        written last: the batch has landed, and when
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pyarrow as pa

from refinery.digests import canonical_json, digest, digest_json
from refinery.errors import CorruptionError, InputError
from refinery.fields import to_utc
from refinery.parquet import GROUP_ROWS, rows_of
from refinery.recent import Recent
from refinery.sources.entries import Entry
from refinery.states.whereabouts import Whereabouts
from refinery.store import ObjectStore
from refinery.store.bulk import each, get_many

FORMAT = 1
_BATCH = re.compile(r"([a-z0-9][a-z0-9_-]{0,40})-([0-9a-f]{12})\Z")
REPORT = b"refinery.report"
MANIFESTS_KEPT = 256 << 20

PAYLOAD = pa.struct(
    [
        pa.field("name", pa.string()),
        pa.field("digest", pa.string()),
        pa.field("bytes", pa.int64()),
        pa.field("extension", pa.string()),
        pa.field("is_mask", pa.bool_()),
    ]
)
MANIFEST = pa.schema(
    [
        pa.field("sample_id", pa.string()),
        pa.field("uri", pa.string()),
        pa.field("source", pa.string()),
        pa.field("bytes", pa.int64()),
        pa.field("extension", pa.string()),
        pa.field("stored", pa.bool_()),
        pa.field("attributes", pa.string()),
        pa.field("extras", pa.string()),
        pa.field("payloads", pa.list_(PAYLOAD)),
    ]
)
"""The columns of manifest.parquet, sorted by (sample_id, uri)."""
ORIGINS = pa.schema(
    [*MANIFEST, pa.field("batch", pa.string()), pa.field("ingested_at", pa.timestamp("us", tz="UTC"))]
)
"""The columns of `Batches.origins`."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something listed that could not be read: a sample, sidecar, payload or folder; `reason` is a stable code."""

    uri: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Aside:
    """A key of sidecars or rows that went to extras: how often, why (see `Metadata`), and the closest registered field."""

    key: str
    why: str
    count: int
    hint: str = ""


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What landing a batch came to.

    entries = origins + the entries that were unreadable; `unreadable` also names sidecars and payloads. `samples` counts
    distinct ones: `new` (stored by this landing), `over_cap` (digested, not kept) and `known` (the store had them, or they
    were taken down).
    `bytes` is the size of all origins. `ignored` counts by reason.
    """

    batch: str
    source: str
    kind: str
    path: str
    entries: int = 0
    origins: int = 0
    samples: int = 0
    new: int = 0
    known: int = 0
    over_cap: int = 0
    sidecars: int = 0
    payloads: int = 0
    bytes: int = 0
    ignored: Mapping[str, int] = field(default_factory=dict)
    unreadable: tuple[Unreadable, ...] = ()
    aside: tuple[Aside, ...] = ()
    ingested_at: str = ""

    @property
    def unreadable_by_reason(self) -> dict[str, int]:
        return dict(sorted(Counter(u.reason for u in self.unreadable).items()))

    def to_json(self) -> dict[str, Any]:
        """The report as the object that batch.json holds."""
        return {"format": FORMAT, **asdict(self), "unreadable_by_reason": self.unreadable_by_reason}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> BatchReport:
        kept = {k: v for k, v in value.items() if k not in ("format", "unreadable_by_reason")}
        kept["unreadable"] = tuple(Unreadable(**u) for u in value["unreadable"])
        kept["aside"] = tuple(Aside(**a) for a in value["aside"])
        return cls(**kept)


@dataclass(frozen=True, slots=True)
class Listing:
    """What is to be landed as one batch. `connection` is how the S3 service of the source is reached (no secrets)."""

    source: str
    kind: str
    path: str
    entries: tuple[Entry, ...]
    connection: Mapping[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The canonical JSON of the listing: listing.json, whose digest names the batch."""
        return canonical_json(
            {
                "format": FORMAT,
                "source": self.source,
                "kind": self.kind,
                "path": self.path,
                "entries": [entry.to_json() for entry in self.entries],
                **({"connection": dict(self.connection)} if self.connection else {}),
            }
        )

    @property
    def batch(self) -> str:
        """The batch's id: `<source>-<first 12 hex digits of the listing's digest>`."""
        return f"{self.source}-{digest(self.to_bytes())[:12]}"


def listing_key(batch: str) -> str:
    return f"batches/{check_batch(batch)}/listing.json"


def manifest_key(batch: str) -> str:
    return f"batches/{check_batch(batch)}/manifest.parquet"


def landed_key(batch: str) -> str:
    return f"batches/{check_batch(batch)}/batch.json"


def check_batch(batch: str) -> str:
    """`batch` itself when it has the form of a batch id; InputError(kind="bad_batch") otherwise."""
    if not _BATCH.match(batch):
        raise InputError(f"{batch!r} is not a batch: expected SOURCE-<12 hex digits>.", kind="bad_batch")
    return batch


def source_of(batch: str) -> str:
    """The name of the source that a batch id begins with."""
    return check_batch(batch)[:-13]


class Batches:
    """The batches of a store (`only` these, when given). Opening reads nothing; batch.json files are read once each, listing
    the store every time."""

    def __init__(self, store: ObjectStore, only: Collection[str] | None = None) -> None:
        self._store = store
        self._only = None if only is None else frozenset(only)
        self._reports: dict[str, BatchReport] = {}
        self._manifests: Recent[bytes] = Recent(MANIFESTS_KEPT, len)
        self._whereabouts = Whereabouts(store)

    def staged(self, source: str | None = None) -> list[str]:
        """Ids of the batches that are staged and have not landed, in order of id; only those of `source` when given."""
        return [batch for batch in _waiting(self._found()) if source is None or source_of(batch) == source]

    def landed(self) -> list[str]:
        """Ids of the landed batches in the order they landed: by (ingested_at, id)."""
        return self._landed(self._found())

    def standing(self) -> tuple[list[str], list[str]]:
        """Those that landed and those that are staged, as `landed` and `staged` give them, of one moment."""
        found = self._found()
        return self._landed(found), _waiting(found)

    def _landed(self, found: Mapping[str, set[str]]) -> list[str]:
        done = [batch for batch, names in found.items() if "batch.json" in names]
        unread = [batch for batch in done if batch not in self._reports]
        for batch, data in zip(unread, get_many(self._store, map(landed_key, unread)), strict=True):
            self._take(batch, data)
        return sorted(done, key=lambda batch: (to_utc(self.info(batch).ingested_at), batch))

    def is_landed(self, batch: str) -> bool:
        return batch in self._reports or self._store.exists(landed_key(batch))

    def info(self, batch: str) -> BatchReport:
        """The report of a landed batch. InputError(kind="no_such_batch") when it has not landed."""
        if batch not in self._reports:
            found = self._store.get_with_etag(landed_key(batch))
            self._take(batch, found and found[0])
        return self._reports[batch]

    def _take(self, batch: str, data: bytes | None) -> None:
        if data is None:
            raise self._missing(batch, "has not landed")
        self._reports[batch] = _parse(batch, "batch.json", data)

    def listing(self, batch: str) -> Listing:
        """What a batch is to land, or landed.

        Raises InputError(kind="no_such_batch"), CorruptionError(kind="damaged_batch") when it is not what the id says.
        """
        value = self._listing(batch)
        entries = tuple(map(Entry.from_json, value["entries"]))
        connection = value.get("connection", {})
        return Listing(value["source"], value["kind"], value["path"], entries, connection)

    def listed(self, source: str) -> set[str]:
        """The digests (`digest_json` of their JSON) of all entries that a source's batches list, landed or not."""
        wanted = [
            batch
            for batch, names in self._found(source).items()
            if "listing.json" in names and source_of(batch) == source
        ]
        listings = each(self._store, self._listing, wanted)
        return {digest_json(entry) for listing in listings for entry in listing["entries"]}

    def origins(
        self,
        batches: Iterable[str] | None = None,
        columns: Sequence[str] | None = None,
        sample_ids: Collection[str] | None = None,
    ) -> pa.Table:
        """The origins of landed batches (None: all of them), batch after batch, as a table.

        `columns` is any subset of ORIGINS (None: all), `sample_ids` are the samples of interest (None: all).
        Raises InputError: "no_such_batch", "unknown_column".
        """
        wanted = list(ORIGINS.names if columns is None else columns)
        if unknown := [name for name in wanted if name not in ORIGINS.names]:
            raise InputError(
                f"Origins have no column {unknown[0]!r}; they have {', '.join(ORIGINS.names)}.",
                kind="unknown_column",
            )
        schema = pa.schema([ORIGINS.field(name) for name in wanted])
        chosen: Sequence[str] = list(self.landed() if batches is None else batches)
        ids = None if sample_ids is None else sorted(set(sample_ids))
        if ids is not None:
            chosen = self._whereabouts.narrow(chosen, ids)
        tables = list(each(self._store, lambda batch: self._table(batch, wanted, ids), chosen))
        return pa.concat_tables([schema.empty_table(), *tables]) if tables else schema.empty_table()

    def samples(self, batch: str) -> list[str]:
        """The distinct sample ids of a landed batch, in order."""
        return sorted(set(self.origins([batch], ["sample_id"])["sample_id"].to_pylist()))

    def _listing(self, batch: str) -> dict[str, Any]:
        found = self._store.get_with_etag(listing_key(batch))
        if found is None:
            raise self._missing(batch, "was not staged")
        if digest(found[0])[:12] != batch[-12:]:
            raise CorruptionError(
                f"Batch {batch!r}: listing.json has the digest {digest(found[0])[:12]}…, not the one in the batch's id.",
                kind="damaged_batch",
            )
        value: dict[str, Any] = json.loads(found[0])
        return value

    def _table(self, batch: str, wanted: Sequence[str], ids: list[str] | None) -> pa.Table:
        import pyarrow.parquet as pq

        report = self.info(batch)
        key = manifest_key(batch)
        path = self._store.local_path(key)
        source = pa.memory_map(str(path)) if path else pa.BufferReader(self._manifest(key))
        stored = [name for name in wanted if name in MANIFEST.names] or ["sample_id"]
        try:
            table = rows_of(pq.ParquetFile(source), ids, stored).replace_schema_metadata(None)
        except pa.ArrowInvalid as error:
            raise CorruptionError(
                f"Batch {batch!r}: {key} is damaged: {error}", kind="damaged_batch"
            ) from None
        added = {"batch": batch, "ingested_at": to_utc(report.ingested_at)}
        for name, value in added.items():
            if name in wanted:
                column = pa.repeat(pa.scalar(value, ORIGINS.field(name).type), len(table))
                table = table.append_column(ORIGINS.field(name), column)
        return table.select(list(wanted))

    def _manifest(self, key: str) -> bytes:
        """The bytes of a manifest, kept for the next time: they never change."""
        return self._manifests.get(key, lambda: self._store.get(key))

    def _found(self, source: str | None = None) -> dict[str, set[str]]:
        """The names of the objects of each batch (of a source, and of those its name begins)."""
        found: dict[str, set[str]] = {}
        for info in self._store.list(f"batches/{source}-" if source else "batches/"):
            _, batch, name = info.key.split("/", 2)
            if self._only is None or batch in self._only:
                found.setdefault(batch, set()).add(name)
        return found

    def _missing(self, batch: str, state: str) -> InputError:
        return InputError(
            f"Batch {batch!r} {state}: `refinery status` lists the batches there are.", kind="no_such_batch"
        )


def _waiting(found: Mapping[str, set[str]]) -> list[str]:
    """The batches that are staged and have not landed."""
    return [b for b, names in sorted(found.items()) if "listing.json" in names and "batch.json" not in names]


def manifest_bytes(rows: Iterable[Mapping[str, Any]], report: BatchReport) -> bytes:
    """manifest.parquet of origins and of the report that goes with them, without what depends on when it was landed.

    Equal rows give equal bytes under one version of pyarrow.
    """
    import pyarrow.parquet as pq

    ordered = sorted(rows, key=lambda row: (row["sample_id"], row["uri"], canonical_json(row)))
    lasting = replace(report, new=0, known=0, ingested_at="")
    schema = MANIFEST.with_metadata({REPORT: canonical_json(lasting.to_json())})
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pylist(ordered, schema)
    pq.write_table(table, sink, compression="zstd", row_group_size=GROUP_ROWS)
    return bytes(sink.getvalue())


def manifest_report(batch: str, data: bytes) -> BatchReport:
    """The report inside manifest.parquet (its `new` and `known` are 0)."""
    import pyarrow.parquet as pq

    metadata = pq.read_schema(pa.BufferReader(data)).metadata or {}
    return _parse(batch, "manifest.parquet", metadata.get(REPORT, b""))


def _parse(batch: str, name: str, data: bytes) -> BatchReport:
    try:
        return BatchReport.from_json(json.loads(data))
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptionError(
            f"Batch {batch!r}: {name} is damaged: {error!r}. Compare it with docs/formats.md.",
            kind="damaged_batch",
        ) from None
