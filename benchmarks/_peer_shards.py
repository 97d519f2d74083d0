"""Peers that resize, encode and write WebDataset shards. Runs in the peers' environment and imports nothing of ours."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from _peer_pixels import Made, Work, by_path, in_order, photoroom_samples, simplejpeg_


def _write(folder: str, files: Iterable[tuple[str, bytes]], width: int, height: int) -> int:
    """As webdataset.ShardWriter writes: for each sample a picture and a JSON of attributes. It does not sync."""
    with import_module("webdataset").ShardWriter(f"{folder}/%06d.tar", maxcount=10**6, verbose=0) as sink:
        count = 0
        for key, data in files:
            sink.write({"__key__": key, "jpg": data, "json": {"width": width, "height": height}})
            count += 1
    return count


def pipeline(job: dict[str, Any]) -> Made:
    """simplejpeg's scaled decode, OpenCV's resize, simplejpeg's encoder at quality 92, ShardWriter."""
    jpeg, resize = import_module("simplejpeg"), simplejpeg_(job)

    def work(path: str) -> bytes:
        found: bytes = jpeg.encode_jpeg(resize(path), quality=92, colorsubsampling=job["subsampling"])
        return found

    return _shards(job, work)


def img2dataset(job: dict[str, Any]) -> Made:
    """Its Resizer and its shard writer, without its downloads and processes.

    It cuts to squares or not at all, so the short side is scaled to the target's and nothing is cut: 0.8 % more pixels.
    """
    package = import_module("img2dataset.resizer")
    side = min(job["target"])
    resizer = package.Resizer(side, "keep_ratio", True, encode_quality=92, encode_format="jpg")

    def work(path: str) -> bytes:
        found: tuple[Any, ...] = resizer(io.BytesIO(Path(path).read_bytes()))
        if found[-1]:
            raise ValueError(found[-1])
        data: bytes = found[0]
        return data

    return _shards(job, work)


def photoroom(job: dict[str, Any]) -> Made:
    """`datago` of PyPI with `pre_encode_images`, JPEG at quality 92 (always 4:4:4), ShardWriter."""
    import_module("datago").initialize_logging(log_level="error")
    width, height = job["target"]

    def encoded(root: str, count: int) -> Iterable[tuple[str, bytes]]:
        for sample in photoroom_samples(job, root, count, encode=True):
            yield Path(json.loads(sample.id)).stem, sample.image.get_payload().data

    def look() -> list[Any]:
        samples = photoroom_samples(job, job["look_root"], len(job["look_paths"]), encode=True)
        return by_path(job, samples, lambda sample: sample.image.get_payload().data)

    return lambda: _write(job["folder"], encoded(job["root"], len(job["paths"])), width, height), look


def _shards(job: dict[str, Any], work: Work) -> Made:
    width, height = job["target"]
    keys = [Path(path).stem for path in job["paths"]]

    def run() -> int:
        files = in_order(work, job["paths"], job["threads"], job["held"])
        return _write(job["folder"], zip(keys, files, strict=True), width, height)

    return run, lambda: [work(p) for p in job["look_paths"]]


SYSTEMS: dict[str, Callable[[dict[str, Any]], Made]] = {
    "pipeline": pipeline,
    "img2dataset": img2dataset,
    "photoroom": photoroom,
}
