"""What each of many ranks reads of an export on S3."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import datago
from datago import S3, Batch, CorruptionError, S3Object, StorageError, StreamTimeoutError
from tests.cutting_proxy import CuttingProxy
from tests.formats.remote import s3_of
from tests.loader.exports import ids, noisy, recipe_of, write_export
from tests.loader.test_stream_s3 import stream, uploaded
from tests.servers import S3Server

WORLD = 8
OPTIONS: dict[str, Any] = {"epochs": 1, "batch_size": 8, "payloads": ["latent"], "shuffle_shards": 4}


def whole(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def read_by_ranks(server: S3Server, bucket: str, folder: Path, **options: Any) -> list[int]:
    """Bytes that answers to each of `WORLD` ranks held, whose batches must be those of the local export."""
    local: list[Batch] = list(stream(folder, **OPTIONS))
    found = []
    for rank in range(WORLD):
        with CuttingProxy(server.endpoint, after=1 << 40, cuts=1) as proxy:
            there = S3Object(s3_of(server, bucket, proxy.url), "some/export")
            mine = list(stream(there, rank=rank, world_size=WORLD, **OPTIONS, **options))
            found.append(proxy.carried)
        for ours, theirs in zip(mine, local[rank::WORLD], strict=True):
            assert (ours.ids, ours.attributes, ours.payloads) == (
                theirs.ids,
                theirs.attributes,
                theirs.payloads,
            )
            np.testing.assert_array_equal(ours.images, theirs.images)  # type: ignore[arg-type]
    return found


def test_a_rank_of_many_reads_its_own_samples_of_mds_shards_alone(
    s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    recipe = recipe_of("mds", size="fixed", side=64, samples_per_shard=64)
    folder = write_export(tmp_path / "e", noisy(320), recipe, ["latent"])
    uploaded(s3_server, bucket, folder)
    read = read_by_ranks(s3_server, bucket, folder)
    assert max(read) < 0.2 * whole(folder)
    assert sum(read) < 1.25 * whole(folder)
    checked = read_by_ranks(s3_server, bucket, folder, verify=True)
    assert sum(checked) > 7 * whole(folder)


@pytest.mark.parametrize("form", ["webdataset", "parquet"])
def test_other_shards_are_fetched_whole_by_every_rank(
    form: str, s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    recipe = recipe_of(form, size="fixed", side=64, samples_per_shard=64)
    folder = write_export(tmp_path / "e", noisy(160), recipe, ["latent"])
    uploaded(s3_server, bucket, folder)
    assert sum(read_by_ranks(s3_server, bucket, folder)) > 7 * whole(folder)


def test_a_shard_that_goes_away_or_becomes_another_while_parts_are_read_is_told(
    s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    recipe = recipe_of("mds", size="fixed", samples_per_shard=1000)
    folder = write_export(tmp_path / "e", noisy(200), recipe, ["latent"])
    uploaded(s3_server, bucket, folder)
    client: Any = s3_server.client()
    there = S3Object(s3_of(s3_server, bucket), "some/export")
    [shard] = datago.Export(there).shards
    key, data = f"some/export/{shard.name}", (folder / shard.name).read_bytes()
    for body, error, message in (
        (data[:-1] + bytes([data[-1] ^ 1]), CorruptionError, "was replaced while it was read"),
        (None, StorageError, "no such object"),
    ):
        client.put_object(Bucket=bucket, Key=key, Body=data)
        failing = stream(there, rank=1, world_size=WORLD, prefetch=1, **OPTIONS)
        next(failing)
        if body is None:
            client.delete_object(Bucket=bucket, Key=key)
        else:
            client.put_object(Bucket=bucket, Key=key, Body=body)
        with pytest.raises(error, match=f"{shard.name}.*{message}"):
            list(failing)
    client.put_object(Bucket=bucket, Key=key, Body=data)
    again = stream(there, resume=failing.token(), rank=1, world_size=WORLD, **OPTIONS)
    assert ids(again)[-1] == ids(stream(folder, **OPTIONS))[17]


def test_a_stream_of_parts_that_never_come_times_out_and_closes(
    s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    recipe = recipe_of("mds", size="fixed", samples_per_shard=64)
    uploaded(s3_server, bucket, write_export(tmp_path / "e", noisy(64), recipe, ["latent"]))
    source = datago.Export(S3Object(s3_of(s3_server, bucket), "some/export"))
    with socket.create_server(("127.0.0.1", 0)) as mute:
        nowhere = S3("b", endpoint=f"http://127.0.0.1:{mute.getsockname()[1]}", path_style=True, timeout=60)
        source.folder = S3Object(nowhere, "some/export")
        waiting = stream(source, world_size=WORLD, timeout=0.3, **OPTIONS)
        with pytest.raises(StreamTimeoutError):
            next(waiting)
        waiting.close()
