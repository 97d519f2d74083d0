"""One behaviour suite for every implementation of the `ObjectStore` port."""

from __future__ import annotations

import functools
import multiprocessing
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datago import S3Object
from refinery.config import S3StoreSettings
from refinery.errors import ConflictError, InputError
from refinery.store import ObjectStore
from refinery.store.local import LocalStore
from refinery.store.s3 import S3Store
from tests.servers import S3Server

Opener = Callable[[], ObjectStore]


def open_local(root: Path) -> ObjectStore:
    return LocalStore(root)


PART = 5 << 20


def open_s3(settings: S3StoreSettings) -> ObjectStore:
    """Pages and parts are as small as S3 allows, so that both are many."""
    return S3Store(settings, page=7, multipart_from=PART, part_bytes=PART)


@pytest.fixture(params=["local", "s3"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens the same, initially empty, store again and again, in any process."""
    if request.param == "local":
        return functools.partial(open_local, tmp_path / "store")
    return functools.partial(open_s3, request.getfixturevalue("s3_settings"))


@pytest.fixture
def store(opener: Opener) -> ObjectStore:
    return opener()


def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    return [info.key for info in store.list(prefix)]


def test_what_was_put_is_read_back_by_another_opener(store: ObjectStore, opener: Opener) -> None:
    assert store.put_if_absent("a/b/c.json", b"\x00\xffdata")
    assert opener().get("a/b/c.json") == b"\x00\xffdata"
    assert opener().exists("a/b/c.json")


def test_an_empty_object_is_an_object(store: ObjectStore) -> None:
    assert store.put_if_absent("empty", b"")
    assert store.get("empty") == b""
    assert [(info.key, info.bytes) for info in store.list("")] == [("empty", 0)]


def test_a_second_put_changes_nothing_and_says_so(store: ObjectStore, tmp_path: Path) -> None:
    store.put_if_absent("k", b"first")
    (tmp_path / "f").write_bytes(b"third")
    assert not store.put_if_absent("k", b"second")
    assert not store.put_file_if_absent("k", tmp_path / "f")
    assert store.get("k") == b"first"


def test_a_file_is_put_whole(store: ObjectStore, tmp_path: Path) -> None:
    data = bytes(range(256)) * 20_000
    (tmp_path / "f").write_bytes(data)
    assert store.put_file_if_absent("big", tmp_path / "f")
    assert store.get("big") == data
    assert (tmp_path / "f").read_bytes() == data


@pytest.mark.parametrize("size", [PART - 1, PART, PART + 1, 3 * PART + 17])
def test_large_objects_are_put_whole_once_and_under_the_same_conditions(
    store: ObjectStore, tmp_path: Path, size: int
) -> None:
    data = random.Random(size).randbytes(size)
    (tmp_path / "f").write_bytes(data)
    assert store.put_file_if_absent("file", tmp_path / "f")
    assert store.put_if_absent("bytes", data)
    assert not store.put_file_if_absent("bytes", tmp_path / "f")
    assert not store.put_if_absent("file", data[::-1])
    etag = store.put_if_match("swapped", data, None)
    assert store.get_with_etag("swapped") == (data, etag)
    other = store.put_if_match("swapped", data[::-1], etag)
    with pytest.raises(ConflictError):
        store.put_if_match("swapped", data, etag)
    assert store.get_with_etag("swapped") == (data[::-1], other)
    assert store.get("file") == data == store.get("bytes")
    assert [(info.key, info.bytes) for info in store.list("")] == [
        ("bytes", size),
        ("file", size),
        ("swapped", size),
    ]


def test_a_range_of_an_object_is_read(store: ObjectStore) -> None:
    store.put_if_absent("k", b"0123456789")
    store.put_if_absent("empty", b"")
    assert store.get_range("k", 0, 10) == b"0123456789"
    assert store.get_range("k", 3, 4) == b"3456"
    assert store.get_range("k", 8, 100) == b"89"
    assert store.get_range("k", 10, 5) == b""
    assert store.get_range("k", 1000, 5) == b""
    assert store.get_range("k", 2, 0) == b""
    assert store.get_range("empty", 0, 5) == b""
    for length in (0, 5):
        with pytest.raises(InputError) as caught:
            store.get_range("none", 0, length)
        assert caught.value.kind == "no_such_object"


def test_an_address_tells_datago_where_the_object_is(store: ObjectStore) -> None:
    store.put_if_absent("a/k", b"bytes")
    address = store.address("a/k")
    if isinstance(address, S3Object):
        s3 = address.s3
        assert store.url.startswith(f"s3://{s3.bucket}/")
        client = S3Server(str(s3.endpoint), str(s3.access_key), str(s3.secret_key)).client()
        found = client.get_object(Bucket=s3.bucket, Key=address.key)["Body"].read()  # type: ignore[attr-defined]
        assert s3.path_style
        assert str(s3.secret_key) not in repr(address)
    else:
        assert address.startswith(store.url)
        found = Path(address).read_bytes()
    assert found == b"bytes"


def test_a_store_serves_as_many_threads_as_it_says(store: ObjectStore) -> None:
    names = [f"t/{n}" for n in range(4 * store.concurrency)]
    with ThreadPoolExecutor(store.concurrency) as pool:
        assert all(pool.map(lambda name: store.put_if_absent(name, name.encode()), names))
        assert list(pool.map(store.get, names)) == [name.encode() for name in names]
    assert keys(store) == sorted(names)


def test_many_objects_are_listed_each_once_and_in_order(opener: Opener) -> None:
    names = sorted(f"{n % 7}/{n % 3}.x/{n}" for n in range(1101))
    store = opener()
    with ThreadPoolExecutor(store.concurrency) as pool:
        assert all(pool.map(lambda name: store.put_if_absent(name, b""), names))
    assert keys(store) == names
    assert keys(store, "3/1") == [name for name in names if name.startswith("3/1")]


def test_a_missing_file_cannot_be_put_and_leaves_no_object(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.put_file_if_absent("k", tmp_path / "none")
    assert not store.exists("k")


@pytest.mark.parametrize("key", ["none", "none/deeper", "there/deeper"])
def test_a_key_nobody_wrote_is_absent_everywhere(store: ObjectStore, key: str) -> None:
    store.put_if_absent("there", b"x")
    assert not store.exists(key)
    assert store.get_with_etag(key) is None
    assert not store.delete(key)
    with pytest.raises(InputError) as caught:
        store.get(key)
    assert caught.value.kind == "no_such_object"


def test_the_beginning_of_a_key_is_no_object(store: ObjectStore) -> None:
    store.put_if_absent("a/b", b"x")
    assert not store.exists("a")
    assert store.get_with_etag("a") is None
    assert not store.delete("a")
    assert keys(store) == ["a/b"]


ESCAPES = [
    "",
    "/",
    "/etc/passwd",
    "..",
    "../x",
    "a/../b",
    "a/..",
    "a//b",
    "a/",
    "./a",
    "a/./b",
    "a\\..\\b",
    "a\0b",
]
ESCAPES += ["a b", "é", "a\n", "~/x", "a/" + "\udcff", "%2e%2e/x", "a:b", "*"]


@pytest.mark.parametrize("key", ESCAPES)
def test_a_key_that_could_leave_the_store_is_refused_by_every_verb(
    store: ObjectStore, tmp_path: Path, key: str
) -> None:
    (tmp_path / "f").write_bytes(b"x")
    verbs: list[Callable[[], Any]] = [
        lambda: store.get(key),
        lambda: store.get_with_etag(key),
        lambda: store.exists(key),
        lambda: store.put_if_absent(key, b"x"),
        lambda: store.put_file_if_absent(key, tmp_path / "f"),
        lambda: store.put_if_match(key, b"x", None),
        lambda: store.delete(key),
        lambda: store.local_path(key),
        lambda: store.get_range(key, 0, 1),
        lambda: store.address(key),
    ]
    for verb in verbs:
        with pytest.raises(InputError) as caught:
            verb()
        assert caught.value.kind == "bad_key"
    assert keys(store) == []


@pytest.mark.parametrize("prefix", ["../", "/", "/etc/", "a/../../", "a//", "./"])
def test_a_prefix_that_could_leave_the_store_is_refused(store: ObjectStore, prefix: str) -> None:
    with pytest.raises(InputError) as caught:
        list(store.list(prefix))
    assert caught.value.kind == "bad_key"


def test_objects_are_listed_in_order_of_key_below_a_prefix(store: ObjectStore) -> None:
    written = ["a/b", "a.x", "a-/z", "a/b.c/d", "a/b-c", "b", "a0", "A", "a/b.c.d", ".hidden", "a/.tmp/x"]
    for key in written:
        store.put_if_absent(key, key.encode())
    assert keys(store) == sorted(written)
    for prefix in ["a", "a/", "a/b", "a/b.c", "a/b.c/", "b", "none", "none/", "b/", "."]:
        assert keys(store, prefix) == sorted(k for k in written if k.startswith(prefix)), prefix


def test_a_listed_version_changes_when_the_content_does_and_only_then(store: ObjectStore) -> None:
    etag = store.put_if_match("k", b"one", None)
    before = list(store.list("k"))
    assert list(store.list("k")) == before
    store.put_if_match("k", b"two", etag)
    after = list(store.list("k"))
    assert after[0].version != before[0].version
    assert after[0].bytes == 3


def test_a_swap_needs_the_etag_that_is_current(store: ObjectStore) -> None:
    first = store.put_if_match("k", b"one", None)
    assert store.get_with_etag("k") == (b"one", first)
    second = store.put_if_match("k", b"two", first)
    assert second != first
    for stale in (None, first, "nonsense"):
        with pytest.raises(ConflictError) as caught:
            store.put_if_match("k", b"three", stale)
        assert caught.value.kind == "etag_mismatch"
    assert store.get_with_etag("k") == (b"two", second)


def test_a_swap_of_what_is_not_there_is_a_conflict(store: ObjectStore) -> None:
    with pytest.raises(ConflictError):
        store.put_if_match("k", b"x", "some-etag")
    assert not store.exists("k")


def test_a_deleted_object_is_gone_and_can_be_written_again(store: ObjectStore) -> None:
    store.put_if_absent("a/k", b"x")
    assert store.delete("a/k")
    assert not store.delete("a/k")
    assert keys(store) == []
    assert store.put_if_absent("a/k", b"y")
    assert store.get("a/k") == b"y"


def test_a_local_path_when_there_is_one_holds_the_bytes(store: ObjectStore) -> None:
    store.put_if_absent("a/k", b"bytes")
    path = store.local_path("a/k")
    assert path is None or path.read_bytes() == b"bytes"


def test_of_racing_threads_exactly_one_creates(opener: Opener) -> None:
    stores = [opener() for _ in range(8)]
    for turn in range(10):
        gate = threading.Barrier(8)

        def put(n: int, turn: int = turn, gate: threading.Barrier = gate) -> bool:
            gate.wait()
            return stores[n].put_if_absent(f"race/{turn}/deep/k", b"%d" % n * 1000)

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(put, range(8)))
        assert won.count(True) == 1
        assert stores[turn % 8].get(f"race/{turn}/deep/k") == b"%d" % won.index(True) * 1000


def race(opener: Opener, n: int, gate: Any, wins: Any) -> None:
    """One racing process: wins is told (writer, key) for every key this process created."""
    store = opener()
    gate.wait()
    for turn in range(20):
        if store.put_if_absent(f"race/{turn}", b"%d" % n * 5000):
            wins.put((n, turn))
    wins.put((n, -1))


def test_of_racing_processes_exactly_one_creates(opener: Opener) -> None:
    context = multiprocessing.get_context("spawn")
    gate, wins = context.Barrier(3), context.Queue()
    writers = [context.Process(target=race, args=(opener, n, gate, wins)) for n in range(3)]
    for writer in writers:
        writer.start()
    told: list[tuple[int, int]] = []
    while sum(turn == -1 for _, turn in told) < 3:
        told.append(wins.get(timeout=60))
    for writer in writers:
        writer.join()
    won = {turn: n for n, turn in told if turn >= 0}
    assert len(told) == 20 + 3
    assert sorted(won) == list(range(20))
    store = opener()
    assert all(store.get(f"race/{turn}") == b"%d" % n * 5000 for turn, n in won.items())


def test_racing_swaps_lose_no_update(opener: Opener) -> None:
    opener().put_if_match("counter", b"0", None)

    def bump(_: int) -> None:
        store = opener()
        done = 0
        while done < 10:
            found = store.get_with_etag("counter")
            assert found is not None
            try:
                store.put_if_match("counter", b"%d" % (int(found[0]) + 1), found[1])
            except ConflictError:
                continue
            done += 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(bump, range(4)))
    assert opener().get("counter") == b"40"


def test_a_reader_sees_a_whole_object_or_none(opener: Opener, tmp_path: Path) -> None:
    size = 4 << 20
    (tmp_path / "big").write_bytes(b"x" * size)
    done = threading.Event()
    seen: set[int | None] = set()

    def read() -> None:
        store = opener()
        while not done.is_set():
            found = store.get_with_etag("dir/big")
            seen.add(None if found is None else len(found[0]))
            seen.update(info.bytes for info in store.list(""))
            if seen >= {size} and found is not None:
                break

    reader = threading.Thread(target=read)
    reader.start()
    opener().put_file_if_absent("dir/big", tmp_path / "big")
    reader.join(timeout=60)
    done.set()
    assert not reader.is_alive()
    assert seen <= {None, size}
    assert size in seen


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["put", "swap", "stale", "delete", "list"]),
            st.sampled_from(["a", "b/c", "b/d", "b.e"]),
            st.binary(max_size=8),
        ),
        max_size=30,
    )
)
def test_any_history_reads_like_a_dictionary(store: ObjectStore, steps: list[tuple[str, str, bytes]]) -> None:
    for key in keys(store):
        store.delete(key)
    model: dict[str, bytes] = {}
    for verb, key, data in steps:
        if verb == "put":
            assert store.put_if_absent(key, data) == (key not in model)
            model.setdefault(key, data)
        elif verb == "swap":
            found = store.get_with_etag(key)
            store.put_if_match(key, data, found[1] if found else None)
            model[key] = data
        elif verb == "stale":
            with pytest.raises(ConflictError):
                store.put_if_match(key, data, "never-an-etag")
        elif verb == "delete":
            assert store.delete(key) == (model.pop(key, None) is not None)
        assert {info.key: info.bytes for info in store.list("")} == {k: len(v) for k, v in model.items()}
        assert all(store.get(k) == v for k, v in model.items())
