"""`load_dataset("name@version", store=…)`: batches of a snapshot for training, with nothing but credentials and its name.

Needs no project, no index and no server: rows, tombstones and bytes are read from the store. Samples come straight from
their blobs, in the order of the export that the recipe would make, or from such an export where there is one.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from os import PathLike
from pathlib import Path
from typing import Any, Unpack

import pyarrow as pa

import datago
from datago.streaming import StreamOptions
from refinery.backends import open_store, store_at
from refinery.config import FILE_NAME, load_settings
from refinery.errors import ConfigError, ConflictError, CorruptionError, InputError, TransientError
from refinery.export import Exporter, export_record, parse_recipe, planned
from refinery.export_index import export_prefix
from refinery.snapshots import Snapshot, Snapshots
from refinery.states.rows import root_of
from refinery.store import ObjectStore
from refinery.tombstones import Tombstones

Place = str | PathLike[str] | ObjectStore


class TakenDownWarning(UserWarning):
    """Samples of the snapshot were taken down since: they are left out."""


def load_dataset(
    ref: str,
    *,
    store: Place,
    endpoint: str | None = None,
    split: str | None = None,
    recipe: datago.Recipe | Mapping[str, Any] | None = None,
    export: bool = False,
    batch_size: int,
    **options: Unpack[StreamOptions],
) -> datago.Stream:
    """Stream the snapshot `name@version` (or the newest of `name`) of a store, or one of its splits; see `datago.stream` for
    the other options, and for batches and tokens.

    `store` is a folder or `s3://bucket/prefix`, whose service is at `endpoint` when it is not AWS, with credentials from
    boto3's standard chain; a project's folder, for the store that its refinery.yaml names; or an open store. The rows are
    checked against the snapshot's root. `recipe` says how pictures are cut and resized (default: `datago.Recipe()`), and with
    `seed` and `samples_per_shard` what order they come in. `export=True` reads the shards of a complete export with this
    recipe (without one: of the only export there is) instead of blobs: the same batches, with less work.

    Samples that were taken down are left out, with a `TakenDownWarning`; a token of before then fits no more.

    Raises what `datago.stream` raises, as refinery's errors: ConfigError for an argument or token that does not fit; and
    InputError when there is no such store, snapshot, split or export, CorruptionError when the rows are not those of the
    root, ConflictError when an export still holds samples that were taken down. Batches raise datago's errors.
    """
    place = _Store(store, endpoint)
    snapshot = Snapshots(place.open).get(ref)
    rows = checked_rows(place.open, snapshot, split)
    gone = Tombstones(place.open).gone(rows["sample_id"].to_pylist())
    if gone:
        warnings.warn(
            f"{len(gone)} samples of {snapshot.ref} were taken down and are left out, the first is {min(gone)}.",
            TakenDownWarning,
            stacklevel=2,
        )
    chosen = parse_recipe(dict(recipe)) if isinstance(recipe, Mapping) else recipe
    source: datago.Export | datago.Pictures
    try:
        if export:
            source, chosen = _export(place.open, snapshot, split, chosen, gone), None
        else:
            source = _pictures(place, snapshot, rows, gone)
        return datago.stream(source, batch_size=batch_size, recipe=chosen, **options)
    except datago.StorageError as error:
        raise TransientError(f"{snapshot.ref}: {error}", kind=error.kind) from error
    except datago.CorruptionError as error:
        raise CorruptionError(f"{snapshot.ref}: {error}", kind="damaged_export") from error
    except datago.ConfigError as error:
        raise ConfigError(f"{snapshot.ref}: {error}", kind="bad_stream") from error
    except datago.InputError as error:
        raise InputError(f"{snapshot.ref}: {error}", kind="bad_stream") from error


def checked_rows(store: ObjectStore, snapshot: Snapshot, split: str | None = None) -> pa.Table:
    """The rows of a snapshot, or of one of its splits. CorruptionError when all of them together do not have its root."""
    snapshots = Snapshots(store)
    rows = snapshots.rows(snapshot)
    if root_of(rows) != snapshot.root:
        raise CorruptionError(
            f"The rows of {snapshot.ref} do not have its root: `refinery snapshot verify {snapshot.ref}` says what is damaged.",
            kind="damaged_snapshot",
        )
    return rows if split is None else snapshots.of_split(snapshot, rows, split)


@dataclass
class _Store:
    """A store by its place, so that it can be opened again in another process."""

    place: Place
    endpoint: str | None

    @cached_property
    def open(self) -> ObjectStore:
        if not isinstance(self.place, str | PathLike):
            return self.place
        place = str(self.place)
        if place.startswith("s3://"):
            return store_at(place, self.endpoint)
        if (Path(place) / FILE_NAME).is_file():
            return open_store(load_settings(Path(place)), Path(place))
        if not Path(place).is_dir():
            raise InputError(
                f"There is no store at {place}: pass the folder of a store or of a project, or s3://bucket/prefix.",
                kind="no_such_store",
            )
        return store_at(place)

    def __getstate__(self) -> dict[str, Any]:
        return {"place": self.place, "endpoint": self.endpoint}


@dataclass
class _Records:
    """Where the bytes of each sample lie, with the credentials of the moment."""

    store: _Store
    rows: pa.Table

    def __call__(self, sample_id: str) -> datago.Record:
        return export_record(self.store.open, self.rows.slice(self._places[sample_id], 1).to_pylist()[0])

    @cached_property
    def _places(self) -> dict[str, int]:
        return {sample_id: n for n, sample_id in enumerate(self.rows["sample_id"].to_pylist())}

    def __getstate__(self) -> dict[str, Any]:
        return {"store": self.store, "rows": self.rows}


def _pictures(store: _Store, snapshot: Snapshot, rows: pa.Table, gone: frozenset[str]) -> datago.Pictures:
    columns = ["sample_id", "format", "attributes", "payloads"]
    return datago.Pictures(
        rows["sample_id"].to_pylist(),
        rows["width"].to_pylist(),
        rows["height"].to_pylist(),
        _Records(store, rows.select(columns).combine_chunks()),
        snapshot.root,
        partial(_plans, rows, gone),
    )


def _plans(rows: pa.Table, gone: frozenset[str], recipe: datago.Recipe) -> list[datago.ShardPlan]:
    """The shards of the export with this recipe."""
    return planned(rows, recipe, gone).plans


def _export(
    store: ObjectStore,
    snapshot: Snapshot,
    split: str | None,
    recipe: datago.Recipe | None,
    gone: frozenset[str],
) -> datago.Export:
    """The complete export of the snapshot with this recipe, or the only one."""
    found = {
        index["prefix"]: index
        for index in Exporter(store, Snapshots(store)).exports(snapshot)
        if index.get("split") == split and (recipe is None or index["recipe"] == recipe.to_dict())
    }
    if recipe is not None and (ours := export_prefix(snapshot, recipe, split)) in found:
        found = {ours: found[ours]}  # beside those of other versions of the encoder
    of = snapshot.ref if split is None else f"split {split!r} of {snapshot.ref}"
    if not found:
        raise InputError(
            f"There is no complete export of {of}{' with this recipe' if recipe else ''}: run `refinery export`, or leave "
            f"export off to stream its blobs.",
            kind="no_such_export",
        )
    if len(found) > 1:
        raise ConfigError(
            f"There are {len(found)} exports of {of}, {', '.join(sorted(found))}: say which with recipe=….",
            kind="ambiguous_export",
        )
    [(prefix, index)] = found.items()
    if index["snapshot"]["root"] != snapshot.root:
        raise CorruptionError(f"{prefix}/index.json is of another root.", kind="damaged_export")
    if set(index.get("taken_down", [])) != gone:
        raise ConflictError(
            f"{prefix} does not leave out exactly the samples that are taken down: export {snapshot.ref} again.",
            kind="export_stale",
        )
    address = store.address(f"{prefix}/index.json")
    if isinstance(address, datago.S3Object):
        return datago.Export(datago.S3Object(address.s3, address.key.rpartition("/")[0]))
    return datago.Export(Path(address).parent)
