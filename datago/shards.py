"""Writing one shard."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datago import _core
from datago.errors import InputError
from datago.inspection import MAX_BYTES, MAX_PIXELS, check_threads
from datago.planning import ShardPlan
from datago.recipe import Recipe
from datago.remote import S3Object
from datago.stages import Stages


@dataclass(frozen=True, slots=True)
class Payload:
    """A binary beside a picture. A mask is cut and resized as its picture is, by nearest neighbour, and becomes PNG;
    anything else, and everything under `size="bytes"`, is stored untouched."""

    name: str
    extension: str
    data: str | os.PathLike[str] | bytes | S3Object
    is_mask: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """One sample: its picture (a local path, an object on S3, or bytes), the extension its untouched bytes go by, its
    attributes as the bytes of a JSON object, and its payloads. Ids, names and extensions hold letters, digits, `_` and `-` only."""

    sample_id: str
    image: str | os.PathLike[str] | bytes | S3Object
    extension: str
    attributes: bytes = b"{}"
    payloads: list[Payload] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ShardResult:
    """What was written: file name, size in bytes, BLAKE3 digest (hex), number of samples in it, the samples left out
    as (sample id, reason code, detail), `format_meta`: for MDS the shard's entry of `index.json`, else empty, and where the
    time went."""

    name: str
    bytes: int
    digest: str
    samples: int
    failures: list[tuple[str, str, str]]
    format_meta: dict[str, Any]
    stages: Stages = field(default_factory=Stages, compare=False)


def write_shard(
    path: str | os.PathLike[str] | S3Object,
    plan: ShardPlan,
    records: Sequence[Record],
    recipe: Recipe,
    *,
    threads: int = 0,
    payload_names: Sequence[str] = (),
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
) -> ShardResult:
    """Write the shard `plan` to `path`, on this machine or on S3: complete and durable under its name, or not at all.

    `records` are the plan's samples in the plan's order. The bytes depend on records and recipe, never on `threads`
    (0: every core). `payload_names` are payload columns that MDS and Parquet shards get even where no sample of this
    shard has them, so that all shards of an export have the same columns.

    A picture that can not be used is left out and listed in `ShardResult.failures`.

    Raises `InputError` if the records do not fit the plan or hold something that can not be written, `StorageError`
    if a file could not be read or written (nothing is then published; try again), `ConfigError` for an argument out
    of range or an MDS shard beyond 4 GiB.
    """
    found = tuple(record.sample_id for record in records)
    if found != plan.sample_ids:
        at = next((i for i, (a, b) in enumerate(zip(found, plan.sample_ids, strict=False)) if a != b), None)
        what = (
            f"{len(found)} records for {len(plan.sample_ids)} samples"
            if at is None
            else f"record {at} is sample {found[at]!r}, the plan has {plan.sample_ids[at]!r} there"
        )
        raise InputError(f"shard {plan.name}: {what}")
    check_threads(threads)
    if isinstance(path, S3Object):
        target: Path | S3Object = path
        name = path.key.rpartition("/")[2]
    else:
        target = Path(path)
        name = target.name
    start = time.perf_counter()
    size, digest, samples, failures, entry, seconds = _core.write_shard(
        target,
        plan.bucket,
        list(records),
        recipe,
        payload_names=list(payload_names),
        max_bytes=max_bytes,
        max_pixels=max_pixels,
        threads=threads,
    )
    stages = Stages(**dict(seconds), wall=time.perf_counter() - start)
    return ShardResult(name, size, digest, samples, failures, json.loads(entry) if entry else {}, stages)
