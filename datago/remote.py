"""Objects of an S3 service, as datago reads and writes them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class S3:
    """A bucket of an S3 service and the credentials of this moment, which are never shown."""

    bucket: str
    region: str = "us-east-1"
    endpoint: str | None = None
    path_style: bool = False
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class S3Object:
    """One object of a bucket, by its whole key."""

    s3: S3
    key: str
