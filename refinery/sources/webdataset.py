"""WebDataset tars as a source: members that share a key are one sample. Tars are read in place, never unpacked to disk.

Listing walks the headers and skips the data; each member's offset goes into the listing, so landing reads members
directly, in parallel. Of a truncated or damaged tar, what its readable headers name is listed, and the rest is one
unreadable entry.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from refinery.errors import InputError
from refinery.fields import Fields
from refinery.sources import OnDisk, is_tar_name
from refinery.sources.entries import Entry, Piece, PieceError, entry_of, group_entry
from refinery.sources.folder import walk
from refinery.sources.naming import group_key, split_key
from refinery.sources.uris import member_uri, os_reason, path_uri

DAMAGE = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError, OverflowError, RecursionError)
"""What reading a damaged, possibly packed tar raises, besides OSError."""
_HEADER_CAP = 1 << 20
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class WebDatasetSource(OnDisk):
    """The tar at `path`, or all tars below the folder `path` in order of name; other files there are ignored, counted."""

    name: str
    path: Path
    kind: str = field(default="webdataset", init=False)

    def entries(self, fields: Fields, skip: str | None = None) -> Iterator[Entry]:
        if not self.path.exists():
            raise InputError(f"There is no source at {self.path}: check the path.", kind="no_such_source")
        if not self.path.is_dir():
            yield from _file_entries(str(self.path))
            return
        for found in walk(self.name, str(self.path), skip):
            if isinstance(found, Entry):
                yield found
                continue
            folder, files = found
            for name in files:
                path = os.path.join(folder, name)
                if is_tar_name(name):
                    yield from _file_entries(path)
                else:
                    yield Entry(path_uri(path), ignored="not_a_tar")


def _file_entries(path: str) -> Iterator[Entry]:
    found = entry_of(path)
    if found.piece is None:
        yield found
    else:
        yield from tar_entries(found.piece, partial(_open, path))


def _open(path: str) -> BinaryIO:
    return open(path, "rb")


def tar_entries(tar: Piece, opened: Callable[[], BinaryIO]) -> Iterator[Entry]:
    """The samples of one tar, in order of their first member, then what of it is ignored or unreadable."""
    keys: dict[str, dict[str, Piece]] = {}
    apart: list[Entry] = []
    try:
        with opened() as raw:
            packed = is_packed(raw)
            members = _members(unpacked(raw, packed), tar, packed)
            for key, extension, item in members:
                if isinstance(item, Entry):
                    apart.append(item)
                    continue
                slot = keys.setdefault(key, {})
                repeat = 0
                while extension in slot:
                    repeat += 1
                    slot = keys.setdefault(f"{key}\0{repeat}", {})
                slot[extension] = item
    except OSError as error:
        reason = os_reason(error) if error.errno else "damaged_tar"
        apart.append(Entry(tar.uri, unreadable=reason, detail=error.strerror or f"{error}."))
    except PieceError as error:
        apart.append(Entry(tar.uri, unreadable=error.kind, detail=str(error)))
    for slot in keys.values():
        yield from _samples(slot)
    yield from apart


def _samples(slot: dict[str, Piece]) -> Iterator[Entry]:
    pieces = {piece.uri: piece for piece in slot.values()}
    for group in group_key({extension: piece.uri for extension, piece in slot.items()}):
        yield group_entry(group, lambda uri: Entry(uri, pieces[uri]), pieces.__getitem__)


def _members(file: BinaryIO, tar: Piece, packed: bool) -> Iterator[tuple[str, str, Piece | Entry]]:
    """Each data member as (key, extension, piece), and as an entry what cannot be one."""
    limit = None if packed else tar.bytes
    end = 0
    guard = _Guarded(file)
    try:
        with tarfile.open(
            fileobj=cast(BinaryIO, guard), mode="r:", encoding="utf-8", errors="surrogateescape"
        ) as archive:
            while (member := archive.next()) is not None:
                cast(Any, archive).members = []  # tarfile keeps every member it has seen
                guard.left = _HEADER_CAP
                if member.size < 0 or archive.offset <= end:
                    raise tarfile.ReadError(f"a header at byte {member.offset} gives an impossible size")
                end = archive.offset
                if member.isdir():
                    continue
                uri = member_uri(tar.uri, member.name)
                base = member.name.rpartition("/")[2]
                if not member.isreg() or member.issparse():
                    detail = "A tar member that is a link, a device or sparse is not followed or opened."
                    yield "", "", Entry(uri, unreadable="not_regular", detail=detail)
                elif base.startswith("."):
                    yield "", "", Entry(uri, ignored="hidden")
                elif limit is not None and member.offset_data + member.size > limit:
                    detail = f"The tar ends inside this member, {limit - member.offset_data} of {member.size} bytes in."
                    yield "", "", Entry(uri, unreadable="truncated_tar", detail=detail)
                    return
                else:
                    piece = Piece(uri, member.size, tar.version, member.offset_data, packed)
                    yield *split_key(member.name), piece
            file.seek(archive.offset)
            rest = file.read(_BLOCK)
        if not rest:
            problem = (
                "truncated_tar",
                f"The tar ends at byte {end} without an end mark: more may be missing.",
            )
        elif rest.strip(b"\0"):
            problem = ("damaged_tar", f"There is no tar header at byte {end}: what follows cannot be read.")
        else:
            return
    except EOFError as error:
        problem = ("truncated_tar", f"After byte {end}: {error}.")
    except DAMAGE as error:
        truncated = "unexpected end of data" in str(error)
        problem = ("truncated_tar" if truncated else "damaged_tar", f"After byte {end}: {error}.")
    yield "", "", Entry(tar.uri, unreadable=problem[0], detail=problem[1])


_MAGIC = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open))


def is_packed(file: BinaryIO) -> bool:
    """Whether an open file is packed by gzip, bzip2 or xz. Leaves it at its start."""
    head = file.read(6)
    file.seek(0)
    return any(head.startswith(magic) for magic, _ in _MAGIC)


def unpacked(file: BinaryIO, packed: bool) -> BinaryIO:
    """The tar's bytes as a seekable file (seeking back in a packed one starts over)."""
    if not packed:
        return file
    head = file.read(6)
    file.seek(0)
    opener = next((opener for magic, opener in _MAGIC if head.startswith(magic)), None)
    if opener is None:
        raise tarfile.ReadError("the tar is no longer packed as it was when it was listed")
    return cast(BinaryIO, opener(file, "rb"))


class _Guarded:
    """A file for tarfile that gives at most a mebibyte of headers per member: more is only asked for by a forged one."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.left = _HEADER_CAP
        self.seek = file.seek
        self.tell = file.tell

    def read(self, size: int = -1) -> bytes:
        self.left -= size
        if size < 0 or self.left < 0:
            raise tarfile.ReadError(f"a header of more than {_HEADER_CAP} bytes")
        return self._file.read(size)
