"""Peers that live in .venv anyway: torch's DataLoader, webdataset, mosaicml-streaming; and the disk. Imports nothing of ours."""

from __future__ import annotations

import mmap
import os
from collections import deque
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from _peer_pixels import Made, crop_box

_BLOCK = 4 << 20


class Pictures:
    """A map-style data set of files; Pillow decodes, and with a target resizes (LANCZOS)."""

    def __init__(self, paths: list[str], target: tuple[int, int] | None) -> None:
        self._paths, self._target = paths, target

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Any:
        image, numpy = import_module("PIL.Image"), import_module("numpy")
        picture = image.open(self._paths[index]).convert("RGB")
        if self._target:
            box = crop_box(picture.width, picture.height, self._target)
            picture = picture.resize(self._target, image.Resampling.LANCZOS, box=box)
        return numpy.asarray(picture)


def as_is(batch: list[Any]) -> list[Any]:
    """A batch stays a list of arrays."""
    return batch


def torch_files(job: dict[str, Any]) -> Made:
    """A DataLoader over the files: no process beside it for one core, else one for each core, kept alive."""
    torch = import_module("torch")
    torch.set_num_threads(1)
    data = import_module("torch.utils.data")
    workers = 0 if job["threads"] == 1 else job["threads"]
    pictures = Pictures(job["paths"], job["target"] and tuple(job["target"]))
    loader = data.DataLoader(
        pictures, batch_size=4, num_workers=workers, collate_fn=as_is, persistent_workers=workers > 0
    )

    def run() -> int:
        kept: deque[Any] = deque(maxlen=job["held"])
        for batch in loader:
            kept.extend(batch)
        return len(pictures)

    shown = Pictures(job["look_paths"], job["target"] and tuple(job["target"]))
    return run, lambda: [shown[i] for i in range(len(shown))]


def _attributes(job: dict[str, Any]) -> dict[str, int]:
    return {"width": job["source"][0], "height": job["source"][1]}


def webdataset_writer(job: dict[str, Any]) -> Made:
    """ShardWriter: for each sample the file's bytes and a JSON of attributes."""
    module = import_module("webdataset")
    folder, attributes = job["folder"], _attributes(job)

    def run() -> int:
        with module.ShardWriter(f"{folder}/%06d.tar", maxcount=10**6, maxsize=1e12, verbose=0) as sink:
            for i, path in enumerate(job["paths"]):
                sink.write({"__key__": f"{i:06}", "jpg": Path(path).read_bytes(), "json": attributes})
        if job["sync"]:
            _sync(f"{folder}/000000.tar")
        return len(job["paths"])

    return run, None


def mds_writer(job: dict[str, Any]) -> Made:
    """MDSWriter with the columns of ours and, as ours, an xxh128 of the shard."""
    module = import_module("streaming")
    folder, attributes = f"{job['folder']}/mds", _attributes(job)
    columns = {"id": "str", "image": "bytes", "width": "int", "height": "int", "attributes": "json"}

    def run() -> int:
        options = {"out": folder, "columns": columns, "hashes": ["xxh128"], "size_limit": 1 << 31}
        with module.MDSWriter(**options, exist_ok=True) as sink:
            for i, path in enumerate(job["paths"]):
                sample = {"id": f"{i:06}", "image": Path(path).read_bytes(), "attributes": attributes}
                sink.write({**sample, **attributes})
        if job["sync"]:
            _sync(f"{folder}/shard.00000.mds")
        return len(job["paths"])

    return run, None


def disk(job: dict[str, Any]) -> Made:
    """The same bytes, in memory already, written to one new file in large blocks, synced, and renamed over the last one.
    `direct`: past the page cache."""
    pieces = [Path(path).read_bytes() for path in job["paths"]]
    # Whole pages at the start of one: what a way past the page cache asks for.
    memory = mmap.mmap(-1, -(-sum(map(len, pieces)) // mmap.PAGESIZE) * mmap.PAGESIZE)
    memory.write(b"".join(pieces))
    data = memoryview(memory)
    new, old = Path(job["folder"], "new"), Path(job["folder"], "disk")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | (os.O_DIRECT if job["direct"] else 0)

    def run() -> int:
        file = os.open(new, flags)
        try:
            start = 0
            while start < len(data):
                start += os.write(file, data[start : start + _BLOCK])
            os.fsync(file)
        finally:
            os.close(file)
        new.rename(old)
        return len(job["paths"])

    return run, None


def _sync(path: str) -> None:
    with Path(path).open("rb") as file:
        os.fsync(file.fileno())


SYSTEMS: dict[str, Callable[[dict[str, Any]], Made]] = {
    "torch_files": torch_files,
    "webdataset_writer": webdataset_writer,
    "mds_writer": mds_writer,
    "disk": disk,
}
