"""Objects of an S3 service, listed and read: what is kept of a bucket is its keys' uris, sizes and etags."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from refinery.backoff import wait
from refinery.errors import ConfigError
from refinery.sources.entries import Piece, PieceError
from refinery.sources.uris import object_uri, uri_object

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BUFFER = 1 << 20
_WINDOWS = (64 << 10, 16 << 20)
_TRIES = 5
_PAUSE = 0.15
_REASONS = {
    "AccessDenied": ("permission_denied", "These credentials may not read it (s3:GetObject is denied)."),
    "InvalidObjectState": ("archived", "It is in cold storage: restore it to be read."),
    "InvalidRange": ("changed", "It is shorter than it was when it was listed: stage its source again."),
    "PreconditionFailed": ("changed", "It was rewritten since it was listed: stage its source again."),
}


class Objects:
    """The objects of one S3 service. Connects when first used; any number of threads may share it.

    `connection` holds the settings of `S3Connection` that are not the defaults. Credentials come from boto3's chain.
    """

    def __init__(self, connection: Mapping[str, Any]) -> None:
        self._connection = connection
        self._lock = Lock()
        self._made: Any = None

    @property
    def client(self) -> Any:
        """The boto3 client. ConfigError when the settings make none."""
        with self._lock:
            if self._made is None:
                from refinery.config import S3Connection
                from refinery.s3 import make_client

                self._made = make_client(S3Connection(**self._connection))
            return self._made

    def list(self, bucket: str, prefix: str) -> Iterator[tuple[str, Piece]]:
        """Every object whose key begins with `prefix`, as (key, piece), in order of key, a page of 1,000 at a time.

        Raises ConfigError ("no_such_bucket", "access_denied", "bad_credentials"…) and TransientError.
        """
        previous = ""
        for page in self._pages(bucket, prefix):
            for item in page.get("Contents", ()):
                key = item["Key"]
                if key <= previous:
                    raise ConfigError(
                        f"The service lists {object_uri(bucket, key)} after {object_uri(bucket, previous)}: a source "
                        "needs a bucket that lists its keys in order.",
                        kind="s3_unsupported",
                    )
                previous = key
                yield key, _piece(bucket, item)

    def find(self, bucket: str, key: str) -> Piece | None:
        """The object with exactly this key, if there is one. Raises what `list` raises."""
        for page in self._pages(bucket, key, MaxKeys=1):
            return next((_piece(bucket, i) for i in page.get("Contents", ()) if i["Key"] == key), None)
        return None

    def open(self, piece: Piece, *, skipping: bool = False) -> BinaryIO:
        """The object that `piece` is, or is a member of, as a seekable file of the bytes it had when it was listed; of an
        unpacked tar's member, up to where the member ends.

        It is asked for in one request from where reading begins; with `skipping` in windows, which grow while nothing is
        skipped. A connection that breaks is taken up again where it broke. Reading raises PieceError ("missing",
        "changed", "permission_denied", "archived"), ConfigError and TransientError.
        """
        raw = _ObjectFile(self.client, piece, _WINDOWS[0] if skipping else 0)
        return cast(BinaryIO, io.BufferedReader(raw, _WINDOWS[0] if skipping else _BUFFER))

    def _pages(self, bucket: str, prefix: str, **more: Any) -> Iterator[dict[str, Any]]:
        from botocore.exceptions import BotoCoreError, ClientError

        from refinery.s3 import code_of, explained

        try:
            pages = self.client.get_paginator("list_objects_v2")
            yield from pages.paginate(Bucket=bucket, Prefix=prefix, **more)
        except (BotoCoreError, ClientError) as error:
            if code_of(error) == "AccessDenied":
                raise ConfigError(
                    f"{object_uri(bucket, prefix)}: these credentials may not list it. The policy must allow "
                    "s3:ListBucket on the bucket and s3:GetObject on the objects.",
                    kind="access_denied",
                ) from None
            raise explained(error, object_uri(bucket, prefix)) from None


class _ObjectFile(io.RawIOBase):
    """See `Objects.open`."""

    def __init__(self, client: Any, piece: Piece, window: int) -> None:
        self._client = client
        self._uri = piece.uri.partition("#")[0]
        self._bucket, self._key = uri_object(piece.uri)
        self._etag = piece.version
        self._whole = piece.offset is None and not window
        self._end = None if piece.packed else (piece.offset or 0) + piece.bytes
        self._window = window
        self._at = 0
        self._body: Any = None
        self._left = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            raise io.UnsupportedOperation("an object's end is not looked for")
        target = offset + (self._at if whence == io.SEEK_CUR else 0)
        if target != self._at:
            self._drop()
            self._at = target
            self._window = min(self._window, _WINDOWS[0])
        return target

    def close(self) -> None:
        self._drop()
        super().close()

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        asks_though_empty = self._whole and not self._end  # to learn whether it still is
        if self._end is not None and self._at >= self._end and not asks_though_empty:
            return 0
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(wait(attempt, _PAUSE))
            data, broken = self._next(len(view))
            if not broken:
                view[: len(data)] = data
                return len(data)
        from botocore.exceptions import ResponseStreamingError

        from refinery.s3 import explained

        raise explained(ResponseStreamingError(error=broken), self._uri)

    def _next(self, size: int) -> tuple[bytes, Exception | None]:
        """The next bytes, at most `size` (none: the end), or what broke the connection."""
        from botocore.exceptions import BotoCoreError, FlexibleChecksumError, IncompleteReadError
        from urllib3.exceptions import HTTPError

        from refinery.s3 import explained

        if self._body is None:
            self._ask()
        if not self._left:
            self._drop()
            return b"", None
        try:
            data: bytes = self._body.read(min(size, self._left))
            if not data:
                raise IncompleteReadError(actual_bytes=0, expected_bytes=self._left)
        except FlexibleChecksumError as error:
            raise explained(error, self._uri) from None
        except (BotoCoreError, HTTPError) as error:
            self._drop()
            return b"", error
        self._at += len(data)
        self._left -= len(data)
        if not self._left:
            self._drop()
        return data, None

    def _ask(self) -> None:
        """Ask for the bytes from here on."""
        from botocore.exceptions import BotoCoreError, ClientError

        from refinery.s3 import code_of, explained, is_absent

        wanted = {"IfMatch": f'"{self._etag}"'} if self._etag else {}
        if self._at or not self._whole:
            ends = [end for end in (self._end, self._window and self._at + self._window) if end]
            wanted["Range"] = f"bytes={self._at}-{min(ends) - 1 if ends else ''}"
            self._window = min(self._window * 2, _WINDOWS[1])
        try:
            reply = self._client.get_object(Bucket=self._bucket, Key=self._key, **wanted)
        except (BotoCoreError, ClientError) as error:
            if code_of(error) in _REASONS:
                reason, detail = _REASONS[code_of(error)]
                raise PieceError(detail, kind=reason) from None
            if is_absent(error):
                raise PieceError("There is no such object.", kind="missing") from None
            raise explained(error, self._uri) from None
        self._body, self._left = reply["Body"], reply["ContentLength"]
        if "Range" not in wanted:
            return
        span, _, total = str(reply.get("ContentRange", "")).removeprefix("bytes ").partition("/")
        if not span.startswith(f"{self._at}-"):
            self._drop()
            raise ConfigError(
                f"{self._uri}: the service does not answer requests for a range of bytes, which a source needs.",
                kind="s3_unsupported",
            )
        if self._end is None:
            self._end = int(total)

    def _drop(self) -> None:
        if self._body is not None:
            self._body.close()
        self._body, self._left = None, 0


def _piece(bucket: str, item: Mapping[str, Any]) -> Piece:
    return Piece(object_uri(bucket, item["Key"]), item["Size"], item.get("ETag", "").strip('"'))
