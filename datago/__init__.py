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
from datago.errors import ConfigError, DatagoError, InputError, StorageError
from datago.inspection import Inspection, inspect
from datago.planning import ShardPlan, plan
from datago.recipe import Recipe
from datago.remote import S3, S3Object
from datago.shards import Payload, Record, ShardResult, write_shard
from datago.stages import Stages

__all__ = [
    "S3",
    "ConfigError",
    "DatagoError",
    "Decoded",
    "Headers",
    "InputError",
    "Inspection",
    "Payload",
    "Recipe",
    "Record",
    "S3Object",
    "ShardPlan",
    "ShardResult",
    "Stages",
    "StorageError",
    "assign",
    "buckets",
    "decode",
    "inspect",
    "plan",
    "probe",
    "write_shard",
]
