"""Batches for training, in an order that nothing but seed and samples decide, resumable anywhere."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import numpy.typing as npt

from datago import _core
from datago.errors import ConfigError, CorruptionError, DatagoError
from datago.exports import Export
from datago.folders import pictures_in
from datago.inspection import MAX_BYTES, MAX_PIXELS
from datago.order import Order, Planned, check_whole
from datago.pictures import Pictures
from datago.recipe import Recipe
from datago.remote import S3Object
from datago.stages import Stages
from datago.tokens import make_token, read_token

if TYPE_CHECKING:
    import torch

    from datago.torch_stream import TorchBatch, TorchStream

_ELSEWHERE = re.compile(r"(?P<ref>[a-z0-9][a-z0-9_-]*@\d+\Z)|s3://")
Place = str | os.PathLike[str] | S3Object


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples of one size. Those whose picture can not be used are in `failures` alone.

    `images`: shape (n, height, width, 3), uint8, RGB, upright, alpha over white; memory of its own that nobody else holds.
    `None` with `decode=False`: then `encoded` has each picture's bytes. `payloads`: for each name asked for a list of the
    samples' payloads, `None` where one has none. `failures`: (sample id, reason code, detail).
    """

    position: int
    """Its number in the endless sequence of all ranks' batches."""
    epoch: int
    ids: list[str]
    attributes: list[dict[str, Any]]
    images: npt.NDArray[np.uint8] | None
    encoded: list[bytes]
    payloads: dict[str, list[bytes | None]]
    failures: list[tuple[str, str, str]]

    def __len__(self) -> int:
        return len(self.ids)

    def to_torch(self) -> torch.Tensor:
        """The images as a tensor of shape (n, height, width, 3), uint8, on the same memory."""
        import torch

        return torch.from_numpy(self.images)


class Stream:
    """An iterator over the batches of one rank; `stream` makes it. Begun by its first batch: until then it may be passed to
    another process, after that it belongs to the one it began in. Made for one thread.
    """

    def __init__(
        self,
        source: Export | Pictures,
        *,
        batch_size: int,
        recipe: Recipe | None,
        decode: bool,
        payloads: Sequence[str],
        seed: int,
        shuffle: bool,
        shuffle_shards: int,
        drop_last: bool,
        epochs: int | None,
        rank: int,
        world_size: int,
        resume: Mapping[str, Any] | None,
        threads: int,
        prefetch: int,
        timeout: float | None,
        verify: bool,
        max_bytes: int,
        max_pixels: int,
    ) -> None:
        check_whole("world_size", world_size, 1, 2**20)
        check_whole("rank", rank, 0, world_size - 1)
        check_whole("threads", threads, 0, 1024)
        check_whole("prefetch", prefetch, 1, 1024)
        check_whole("max_bytes", max_bytes, 1, 2**62)
        check_whole("max_pixels", max_pixels, 1, 2**40)
        if epochs is not None:
            check_whole("epochs", epochs, 1, 2**31)
        if timeout is not None and not 0 < timeout < 2**31:
            raise ConfigError(
                f"timeout must be a number of seconds above 0, or None to wait for ever, not {timeout!r}"
            )
        if isinstance(payloads, str):
            raise ConfigError(f"payloads must be a sequence of names, not the text {payloads!r}")
        fitted = source.fitted(recipe, decode=decode)
        self._order = Order(
            fitted.parts,
            batch_size=batch_size,
            seed=seed,
            shuffle=shuffle,
            shuffle_shards=shuffle_shards,
            drop_last=drop_last,
        )
        self._follows: dict[str, Any] = {
            "source": fitted.digest,
            "seed": seed,
            "batch_size": batch_size,
            "shuffle": shuffle,
            "shuffle_shards": shuffle_shards,
            "drop_last": drop_last,
        }
        self._source, self._sizes, self._verify = source, fitted.sizes, verify
        self._rank, self._world, self._recipe = rank, world_size, recipe or Recipe()
        self._end = None if epochs is None else epochs * self._order.per_epoch
        self._epochs = epochs
        self._start = 0 if resume is None else read_token(resume, self._follows)
        self._threads, self._prefetch, self._timeout = threads, prefetch, timeout
        self._payloads, self._max_bytes, self._max_pixels = list(payloads), max_bytes, max_pixels
        self._handed = 0
        self._asked: list[Planned] = []
        self._planned: Iterator[Planned] | None = None
        self._loader: _core.Loader | None = None
        self._failed: DatagoError | None = None
        self._began, self._stages = 0.0, Stages()

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Batch:
        if self._failed is not None:
            raise self._failed
        loader, planned = self._begun()
        while len(self._asked) <= self._prefetch and (batch := next(planned, None)) is not None:
            self._source.submit(loader, batch, self._sizes[batch.bucket])
            self._asked.append(batch)
        if not self._asked:
            self._end_threads()
            raise StopIteration
        try:
            ids, attributes, images, encoded, payloads, failures = loader.next(self._timeout)
        except DatagoError as error:
            if error.kind != "timeout":
                self._failed = error
            raise
        asked = self._asked.pop(0)
        self._handed += 1
        return Batch(
            asked.position,
            asked.epoch,
            ids,
            _parsed(attributes),
            images,
            encoded,
            dict(zip(self._payloads, payloads, strict=True)),
            failures,
        )

    def __len__(self) -> int:
        """The batches that this rank gets in all, from where it began. `TypeError` when there is no end."""
        if self._end is None:
            raise TypeError("a stream with epochs=None has no end, and no length")
        return max(0, -(-(self._end - self._start - self._rank) // self._world))

    @property
    def batches_per_epoch(self) -> int:
        """Batches of all ranks together in each epoch."""
        return self._order.per_epoch

    def token(self, after: Batch | TorchBatch | None = None) -> dict[str, Any]:
        """Where training stands, as values that JSON holds, once every rank has consumed as many batches as this one handed
        over; with `after` once every rank has consumed that batch of this stream, or its own of the same step. `resume=`
        goes on from there, with any number of ranks, workers and threads, from any place that holds the same samples.

        When ranks stopped at different steps, go on from the least `position` of their tokens: what others did beyond it
        comes again.
        """
        steps = self._handed if after is None else (after.position - self._start) // self._world + 1
        position = self._start + steps * self._world
        if self._end is not None:
            position = max(self._start, min(position, self._end))
        return make_token(self._follows, position, self._order.per_epoch)

    @property
    def stages(self) -> Stages:
        """Where time went since the first batch was asked for. `waited` near zero: training is the bottleneck; else
        `Stages.bottleneck` names what to give more threads or a faster disk (eight threads read)."""
        if self._loader is None:
            return self._stages
        spent, waited = self._loader.seconds()
        return Stages(**dict(spent), waited=waited, wall=time.perf_counter() - self._began)

    def torch(self) -> TorchStream:
        """The same stream as a `torch.utils.data.IterableDataset`, for a `DataLoader` with `batch_size=None` and any
        number of workers."""
        from datago.torch_stream import TorchStream

        return TorchStream(self)

    def share(self, number: int, of: int, *, threads: int) -> Stream:
        """Every `of`-th of this rank's batches, from its `number`-th on, as a stream of its own with so many threads
        (unless this one asks for some number)."""
        mine = copy(self)
        mine._rank, mine._world = self._rank + number * self._world, self._world * of
        mine._threads, mine._asked = self._threads or threads, []
        return mine

    def close(self) -> None:
        """End the threads. What was handed over stays good, and so does `token()`."""
        if self._loader is not None:
            self._failed = self._failed or ConfigError(
                "the stream is closed; make a new one with resume=token"
            )
            self._end_threads()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        if self._planned is not None:
            raise ConfigError(
                "a stream that has begun can not be passed to another process: pass it before its first batch, or make "
                "a new one there with resume=token"
            )
        return dict(self.__dict__)

    def _end_threads(self) -> None:
        self._stages = self.stages
        loader, self._loader = self._loader, None
        if loader is not None:
            loader.close()

    def _begun(self) -> tuple[_core.Loader, Iterator[Planned]]:
        if self._planned is None:
            self._began = time.perf_counter()
            self._loader = _core.Loader(
                self._recipe,
                threads=self._threads,
                payloads=self._payloads,
                max_bytes=self._max_bytes,
                max_pixels=self._max_pixels,
            )
            self._planned = self._mine(self._loader)
        if self._loader is None:  # at its end
            raise StopIteration
        return self._loader, self._planned

    def _mine(self, loader: _core.Loader) -> Iterator[Planned]:
        """This rank's batches. Shards are opened one window ahead, so that those on S3 are on their way, and let go once
        no later batch of the epoch has a sample in them."""
        windows = self._order.windows(self._start)
        opened: set[int] = set()

        def need(numbers: Iterator[int]) -> None:
            for number in numbers:
                if number not in opened:
                    self._source.open(loader, number, verify=self._verify, share=1 / self._world)
                    opened.add(number)

        window = next(windows)
        while self._epochs is None or window.epoch < self._epochs:
            following = next(windows)
            ahead = following.parts if self._epochs is None or following.epoch < self._epochs else []
            need(iter([*window.parts, *ahead]))
            for batch in window.batches:
                if (batch.position - self._start) % self._world == self._rank:
                    need(iter(np.unique(batch.parts).tolist()))
                    yield batch
            for number in opened - window.waiting - set(ahead):
                loader.release(number)
                opened.remove(number)
            window = following


def _parsed(attributes: bytes) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = json.loads(attributes)
    except ValueError as cause:  # such as a number of more digits than Python reads
        raise CorruptionError(f"the attributes of a batch can not be read: {cause}") from None
    return found


class StreamOptions(TypedDict, total=False):
    """The options of `stream` beside source, batch size and recipe, for those who pass them on."""

    decode: bool
    payloads: Sequence[str]
    seed: int
    shuffle: bool
    shuffle_shards: int
    drop_last: bool
    epochs: int | None
    rank: int
    world_size: int
    resume: Mapping[str, Any] | None
    threads: int
    prefetch: int
    timeout: float | None
    verify: bool
    max_bytes: int
    max_pixels: int


def stream(
    source: Place | Export | Pictures,
    *,
    batch_size: int,
    recipe: Recipe | None = None,
    decode: bool = True,
    payloads: Sequence[str] = (),
    seed: int = 0,
    shuffle: bool = True,
    shuffle_shards: int = 8,
    drop_last: bool = False,
    epochs: int | None = 1,
    rank: int = 0,
    world_size: int = 1,
    resume: Mapping[str, Any] | None = None,
    threads: int = 0,
    prefetch: int = 3,
    timeout: float | None = None,
    verify: bool = False,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
) -> Stream:
    """Stream an export (its folder: a local path, or an `S3Object` whose key is the folder's), `Pictures`, or a local folder
    of plain pictures (see `pictures_in`) in batches.

    Each batch holds samples of one size, so it stacks. An export's pictures come in the size they have there; `recipe`
    (its `size`, `side`, `patch` and bounds) fits them to another, and `Pictures` to the default recipe unless one is given.
    `decode=False` hands over the pictures' bytes instead. `payloads` names those wanted: those of an export as it holds
    them, those of `Pictures` as an export by the recipe would.

    The order follows from the samples, `seed`, `batch_size`, `shuffle`, `shuffle_shards` (how many shards are open and
    mixed at a time) and `drop_last` alone. `epochs=None` goes on for ever. Rank r of `world_size` gets every
    `world_size`-th batch, beginning with the r-th; at the end of the last epoch some ranks may get one batch less.
    `resume` is a token; see `Stream.token`.

    `threads` (0: every core) make up to `prefetch` batches ahead of the one that is waited for, at most `timeout` seconds
    (`None`: for ever). `verify` checks all shards' digests; without it, those that S3 is asked for as a whole.

    A picture that can not be used is left out of its batch and listed in `Batch.failures`. Iterating raises `StorageError`
    when something could not be read, `CorruptionError` when a shard is damaged, `StreamTimeoutError` when nothing was
    ready in time (then it may be asked again). `stream` itself raises `ConfigError` for an argument or token that does not
    fit, and what `Export` raises.
    """
    if isinstance(source, str) and (elsewhere := _ELSEWHERE.match(source)) and not Path(source).exists():
        how = (
            "a snapshot is found in a store: refinery.load_dataset(…, store=…)"
            if elsewhere["ref"]
            else "an export on S3 is an S3Object: its bucket and credentials, and the key of its folder"
        )
        raise ConfigError(f"{source!r} is no folder of this machine; {how}")
    if isinstance(source, Export | Pictures):
        found = source
    elif isinstance(source, S3Object) or not Path(source).is_dir() or (Path(source) / "index.json").exists():
        found = Export(source)
    else:
        found = pictures_in(source)
    return Stream(
        found,
        batch_size=batch_size,
        recipe=recipe,
        decode=decode,
        payloads=payloads,
        seed=seed,
        shuffle=shuffle,
        shuffle_shards=shuffle_shards,
        drop_last=drop_last,
        epochs=epochs,
        rank=rank,
        world_size=world_size,
        resume=resume,
        threads=threads,
        prefetch=prefetch,
        timeout=timeout,
        verify=verify,
        max_bytes=max_bytes,
        max_pixels=max_pixels,
    )
