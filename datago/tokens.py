"""Resume tokens: where all ranks of a stream are, in a few values that JSON holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datago.errors import ConfigError

VERSION = "datago.token/1"


def make_token(order: Mapping[str, Any], position: int, per_epoch: int) -> dict[str, Any]:
    """The token that says: `position` batches of the endless sequence were consumed. `order` is all that the order follows
    from."""
    return {"format": VERSION, **order, "epoch": position // per_epoch, "position": position}


def read_token(token: Mapping[str, Any], order: Mapping[str, Any]) -> int:
    """The position that a token names. `ConfigError`, which says what differs, when it is of another order."""
    if not isinstance(token, Mapping) or "format" not in token:
        raise ConfigError(f"resume: {type(token).__name__} is no token; pass what `token()` gave, a dict")
    if token["format"] != VERSION:
        raise ConfigError(f"resume: the token has format {token['format']!r}; this version reads {VERSION}")
    differing = [name for name, value in order.items() if token.get(name) != value]
    if differing:
        told = ", ".join(
            "source (other samples, or shards, or sizes)"
            if name == "source"
            else f"{name} ({token.get(name)!r} there, {order[name]!r} here)"
            for name in differing
        )
        raise ConfigError(f"resume: the token is of another order; these differ: {told}")
    position = token.get("position")
    if not isinstance(position, int) or isinstance(position, bool) or position < 0:
        raise ConfigError(f"resume: the token's position is {position!r}, not a number of batches")
    return position
