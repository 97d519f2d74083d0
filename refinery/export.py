"""Exports: a snapshot and a recipe become shards, written by datago; the index is written last.

    exports/<snapshot>/<recipe digest>/<shard>           the shards
    exports/<snapshot>/<recipe digest>/records/<shard>.json   what was written, one per finished shard (resume token)
    exports/<snapshot>/<recipe digest>/index.json        everything, written last: the export is complete

A shard is a pure function of its samples' rows and the recipe, so a finished one is never written again, and one whose
inputs equal a shard of the parent version is taken from there.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

import datago
from refinery.blobs import blob_key, spool
from refinery.digests import canonical_json, digest_file, digest_json
from refinery.errors import ConfigError, ConflictError, CorruptionError, InputError, TransientError
from refinery.export_index import (
    ShardRecord,
    export_index,
    export_prefix,
    histogram,
    left_out,
    parse_index,
    pieces,
    record_key,
    shard_findings,
)
from refinery.progress import NullProgress, Progress
from refinery.snapshots import Snapshot, Snapshots
from refinery.states.rows import row_digests
from refinery.store import ObjectStore
from refinery.store.fresh import touch
from refinery.tombstones import Tombstones

_MOST_TRIES = 10
_EXTENSIONS = {"jpeg": "jpg", "tiff": "tif"}


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export did: shards written now, taken from the parent version, and found finished; and where the time went."""

    snapshot: str
    split: str | None
    recipe: str
    prefix: str
    shards: int
    samples: int
    bytes: int
    written: int
    reused: int
    found: int
    buckets: dict[str, int]
    stages: datago.Stages = field(default_factory=datago.Stages, compare=False)


def parse_recipe(raw: dict[str, Any]) -> datago.Recipe:
    """A recipe from configuration; ConfigError for an unknown or bad key."""
    try:
        return datago.Recipe.from_dict(raw)
    except datago.ConfigError as error:
        raise ConfigError(str(error), kind="bad_recipe") from None


def parse_export(raw: dict[str, Any]) -> tuple[datago.Recipe, str | None]:
    """A recipe from configuration, and the split that it is for; ConfigError for an unknown or bad key."""
    split = raw.get("split")
    return parse_recipe({k: v for k, v in raw.items() if k != "split"}), None if split is None else str(split)


@dataclass(frozen=True, slots=True)
class Layout:
    """The shards of an export: how samples are spread over them, the names of the payloads that all have columns of, and
    for each shard, by name, the digest of all it is a function of."""

    plans: list[datago.ShardPlan]
    payloads: list[str]
    inputs: dict[str, str]


def planned(
    rows: pa.Table, recipe: datago.Recipe, taken_down: Collection[str] = (), recipe_digest: str | None = None
) -> Layout:
    """The layout of a snapshot's rows under a recipe. Writes nothing.

    Without samples that were taken down, which are in none of its shards; all other shards are what they would be with them.
    `recipe_digest`: of an export of a former version of the encoder, which had another one.
    """
    digest = recipe_digest or recipe.digest
    ids, all_payloads = rows["sample_id"].to_pylist(), rows["payloads"].to_pylist()
    digests = dict(zip(ids, row_digests(rows), strict=True))
    whole = datago.plan(ids, rows["width"].to_pylist(), rows["height"].to_pylist(), recipe)
    plans = [left for plan in whole if (left := _left(plan, recipe, set(taken_down))).sample_ids]
    payloads = sorted({p["name"] for text in all_payloads if text != "[]" for p in json.loads(text)})
    inputs = {
        p.name: digest_json([digest, p.name, payloads, [digests[i].hex() for i in p.sample_ids]])
        for p in plans
    }
    return Layout(plans, payloads, inputs)


def _left(plan: datago.ShardPlan, recipe: datago.Recipe, taken_down: set[str]) -> datago.ShardPlan:
    """A shard without the samples that were taken down, under a name of its own: the other one stays until its index goes."""
    gone = sorted(taken_down.intersection(plan.sample_ids))
    if not gone:
        return plan
    left = tuple(i for i in plan.sample_ids if i not in taken_down)
    stem = plan.name.removesuffix(f".{recipe.extension}")
    return datago.ShardPlan(f"{stem}.{digest_json(gone)[:8]}.{recipe.extension}", plan.bucket, left)


def export_record(store: ObjectStore, row: dict[str, Any]) -> datago.Record:
    """A sample as datago takes it, from its row in a snapshot: its bytes and its payloads' are blobs of the store."""
    payloads = [
        datago.Payload(p["name"], p["extension"], store.address(blob_key(p["digest"])), p["is_mask"])
        for p in json.loads(row["payloads"])
    ]
    extension = _EXTENSIONS.get(row["format"], row["format"])
    image = store.address(blob_key(row["sample_id"]))
    return datago.Record(row["sample_id"], image, extension, row["attributes"].encode(), payloads)


@dataclass(frozen=True, slots=True)
class _Writing:
    """How the shards of one export are written. All have the columns of all the snapshot's payloads."""

    recipe: datago.Recipe
    payloads: list[str]
    threads: int

    def write(
        self, target: str | datago.S3Object, plan: datago.ShardPlan, records: list[datago.Record]
    ) -> datago.ShardResult:
        """Write one shard; what datago raises, as our errors."""
        try:
            return datago.write_shard(
                target, plan, records, self.recipe, threads=self.threads, payload_names=self.payloads
            )
        except datago.StorageError as error:
            raise TransientError(f"Shard {plan.name} was not written: {error}", kind=error.kind) from error
        except datago.ConfigError as error:
            raise ConfigError(f"Shard {plan.name} was not written: {error}", kind=error.kind) from error
        except datago.InputError as error:
            raise InputError(f"Shard {plan.name} was not written: {error}", kind=error.kind) from error


class Exporter:
    """Exports the snapshots of one store."""

    def __init__(self, store: ObjectStore, snapshots: Snapshots) -> None:
        self._store = store
        self._snapshots = snapshots
        self._tombstones = Tombstones(store)

    def export(
        self,
        snapshot: Snapshot,
        recipe: datago.Recipe,
        *,
        split: str | None = None,
        workers: int = 1,
        progress: Progress | None = None,
    ) -> ExportReport:
        """Write what is missing of an export, of a whole snapshot or of one of its splits. Any number of workers, any interruption before: the same bytes.

        Samples that were taken down are left out, and shards that hold one are replaced. ConflictError when samples are
        being taken down all the time, InputError when it has no such split.
        """
        table = self._snapshots.rows(snapshot, split)
        ids = table["sample_id"].to_pylist()
        for _ in range(_MOST_TRIES):
            gone = self._tombstones.gone(ids)
            report, records = self._shards(
                snapshot, recipe, split, table, gone, workers, progress or NullProgress()
            )
            # asked again once all shards are written: a takedown since may have removed some of them
            if self._tombstones.gone(ids) == gone:
                index = export_index(snapshot, recipe, records, gone, split)
                self._publish(report.prefix, canonical_json(index), records, gone)
                return report
        raise ConflictError(
            f"Samples of {snapshot.ref} were taken down while it was exported, again and again: export it once that is done.",
            kind="export_busy",
        )

    def _shards(
        self,
        snapshot: Snapshot,
        recipe: datago.Recipe,
        split: str | None,
        table: pa.Table,
        gone: Collection[str],
        workers: int,
        progress: Progress,
    ) -> tuple[ExportReport, list[ShardRecord]]:
        """Write the shards that are missing, each with its record; the records of all, in order of name."""
        prefix = export_prefix(snapshot, recipe, split)
        where = {i: n for n, i in enumerate(table["sample_id"].to_pylist())}
        layout = planned(table, recipe, gone)
        plans, payloads, inputs = layout.plans, layout.payloads, layout.inputs
        settled = self._store.get_with_etag(f"{prefix}/index.json")
        again = settled is None or left_out(settled[0]) != sorted(gone)
        found = {p.name: r for p in plans if (r := self._record(prefix, p.name, again=again)) is not None}
        older = self._parent_records(snapshot, recipe, split)
        progress.start(len(where) - len(gone), "samples")
        progress.advance(sum(r.samples for r in found.values()))

        def make(plan: datago.ShardPlan) -> tuple[ShardRecord, datago.Stages | None]:
            old = older.get(inputs[plan.name])
            if old is not None and self._take_over(old, prefix, plan.name):
                record, stages = old[1], None
            else:
                rows = table.take([where[i] for i in plan.sample_ids]).to_pylist()
                records = [export_record(self._store, row) for row in rows]
                writing = _Writing(recipe, payloads, threads=0 if workers == 1 else 1)
                record, stages = self._write(prefix, plan, records, writing, inputs[plan.name])
            self._store.put_if_absent(record_key(prefix, plan.name), canonical_json(asdict(record)))
            progress.advance(record.samples, record.bytes)
            return record, stages

        with ThreadPoolExecutor(workers) as pool:
            made = list(pool.map(make, [p for p in plans if p.name not in found]))
        progress.done()
        records = sorted([*found.values(), *(r for r, _ in made)], key=lambda r: r.name)
        spent = [stages for _, stages in made if stages is not None]
        report = ExportReport(
            snapshot=snapshot.ref,
            split=split,
            recipe=recipe.digest,
            prefix=prefix,
            shards=len(records),
            samples=sum(r.samples for r in records),
            bytes=sum(r.bytes for r in records),
            written=len(spent),
            reused=len(made) - len(spent),
            found=len(found),
            buckets=histogram(records),
            stages=sum(spent, datago.Stages()),
        )
        return report, records

    def _publish(self, prefix: str, data: bytes, records: list[ShardRecord], gone: Collection[str]) -> None:
        """Write the index; of other samples taken down than these one is replaced, and what it alone named is removed."""
        key = f"{prefix}/index.json"
        found = None if self._store.put_if_absent(key, data) else self._store.get_with_etag(key)
        if found is not None and left_out(found[0]) != sorted(gone):
            self._store.put_if_match(key, data, found[1])
        elif not gone:
            return
        named = {
            key,
            *(f"{prefix}/{r.name}" for r in records),
            *(record_key(prefix, r.name) for r in records),
        }
        for info in list(self._store.list(f"{prefix}/")):
            if info.key not in named:
                self._store.delete(info.key)

    def exports(self, snapshot: Snapshot) -> Iterator[dict[str, Any]]:
        """The indexes of a snapshot's complete exports."""
        for info in self._store.list(f"exports/{snapshot.ref}/"):
            if info.key.endswith("/index.json"):
                yield parse_index(self._store.get(info.key), info.key)

    def verify(self, index: dict[str, Any]) -> Iterator[str]:
        """Read every shard of an export again; yields a sentence for each that is missing or damaged."""
        for shard in index["files"]:
            yield from shard_findings(self._store, f"{index['prefix']}/{shard['name']}", {shard["digest"]})

    def _write(
        self,
        prefix: str,
        plan: datago.ShardPlan,
        records: list[datago.Record],
        writing: _Writing,
        inputs: str,
    ) -> tuple[ShardRecord, datago.Stages]:
        target = self._store.address(f"{prefix}/{plan.name}")
        if isinstance(target, str):
            Path(target).parent.mkdir(parents=True, exist_ok=True)
        result = writing.write(target, plan, records)
        if result.failures:
            sample_id, reason, detail = result.failures[0]
            raise CorruptionError(
                f"{len(result.failures)} samples of shard {plan.name} could not be exported; the first is {sample_id}: "
                f"{reason} ({detail}). Run `refinery snapshot verify` and flag or restore them.",
                kind="unexportable_sample",
            )
        bucket = list(plan.bucket) if plan.bucket else None
        record = ShardRecord(
            plan.name, result.bytes, result.digest, result.samples, bucket, inputs, dict(result.format_meta)
        )
        return record, result.stages

    def _record(self, prefix: str, name: str, *, again: bool = False) -> ShardRecord | None:
        """The record of a finished shard. `again`: no index names it yet, so it is written again to count as written now;
        garbage collection takes no shard that has a record."""
        key = record_key(prefix, name)
        found = self._store.get_with_etag(key)
        if found is None or (again and touch(self._store, key) is None):
            return None
        return ShardRecord(**json.loads(found[0])) if self._store.exists(f"{prefix}/{name}") else None

    def _parent_records(
        self, snapshot: Snapshot, recipe: datago.Recipe, split: str | None
    ) -> dict[str, tuple[str, ShardRecord]]:
        """The finished shards of the parent version under the same recipe, by their inputs."""
        parent = self._snapshots.parent(snapshot)
        if parent is None:  # or a store into which this snapshot alone was rebuilt
            return {}
        prefix = export_prefix(parent, recipe, split)
        names = [
            i.key.rsplit("/", 1)[1].removesuffix(".json") for i in self._store.list(f"{prefix}/records/")
        ]
        records = [r for name in names if (r := self._record(prefix, name)) is not None]
        return {r.inputs: (prefix, r) for r in records}

    def _take_over(self, old: tuple[str, ShardRecord], prefix: str, name: str) -> bool:
        """Take an equal shard of the parent version, if its bytes are still what its record says.

        They are read to be judged, so they are copied from what was read: a copy made by the service would not be
        of the bytes that were judged, and no service makes it under a condition.
        """
        with _as_file(self._store, f"{old[0]}/{old[1].name}") as path:
            if digest_file(path) != old[1].digest:
                return False
            self._store.put_file_if_absent(f"{prefix}/{name}", path)
            return True


@contextmanager
def _as_file(store: ObjectStore, key: str) -> Iterator[Path]:
    """An object as a file: where it lies, or a temporary copy."""
    path = store.local_path(key)
    if path is not None:
        yield path
        return
    with tempfile.NamedTemporaryFile(prefix="refinery-") as copy:
        for piece in pieces(store, key):
            spool(copy, piece)
        yield Path(copy.name)
