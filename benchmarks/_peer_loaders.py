"""Peers that hand small pictures to a training loop in batches: uint8, shape (batch, side, side, 3). Imports nothing of ours.

`photoroom` runs in the peers' environment, the others in .venv. All read the same JPEGs: from `root` as files, from `tars` and
`mds` as the shards that ours reads. With one core nothing runs beside the loop, with two there are two workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import islice
from typing import Any

from _peer_pixels import Made, photoroom_samples


def _epoch(job: dict[str, Any], batches: Callable[[], Iterator[Any]]) -> Made:
    shape = (job["side"], job["side"], 3)

    def run() -> int:
        seen = 0
        for batch in batches():
            if batch.shape[1:] != shape or str(batch.dtype).removeprefix("torch.") != "uint8":
                raise ValueError(f"a batch of {batch.shape}, {batch.dtype}")
            seen += len(batch)
        if seen != job["count"]:
            raise ValueError(f"{seen} pictures of {job['count']}")
        return seen

    return run, None


def photoroom(job: dict[str, Any]) -> Made:
    """`datago` of PyPI over the files."""
    numpy = import_module("numpy")
    import_module("datago").initialize_logging(log_level="error")

    def batches() -> Iterator[Any]:
        arrays = (s.image.to_numpy_array() for s in photoroom_samples(job, job["root"], job["count"]))
        while batch := list(islice(arrays, job["batch"])):
            yield numpy.stack(batch)

    return _epoch(job, batches)


def webdataset(job: dict[str, Any]) -> Made:
    """webdataset over the tar shards: its decoder, its batches."""
    module = import_module("webdataset")
    import_module("torch").set_num_threads(1)
    workers = 0 if job["threads"] == 1 else job["threads"]
    data = module.WebDataset(job["tars"], shardshuffle=False, empty_check=False)
    key = job.get("key", "jpg")
    data = data.decode("rgb8") if key == "jpg" else data.decode()
    data = data.to_tuple(key).batched(job["batch"])
    loader = module.WebLoader(data, batch_size=None, num_workers=workers, persistent_workers=workers > 0)
    return _epoch(job, lambda: (batch for (batch,) in loader))


def mosaicml(job: dict[str, Any]) -> Made:
    """StreamingDataset over the MDS shards, through PyTorch's DataLoader."""
    streaming, data = import_module("streaming"), import_module("torch.utils.data")
    import_module("torch").set_num_threads(1)
    import_module("streaming.base.util").clean_stale_shared_memory()
    workers = 0 if job["threads"] == 1 else job["threads"]
    found = streaming.StreamingDataset(local=job["mds"], batch_size=job["batch"], shuffle=False)
    loader = data.DataLoader(
        found, job["batch"], num_workers=workers, collate_fn=_stacked, persistent_workers=workers > 0
    )
    return _epoch(job, lambda: iter(loader))


def _stacked(samples: list[dict[str, Any]]) -> Any:
    numpy = import_module("numpy")
    return numpy.stack([numpy.asarray(sample["image"]) for sample in samples])


class Files:
    """A map-style data set of JPEG files, decoded by Pillow."""

    def __init__(self, paths: list[str]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": import_module("PIL.Image").open(self._paths[index])}


def torch_files(job: dict[str, Any]) -> Made:
    """PyTorch's DataLoader with Pillow over the files."""
    data = import_module("torch.utils.data")
    import_module("torch").set_num_threads(1)
    workers = 0 if job["threads"] == 1 else job["threads"]
    loader = data.DataLoader(
        Files(job["paths"]),
        job["batch"],
        num_workers=workers,
        collate_fn=_stacked,
        persistent_workers=workers > 0,
    )
    return _epoch(job, lambda: iter(loader))


def memory(job: dict[str, Any]) -> Made:
    """Pixels that are in memory already, copied into a new batch."""
    numpy = import_module("numpy")
    pictures = numpy.zeros((job["count"], job["side"], job["side"], 3), numpy.uint8)
    steps = range(0, job["count"], job["batch"])
    return _epoch(job, lambda: (pictures[start : start + job["batch"]].copy() for start in steps))


SYSTEMS: dict[str, Callable[[dict[str, Any]], Made]] = {
    "photoroom": photoroom,
    "webdataset": webdataset,
    "mosaicml": mosaicml,
    "torch_files": torch_files,
    "memory": memory,
}
