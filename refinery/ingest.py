"""Bronze: stage what a source has that was not staged yet (cheap, writes listings), then land it (reads every byte).

Both moments may be killed at any point and repeated: every write is put-if-absent, a batch's id is the digest of its
listing, and batch.json comes last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from refinery.batches import (
    Batches,
    BatchReport,
    Listing,
    Unreadable,
    landed_key,
    listing_key,
    manifest_bytes,
    manifest_key,
    manifest_report,
)
from refinery.blobs import Put, put_chunks
from refinery.digests import canonical_json, digest_json
from refinery.errors import ConfigError, InputError
from refinery.fields import Fields
from refinery.progress import NullProgress, Progress
from refinery.sources import Source, check_source_name
from refinery.sources.entries import Entry, Piece, PieceError
from refinery.sources.objects import Objects
from refinery.sources.origins import Outcome, Tally, file_extension, was_refused
from refinery.sources.reading import Job, PieceReader, reading_order
from refinery.sources.sidecars import SIDECAR_CAP, parse_sidecar
from refinery.sources.uris import is_object
from refinery.store import ObjectStore
from refinery.tombstones import Tombstones

_LASTING = ("truncated_tar", "damaged_tar", "changed")


@dataclass(frozen=True, slots=True)
class StagedBatch:
    """A batch that waits for landing: its id, its source, its number of entries, and of files and members to read."""

    batch: str
    source: str
    entries: int
    files: int


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What one ingest came to: the batches it landed, and how many entries had been staged before (`unchanged`)."""

    source: str
    unchanged: int
    batches: tuple[BatchReport, ...]

    @property
    def totals(self) -> dict[str, int]:
        """The batches' counts summed (`samples`, `new`, `known`… are distinct within a batch, not across)."""
        names = (
            *("entries", "origins", "samples", "new", "known", "over_cap"),
            *("sidecars", "payloads", "bytes"),
        )
        sums = {name: sum(getattr(report, name) for report in self.batches) for name in names}
        sums["unreadable"] = sum(len(report.unreadable) for report in self.batches)
        sums["ignored"] = sum(sum(report.ignored.values()) for report in self.batches)
        return sums

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "unchanged": self.unchanged,
            "totals": self.totals,
            "batches": [report.to_json() for report in self.batches],
        }


@dataclass(frozen=True, slots=True)
class _Keep:
    """Where bytes are kept, and which are not."""

    store: ObjectStore
    max_bytes: int
    refused: frozenset[str]

    def __call__(self, chunks: Iterable[bytes]) -> Put:
        return put_chunks(self.store, chunks, max_bytes=self.max_bytes, refused=self.refused)


def stage(store: ObjectStore, fields: Fields, source: Source, *, batch_size: int) -> list[StagedBatch]:
    """List `source` and write as batches of at most `batch_size` entries what no batch of that source name lists yet.

    Returns the batches it staged; an unchanged source stages nothing. Entries that are merely ignored never make a batch
    of their own: they go into the last one. Raises what `Source.entries` raises, before anything is written.
    """
    return _stage(store, fields, source, batch_size)[0]


def land(
    store: ObjectStore, fields: Fields, batch: str, *, max_bytes: int, progress: Progress | None = None
) -> BatchReport:
    """Read every entry of a staged batch, store its bytes as blobs, and write its manifest.

    A sample of more than `max_bytes` is digested but not kept, nor is one that was taken down, with what is attached to it.
    What cannot be read is in the report with its reason.
    Landing a landed batch changes nothing and returns the report of then. Raises InputError(kind="no_such_batch").
    """
    progress = progress or NullProgress()
    batches = Batches(store)
    if batches.is_landed(batch):
        return batches.info(batch)
    listing = batches.listing(batch)
    outcomes = _read(store, listing, max_bytes, progress)
    tally = Tally(fields, outcomes)
    for entry in listing.entries:
        tally.add(entry)
    report = tally.report(batch, listing.source, listing.kind, listing.path)
    if not store.put_if_absent(manifest_key(batch), manifest_bytes(tally.rows, report)):
        found = manifest_report(batch, store.get(manifest_key(batch)))
        kept = found.samples - found.over_cap
        new = min(report.new, kept)
        report = replace(found, new=new, known=kept - new)
    report = replace(report, ingested_at=datetime.now(UTC).isoformat())
    store.put_if_absent(landed_key(batch), canonical_json(report.to_json()))
    return batches.info(batch)


def ingest(
    store: ObjectStore,
    fields: Fields,
    source: Source,
    *,
    batch_size: int,
    max_bytes: int,
    progress: Progress | None = None,
) -> IngestReport:
    """Stage `source`, then land all of its batches that have not landed. See `stage` and `land`."""
    progress = progress or NullProgress()
    staged, unchanged = _stage(store, fields, source, batch_size)
    batches = Batches(store)
    files = {item.batch: item.files for item in staged}
    earlier = [batch for batch in batches.staged(source.name) if batch not in files]
    waiting = {batch: len(_jobs(batches.listing(batch))) for batch in earlier} | files
    progress.start(sum(waiting.values()), "files")
    try:
        part = _Part(progress)
        reports = tuple(land(store, fields, batch, max_bytes=max_bytes, progress=part) for batch in waiting)
    finally:
        progress.done()
    return IngestReport(source.name, unchanged, reports)


def _stage(
    store: ObjectStore, fields: Fields, source: Source, batch_size: int
) -> tuple[list[StagedBatch], int]:
    check_source_name(source.name)
    if batch_size < 1:
        raise InputError(f"A batch of {batch_size} entries is none: use 1 or more.", kind="bad_batch_size")
    seen = Batches(store).listed(source.name)
    fresh: list[Entry] = []
    ignored: list[Entry] = []
    unchanged = 0
    for entry in source.entries(fields, store.url):
        name = digest_json(entry.to_json())
        if name in seen:
            unchanged += 1
            continue
        seen.add(name)
        (ignored if entry.ignored else fresh).append(entry)
    staged = []
    for start in range(0, len(fresh), batch_size):
        entries = fresh[start : start + batch_size]
        last = start + batch_size >= len(fresh)
        listing = Listing(
            source.name,
            source.kind,
            source.uri,
            (*entries, *(ignored if last else ())),
            source.connection,
        )
        store.put_if_absent(listing_key(listing.batch), listing.to_bytes())
        staged.append(StagedBatch(listing.batch, source.name, len(entries), len(_jobs(listing))))
    return staged, unchanged


def _jobs(listing: Listing) -> dict[Job, None]:
    """The pieces a listing needs read, each once: (piece, whether as a sidecar)."""
    jobs: dict[Job, None] = {}
    for entry in listing.entries:
        if entry.piece is None:
            continue
        jobs[entry.piece, False] = None
        jobs.update(((piece, True), None) for piece in entry.sidecars)
        jobs.update(((payload.piece, False), None) for payload in entry.payloads)
    return jobs


def _read(store: ObjectStore, listing: Listing, max_bytes: int, progress: Progress) -> dict[Job, Outcome]:
    jobs = _jobs(listing)
    objects = Objects(listing.connection)
    refused = Tombstones(store).refused()
    keep = _Keep(store, max_bytes, refused)
    outcomes: dict[Job, Outcome] = {}
    progress.start(len(jobs), "files")
    pool = ThreadPoolExecutor(store.concurrency, thread_name_prefix="land")
    try:
        for part in _parts(listing, outcomes) if refused else (jobs,):
            units = reading_order(part)
            for future in as_completed([pool.submit(_read_unit, keep, objects, unit) for unit in units]):
                done = future.result()
                outcomes.update(done)
                progress.advance(len(done), bytes=sum(o.bytes for o in done.values() if isinstance(o, Put)))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        progress.done()
    if is_object(listing.path):
        _check_access(listing, outcomes)
    return outcomes


def _parts(listing: Listing, outcomes: Mapping[Job, Outcome]) -> Iterator[dict[Job, None]]:
    """The pieces of a listing in two goes: the samples, then what is attached to those that were not refused."""
    samples: dict[Job, None] = {(entry.piece, False): None for entry in listing.entries if entry.piece}
    yield samples
    kept = replace(
        listing,
        entries=tuple(
            e for e in listing.entries if e.piece and not was_refused(outcomes.get((e.piece, False)))
        ),
    )
    yield {job: None for job in _jobs(kept) if job not in samples}


def _check_access(listing: Listing, outcomes: dict[Job, Outcome]) -> None:
    """ConfigError when every object of a batch was denied: that is no matter of one object, and must not be recorded as
    if it were, because what is recorded is not read again."""
    denied = [o for o in outcomes.values() if isinstance(o, Unreadable) and o.reason == "permission_denied"]
    if outcomes and len(denied) == len(outcomes):
        raise ConfigError(
            f"{listing.path}: these credentials may list the objects but read none of the {len(denied)} of this batch: "
            "the policy must allow s3:GetObject on them. Nothing was landed; the batch waits.",
            kind="access_denied",
        )


def _read_unit(keep: _Keep, objects: Objects, unit: Iterable[Job]) -> dict[Job, Outcome]:
    outcomes: dict[Job, Outcome] = {}
    broken: PieceError | None = None
    with PieceReader(objects) as reader:
        for piece, sidecar in unit:
            try:
                if broken:
                    raise broken
                chunks = reader.chunks(piece)
                outcomes[piece, sidecar] = _read_sidecar(keep, piece, chunks) if sidecar else keep(chunks)
            except PieceError as error:
                outcomes[piece, sidecar] = Unreadable(piece.uri, error.kind, str(error))
                if piece.packed and error.kind in _LASTING:
                    broken = error
    return outcomes


def _read_sidecar(keep: _Keep, piece: Piece, chunks: Iterable[bytes]) -> Outcome:
    """A sidecar's values; as a blob when it is too large or holds no JSON object, so that nothing is lost."""
    rest = iter(chunks)
    data = b""
    for chunk in rest:
        data += chunk
        if len(data) > SIDECAR_CAP:
            return keep(chain([data], rest))
    values = parse_sidecar(file_extension(piece.uri), data)
    return keep([data]) if values is None else values


class _Part:
    """Progress of one batch within an ingest that has announced the whole."""

    def __init__(self, whole: Progress) -> None:
        self.advance = whole.advance

    def start(self, total: int | None, unit: str) -> None: ...

    def done(self) -> None: ...
