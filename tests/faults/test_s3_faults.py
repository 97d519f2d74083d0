"""Every fault of an S3 service against every verb of the store: nothing acknowledged is lost, nothing is doubled, and what
fails can be tried again."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from s3_proxy import PART, Fault, S3Proxy, T, again, direct, proxy, store, through

from refinery.config import S3StoreSettings
from refinery.digests import digest
from refinery.errors import ConflictError, TransientError
from refinery.store.s3 import S3Store
from tests.servers import S3Server

__all__ = ["direct", "proxy", "store"]
PUT = "PUT"


PASSING = [
    pytest.param("busy", "InternalError", id="internal error"),
    pytest.param("busy", "SlowDown", id="slow down"),
    pytest.param("lost", "", id="reply lost"),
    pytest.param("reset", "", id="connection reset"),
    pytest.param("late", "", id="request late"),
]


@pytest.mark.parametrize(("kind", "code"), PASSING)
def test_a_fault_that_passes_is_not_noticed_by_any_verb(
    store: S3Store, direct: S3Store, proxy: S3Proxy, kind: str, code: str
) -> None:
    def once(verb: Callable[[], T], method: str) -> T:
        proxy.script(Fault(kind, method, code=code))
        result = verb()
        proxy.calm()
        came_late.extend(proxy.deliver())
        return result

    came_late: list[int] = []

    assert once(lambda: store.put_if_absent("k", b"mine"), PUT) is True
    assert direct.get("k") == b"mine"
    assert once(lambda: store.put_if_absent("k", b"again"), PUT) is False
    etag = once(lambda: store.put_if_match("swap", b"one", None), PUT)
    other = once(lambda: store.put_if_match("swap", b"two", etag), PUT)
    assert direct.get_with_etag("swap") == (b"two", other)
    with pytest.raises(ConflictError):
        once(lambda: store.put_if_match("swap", b"three", etag), PUT)
    assert once(lambda: store.get("k"), "GET") == b"mine"
    assert once(lambda: store.get_range("k", 1, 2), "GET") == b"in"
    assert once(lambda: store.exists("k"), "HEAD")
    assert [info.key for info in once(lambda: list(store.list("")), "GET")] == ["k", "swap"]
    assert once(lambda: store.delete("swap"), "DELETE")
    assert came_late == ([412] * 5 + [200, 206, 200, 200, 204] if kind == "late" else [])
    assert direct.get("k") == b"mine"


@pytest.mark.parametrize("kind", ["busy", "reset"])
def test_a_service_that_stays_away_is_a_retryable_error_of_every_verb(
    store: S3Store, direct: S3Store, proxy: S3Proxy, kind: str
) -> None:
    direct.put_if_absent("there", b"x")
    proxy.script(Fault(kind, times=1000, code="ServiceUnavailable"))
    verbs: list[Callable[[], Any]] = [
        lambda: store.get("there"),
        lambda: store.get_range("there", 0, 1),
        lambda: store.exists("there"),
        lambda: list(store.list("")),
        lambda: store.delete("there"),
        lambda: store.put_if_absent("k", b"x"),
        lambda: store.put_if_match("there", b"y", "etag"),
        lambda: store.put_if_absent("big", b"x" * (PART + 1)),
    ]
    for verb in verbs:
        with pytest.raises(TransientError):
            verb()
    proxy.script()
    assert [(info.key, info.bytes) for info in store.list("")] == [("there", 1)]


def test_a_body_that_breaks_off_is_never_taken_for_the_whole(
    store: S3Store, direct: S3Store, proxy: S3Proxy
) -> None:
    data = bytes(range(256)) * 4096
    direct.put_if_absent("k", data)
    for verb, whole in (
        (lambda: store.get("k"), data),
        (lambda: store.get_range("k", 100, 5000), data[100:5100]),
        (lambda: (store.get_with_etag("k") or (b"",))[0], data),
    ):
        proxy.script(Fault("cut", "GET", times=2))
        assert verb() == whole
        proxy.calm()
        proxy.script(Fault("cut", "GET", times=3))
        with pytest.raises(TransientError) as caught:
            verb()
        assert caught.value.kind == "s3_truncated"
        proxy.calm()


def test_a_listing_that_breaks_off_is_asked_for_again(
    store: S3Store, direct: S3Store, proxy: S3Proxy
) -> None:
    names = [f"n/{n}" for n in range(10)]
    for name in names:
        direct.put_if_absent(name, b"")
    proxy.script(Fault("cut", "GET", "continuation-token"), Fault("lost", "GET", "continuation-token"))
    assert [info.key for info in store.list("n/")] == names
    proxy.calm()


def test_a_service_that_does_not_answer_is_given_up_on(
    s3_settings: S3StoreSettings, direct: S3Store, proxy: S3Proxy
) -> None:
    store = through(proxy, s3_settings, attempts=2, read_seconds=0.2)
    direct.put_if_absent("k", b"x")
    proxy.script(Fault("hang", "GET", times=2))
    with pytest.raises(TransientError):
        store.get("k")
    proxy.calm()
    proxy.script(Fault("hang", PUT, times=2))
    assert store.put_if_absent("new", b"mine"), "it landed, which reading back proves"
    proxy.calm()
    assert direct.get("new") == b"mine"


def test_a_lost_reply_after_somebody_else_wrote_is_a_loss(
    store: S3Store, direct: S3Store, proxy: S3Proxy
) -> None:
    proxy.script(Fault("reset", PUT, meanwhile=lambda: direct.put_if_absent("k", b"theirs")))
    assert store.put_if_absent("k", b"mine") is False
    proxy.calm()
    assert direct.get("k") == b"theirs"
    etag = direct.put_if_match("swap", b"one", None)
    proxy.script(Fault("reset", PUT, meanwhile=lambda: direct.put_if_match("swap", b"theirs", etag)))
    with pytest.raises(ConflictError):
        store.put_if_match("swap", b"mine", etag)
    proxy.calm()
    assert direct.get("swap") == b"theirs"


def test_a_write_with_a_lost_reply_that_others_built_upon_is_a_success(
    store: S3Store, direct: S3Store, proxy: S3Proxy
) -> None:
    def build_upon() -> None:
        found = direct.get_with_etag("swap")
        assert found is not None
        direct.put_if_match("swap", found[0] + b", theirs", found[1])

    proxy.script(Fault("lost", PUT, meanwhile=build_upon))
    created = store.put_if_match("swap", b"mine", None)
    proxy.calm()
    assert direct.get("swap") == b"mine, theirs"
    with pytest.raises(ConflictError):
        store.put_if_match("swap", b"mine again", created)
    found = direct.get_with_etag("swap")
    assert found is not None
    proxy.script(Fault("lost", PUT, meanwhile=build_upon))
    store.put_if_match("swap", found[0] + b", mine", found[1])
    proxy.calm()
    assert direct.get("swap") == b"mine, theirs, mine, theirs"


def test_a_counter_swapped_under_lost_replies_counts_every_success_once(
    s3_settings: S3StoreSettings, proxy: S3Proxy
) -> None:
    proxy.storm(7, 0.3)
    stores = [through(proxy, s3_settings) for _ in range(3)]
    again(lambda: stores[0].put_if_absent("counter", b"0"))

    def bump(writer: int) -> int:
        done = 0
        while done < 8:
            found = again(lambda: stores[writer].get_with_etag("counter"))
            assert found is not None
            count, *names = found[0].split()
            name = b"%d-%d" % (writer, done)
            try:
                if name not in names:  # else the outcome was unknown, and this read settles it
                    bumped = b" ".join([b"%d" % (int(count) + 1), *names, name])
                    stores[writer].put_if_match("counter", bumped, found[1])
            except ConflictError:
                continue
            except TransientError as error:
                if error.kind != "write_unknown":
                    raise
                continue
            done += 1
        return done

    with ThreadPoolExecutor(3) as pool:
        assert sum(pool.map(bump, range(3))) == 24
    proxy.calm()
    count, *names = stores[0].get("counter").split()
    assert count == b"24"
    assert len(names) == len(set(names)) == 24
    assert proxy.struck["lost"] > 0


def test_an_outcome_that_nobody_can_prove_is_unknown_and_the_next_try_settles_it(
    store: S3Store, direct: S3Store, proxy: S3Proxy
) -> None:
    proxy.script(Fault("lost", PUT), Fault("reset", PUT, times=2), Fault("reset", "HEAD", times=3))
    with pytest.raises(TransientError) as caught:
        store.put_if_absent("k", b"mine")
    assert caught.value.kind == "write_unknown"
    proxy.calm()
    assert direct.get("k") == b"mine"
    assert store.put_if_absent("k", b"mine") is False

    etag = direct.put_if_match("gone", b"one", None)
    proxy.script(Fault("reset", PUT, meanwhile=lambda: direct.delete("gone")))
    with pytest.raises(TransientError) as caught:
        store.put_if_match("gone", b"two", etag)
    assert caught.value.kind == "write_unknown"
    proxy.calm()
    assert not direct.exists("gone")


def test_a_trail_that_no_longer_reaches_back_proves_nothing(
    store: S3Store, direct: S3Store, proxy: S3Proxy
) -> None:
    for kind in ("lost", "reset"):
        etag = direct.put_if_match(f"{kind}/k", b"one", None)
        proxy.script(
            Fault(kind, PUT, meanwhile=lambda key=f"{kind}/k": swap(direct, key, 20))  # type: ignore[misc]
        )
        with pytest.raises(TransientError) as caught:
            store.put_if_match(f"{kind}/k", b"mine", etag)
        assert caught.value.kind == "write_unknown"
        proxy.calm()
        assert direct.get(f"{kind}/k") == b"19"


def swap(store: S3Store, key: str, times: int) -> None:
    for turn in range(times):
        found = store.get_with_etag(key)
        assert found is not None
        store.put_if_match(key, b"%d" % turn, found[1])


def test_a_write_that_lands_after_it_was_given_up_was_called_unknown(
    s3_settings: S3StoreSettings, direct: S3Store, proxy: S3Proxy
) -> None:
    store = through(proxy, s3_settings, attempts=1)
    proxy.script(Fault("late", PUT, times=3))
    with pytest.raises(TransientError) as caught:
        store.put_if_absent("k", b"mine")
    assert caught.value.kind == "write_unknown"
    proxy.calm()
    assert proxy.deliver() == [200, 412, 412]
    assert direct.get("k") == b"mine"
    assert store.put_if_absent("k", b"mine") is False


@pytest.mark.parametrize("kind", ["busy", "lost", "reset", "cut"])
@pytest.mark.parametrize(
    ("method", "text"),
    [("POST", "?uploads"), (PUT, "partNumber=2"), ("POST", "?uploadId="), ("HEAD", "")],
    ids=["start", "part", "completion", "look"],
)
def test_a_large_write_survives_a_fault_at_each_of_its_steps(
    store: S3Store, direct: S3Store, proxy: S3Proxy, tmp_path: Path, kind: str, method: str, text: str
) -> None:
    data = digest(b"x").encode() * (PART // 64 * 2 + 1)
    (tmp_path / "f").write_bytes(data)
    proxy.script(Fault(kind, method, text))
    assert store.put_file_if_absent("big", tmp_path / "f") is True
    proxy.calm()
    assert direct.get("big") == data
    assert store.put_file_if_absent("big", tmp_path / "f") is False


def test_a_large_write_that_lost_the_race_says_so_whatever_was_lost(
    store: S3Store, direct: S3Store, proxy: S3Proxy, s3_server: S3Server, bucket: str
) -> None:
    data = b"x" * (PART + 1)
    for turn, kind in enumerate(["lost", "reset", "busy"]):
        key = f"big/{turn}"
        proxy.script(
            Fault("pass", "HEAD", meanwhile=lambda key=key: direct.put_if_absent(key, b"theirs")),
            Fault(kind, "POST", "?uploadId="),
        )
        assert store.put_if_absent(key, data) is False
        proxy.calm()
        assert direct.get(key) == b"theirs"
    client: Any = s3_server.client()
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)
