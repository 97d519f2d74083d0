"""What a source lists: entries made of pieces, as plain JSON, enough for another process to read them."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from refinery.errors import InputError
from refinery.sources.naming import Group
from refinery.sources.uris import os_reason, path_uri

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Piece:
    """One file or object, or one tar member (`offset` then says where its data begins in the, possibly unpacked, tar).

    `bytes` is the size of the file, object or member. `version` tells whether the file, object or tar was rewritten: a
    file's time of modification in nanoseconds, an object's etag. Both are 0 when they could not be asked.
    """

    uri: str
    bytes: int
    version: int | str
    offset: int | None = None
    packed: bool = False

    def to_json(self) -> list[Any]:
        tail = [] if self.offset is None else [self.offset, self.packed]
        return [self.uri, self.bytes, self.version, *tail]

    @classmethod
    def from_json(cls, value: list[Any]) -> Piece:
        return cls(*value)


@dataclass(frozen=True, slots=True)
class Attached:
    """A payload's piece with the payload's name."""

    name: str
    is_mask: bool
    piece: Piece


@dataclass(frozen=True, slots=True)
class Entry:
    """One listed thing: a sample with what belongs to it, something unreadable, or something ignored.

    Exactly one of `piece`, `unreadable` (reason code) and `ignored` (reason code) is set. `attributes` are JSON values
    of a manifest's row, not yet coerced.
    """

    uri: str
    piece: Piece | None = None
    sidecars: tuple[Piece, ...] = ()
    payloads: tuple[Attached, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    unreadable: str = ""
    detail: str = ""
    ignored: str = ""

    def to_json(self) -> dict[str, Any]:
        """The entry without what is empty; equal entries give equal objects."""
        row: dict[str, Any] = {"uri": self.uri}
        if self.piece:
            row["piece"] = self.piece.to_json()
        if self.sidecars:
            row["sidecars"] = [piece.to_json() for piece in self.sidecars]
        if self.payloads:
            row["payloads"] = [[p.name, p.is_mask, p.piece.to_json()] for p in self.payloads]
        if self.attributes:
            row["attributes"] = dict(self.attributes)
        for name in ("unreadable", "detail", "ignored"):
            if text := getattr(self, name):
                row[name] = text
        return row

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Entry:
        piece = row.get("piece")
        return cls(
            uri=row["uri"],
            piece=Piece.from_json(piece) if piece else None,
            sidecars=tuple(Piece.from_json(p) for p in row.get("sidecars", ())),
            payloads=tuple(
                Attached(name, mask, Piece.from_json(p)) for name, mask, p in row.get("payloads", ())
            ),
            attributes=row.get("attributes", {}),
            unreadable=row.get("unreadable", ""),
            detail=row.get("detail", ""),
            ignored=row.get("ignored", ""),
        )


class PieceError(InputError):
    """A piece cannot be read; `kind` is the reason code."""


def group_entry(group: Group, entry: Callable[[str], Entry], piece: Callable[[str], Piece]) -> Entry:
    """The entry of a group of names, given how a name becomes a sample's entry and a belonging's piece.

    When the sample is unreadable its belongings are still listed.
    """
    return replace(
        entry(group.main),
        sidecars=tuple(map(piece, group.sidecars)),
        payloads=tuple(Attached(utf8(name), mask, piece(place)) for name, mask, place in group.payloads),
    )


def probe(path: str) -> Piece | tuple[str, str]:
    """The piece of a regular, readable file at an absolute path, or the reason code and detail why there is none.

    Never opens anything: a FIFO or a device is told by its mode.
    """
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            return "not_regular", f"It is a {_kind(found.st_mode)}, not a file; it was not opened."
        if not os.access(path, os.R_OK):
            return "permission_denied", "This user may not read it."
        return Piece(path_uri(path), found.st_size, found.st_mtime_ns)
    except FileNotFoundError:
        if os.path.islink(path):
            return "broken_link", "The link points to nothing."
        return "missing", "There is no such file."
    except OSError as error:
        return os_reason(error), error.strerror or str(error)
    except ValueError:
        return "bad_path", "No file can have this name."


def piece_or_blank(path: str) -> Piece:
    """The piece at `path`; one of zero size and time when it cannot be read now (landing will say why)."""
    found = probe(path)
    return found if isinstance(found, Piece) else Piece(path_uri(path), 0, 0)


def entry_of(path: str) -> Entry:
    """The entry of the file at an absolute path: its piece, or why it is unreadable."""
    found = probe(path)
    if isinstance(found, Piece):
        return Entry(found.uri, found)
    return Entry(path_uri(path), unreadable=found[0], detail=found[1])


def utf8(text: str) -> str:
    """`text` without lone surrogates (bytes smuggled into a name, broken JSON escapes): each becomes U+FFFD."""
    return _SURROGATE.sub("\ufffd", text)


_KINDS = (
    (stat.S_ISDIR, "folder"),
    (stat.S_ISFIFO, "FIFO"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISBLK, "block device"),
    (stat.S_ISCHR, "character device"),
)


def _kind(mode: int) -> str:
    return next((name for test, name in _KINDS if test(mode)), "special file")
