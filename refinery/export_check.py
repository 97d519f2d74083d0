"""Whether an export is still what was written: its shards have their digests, and its records and its index are what the
snapshot, the recipe and the shards make of them, to the byte."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pyarrow as pa

import datago
from datago.recipe import encoder_of
from refinery.digests import canonical_json
from refinery.errors import RefineryError
from refinery.export import parse_recipe, planned
from refinery.export_index import (
    ShardRecord,
    export_index,
    index_entry,
    parse_index,
    prefix_of,
    record_key,
    shard_findings,
)
from refinery.snapshots import Snapshot, Snapshots
from refinery.states.rows import root_of
from refinery.store import ObjectStore
from refinery.tombstones import Tombstones

_UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, RefineryError)


class ExportCheck:
    """Checks the complete exports of one store."""

    def __init__(self, store: ObjectStore, snapshots: Snapshots) -> None:
        self._store, self._snapshots = store, snapshots
        self._tombstones = Tombstones(store)

    def findings(self, snapshot: Snapshot) -> Iterator[str]:
        """Read every export of a snapshot again; a sentence for each object that is missing or damaged, with its key."""
        indexes = [
            i.key for i in self._store.list(f"exports/{snapshot.ref}/") if i.key.endswith("/index.json")
        ]
        try:
            rows = self._snapshots.rows(snapshot) if indexes else None
            if rows is not None and root_of(rows) != snapshot.root:
                rows = None
        except (RefineryError, OSError, ValueError, KeyError, pa.ArrowException):
            rows = None  # of damaged rows the snapshot's own check speaks
        for key in indexes:
            yield from self._export(snapshot, key.removesuffix("/index.json"), rows)

    def _export(self, snapshot: Snapshot, prefix: str, rows: pa.Table | None) -> Iterator[str]:
        key = f"{prefix}/index.json"
        data = self._store.get(key)
        entries: dict[str, Any] = {}
        recipe: datago.Recipe | None = None
        made: dict[str, Any] = {}
        taken_down: list[str] = []
        split: str | None = None
        try:
            raw = parse_index(data, key)
            taken_down = [str(i) for i in raw.get("taken_down", [])]
            split = raw.get("split")
            if split is not None and rows is not None:
                rows = self._snapshots.of_split(snapshot, rows, split)
            metas = raw["shards"] if raw["recipe"]["format"] == "mds" else [{} for _ in raw["files"]]
            entries = {f["name"]: f | {"meta": m} for f, m in zip(raw["files"], metas, strict=True)}
            recipe = parse_recipe(raw["recipe"])
            made = {"recipe": raw["recipe"], "recipe_digest": raw["recipe_digest"]}
            # of the version of the encoder that made it, which may be a former one
            known = encoder_of(made["recipe"], made["recipe_digest"]) is not None
            if not known or prefix_of(snapshot, recipe.format, made["recipe_digest"], split) != prefix:
                recipe = None
                yield f"Export index {key} is damaged: its recipe and split are not those of its folder."
        except _UNREADABLE as error:
            yield f"Export index {key} is damaged, it cannot be read: {error}"
        yield from self._of_taken_down(key, rows, set(taken_down))
        inputs = self._inputs(rows, recipe, made.get("recipe_digest"), prefix, taken_down)
        records: dict[str, ShardRecord] = {}
        whole = recipe is not None
        for name in sorted(inputs):
            finding = self._record(prefix, name, inputs[name], entries.get(name), records)
            if finding is not None:
                whole = False
                yield finding
        if whole and recipe is not None:
            ordered = [records[name] for name in sorted(records)]
            if canonical_json(export_index(snapshot, recipe, ordered, taken_down, split) | made) != data:
                yield f"Export index {key} is damaged: it is not what its snapshot, recipe and records make of it."
        for name in sorted(inputs.keys() | records.keys()):
            told = (entries.get(name), index_entry(records.get(name)))
            expected = {str(said.get("digest")) for said in told if said}
            yield from shard_findings(self._store, f"{prefix}/{name}", expected)

    def _of_taken_down(self, key: str, rows: pa.Table | None, told: set[str]) -> Iterator[str]:
        """What is wrong with the samples that an index says were taken down."""
        if unfounded := sorted(told - self._tombstones.ids()):
            yield (
                f"Export index {key} is damaged: it says that sample {unfounded[0]} was taken down, and there is no tombstone."
            )
        ids = [] if rows is None else rows["sample_id"].to_pylist()
        gone = self._tombstones.told(ids)[1]
        if left := sorted(gone - told):
            yield (
                f"Export {key} has still sample {left[0]}, which was taken down: `refinery takedown {left[0]} --yes` finishes it."
            )

    def _inputs(
        self,
        rows: pa.Table | None,
        recipe: datago.Recipe | None,
        recipe_digest: str | None,
        prefix: str,
        taken_down: list[str],
    ) -> dict[str, str | None]:
        """The shards there must be, with the digest of what each is a function of; None where that cannot be told."""
        if rows is not None and recipe is not None:
            return dict(planned(rows, recipe, taken_down, recipe_digest).inputs)
        start = f"{prefix}/records/"
        return {i.key[len(start) : -len(".json")]: None for i in self._store.list(start)}

    def _record(
        self,
        prefix: str,
        name: str,
        inputs: str | None,
        entry: dict[str, Any] | None,
        records: dict[str, ShardRecord],
    ) -> str | None:
        """What is wrong with the record of a shard; a readable one is added to `records`."""
        key = record_key(prefix, name)
        found = self._store.get_with_etag(key)
        if found is None:
            return f"Record {key} is missing."
        try:
            record = ShardRecord(**json.loads(found[0]))
            if canonical_json(asdict(record)) != found[0] or record.name != name:
                return f"Record {key} is damaged: it is not as it was written."
        except _UNREADABLE as error:
            return f"Record {key} is damaged, it cannot be read: {error}"
        records[name] = record
        if inputs is not None and record.inputs != inputs:
            return f"Record {key} is damaged: its inputs are not the rows and the recipe of its shard."
        if entry is not None and entry != index_entry(record) | {"meta": record.meta}:
            return f"Record {key} or index {prefix}/index.json is damaged: they disagree about shard {name}."
        return None
