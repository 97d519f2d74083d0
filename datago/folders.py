"""A folder of plain pictures as a source of a stream."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from datago.errors import InputError, StorageError
from datago.inspection import inspect
from datago.pictures import Pictures
from datago.shards import Record


def pictures_in(folder: str | os.PathLike[str]) -> Pictures:
    """The pictures in a folder of this machine and in those below it, by their content, whatever their names; hidden files
    and what can not be used are left out. A sample's id is its path below the folder; it has no attributes.

    Each picture is decoded once to know that it can be and how large it is. Raises `StorageError` when something can not
    be read, `InputError` when there is no picture.
    """
    root = Path(folder)
    paths: list[Path] = []
    for place, folders, names in os.walk(root, onerror=_unread):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [Path(place, name) for name in names if not name.startswith(".")]
    paths.sort()
    columns = inspect(paths, thumbnail_side=1).columns
    for detail, reason in zip(columns["detail"], columns["reason"], strict=True):
        if reason == "unreadable":
            raise StorageError(str(detail))
    good = [n for n, reason in enumerate(columns["reason"]) if reason is None]
    if not good:
        raise InputError(f"{root} holds neither an index.json of an export nor a picture")
    ids = [paths[n].relative_to(root).as_posix() for n in good]
    digests = [columns["digest"][n] for n in good]
    widths, heights = ([int(columns[side][n]) for n in good] for side in ("width", "height"))
    return Pictures(ids, widths, heights, partial(_record, root), sorted(zip(ids, digests, strict=True)))


def _record(root: Path, sample_id: str) -> Record:
    return Record(sample_id, root / sample_id, "bin")


def _unread(cause: OSError) -> None:
    raise StorageError(f"could not list {cause.filename}: {cause.strerror}")
