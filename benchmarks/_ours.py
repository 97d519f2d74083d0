"""Ours, in processes like those of its peers: decode, resize, shards, inspect."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import datago
from datago import Recipe, Record

Made = tuple[Callable[[], int], "Callable[[], list[Any]] | None"]


def decode(job: dict[str, Any]) -> Made:
    """`datago.decode` in batches: a list of arrays, or with a target one block."""
    paths, held, threads = job["paths"], job["held"], job["threads"]
    size = job["target"] and tuple(job["target"])

    def run() -> int:
        kept: deque[Any] = deque(maxlen=1)
        for start in range(0, len(paths), held):
            kept.append(datago.decode(paths[start : start + held], size=size, threads=threads))
        return len(paths)

    return run, lambda: list(datago.decode(job["look_paths"], size=size, threads=threads).images)


def shards(job: dict[str, Any]) -> Made:
    """`datago.write_shard` of a bucket of the target's size: written, synced, published."""
    recipe = Recipe.from_dict({**job["recipe"], "samples_per_shard": 1_000_000})
    records = [Record(Path(p).stem, p, "jpg") for p in job["paths"]]
    writer = _Writer(recipe, records, job)

    def look() -> list[Any]:
        found = _Writer(recipe, [Record(Path(p).stem, p, "jpg") for p in job["look_paths"]], job)
        found.write()
        import tarfile

        with tarfile.open(found.path) as tar:
            names = {m.name: m for m in tar if m.name.endswith(".jpg")}
            files = [tar.extractfile(names[f"{Path(p).stem}.jpg"]) for p in job["look_paths"]]
            return [file.read() for file in files if file]

    return writer.write, look


def untouched(job: dict[str, Any]) -> Made:
    """`datago.write_shard` of the files' own bytes."""
    recipe = Recipe(format=job["format"], size="bytes", samples_per_shard=1_000_000)
    records = [Record(f"{i:06}", p, "jpg") for i, p in enumerate(job["paths"])]
    return _Writer(recipe, records, job).write, None


def inspect(job: dict[str, Any]) -> Made:
    """`datago.inspect` with a tensor of 224 x 224."""

    def run() -> int:
        found = datago.inspect(job["paths"], tensor_side=224, threads=job["threads"])
        return len(found.columns["digest"])

    return run, None


def stream(job: dict[str, Any]) -> Made:
    """`datago.stream` of an export, shuffled."""

    def run() -> int:
        seen = 0
        for batch in datago.stream(job["export"], batch_size=job["batch"], threads=job["threads"]):
            if batch.images is None or batch.images.shape[1:] != (job["side"], job["side"], 3):
                raise ValueError(f"batch {batch.position} has other pictures")
            seen += len(batch)
        if seen != job["count"]:
            raise ValueError(f"{seen} pictures of {job['count']}")
        return seen

    return run, None


class _Writer:
    """One shard, planned once, written anew each time."""

    def __init__(self, recipe: Recipe, records: list[Record], job: dict[str, Any]) -> None:
        width, height = job["source"]
        ids = [r.sample_id for r in records]
        (self._plan,) = datago.plan(ids, np.full(len(ids), width), np.full(len(ids), height), recipe)
        by_id = {r.sample_id: r for r in records}
        self._records = [by_id[i] for i in self._plan.sample_ids]
        self._recipe, self._threads = recipe, job["threads"]
        self.path = Path(job["folder"]) / self._plan.name
        if job.get("target") and self._plan.bucket != tuple(job["target"]):
            raise ValueError(f"the bucket is {self._plan.bucket}, not {job['target']}")

    def write(self) -> int:
        """Give the number of samples in it."""
        result = datago.write_shard(self.path, self._plan, self._records, self._recipe, threads=self._threads)
        if result.failures:
            raise ValueError(str(result.failures[0]))
        return result.samples


SYSTEMS: dict[str, Callable[[dict[str, Any]], Made]] = {
    "decode": decode,
    "shards": shards,
    "untouched": untouched,
    "inspect": inspect,
    "stream": stream,
}
