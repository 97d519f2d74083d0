"""Many objects at once come in order from every store, and an error or an early stop leaves nothing running."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from refinery.config import S3StoreSettings
from refinery.errors import TransientError
from refinery.store import ObjectStore
from refinery.store.bulk import each, get_many
from refinery.store.local import LocalStore
from refinery.store.s3 import S3Store


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "local":
        return LocalStore(tmp_path / "store")
    settings: S3StoreSettings = request.getfixturevalue("s3_settings")
    return S3Store(settings)


@pytest.mark.parametrize("count", [0, 1, 2, 150])
def test_objects_come_in_the_order_asked_for_and_none_for_what_is_missing(
    store: ObjectStore, count: int
) -> None:
    names = [f"k/{n}" for n in range(count)]
    for name in names[::2]:
        store.put_if_absent(name, name.encode())
    expected = [name.encode() if n % 2 == 0 else None for n, name in enumerate(names)]
    assert list(get_many(store, iter(names))) == expected


def test_who_stops_early_does_not_have_all_of_it_read(store: ObjectStore) -> None:
    read: list[int] = []
    results = each(store, lambda n: read.append(n) or n, range(10_000))  # type: ignore[func-returns-value]
    assert [next(results) for _ in range(5)] == list(range(5))
    results.close()  # type: ignore[attr-defined]
    assert len(read) < 4 * store.concurrency
    assert not [t for t in threading.enumerate() if t.name.startswith("store") and t.is_alive()]


def test_an_error_comes_where_its_item_stands(store: ObjectStore) -> None:
    def call(n: int) -> int:
        if n == 7:
            raise TransientError("not now", kind="s3_busy")
        return n

    results = each(store, call, range(100))
    assert [next(results) for _ in range(7)] == list(range(7))
    with pytest.raises(TransientError):
        next(results)
    assert not [t for t in threading.enumerate() if t.name.startswith("store") and t.is_alive()]
