"""The same project embedded and on servers: the same roots, the same documents, the same shard bytes, and no secret anywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from assets.run import run
from refinery.corpus import CorpusReport
from refinery.errors import ConfigError
from refinery.ledger import Actor, ActorKind
from refinery.project import Refinery
from refinery.search import SearchRequest, search, vector_of
from refinery.snapshots import Snapshot
from tests.projects import CONFIG, copy_pictures, stage_sources
from tests.servers import S3Server

pytestmark = pytest.mark.xdist_group("real backends")
ANA = Actor(ActorKind.PERSON, "ana")
EXPORTS = [
    {"format": "webdataset", "size": "bucket", "side": 128, "patch": 16, "samples_per_shard": 4},
    {"format": "mds", "size": "bucket", "side": 128, "patch": 16, "samples_per_shard": 4},
    {"format": "parquet", "size": "bytes", "samples_per_shard": 4},
]


@pytest.fixture(scope="module")
def where(s3_server: S3Server, opensearch_url: str) -> Iterator[dict[str, Any]]:
    """The `store` and `index` sections of a project on servers, with credentials in the environment."""
    from opensearchpy import OpenSearch

    name = f"real-{uuid.uuid4().hex[:12]}"
    client: Any = s3_server.client()
    client.create_bucket(Bucket=name)
    patch = pytest.MonkeyPatch()
    patch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    patch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    yield {
        "store": {"kind": "s3", "bucket": name, "prefix": "a/project", "endpoint": s3_server.endpoint},
        "index": {"kind": "opensearch", "url": opensearch_url, "name": name},
    }
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
        client.delete_objects(
            Bucket=name, Delete={"Objects": [{"Key": o["Key"]} for o in page.get("Contents", [])]}
        )
    client.delete_bucket(Bucket=name)
    OpenSearch(opensearch_url).indices.delete(index=f"{name}.*", expand_wildcards="all")
    patch.undo()


def make(corpus: CorpusReport, home: Path, more: dict[str, Any]) -> Refinery:
    copy_pictures(corpus, home / "pictures")
    config = yaml.safe_load(CONFIG) | {"datasets": {"demo": {"exports": EXPORTS}}} | more
    project = Refinery.create(home / "project", yaml.safe_dump(config))
    stage_sources(project)
    run(project)
    gold = sorted(project.snapshots.rows(project.snapshots.get("demo@1"))["sample_id"].to_pylist())
    project.flag(gold[:1], "reject", ANA, reason="a logo")
    project.tag(gold[1:3], "portrait", ANA)
    project.flag(gold[2:3], "blocked", ANA, reason="takedown")
    run(project)
    return project


@pytest.fixture(scope="module")
def embedded(corpus: CorpusReport, tmp_path_factory: pytest.TempPathFactory) -> Refinery:
    return make(corpus, tmp_path_factory.mktemp("embedded"), {})


@pytest.fixture(scope="module")
def real(corpus: CorpusReport, tmp_path_factory: pytest.TempPathFactory, where: dict[str, Any]) -> Refinery:
    return make(corpus, tmp_path_factory.mktemp("real"), where)


def shards(project: Refinery, snapshot: Snapshot) -> dict[str, Any]:
    return {index["prefix"]: index["files"] for index in project.exporter.exports(snapshot)}


def objects(project: Refinery, prefix: str) -> dict[str, bytes]:
    return {info.key: project.store.get(info.key) for info in project.store.list(prefix)}


def test_roots_are_equal(embedded: Refinery, real: Refinery) -> None:
    assert real.status().root == embedded.status().root
    snapshots = [(s.ref, s.root) for s in embedded.snapshots.all()]
    assert [(s.ref, s.root) for s in real.snapshots.all()] == snapshots
    assert [ref for ref, _ in snapshots] == ["demo@1", "demo@2"]
    assert real.status().seen == real.status().gold + sum(real.status().held.values())


def test_shard_bytes_are_equal(embedded: Refinery, real: Refinery) -> None:
    for snapshot in embedded.snapshots.all():
        assert len(shards(embedded, snapshot)) == 3
        assert shards(real, snapshot) == shards(embedded, snapshot)
    mine, its = (
        {k: v for k, v in objects(p, "exports/").items() if "/records/" not in k and "index.json" not in k}
        for p in (real, embedded)
    )
    assert mine == its
    assert len(mine) > 6


def test_documents_are_equal_but_for_where_and_when_the_pictures_were_seen(
    embedded: Refinery, real: Refinery
) -> None:
    ids = embedded.index.digests()["sample_id"].to_pylist()
    assert real.index.digests()["sample_id"].to_pylist() == ids
    told = {"uri", "batch", "ingested_at", "doc_digest"}
    mine, its = (
        [{k: v for k, v in row.items() if k not in told} for row in p.index.get(ids).to_pylist()]
        for p in (real, embedded)
    )
    assert mine == its
    for sample_id in mine[0]["sample_id"], mine[-1]["sample_id"]:
        if any(row["sample_id"] == sample_id and row["embedder"] for row in mine):
            assert vector_of(real.index, sample_id) == vector_of(embedded.index, sample_id)


def test_searches_find_the_same(embedded: Refinery, real: Refinery) -> None:
    embedded_ids = [
        h.sample_id for h in search(embedded.index, embedded.fields, SearchRequest(limit=100)).hits
    ]
    with_vector = next(
        h.sample_id
        for h in search(embedded.index, embedded.fields, SearchRequest(filter="verdict = 'gold'")).hits
    )
    vector = vector_of(embedded.index, with_vector)
    for request in (
        SearchRequest(limit=100),
        SearchRequest(filter="NOT has_flag('reject') AND min_side >= 100", sort="-sharpness", limit=100),
        SearchRequest(filter="verdict = 'held'", seed=3, limit=100),
        SearchRequest(filter="NOT in_dataset('demo')", vector=vector, limit=5),
    ):
        mine, its = ([h.sample_id for h in search(p.index, p.fields, request).hits] for p in (real, embedded))
        assert mine == its
        assert its
    assert len(embedded_ids) == embedded.status().seen


def test_a_flag_is_searchable_as_soon_as_it_is_acknowledged(real: Refinery) -> None:
    sample_id = real.index.digests()["sample_id"].to_pylist()[0]
    events = real.tag([sample_id], "seen at once", ANA)
    report = real.projector.follow_ledger()
    assert report is not None
    assert real.index.position()["ledger_offset"] == events[-1].offset
    hits = search(real.index, real.fields, SearchRequest(filter="has_tag('seen at once')")).hits
    assert [h.sample_id for h in hits] == [sample_id]
    real.undo(ANA)
    real.project()


def test_an_index_that_was_wiped_comes_back_the_same(real: Refinery, where: dict[str, Any]) -> None:
    from opensearchpy import OpenSearch

    before = real.index.get(real.index.digests()["sample_id"].to_pylist()).to_pylist()
    OpenSearch(where["index"]["url"]).indices.delete(index=f"{where['index']['name']}.*")
    project = Refinery.open(real.path)
    assert not project.has_index
    project.project()
    assert project.index.get(project.index.digests()["sample_id"].to_pylist()).to_pylist() == before
    project.rebuild_index()
    assert project.index.get(project.index.digests()["sample_id"].to_pylist()).to_pylist() == before


def test_the_command_line_works_on_servers_and_shows_no_secret(
    real: Refinery, s3_server: S3Server, tmp_path: Path
) -> None:
    def told(*command: str, **environment: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "refinery.cli", "--project", str(real.path), *command],
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
        )
        output = done.stdout + done.stderr
        assert s3_server.secret_key not in output
        return done.returncode, output

    code, output = told("doctor", "--json")
    assert code == 0, output
    found = {f["check"]: f for f in json.loads(output)["checks"]}
    well = ("store", "ledger", "snapshots", "index", "recall")
    assert {name: found[name]["state"] for name in well} == dict.fromkeys(well, "ok"), output
    assert told("search", "--where", "verdict = 'gold'")[0] == 0
    code, output = told("status", AWS_SECRET_ACCESS_KEY="canary-wrong-secret")
    assert code == 4, output
    assert "canary-wrong-secret" not in output
    code, output = told("status", AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="", HOME=str(tmp_path))
    assert code == 4, output
    assert "credentials" in output


def test_no_secret_is_in_the_store_the_index_or_the_project(real: Refinery, s3_server: S3Server) -> None:
    secret = s3_server.secret_key.encode()
    for key, data in objects(real, "").items():
        assert secret not in data, key
    for path in real.path.rglob("*"):
        assert not path.is_file() or secret not in path.read_bytes(), path
    documents = real.index.get(real.index.digests()["sample_id"].to_pylist())
    assert secret.decode() not in str(documents.to_pylist())
    assert secret.decode() not in repr(vars(real)) + repr(real.settings) + repr(vars(real.store))
    assert secret.decode() not in repr(real.store.address("blobs/x"))


def test_a_project_whose_bucket_is_not_there_can_be_made_again(where: dict[str, Any], tmp_path: Path) -> None:
    missing = where | {"store": {**where["store"], "bucket": "never-made"}}
    config = yaml.safe_dump(yaml.safe_load(CONFIG) | missing)
    for _ in range(2):
        with pytest.raises(ConfigError) as caught:
            Refinery.create(tmp_path / "project", config)
        assert caught.value.kind == "no_such_bucket"
    store = {**where["store"], "prefix": "another/project"}
    made = Refinery.create(tmp_path / "project", yaml.safe_dump(yaml.safe_load(CONFIG) | {"store": store}))
    assert made.store.url == f"s3://{store['bucket']}/another/project"
    assert "caption" in made.fields
