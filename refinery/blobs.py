"""Raw bytes by digest: `blobs/<aa>/<bb>/<digest>`, written once and never changed."""

from __future__ import annotations

import tempfile
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from blake3 import blake3

from refinery.digests import check_sample_id, digest
from refinery.errors import CorruptionError, TransientError
from refinery.store import ObjectStore

IN_MEMORY = 32 << 20
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Put:
    """What became of bytes that were put: `new` when this call stored them, `stored` False when they were over the cap or
    `refused`, since their sample was taken down."""

    digest: str
    bytes: int
    new: bool
    stored: bool = True
    refused: bool = False


class Readable(Protocol):
    """Anything with a binary `read(n)` that gives no bytes at the end."""

    def read(self, size: int, /) -> bytes: ...


def blob_key(digest: str) -> str:
    """The object key of the bytes with this digest. InputError when `digest` is none."""
    check_sample_id(digest)
    return f"blobs/{digest[:2]}/{digest[2:4]}/{digest}"


def put_bytes(store: ObjectStore, data: bytes) -> Put:
    """Store `data` unless the store has it."""
    name = digest(data)
    return Put(name, len(data), new=store.put_if_absent(blob_key(name), data))


def put_file(store: ObjectStore, path: Path, *, max_bytes: int | None = None) -> Put:
    """Store a file's bytes unless the store has them. See `put_chunks`; OSError when the file cannot be read."""
    with path.open("rb") as file:
        return put_chunks(store, read_chunks(file), max_bytes=max_bytes)


def put_chunks(
    store: ObjectStore,
    chunks: Iterable[bytes],
    *,
    max_bytes: int | None = None,
    refused: Container[str] = frozenset(),
) -> Put:
    """Store the concatenation of `chunks` unless the store has it, without holding more than 32 MiB in memory.

    What is stored is what was digested, even when the origin is being rewritten meanwhile. Beyond `max_bytes` nothing is
    kept: the bytes are digested to their end and the result says `stored=False`. Of bytes with a digest in `refused`
    nothing is kept either.
    """
    hasher = blake3()
    total = 0
    kept: list[bytes] = []
    rest = iter(chunks)
    for chunk in rest:
        hasher.update(chunk)
        total += len(chunk)
        kept.append(chunk)
        if total > IN_MEMORY or (max_bytes is not None and total > max_bytes):
            break
    else:
        name = hasher.hexdigest()
        if name in refused:
            return Put(name, total, new=False, stored=False, refused=True)
        return Put(name, total, new=store.put_if_absent(blob_key(name), b"".join(kept)))
    with tempfile.NamedTemporaryFile(prefix="refinery-") as scratch:
        if max_bytes is None or total <= max_bytes:
            spool(scratch, b"".join(kept))
        kept.clear()
        for chunk in rest:
            hasher.update(chunk)
            total += len(chunk)
            if max_bytes is None or total <= max_bytes:
                spool(scratch, chunk)
        name = hasher.hexdigest()
        if name in refused:
            return Put(name, total, new=False, stored=False, refused=True)
        if max_bytes is not None and total > max_bytes:
            return Put(name, total, new=False, stored=False)
        return Put(name, total, new=store.put_file_if_absent(blob_key(name), Path(scratch.name)))


def spool(file: IO[bytes], chunk: bytes) -> None:
    """Append to a temporary file. TransientError(kind="no_scratch_space") when there is no room."""
    try:
        file.write(chunk)
        file.flush()
    except OSError as error:
        raise TransientError(
            f"A large file could not be set down in {tempfile.gettempdir()}: {error}. Free space there, or point TMPDIR "
            "at a larger disk, then do the same again.",
            kind="no_scratch_space",
        ) from error


def read_chunks(file: Readable) -> Iterator[bytes]:
    """The rest of a binary file, a mebibyte at a time."""
    while chunk := file.read(_CHUNK):
        yield chunk


def read_blob(store: ObjectStore, name: str) -> bytes:
    """The bytes with digest `name`.

    Raises InputError(kind="no_such_object") when the store has none, CorruptionError(kind="damaged_blob") when the
    stored bytes have another digest.
    """
    data = store.get(blob_key(name))
    found = digest(data)
    if found != name:
        raise CorruptionError(
            f"Blob {name} is damaged: its bytes have the digest {found}. Put the object "
            f"{blob_key(name)!r} back from a backup or from where the sample was seen.",
            kind="damaged_blob",
        )
    return data


def blob_path(store: ObjectStore, name: str) -> Path | None:
    """Where the blob lies on this machine's disk, when the store is a local one: read only, never write."""
    return store.local_path(blob_key(name))
