"""`ObjectStore` on a local directory: fsync before an object becomes visible, atomic link or rename to publish it."""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from refinery.digests import digest
from refinery.errors import ConflictError, InputError
from refinery.store import ObjectInfo, check_key

_SCRATCH = ".tmp"


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
        except (FileNotFoundError, IsADirectoryError):
            raise InputError(
                f"There is no object {key!r} in the store {self.root}.", kind="no_such_object"
            ) from None

    def get_with_etag(self, key: str) -> tuple[bytes, str] | None:
        try:
            data = self._path(key).read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            return None
        return data, digest(data)

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def put_if_absent(self, key: str, data: bytes) -> bool:
        target = self._path(key)
        if target.exists():
            return False
        with self._new_file() as (file, scratch):
            file.write(data)
            _sync(file)
            return _link(scratch, target)

    def put_file_if_absent(self, key: str, path: Path) -> bool:
        target = self._path(key)
        if target.exists():
            return False
        with self._new_file() as (file, scratch), path.open("rb") as source:
            shutil.copyfileobj(source, file, 1 << 20)
            _sync(file)
            return _link(scratch, target)

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
        folder, _, start = prefix.rpartition("/")
        base = self.root / folder if folder else self.root
        if not base.is_dir():
            return
        yield from self._walk(base, f"{folder}/" if folder else "", start)

    def delete(self, key: str) -> bool:
        try:
            self._path(key).unlink()
        except FileNotFoundError:
            return False
        _sync_folder(self._path(key).parent)
        return True

    def local_path(self, key: str) -> Path | None:
        return self._path(key)

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    def _walk(self, folder: Path, prefix: str, start: str) -> Iterator[ObjectInfo]:
        with os.scandir(folder) as entries:
            found = [e for e in entries if e.name.startswith(start) and e.name != _SCRATCH]
        # "a.x" sorts before "a/b" by key: a folder takes part in the order under its name plus "/"
        for entry in sorted(found, key=lambda e: e.name + "/" if e.is_dir() else e.name):
            if entry.is_dir():
                yield from self._walk(Path(entry.path), f"{prefix}{entry.name}/", "")
            else:
                stat = entry.stat()
                yield ObjectInfo(
                    f"{prefix}{entry.name}",
                    stat.st_size,
                    f"{stat.st_size:x}-{stat.st_mtime_ns:x}-{stat.st_ino:x}",
                )

    @contextmanager
    def _new_file(self) -> Iterator[tuple[BinaryIO, Path]]:
        scratch = self._scratch / f"{os.getpid()}-{uuid.uuid4().hex}"
        try:
            with scratch.open("xb") as file:
                yield file, scratch
        finally:
            scratch.unlink(missing_ok=True)

    @contextmanager
    def _swap_lock(self) -> Iterator[None]:
        with (self._scratch / "swap.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _sweep(self) -> None:
        """Remove what writers that are no longer alive left behind."""
        for path in self._scratch.iterdir():
            owner = path.name.split("-", 1)[0]
            if owner.isdigit() and not _alive(int(owner)):
                path.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _link(scratch: Path, target: Path) -> bool:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(scratch, target)
    except FileExistsError:
        return False
    _sync_folder(target.parent)
    return True


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
