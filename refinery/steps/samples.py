"""The samples of a batch, and their bytes as datago wants them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from refinery.batches import Batches
from refinery.blobs import blob_key
from refinery.errors import InputError, TransientError
from refinery.store import ObjectStore

_CHUNK_SAMPLES = 128
_CHUNK_BYTES = 256 << 20
_READERS = 16


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample of a batch: its id, its size, and whether its bytes are kept."""

    sample_id: str
    bytes: int
    stored: bool


@dataclass(frozen=True, slots=True)
class Unread:
    """Why the store could not give a sample's bytes."""

    detail: str


def batch_samples(store: ObjectStore, batch: str) -> list[Sample]:
    """The samples of a landed batch, one each, sorted by id. InputError(kind="no_such_batch") when it has not landed."""
    origins = Batches(store).origins([batch], ["sample_id", "bytes", "stored"])
    samples: dict[str, Sample] = {}
    for sample_id, size, stored in zip(*(column.to_pylist() for column in origins.columns), strict=True):
        known = samples.get(sample_id)
        samples[sample_id] = Sample(sample_id, size, stored or (known is not None and known.stored))
    return [samples[sample_id] for sample_id in sorted(samples)]


def chunks(samples: list[Sample]) -> Iterator[list[Sample]]:
    """`samples` in order, cut so that one chunk's bytes fit in memory."""
    chunk: list[Sample] = []
    size = 0
    for sample in samples:
        if chunk and (len(chunk) == _CHUNK_SAMPLES or size + sample.bytes > _CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(sample)
        size += sample.bytes
    if chunk:
        yield chunk


def inputs(store: ObjectStore, samples: list[Sample]) -> list[str | bytes | Unread]:
    """Each sample's bytes for datago: a local path when the store has one, else the bytes."""
    keys = [blob_key(sample.sample_id) for sample in samples]
    paths = [store.local_path(key) for key in keys]
    found: list[str | bytes | Unread] = [str(path) if path is not None else b"" for path in paths]
    remote = [i for i, path in enumerate(paths) if path is None]
    if remote:
        with ThreadPoolExecutor(_READERS) as readers:
            for i, data in zip(remote, readers.map(lambda i: _get(store, keys[i]), remote), strict=True):
                found[i] = data
    return found


def _get(store: ObjectStore, key: str) -> bytes | Unread:
    try:
        return store.get(key)
    except (InputError, TransientError) as error:
        return Unread(str(error))
