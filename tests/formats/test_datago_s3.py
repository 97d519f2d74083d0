"""datago on a real S3 server: the same columns, the same shards and the same bytes as on a local disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pyarrow.fs import S3FileSystem

import datago
from datago import S3, ConfigError, Recipe, Record, S3Object, ShardPlan, ShardResult
from refinery.corpus import CorpusReport
from tests.formats.remote import large, s3_of
from tests.formats.shards import FORMATS, SKIMAGE, alone_with_mosaicml, opened, png
from tests.servers import S3Server

Put = Callable[[str, bytes], S3Object]


@pytest.fixture
def s3(s3_server: S3Server, bucket: str) -> S3:
    return s3_of(s3_server, bucket)


@pytest.fixture
def client(s3_server: S3Server) -> Any:
    return s3_server.client()


@pytest.fixture
def put(s3: S3, client: Any) -> Put:
    """Puts an object into the bucket."""

    def put(key: str, data: bytes) -> S3Object:
        client.put_object(Bucket=s3.bucket, Key=key, Body=data)
        return S3Object(s3, key)

    return put


def body(client: Any, at: S3Object) -> bytes:
    return bytes(client.get_object(Bucket=at.s3.bucket, Key=at.key)["Body"].read())


def same(found: datago.Inspection, expected: datago.Inspection) -> None:
    """Equal in every column, failures and their details included."""
    assert list(found.columns) == list(expected.columns)
    for name, values in expected.columns.items():
        if isinstance(values, np.ndarray):
            np.testing.assert_array_equal(found.columns[name], values, err_msg=name)
        else:
            assert found.columns[name] == values, name
    if expected.tensors is None:
        assert found.tensors is None
    else:
        np.testing.assert_array_equal(found.tensors, expected.tensors)


@pytest.mark.parametrize("threads", [1, 0])
def test_every_column_of_the_corpus_is_what_it_is_on_a_local_disk(
    corpus: CorpusReport, put: Put, threads: int
) -> None:
    paths = [str(corpus.folder / name) for name in sorted(corpus.files)]
    with ThreadPoolExecutor(8) as pool:
        objects = list(pool.map(lambda p: put(f"corpus/{Path(p).name}", Path(p).read_bytes()), paths))
    options: dict[str, Any] = {"tensor_side": 32, "thumbnail_side": 64, "threads": threads}
    same(datago.inspect(objects, **options), datago.inspect(paths, **options))


def test_inputs_of_all_kinds_keep_their_order(put: Put) -> None:
    data = (SKIMAGE / "chelsea.png").read_bytes()
    at = put("chelsea.png", data)
    mixed = [at, data, b"", str(SKIMAGE / "rocket.jpg"), replace(at, key="absent"), at]
    assert datago.inspect(mixed).columns["reason"] == [None, None, "empty", None, "unreadable", None]
    assert len(set(datago.inspect([at, data, at]).columns["digest"])) == 1


@pytest.mark.parametrize("key", ["a b/ü+#%20&=?.png", "~{x}/%2F", "日本/語", "'\"()*!;:@$,"])
def test_a_key_is_taken_as_it_is(key: str, put: Put) -> None:
    assert datago.inspect([put(key, b"GIF")]).columns["bytes"].tolist() == [3]


def test_a_key_that_can_not_be_asked_for_is_no_other_key(put: Put) -> None:
    at = put("a/b", png(Image.new("RGB", (2, 2))))
    for key in ("/a/b", "a/b/", "a//b", "a/./b", "a/c/../b"):
        found = datago.inspect([replace(at, key=key)]).columns
        assert found["reason"] == ["unreadable"], key
        with pytest.raises(ConfigError, match="can not be addressed"):
            datago.write_shard(replace(at, key=key), ShardPlan("b", None, ()), [], Recipe(size="bytes"))


def remote(record: Record, put: Put) -> Record:
    payloads = [
        replace(p, data=put(f"in/{record.sample_id}.{p.name}", bytes(p.data)))  # type: ignore[arg-type]
        for p in record.payloads
    ]
    image = put(f"in/{record.sample_id}", Path(str(record.image)).read_bytes())
    return replace(record, image=image, payloads=payloads)


@pytest.mark.parametrize("size", ["bucket", "bytes"])
@pytest.mark.parametrize("form", FORMATS)
def test_a_shard_on_s3_has_the_bytes_of_the_local_one(
    form: Any, size: Any, records: dict[str, Record], put: Put, s3: S3, client: Any, tmp_path: Path
) -> None:
    recipe = Recipe(format=form, size=size, side=96, samples_per_shard=4)
    known = datago.inspect([r.image for r in records.values()]).columns
    lying = {i: remote(record, put) for i, record in records.items()}
    for plan in datago.plan(list(records), known["width"], known["height"], recipe):
        here = datago.write_shard(
            tmp_path / plan.name, plan, [records[i] for i in plan.sample_ids], recipe, threads=1
        )
        at = S3Object(s3, f"out/x/{plan.name}")
        there = datago.write_shard(at, plan, [lying[i] for i in plan.sample_ids], recipe)
        assert there == here
        assert body(client, at) == (tmp_path / plan.name).read_bytes()


@pytest.mark.parametrize("form", FORMATS)
def test_a_large_shard_is_sent_in_parts_and_read_back_whole(
    form: Any, s3: S3, client: Any, tmp_path: Path
) -> None:
    plan, records = large()
    recipe = Recipe(format=form, size="bytes")
    here = datago.write_shard(tmp_path / "x", plan, records, recipe)
    assert datago.write_shard(S3Object(s3, "x"), plan, records, recipe) == here
    assert body(client, S3Object(s3, "x")) == (tmp_path / "x").read_bytes()
    assert client.head_object(Bucket=s3.bucket, Key="x", PartNumber=1)["PartsCount"] == 3


def test_nothing_is_left_in_the_folder_for_temporary_files(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    plan, records = large(1)
    datago.write_shard(S3Object(s3, "x"), plan, records, Recipe(format="mds", size="bytes"))
    assert list(tmp_path.iterdir()) == []


def test_a_forked_child_has_a_network_of_its_own(s3: S3, put: Put) -> None:
    at = put("a.png", png(Image.new("RGB", (4, 4))))
    code = """
import os, sys, datago
at = datago.S3Object(datago.S3(sys.argv[1], "us-east-1", sys.argv[2], True, sys.argv[3], sys.argv[4]), sys.argv[5])
assert datago.inspect([at]).columns["reason"] == [None]
child = os.fork()
if child == 0:
    os._exit(0 if datago.inspect([at]).columns["reason"] == [None] else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    keys = [str(s3.endpoint), str(s3.access_key), str(s3.secret_key), at.key]
    subprocess.run([sys.executable, "-c", code, s3.bucket, *keys], check=True, timeout=60)


def written(form: Any, records: dict[str, Record], s3: S3) -> list[tuple[ShardPlan, ShardResult]]:
    recipe = Recipe(format=form, size="bucket", side=64, samples_per_shard=4)
    known = datago.inspect([r.image for r in records.values()]).columns
    plans = datago.plan(list(records), known["width"], known["height"], recipe)
    return [
        (p, datago.write_shard(S3Object(s3, f"set/{p.name}"), p, [records[i] for i in p.sample_ids], recipe))
        for p in plans
    ]


def test_pyarrow_reads_parquet_from_the_bucket(records: dict[str, Record], s3: S3) -> None:
    files = S3FileSystem(
        access_key=s3.access_key,
        secret_key=s3.secret_key,
        region=s3.region,
        endpoint_override=str(s3.endpoint).removeprefix("http://"),
        scheme="http",
    )
    for plan, _ in written("parquet", records, s3):
        table = pq.read_table(f"{s3.bucket}/set/{plan.name}", filesystem=files)
        assert table["sample_id"].to_pylist() == list(plan.sample_ids)
        assert {opened(data).size for data in table["image"].to_pylist()} == {plan.bucket}


READERS = {
    "webdataset": """
import json, sys, webdataset
urls = ["pipe:" + sys.executable + " -c '" + sys.argv[4] + "' " + sys.argv[1] + " " + name for name in sys.argv[5:]]
print(json.dumps([s["__key__"] for s in webdataset.WebDataset(urls, shardshuffle=False, nodesplitter=None)]))
""",
    "mds": """
import json, sys
from streaming import StreamingDataset
data = StreamingDataset(remote=f"s3://{sys.argv[1]}/set", local=sys.argv[3], batch_size=1, shuffle=False,
                        validate_hash="xxh128")
print(json.dumps([data[i]["id"] for i in range(len(data))]))
""",
}
CAT = (
    "import boto3,os,sys;"
    'c=boto3.client("s3",endpoint_url=os.environ["S3_ENDPOINT_URL"],region_name="us-east-1");'
    'sys.stdout.buffer.write(c.get_object(Bucket=sys.argv[1],Key=sys.argv[2])["Body"].read())'
)


@pytest.mark.parametrize("form", ["webdataset", "mds"])
def test_the_official_readers_read_from_the_bucket(
    form: str, records: dict[str, Record], s3: S3, put: Put, tmp_path: Path
) -> None:
    shards = written(form, records, s3)
    index = {"version": 2, "shards": [result.format_meta for _, result in shards]}
    put("set/index.json", json.dumps(index).encode())
    env = {
        **os.environ,
        "PYTHONWARNINGS": "ignore",
        "S3_ENDPOINT_URL": str(s3.endpoint),
        "AWS_ENDPOINT_URL": str(s3.endpoint),
        "AWS_ACCESS_KEY_ID": str(s3.access_key),
        "AWS_SECRET_ACCESS_KEY": str(s3.secret_key),
        "AWS_DEFAULT_REGION": s3.region,
    }
    names = [f"set/{plan.name}" for plan, _ in shards]
    arguments = [s3.bucket, "set", str(tmp_path / "local"), CAT, *names]
    with alone_with_mosaicml():
        done = subprocess.run(
            [sys.executable, "-c", READERS[form], *arguments],
            capture_output=True,
            text=True,
            env=env,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == [i for plan, _ in shards for i in plan.sample_ids]


@pytest.mark.parametrize(
    ("change", "about"),
    [
        ({"bucket": ""}, "bucket"),
        ({"bucket": "a/b"}, "bucket"),
        ({"endpoint": "127.0.0.1:9000"}, "http://"),
        ({"endpoint": "http://ana:canary@host"}, "credentials"),
        ({"secret_key": None}, "together"),
        ({"timeout": 0}, "timeout"),
        ({"attempts": 101}, "attempts"),
    ],
)
def test_settings_that_can_not_be_meant_are_refused(change: dict[str, Any], about: str) -> None:
    with pytest.raises(ConfigError, match=about) as caught:
        replace(S3("bucket", access_key="a", secret_key="canary"), **change)
    assert "canary" not in str(caught.value)


def test_credentials_are_not_shown() -> None:
    s3 = S3("bucket", access_key="canary-a", secret_key="canary-b", session_token="canary-c")
    assert "canary" not in repr(S3Object(s3, "key"))
