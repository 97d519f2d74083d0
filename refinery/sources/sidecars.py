"""What sidecars and manifest rows say: JSON values made safe, then sorted into registered attributes and extras."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from refinery.errors import InputError
from refinery.fields import Fields, coerce
from refinery.sources.entries import utf8

SIDECAR_CAP = 256 << 10
"""Bytes up to which a `.txt` or `.json` is read as a sidecar; a larger one is kept as a payload."""
_DEPTH = 64
CAPTION = "caption"


@dataclass(slots=True)
class Metadata:
    """What is known about one origin: registered attributes as `coerce` gives them, and extras kept aside.

    `aside` tells why each extra is one: "unknown" (no such attribute), "bad_value" (does not fit its type), "repeated"
    (an earlier word on the same field stands: a manifest's row, then `.txt`, then `.json`), "builtin".
    """

    attributes: dict[str, Any] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)
    aside: dict[str, str] = field(default_factory=dict)

    def add(self, fields: Fields, values: Mapping[str, Any]) -> None:
        """Sort `values` (clean JSON) into attributes and extras; empty ones are nothing."""
        for name, value in values.items():
            if value is None or value == "":
                continue
            why = self._place(fields, name, value)
            if why and name not in self.extras:
                self.extras[name] = value
                self.aside[name] = why

    def _place(self, fields: Fields, name: str, value: Any) -> str:
        if name not in fields:
            return "unknown"
        if fields[name].builtin:
            return "builtin"
        try:
            fitted = coerce(fields[name], value)
        except InputError:
            return "bad_value"
        if name in self.attributes:
            return "" if self.attributes[name] == fitted else "repeated"
        if fitted is not None:
            self.attributes[name] = fitted
        return ""


def parse_sidecar(extension: str, data: bytes) -> dict[str, Any] | None:
    """What a sidecar says, as clean JSON values by name; None when it is a `.json` that holds no (sane) object.

    A `.txt` is a caption: UTF-8, or UTF-16 with a byte order mark; bytes that are neither become U+FFFD.
    """
    if extension == "txt":
        coding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        return {CAPTION: data.decode(coding, "replace").strip()}
    try:
        value = clean_json(json.loads(data))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def clean_json(value: Any, depth: int = _DEPTH) -> Any:
    """`value` as JSON that any reader takes: no lone surrogates, non-finite numbers as their name, times in ISO 8601.

    Raises ValueError for what is nested deeper than 64 levels, TypeError for what JSON has no word for.
    """
    if depth == 0:
        raise ValueError("nested deeper than 64 levels")
    match value:
        case None | bool() | int():
            return value
        case str():
            return utf8(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case dict():
            return {utf8(str(k)): clean_json(v, depth - 1) for k, v in value.items()}
        case list() | tuple():
            return [clean_json(v, depth - 1) for v in value]
        case datetime() | date() | time():
            return value.isoformat()
        case Decimal() | timedelta():
            return str(value)
        case _:
            raise TypeError(f"{type(value).__name__} has no JSON form")
