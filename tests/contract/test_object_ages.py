"""Every store says when an object was last written, and removes one that was listed only as it was listed."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from refinery.store import ObjectStore


def test_a_listed_object_says_when_it_was_last_written(any_store: ObjectStore) -> None:
    before = datetime.now(UTC)
    any_store.put_if_absent("a", b"1")
    [first] = any_store.list("a")
    assert timedelta(seconds=-5) < first.written - before < timedelta(minutes=1)
    assert first.written.utcoffset() == timedelta(0)
    assert not any_store.put_if_absent("a", b"1")
    assert list(any_store.list("a")) == [first]


def test_a_listed_object_is_removed_unless_it_was_written_again_since(any_store: ObjectStore) -> None:
    for key in ("a", "ab"):
        any_store.put_if_absent(key, b"1")
    [first, _] = any_store.list("a")
    found = any_store.get_with_etag("a")
    assert found is not None
    after(first.written)  # a service may tell times by the second
    any_store.put_if_match("a", b"1", found[1])
    assert not any_store.delete_listed(first)
    [second, _] = any_store.list("a")
    assert any_store.delete_listed(second)
    assert not any_store.delete_listed(second)
    assert [info.key for info in any_store.list("")] == ["ab"]


def after(moment: datetime) -> None:
    """Wait until another second than that of `moment`."""
    while datetime.now(UTC) < moment.replace(microsecond=0) + timedelta(seconds=1):
        threading.Event().wait(0.05)
