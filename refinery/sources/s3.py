"""A prefix of an S3 bucket as a source: keys are paths, and the rules are those of folders and of tars in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from refinery.errors import InputError
from refinery.fields import Fields
from refinery.sources import is_tar_name
from refinery.sources.entries import Entry, Piece, group_entry
from refinery.sources.naming import group_folder
from refinery.sources.objects import Objects
from refinery.sources.uris import object_uri
from refinery.sources.webdataset import tar_entries

_URL = re.compile(r"s3://([A-Za-z0-9][A-Za-z0-9._-]{1,253})(?:/(.*))?\Z", re.DOTALL)
_HIDDEN = re.compile(r"(?:\A|/)\.[^/]*")


@dataclass(frozen=True, slots=True)
class S3Source:
    """All objects below `prefix`, and the one whose key it is; folder after folder, each after those within it.

    `kind` "s3" takes them as the folder source takes files, "webdataset" the tars among them. Keys with a part that
    begins with a dot, and the empty objects that stand for folders, are ignored and counted.
    """

    name: str
    bucket: str
    prefix: str
    kind: str = "s3"
    connection: Mapping[str, Any] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        return object_uri(self.bucket, self.prefix)

    def entries(self, fields: Fields, skip: str | None = None) -> Iterator[Entry]:
        objects = Objects(self.connection)
        entries = _samples if self.kind == "s3" else _members(objects)
        below = self.prefix if self.prefix.endswith("/") or not self.prefix else f"{self.prefix}/"
        if below != self.prefix and (piece := objects.find(self.bucket, self.prefix)):
            yield from entries({self.prefix.rpartition("/")[2]: piece})
        found_below = objects.list(self.bucket, below)
        for found in folders(self.bucket, below, found_below, _own_store(self.bucket, below, skip)):
            if isinstance(found, Entry):
                yield found
            else:
                yield from entries(found)


def folders(
    bucket: str, below: str, objects: Iterable[tuple[str, Piece]], store: str | None
) -> Iterator[dict[str, Piece] | Entry]:
    """The objects of each folder, by the last part of their keys, as soon as none of it can follow; and what is ignored.

    `objects` are (key, piece) in order of key, all below `below`; keys below `store` are the project's own.
    """
    ignored: str | None = None
    unfinished: list[tuple[str, dict[str, Piece]]] = []
    for key, piece in objects:
        if ignored is not None and key.startswith(ignored):
            continue
        if store is not None and key.startswith(store):
            ignored = store
            yield Entry(object_uri(bucket, store.rstrip("/")), ignored="own_store")
            continue
        if hidden := _HIDDEN.search(key[len(below) :]):
            end = len(below) + hidden.end()
            ignored = f"{key[:end]}/"
            yield Entry(object_uri(bucket, key[:end]), ignored="hidden")
            continue
        name = key.rpartition("/")[2]
        folder = key[: len(key) - len(name)]
        while unfinished and not folder.startswith(unfinished[-1][0]):
            yield unfinished.pop()[1]
        if not name:
            yield Entry(piece.uri, piece) if piece.bytes else Entry(piece.uri, ignored="folder_marker")
            continue
        if not unfinished or unfinished[-1][0] != folder:
            unfinished.append((folder, {}))
        unfinished[-1][1][name] = piece
    for _, pieces in reversed(unfinished):
        yield pieces


def split_url(url: str) -> tuple[str, str]:
    """The bucket and the prefix of an `s3://bucket/prefix` URL, the prefix as it stands. InputError when it is none."""
    found = _URL.match(url)
    if not found:
        raise InputError(
            "A source on S3 is written s3://bucket/prefix, without a host, a query or credentials: the service goes into "
            "its `endpoint`, credentials are found by boto3.",
            kind="no_such_source",
        )
    return found[1], found[2] or ""


def _samples(pieces: dict[str, Piece]) -> Iterator[Entry]:
    for group in group_folder(pieces):
        yield group_entry(group, lambda name: Entry(pieces[name].uri, pieces[name]), pieces.__getitem__)


def _members(objects: Objects) -> Callable[[dict[str, Piece]], Iterator[Entry]]:
    def entries(pieces: dict[str, Piece]) -> Iterator[Entry]:
        for name in sorted(pieces):
            if is_tar_name(name):
                yield from tar_entries(pieces[name], partial(objects.open, pieces[name], skipping=True))
            else:
                yield Entry(pieces[name].uri, ignored="not_a_tar")

    return entries


def _own_store(bucket: str, below: str, skip: str | None) -> str | None:
    """What the keys of the project's store at the URL `skip` begin with, when they are below this prefix."""
    if not skip or not skip.startswith(f"s3://{bucket}"):
        return None
    owner, prefix = split_url(skip)
    prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    return prefix if owner == bucket and prefix.startswith(below) else None
