"""An object as a file of which only parts are read: for formats that say where what is wanted lies."""

from __future__ import annotations

import io

import pyarrow as pa

from refinery.store import ObjectStore


class _Ranged(io.RawIOBase):
    """An object of `size` bytes. Each read is one request."""

    def __init__(self, store: ObjectStore, key: str, size: int) -> None:
        super().__init__()
        self._store, self._key, self._size, self._at = store, key, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._size - self._at)
        wanted = left if size < 0 else min(size, left)
        data = self._store.get_range(self._key, self._at, wanted) if wanted else b""
        self._at += len(data)
        return data


def ranged(store: ObjectStore, key: str, size: int) -> pa.NativeFile:
    """An object of `size` bytes, read in the parts that its reader asks for. Reading raises InputError when it is gone."""
    return pa.PythonFile(_Ranged(store, key, size), mode="r")
