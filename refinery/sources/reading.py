"""Reading pieces back from a listing: bytes of files and tar members, guarded against what changed since."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from refinery.blobs import read_chunks
from refinery.sources.entries import Piece, PieceError
from refinery.sources.objects import Objects
from refinery.sources.uris import is_object, os_reason, uri_path
from refinery.sources.webdataset import DAMAGE, unpacked


class PieceReader:
    """Reads pieces one after another, keeping a packed tar open between them (they must come in order of offset).

    `objects` reads those that are objects of an S3 service.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._tar: BinaryIO | None = None
        self._raw: BinaryIO | None = None

    def __enter__(self) -> PieceReader:
        return self

    def __exit__(self, *_: object) -> None:
        if self._raw:
            self._raw.close()

    def chunks(self, piece: Piece) -> Iterator[bytes]:
        """The bytes of a piece as they are now, at most a mebibyte at a time.

        Raises PieceError, its kind being the reason code: of the operating system's errors (see `os_reason`),
        "not_regular", "changed" (a tar or object that was rewritten since it was listed), "truncated_tar", "damaged_tar",
        or of objects ("missing", "permission_denied", "archived"). Raises ConfigError and TransientError when an S3
        service cannot be used or does not answer: then nothing is said of the piece.
        """
        try:
            if piece.packed:
                yield from self._packed(piece)
                return
            with self._open(piece) as file:
                if piece.offset is None:
                    yield from read_chunks(file)
                    return
                file.seek(piece.offset)
                yield from _exactly(file, piece)
        except OSError as error:
            reason = os_reason(error) if error.errno else "damaged_tar"
            raise PieceError(error.strerror or str(error), kind=reason) from None
        except EOFError as error:
            raise PieceError(str(error), kind="truncated_tar") from None
        except DAMAGE as error:
            raise PieceError(str(error), kind="damaged_tar" if piece.packed else "bad_path") from None

    def _packed(self, piece: Piece) -> Iterator[bytes]:
        if self._tar is None:
            self._raw = self._open(piece)
            self._tar = unpacked(self._raw, packed=True)
        self._tar.seek(piece.offset or 0)
        yield from _exactly(self._tar, piece)

    def _open(self, piece: Piece) -> BinaryIO:
        """The file, object or tar of a piece; a tar only when it is the one that was listed."""
        if is_object(piece.uri):
            return self._objects.open(piece)
        file = _open(uri_path(piece.uri))
        if piece.offset is not None and os.fstat(file.fileno()).st_mtime_ns != piece.version:
            file.close()
            raise PieceError(
                "The tar was rewritten since it was listed: stage its source again.", kind="changed"
            )
        return file


Job = tuple[Piece, bool]
"""A piece to read, and whether as a sidecar."""


def reading_order(jobs: Iterable[Job]) -> list[list[Job]]:
    """Jobs as units that may be read in parallel: each on its own, but those of one packed tar together, in order."""
    units: list[list[Job]] = []
    packed: dict[str, list[Job]] = {}
    for job in jobs:
        piece = job[0]
        if piece.packed:
            packed.setdefault(piece.uri.partition("#")[0], []).append(job)
        else:
            units.append([job])
    units.extend(sorted(unit, key=lambda job: job[0].offset or 0) for unit in packed.values())
    return units


def _open(path: str) -> BinaryIO:
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise PieceError("It is not a regular file; it was not opened.", kind="not_regular")
    # O_NONBLOCK: a FIFO put in the file's place this very moment must not hang the reader
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise PieceError("It is no longer a regular file.", kind="not_regular")
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def _exactly(file: BinaryIO, piece: Piece) -> Iterator[bytes]:
    left = piece.bytes
    while left:
        chunk = file.read(min(left, 1 << 20))
        if not chunk:
            raise PieceError(
                f"The tar ends {left} bytes before the end of this member.", kind="truncated_tar"
            )
        left -= len(chunk)
        yield chunk
