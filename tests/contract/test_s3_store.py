"""What only an S3 store can get wrong: settings, credentials, other people's objects, leftovers of large writes."""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from typing import Any

import pytest

from refinery.config import S3Connection, S3StoreSettings
from refinery.errors import ConfigError, ConflictError, InputError, RefineryError, TransientError
from refinery.s3 import make_client
from refinery.store.s3 import S3Store
from tests.servers import S3Server

PART = 5 << 20


@pytest.fixture
def client(s3_server: S3Server) -> Any:
    return s3_server.client()


def keys(store: S3Store) -> list[str]:
    return [info.key for info in store.list("")]


def refused(store: S3Store) -> RefineryError:
    """The one error with which every verb of the store fails."""
    verbs = [
        lambda: store.get("k"),
        lambda: store.exists("k"),
        lambda: store.put_if_absent("k", b"x"),
        lambda: store.put_if_match("k", b"x", "etag"),
        lambda: list(store.list("")),
        lambda: store.delete("k"),
        lambda: store.get_range("k", 0, 1),
    ]
    found = []
    for verb in verbs:
        with pytest.raises(RefineryError) as caught:
            verb()
        found.append(caught.value)
    assert len({(type(error), error.kind) for error in found}) == 1, found
    return found[0]


def test_opening_and_naming_a_store_reaches_no_server() -> None:
    store = S3Store(S3StoreSettings(endpoint="http://127.0.0.1:9", bucket="b", prefix="/p/q/"))
    assert store.url == "s3://b/p/q"
    assert store.concurrency > 8
    assert store.local_path("k") is None
    assert S3Store(S3StoreSettings(bucket="b")).url == "s3://b"


def test_a_bucket_that_is_not_there_is_a_matter_of_config(s3_settings: S3StoreSettings) -> None:
    error = refused(S3Store(s3_settings.model_copy(update={"bucket": "nobody-made-this"})))
    assert (type(error), error.kind) == (ConfigError, "no_such_bucket")
    assert "nobody-made-this" in str(error)


def test_a_wrong_secret_is_a_matter_of_config_and_never_shown(
    s3_settings: S3StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret-of-the-test")
    error = refused(S3Store(s3_settings))
    assert isinstance(error, ConfigError)
    shown = "".join(traceback.format_exception(error)) + repr(error)
    assert "canary" not in shown
    assert "Signature=" not in shown
    assert os.environ["AWS_ACCESS_KEY_ID"] + ":" not in shown


def test_an_unknown_access_key_is_a_matter_of_config(
    s3_settings: S3StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "CANARYKEY")
    error = refused(S3Store(s3_settings))
    assert isinstance(error, ConfigError)
    assert "CANARYKEY" not in str(error)


def test_no_credentials_at_all_is_a_matter_of_config(
    s3_settings: S3StoreSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    store = S3Store(s3_settings)
    error = refused(store)
    assert (type(error), error.kind) == (ConfigError, "no_credentials")
    assert "AWS_ACCESS_KEY_ID" in str(error)
    with pytest.raises(ConfigError) as caught:
        store.address("k")
    assert caught.value.kind == "no_credentials"


def test_a_named_profile_gives_the_credentials(
    s3_settings: S3StoreSettings, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "credentials").write_text(
        f"[team]\naws_access_key_id = {s3_server.access_key}\naws_secret_access_key = {s3_server.secret_key}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    assert S3Store(s3_settings.model_copy(update={"profile": "team"})).put_if_absent("k", b"x")
    with pytest.raises(ConfigError) as caught:
        S3Store(s3_settings.model_copy(update={"profile": "nobody"})).get("k")
    assert caught.value.kind == "no_credentials"


def test_a_service_that_is_down_is_a_matter_of_time(s3_settings: S3StoreSettings) -> None:
    down = s3_settings.model_copy(update={"endpoint": "http://127.0.0.1:9"})
    store = S3Store(down, make_client(down, attempts=2))
    with pytest.raises(TransientError) as caught:
        store.get("k")
    assert caught.value.kind == "s3_unreachable"
    with pytest.raises(TransientError) as caught:
        store.put_if_absent("k", b"x")
    assert caught.value.kind == "write_unknown"


@pytest.mark.parametrize("endpoint", ["minio:9000", "ftp://x", "https://", "http://key:canary@x:9000"])
def test_an_endpoint_is_a_url_without_credentials(endpoint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_client(S3Connection(endpoint=endpoint))
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("prefix", ["../x", "a//b", "a b"])
def test_a_prefix_that_is_no_key_is_a_matter_of_config(prefix: str) -> None:
    with pytest.raises(ConfigError, match="prefix"):
        S3Store(S3StoreSettings(bucket="b", prefix=prefix))


def test_a_key_longer_than_s3_takes_is_refused(s3_settings: S3StoreSettings) -> None:
    store = S3Store(s3_settings)
    room = 1024 - len("some/prefix/")
    longest = "/".join(["k" * 200] * 5)[:room]
    assert store.put_if_absent(longest, b"x")
    with pytest.raises(InputError) as caught:
        store.put_if_absent(f"{longest}{'k' * (room - len(longest) + 1)}", b"x")
    assert caught.value.kind == "bad_key"


def test_what_no_store_wrote_is_neither_listed_nor_in_the_way(
    s3_settings: S3StoreSettings, client: Any, bucket: str
) -> None:
    for name in ("some/prefix/folder/", "some/prefix/with space"):
        client.put_object(Bucket=bucket, Key=name, Body=b"")
    client.put_object(Bucket=bucket, Key="some/prefix/foreign", Body=b"theirs")
    store = S3Store(s3_settings)
    assert keys(store) == ["foreign"]
    assert not store.put_if_absent("foreign", b"mine")
    found = store.get_with_etag("foreign")
    assert found is not None
    etag = store.put_if_match("foreign", b"mine", found[1])
    assert store.get_with_etag("foreign") == (b"mine", etag)


def test_an_unfinished_large_write_is_never_seen_and_a_failed_one_leaves_nothing(
    s3_settings: S3StoreSettings, client: Any, bucket: str
) -> None:
    store = S3Store(s3_settings, multipart_from=PART, part_bytes=PART)
    etag = store.put_if_match("big", b"small", None)
    store.put_if_match("big", b"newer", etag)
    with pytest.raises(ConflictError):
        store.put_if_match("big", b"x" * (2 * PART), etag)
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)

    started = client.create_multipart_upload(Bucket=bucket, Key="some/prefix/left")
    client.upload_part(
        Bucket=bucket, Key="some/prefix/left", UploadId=started["UploadId"], PartNumber=1, Body=b"x"
    )
    assert keys(store) == ["big"]
    assert not store.exists("left")
    assert store.put_if_absent("left", b"y" * (PART + 1))
    assert store.get("left") == b"y" * (PART + 1)


def test_a_given_client_is_used_as_it_is(s3_settings: S3StoreSettings, client: Any) -> None:
    elsewhere = s3_settings.model_copy(update={"endpoint": "http://127.0.0.1:9"})
    store = S3Store(elsewhere, client)
    assert store.put_if_absent("k", b"x")
    assert store.concurrency == client.meta.config.max_pool_connections


@pytest.mark.usefixtures("aws")
def test_a_store_on_aws_itself_is_addressed_by_region_and_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "canary-token")
    address = S3Store(S3StoreSettings(bucket="b", prefix="p", region="eu-central-1")).address("k")
    assert (address.key, address.s3.region, address.s3.endpoint) == ("p/k", "eu-central-1", None)
    assert not address.s3.path_style
    assert address.s3.session_token == "canary-token"
    assert "canary" not in repr(address)


def test_many_swaps_of_one_object_keep_a_bounded_trail(s3_settings: S3StoreSettings) -> None:
    store = S3Store(s3_settings)
    etag = None
    for turn in range(40):
        etag = store.put_if_match("k", b"%d" % turn, etag)
    assert etag is not None
    assert len(etag) < 1000
    assert store.get_with_etag("k") == (b"39", etag)
