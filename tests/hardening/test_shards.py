"""Parquet shards that claim what they do not have are damaged, and take nothing with them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

import datago
from datago import CorruptionError
from tests.loader.test_foreign_shards import as_parquet, folder_of

LONGEST = b"\xff\xff\xff\xff\x07"
"""The largest length, as a number of Thrift's compact protocol."""


def footed(footer: bytes) -> bytes:
    return b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1"


def very_many_levels(path: Path) -> None:
    levels = b"\x35\x00\x18\x01g\x15\x02\x00" * 99_999
    root, leaf = b"\x48\x01r\x15\x02\x00", b"\x15\x0c\x25\x00\x18\x01a\x00"
    path.write_bytes(footed(b"\x15\x02\x19\xfc\xa1\x8d\x06" + root + levels + leaf + b"\x00"))


def very_many_columns(path: Path) -> None:
    path.write_bytes(footed(b"\x15\x02\x19\x1c\x48\x01r\x15\xfe\xff\xff\xff\x0f\x00\x00"))


def very_many_pages(path: Path) -> None:
    as_parquet(path, compression="none", use_dictionary=False, write_page_index=True)
    data = bytearray(path.read_bytes())
    footer = len(data) - 8 - struct.unpack("<I", data[-8:-4])[0]
    one = data.rfind(b"\x19\x1c\x16", 0, footer)
    data[one : one + 7] = b"\x19\xfc" + LONGEST
    path.write_bytes(data)


@pytest.mark.parametrize("write", [very_many_levels, very_many_columns, very_many_pages])
def test_a_parquet_shard_that_claims_very_much_is_damaged(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    folder = folder_of(tmp_path, "parquet", write)
    with pytest.raises(CorruptionError, match="is damaged"):
        list(datago.stream(folder, batch_size=16))
