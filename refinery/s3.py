"""S3 services through boto3: clients from settings, the credentials of this moment for datago, and what errors mean.

Credentials come from boto3's standard chain or a named profile; nothing here keeps, shows or logs them.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from refinery.config import S3Connection
from refinery.errors import ConfigError, InputError, RefineryError, TransientError

if TYPE_CHECKING:
    from datago import S3

CONCURRENCY = 32
ATTEMPTS = 5
CONNECT_SECONDS = 5
READ_SECONDS = 30

_CREDENTIALS = (
    "put them where boto3 looks: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile (`profile:` in refinery.yaml), "
    "or the role of the machine"
)
_REFUSED = {
    "NoSuchBucket": (
        "no_such_bucket",
        "there is no such bucket: create it, or mend `bucket:` in refinery.yaml",
    ),
    "InvalidBucketName": ("no_such_bucket", "that is no name of a bucket: mend `bucket:` in refinery.yaml"),
    "InvalidAccessKeyId": ("bad_credentials", f"the service does not know the access key: {_CREDENTIALS}"),
    "SignatureDoesNotMatch": (
        "bad_credentials",
        f"the secret key does not fit the access key: {_CREDENTIALS}",
    ),
    "InvalidToken": ("bad_credentials", f"the session token is not valid: {_CREDENTIALS}"),
    "ExpiredToken": (
        "bad_credentials",
        f"the session token has expired: get new credentials and {_CREDENTIALS}",
    ),
    "RequestTimeTooSkewed": ("clock_skew", "this machine's clock is wrong: set it"),
    "AuthorizationHeaderMalformed": (
        "wrong_region",
        "the bucket is in another region: set `region:` in refinery.yaml",
    ),
    "PermanentRedirect": ("wrong_region", "the bucket is in another region: set `region:` in refinery.yaml"),
    "NotImplemented": (
        "s3_unsupported",
        "the service cannot do what a store needs: docs/object-stores.md says what that is",
    ),
}
_BUSY = {
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "RequestTimeout",
    "RequestLimitExceeded",
    "TooManyRequests",
}


def make_client(
    connection: S3Connection,
    *,
    concurrency: int = CONCURRENCY,
    attempts: int = ATTEMPTS,
    read_seconds: float = READ_SECONDS,
) -> Any:
    """A boto3 client of the service, safe for `concurrency` threads. Makes no request.

    What is retryable is tried `attempts` times in all, with boto3's backoff, each waiting `read_seconds` for an answer.
    ConfigError for an unknown profile, and for an endpoint that is no http(s) URL or holds credentials.
    """
    import boto3
    import botocore.session
    from botocore.config import Config

    _check_endpoint(connection.endpoint)
    path_style = connection.endpoint is not None if connection.path_style is None else connection.path_style
    try:
        inner = botocore.session.Session()
        inner.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_time)
        return boto3.session.Session(profile_name=connection.profile, botocore_session=inner).client(
            "s3",
            endpoint_url=connection.endpoint,
            region_name=connection.region or ("us-east-1" if connection.endpoint else None),
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path" if path_style else "virtual"},
                retries={"mode": "standard", "total_max_attempts": attempts},
                connect_timeout=CONNECT_SECONDS,
                read_timeout=read_seconds,
                max_pool_connections=concurrency,
                tcp_keepalive=True,
            ),
        )
    except boto_errors() as error:
        raise explained(error, connection.endpoint or "AWS S3") from None


def _time(value: Any) -> datetime:
    """A time as the service writes it. Most of what a long listing costs is botocore's own parser, which knows more forms."""
    from botocore.utils import parse_timestamp

    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        found = None
    return parse_timestamp(value) if found is None or found.tzinfo is None else found


def for_datago(client: Any, bucket: str, region: str) -> S3:
    """The bucket as datago reaches it: where `client` does, with the credentials it has at this moment (boto3 renews
    those that expire, so ask again for each job). ConfigError when there are none."""
    from datago import S3

    endpoint = None if _is_aws(client) else client.meta.endpoint_url
    try:
        credentials = client._get_credentials()
        if credentials is None:
            raise _no_credentials(f"s3://{bucket}")
        keys = credentials.get_frozen_credentials()
    except boto_errors() as error:
        raise explained(error, f"s3://{bucket}") from None
    style = (client.meta.config.s3 or {}).get("addressing_style", "auto")
    return S3(
        bucket,
        region=region,
        endpoint=endpoint,
        path_style=style == "path" or (style == "auto" and endpoint is not None),
        access_key=keys.access_key,
        secret_key=keys.secret_key,
        session_token=keys.token,
    )


def region_of(client: Any, bucket: str) -> str:
    """The bucket's region: the client's own, or what AWS says when the client is of no particular one."""
    region = client.meta.region_name
    if region and region != "aws-global":
        return str(region)
    try:
        reply = client.head_bucket(Bucket=bucket)
    except boto_errors() as error:
        raise explained(error, f"s3://{bucket}") from None
    return str(reply["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region") or "us-east-1")


def boto_errors() -> tuple[type[Exception], ...]:
    """What a call of boto3 raises."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    return BotoCoreError, ClientError, ResponseParserError


def code_of(error: Exception) -> str:
    """The service's code for an error, such as NoSuchKey; empty when no service answered."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def status_of(error: Exception) -> int:
    """The HTTP status of an error; 0 when no service answered."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def was_retried(error: Exception) -> bool:
    """Whether an earlier attempt of the same request may have reached the service."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return bool(response.get("ResponseMetadata", {}).get("RetryAttempts", 0))


def is_absent(error: Exception) -> bool:
    """Whether an answer says that there is no such object (and not: no such bucket)."""
    return status_of(error) == 404 and code_of(error) in ("NoSuchKey", "NotFound", "404", "")


def is_unsettled(error: Exception) -> bool:
    """Whether the service may have done what it was asked although the request failed so."""
    from botocore import exceptions as boto
    from botocore.parsers import ResponseParserError

    if isinstance(error, boto.ClientError):
        return code_of(error) not in _REFUSED and (
            status_of(error) >= 500 or status_of(error) == 429 or code_of(error) in _BUSY
        )
    lost = boto.HTTPClientError | boto.ConnectionError | ResponseParserError
    return isinstance(error, lost) and not isinstance(error, boto.SSLError)


def explained(error: Exception, url: str) -> RefineryError:
    """What an error of boto3 about the object or bucket `url` means here, and what to do. Names no credential."""
    from botocore import exceptions as boto
    from botocore.parsers import ResponseParserError

    code, status = code_of(error), status_of(error)
    if isinstance(error, boto.ClientError):
        if code in _REFUSED:
            kind, advice = _REFUSED[code]
            return ConfigError(f"{url}: {advice} ({code}).", kind=kind)
        if is_absent(error):
            return InputError(f"There is no object {url}.", kind="no_such_object")
        if status in (401, 403):
            return ConfigError(
                f"{url}: these credentials may not do this ({code}). The policy must allow s3:ListBucket on the bucket "
                "and s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload on its objects.",
                kind="access_denied",
            )
        if is_unsettled(error):
            return TransientError(
                f"{url}: the service is busy or ailing ({code or status}), also after several tries. Do the same again "
                "later.",
                kind="s3_busy",
            )
        return ConfigError(f"{url}: the service refused the request ({status} {code}).", kind="s3_refused")
    if isinstance(
        error, boto.NoCredentialsError | boto.PartialCredentialsError | boto.CredentialRetrievalError
    ):
        return _no_credentials(url)
    if isinstance(error, boto.ProfileNotFound):
        return ConfigError(
            f"{url}: there is no such profile: mend `profile:` in refinery.yaml, or add it to the AWS config.",
            kind="no_credentials",
        )
    if isinstance(error, boto.SSLError):
        return ConfigError(
            f"{url}: the service's certificate is not trusted: set AWS_CA_BUNDLE to a file of those to trust.",
            kind="s3_tls",
        )
    broken = boto.IncompleteReadError | boto.ResponseStreamingError | boto.FlexibleChecksumError
    if isinstance(error, broken | ResponseParserError):
        return TransientError(
            f"{url}: the answer broke off or came damaged, also after several tries. Do the same again later.",
            kind="s3_truncated",
        )
    if isinstance(error, boto.HTTPClientError | boto.ConnectionError):
        return TransientError(
            f"{url}: the service cannot be reached or does not answer ({type(error).__name__}), also after several "
            "tries. See whether it is up, and `endpoint:` in refinery.yaml.",
            kind="s3_unreachable",
        )
    return ConfigError(
        f"{url}: boto3 cannot make this request ({type(error).__name__}): see `endpoint:`, `region:` and `profile:` in "
        "refinery.yaml, and the AWS config.",
        kind="s3_refused",
    )


def _no_credentials(url: str) -> ConfigError:
    return ConfigError(f"{url}: there are no credentials for it: {_CREDENTIALS}.", kind="no_credentials")


def _check_endpoint(endpoint: str | None) -> None:
    if endpoint is None:
        return
    parts = urlsplit(endpoint)
    if "@" in parts.netloc:
        raise ConfigError(f"An endpoint holds no credentials: {_CREDENTIALS}.", kind="bad_config")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"{endpoint!r} is no endpoint: write a URL such as https://s3.example.org.", kind="bad_config"
        )


def _is_aws(client: Any) -> bool:
    host = urlsplit(client.meta.endpoint_url).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))
