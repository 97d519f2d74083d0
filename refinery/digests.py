"""BLAKE3 digests and canonical JSON: the only two ways the refinery turns content into a name."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from blake3 import blake3

from refinery.errors import InputError

_HEX = frozenset("0123456789abcdef")
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(data: bytes | memoryview) -> str:
    """The BLAKE3 digest of `data` as 64 lower-case hex digits."""
    return blake3(data).hexdigest()


def digest_chunks(chunks: Iterable[bytes]) -> str:
    """The BLAKE3 digest of bytes that come in pieces."""
    hasher = blake3()
    for chunk in chunks:
        hasher.update(chunk)
    return hasher.hexdigest()


def digest_file(path: Path) -> str:
    """The BLAKE3 digest of a file's bytes, read in pieces (memory does not grow with the file)."""
    with path.open("rb") as file:
        return digest_chunks(iter(partial(file.read, 1 << 20), b""))


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys, no spaces and no NaN: equal values give equal bytes.

    Raises ValueError for NaN or infinity, TypeError for what JSON cannot hold.
    """
    return _ENCODER.encode(value).encode()


def digest_json(value: Any) -> str:
    """The digest of a value's canonical JSON."""
    return digest(canonical_json(value))


def check_sample_id(sample_id: str) -> str:
    """`sample_id` itself when it is 64 lower-case hex digits; InputError otherwise."""
    if len(sample_id) != 64 or not _HEX.issuperset(sample_id):
        raise InputError(
            f"{sample_id!r} is not a sample id: expected 64 lower-case hex digits (a BLAKE3 digest).",
            kind="bad_sample_id",
        )
    return sample_id
