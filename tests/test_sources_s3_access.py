"""How the service of a source on S3 is reached: connections that break, rights that lack, secrets that stay secret."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cutting_proxy import CuttingProxy
from prefixes import CAP, FIELDS, Place, rows, run

from refinery.batches import Batches
from refinery.config import S3Connection, SourceSettings, validate
from refinery.digests import digest
from refinery.errors import ConfigError, InputError, TransientError
from refinery.ingest import ingest, land, stage
from refinery.sources import configured_source, open_source
from refinery.sources.s3 import split_url
from refinery.store.local import LocalStore
from tests.servers import S3Server

pytestmark = pytest.mark.usefixtures("aws")


@pytest.fixture
def place(s3_server: S3Server, bucket: str) -> Place:
    return Place(s3_server, bucket)


def test_a_broken_connection_is_taken_up_where_it_broke(store: LocalStore, place: Place) -> None:
    data = random.Random(1).randbytes(3 << 20)
    place.fill({"big.jpg": data, "a.jpg": b"a"})
    with CuttingProxy(place.endpoint, after=600_000, cuts=4) as proxy:
        place.endpoint = proxy.url
        report = ingest(store, FIELDS, place.source(), batch_size=9, max_bytes=64 << 20)
        assert proxy.cuts == 0
        assert proxy.carried < 1.5 * len(data), "what had arrived was not asked for again"
    assert report.totals["unreadable"] == 0
    assert digest(data) in {row["sample_id"] for row in rows(store)}


def test_a_service_that_keeps_failing_fails_the_landing_and_the_batch_waits(
    store: LocalStore, place: Place
) -> None:
    place.fill({"big.jpg": bytes(3 << 20), "a.jpg": b"a"})
    with CuttingProxy(place.endpoint, after=0, cuts=0) as proxy:
        place.endpoint = proxy.url
        (staged,) = stage(store, FIELDS, place.source(), batch_size=9)
        proxy.cuts = 1000
        with pytest.raises(TransientError, match=r"in/.*\.jpg") as caught:
            land(store, FIELDS, staged.batch, max_bytes=CAP)
        assert caught.value.retryable
        assert Batches(store).staged() == [staged.batch]
        proxy.cuts = 0
        assert land(store, FIELDS, staged.batch, max_bytes=64 << 20).origins == 2


@pytest.fixture
def allowed(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Gives the process credentials that may do no more than a policy allows."""
    import boto3

    sts = boto3.client(
        "sts",
        endpoint_url=s3_server.endpoint,
        aws_access_key_id=s3_server.access_key,
        aws_secret_access_key=s3_server.secret_key,
        region_name="us-east-1",
    )

    def allow(*statements: dict[str, Any]) -> None:
        policy = {"Version": "2012-10-17", "Statement": list(statements)}
        reply = sts.assume_role(
            RoleArn="arn:aws:iam::1:role/x", RoleSessionName="test", Policy=json.dumps(policy)
        )
        for name in ("AccessKeyId", "SecretAccessKey", "SessionToken"):
            variable = {"AccessKeyId": "ACCESS_KEY_ID", "SecretAccessKey": "SECRET_ACCESS_KEY"}.get(
                name, "SESSION_TOKEN"
            )
            monkeypatch.setenv(f"AWS_{variable}", reply["Credentials"][name])

    return allow


def statement(effect: str, action: str, resource: str = "*") -> dict[str, Any]:
    return {"Effect": effect, "Action": [action], "Resource": f"arn:aws:s3:::{resource}"}


def test_who_may_not_list_or_read_is_told_so_and_nothing_is_landed(
    store: LocalStore, place: Place, allowed: Callable[..., None]
) -> None:
    place.fill({"a.jpg": b"a", "b.jpg": b"b"})
    allowed(statement("Allow", "s3:GetObject"))
    with pytest.raises(ConfigError, match="s3:ListBucket") as listing:
        stage(store, FIELDS, place.source(), batch_size=9)
    assert listing.value.kind == "access_denied"
    assert list(store.list("")) == []
    allowed(statement("Allow", "s3:ListBucket"))
    (staged,) = stage(store, FIELDS, place.source(), batch_size=9)
    with pytest.raises(ConfigError, match="s3:GetObject") as landing:
        land(store, FIELDS, staged.batch, max_bytes=CAP)
    assert landing.value.kind == "access_denied"
    assert Batches(store).staged() == [staged.batch]
    allowed(statement("Allow", "s3:GetObject"))
    assert land(store, FIELDS, staged.batch, max_bytes=CAP).origins == 2


def test_an_object_that_alone_is_denied_is_recorded(
    store: LocalStore, place: Place, allowed: Callable[..., None]
) -> None:
    place.fill({"a.jpg": b"a", "secret.jpg": b"b"})
    denied = statement("Deny", "s3:GetObject", f"{place.bucket}/in/secret.jpg")
    allowed(statement("Allow", "s3:*"), denied)
    (report,) = run(store, place.source()).batches
    assert {place.name(u.uri): u.reason for u in report.unreadable} == {"secret.jpg": "permission_denied"}
    assert [place.name(row["uri"]) for row in rows(store)] == ["a.jpg"]


def test_no_secret_is_in_anything_written_or_said(
    store: LocalStore, place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    secrets = [place.server.secret_key, "canary-wrong-secret"]
    place.fill({"a.jpg": b"a", "a.txt": b"words", "gone.jpg": b"g"})
    (staged,) = stage(store, FIELDS, place.source(), batch_size=9)
    listing = Batches(store).listing(staged.batch)
    assert listing.connection == {"endpoint": place.endpoint}
    place.delete("gone.jpg")
    said = []
    with monkeypatch.context() as wrong:
        wrong.setenv("AWS_SECRET_ACCESS_KEY", secrets[1])
        for act in (
            lambda: stage(store, FIELDS, place.source(), batch_size=9),
            lambda: land(store, FIELDS, staged.batch, max_bytes=CAP),
        ):
            with pytest.raises(ConfigError) as caught:
                act()
            assert caught.value.kind == "bad_credentials"
            said += [str(caught.value), repr(caught.value), json.dumps(caught.value.to_json())]
    report = land(store, FIELDS, staged.batch, max_bytes=CAP)
    said += [repr(place.source()), repr(report), caplog.text]
    place.endpoint = f"http://{place.server.access_key}:{secrets[0]}@127.0.0.1:1"
    with pytest.raises(ConfigError) as caught:
        list(place.source().entries(FIELDS))
    with pytest.raises(InputError) as url:
        open_source(f"s3://key:{secrets[0]}@{place.bucket}/in", name="far")
    said += [str(caught.value), str(url.value)]
    written = b"".join(store.get(info.key) for info in store.list("")) + "".join(said).encode()
    assert b"words" in written
    assert not [secret for secret in secrets if secret.encode() in written]


def test_a_bucket_that_is_not_there_says_so(place: Place) -> None:
    source = open_source(
        "s3://nobody-made-this/in", name="far", connection=S3Connection(endpoint=place.endpoint)
    )
    with pytest.raises(ConfigError, match="nobody-made-this") as caught:
        list(source.entries(FIELDS))
    assert caught.value.kind == "no_such_bucket"


@pytest.mark.parametrize(
    "url",
    ["s3://", "s3:///x", "s3://a", "s3://k:s@bucket/x", "s3://host:9000/x", "s3://buck et/x", "s3://b?x=1"],
)
def test_what_is_no_place_on_s3_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(InputError, match="s3://bucket/prefix") as caught:
        open_source(url, name="far")
    assert caught.value.kind == "no_such_source"


@pytest.mark.parametrize("url", ["s3://bucket/rows.csv", "s3://bucket/in"])
@pytest.mark.parametrize("kind", ["manifest", "folder"])
def test_kinds_that_cannot_be_on_s3_say_which_can(url: str, kind: str) -> None:
    with pytest.raises(InputError, match="use s3 or webdataset") as caught:
        open_source(url, name="far", kind=kind)
    assert caught.value.kind == "bad_source_kind"


def test_a_folder_has_no_kind_or_service_of_s3(tmp_path: Path) -> None:
    for wrong in ({"kind": "s3"}, {"connection": S3Connection(endpoint="http://127.0.0.1:9")}):
        with pytest.raises(InputError, match="s3://bucket/prefix"):
            open_source(tmp_path, name="near", **wrong)  # type: ignore[arg-type]


def test_a_url_is_split_at_its_bucket_and_the_rest_is_the_key() -> None:
    assert split_url("s3://bucket") == ("bucket", "")
    assert split_url("s3://bu-ck.et/a b//%20?#\n/") == ("bu-ck.et", "a b//%20?#\n/")


WRONG = {
    "neither": ({}, "either a `path` or a `url`"),
    "both": ({"path": "in", "url": "s3://b/in"}, "either a `path` or a `url`"),
    "s3 at a path": ({"kind": "s3", "path": "in"}, "kind s3 has a url"),
    "folder at a url": ({"kind": "folder", "url": "s3://b/in"}, "kind folder has a path"),
    "manifest at a url": ({"kind": "manifest", "url": "s3://b/in"}, "kind manifest has a path"),
    "folder with a service": ({"path": "in", "endpoint": "http://h"}, "go with a `url`"),
    "folder with a style": ({"path": "in", "path_style": False}, "go with a `url`"),
    "misspelt": ({"url": "s3://b/in", "endpiont": "x"}, "Did you mean 'endpoint'"),
    "a secret": ({"url": "s3://b/in", "secret_key": "canary"}, "unknown key 'secret_key'"),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_a_source_in_refinery_yaml_has_one_place_that_fits_its_kind(name: str) -> None:
    raw, told = WRONG[name]
    with pytest.raises(ConfigError, match=told) as caught:
        validate(SourceSettings, {"name": "far", **raw}, "refinery.yaml")
    assert "canary" not in str(caught.value)


def test_a_source_in_refinery_yaml_says_how_its_service_is_reached(tmp_path: Path) -> None:
    raw = {
        "name": "far",
        "url": "s3://bucket/a b",
        "endpoint": "http://h:9",
        "path_style": False,
        "profile": "team",
    }
    source = configured_source(validate(SourceSettings, raw, "refinery.yaml"), tmp_path)
    assert (source.kind, source.uri) == ("s3", "s3://bucket/a%20b")
    assert source.connection == {"endpoint": "http://h:9", "path_style": False, "profile": "team"}
    tars = validate(
        SourceSettings, {"name": "t", "kind": "webdataset", "url": "s3://bucket"}, "refinery.yaml"
    )
    assert configured_source(tars, tmp_path).kind == "webdataset"
    (tmp_path / "in").mkdir()
    near = configured_source(validate(SourceSettings, {"name": "n", "path": "in"}, "refinery.yaml"), tmp_path)
    assert (near.kind, near.uri, near.connection) == ("folder", f"file://{tmp_path}/in", {})


def test_the_command_line_takes_a_prefix_and_finds_its_service_in_refinery_yaml(
    tmp_path: Path, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    from refinery.cli import main
    from refinery.project import Refinery

    def ingested(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as exit_:
            main(["--project", str(tmp_path / "project"), "ingest", *words])
        told = capsys.readouterr()
        return int(exit_.value.code or 0), told.out + told.err

    config = "embedder: {kind: efficientnet_lite0}\nsources:\n"
    config += f"  - {{name: far, url: 's3://{place.bucket}/in', endpoint: '{place.endpoint}'}}\n"
    Refinery.create(tmp_path / "project", config)
    url = f"s3://{place.bucket}/in"
    assert ingested(url, "--source", "far") == (0, "Nothing new in source far: there is nothing in it.\n")
    place.fill({"a.jpg": b"a", "b.jpg": b"b"})
    code, told = ingested(url, "--source", "far")
    assert (code, "2 samples in 1 batch of source far" in told) == (0, True)
    assert ingested(url, "--source", "far")[1].endswith("2 entries are unchanged.\n")
    code, told = ingested(url, "--source", "other", "--endpoint", place.endpoint, "--region", "us-east-1")
    assert (code, "0 samples new, 2 known" in told) == (0, True)
    code, told = ingested(str(tmp_path), "--source", "near", "--endpoint", place.endpoint)
    assert (code, "s3://bucket/prefix" in told) == (3, True)
