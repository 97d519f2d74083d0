"""datago before an S3 service that misbehaves: tried again where that may help, and never a wrong verdict on a picture."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import datago
from datago import Payload, Recipe, Record, S3Object, ShardPlan, StorageError
from tests.faults.s3_proxy import Fault, S3Proxy, s3_proxy
from tests.formats.remote import large, s3_of
from tests.formats.shards import SKIMAGE, png
from tests.formats.tls import tls_front
from tests.servers import S3Server

PICTURE = (SKIMAGE / "coffee.png").read_bytes()
PLAN = ShardPlan("x", None, ("a",))
BYTES = Recipe(size="bytes")


@pytest.fixture
def client(s3_server: S3Server) -> Any:
    return s3_server.client()


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[S3Proxy]:
    with s3_proxy(s3_server.endpoint) as proxy:
        yield proxy


@pytest.fixture
def picture(proxy: S3Proxy, s3_server: S3Server, bucket: str, client: Any) -> S3Object:
    """A good picture behind the proxy, asked for three times at most."""
    client.put_object(Bucket=bucket, Key="picture", Body=PICTURE)
    return S3Object(s3_of(s3_server, bucket, proxy.url, timeout=1, attempts=3), "picture")


def verdict(at: S3Object, **options: Any) -> tuple[str | None, bool, str]:
    found = datago.inspect([at], **options).columns
    if found["reason"][0] is None:
        assert found["bytes"][0] == len(PICTURE)
    return found["reason"][0], bool(found["retryable"][0]), found["detail"][0] or ""


@pytest.mark.parametrize("kind", ["busy", "lost", "cut", "reset"])
def test_trouble_that_passes_is_not_noticed(kind: str, proxy: S3Proxy, picture: S3Object) -> None:
    proxy.script(Fault(kind, "GET", times=2))
    assert verdict(picture) == (None, False, "")
    proxy.calm()


def test_a_service_that_hangs_once_is_asked_again(proxy: S3Proxy, picture: S3Object) -> None:
    proxy.script(Fault("hang", "GET"))
    assert verdict(picture) == (None, False, "")
    proxy.calm()


@pytest.mark.parametrize(
    ("kind", "about"),
    [
        ("busy", "500 (InternalError)"),
        ("lost", "broke"),
        ("cut", "broke"),
        ("reset", "broke"),
        ("hang", "for 1 s"),
    ],
)
def test_trouble_that_stays_is_worth_a_later_attempt_and_no_verdict_on_the_picture(
    kind: str, about: str, proxy: S3Proxy, picture: S3Object
) -> None:
    proxy.script(Fault(kind, "GET", times=3))
    reason, retryable, detail = verdict(picture)
    assert (reason, retryable) == ("unreadable", True)
    assert about in detail
    assert f"s3://{picture.s3.bucket}/picture" in detail
    assert proxy.requests["GET"] == 3


def test_what_no_attempt_can_mend_is_asked_for_once(proxy: S3Proxy, picture: S3Object) -> None:
    for at, about in (
        (replace(picture, key="absent"), "there is no such object"),
        (replace(picture, s3=replace(picture.s3, bucket="no-such-bucket-here")), "there is no such bucket"),
    ):
        before = proxy.requests["GET"]
        reason, retryable, detail = verdict(at)
        assert (reason, retryable, about in detail) == ("unreadable", True, True), detail
        assert proxy.requests["GET"] - before == 1


def test_a_body_over_the_cap_is_not_read(proxy: S3Proxy, picture: S3Object) -> None:
    proxy.script(Fault("cut", "GET"))
    assert verdict(picture, max_bytes=len(PICTURE) - 1)[0] == "too_large"
    assert proxy.requests["GET"] == 1
    assert verdict(picture, max_bytes=len(PICTURE)) == (None, False, "")


@pytest.mark.parametrize(
    "change",
    [
        {"secret_key": "canary-secret"},
        {"access_key": "canary-access", "secret_key": "canary-secret", "session_token": "canary-token"},
    ],
)
def test_refused_credentials_are_told_without_them(change: dict[str, str], picture: S3Object) -> None:
    at = replace(picture, s3=replace(picture.s3, **change))
    reason, retryable, detail = verdict(at)
    assert (reason, retryable) == ("unreadable", True)
    assert "refused the credentials" in detail
    with pytest.raises(StorageError, match="refused the credentials") as caught:
        datago.write_shard(at, PLAN, [Record("a", PICTURE, "png")], BYTES)
    assert "canary" not in detail + str(caught.value) + repr(caught.value)


def test_a_service_that_is_down_is_worth_a_later_attempt(picture: S3Object) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        down = replace(picture.s3, endpoint=f"http://127.0.0.1:{free.getsockname()[1]}")
    assert verdict(replace(picture, s3=down))[:2] == ("unreadable", True)
    with pytest.raises(StorageError, match="no connection") as caught:
        datago.write_shard(S3Object(down, "x"), PLAN, [Record("a", PICTURE, "png")], BYTES)
    assert caught.value.retryable


def objects(client: Any, bucket: str) -> list[str]:
    return [o["Key"] for o in client.list_objects_v2(Bucket=bucket).get("Contents", [])]


def test_a_shard_whose_input_did_not_come_is_not_sent(proxy: S3Proxy, picture: S3Object, client: Any) -> None:
    proxy.script(Fault("busy", "GET", times=3))
    with pytest.raises(StorageError, match="sample a"):
        datago.write_shard(replace(picture, key="x"), PLAN, [Record("a", picture, "png")], BYTES)
    assert objects(client, picture.s3.bucket) == ["picture"]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("busy", "POST", "uploads"),
        Fault("busy", "PUT", "partNumber=2"),
        Fault("reset", "PUT", "partNumber=3"),
    ],
    ids=lambda f: f"{f.kind} {f.text}",
)
def test_a_large_shard_appears_whole_or_not_at_all(
    fault: Fault, proxy: S3Proxy, picture: S3Object, client: Any
) -> None:
    at, bucket = replace(picture, key="x"), picture.s3.bucket
    plan, records = large()
    proxy.script(replace(fault, times=3))
    with pytest.raises(StorageError, match=f"s3://{bucket}/x"):
        datago.write_shard(at, plan, records, BYTES)
    proxy.calm()
    assert objects(client, bucket) == ["picture"]
    assert client.list_multipart_uploads(Bucket=bucket, Prefix="x").get("Uploads", []) == []
    proxy.script(fault)
    result = datago.write_shard(at, plan, records, BYTES)
    proxy.calm()
    assert client.head_object(Bucket=bucket, Key="x")["ContentLength"] == result.bytes


def test_a_shard_whose_last_answer_was_lost_is_there_once_it_was_written_again(
    proxy: S3Proxy, picture: S3Object, client: Any
) -> None:
    at = replace(picture, key="x")
    plan, records = large()
    proxy.script(Fault("lost", "POST", "uploadId="))
    with suppress(StorageError):  # the service may know the upload no more: nothing is claimed then
        datago.write_shard(at, plan, records, BYTES)
    proxy.calm()
    first = client.get_object(Bucket=at.s3.bucket, Key="x")["Body"].read()
    datago.write_shard(at, plan, records, BYTES)
    assert client.get_object(Bucket=at.s3.bucket, Key="x")["Body"].read() == first


def test_a_small_shard_whose_answer_was_lost_is_sent_again(
    proxy: S3Proxy, picture: S3Object, client: Any
) -> None:
    proxy.script(Fault("lost", "PUT"))
    result = datago.write_shard(replace(picture, key="x"), PLAN, [Record("a", PICTURE, "png")], BYTES)
    proxy.calm()
    assert client.head_object(Bucket=picture.s3.bucket, Key="x")["ContentLength"] == result.bytes


def test_payloads_of_pictures_that_can_not_be_used_do_not_fill_the_way(
    picture: S3Object, client: Any, tmp_path: Path
) -> None:
    client.put_object(Bucket=picture.s3.bucket, Key="broken", Body=PICTURE[:500])
    broken = replace(picture, key="broken")
    records = [Record(f"s{i}", broken, "png", b"{}", [Payload("p", "bin", picture)]) for i in range(100)]
    records.append(Record("s", picture, "png"))
    plan = ShardPlan("x", None, tuple(r.sample_id for r in records))
    result = datago.write_shard(tmp_path / "x", plan, records, BYTES, threads=2)
    assert (result.samples, len(result.failures)) == (1, 100)
    assert {reason for _, reason, _ in result.failures} == {"truncated"}


WAITING = {
    "GET": "datago.inspect([at])",
    "PUT": 'datago.write_shard(at, datago.ShardPlan("x", None, ()), [], datago.Recipe(size="bytes"))',
}


@pytest.mark.parametrize("method", WAITING)
def test_ctrl_c_is_heard_while_waiting_for_the_network(
    method: str, proxy: S3Proxy, picture: S3Object
) -> None:
    proxy.script(Fault("hang", method))
    s3 = picture.s3
    code = f"""
import sys, datago
at = datago.S3Object(datago.S3(sys.argv[1], "us-east-1", sys.argv[2], True, "{s3.access_key}", "{s3.secret_key}", timeout=600), "x")
{WAITING[method]}
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, s3.bucket, proxy.url], stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: proxy.struck["hang"] == 1)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=20)
    assert "KeyboardInterrupt" in told.splitlines()[-1]


def wait_for(done: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_tls_is_spoken_with_those_whom_the_platform_or_the_bundle_trusts(
    s3_server: S3Server, bucket: str, client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.put_object(Bucket=bucket, Key="picture", Body=PICTURE)
    with tls_front(s3_server.endpoint, tmp_path) as (url, shown):
        strange = s3_of(s3_server, bucket, url, attempts=1, timeout=5)
        reason, _, detail = verdict(S3Object(strange, "picture"))
        assert reason == "unreadable"
        assert "certificate" in detail
        monkeypatch.setenv("AWS_CA_BUNDLE", str(shown))
        trusted = replace(strange, timeout=6)
        assert verdict(S3Object(trusted, "picture")) == (None, False, "")


@pytest.mark.heavy
def test_memory_is_bounded_however_much_is_asked_for(s3_server: S3Server, bucket: str, client: Any) -> None:
    client.put_object(Bucket=bucket, Key="noise", Body=b"x" * (16 << 20))
    client.put_object(Bucket=bucket, Key="slow", Body=png(Image.effect_noise((6000, 6000), 50)))
    code = """
import re, sys, datago
s3 = datago.S3(sys.argv[1], "us-east-1", sys.argv[2], True, sys.argv[3], sys.argv[4])
keys = ["slow"] + ["noise"] * 120
found = datago.inspect([datago.S3Object(s3, key) for key in keys], threads=1).columns["reason"]
assert found == [None] + ["not_an_image"] * 120, found
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) // 1024)
"""
    keys = [bucket, s3_server.endpoint, s3_server.access_key, s3_server.secret_key]
    done = subprocess.run([sys.executable, "-c", code, *keys], capture_output=True, text=True, check=True)
    assert (
        int(done.stdout) < 1000
    )  # MiB; 120 objects are 1,920. Of this process alone: getrusage counts its parent's memory, too
