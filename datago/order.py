"""The order in which a stream hands samples over: a pure function of shards, seed and a few numbers.

An epoch takes the shards in the order of BLAKE3(seed, epoch, stem), so many at a time (a window). The samples of a window
are permuted by keys of the same hash's extended output, and dealt in this order to their buckets; a bucket with
`batch_size` samples makes a batch. What waits in a bucket waits on in the next window, and at the end of the epoch makes a
smaller batch, or is dropped. Epochs follow each other in one endless sequence of batches, numbered from 0.

Nothing here knows of threads, workers, world sizes, formats or places, so none of them can change the order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from datago.errors import ConfigError, InputError

Numbers = npt.NDArray[np.int64]
_KEYS = 64
"""Where the keys of samples begin in the extended output of a shard's hash; what stands before orders the shards."""


@dataclass(frozen=True, slots=True)
class Part:
    """One shard as the order sees it: its name without the extension, and the number of the bucket of each of its
    samples, in the order in which they are stored. One number for all is `Part.of`."""

    stem: str
    buckets: npt.NDArray[np.int32]

    @classmethod
    def of(cls, stem: str, samples: int, bucket: int) -> Part:
        """A shard whose samples are all of one bucket, however many: it takes no memory for each."""
        return cls(stem, np.broadcast_to(np.int32(bucket), samples))


@dataclass(frozen=True, slots=True)
class Planned:
    """One batch to be: its number in the endless sequence, its epoch and bucket, and for each sample the shard (an
    index into `Order.parts`) and the row there."""

    position: int
    epoch: int
    bucket: int
    parts: Numbers
    rows: Numbers


@dataclass(frozen=True, slots=True)
class Window:
    """Of one epoch: shards that are open together, in their order, the batches that they complete, and the shards (of any window of
    this epoch until now) that samples still wait in."""

    epoch: int
    parts: list[int]
    batches: list[Planned]
    waiting: set[int]


@dataclass(slots=True)
class _Waiting:
    """Samples of one bucket that are no batch yet; `arrived`: when the last of them came, counted within the epoch."""

    parts: Numbers = field(default_factory=lambda: np.empty(0, np.int64))
    rows: Numbers = field(default_factory=lambda: np.empty(0, np.int64))
    arrived: int = -1


class Order:
    """The endless sequence of batches over some shards.

    Raises `InputError` when two shards have one stem, `ConfigError` for a number out of range, and when an epoch would
    have no batch.
    """

    def __init__(
        self,
        parts: Iterable[Part],
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        shuffle_shards: int = 8,
        drop_last: bool = False,
    ) -> None:
        for name, value, least, most in (
            ("batch_size", batch_size, 1, 2**20),
            ("seed", seed, 0, 2**63 - 1),
            ("shuffle_shards", shuffle_shards, 1, 2**20),
        ):
            check_whole(name, value, least, most)
        self.parts = sorted(parts, key=lambda part: part.stem)
        self.batch_size, self.seed, self.shuffle = batch_size, seed, shuffle
        self.shuffle_shards, self.drop_last = shuffle_shards, drop_last
        stems = [part.stem for part in self.parts]
        if twice := next((a for a, b in pairwise(stems) if a == b), None):
            raise InputError(f"two shards are called {twice!r}: their names must differ before the extension")
        counts: dict[int, int] = {}
        for part in self.parts:
            for bucket, count in _histogram(part.buckets):
                counts[bucket] = counts.get(bucket, 0) + count
        self.samples = sum(counts.values())
        size = batch_size
        self.per_epoch = sum(n // size if drop_last else -(-n // size) for n in counts.values())
        """Batches in every epoch."""
        if not self.per_epoch:
            raise ConfigError(
                f"an epoch would have no batch: {self.samples} samples in {len(counts)} buckets, and no bucket has "
                f"batch_size={size}. Lower batch_size, or leave drop_last off"
                if self.samples
                else "there are no samples to stream"
            )

    def windows(self, start: int = 0) -> Iterator[Window]:
        """The windows, for ever, from the one on that holds batch number `start`; of its batches those from `start` on."""
        epoch, position = divmod(start, self.per_epoch)
        position = start - position
        while True:
            for window in self._epoch(epoch, position):
                position += len(window.batches)
                if position > start:
                    batches = [b for b in window.batches if b.position >= start]
                    yield Window(epoch, window.parts, batches, window.waiting)
            epoch += 1

    def batches(self, start: int = 0) -> Iterator[Planned]:
        """All batches, for ever, from number `start` on."""
        for window in self.windows(start):
            yield from window.batches

    def _epoch(self, epoch: int, position: int) -> Iterator[Window]:
        numbers = list(range(len(self.parts)))
        hashes = [self._hash(epoch, part.stem) for part in self.parts] if self.shuffle else []
        if self.shuffle:
            numbers.sort(key=lambda n: (hashes[n].digest(), n))
        waiting: dict[int, _Waiting] = {}
        seen = 0
        for at in range(0, len(numbers), self.shuffle_shards):
            chosen = numbers[at : at + self.shuffle_shards]
            parts, rows, buckets = self._samples(chosen)
            if self.shuffle:
                keys = [hashes[n].digest(length=8 * len(self.parts[n].buckets), seek=_KEYS) for n in chosen]
                order = np.argsort(np.frombuffer(b"".join(keys), "<u8"), kind="stable")
                parts, rows, buckets = parts[order], rows[order], buckets[order]
            full = self._dealt(parts, rows, buckets, waiting, seen)
            seen += len(parts)
            if at + self.shuffle_shards >= len(numbers):
                if not self.drop_last:
                    rest = [(w.arrived, b, w.parts, w.rows) for b, w in waiting.items()]
                    full += sorted(rest, key=lambda batch: batch[0])
                waiting.clear()
            batches = [Planned(position + n, epoch, b, p, r) for n, (_, b, p, r) in enumerate(full)]
            position += len(batches)
            held = {int(n) for w in waiting.values() for n in np.unique(w.parts)}
            yield Window(epoch, chosen, batches, held)

    def _samples(self, chosen: list[int]) -> tuple[Numbers, Numbers, npt.NDArray[np.int32]]:
        """Shard, row and bucket of every sample of these shards, as stored."""
        found = [self.parts[n].buckets for n in chosen]
        sizes = [len(buckets) for buckets in found]
        parts = np.repeat(np.array(chosen, np.int64), sizes)
        rows = np.concatenate([np.arange(size, dtype=np.int64) for size in sizes])
        return parts, rows, np.concatenate(found)

    def _dealt(
        self,
        parts: Numbers,
        rows: Numbers,
        buckets: npt.NDArray[np.int32],
        waiting: dict[int, _Waiting],
        seen: int,
    ) -> list[tuple[int, int, Numbers, Numbers]]:
        """Deal a window's samples: (when the last sample came, bucket, shards, rows) of the batches that got full, in the
        order in which they did. `waiting` is brought up to date."""
        size = self.batch_size
        full = []
        for bucket in np.unique(buckets).tolist():
            at = np.flatnonzero(buckets == bucket)
            held = waiting.pop(bucket, _Waiting())
            mine, places = np.concatenate([held.parts, parts[at]]), np.concatenate([held.rows, rows[at]])
            before = len(held.parts)
            whole = len(mine) // size * size
            for n in range(0, whole, size):
                # Less than a batch was waiting, so every batch ends with a sample of this window.
                arrived = seen + int(at[n + size - 1 - before])
                full.append((arrived, bucket, mine[n : n + size], places[n : n + size]))
            if whole < len(mine):
                waiting[bucket] = _Waiting(mine[whole:], places[whole:], seen + int(at[-1]))
        return sorted(full, key=lambda batch: batch[0])

    def _hash(self, epoch: int, stem: str) -> blake3:
        return blake3(self.seed.to_bytes(8, "little") + epoch.to_bytes(8, "little") + stem.encode())


def check_whole(name: str, value: object, least: int, most: int) -> None:
    """ConfigError unless `value` is a whole number within the bounds."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ConfigError(f"{name} must be a whole number from {least} to {most}, not {value!r}")


def _histogram(buckets: npt.NDArray[np.int32]) -> Iterator[tuple[int, int]]:
    """How many samples of a shard each bucket has."""
    if len(buckets) and not any(buckets.strides):
        yield int(buckets[0]), len(buckets)
        return
    found, counts = np.unique(buckets, return_counts=True)
    yield from zip(found.tolist(), counts.tolist(), strict=True)
