"""Blobs: bytes by digest, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from refinery import blobs
from refinery.blobs import blob_key, blob_path, put_bytes, put_file, read_blob
from refinery.digests import digest
from refinery.errors import CorruptionError
from refinery.store.local import LocalStore


def test_blobs_are_read_back_and_damage_is_noticed(store: LocalStore, tmp_path: Path) -> None:
    put = put_bytes(store, b"data")
    assert (put.digest, put.bytes, put.new, put_bytes(store, b"data").new) == (
        digest(b"data"),
        4,
        True,
        False,
    )
    assert put_file(store, _file(tmp_path, b"data")).new is False
    path = blob_path(store, put.digest)
    assert path is not None
    path.write_bytes(b"dat4")
    with pytest.raises(CorruptionError) as caught:
        read_blob(store, put.digest)
    assert caught.value.kind == "damaged_blob"


def test_large_files_go_through_the_disk_and_come_out_whole(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs, "IN_MEMORY", 1 << 20)
    data = bytes(range(256)) * (3 << 12)
    put = put_file(store, _file(tmp_path, data), max_bytes=len(data))
    assert put.new
    assert read_blob(store, put.digest) == data
    over = put_file(store, _file(tmp_path, data + b"x"), max_bytes=len(data))
    assert (over.stored, over.digest, over.bytes) == (False, digest(data + b"x"), len(data) + 1)
    assert not store.exists(blob_key(over.digest))


def _file(folder: Path, data: bytes) -> Path:
    path = folder / "data.bin"
    path.write_bytes(data)
    return path
