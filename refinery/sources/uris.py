"""Origins' uris: RFC 8089 `file:` URIs and `s3://bucket/key`, percent-encoded byte by byte.

A file name is bytes and need not be valid UTF-8. Percent-encoding the bytes gives plain ASCII that JSON, Parquet, SQL
and a browser's address bar all carry unchanged, and that decodes to exactly the bytes it came from. A tar member is the
tar's URI with the member's name as fragment: `file:///data/train-0000.tar#dir/000017.jpg`.
"""

from __future__ import annotations

import errno
import os
from urllib.parse import quote_from_bytes, unquote_to_bytes

_SCHEME = "file://"
_S3 = "s3://"


def path_uri(path: str) -> str:
    """The URI of an absolute path (surrogate-escaped, as `os` gives it)."""
    return _SCHEME + quote_from_bytes(os.fsencode(path))


def member_uri(tar_uri: str, name: str) -> str:
    """The URI of a tar's member (`name` surrogate-escaped)."""
    return f"{tar_uri}#{quote_from_bytes(os.fsencode(name))}"


def uri_path(uri: str) -> str:
    """The path that `path_uri` or `member_uri` was given (for a member: the tar's). ValueError when it is no file URI."""
    if not uri.startswith(_SCHEME + "/"):
        raise ValueError(f"{uri!r} is not an absolute file URI.")
    return os.fsdecode(unquote_to_bytes(uri[len(_SCHEME) :].partition("#")[0]))


def object_uri(bucket: str, key: str) -> str:
    """The URI of a bucket's object, or of those whose keys begin so."""
    return f"{_S3}{bucket}/{quote_from_bytes(key.encode('utf-8', 'surrogatepass'))}"


def uri_object(uri: str) -> tuple[str, str]:
    """The bucket and key that `object_uri` was given (for a tar's member: the tar's)."""
    bucket, _, key = uri.removeprefix(_S3).partition("#")[0].partition("/")
    return bucket, unquote_to_bytes(key).decode("utf-8", "surrogatepass")


def is_object(uri: str) -> bool:
    """Whether a URI names an object of an S3 service, or a member of one."""
    return uri.startswith(_S3)


def uri_name(uri: str) -> str:
    """The last segment of the file's, object's or member's name, as UTF-8 text (bytes that are none become U+FFFD)."""
    path = uri.rpartition("#")[2] if "#" in uri else uri
    return unquote_to_bytes(path.rpartition("/")[2]).decode("utf-8", "replace")


_REASONS = {
    errno.ENOENT: "missing",
    errno.ENOTDIR: "missing",
    errno.EACCES: "permission_denied",
    errno.EPERM: "permission_denied",
    errno.ELOOP: "broken_link",
    errno.ENAMETOOLONG: "path_too_long",
    errno.EISDIR: "not_regular",
    errno.ENXIO: "not_regular",
}


def os_reason(error: OSError) -> str:
    """The reason code of an operating-system error met while reading a source."""
    return _REASONS.get(error.errno or 0, "io_error")
