"""Sources of raw pictures: a folder tree, a manifest, WebDataset tars, a prefix on S3. Each lists entries; landing reads
them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from refinery.errors import InputError, did_you_mean
from refinery.fields import Fields
from refinery.sources.entries import Attached, Entry, Piece
from refinery.sources.uris import is_object, path_uri

if TYPE_CHECKING:
    from refinery.config import S3Connection, SourceSettings

__all__ = [
    "KINDS",
    "Attached",
    "Entry",
    "OnDisk",
    "Piece",
    "Source",
    "check_source_name",
    "configured_source",
    "guess_kind",
    "open_source",
]

KINDS = ("folder", "manifest", "webdataset", "s3")
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
    def uri(self) -> str:
        """Its place."""
        ...

    @property
    def connection(self) -> Mapping[str, Any]:
        """How its S3 service is reached, as `S3Connection` without defaults; empty for files."""
        ...

    def entries(self, fields: Fields, skip: str | None = None) -> Iterator[Entry]:
        """Everything there is, in an order that depends on nothing but the content; `skip` is the URL of a store to leave
        out (see `ObjectStore.url`).

        Raises InputError when the source itself cannot be read (kind "no_such_source", "bad_manifest") or names fields
        that are not registered ("unknown_field"), before or instead of the first entry; on S3 ConfigError and
        TransientError at any entry. What is wrong with one file or object is told in its entry.
        """
        ...


class OnDisk:
    """What the sources on this machine's disk have in common: they are at a path."""

    __slots__ = ()
    path: Path

    @property
    def uri(self) -> str:
        return path_uri(str(self.path.absolute()))

    @property
    def connection(self) -> Mapping[str, Any]:
        return {}


def open_source(
    place: Path | str,
    *,
    name: str,
    kind: str | None = None,
    root: Path | str | None = None,
    connection: S3Connection | None = None,
) -> Source:
    """The source `name` at `place`, a path or an `s3://bucket/prefix` URL. `kind` is one of KINDS (None: guessed).

    `root`, for manifests: the folder that paths are relative to and may not leave (None: the manifest's own).
    `connection`, for S3: how the service is reached (None: AWS, as its own configuration says).
    Raises InputError: "bad_source_name", "bad_source_kind", "no_such_source". Nothing on S3 is asked for yet.
    """
    check_source_name(name)
    if kind is not None and kind not in KINDS:
        raise InputError(
            f"{kind!r} is not a kind of source: use one of {', '.join(KINDS)}.{did_you_mean(kind, KINDS)}",
            kind="bad_source_kind",
        )
    if is_object(str(place)):
        return _open_s3(str(place), name, kind, connection)
    if kind == "s3" or (connection and connection.model_dump(exclude_none=True)):
        raise InputError(
            f"{str(place)!r} is not on S3, so it has no kind s3, endpoint, region or profile: write s3://bucket/prefix.",
            kind="bad_source_kind",
        )
    return _open_local(Path(os.path.abspath(place)), name, kind, root)


def configured_source(settings: SourceSettings, project: Path) -> Source:
    """A source of refinery.yaml; relative paths are relative to the project's folder. Raises what `open_source` does."""
    place = settings.url or project / (settings.path or "")
    connection = settings.connection if settings.url else None
    return open_source(place, name=settings.name, kind=settings.kind, connection=connection)


def _open_s3(url: str, name: str, kind: str | None, connection: S3Connection | None) -> Source:
    from refinery.sources.s3 import S3Source, split_url

    bucket, prefix = split_url(url)
    kind = kind or ("webdataset" if is_tar_name(prefix) else "s3")
    if kind not in ("s3", "webdataset"):
        raise InputError(
            f"A source of kind {kind} cannot be on S3: use s3 or webdataset, or copy {url} to this machine.",
            kind="bad_source_kind",
        )
    known = connection.model_dump(exclude_none=True) if connection else {}
    return S3Source(name, bucket, prefix, kind, known)


def _open_local(place: Path, name: str, kind: str | None, root: Path | str | None) -> Source:
    from refinery.sources.folder import FolderSource
    from refinery.sources.manifest import ManifestSource
    from refinery.sources.webdataset import WebDatasetSource

    if not place.exists():
        raise InputError(f"There is no source at {place}: check the path.", kind="no_such_source")
    match kind or guess_kind(place):
        case "folder":
            return FolderSource(name, place)
        case "manifest":
            return ManifestSource(name, place, Path(os.path.abspath(root)) if root else None)
        case _:
            return WebDatasetSource(name, place)


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
