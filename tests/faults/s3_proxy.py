"""A proxy before a real S3 server that misbehaves as told: scripted request by request, or at random by seed."""

from __future__ import annotations

import http.client
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest

from refinery.config import S3StoreSettings
from refinery.errors import TransientError
from refinery.s3 import make_client
from refinery.store.s3 import S3Store
from tests.servers import S3Server

T = TypeVar("T")
PART = 5 << 20

ERROR = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>injected</Message></Error>'
STATUS = {"SlowDown": 503, "InternalError": 500, "ServiceUnavailable": 503}
KINDS = ("busy", "lost", "cut", "reset")
"""What happens to a request:

pass   nothing
busy   it is answered with `code` and never forwarded
lost   it is forwarded, and the connection is closed without the answer
cut    it is forwarded, and the answer ends in the middle of its body
reset  the connection is closed, and it is never forwarded
hang   it is forwarded, and the answer is held back until the client gives up
late   like reset, but it is forwarded after all, when `S3Proxy.deliver` is called
"""


@dataclass(frozen=True)
class Fault:
    """What befalls the next `times` requests of `method` whose path and query contain `text`. `meanwhile` is called after
    the request was forwarded, or would have been, and before the client hears of it."""

    kind: str
    method: str = ""
    text: str = ""
    times: int = 1
    code: str = "InternalError"
    meanwhile: Callable[[], object] | None = None


@dataclass
class _Request:
    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes


@dataclass
class S3Proxy:
    """Where clients find it is `url`. `requests` counts those that came, by method; `struck` the faults, by kind."""

    url: str
    upstream: tuple[str, int]
    requests: Counter[str] = field(default_factory=Counter)
    struck: Counter[str] = field(default_factory=Counter)
    _script: list[Fault] = field(default_factory=list)
    _late: list[_Request] = field(default_factory=list)
    _chance: float = 0.0
    _seed: int = 0
    _seen: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def script(self, *faults: Fault) -> None:
        """Let these befall requests, in this order where several fit one."""
        with self._lock:
            self._script = list(faults)

    def storm(self, seed: int, chance: float) -> None:
        """Let a random fault befall a request with this chance: the same for the n-th request of the same name."""
        with self._lock:
            self._seed, self._chance = seed, chance
            self._seen.clear()

    def calm(self) -> None:
        """No more faults; which of the scripted ones never came is an error."""
        with self._lock:
            left, self._script, self._chance = self._script, [], 0.0
        assert not left, left

    def deliver(self) -> list[int]:
        """Forward what came late, now; the statuses it was answered with."""
        with self._lock:
            late, self._late = self._late, []
        return [self._forward(request)[0] for request in late]

    def _next(self, request: _Request) -> Fault:
        name = f"{request.method} {request.target.partition('?')[0]}"
        with self._lock:
            self.requests[request.method] += 1
            self._seen[name] += 1
            for at, fault in enumerate(self._script):
                if request.method == (fault.method or request.method) and fault.text in request.target:
                    rest = [replace(fault, times=fault.times - 1)] if fault.times > 1 else []
                    self._script[at : at + 1] = rest
                    self.struck[fault.kind] += 1
                    return fault
            dice = random.Random(f"{self._seed} {name} {self._seen[name]}")
            if dice.random() >= self._chance:
                return Fault("pass")
            kind = dice.choice(KINDS)
            self.struck[kind] += 1
            return Fault(kind)

    def _forward(self, request: _Request) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(*self.upstream, timeout=60)
        try:
            connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers:
                connection.putheader(name, value)
            connection.endheaders(request.body or None)
            reply = connection.getresponse()
            return reply.status, reply.getheaders(), reply.read()
        finally:
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: S3Proxy

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        kept = [(k, v) for k, v in self.headers.items() if k.lower() not in ("expect", "connection")]
        request = _Request(self.command, self.path, kept, self.rfile.read(length))
        fault = self.proxy._next(request)
        reply = None if fault.kind in ("busy", "reset", "late") else self.proxy._forward(request)
        if fault.kind == "late":
            with self.proxy._lock:
                self.proxy._late.append(request)
        if fault.meanwhile is not None:
            fault.meanwhile()
        if fault.kind == "busy":
            self._answer(
                STATUS[fault.code],
                [("Content-Type", "application/xml")],
                ERROR.format(code=fault.code).encode(),
            )
        elif fault.kind == "hang":
            self.connection.settimeout(60)
            with suppress(OSError):
                self.rfile.read(1)  # returns when the client has closed its end
            self.close_connection = True
        elif reply is None or fault.kind == "lost":
            self.close_connection = True
        else:
            self._answer(*reply, cut=fault.kind == "cut")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, cut: bool = False) -> None:
        told = [
            (k, v)
            for k, v in headers
            if k.lower() not in ("transfer-encoding", "connection", "content-length")
        ]
        announced = next((v for k, v in headers if k.lower() == "content-length"), "")
        size = announced if self.command == "HEAD" and announced else str(len(body))
        self.send_response_only(status)
        for name, value in [*told, ("Content-Length", size)]:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None: ...


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave are part of the game."""


@contextmanager
def s3_proxy(endpoint: str) -> Iterator[S3Proxy]:
    """A proxy before the server at `endpoint`, without faults at first."""
    upstream = urlsplit(endpoint)
    handler = type("Handler", (_Handler,), {})
    server = _Server(("127.0.0.1", 0), handler)
    proxy = S3Proxy(
        f"http://127.0.0.1:{server.server_address[1]}", (str(upstream.hostname), upstream.port or 80)
    )
    handler.proxy = proxy  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def through(
    proxy: S3Proxy, settings: S3StoreSettings, attempts: int = 3, read_seconds: float = 10
) -> S3Store:
    """The same store through the proxy."""
    there = settings.model_copy(update={"endpoint": proxy.url})
    client = make_client(there, attempts=attempts, read_seconds=read_seconds)
    return S3Store(there, client, multipart_from=PART, part_bytes=PART, page=3)


def again(call: Callable[[], T], most: int = 30) -> T:
    """What `call` returns, doing the same again after each retryable error and no other."""
    for _ in range(most):
        try:
            return call()
        except TransientError:
            continue
    return call()


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[S3Proxy]:
    with s3_proxy(s3_server.endpoint) as running:
        yield running


@pytest.fixture
def direct(s3_settings: S3StoreSettings, s3_server: S3Server) -> S3Store:
    """The store as somebody else sees it, without faults."""
    return S3Store(s3_settings, s3_server.client())


@pytest.fixture
def store(proxy: S3Proxy, s3_settings: S3StoreSettings) -> S3Store:
    return through(proxy, s3_settings)
