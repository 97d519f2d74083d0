"""The `ObjectStore` port: keys to immutable bytes, with two conditional writes.

Keys are relative, `/`-separated, and never contain empty, `.` or `..` segments; no key continues another (`a` and `a/b`
do not both name objects). Every write is atomic and durable when the call returns: a reader sees the whole object or none.
A write that ends in TransientError(kind="write_unknown") may have happened; doing it again is safe.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from refinery.errors import InputError

if TYPE_CHECKING:
    from datago import S3Object

_KEY = re.compile(r"(?!.*(^|/)\.{1,2}(/|$))[A-Za-z0-9._@=+-]+(/[A-Za-z0-9._@=+-]+)*\Z")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One listed object: its key, its size in bytes, a token that changes whenever its content does, and when it was last
    written (UTC, by the clock of the store, to a second or better)."""

    key: str
    bytes: int
    version: str
    written: datetime


class ObjectStore(Protocol):
    """Where all truth lives. Implementations: a local directory, S3."""

    def get(self, key: str) -> bytes:
        """The object's bytes. InputError(kind="no_such_object") when there is none."""
        ...

    def get_with_etag(self, key: str) -> tuple[bytes, str] | None:
        """The object's bytes and etag, or None when there is none."""
        ...

    def exists(self, key: str) -> bool: ...

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write unless the key exists. True: this call created it. False: it was there (its bytes untouched)."""
        ...

    def put_file_if_absent(self, key: str, path: Path) -> bool:
        """Like `put_if_absent`, with the bytes of a local file, streamed."""
        ...

    def settle(self, key: str) -> None:
        """Make an object that was found as durable as one that this call had written: it may be that of a writer who was
        killed, or told of an error, after the object became visible. InputError(kind="no_such_object") when there is none."""
        ...

    def put_if_match(self, key: str, data: bytes, etag: str | None) -> str:
        """Compare-and-swap: write when the current etag is `etag` (None: when there is no object).

        Returns the new etag. ConflictError(kind="etag_mismatch") when somebody else wrote in between.
        """
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """All objects whose key starts with `prefix`, in key order. Unfinished writes are never listed."""
        ...

    def delete(self, key: str) -> bool:
        """Remove an object; False when there was none."""
        ...

    def delete_listed(self, info: ObjectInfo) -> bool:
        """Remove an object that was listed; False when there is none any more, or it was written again since, even the same.

        On a local disk nothing comes between the look and the removal; across a network a moment does.
        """
        ...

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """At most `length` bytes from offset `start` on; fewer at the object's end, none beyond it.

        InputError(kind="no_such_object") when there is none.
        """
        ...

    def local_path(self, key: str) -> Path | None:
        """Where the object lies on this machine's disk, when it does: a read-only shortcut for bulk readers."""
        ...

    def address(self, key: str) -> str | S3Object:
        """Where datago reads or writes the object natively: a local path, or an object of an S3 service."""
        ...

    @property
    def url(self) -> str:
        """Where the store is, as people write it: a folder, or s3://bucket/prefix. Holds no secret."""
        ...

    @property
    def concurrency(self) -> int:
        """How many calls at a time it serves best."""
        ...


def check_key(key: str) -> str:
    """`key` itself when it is a valid object key; InputError otherwise (so that no key can leave the store)."""
    if not _KEY.match(key):
        raise InputError(
            f"{key!r} is not an object key: use letters, digits and ._@=+- in '/'-separated, non-empty segments.",
            kind="bad_key",
        )
    return key
