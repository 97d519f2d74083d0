"""An embedded project copied to servers is the same project there."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assets import twin
from assets.run import run
from assets.twin import make_twin, sections
from assets.up import _open
from refinery.config import FILE_NAME
from refinery.corpus import CorpusReport
from refinery.errors import ConfigError, InputError
from refinery.ledger import Actor, ActorKind
from refinery.project import Refinery
from refinery.search import SearchRequest, search
from tests.projects import CONFIG, create_project, stage_sources
from tests.servers import S3Server

FILES = ("broken/truncated.png", "photographs/brick.png", "photographs/chelsea.png", "photographs/coffee.png")
pytestmark = pytest.mark.xdist_group("twin")


@pytest.fixture(scope="module")
def servers(s3_server: S3Server, opensearch_url: str) -> Iterator[dict[str, str]]:
    """The environment that `deploy.services run --data` gives to its command, with a bucket of this suite's own."""
    from opensearchpy import OpenSearch

    patch = pytest.MonkeyPatch()
    bucket = f"twin-{uuid.uuid4().hex[:12]}"
    patch.setattr(twin, "BUCKET", bucket)
    found = {
        "AWS_ACCESS_KEY_ID": s3_server.access_key,
        "AWS_SECRET_ACCESS_KEY": s3_server.secret_key,
        "AWS_ENDPOINT_URL_S3": s3_server.endpoint,
        "OPENSEARCH_URL": opensearch_url,
    }
    for name, value in found.items():
        patch.setenv(name, value)
    yield found
    client: Any = s3_server.client()
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        client.delete_objects(
            Bucket=bucket, Delete={"Objects": [{"Key": o["Key"]} for o in page.get("Contents", [])]}
        )
    client.delete_bucket(Bucket=bucket)
    OpenSearch(opensearch_url).indices.delete(index=f"{bucket}*", expand_wildcards="all")
    patch.undo()


@pytest.fixture(scope="module")
def embedded(corpus: CorpusReport, tmp_path_factory: pytest.TempPathFactory) -> Refinery:
    """A project with verdicts, a flag and a snapshot with shards."""
    project = create_project(corpus, tmp_path_factory.mktemp("embedded"), FILES)
    stage_sources(project)
    run(project)
    gold = project.snapshots.rows(project.snapshots.get("demo@1"))["sample_id"].to_pylist()
    project.flag(gold[:1], "reject", Actor(ActorKind.PERSON, "ana"), reason="a logo")
    run(project)
    return project


def found(project: Refinery) -> dict[str, dict[str, Any]]:
    """Every document of the index, by sample."""
    result = search(project.index, project.fields, SearchRequest(limit=100))
    return {hit.sample_id: hit.document for hit in result.hits}


def test_a_twin_holds_the_same_objects_roots_and_documents(
    embedded: Refinery, servers: dict[str, str]
) -> None:
    home = embedded.path.with_name(f"{twin.BUCKET}-real")
    made = make_twin(embedded.path, home, servers)
    reopened = Refinery.open(home)
    assert made.store.url == reopened.store.url == f"s3://{twin.BUCKET}/{home.name}"
    keys = [info.key for info in embedded.store.list("")]
    assert [info.key for info in reopened.store.list("")] == keys
    assert all(reopened.store.get(key) == embedded.store.get(key) for key in keys)
    assert reopened.status().to_json() == embedded.status().to_json()
    assert found(reopened) == found(embedded)
    assert run(reopened).facts_computed == 0
    assert reopened.status().root == embedded.status().root
    assert not [
        secret
        for secret in servers.values()
        if "secret" in secret and secret in (home / FILE_NAME).read_text()
    ]


def test_a_copy_that_was_broken_off_is_finished_with_what_is_true_now(
    embedded: Refinery, servers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = embedded.path.with_name(f"{twin.BUCKET}-broken-off")

    def fail(_project: Refinery) -> None:
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(Refinery, "rebuild_index", fail)
        with pytest.raises(InterruptedError):
            make_twin(embedded.path, home, servers)
    assert not (home / FILE_NAME).exists(), "half a twin is no project"
    [gold] = embedded.snapshots.rows(embedded.snapshots.get("demo@2"))["sample_id"].to_pylist()[:1]
    embedded.flag([gold], "reject", Actor(ActorKind.PERSON, "ana"), reason="another logo")
    run(embedded)
    assert make_twin(embedded.path, home, servers).status().to_json() == embedded.status().to_json()


def test_up_on_servers_opens_the_twin_and_makes_it_once(
    servers: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / f"{twin.BUCKET}-other"
    Refinery.create(folder, CONFIG)
    first = _open(folder, "real")
    assert "Copying" in capsys.readouterr().out
    assert first.path == folder.with_name(f"{folder.name}-real")
    assert first.settings.sources[0].path == folder / "../pictures"
    assert _open(folder, "real").store.url == first.store.url
    assert not capsys.readouterr().out
    assert _open(folder, "embedded").store.url == str(folder / "store")
    with pytest.raises(InputError, match="`make demo` makes one"):
        _open(tmp_path / "nowhere", "real")
    with pytest.raises(ConfigError, match="already: `make up PROJECT="):
        make_twin(first.path, tmp_path / "again", servers)


def test_two_projects_of_one_name_are_not_mixed(servers: dict[str, str], tmp_path: Path) -> None:
    for parent in ("one", "other"):
        Refinery.create(tmp_path / parent / twin.BUCKET, CONFIG)
    make_twin(tmp_path / "one" / twin.BUCKET, tmp_path / "one" / f"{twin.BUCKET}-same", servers)
    with pytest.raises(ConfigError, match="holds another project"):
        make_twin(tmp_path / "other" / twin.BUCKET, tmp_path / "other" / f"{twin.BUCKET}-same", servers)


def test_without_servers_in_the_environment_the_error_says_how_to_start_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"OPENSEARCH_URL must say where.*`make up BACKEND=real`"):
        sections(tmp_path, {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"})
