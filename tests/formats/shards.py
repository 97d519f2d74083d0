"""Pictures, records and exports that the suites of datago's shards share."""

from __future__ import annotations

import fcntl
import io
import json
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3
from PIL import Image

import datago
from datago import Payload, Recipe, Record, ShardPlan, ShardResult

SKIMAGE = Path(pytest.importorskip("skimage").__file__).parent / "data"
NAMES = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "retina.jpg", "logo.png", "camera.png")
FORMATS = ("webdataset", "mds", "parquet")


@contextmanager
def alone_with_mosaicml() -> Iterator[None]:
    """For making a StreamingDataset: it looks for a free name of shared memory and then takes it, so two processes at once
    can want the same."""
    with (Path(tempfile.gettempdir()) / "refinery-tests-mosaicml.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def mosaicml_dataset(**options: Any) -> Any:
    """The shards of an export as mosaicml-streaming reads them, in their order. Skips the test where it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        streaming = pytest.importorskip("streaming")
    with alone_with_mosaicml():
        return streaming.StreamingDataset(shuffle=False, batch_size=1, allow_unsafe_types=False, **options)


def labels(width: int, height: int) -> Image.Image:
    """Left half 1, right half 2: nothing else may ever appear."""
    values = np.ones((height, width), np.uint8)
    values[:, width // 2 :] = 2
    return Image.fromarray(values)


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "png")
    return out.getvalue()


@pytest.fixture(scope="module")
def records() -> dict[str, Record]:
    found = {}
    for name in NAMES:
        data = (SKIMAGE / name).read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            mask = png(labels(*image.size))
        attributes = json.dumps({"caption": f"a picture, {name} ü", "score": 0.50}).encode()
        payloads = [
            Payload("mask", "png", mask, True),
            Payload("latent", "npy", b"\x93NUMPY" + name.encode()),
        ]
        sample_id = blake3(data).hexdigest()
        extension = name.rpartition(".")[2]
        found[sample_id] = Record(sample_id, str(SKIMAGE / name), extension, attributes, payloads)
    return found


def exported(
    folder: Path, records: dict[str, Record], recipe: Recipe, threads: int = 0
) -> Iterator[tuple[ShardPlan, ShardResult, Path]]:
    folder.mkdir(parents=True, exist_ok=True)
    inspected = datago.inspect([r.image for r in records.values()]).columns
    for plan in datago.plan(list(records), inspected["width"], inspected["height"], recipe):
        path = folder / plan.name
        result = datago.write_shard(
            path, plan, [records[i] for i in plan.sample_ids], recipe, threads=threads
        )
        data = path.read_bytes()
        assert (result.name, result.bytes, result.digest) == (plan.name, len(data), blake3(data).hexdigest())
        assert result.failures == []
        assert result.samples == len(plan.sample_ids)
        yield plan, result, path
    assert not list(folder.glob(".*"))


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image
