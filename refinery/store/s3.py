"""`ObjectStore` on an S3 service: conditional writes whose lost replies are settled by reading back.

Every write carries its own id, and before it the ids of the writes it builds upon, in the object's metadata (its trail,
newest first). So whoever reads an object later can tell whether a write that was never answered is in it, was overwritten
by one that knew it, or never happened. docs/object-stores.md says what the service must guarantee.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refinery.backoff import wait
from refinery.config import S3StoreSettings
from refinery.errors import ConfigError, ConflictError, InputError, RefineryError, TransientError
from refinery.s3 import (
    CONCURRENCY,
    boto_errors,
    code_of,
    explained,
    for_datago,
    is_absent,
    is_unsettled,
    make_client,
    region_of,
    status_of,
    was_retried,
)
from refinery.store import ObjectInfo, check_key
from refinery.store.multipart import ReadPart, parts_of_bytes, parts_of_file, send_parts

if TYPE_CHECKING:
    from datago import S3Object

MULTIPART_FROM = 32 << 20
PART_BYTES = 16 << 20
PART_THREADS = 8
PAGE = 1000
LONGEST_KEY = 1024
_TRAIL = 16
_TRAIL_KEY = "refinery-writes"
_ROUNDS = 3
_OVERWRITTEN = '"overwritten"'

Send = Callable[[dict[str, str], dict[str, str]], str]
"""Sends a body with metadata under a condition; the new etag, or boto3's error."""


@dataclass(frozen=True, slots=True)
class _Version:
    """One state of an object: the service's etag, and the trail of the writes that led to it."""

    etag: str
    trail: tuple[str, ...]

    @property
    def token(self) -> str:
        """The etag that callers see."""
        return " ".join([self.etag, *self.trail])

    @classmethod
    def of_token(cls, token: str) -> _Version:
        etag, *trail = token.split(" ")
        return cls(etag, tuple(trail))

    @classmethod
    def of_reply(cls, reply: dict[str, Any]) -> _Version:
        return cls(reply["ETag"], tuple(reply.get("Metadata", {}).get(_TRAIL_KEY, "").split()))

    def excludes(self, base: _Version | None) -> bool:
        """Whether the trail reaches back to `base` (or to the object's creation), so that a write upon `base` that is
        not in it did not happen."""
        return len(self.trail) < _TRAIL or (base is not None and base.trail[:1] in [(w,) for w in self.trail])


class S3Store:
    """The objects below a bucket's prefix. Opening makes no request; `client` is a boto3 client to use as it is."""

    def __init__(
        self,
        settings: S3StoreSettings,
        client: Any = None,
        *,
        page: int = PAGE,
        multipart_from: int = MULTIPART_FROM,
        part_bytes: int = PART_BYTES,
    ) -> None:
        prefix = settings.prefix.strip("/")
        try:
            self._prefix = f"{check_key(prefix)}/" if prefix else ""
        except InputError as error:
            raise ConfigError(f"refinery.yaml: store.prefix: {error}", kind="bad_config") from None
        self._settings = settings
        self._given = client
        self._page = page
        self._multipart_from = multipart_from
        self._part_bytes = part_bytes
        self._bucket_seen = False

    def get(self, key: str) -> bytes:
        found = self._fetch(key)
        if found is None:
            raise self._absent(key)
        return found[0]

    def get_with_etag(self, key: str) -> tuple[bytes, str] | None:
        found = self._fetch(key)
        return found and (found[0], found[1].token)

    def exists(self, key: str) -> bool:
        return self._head(key) is not None

    def put_if_absent(self, key: str, data: bytes) -> bool:
        return self._put(key, data, None) is not None

    def put_file_if_absent(self, key: str, path: Path) -> bool:
        check_key(key)
        with parts_of_file(path) as (read, size):
            if size < self._multipart_from:
                return self._put(key, read(0, size), None) is not None
            return self._put_parts(key, (read, size), None) is not None

    def settle(self, key: str) -> None:
        if self._head(key) is None:  # what is visible is durable
            raise self._absent(key)

    def put_if_match(self, key: str, data: bytes, etag: str | None) -> str:
        written = self._put(key, data, None if etag is None else _Version.of_token(etag))
        if written is None:
            raise ConflictError(
                f"Object {key!r} was written by somebody else in between: read it again and retry.",
                kind="etag_mismatch",
            )
        return written.token

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        folder, slash, start = prefix.rpartition("/")
        if slash:
            check_key(folder)
        return self._list(prefix, folder + slash if start in (".", "..") else prefix)

    def delete(self, key: str) -> bool:
        if self._head(key) is None:
            return False
        self._call(key, partial(self._client.delete_object, **self._target(key)))
        return True

    def delete_listed(self, info: ObjectInfo) -> bool:
        now = next((found for found in self._list(info.key, info.key) if found.key == info.key), None)
        return now == info and self.delete(info.key)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        if length <= 0:
            if self._head(key) is None:
                raise self._absent(key)
            return b""
        found = self._fetch(key, Range=f"bytes={start}-{start + length - 1}")
        if found is None:
            raise self._absent(key)
        return found[0]

    def local_path(self, key: str) -> None:
        check_key(key)

    def address(self, key: str) -> S3Object:
        from datago import S3Object

        target = self._target(key)
        return S3Object(for_datago(self._client, target["Bucket"], self._region), target["Key"])

    @property
    def url(self) -> str:
        return f"s3://{self._settings.bucket}/{self._prefix}".rstrip("/")

    @property
    def concurrency(self) -> int:
        return CONCURRENCY if self._given is None else int(self._given.meta.config.max_pool_connections)

    @cached_property
    def _client(self) -> Any:
        return make_client(self._settings) if self._given is None else self._given

    @cached_property
    def _region(self) -> str:
        return region_of(self._client, self._settings.bucket)

    @cached_property
    def _part_threads(self) -> Executor:
        return ThreadPoolExecutor(PART_THREADS, thread_name_prefix="part")

    def _target(self, key: str) -> dict[str, str]:
        name = self._prefix + check_key(key)
        if len(name) > LONGEST_KEY:
            raise InputError(
                f"{key[:80]!r}… is not an object key: with the store's prefix it has {len(name)} characters, and S3 "
                f"takes {LONGEST_KEY}.",
                kind="bad_key",
            )
        return {"Bucket": self._settings.bucket, "Key": name}

    def _where(self, key: str) -> str:
        return f"s3://{self._settings.bucket}/{self._prefix}{key}"

    def _absent(self, key: str) -> InputError:
        return InputError(f"There is no object {key!r} in the store {self.url}.", kind="no_such_object")

    def _call(self, key: str, request: Callable[[], Any]) -> Any:
        try:
            return request()
        except boto_errors() as error:
            raise explained(error, self._where(key)) from None

    # Reading

    def _fetch(self, key: str, **asked: str) -> tuple[bytes, _Version] | None:
        """The bytes of an object, or of a range of it, as many as the service announced; None when there is none."""
        target = self._target(key)
        for left in reversed(range(_ROUNDS)):
            try:
                reply = self._client.get_object(**target, **asked)
            except boto_errors() as error:
                if is_absent(error):
                    return None
                if status_of(error) == 416:  # the range begins at the object's end or beyond
                    return b"", _Version("", ())
                raise explained(error, self._where(key)) from None
            try:
                with closing(reply["Body"]) as body:
                    return body.read(), _Version.of_reply(reply)
            except boto_errors() as error:
                if not left:
                    raise explained(error, self._where(key)) from None
            time.sleep(wait(_ROUNDS - left - 1))
        raise AssertionError("unreachable")

    def _head(self, key: str) -> _Version | None:
        target = self._target(key)
        try:
            return _Version.of_reply(self._client.head_object(**target))
        except boto_errors() as error:
            failed = error
        absent = is_absent(failed)
        if not (absent and self._bucket_seen) and 400 <= status_of(failed) < 500:
            # the answer to a HEAD has no body: a listing tells a missing bucket from a missing object, and why not
            self._call("", partial(self._client.list_objects_v2, Bucket=target["Bucket"], MaxKeys=1))
        if not absent:
            raise explained(failed, self._where(key))
        self._bucket_seen = True
        return None

    def _list(self, prefix: str, asked_for: str) -> Iterator[ObjectInfo]:
        """The objects below `prefix`, asking the service for a prefix of that (it may refuse one that ends in a dot)."""
        asked: dict[str, Any] = {
            "Bucket": self._settings.bucket,
            "Prefix": self._prefix + asked_for,
            "MaxKeys": self._page,
        }
        while True:
            reply = self._call(prefix, partial(self._client.list_objects_v2, **asked))
            for item in reply.get("Contents", ()):
                key = item["Key"][len(self._prefix) :]
                if key.startswith(prefix) and _is_key(
                    key
                ):  # no store wrote the others: folder markers of consoles
                    yield ObjectInfo(
                        key, item["Size"], item["ETag"].strip('"'), item["LastModified"].astimezone(UTC)
                    )
            if not reply.get("IsTruncated"):
                return
            asked["ContinuationToken"] = reply["NextContinuationToken"]

    # Writing

    def _put(self, key: str, data: bytes, base: _Version | None) -> _Version | None:
        if len(data) >= self._multipart_from:
            return self._put_parts(key, parts_of_bytes(data), base)
        target = self._target(key)

        def send(metadata: dict[str, str], condition: dict[str, str]) -> str:
            reply = self._client.put_object(**target, Body=data, Metadata=metadata, **condition)
            return str(reply["ETag"])

        return self._write(key, send, base)

    def _put_parts(self, key: str, body: tuple[ReadPart, int], base: _Version | None) -> _Version | None:
        if (
            base is None and self._head(key) is not None
        ):  # do not send what the condition would refuse at the end
            return None
        target = self._target(key)

        def send(metadata: dict[str, str], condition: dict[str, str]) -> str:
            return send_parts(
                self._client,
                target,
                body,
                metadata,
                condition,
                part_bytes=self._part_bytes,
                threads=self._part_threads,
            )

        return self._write(key, send, base)

    def _write(self, key: str, send: Send, base: _Version | None) -> _Version | None:
        """Write upon `base` (None: upon nothing). The new version; None when provably somebody else's write stands there.

        TransientError(kind="write_unknown") when neither can be proven: the same write may be tried again.
        """
        mine = uuid.uuid4().hex[:16]
        trail = (mine, *(base.trail if base else ()))[:_TRAIL]
        metadata = {_TRAIL_KEY: " ".join(trail)}
        condition = {"IfNoneMatch": "*"} if base is None else {"IfMatch": base.etag}
        doubt = False
        for turn in range(1, _ROUNDS + 1):
            try:
                return _Version(send(metadata, condition), trail)
            except boto_errors() as error:
                refused = status_of(error) == 412 or (base is not None and code_of(error) == "NoSuchKey")
                doubt = doubt or was_retried(error) or is_unsettled(error)
                if refused and not doubt:
                    return None
                if not (
                    refused
                    or is_unsettled(error)
                    or status_of(error) == 409
                    or code_of(error) == "NoSuchUpload"
                ):
                    raise explained(error, self._where(key)) from None
                cause = error
            found = self._read_back(key, cause)
            if found is not None and mine in found.trail:
                return found if found.trail[0] == mine else _Version(_OVERWRITTEN, trail)
            if found != base:
                if found is None or not found.excludes(base):
                    break
                return None
            time.sleep(wait(turn - 1))
        raise self._unknown(key, explained(cause, self._where(key)))

    def _read_back(self, key: str, cause: Exception) -> _Version | None:
        try:
            return self._head(key)
        except TransientError:
            raise self._unknown(key, explained(cause, self._where(key))) from None

    def _unknown(self, key: str, cause: RefineryError) -> TransientError:
        return TransientError(
            f"{self._where(key)}: whether it was written is not known, because the service did not say so. Do the same "
            f"again: what was written already is not written twice. The last answer: {cause}",
            kind="write_unknown",
        )


def _is_key(key: str) -> bool:
    try:
        check_key(key)
    except InputError:
        return False
    return True
