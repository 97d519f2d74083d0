"""Objects of an S3 service, as datago reads and writes them."""

from __future__ import annotations

from dataclasses import dataclass, field

from datago.errors import ConfigError


@dataclass(frozen=True, slots=True)
class S3:
    """A bucket of an S3 service and the credentials of this moment, which are never shown.

    `endpoint` None is AWS itself. Without keys requests are not signed: a public bucket. An attempt that gets no byte
    for `timeout` seconds is given up; of `attempts` the later ones follow with growing pauses, where trying again may help.

    Raises `ConfigError` for values that can not be meant.
    """

    bucket: str
    region: str = "us-east-1"
    endpoint: str | None = None
    path_style: bool = False
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    timeout: int = 30
    attempts: int = 5

    def __post_init__(self) -> None:
        if not self.bucket or "/" in self.bucket:
            raise ConfigError(f"S3: {self.bucket!r} is no name of a bucket")
        if self.endpoint is not None:
            scheme, found, host = self.endpoint.partition("://")
            if scheme not in ("http", "https") or not found or not host:
                raise ConfigError("S3: the endpoint must be a URL that begins with http:// or https://")
            if "@" in host:
                raise ConfigError("S3: the endpoint must hold no credentials: give them as keys")
        if (self.access_key is None) != (self.secret_key is None):
            raise ConfigError("S3: access_key and secret_key come together or not at all")
        for name, value, most in (("timeout", self.timeout, 3600), ("attempts", self.attempts, 100)):
            if not 1 <= value <= most:
                raise ConfigError(f"S3: {name} must be between 1 and {most}, not {value}")


@dataclass(frozen=True, slots=True)
class S3Object:
    """One object of a bucket, by its whole key."""

    s3: S3
    key: str
