"""datago: decode, inspect, resize and shard pictures. The work is done in Rust, on all cores, without the GIL."""

from __future__ import annotations

try:
    from datago import _core  # noqa: F401
except ImportError as cause:
    raise ImportError(
        "datago's Rust extension is not built for this interpreter: run `make build`."
    ) from cause

from datago.aspect import assign, buckets
from datago.decoding import Decoded, Headers, decode, probe
from datago.errors import (
    ConfigError,
    CorruptionError,
    DatagoError,
    InputError,
    StorageError,
    StreamTimeoutError,
)
from datago.exports import Export
from datago.folders import pictures_in
from datago.inspection import Inspection, inspect
from datago.pictures import Pictures
from datago.planning import ShardPlan, plan
from datago.recipe import Recipe
from datago.remote import S3, S3Object
from datago.shards import Payload, Record, ShardResult, write_shard
from datago.stages import Stages
from datago.streaming import Batch, Stream, stream

__all__ = [
    "S3",
    "Batch",
    "ConfigError",
    "CorruptionError",
    "DatagoError",
    "Decoded",
    "Export",
    "Headers",
    "InputError",
    "Inspection",
    "Payload",
    "Pictures",
    "Recipe",
    "Record",
    "S3Object",
    "ShardPlan",
    "ShardResult",
    "Stages",
    "StorageError",
    "Stream",
    "StreamTimeoutError",
    "assign",
    "buckets",
    "decode",
    "inspect",
    "pictures_in",
    "plan",
    "probe",
    "stream",
    "write_shard",
]
