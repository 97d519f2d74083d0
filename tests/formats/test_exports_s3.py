"""Exports on S3: the files of the embedded export, digest by digest, and what lies there is never believed unread."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from refinery.config import S3StoreSettings
from refinery.export import Exporter, ExportReport, parse_recipe
from refinery.ledger import Actor, ActorKind
from refinery.project import Refinery
from refinery.snapshots import Snapshots
from refinery.store import ObjectStore
from refinery.store.s3 import S3Store
from tests.servers import S3Server

FORMATS = ("webdataset", "mds", "parquet")


@pytest.fixture
def project(refined: Path) -> Refinery:
    """A project with two versions of a dataset that differ by one sample."""
    project = Refinery.open(refined)
    first, _ = project.freeze("set")
    [chosen, *_] = project.snapshots.rows(first)["sample_id"].to_pylist()
    project.flag([chosen], "blocked", Actor(ActorKind.PERSON, "ana"))
    project.replay()
    project.freeze("set")
    return project


@pytest.fixture
def remote(project: Refinery, s3_server: S3Server, bucket: str) -> S3Store:
    """What exports are made from, on S3."""
    settings = S3StoreSettings(bucket=bucket, prefix="a/b", endpoint=s3_server.endpoint)
    store = S3Store(settings, s3_server.client())
    with ThreadPoolExecutor(8) as pool:
        for prefix in ("snapshots/", "states/", "blobs/"):
            keys = [info.key for info in project.store.list(prefix)]
            list(pool.map(lambda key: store.put_if_absent(key, project.store.get(key)), keys))
    return store


def export(store: ObjectStore, ref: str, form: str, workers: int) -> ExportReport:
    snapshots = Snapshots(store)
    recipe = parse_recipe({"format": form, "size": "bucket", "side": 64, "patch": 16, "samples_per_shard": 4})
    return Exporter(store, snapshots).export(snapshots.get(ref), recipe, workers=workers)


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_on_s3_is_the_embedded_one(project: Refinery, remote: S3Store, form: str) -> None:
    for ref in ("set@1", "set@2"):
        here, there = export(project.store, ref, form, 1), export(remote, ref, form, 3)
        assert there == here
        names = [info.key for info in project.store.list(f"{here.prefix}/")]
        assert [info.key for info in remote.list(f"{here.prefix}/")] == names
        assert f"{here.prefix}/index.json" in names
        for name in names:
            assert remote.get(name) == project.store.get(name), name
        assert bool(there.reused) == (ref == "set@2")
        assert findings(remote, ref) == []


def findings(store: ObjectStore, ref: str) -> list[str]:
    exporter = Exporter(store, Snapshots(store))
    [index] = exporter.exports(Snapshots(store).get(ref))
    return list(exporter.verify(index))


def test_a_shard_that_was_damaged_or_lost_is_named_and_never_taken_over(
    project: Refinery, remote: S3Store, s3_server: S3Server, bucket: str
) -> None:
    client: Any = s3_server.client()
    prefix = export(remote, "set@1", "parquet", 1).prefix
    shards = [f["name"] for f in json.loads(remote.get(f"{prefix}/index.json"))["files"]]
    for name in shards[1:]:
        data = bytearray(remote.get(f"{prefix}/{name}"))
        data[len(data) // 2] ^= 1
        client.put_object(Bucket=bucket, Key=f"a/b/{prefix}/{name}", Body=bytes(data))
    remote.delete(f"{prefix}/{shards[0]}")
    named = zip(shards, findings(remote, "set@1"), strict=True)
    assert all(name in finding for name, finding in named)
    there = export(remote, "set@2", "parquet", 1)
    assert (there.reused, there.written) == (0, there.shards)
    export(project.store, "set@1", "parquet", 1)
    here = export(project.store, "set@2", "parquet", 1)
    for info in project.store.list(f"{here.prefix}/"):
        assert remote.get(info.key) == project.store.get(info.key)
