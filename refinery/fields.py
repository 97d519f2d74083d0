"""The fields a sample's document has: built-in ones, and the attributes people register.

A *document* is one sample seen flat: its facts, resolved attributes, flags, verdict and memberships, one column each.
Filters, policies, search and the index all speak of these fields and of no others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Any

import pyarrow as pa

from refinery.errors import InputError, did_you_mean

MAX_ATTRIBUTES = 500
MAX_TEXT_BYTES = 32_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")


class FieldType(StrEnum):
    """The types a field can have. `text` is tokenized for full-text search; `json` is stored and shown, never searched."""

    STRING = "string"
    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATE = "date"
    STRING_LIST = "string_list"
    JSON = "json"

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type of a document column of this type (dates are UTC microseconds; JSON is its canonical text)."""
        return _ARROW[self]


_ARROW: dict[FieldType, pa.DataType] = {
    FieldType.STRING: pa.string(),
    FieldType.TEXT: pa.string(),
    FieldType.INTEGER: pa.int64(),
    FieldType.NUMBER: pa.float64(),
    FieldType.BOOLEAN: pa.bool_(),
    FieldType.DATE: pa.timestamp("us", tz="UTC"),
    FieldType.STRING_LIST: pa.list_(pa.string()),
    FieldType.JSON: pa.string(),
}


TEXTUAL = frozenset([FieldType.STRING, FieldType.TEXT, FieldType.STRING_LIST])
"""The types whose values are texts that can be searched."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the document. `builtin` fields are computed by the refinery; the others are registered attributes."""

    name: str
    type: FieldType
    description: str = ""
    builtin: bool = False


def _builtin(rows: Iterable[tuple[str, FieldType, str]]) -> tuple[Field, ...]:
    return tuple(Field(name, kind, text, builtin=True) for name, kind, text in rows)


_T = FieldType
BUILTIN_FIELDS: tuple[Field, ...] = _builtin(
    [
        ("sample_id", _T.STRING, "BLAKE3 digest of the sample's bytes."),
        ("bytes", _T.INTEGER, "Size of the sample's bytes."),
        ("source", _T.STRING_LIST, "Names of the sources it was seen in."),
        ("batch", _T.STRING_LIST, "Batches it arrived in."),
        ("uri", _T.STRING_LIST, "Where its bytes were seen."),
        ("ingested_at", _T.DATE, "When it was first seen."),
        ("payloads", _T.STRING_LIST, "Names of the payloads attached to it; ask with has_payload('mask')."),
        ("failure", _T.STRING, "Reason code of the failed inspection, when it failed."),
        ("format", _T.STRING, "Image format: jpeg, png, webp…"),
        ("width", _T.INTEGER, "Width in pixels as displayed (EXIF orientation applied)."),
        ("height", _T.INTEGER, "Height in pixels as displayed."),
        ("min_side", _T.INTEGER, "The shorter side in pixels."),
        ("aspect", _T.NUMBER, "Width divided by height."),
        ("mode", _T.STRING, "Pixel mode of the source: RGB, L, CMYK…"),
        ("orientation", _T.INTEGER, "EXIF orientation, 1 to 8."),
        ("has_alpha", _T.BOOLEAN, "Whether the source has an alpha channel."),
        ("pixel_digest", _T.STRING, "BLAKE3 digest of the decoded, oriented pixels."),
        ("phash", _T.STRING, "64-bit perceptual hash, 16 hex digits."),
        ("brightness", _T.NUMBER, "Mean luma, 0 to 1."),
        ("contrast", _T.NUMBER, "Standard deviation of luma, 0 to 1."),
        ("entropy", _T.NUMBER, "Entropy of the luma histogram in bits, 0 to 8."),
        (
            "sharpness",
            _T.NUMBER,
            "Variance of the Laplacian of luma (0 to 255) at a fixed scale; blurred pictures are under 10.",
        ),
        ("embedder", _T.STRING, "Name of the model that embedded it in the default space."),
        (
            "cluster",
            _T.STRING,
            "Near-duplicate cluster (its smallest sample id), when it has near-duplicates.",
        ),
        ("near_duplicate", _T.BOOLEAN, "Whether another member of its cluster is kept instead of it."),
        ("flags", _T.STRING_LIST, "Kinds of the flags that stand on it; ask with has_flag('reject')."),
        ("tags", _T.STRING_LIST, "Tags that stand on it; ask with has_tag('portrait')."),
        ("verdict", _T.STRING, "gold, held or pending."),
        ("reasons", _T.STRING_LIST, "Reason codes of a held sample."),
        (
            "datasets",
            _T.STRING_LIST,
            "Snapshots it is in; ask with in_dataset('evals') or in_dataset('evals@3').",
        ),
    ]
)


class Fields(Mapping[str, Field]):
    """The fields known to a project, by name. Immutable."""

    def __init__(self, attributes: Iterable[Field] = ()) -> None:
        self._fields = {field.name: field for field in BUILTIN_FIELDS}
        for field in attributes:
            self._fields[field.name] = check_attribute(field)

    def __getitem__(self, name: str) -> Field:
        """The field called `name`; InputError(kind="unknown_field") with a suggestion when there is none."""
        try:
            return self._fields[name]
        except KeyError:
            raise InputError(
                f"There is no field {name!r}.{did_you_mean(name, self._fields)} `refinery fields` lists them all.",
                kind="unknown_field",
            ) from None

    def __contains__(self, name: object) -> bool:
        return name in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    @cached_property
    def types(self) -> tuple[tuple[str, str], ...]:
        """The name and type of every field: equal for fields that filters cannot tell apart."""
        return tuple((f.name, f.type.value) for f in self._fields.values())

    @property
    def attributes(self) -> tuple[Field, ...]:
        """The registered attributes, in order of name."""
        return tuple(sorted((f for f in self._fields.values() if not f.builtin), key=lambda f: f.name))

    def check_room(self) -> None:
        """InputError(kind="too_many_attributes") when one more attribute cannot be registered."""
        if len(self.attributes) >= MAX_ATTRIBUTES:
            raise InputError(
                f"{MAX_ATTRIBUTES} attributes are registered, which is as many as a project can have: undo the "
                "registration of one, or keep several values in one attribute of type json (shown, not searched).",
                kind="too_many_attributes",
            )

    def schema(self) -> pa.Schema:
        """The Arrow schema of a table of documents: built-in fields, then attributes by name."""
        ordered = [*BUILTIN_FIELDS, *self.attributes]
        return pa.schema([pa.field(f.name, f.type.arrow) for f in ordered])


def check_attribute(field: Field) -> Field:
    """`field` itself when it may be registered as an attribute; InputError otherwise."""
    if not _NAME.match(field.name):
        raise InputError(
            f"{field.name!r} cannot be an attribute's name: lower-case letters, digits and _ only, a letter first, at most 64.",
            kind="bad_attribute_name",
        )
    if any(field.name == b.name for b in BUILTIN_FIELDS):
        raise InputError(
            f"{field.name!r} is a built-in field: choose another name for the attribute.",
            kind="builtin_field",
        )
    return field


def coerce(field: Field, value: Any) -> Any:
    """`value` as `field` stores it: a JSON value (dates as ISO 8601 text in UTC). None stays None.

    Raises InputError(kind="bad_value") when the value does not fit the field's type, or holds a text of more than
    MAX_TEXT_BYTES; nothing is guessed from text but numbers, booleans and dates written the usual way (manifests in CSV
    carry everything as text).
    """
    if value is None or value == "":
        return None
    try:
        fitted = _COERCE[field.type](value)
        size = longest_text(fitted) if field.type in TEXTUAL else 0
    except (TypeError, ValueError, OverflowError, AttributeError):
        raise InputError(
            f"Field {field.name!r} is a {field.type.value}: {value!r:.200} does not fit it.", kind="bad_value"
        ) from None
    if size > MAX_TEXT_BYTES:
        raise InputError(
            f"Field {field.name!r} is a {field.type.value}: it holds texts of at most {MAX_TEXT_BYTES:,} bytes, found "
            f"{size:,}. Keep longer ones in an attribute of type json (shown, not searched) or as a payload.",
            kind="bad_value",
        )
    return fitted


def longest_text(value: str | list[str]) -> int:
    """The size in bytes of a text, or of the longest in a list. UnicodeEncodeError (a ValueError) for no Unicode text."""
    return max((len(text.encode()) for text in ([value] if isinstance(value, str) else value)), default=0)


def _text(value: Any) -> str:
    if not isinstance(value, str | int | float | bool):
        raise TypeError
    return str(value)


def _integer(value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise TypeError
    number = int(value)
    if not -(2**63) <= number < 2**63:
        raise OverflowError
    return number


def _number(value: Any) -> float:
    number = float(value)
    if isinstance(value, bool) or number != number or number in (float("inf"), float("-inf")):
        raise ValueError
    return number + 0.0


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false", "yes", "no", "1", "0"):
        return value.strip().lower() in ("true", "yes", "1")
    if value in (0, 1):
        return bool(value)
    raise ValueError


def _date(value: Any) -> str:
    return to_utc(value).isoformat()


def _string_list(value: Any) -> list[str]:
    items = [value] if isinstance(value, str) else list(value)
    return [_text(item) for item in items]


def _json(value: Any) -> Any:
    return value


_COERCE = {
    FieldType.STRING: _text,
    FieldType.TEXT: _text,
    FieldType.INTEGER: _integer,
    FieldType.NUMBER: _number,
    FieldType.BOOLEAN: _boolean,
    FieldType.DATE: _date,
    FieldType.STRING_LIST: _string_list,
    FieldType.JSON: _json,
}


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970 UTC of a moment that has a zone."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """The moment in UTC so many microseconds after 1970."""
    return _EPOCH + timedelta(microseconds=micros)


def to_utc(value: str | date | datetime) -> datetime:
    """A moment in UTC from ISO 8601 text, a date (its midnight) or a datetime (without zone: UTC)."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    elif not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
