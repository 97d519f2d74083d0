"""What only a store in a directory can get wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from refinery.errors import InputError
from refinery.store.local import LocalStore


def keys(store: LocalStore) -> list[str]:
    return [info.key for info in store.list("")]


def test_scratch_is_neither_listed_nor_reachable(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    (tmp_path / ".tmp" / "left").write_bytes(b"half")
    assert keys(store) == []
    with pytest.raises(InputError):
        list(store.list(".tmp/"))
    with pytest.raises(InputError):
        store.get(".tmp/left")


def test_what_a_dead_writer_left_is_swept_and_a_live_writers_file_is_not(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    (tmp_path / ".tmp" / "left").write_bytes(b"half")
    with store._new_file() as (file, scratch):
        file.write(b"being written")
        LocalStore(tmp_path)
        assert scratch.exists()
    assert [p.name for p in (tmp_path / ".tmp").iterdir() if p.name != "swap.lock"] == []


def test_a_key_that_continues_another_is_refused_without_harm(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put_if_absent("p", b"x")
    store.put_if_absent("q/r", b"y")
    for key in ("p/q", "q"):
        with pytest.raises(InputError) as caught:
            store.put_if_absent(key, b"z")
        assert caught.value.kind == "bad_key"
    assert keys(store) == ["p", "q/r"]
