"""How an export's shards are made."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from blake3 import blake3

from datago.errors import ConfigError

FORMAT_VERSION = 1
"""Version of the recipe's own fields and of how samples are planned into shards."""
ENCODER_VERSION = 3
"""Raised whenever the same samples and recipe would give other shard bytes than before."""

EXTENSIONS = {"webdataset": "tar", "mds": "mds", "parquet": "parquet"}
"""Of shards that are not compressed, by format."""
COMPRESSIONS = ("zstd", "gz")
"""Of MDS shards; also the last part of their names."""

_CHOICES: dict[str, tuple[str, ...]] = {
    "format": ("webdataset", "mds", "parquet"),
    "size": ("bucket", "fixed", "bytes"),
    "encode": ("jpeg", "png", "webp", "raw"),
    "subsampling": ("4:4:4", "4:2:0"),
}
_WORD = re.compile(r"[A-Za-z0-9_-]+")
_RANGES: dict[str, tuple[int, int]] = {
    "side": (8, 8192),
    "patch": (1, 1024),
    "quality": (1, 100),
    "samples_per_shard": (1, 1_000_000),
    "seed": (0, 2**63 - 1),
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an export's shards are made. The same samples and the same recipe give the same bytes.

    - `format`: `webdataset` (tar), `mds` (mosaicml-streaming) or `parquet`.
    - `size`: `bucket` cuts and resizes to the aspect-ratio bucket nearest to the picture, of about `side` * `side`
      pixels; `fixed` to exactly `side` x `side`; `bytes` keeps the source's bytes untouched.
    - `patch`: both sides of every bucket are multiples of it.
    - `min_aspect`, `max_aspect`: width / height of every bucket lies strictly between them.
    - `encode`: of resized pictures. `raw` stores the pixels: an array of uint8 and of shape (height, width, 3), as a `.npy`
      file, in MDS as `ndarray:uint8`.
    - `quality` (1..100): of JPEG and WebP.
    - `subsampling`: of JPEG. `4:2:0` halves colour in both directions, if both sides of the picture are even: files are
      smaller, and JPEGs are resized faster, because most have it already. With another `encode` it is refused.
    - `extra_images`: names of payloads that are pictures and go with the sample's (a depth map, an edited version): cut, resized and
      encoded as it is, to the same size. In any order. With `size="bytes"` they are untouched, as everything is.
    - `compression`: of whole MDS shards, `zstd` or `gz`, as their reader expands them. Pictures are compressed already: for raw pixels and large
      attributes. A reader needs room for what it expands.
    - `samples_per_shard`: the most samples in a shard; on average shards are about 70 % full.
    - `seed`: another seed, another shuffle and another distribution over shards.

    Raises `ConfigError` if a value is out of range.
    """

    format: Literal["webdataset", "mds", "parquet"] = "webdataset"
    size: Literal["bucket", "fixed", "bytes"] = "bucket"
    side: int = 512
    patch: int = 16
    min_aspect: float = 0.5
    max_aspect: float = 2.0
    encode: Literal["jpeg", "png", "webp", "raw"] = "jpeg"
    quality: int = 92
    subsampling: Literal["4:4:4", "4:2:0"] = "4:4:4"
    extra_images: tuple[str, ...] = ()
    samples_per_shard: int = 1024
    seed: int = 0
    compression: Literal["zstd", "gz"] | None = None

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                options = ", ".join(repr(c) for c in choices)
                raise ConfigError(
                    f"recipe: {name} must be one of {options}, not {value!r}{_hint(value, choices)}"
                )
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
                raise ConfigError(
                    f"recipe: {name} must be a whole number from {least} to {most}, not {value!r}"
                )
        if self.compression is not None and self.compression not in COMPRESSIONS:
            options = ", ".join(repr(c) for c in COMPRESSIONS)
            raise ConfigError(
                f"recipe: compression must be one of {options}, or left out, not {self.compression!r}"
                f"{_hint(self.compression, COMPRESSIONS)}"
            )
        if self.compression and self.format != "mds":
            raise ConfigError(f"recipe: compression is for format='mds', not for {self.format!r}")
        if self.subsampling != "4:4:4" and self.encode != "jpeg":
            raise ConfigError(
                f"recipe: subsampling {self.subsampling!r} is for encode='jpeg', not for {self.encode!r}"
            )
        names: Any = self.extra_images
        if isinstance(names, str) or not all(isinstance(n, str) and _WORD.fullmatch(n) for n in names):
            raise ConfigError(
                f"recipe: extra_images must be names of payloads (letters, digits, '_' and '-'), not {names!r}"
            )
        object.__setattr__(self, "extra_images", tuple(sorted(set(names))))
        for name in ("min_aspect", "max_aspect"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0.01 <= value <= 100:
                raise ConfigError(f"recipe: {name} must be a number from 0.01 to 100, not {value!r}")
            # 2 and 2.0 are one recipe and must have one digest.
            object.__setattr__(self, name, float(value))
        if self.min_aspect >= self.max_aspect:
            raise ConfigError(
                f"recipe: min_aspect ({self.min_aspect}) must be less than max_aspect ({self.max_aspect})"
            )
        if self.size == "bucket":
            if self.patch > self.side:
                raise ConfigError(f"recipe: patch ({self.patch}) must not exceed side ({self.side})")
            from datago.aspect import buckets

            buckets(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """The recipe with these values, defaults for the rest. Raises `ConfigError` for a key that does not exist."""
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise ConfigError(
                    f"recipe: there is no {key!r}{_hint(key, known) or '; there are ' + ', '.join(known)}"
                )
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Every field, defaults included, but for a `compression` that there is not; `from_dict` reads it back."""
        values = asdict(self) | {"extra_images": list(self.extra_images)}
        if self.compression is None:
            del values["compression"]
        return values

    @property
    def extension(self) -> str:
        """Of its shards' names, without the first dot."""
        return EXTENSIONS[self.format] + (f".{self.compression}" if self.compression else "")

    @property
    def digest(self) -> str:
        """BLAKE3 (hex) of the canonical JSON of all fields and of the versions of our code that makes shards."""
        return _digest(self.to_dict(), ENCODER_VERSION)


def encoder_of(values: Mapping[str, Any], digest: str) -> int | None:
    """The version of our encoder under which a recipe of exactly these values had this digest; `None` if there was none.

    `values` are as they were recorded then: a field that is newer than they is not among them.
    """
    return next((v for v in range(1, ENCODER_VERSION + 1) if _digest(values, v) == digest), None)


def _digest(values: Mapping[str, Any], encoder: int) -> str:
    versions = {"recipe_format": FORMAT_VERSION, "encoder": encoder}
    text = json.dumps({**values, **versions}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return blake3(text.encode()).hexdigest()


def _hint(value: object, choices: tuple[str, ...] | list[str]) -> str:
    near = difflib.get_close_matches(str(value), choices, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
