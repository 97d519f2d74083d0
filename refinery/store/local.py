"""`ObjectStore` on a local directory: fsync before an object becomes visible, atomic link or rename to publish it."""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from refinery.digests import digest
from refinery.errors import ConflictError, InputError, TransientError
from refinery.store import ObjectInfo, check_key

_SCRATCH = ".tmp"
_LOCK = "swap.lock"
_ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


class LocalStore:
    """Objects are plain files below `root`. Unfinished writes live in `root/.tmp` and are swept when a store opens."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root).absolute()
        self._scratch = self.root / _SCRATCH
        self._scratch.mkdir(parents=True, exist_ok=True)
        self._sweep()

    def get(self, key: str) -> bytes:
        try:
            return self._path(key).read_bytes()
        except _ABSENT:
            raise self._absent(key) from None

    def get_with_etag(self, key: str) -> tuple[bytes, str] | None:
        try:
            data = self._path(key).read_bytes()
        except _ABSENT:
            return None
        return data, digest(data)

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def put_if_absent(self, key: str, data: bytes) -> bool:
        target = self._path(key)
        if target.is_file():
            return False
        with self._new_file() as (file, scratch):
            file.write(data)
            _sync(file)
            return self._link(scratch, target)

    def put_file_if_absent(self, key: str, path: Path) -> bool:
        target = self._path(key)
        if target.is_file():
            return False
        with path.open("rb") as source, self._new_file() as (file, scratch):
            shutil.copyfileobj(source, file, 1 << 20)
            _sync(file)
            return self._link(scratch, target)

    def settle(self, key: str) -> None:
        # its bytes were synced before it became visible: what may be missing is its name, and those of its folders
        target = self._path(key)
        if not target.is_file():
            raise self._absent(key)
        with self._as_transient():
            for folder in target.relative_to(self.root).parents:
                _sync_folder(self.root / folder)

    def put_if_match(self, key: str, data: bytes, etag: str | None) -> str:
        target = self._path(key)
        if etag is None:
            if not self.put_if_absent(key, data):
                raise _mismatch(key)
            return digest(data)
        with self._swap_lock():
            found = self.get_with_etag(key)
            if found is None or found[1] != etag:
                raise _mismatch(key)
            with self._new_file() as (file, scratch):
                file.write(data)
                _sync(file)
                scratch.replace(target)
                _sync_folder(target.parent)
        return digest(data)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        folder, slash, start = prefix.rpartition("/")
        base = self._path(folder) if slash else self.root
        return self._walk(base, folder + slash, start)

    def delete(self, key: str) -> bool:
        target = self._path(key)
        # a swap in progress has read what is deleted here: without the lock it would bring the object back
        with self._as_transient(), self._swap_lock():
            if not target.is_file():
                return False
            target.unlink()
            _sync_folder(target.parent)
        return True

    def delete_listed(self, info: ObjectInfo) -> bool:
        target = self._path(info.key)
        with self._swap_lock():
            try:
                if _info(info.key, target.stat()) != info:
                    return False
            except _ABSENT:
                return False
            target.unlink()
            _sync_folder(target.parent)
        return True

    def get_range(self, key: str, start: int, length: int) -> bytes:
        try:
            with self._path(key).open("rb") as file:
                file.seek(start)
                return file.read(length)
        except _ABSENT:
            raise self._absent(key) from None

    def local_path(self, key: str) -> Path | None:
        return self._path(key)

    def address(self, key: str) -> str:
        return str(self._path(key))

    @property
    def url(self) -> str:
        return str(self.root)

    @property
    def concurrency(self) -> int:
        return 8

    def _absent(self, key: str) -> InputError:
        return InputError(f"There is no object {key!r} in the store {self.root}.", kind="no_such_object")

    def _path(self, key: str) -> Path:
        if check_key(key).partition("/")[0] == _SCRATCH:
            raise InputError(
                f"{key!r} is not an object key: {_SCRATCH!r} is kept for scratch.", kind="bad_key"
            )
        return self.root / key

    def _walk(self, folder: Path, prefix: str, start: str) -> Iterator[ObjectInfo]:
        try:
            with os.scandir(folder) as entries:
                found = [e for e in entries if e.name.startswith(start) and prefix + e.name != _SCRATCH]
        except _ABSENT:
            return
        # "a.x" sorts before "a/b" by key: a folder takes part in the order under its name plus "/"
        for entry in sorted(found, key=lambda e: e.name + "/" if e.is_dir() else e.name):
            if entry.is_dir():
                yield from self._walk(Path(entry.path), f"{prefix}{entry.name}/", "")
            else:
                try:
                    stat = entry.stat()
                except FileNotFoundError:
                    continue  # deleted since the folder was read
                yield _info(f"{prefix}{entry.name}", stat)

    @contextmanager
    def _new_file(self) -> Iterator[tuple[BinaryIO, Path]]:
        """A scratch file, locked while it is written: a file without a lock belongs to nobody alive."""
        with self._as_transient():
            while True:
                scratch = self._scratch / uuid.uuid4().hex
                with scratch.open("xb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX)
                    if os.fstat(file.fileno()).st_nlink == 0:
                        continue  # swept between its creation and its lock
                    try:
                        yield file, scratch
                    finally:
                        scratch.unlink(missing_ok=True)
                    return

    @contextmanager
    def _as_transient(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TransientError(
                f"The store {self.root} could not be written: {error}. Free space or mend its permissions, "
                "then do the same again.",
                kind="store_not_written",
            ) from error

    def _link(self, scratch: Path, target: Path) -> bool:
        """Publish a written scratch file under its key, with every folder made for it. False: the key was there."""
        above = target.relative_to(self.root).parents
        missing = [self.root / folder for folder in above if not (self.root / folder).exists()]
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(scratch, target)
        except (FileExistsError, NotADirectoryError):
            if target.is_file():
                return False
            key = target.relative_to(self.root).as_posix()
            raise InputError(
                f"{key!r} cannot be stored beside the keys there are: in a local directory a name is an object or the "
                "beginning of other keys, not both.",
                kind="bad_key",
            ) from None
        _sync_folder(target.parent)
        for folder in missing:
            _sync_folder(folder.parent)
        return True

    @contextmanager
    def _swap_lock(self) -> Iterator[None]:
        with (self._scratch / _LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _sweep(self) -> None:
        """Remove what writers that are no longer alive left behind."""
        for path in self._scratch.iterdir():
            if path.name == _LOCK:
                continue
            try:
                with path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
            except (FileNotFoundError, BlockingIOError):
                continue  # finished, or being written


def _info(key: str, stat: os.stat_result) -> ObjectInfo:
    version = f"{stat.st_size:x}-{stat.st_mtime_ns:x}-{stat.st_ino:x}"
    return ObjectInfo(key, stat.st_size, version, datetime.fromtimestamp(stat.st_mtime, UTC))


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _mismatch(key: str) -> ConflictError:
    return ConflictError(
        f"Object {key!r} was written by somebody else in between: read it again and retry.",
        kind="etag_mismatch",
    )
