"""Who may look into the viewer: what asks people who they are, and the one password that lets them in.

A password is never part of a command line: it stands in a file, or in an environment variable. Tries are compared in constant
time and, after a few wrong ones from an address, answered only after a while: nobody waits in the server meanwhile.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib.util
import ipaddress
import secrets
import threading
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from refinery.errors import ConfigError, InputError

PASSWORD_VARIABLE = "REFINERY_VIEWER_PASSWORD"
_SHORTEST = 8
_FREE_TRIES = 3
_LONGEST_WAIT = 60.0
_ADDRESSES = 10_000
_TICKETS = 10_000
VALID = 12 * 3600.0
"""Seconds that a ticket is good for."""
_NEEDED = (("auth", "redirect_uri"), ("auth", "cookie_secret"), ("viewer", "people"))


def check_sign_in(
    host: str, password_file: Path | None, oidc: Path | None, environment: Mapping[str, str]
) -> list[str]:
    """The arguments that tell the viewer how people sign in: a password, OpenID Connect, or (none) not at all.

    ConfigError for both at once, for what cannot be read or is incomplete, and for a host that others reach without either.
    """
    if oidc is not None:
        if password_file is not None:
            raise ConfigError("Ask for a password or for OpenID Connect, not both.", kind="bad_sign_in")
        check_oidc(oidc)
        return ["--oidc"]
    if read_password(password_file, environment) is not None:
        return ["--password-file", str(password_file.absolute())] if password_file else []
    if not _is_own(host):
        raise ConfigError(
            f"At {host} everybody who reaches this machine would see and change the project: give --password-file or --oidc.",
            kind="no_sign_in",
        )
    return []


def read_password(file: Path | None, environment: Mapping[str, str]) -> str | None:
    """The password in a file (without its last line end), else in REFINERY_VIEWER_PASSWORD; None when there is neither.
    ConfigError when the file cannot be read, and for fewer than 8 characters."""
    if file is None:
        found, where = environment.get(PASSWORD_VARIABLE, ""), PASSWORD_VARIABLE
        if not found:
            return None
    else:
        where = str(file)
        try:
            found = file.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"The password in {file} cannot be read: {type(error).__name__}.", kind="no_password"
            ) from None
    if len(found) < _SHORTEST:
        raise ConfigError(
            f"The password in {where} has fewer than {_SHORTEST} characters.", kind="bad_password"
        )
    return found


def check_oidc(file: Path) -> None:
    """ConfigError when a secrets.toml lacks what Streamlit's login needs in [auth], or does not say in [viewer] which
    `people` may enter; and when Authlib is missing."""
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file} cannot be read as TOML: {type(error).__name__}.", kind="no_oidc") from None
    missing = [f"{table}.{name}" for table, name in _NEEDED if not _member(document, table, name)]
    if missing:
        raise ConfigError(
            f"{file} says nothing of {' and '.join(missing)}: docs/viewer.md shows what stands there.",
            kind="bad_oidc",
        )
    people = document["viewer"]["people"]
    if not isinstance(people, list) or not all(isinstance(one, str) for one in people):
        raise ConfigError(
            f'{file}: viewer.people must be a list, as in ["ana@example.org", "@example.com"].',
            kind="bad_oidc",
        )
    if importlib.util.find_spec("authlib") is None:
        raise ConfigError(
            "OpenID Connect needs Authlib: install image-refinery[viewer].", kind="missing_package"
        )


def person(claims: Mapping[str, object]) -> str:
    """The name of who signed in, by the claims of their provider: the email address, or the subject where there is none
    or it is not verified (anybody can claim it then)."""
    email = str(claims.get("email") or "").strip()
    if email and claims.get("email_verified", True) is True:
        return email
    return str(claims.get("sub") or "").strip()


def may_enter(name: str, people: Sequence[str]) -> bool:
    """Whether `people` has the name: itself, its domain (`@example.org`), or everybody whom the provider knows (`*`)."""
    _, at, domain = name.lower().rpartition("@")
    known = {one.lower() for one in people}
    return bool(name) and ("*" in known or name.lower() in known or (bool(at) and f"@{domain}" in known))


def _member(document: Mapping[str, object], table: str, name: str) -> object:
    found = document.get(table)
    return found.get(name) if isinstance(found, dict) else None


@dataclass(slots=True)
class _Tries:
    wrong: int
    until: float


class Gate:
    """Lets in who knows the password, and remembers them for 12 hours by a ticket that only their browser has. Safe among
    threads; `now` gives seconds."""

    def __init__(self, password: str, now: Callable[[], float] = time.monotonic) -> None:
        self._password = _hashed(password)
        self._now = now
        self._lock = threading.Lock()
        self._tries: dict[str, _Tries] = {}
        self._tickets: dict[bytes, tuple[str, float]] = {}

    def enter(self, password: str, name: str, address: str) -> str:
        """A ticket for a person, `name`, whose browser is at `address`.

        InputError without a name, for a wrong password, and while too many tries from there were wrong, right or not.
        """
        if not name.strip():
            raise InputError("Say who you are: every act carries a name.", kind="no_actor")
        place = _place(address)
        with self._lock:
            now = self._now()
            tries = self._tries.setdefault(place, _Tries(0, 0.0))
            if now < tries.until:
                left = max(1, round(tries.until - now))
                raise InputError(f"Too many wrong tries: try again in {left} s.", kind="too_many_tries")
            if not hmac.compare_digest(self._password, _hashed(password)):
                tries.wrong += 1
                if tries.wrong >= _FREE_TRIES:
                    tries.until = now + min(_LONGEST_WAIT, 2.0 ** min(tries.wrong - _FREE_TRIES, 10))
                while len(self._tries) > _ADDRESSES:
                    del self._tries[next(iter(self._tries))]
                raise InputError("That is not the password.", kind="wrong_password")
            del self._tries[place]
            ticket = secrets.token_urlsafe(32)
            self._tickets[_hashed(ticket)] = (name.strip(), now + VALID)
            while len(self._tickets) > _TICKETS:
                del self._tickets[next(iter(self._tickets))]
            return ticket

    def who(self, ticket: str) -> str | None:
        """Who has this ticket; None when nobody (any more)."""
        with self._lock:
            name, until = self._tickets.get(_hashed(ticket), ("", 0.0))
            return name if self._now() < until else None

    def leave(self, ticket: str) -> None:
        """The ticket is worth nothing from now on."""
        with self._lock:
            self._tickets.pop(_hashed(ticket), None)


def _hashed(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _place(address: str) -> str:
    """What counts as one address: for IPv6 the network of 64 bits, which one person has whole."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else str(found)


def _is_own(host: str) -> bool:
    """Whether only this machine reaches the host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
