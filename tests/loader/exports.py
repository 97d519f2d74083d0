"""Exports to be streamed: small pictures, each of a colour of its own, in any format, with what each sample should be."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

import datago
from datago import Batch, Payload, Pictures, Recipe, Record, Stream

COUNT = 90
"""Samples in an export, unless a test wants another number."""
FORMATS = ("webdataset", "mds", "parquet")
SIDES = ((48, 48), (64, 36), (36, 64))
"""Width and height of pictures, by turns: each in a bucket of its own."""


def stream(source: Any, **options: Any) -> Stream:
    """In small batches and windows, unless a test wants others."""
    return datago.stream(source, **{"batch_size": 7, "seed": 3, "shuffle_shards": 3, **options})


def ids(batches: Iterable[Batch]) -> list[list[str]]:
    """The ids of each batch."""
    return [batch.ids for batch in batches]


def recipe_of(form: str, **changes: Any) -> Recipe:
    """PNG, so that pixels are exact."""
    values = {"side": 32, "patch": 8, "encode": "png", "samples_per_shard": 8, **changes}
    return Recipe(format=form, **values)  # type: ignore[arg-type]


def picture(number: int) -> npt.NDArray[np.uint8]:
    """One colour, which tells the number."""
    width, height = SIDES[number % len(SIDES)]
    return np.full((height, width, 3), (number % 256, number // 256, 77), np.uint8)


def record(number: int) -> Record:
    """Sample number so-and-so: a picture, attributes and, every second one, a payload."""
    out = io.BytesIO()
    Image.fromarray(picture(number)).save(out, "png")
    attributes = {"caption": f"number {number} ü", "number": number}
    payloads = [Payload("latent", "bin", b"latent %d" % number)] if number % 2 else []
    data = json.dumps(attributes, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return Record(f"s{number:05}", out.getvalue(), "png", data, payloads)


def pictures(count: int, records: dict[str, Record] | None = None) -> Pictures:
    """The samples themselves, in no shard."""
    found = records or {r.sample_id: r for r in map(record, range(count))}
    shapes = [SIDES[n % len(SIDES)] for n in range(count)]
    return Pictures(list(found), [w for w, _ in shapes], [h for _, h in shapes], found.__getitem__)


def export(folder: Path, count: int, recipe: Recipe) -> Path:
    """An export of the first `count` samples, as `refinery` lays one out."""
    return write_export(folder, list(map(record, range(count))), recipe, ["latent"])


def noisy(count: int) -> list[Record]:
    """Samples of about 12 KB, with a payload of as much."""
    random = np.random.default_rng(5)
    found = []
    for n in range(count):
        out = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (64, 64, 3), np.uint8)).save(out, "png")
        payloads = [Payload("latent", "bin", random.bytes(12_000))]
        found.append(Record(f"s{n:05}", out.getvalue(), "png", b'{"a":1}', payloads))
    return found


def write_export(folder: Path, samples: list[Record], recipe: Recipe, payloads: list[str]) -> Path:
    """An export of these samples, as `refinery` lays one out."""
    folder.mkdir(parents=True)
    records = {r.sample_id: r for r in samples}
    shapes = datago.inspect([r.image for r in samples]).columns
    files, entries = [], []
    for plan in datago.plan(list(records), shapes["width"], shapes["height"], recipe):
        chosen = [records[i] for i in plan.sample_ids]
        result = datago.write_shard(folder / plan.name, plan, chosen, recipe, payload_names=payloads)
        bucket = list(plan.bucket) if plan.bucket else None
        files.append(
            {
                "name": result.name,
                "bytes": result.bytes,
                "digest": result.digest,
                "samples": result.samples,
                "bucket": bucket,
            }
        )
        entries.append(result.format_meta)
    index = {
        "format": "refinery.export/3" if recipe.compression else "refinery.export/1",
        "snapshot": {"ref": "set@1", "root": "r" * 64, "count": len(samples)},
        "recipe": recipe.to_dict(),
        "recipe_digest": recipe.digest,
        "samples": len(samples),
        "files": sorted(files, key=lambda f: str(f["name"])),
    }
    if recipe.format == "mds":
        index |= {"version": 2, "shards": entries}
    (folder / "index.json").write_text(json.dumps(index))
    return folder
