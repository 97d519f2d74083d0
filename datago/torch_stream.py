"""A stream as PyTorch takes it. Needs torch; `datago` itself does not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

if TYPE_CHECKING:
    from datago.streaming import Batch, Stream


@dataclass(frozen=True, slots=True)
class TorchBatch:
    """A `datago.Batch` whose `images` are a tensor, (n, height, width, 3) uint8, so that it passes from a worker through
    shared memory."""

    position: int
    epoch: int
    ids: list[str]
    attributes: list[dict[str, Any]]
    images: torch.Tensor | None
    encoded: list[bytes]
    payloads: dict[str, list[bytes | None]]
    failures: list[tuple[str, str, str]]

    def __len__(self) -> int:
        return len(self.ids)

    def pin_memory(self) -> TorchBatch:
        """With its images in pinned memory; `DataLoader(pin_memory=True)` calls this."""
        return self if self.images is None else replace(self, images=self.images.pin_memory())

    @classmethod
    def of(cls, batch: Batch) -> TorchBatch:
        """The same samples, on the same memory."""
        images = None if batch.images is None else batch.to_torch()
        return cls(
            batch.position,
            batch.epoch,
            batch.ids,
            batch.attributes,
            images,
            batch.encoded,
            batch.payloads,
            batch.failures,
        )


class TorchStream(IterableDataset):  # type: ignore[misc]
    """The batches of a stream that has not begun, for `DataLoader(dataset, batch_size=None, num_workers=…)`.

    Each worker makes its share of the rank's batches, so the loader gives the same batches in the same order with any
    number of workers. Every new pass over the loader begins where the stream begins: for several epochs in a row give the
    stream `epochs=`, and iterate once. `token(after=batch)` is that of the stream.
    """

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self._stream = stream

    def __iter__(self) -> Iterator[TorchBatch]:
        worker = get_worker_info()
        workers, number = (1, 0) if worker is None else (worker.num_workers, worker.id)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        with self._stream.share(number, workers, threads=max(1, cores // workers)) as mine:
            yield from map(TorchBatch.of, mine)

    def __len__(self) -> int:
        return len(self._stream)

    def token(self, after: TorchBatch) -> dict[str, Any]:
        """The token once every rank has consumed this batch, or its own of the same step; see `Stream.token`."""
        return self._stream.token(after)
