"""Sources of raw pictures: a folder tree, a manifest, WebDataset tars. Each lists entries; landing reads them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from refinery.errors import InputError, did_you_mean
from refinery.fields import Fields
from refinery.sources.entries import Attached, Entry, Piece

__all__ = ["KINDS", "Attached", "Entry", "Piece", "Source", "check_source_name", "guess_kind", "open_source"]

KINDS = ("folder", "manifest", "webdataset")
MANIFEST_EXTENSIONS = ("csv", "jsonl", "ndjson", "parquet")
TAR_EXTENSIONS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,40}\Z")


class Source(Protocol):
    """A named place that raw pictures come from."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def path(self) -> Path: ...

    def entries(self, fields: Fields, skip: Path | None = None) -> Iterator[Entry]:
        """Everything there is, in an order that depends on nothing but the content; `skip` is a folder to leave out.

        Raises InputError when the source itself cannot be read (kind "no_such_source", "bad_manifest") or names fields
        that are not registered ("unknown_field"), before or instead of the first entry. What is wrong with one file is
        told in its entry.
        """
        ...


def open_source(
    path: Path | str, *, name: str, kind: str | None = None, root: Path | str | None = None
) -> Source:
    """The source `name` at `path`. `kind` is one of KINDS (None: guessed); `root`, for manifests: the folder that paths
    are relative to and may not leave (None: the manifest's own).

    Raises InputError: "bad_source_name", "bad_source_kind", "no_such_source".
    """
    from refinery.sources.folder import FolderSource
    from refinery.sources.manifest import ManifestSource
    from refinery.sources.webdataset import WebDatasetSource

    check_source_name(name)
    place = Path(os.path.abspath(path))
    if not place.exists():
        raise InputError(f"There is no source at {place}: check the path.", kind="no_such_source")
    match kind or guess_kind(place):
        case "folder":
            return FolderSource(name, place)
        case "manifest":
            return ManifestSource(name, place, Path(os.path.abspath(root)) if root else None)
        case "webdataset":
            return WebDatasetSource(name, place)
        case other:
            raise InputError(
                f"{other!r} is not a kind of source: use one of {', '.join(KINDS)}.{did_you_mean(other, KINDS)}",
                kind="bad_source_kind",
            )


def guess_kind(path: Path) -> str:
    """The kind of the source at `path`: a CSV, JSONL or Parquet file is a manifest; a tar, or a folder whose visible
    entries are all tars, a webdataset; else a folder."""
    if path.is_file():
        if path.suffix.lower().lstrip(".") in MANIFEST_EXTENSIONS:
            return "manifest"
        return "webdataset" if is_tar_name(path.name) else "folder"
    try:
        with os.scandir(path) as found:
            visible = [e.name for e in found if not e.name.startswith(".")]
    except OSError:
        return "folder"
    return "webdataset" if visible and all(map(is_tar_name, visible)) else "folder"


def is_tar_name(name: str) -> bool:
    """Whether a file's name says it is a tar, packed or not."""
    return name.lower().endswith(TAR_EXTENSIONS)


def check_source_name(name: str) -> str:
    """`name` itself when it may name a source; InputError(kind="bad_source_name") otherwise."""
    if not _NAME.match(name):
        raise InputError(
            f"{name!r} cannot be a source's name: lower-case letters, digits, - and _ only, a letter or digit first, at most 41.",
            kind="bad_source_name",
        )
    return name
