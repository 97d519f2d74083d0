"""Shards of many blocks, which go to the disk while more is made."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from blake3 import blake3
from PIL import Image

import datago
from datago import Payload, Recipe, Record, ShardPlan, ShardResult, StorageError
from tests.formats.shards import FORMATS, png

MIB = 1 << 20
PICTURE = png(Image.new("RGB", (8, 8), "red"))
MEMORY = Path("/dev/shm")


@pytest.fixture
def items(tmp_path: Path) -> list[Record]:
    """Samples with payloads of uneven sizes of about 1 MiB, of paths and of bytes."""
    latent = tmp_path / "latent"
    latent.write_bytes(bytes(range(256)) * 4096 + b"tail")
    payloads = [Payload("latent", "bin", data) for data in (latent, latent.read_bytes()[: MIB - 777])]
    return [Record(f"{n:03}", PICTURE, "png", b"{}", [payloads[n % 2]]) for n in range(22)]


def written(path: Path, form: Any, items: list[Record], threads: int = 0) -> ShardResult:
    plan = ShardPlan(path.name, None, tuple(item.sample_id for item in items))
    return datago.write_shard(path, plan, items, Recipe(format=form, size="bytes"), threads=threads)


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """As on a disk that is full."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)


@pytest.mark.parametrize("form", FORMATS)
def test_a_shard_of_many_blocks_is_the_same_on_any_file_system_and_with_any_threads(
    form: Any, items: list[Record], tmp_path: Path
) -> None:
    digests = set()
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as memory:
        for place, threads in [(tmp_path / "x", 1), (tmp_path / "y", 2), (Path(memory, "z"), 2)]:
            result = written(place, form, items, threads)
            data = place.read_bytes()
            place.unlink()
            assert (result.bytes, result.digest) == (len(data), blake3(data).hexdigest())
            assert result.bytes > 20 * MIB
            digests.add(result.digest)
    assert len(digests) == 1


@pytest.mark.parametrize("size", [MIB, 4 * MIB, 9 * MIB, 21 * MIB])
@pytest.mark.parametrize("form", FORMATS)
def test_a_disk_that_fills_up_is_a_storage_error_and_leaves_nothing(
    form: Any, size: int, items: list[Record], tmp_path: Path
) -> None:
    with no_file_beyond(size + 1), pytest.raises(StorageError):
        written(tmp_path / "x", form, items)
    assert [path.name for path in tmp_path.iterdir()] == ["latent"]
