"""A small OpenID Connect provider on this machine: one person, who is signed in already. For tests of the viewer's sign-in."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "refinery", "of the client alone"


class _Provider(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, claims: Mapping[str, object]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.issuer = f"http://127.0.0.1:{self.server_port}"
        self.key = RSAKey.generate_key(2048, {"kid": "1", "use": "sig", "alg": "RS256"})
        self.claims = dict(claims)
        self.codes: dict[str, dict[str, str]] = {}

    def token(self, asked: Mapping[str, str]) -> str:
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 600, **self.claims}
        if "nonce" in asked:
            claims["nonce"] = asked["nonce"]
        return jwt.encode({"alg": "RS256", "kid": "1"}, claims, self.key)


class _Handler(BaseHTTPRequestHandler):
    server: _Provider

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        issuer = self.server.issuer
        if parts.path == "/.well-known/openid-configuration":
            names = {"authorization": "authorize", "token": "token"}
            found = {f"{name}_endpoint": f"{issuer}/{path}" for name, path in names.items()}
            self._json({"issuer": issuer, **found, "jwks_uri": f"{issuer}/keys"})
        elif parts.path == "/keys":
            self._json({"keys": [self.server.key.as_dict(private=False)]})
        elif parts.path == "/authorize" and asked["client_id"] == CLIENT:
            code = secrets.token_urlsafe()
            self.server.codes[code] = asked
            self.send_response(302)
            back = urlencode({"code": code, "state": asked["state"]})
            self.send_header("Location", f"{asked['redirect_uri']}?{back}")
            self.end_headers()
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        given = {name: values[0] for name, values in parse_qs(body).items()}
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        known = self.headers.get("Authorization") == f"Basic {basic}" or given.get("client_secret") == SECRET
        asked = self.server.codes.pop(given.get("code", ""), None)
        if not known or asked is None or not _verified(asked, given):
            self.send_error(400)
            return
        self._json({"access_token": "a", "token_type": "Bearer", "id_token": self.server.token(asked)})

    def _json(self, document: object) -> None:
        data = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def _verified(asked: Mapping[str, str], given: Mapping[str, str]) -> bool:
    """Whether the one who asks for the token is the one who began (PKCE, RFC 7636), if they said so."""
    if "code_challenge" not in asked:
        return True
    digest = hashlib.sha256(given.get("code_verifier", "").encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == asked["code_challenge"]


@contextmanager
def provider(claims: Mapping[str, object]) -> Iterator[str]:
    """The provider of one person with these claims; its address."""
    server = _Provider(claims)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.issuer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
