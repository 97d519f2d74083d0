"""datago: decode, inspect, resize and shard pictures. The work is done in Rust, on all cores, without the GIL."""

from __future__ import annotations

try:
    from datago import _core  # noqa: F401
except ImportError as cause:
    raise ImportError(
        "datago's Rust extension is not built for this interpreter: run `make build`."
    ) from cause

from datago.errors import ConfigError, DatagoError, InputError, StorageError
from datago.inspection import Inspection, inspect

__all__ = [
    "ConfigError",
    "DatagoError",
    "InputError",
    "Inspection",
    "StorageError",
    "inspect",
]
