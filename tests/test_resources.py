"""The resources of the code location: what they open, and that nothing is reached before a run asks for it."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from dagster_aws.s3 import S3Resource

from refinery.config import S3StoreSettings
from refinery.errors import ConfigError
from refinery.project import Refinery
from resources import RefineryResource
from tests.servers import S3Server

PROJECT = "embedder: {kind: efficientnet_lite0}\n"


@dg.asset
def objects(refinery: RefineryResource) -> list[str]:
    """The keys of a project's store after one more was written."""
    project = refinery.open()
    project.store.put_if_absent("from/an-asset", b"x")
    return [info.key for info in project.store.list("from/")]


@pytest.fixture
def folder(tmp_path: Path, s3_settings: S3StoreSettings, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project on S3 whose refinery.yaml names no endpoint, on a machine whose environment has no credentials."""
    folder = tmp_path / "project"
    folder.mkdir()
    store = f"store: s3://{s3_settings.bucket}/{s3_settings.prefix}\n"
    (folder / "refinery.yaml").write_text(PROJECT + store, encoding="utf-8")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    return folder


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Resource:
    """The resource as a deployment writes it: keys out of the environment, when a run starts."""
    monkeypatch.setenv("TEAM_KEY", s3_server.access_key)
    monkeypatch.setenv("TEAM_SECRET", s3_server.secret_key)
    return S3Resource(
        endpoint_url=s3_server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=dg.EnvVar("TEAM_KEY"),
        aws_secret_access_key=dg.EnvVar("TEAM_SECRET"),
    )


@pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated")  # dagster warns of itself
def test_a_run_reaches_the_store_through_the_s3_resource_it_was_given(folder: Path, s3: S3Resource) -> None:
    resources = {"refinery": RefineryResource(project=str(folder), s3=s3)}
    result = dg.materialize([objects], resources=resources)
    assert result.success
    assert result.output_for_node("objects") == ["from/an-asset"]


def test_an_s3_resource_also_tells_datago_where_and_as_whom(folder: Path, s3_server: S3Server) -> None:
    client = S3Resource(
        endpoint_url=s3_server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=s3_server.access_key,
        aws_secret_access_key=s3_server.secret_key,
    ).get_client()
    address = Refinery.open(folder, s3=client).store.address("k")
    assert not isinstance(address, str)
    assert (address.s3.endpoint, address.s3.access_key) == (s3_server.endpoint, s3_server.access_key)
    assert address.s3.path_style
    assert s3_server.secret_key not in repr(address)


def test_without_an_s3_resource_the_store_is_reached_as_refinery_yaml_says(
    folder: Path, s3_settings: S3StoreSettings, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = s3_settings.model_dump_json(exclude_none=True)
    (folder / "refinery.yaml").write_text(PROJECT + f"store: {store}\n", encoding="utf-8")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    result = dg.materialize([objects], resources={"refinery": RefineryResource(project=str(folder))})
    assert result.output_for_node("objects") == ["from/an-asset"]


def test_a_resource_of_no_project_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REFINERY_PROJECT", raising=False)
    with pytest.raises(ConfigError) as caught:
        RefineryResource().open()
    assert caught.value.kind == "no_project"


def test_making_resources_opens_and_reaches_nothing() -> None:
    nowhere = S3Resource(endpoint_url="http://127.0.0.1:9", profile_name="no-such-profile")
    resource = RefineryResource(project="no/such/folder", s3=nowhere)
    assert resource.project == "no/such/folder"
