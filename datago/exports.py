"""Exports as they are streamed: a folder of shards that its `index.json` describes, on this machine or on S3."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from datago import _core
from datago.aspect import assign, buckets
from datago.errors import ConfigError, CorruptionError
from datago.order import Part, Planned
from datago.recipe import COMPRESSIONS, EXTENSIONS, Recipe
from datago.remote import S3Object

Size = tuple[int, int]
_FORMATS = ("refinery.export/1", "refinery.export/2", "refinery.export/3")
_MOST = 1 << 30
_SMALL_SHARE = 1 / 4
"""Of a shard's samples: up to this, a request for each costs less than to fetch the rest."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard of an export: its file name, the same without extension (it is the same in every format), how many samples it holds, the (width, height) of their pictures (`None`:
    untouched bytes), and the BLAKE3 digest (hex) of its bytes."""

    name: str
    stem: str
    samples: int
    bucket: Size | None
    digest: str


class Export:
    """An export, by its folder: a local path, or an `S3Object` whose key is the folder's.

    Raises `StorageError` when the index can not be read, `CorruptionError` when it is none that this version reads.
    """

    def __init__(self, folder: str | os.PathLike[str] | S3Object) -> None:
        self.folder = folder if isinstance(folder, S3Object) else Path(folder)
        place = self._place("index.json")
        index = _parsed(_core.read(place, max_bytes=_MOST), _shown(place))
        self.format: str = index["recipe"]["format"]
        self.compression: str | None = index["recipe"].get("compression")
        end = "." + EXTENSIONS[self.format] + (f".{self.compression}" if self.compression else "")
        self.shards: list[Shard] = []
        for entry in index["files"]:
            bucket = None if entry["bucket"] is None else (int(entry["bucket"][0]), int(entry["bucket"][1]))
            name = str(entry["name"])
            stem, samples = name.removesuffix(end), int(entry["samples"])
            self.shards.append(Shard(name, stem, samples, bucket, str(entry["digest"])))
        self.shards.sort(key=lambda shard: shard.stem)
        root = index.get("snapshot", {}).get("root")
        self._content = root or [[shard.name, shard.digest] for shard in self.shards]

    def fitted(self, recipe: Recipe | None, *, decode: bool) -> Fitted:
        """The shards as parts of an order, with the size that the pictures of each are handed over in.

        Without a recipe they keep the size they are stored in. `ConfigError` where that does not fit the export."""
        sizes: list[Size | None] = []
        stored = [shard.bucket for shard in self.shards]
        if not decode:
            sizes = [None] * len(stored)
        elif recipe is None or recipe.size == "bytes":
            if any(size is None for size in stored):
                raise ConfigError(
                    f"{_shown(self.folder)} holds untouched pictures of many sizes, which do not stack: give "
                    f'recipe=Recipe(size="fixed", side=…), or decode=False for their bytes'
                )
            sizes = list(stored)
        elif recipe.size == "fixed":
            sizes = [(recipe.side, recipe.side)] * len(stored)
        else:
            known = [size for size in stored if size is not None]
            if len(known) < len(stored):
                return self._bucketed(recipe)
            chosen = buckets(recipe)
            found = assign([w for w, _ in known], [h for _, h in known], chosen)
            sizes.extend(chosen[n] for n in found.tolist())
        return Fitted.of([(s.stem, s.samples) for s in self.shards], sizes, self._content)

    def _bucketed(self, recipe: Recipe) -> Fitted:
        """Untouched pictures dealt to buckets by the sizes that their shards hold, which are read for that."""
        if isinstance(self.folder, S3Object):
            raise ConfigError(
                f"{_shown(self.folder)} holds untouched pictures, and only its shards know their sizes: give "
                f'recipe=Recipe(size="fixed", side=…), or stream the snapshot itself in buckets'
            )
        chosen = buckets(recipe)
        parts = []
        for shard in self.shards:
            place = self.folder / shard.name
            sizes = _core.sizes(place, self.format, self.compression, shard.samples)
            found = assign([w for w, _ in sizes], [h for _, h in sizes], chosen)
            parts.append(Part(shard.stem, found.astype(np.int32)))
        told = [self._content, [[shard.stem, shard.samples] for shard in self.shards], chosen]
        return Fitted(parts, [*chosen], _digest(told))

    def _place(self, name: str) -> Path | S3Object:
        if isinstance(self.folder, S3Object):
            return S3Object(self.folder.s3, f"{self.folder.key.rstrip('/')}/{name}".lstrip("/"))
        return self.folder / name

    def open(self, loader: _core.Loader, number: int, *, verify: bool, share: float) -> None:
        """Make one shard known to the loader, which will ask for about this share of its samples. One on S3 is fetched, and
        its digest checked; of a small share of one that has a table of its samples, these alone are read, unchecked."""
        shard = self.shards[number]
        place = self._place(shard.name)
        whole = share > _SMALL_SHARE or self.format != "mds" or self.compression is not None
        digest = shard.digest if verify or (whole and isinstance(place, S3Object)) else None
        loader.open(number, place, self.format, self.compression, shard.samples, digest)

    def submit(self, loader: _core.Loader, batch: Planned, size: Size | None) -> None:
        """Ask the loader for a batch."""
        loader.submit_rows(size, batch.parts, batch.rows)


@dataclass(frozen=True, slots=True)
class Fitted:
    """Parts of an order, the size of the pictures of each bucket, and what identifies all of it, whatever the format."""

    parts: list[Part]
    sizes: list[Size | None]
    digest: str

    @classmethod
    def of(cls, shards: list[tuple[str, int]], sizes: list[Size | None], content: Any) -> Fitted:
        """`shards` are (stem, samples), `sizes` those of their pictures, `content` what tells their samples from others."""
        known: list[Size | None] = [*sorted({size for size in sizes if size is not None})]
        known += [None] if None in sizes else []
        numbers = {size: n for n, size in enumerate(known)}
        parts = [Part.of(stem, n, numbers[size]) for (stem, n), size in zip(shards, sizes, strict=True)]
        told = [
            content,
            sorted([stem, n, list(size or ())] for (stem, n), size in zip(shards, sizes, strict=True)),
        ]
        return cls(parts, known, _digest(told))


def _digest(told: Any) -> str:
    return blake3(json.dumps(told, separators=(",", ":")).encode()).hexdigest()


def _parsed(data: bytes, shown: str) -> dict[str, Any]:
    try:
        index: dict[str, Any] = json.loads(data)
        if index["format"] not in _FORMATS:
            raise CorruptionError(
                f"{shown} has format {index['format']!r}; this version reads {', '.join(_FORMATS)}"
            )
        if index["recipe"]["format"] not in EXTENSIONS:
            raise CorruptionError(f"{shown}: there is no shard format {index['recipe']['format']!r}")
        compression = index["recipe"].get("compression")
        if compression is not None and compression not in COMPRESSIONS:
            raise CorruptionError(f"{shown}: there is no compression {compression!r}")
        names = [entry["name"] for entry in index["files"]]
        if any("/" in name or "\\" in name or name.startswith(".") for name in names):
            raise CorruptionError(f"{shown} names a shard that is not beside it")
        for entry in index["files"]:
            if not isinstance(entry["samples"], int) or not isinstance(entry["digest"], str):
                raise CorruptionError(
                    f"{shown}: shard {entry['name']!r} has no number of samples, or no digest"
                )
    except (ValueError, KeyError, TypeError, AttributeError) as cause:
        raise CorruptionError(f"{shown} is no index of an export, or damaged: {cause!r}") from None
    return index


def _shown(place: str | os.PathLike[str] | S3Object) -> str:
    return f"s3://{place.s3.bucket}/{place.key}" if isinstance(place, S3Object) else os.fspath(place)
