"""What is written of an export beside its shards: a record per finished shard, and the index, written last."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from refinery.digests import digest_chunks
from refinery.errors import CorruptionError
from refinery.store import ObjectStore

if TYPE_CHECKING:
    import datago
    from refinery.snapshots import Snapshot

FORMAT = "refinery.export/1"
_SECOND = "refinery.export/2"  # names a split, or samples that were taken down
_THIRD = "refinery.export/3"  # of compressed shards
_KNOWN = (FORMAT, _SECOND, _THIRD)
_PIECE = 8 << 20


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """One finished shard. `inputs` is the digest of all it is a function of; `meta` is what its format's reader wants."""

    name: str
    bytes: int
    digest: str
    samples: int
    bucket: list[int] | None
    inputs: str
    meta: dict[str, Any]


def export_prefix(snapshot: Snapshot, recipe: datago.Recipe, split: str | None = None) -> str:
    """The key prefix of an export of a snapshot or of one of its splits, as this version makes it."""
    return prefix_of(snapshot, recipe.format, recipe.digest, split)


def prefix_of(snapshot: Snapshot, form: str, recipe_digest: str, split: str | None = None) -> str:
    """The key prefix of an export, whatever version of the encoder made it."""
    folder = f"{form}-{recipe_digest[:16]}"
    return f"exports/{snapshot.ref}/{folder if split is None else f'{folder}-{split}'}"


def parse_index(data: bytes, key: str) -> dict[str, Any]:
    """An index.json, with the `prefix` it lies below. CorruptionError when it is none that this version reads."""
    try:
        index: dict[str, Any] = json.loads(data)
        if index["format"] not in _KNOWN:
            raise CorruptionError(
                f"{key} has format {index['format']!r}; this version reads {', '.join(_KNOWN)}.",
                kind="unknown_format",
            )
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptionError(
            f"Export index {key} is damaged, it cannot be read: {error}", kind="damaged_export"
        ) from None
    return index | {"prefix": key.removesuffix("/index.json")}


def left_out(data: bytes) -> list[str] | None:
    """The samples that an index.json says were taken down; None when that cannot be read."""
    try:
        return list(parse_index(data, "index.json").get("taken_down", []))
    except CorruptionError:
        return None


def index_entry(record: ShardRecord | None) -> dict[str, Any]:
    """What index.json says of a shard; empty without a record."""
    return {k: v for k, v in asdict(record).items() if k not in ("meta", "inputs")} if record else {}


def export_index(
    snapshot: Snapshot,
    recipe: datago.Recipe,
    records: list[ShardRecord],
    taken_down: Collection[str] = (),
    split: str | None = None,
) -> dict[str, Any]:
    """index.json, of records in order of name, without samples that were taken down. For MDS it is at the same time the index
    that `streaming.StreamingDataset` reads."""
    version = FORMAT if split is None and not taken_down else _SECOND
    body: dict[str, Any] = {
        "format": _THIRD if recipe.compression else version,
        "snapshot": {"ref": snapshot.ref, "root": snapshot.root, "count": snapshot.count},
        "recipe": recipe.to_dict(),
        "recipe_digest": recipe.digest,
        "samples": sum(r.samples for r in records),
        "bytes": sum(r.bytes for r in records),
        "buckets": histogram(records),
        "files": [index_entry(r) for r in records],
    }
    if split is not None:
        body["split"] = split
    if taken_down:
        body["taken_down"] = sorted(taken_down)
    if recipe.format == "mds":
        body |= {"version": 2, "shards": [r.meta for r in records]}
    return body


def histogram(records: list[ShardRecord]) -> dict[str, int]:
    """How many samples have each size."""
    counts: dict[str, int] = {}
    for record in records:
        name = "x".join(str(side) for side in record.bucket) if record.bucket else "any"
        counts[name] = counts.get(name, 0) + record.samples
    return dict(sorted(counts.items()))


def record_key(prefix: str, name: str) -> str:
    """The key of a shard's record."""
    return f"{prefix}/records/{name}.json"


def shard_findings(store: ObjectStore, key: str, digests: Collection[str]) -> Iterator[str]:
    """Read a shard again: a sentence when it is missing, or its digest is none of these."""
    if not store.exists(key):
        yield f"Shard {key} is missing."
    elif digest_chunks(pieces(store, key)) not in digests:
        yield f"Shard {key} is damaged: its digest is not {' or '.join(sorted(digests))}."


def pieces(store: ObjectStore, key: str) -> Iterator[bytes]:
    """An object's bytes, so much at a time."""
    start = 0
    while piece := store.get_range(key, start, _PIECE):
        yield piece
        start += len(piece)
