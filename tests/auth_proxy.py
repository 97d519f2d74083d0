"""A TLS front for OpenSearch that asks for credentials, as a secured cluster does: basic authentication or AWS SigV4."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

Allowed = Callable[["_Handler", bytes], bool]


def certificate(folder: Path) -> tuple[Path, Path]:
    """A fresh self-signed certificate of 127.0.0.1, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test search")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(made.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


def basic(username: str, password: str) -> Allowed:
    """Whoever knows the password."""
    wanted = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
    return lambda handler, _body: hmac.compare_digest(handler.headers.get("Authorization", ""), wanted)


def sigv4(access_key: str, secret_key: str, region: str, service: str) -> Allowed:
    """Whoever signs with the secret key: the request is signed again here, as the AWS documentation says
    ("Signature Version 4 signing process"), and the signatures compared."""

    def allowed(handler: _Handler, body: bytes) -> bool:
        header = handler.headers.get("Authorization", "")
        if not header.startswith("AWS4-HMAC-SHA256 "):
            return False
        parts = dict(p.strip().split("=", 1) for p in header.removeprefix("AWS4-HMAC-SHA256 ").split(","))
        day = parts["Credential"].split("/")[1]
        scope = f"{day}/{region}/{service}/aws4_request"
        if parts["Credential"] != f"{access_key}/{scope}":
            return False
        names = parts["SignedHeaders"].split(";")
        digest = hashlib.sha256(body).hexdigest()
        if "host" not in names or handler.headers.get("X-Amz-Content-SHA256", digest) != digest:
            return False
        url = urlsplit(handler.path)
        query = sorted(tuple(pair.partition("=")[::2]) for pair in url.query.split("&") if pair)
        canonical = "\n".join(
            [
                handler.command,
                quote(url.path, safe="/-_.~"),
                "&".join(f"{k}={quote(unquote(v), safe='-_.~')}" for k, v in query),
                *(f"{name}:{' '.join(handler.headers.get(name, '').split())}" for name in names),
                "",
                ";".join(names),
                digest,
            ]
        )
        stamp = handler.headers.get("X-Amz-Date", "")
        to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = f"AWS4{secret_key}".encode()
        for part in (day, region, service, "aws4_request", to_sign):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return hmac.compare_digest(key.hex(), parts["Signature"])

    return allowed


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: AuthProxy

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self.server.allowed(self, body):
            self.server.refused += 1
            self._answer(401, {"Content-Type": "application/json"}, b'{"error":"who are you?","status":401}')
            return
        self.server.passed += 1
        target = http.client.HTTPConnection(self.server.target, timeout=60)
        kept = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "authorization")}
        target.request(self.command, self.path, body, kept)
        reply = target.getresponse()
        data = reply.read()
        target.close()
        headers = {
            k: v
            for k, v in reply.getheaders()
            if k.lower() in ("content-type", "content-encoding", "warning")
        }
        self._answer(reply.status, headers, data)

    def _answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _serve

    def log_message(self, format: str, *args: object) -> None: ...


class AuthProxy(ThreadingHTTPServer):
    """Answers on a free port of 127.0.0.1 over TLS, and passes on what `allowed` lets through."""

    daemon_threads = True

    def __init__(self, target: str, allowed: Allowed, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(target).netloc
        self.allowed = allowed
        self.passed = self.refused = 0
        self.certificate, key = certificate(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, key)
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that does not trust the certificate hangs up: that is its right."""

    def __enter__(self) -> AuthProxy:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
