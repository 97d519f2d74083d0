"""Streams from S3: the batches of the local folder, and trouble on the way is told from damage, and from the end."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import datago
from datago import S3, CorruptionError, Record, S3Object, StorageError, Stream, StreamTimeoutError
from tests.cutting_proxy import CuttingProxy
from tests.formats.remote import s3_of
from tests.loader.exports import COUNT, FORMATS, export, ids, pictures, recipe_of, record
from tests.servers import S3Server

ROOT = Path(__file__).resolve().parents[2]


def stream(source: Any, **options: Any) -> Stream:
    return datago.stream(source, **{"batch_size": 7, "shuffle_shards": 3, "epochs": 2, **options})


def uploaded(server: S3Server, bucket: str, folder: Path) -> None:
    client: Any = server.client()
    for path in folder.iterdir():
        client.upload_file(str(path), bucket, f"some/export/{path.name}")


@pytest.fixture
def mute() -> Iterator[S3]:
    """A service that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield S3("b", endpoint=f"http://127.0.0.1:{server.getsockname()[1]}", path_style=True, timeout=60)


def hanging(s3: S3, timeout: float | None = 0.3) -> Stream:
    """A stream of objects that never come."""
    found = {f"s{n}": Record(f"s{n}", S3Object(s3, f"k{n}"), "png") for n in range(20)}
    source = datago.Pictures(list(found), [9] * 20, [9] * 20, found.__getitem__)
    recipe = datago.Recipe(size="fixed", side=8)
    return datago.stream(source, batch_size=4, recipe=recipe, timeout=timeout)


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_on_s3_gives_the_batches_of_the_local_one(
    s3_server: S3Server, bucket: str, tmp_path: Path, form: str
) -> None:
    folder = export(tmp_path / "e", COUNT, recipe_of(form))
    uploaded(s3_server, bucket, folder)
    there = S3Object(s3_of(s3_server, bucket), "some/export")
    for ours, theirs in zip(stream(there), stream(folder), strict=True):
        assert (ours.ids, ours.attributes) == (theirs.ids, theirs.attributes)
        assert (ours.images == theirs.images).all()  # type: ignore[union-attr]
    token = stream(folder).token()
    assert ids(stream(there, resume=token, rank=1, world_size=3)) == ids(stream(folder))[1::3]


def test_pictures_on_s3_give_the_batches_of_local_ones(s3_server: S3Server, bucket: str) -> None:
    client: Any = s3_server.client()
    there: dict[str, Record] = {}
    s3 = s3_of(s3_server, bucket)
    for n in range(COUNT):
        one = record(n)
        client.put_object(Bucket=bucket, Key=f"p/{n}", Body=one.image)
        there[one.sample_id] = Record(one.sample_id, S3Object(s3, f"p/{n}"), "png", one.attributes)
    recipe = recipe_of("mds")
    assert ids(stream(pictures(COUNT, there), recipe=recipe)) == ids(stream(pictures(COUNT), recipe=recipe))
    client.delete_object(Bucket=bucket, Key="p/5")
    with pytest.raises(StorageError, match=r"s00005.*no such object"):
        ids(stream(pictures(COUNT, there), recipe=recipe))


def test_shards_whose_connections_break_arrive_whole(
    s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    folder = export(tmp_path / "e", COUNT, recipe_of("webdataset"))
    uploaded(s3_server, bucket, folder)
    with CuttingProxy(s3_server.endpoint, after=9000, cuts=6) as proxy:
        there = S3Object(s3_of(s3_server, bucket, proxy.url), "some/export")
        assert ids(stream(there)) == ids(stream(folder))
        assert proxy.cuts < 6


def test_a_shard_that_is_not_what_its_index_says_is_damaged_and_a_missing_one_may_come_back(
    s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    folder = export(tmp_path / "e", 20, recipe_of("mds", size="fixed", samples_per_shard=100))
    uploaded(s3_server, bucket, folder)
    client: Any = s3_server.client()
    there = S3Object(s3_of(s3_server, bucket), "some/export")
    [shard] = datago.Export(there).shards
    key = f"some/export/{shard.name}"
    data = (folder / shard.name).read_bytes()
    client.put_object(Bucket=bucket, Key=key, Body=data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(CorruptionError, match=f"{shard.name} is damaged.*digest"):
        ids(stream(there))
    client.delete_object(Bucket=bucket, Key=key)
    failing = stream(there)
    with pytest.raises(StorageError, match=f"{shard.name}.*no such object"):
        next(failing)
    client.put_object(Bucket=bucket, Key=key, Body=data)
    assert ids(stream(there, resume=failing.token())) == ids(stream(folder))


def test_a_stream_of_what_never_comes_times_out_and_closes(mute: S3) -> None:
    waiting = hanging(mute)
    for _ in range(2):
        with pytest.raises(StreamTimeoutError):
            next(waiting)
    waiting.close()


@pytest.mark.parametrize("waits", ["next(hanging(s3, None))", "Export(S3Object(s3, 'export'))"])
def test_who_waits_hears_ctrl_c(mute: S3, waits: str) -> None:
    program = (
        "import sys, signal\n"
        "from datago import S3, Export, S3Object\n"
        "from tests.loader.test_stream_s3 import hanging\n"
        "s3 = S3('b', endpoint=sys.argv[1], path_style=True, timeout=60)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "try:\n"
        "    print('ready', flush=True)\n"
        f"    {waits}\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(mute.endpoint)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGINT)
        assert child.stdout.read() == "interrupted\n"
        assert child.wait() == 0
