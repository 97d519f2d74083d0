"""A folder tree as a source: every file in it is a sample, or belongs to one, or is accounted for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from refinery.errors import InputError
from refinery.fields import Fields
from refinery.sources import OnDisk
from refinery.sources.entries import Entry, entry_of, group_entry, piece_or_blank
from refinery.sources.naming import group_folder
from refinery.sources.uris import os_reason, path_uri


@dataclass(slots=True)
class Level:
    """One folder's content: sub-folders to descend into, files (anything that is no folder), and what is ignored."""

    folders: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    ignored: list[Entry] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FolderSource(OnDisk):
    """All files below `path` (or the one file at it), depth first, in order of name.

    Hidden files and folders (a dot first) and links to folders are ignored and counted; links to files are read.
    """

    name: str
    path: Path
    kind: str = field(default="folder", init=False)

    def entries(self, fields: Fields, skip: str | None = None) -> Iterator[Entry]:
        root = str(self.path)
        if not self.path.is_dir():
            if not self.path.exists():
                raise InputError(f"There is no source at {root}: check the path.", kind="no_such_source")
            yield entry_of(root)
            return
        for found in walk(self.name, root, skip):
            if isinstance(found, Entry):
                yield found
            else:
                yield from _samples(*found)


def _samples(folder: str, files: list[str]) -> Iterator[Entry]:
    place = partial(os.path.join, folder)
    for group in group_folder(files):
        yield group_entry(group, lambda name: entry_of(place(name)), lambda name: piece_or_blank(place(name)))


def walk(source: str, root: str, skip: str | None) -> Iterator[tuple[str, list[str]] | Entry]:
    """Each folder below `root`, depth first in order of name, with the names of its files; and as entries what is
    ignored or cannot be listed. InputError(kind="no_such_source") when `root` itself cannot be listed."""
    left_out = _identity(skip) if skip else None
    pending = [root]
    while pending:
        folder = pending.pop()
        if left_out and _identity(folder) == left_out:
            yield Entry(path_uri(folder), ignored="own_store")
            continue
        try:
            level = scan(folder)
        except OSError as error:
            if folder == root:
                raise InputError(
                    f"Source {source!r}: {root} cannot be listed ({error.strerror}): check its permissions.",
                    kind="no_such_source",
                ) from None
            detail = f"The folder cannot be listed: {error.strerror}."
            yield Entry(path_uri(folder), unreadable=os_reason(error), detail=detail)
            continue
        yield from level.ignored
        yield folder, level.files
        pending.extend(os.path.join(folder, name) for name in reversed(level.folders))


def scan(folder: str) -> Level:
    """What one folder holds, in order of name. OSError when it cannot be listed."""
    level = Level()
    with os.scandir(folder) as found:
        ordered = sorted(found, key=lambda e: os.fsencode(e.name))
    for item in ordered:
        if item.name.startswith("."):
            level.ignored.append(Entry(path_uri(item.path), ignored="hidden"))
        elif item.is_dir(follow_symlinks=False):
            level.folders.append(item.name)
        elif item.is_symlink() and os.path.isdir(item.path):
            level.ignored.append(Entry(path_uri(item.path), ignored="folder_link"))
        else:
            level.files.append(item.name)
    return level


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
