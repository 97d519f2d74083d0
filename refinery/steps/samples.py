"""The samples of a batch, and their bytes as datago wants them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from refinery.batches import Batches
from refinery.blobs import blob_key
from refinery.store import ObjectStore
from refinery.tombstones import Tombstones

if TYPE_CHECKING:
    from datago import S3Object

_CHUNK_SAMPLES = 128
_CHUNK_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample of a batch: its id, its size, whether its bytes are kept, and whether it was taken down."""

    sample_id: str
    bytes: int
    stored: bool
    taken_down: bool = False


def batch_samples(store: ObjectStore, batch: str) -> list[Sample]:
    """The samples of a landed batch, one each, sorted by id. InputError(kind="no_such_batch") when it has not landed."""
    origins = Batches(store).origins([batch], ["sample_id", "bytes", "stored"])
    samples: dict[str, Sample] = {}
    gone = Tombstones(store).gone(origins["sample_id"].unique().to_pylist())
    for sample_id, size, stored in zip(*(column.to_pylist() for column in origins.columns), strict=True):
        known = samples.get(sample_id)
        samples[sample_id] = Sample(
            sample_id, size, stored or (known is not None and known.stored), sample_id in gone
        )
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


def inputs(store: ObjectStore, samples: list[Sample]) -> list[str | S3Object]:
    """Where datago finds each sample's bytes."""
    return [store.address(blob_key(sample.sample_id)) for sample in samples]
