"""Shards that the formats' own people wrote, with pictures as arrays of pixels, are streamed like ours."""

from __future__ import annotations

import io
import json
import tarfile
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from blake3 import blake3

import datago
from datago import CorruptionError, Recipe
from tests.loader.exports import FORMATS

COUNT = 150
WIDTH, HEIGHT = 24, 16


def pixels(number: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def npy(number: int) -> bytes:
    out = io.BytesIO()
    np.save(out, pixels(number))
    return out.getvalue()


def name(number: int) -> str:
    return f"s{number:03}" + ("x" * 120 if number % 50 == 7 else "")


def as_tar(path: Path) -> None:
    """With PAX records for long names."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for n in range(COUNT):
            for extension, data in (("npy", npy(n)), ("json", json.dumps({"n": n}).encode())):
                info = tarfile.TarInfo(f"{name(n)}.{extension}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def as_mds(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        streaming = pytest.importorskip("streaming")
    columns = {
        "id": "str",
        "image": "ndarray:uint8",
        "width": "int",
        "height": "int",
        "attributes": "json",
        "extra": "bytes",
    }
    with streaming.MDSWriter(out=str(path.parent / "mds"), columns=columns, hashes=[]) as writer:
        for n in range(COUNT):
            sample = {"id": name(n), "image": pixels(n), "width": WIDTH, "height": HEIGHT}
            writer.write({**sample, "attributes": {"n": n}, "extra": b"%d" % n})
    (path.parent / "mds" / "shard.00000.mds").rename(path)


def as_parquet(path: Path, **options: Any) -> None:
    """As pyarrow writes by default: snappy, with dictionaries, without an index of pages."""
    table = pa.table(
        {
            "sample_id": [name(n) for n in range(COUNT)],
            "image": pa.array([npy(n) for n in range(COUNT)], pa.binary()),
            "format": ["npy"] * COUNT,
            "width": [WIDTH] * COUNT,
            "height": [HEIGHT] * COUNT,
            "attributes": [json.dumps({"n": n}) for n in range(COUNT)],
            "extra": pa.array([b"%d" % n if n % 3 else None for n in range(COUNT)], pa.binary()),
        }
    )
    pq.write_table(table, path, row_group_size=40, **options)


def folder_of(folder: Path, form: str, write: Any, samples: int = COUNT) -> Path:
    recipe = Recipe(format=form, size="fixed", side=16)  # type: ignore[arg-type]
    shard = folder / f"24x16-all.{ {'webdataset': 'tar'}.get(form, form) }"
    write(shard)
    entry = {"name": shard.name, "samples": samples, "bucket": [WIDTH, HEIGHT]}
    entry |= {"digest": blake3(shard.read_bytes()).hexdigest(), "bytes": shard.stat().st_size}
    index = {"format": "refinery.export/1", "snapshot": {"root": "x"}, "recipe": recipe.to_dict()}
    (folder / "index.json").write_text(json.dumps(index | {"files": [entry]}))
    return folder


WRITERS = {"webdataset": as_tar, "mds": as_mds, "parquet": partial(as_parquet, compression="none")}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("form", FORMATS)
def test_arrays_of_pixels_come_as_they_are(tmp_path: Path, form: str) -> None:
    folder = folder_of(tmp_path, form, WRITERS[form])
    seen = []
    for batch in datago.stream(folder, batch_size=16, seed=5):
        assert batch.failures == []
        assert batch.images is not None
        for n, sample_id in enumerate(batch.ids):
            number = batch.attributes[n]["n"]
            assert sample_id == name(number)
            assert (batch.images[n] == pixels(number)).all()
            seen.append(number)
    assert sorted(seen) == list(range(COUNT))
    for batch in datago.stream(folder, batch_size=16, decode=False):
        for data, attributes in zip(batch.encoded, batch.attributes, strict=True):
            assert (np.load(io.BytesIO(data)) == pixels(attributes["n"])).all()
    small = next(datago.stream(folder, batch_size=16, recipe=Recipe(size="fixed", side=8)))
    assert small.images is not None
    assert small.images.shape == (16, 8, 8, 3)


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "none"},
        {"compression": "none", "use_dictionary": False, "write_page_index": True},
        {
            "compression": "none",
            "use_dictionary": False,
            "data_page_version": "2.0",
            "write_page_index": True,
        },
        {"compression": "none", "use_dictionary": False, "data_page_size": 2000, "write_page_index": True},
    ],
)
def test_parquet_of_other_layouts_is_read(tmp_path: Path, options: dict[str, Any]) -> None:
    folder = folder_of(tmp_path, "parquet", lambda path: as_parquet(path, **options))
    batches = list(datago.stream(folder, batch_size=16, payloads=["extra"]))
    assert sum(map(len, batches)) == COUNT
    for batch in batches:
        assert batch.images is not None
        for n, attributes in enumerate(batch.attributes):
            number = attributes["n"]
            assert (batch.images[n] == pixels(number)).all()
            assert batch.payloads["extra"][n] == (b"%d" % number if number % 3 else None)


def test_compressed_parquet_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "parquet", as_parquet)
    with pytest.raises(CorruptionError, match="snap"):
        list(datago.stream(folder, batch_size=16))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("form", FORMATS)
def test_a_shard_with_other_samples_than_its_index_says_is_damaged(tmp_path: Path, form: str) -> None:
    folder = folder_of(tmp_path, form, WRITERS[form], COUNT - 1)
    with pytest.raises(CorruptionError, match="150 samples, its index says 149"):
        list(datago.stream(folder, batch_size=16))
