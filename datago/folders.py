"""A folder of plain pictures as a source of a stream."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from datago.decoding import probe
from datago.errors import InputError, StorageError
from datago.pictures import Pictures
from datago.shards import Record


def pictures_in(folder: str | os.PathLike[str]) -> Pictures:
    """The pictures in a folder of this machine and in those below it, by their content, whatever their names; hidden files
    and what is no picture by its header are left out. A sample's id is its path below the folder; it has no attributes.

    Only headers are read; a token knows the files by path and size. Raises `StorageError` when something can not be read,
    `InputError` when there is no picture.
    """
    root = Path(folder)
    paths: list[Path] = []
    for place, folders, names in os.walk(root, onerror=_unread):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [Path(place, name) for name in names if not name.startswith(".")]
    paths.sort()
    found = probe(paths)
    for detail, reason in zip(found.detail, found.reason, strict=True):
        if reason == "unreadable":
            raise StorageError(str(detail))
    good = [n for n, reason in enumerate(found.reason) if reason is None]
    if not good:
        raise InputError(f"{root} holds neither an index.json of an export nor a picture")
    ids = [paths[n].relative_to(root).as_posix() for n in good]
    widths, heights = ([int(sides[n]) for n in good] for sides in (found.width, found.height))
    sizes = [paths[n].stat().st_size for n in good]
    known = sorted(zip(ids, sizes, widths, heights, strict=True))
    return Pictures(ids, widths, heights, partial(_record, root), known)


def _record(root: Path, sample_id: str) -> Record:
    return Record(sample_id, root / sample_id, "bin")


def _unread(cause: OSError) -> None:
    raise StorageError(f"could not list {cause.filename}: {cause.strerror}")
