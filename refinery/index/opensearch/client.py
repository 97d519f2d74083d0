"""One way to OpenSearch: connections, credentials, retries, and every error translated.

All requests of the index may be repeated, so a reply that was lost is asked for again.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from refinery.backoff import wait
from refinery.config import OpenSearchSettings
from refinery.errors import ConfigError, InputError, RefineryError, TransientError

_ATTEMPTS = 6
_TURNS = 10
_ANY_STATUS = range(100, 600)
_BUSY = (429, 500, 502, 503, 504)
_TOO_MANY = ("too_many_clauses", "too_many_nested_clauses", "maxClauseCount")


class Refused(ConfigError):
    """A reply that says no, and would again: `status`, and the `type` of the error that OpenSearch names."""

    def __init__(self, message: str, status: int, type: str, reason: str) -> None:
        super().__init__(message, kind="index_refused")
        self.status, self.type, self.reason = status, type, reason

    @property
    def gone(self) -> bool:
        """Whether the index, alias or open search that was named does not exist (any more)."""
        return self.status == 404 or "index_not_found" in self.type + self.reason


class Client:
    """Requests to the server of `settings`. Connects at the first one. Safe to use from several threads."""

    def __init__(self, settings: OpenSearchSettings) -> None:
        self._settings = settings
        url = urlsplit(settings.url)
        if url.username is not None or url.password is not None:
            raise ConfigError(
                "The url of the index has credentials in it: leave them out, set `auth: basic`, and pass them as "
                "OPENSEARCH_USERNAME and OPENSEARCH_PASSWORD (or OPENSEARCH_PASSWORD_FILE).",
                kind="bad_index_settings",
            )
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ConfigError(
                f"The url of the index is {settings.url!r}: it must look like https://host:9200.",
                kind="bad_index_settings",
            )
        self._made: Any = None
        self._lock = threading.Lock()

    def request(
        self, method: str, path: str, body: Any = None, params: Mapping[str, Any] | None = None
    ) -> Any:
        """The reply to one request. `body` is anything that orjson writes (numpy rows too), or bytes as they are.

        TransientError when the server is not reached or stays overloaded; ConfigError(kind="index_denied") when it
        does not let us in; InputError(kind="bad_query") for a query beyond its limits; Refused for any other no.
        """
        data = (
            body
            if body is None or isinstance(body, bytes)
            else orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
        )
        return self._patiently(lambda: self._once(method, path, data, params))

    def searches(self, index: str, bodies: Sequence[Mapping[str, Any]], **params: Any) -> list[Any]:
        """The replies to several searches sent as one request, each with `params`; errors as `request`."""
        head = orjson.dumps({"index": index, "allow_partial_search_results": False, **params})
        lines = (
            part for body in bodies for part in (head, orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY))
        )
        data = b"".join(line + b"\n" for line in lines)

        def once() -> list[Any]:
            replies: list[Any] = self._once("POST", "/_msearch", data, None)["responses"]
            for reply in replies:
                if reply.get("status", 200) >= 300:
                    raise self.refusal(reply["status"], reply)
            return replies

        return list(self._patiently(once))

    def send(self, method: str, path: str, data: bytes, params: Mapping[str, Any]) -> tuple[int, Any]:
        """One attempt: the status and reply. TransientError when no answer came."""
        from opensearchpy.exceptions import ConnectionError, ConnectionTimeout, SSLError

        try:
            status, _, text = self._connection().perform_request(
                method, path, params or None, data, ignore=_ANY_STATUS
            )
        except ConnectionTimeout:
            raise TransientError(
                f"OpenSearch at {self._settings.url} did not answer within {self._settings.timeout:g} s: try again later, "
                "or raise `timeout` of the index.",
                kind="index_timeout",
            ) from None
        except SSLError as error:
            if "CERTIFICATE_VERIFY_FAILED" not in str(error):
                raise self._unreachable(error.error) from None
            raise ConfigError(
                f"The certificate of OpenSearch at {self._settings.url} is not trusted: name the file of the authority "
                "that signed it as `ca` of the index.",
                kind="index_denied",
            ) from None
        except ConnectionError as error:
            raise self._unreachable(error.error) from None
        try:
            return status, orjson.loads(text) if text else {}
        except ValueError:
            return (status if status >= 300 else 502), {"error": str(text)[:200]}

    def _patiently(self, once: Callable[[], Any]) -> Any:
        """Try until `timeout` while the server asks for patience, a few times only when it cannot be reached."""
        give_up = time.monotonic() + self._settings.timeout
        attempt = 0
        while True:
            try:
                return once()
            except TransientError as error:
                tired = attempt >= _ATTEMPTS - 1 and error.kind != "index_busy"
                if tired or time.monotonic() >= give_up:
                    raise
            time.sleep(wait(attempt))
            attempt += 1

    def _once(self, method: str, path: str, data: bytes | None, params: Mapping[str, Any] | None) -> Any:
        status, reply = self.send(method, path, data, params)  # type: ignore[arg-type]
        if status >= 300:
            raise self.refusal(status, reply)
        return reply

    def _unreachable(self, error: Any) -> TransientError:
        return TransientError(
            f"OpenSearch at {self._settings.url} cannot be reached ({type(error).__name__}): is it running, and is `url` "
            "of the index right?",
            kind="index_unreachable",
        )

    def refusal(self, status: int, reply: Any) -> RefineryError:
        """The error that a reply of this status is."""
        error = reply.get("error") if isinstance(reply, dict) else None
        kind, reason = "", str(error)
        if isinstance(error, dict):
            causes = [error, *error.get("root_cause", []), error.get("caused_by") or {}]
            kind = " ".join(dict.fromkeys(str(cause.get("type", "")) for cause in causes)).strip()
            reason = "; ".join(dict.fromkeys(str(cause["reason"]) for cause in causes if cause.get("reason")))
        said = f"{kind}: {reason}"[:1000] if kind else reason[:200]
        if any(word in said for word in _TOO_MANY):
            return InputError(
                f"The query has too many clauses for the index ({said}): ask for less at once.",
                kind="bad_query",
            )
        if status in _BUSY or "cluster_block" in kind:
            return TransientError(
                f"OpenSearch at {self._settings.url} cannot do this now ({status}, {said}): try again later.",
                kind="index_busy",
            )
        if status in (401, 403):
            return ConfigError(
                f"OpenSearch at {self._settings.url} does not let us in ({status}): {_HINTS[self._settings.auth]}",
                kind="index_denied",
            )
        return Refused(
            f"OpenSearch at {self._settings.url} refused a request ({status}, {said}).", status, kind, reason
        )

    def _connection(self) -> Any:
        with self._lock:
            if self._made is None:
                self._made = self._connect()
            return self._made

    def _connect(self) -> Any:
        from opensearchpy import Urllib3HttpConnection

        settings, url = self._settings, urlsplit(self._settings.url)
        if settings.ca is not None and not settings.ca.is_file():
            raise ConfigError(
                f"`ca` of the index is {settings.ca}, which is no file.", kind="bad_index_settings"
            )
        log = logging.getLogger("opensearch")
        if log.level == logging.NOTSET:
            log.setLevel(logging.ERROR)  # failures are raised
        return Urllib3HttpConnection(
            host=url.hostname,
            port=url.port or (443 if url.scheme == "https" else 80),
            use_ssl=url.scheme == "https",
            url_prefix=url.path,
            ca_certs=None if settings.ca is None else str(settings.ca),
            timeout=settings.timeout,
            pool_maxsize=max(10, settings.bulk_in_flight),
            http_auth=_credentials(settings),
        )


def turns() -> Iterator[int]:
    """Numbers of the attempts at what fails while an index is being replaced, with a wait before each but the first.

    For some hundred milliseconds after a swap a busy node still sends requests to the index that is gone.
    """
    for attempt in range(_TURNS):
        if attempt:
            time.sleep(wait(attempt - 1))
        yield attempt


_HINTS = {
    "none": "it asks for credentials; set `auth: basic` or `auth: sigv4` of the index.",
    "basic": "check OPENSEARCH_USERNAME and OPENSEARCH_PASSWORD, and the permissions of that user on the indexes.",
    "sigv4": "check the AWS credentials, the `region` and `service` of the index, and the access policy of the domain.",
}


def _credentials(settings: OpenSearchSettings) -> Any:
    if settings.auth == "basic":
        file = os.environ.get("OPENSEARCH_PASSWORD_FILE")
        try:
            password = os.environ.get("OPENSEARCH_PASSWORD") or (
                Path(file).read_text(encoding="utf-8").strip("\r\n") if file else None
            )
        except (OSError, UnicodeDecodeError):
            raise _denied(f"OPENSEARCH_PASSWORD_FILE is {file}, which cannot be read.") from None
        username = os.environ.get("OPENSEARCH_USERNAME")
        if not username:
            raise _denied("`auth: basic` of the index needs OPENSEARCH_USERNAME in the environment.")
        if not password:
            raise _denied(
                "`auth: basic` of the index needs OPENSEARCH_PASSWORD or OPENSEARCH_PASSWORD_FILE in the environment."
            )
        return (username, password)
    if settings.auth == "sigv4":
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session
        from opensearchpy import Urllib3AWSV4SignerAuth

        try:
            session = Session(profile=settings.profile)
            credentials = session.get_credentials()
            region = settings.region or session.get_config_variable("region")
        except BotoCoreError as error:
            raise _denied(f"No AWS credentials for the index: {error}") from None
        if credentials is None or not region:
            missing = "a region" if credentials else "credentials"
            raise _denied(f"`auth: sigv4` of the index needs {missing}: none in the standard chain of AWS.")
        return Urllib3AWSV4SignerAuth(credentials, region, settings.service)
    return None


def _denied(message: str) -> ConfigError:
    return ConfigError(message, kind="index_denied")
