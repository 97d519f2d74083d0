"""Fixtures of the real servers: those that `make test` started, found through the environment."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import pytest

from refinery.config import S3StoreSettings


@dataclass(frozen=True, slots=True)
class S3Server:
    """A real S3 server on this machine."""

    endpoint: str
    access_key: str
    secret_key: str

    def client(self) -> object:
        """The boto3 client of the server, for looking at it beside the code under test."""
        return _client(self)


@cache
def _client(server: S3Server) -> object:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="us-east-1",
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )


def _wanted(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        pytest.fail(f"{name} is not set: run the tests with `make test`, which starts the servers.")
    return value


@pytest.fixture(scope="session")
def opensearch_url() -> str:
    """Where OpenSearch answers."""
    return _wanted("REFINERY_TEST_OPENSEARCH_URL")


@pytest.fixture(scope="session")
def s3_server() -> S3Server:
    """Where S3 answers, and the credentials of its owner."""
    return S3Server(
        _wanted("REFINERY_TEST_S3_URL"),
        _wanted("REFINERY_TEST_S3_ACCESS_KEY"),
        _wanted("REFINERY_TEST_S3_SECRET_KEY"),
    )


@pytest.fixture
def aws(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's credentials in the environment, where boto3's standard chain finds them."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def bucket(s3_server: S3Server) -> Iterator[str]:
    """A bucket of the test's own, emptied and removed afterwards."""
    client = s3_server.client()
    name = f"test-{uuid.uuid4().hex[:20]}"
    client.create_bucket(Bucket=name)  # type: ignore[attr-defined]
    yield name
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):  # type: ignore[attr-defined]
        keys = [{"Key": item["Key"]} for item in page.get("Contents", [])]
        if keys:
            client.delete_objects(Bucket=name, Delete={"Objects": keys})  # type: ignore[attr-defined]
    client.delete_bucket(Bucket=name)  # type: ignore[attr-defined]


@pytest.fixture
def s3_settings(s3_server: S3Server, bucket: str, aws: None) -> S3StoreSettings:  # noqa: ARG001
    """An empty store: a prefix of a bucket in which a neighbour's object begins with the same letters."""
    s3_server.client().put_object(Bucket=bucket, Key="some/prefixed", Body=b"a neighbour's")  # type: ignore[attr-defined]
    return S3StoreSettings(endpoint=s3_server.endpoint, bucket=bucket, prefix="some/prefix")
