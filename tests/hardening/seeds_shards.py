"""Small shards of each layout that is read, for fuzzing: what datago writes, and Parquet of other writers."""

from __future__ import annotations

import io
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datago import Payload, Recipe, Record, plan, write_shard

COUNT = 3
RECIPES = (
    *(Recipe(format=form, size="bytes") for form in ("webdataset", "mds", "parquet")),
    *(Recipe(format=form, side=8, patch=8, encode="raw") for form in ("webdataset", "mds", "parquet")),
    Recipe(format="mds", size="bytes", compression="zstd"),
    Recipe(format="mds", side=8, patch=8, encode="raw", compression="gz"),
)
KINDS = {"": b"\0", "zstd": b"\1", "gz": b"\2"}
"""The first byte of the target's input says how the rest is compressed."""
LAYOUTS: tuple[dict[str, Any], ...] = (
    {},
    {"use_dictionary": False, "write_page_index": True},
    {"use_dictionary": False, "write_page_index": True, "data_page_version": "2.0"},
    {"write_page_index": True, "data_page_size": 64, "row_group_size": 2},
)


def written(recipe: Recipe, records: list[Record], width: int, height: int) -> bytes:
    ids = [record.sample_id for record in records]
    (only,) = plan(ids, [width] * len(ids), [height] * len(ids), recipe)
    by_id = {record.sample_id: record for record in records}
    with TemporaryDirectory() as folder:
        path = Path(folder) / only.name
        assert write_shard(path, only, [by_id[i] for i in only.sample_ids], recipe).samples == len(ids)
        return path.read_bytes()


def foreign(options: dict[str, Any]) -> bytes:
    table = pa.table(
        {
            "sample_id": [f"{n:08x}" for n in range(COUNT)],
            "image": pa.array([bytes(40 + n) for n in range(COUNT)], pa.binary()),
            "width": pa.array([4] * COUNT, pa.int32()),
            "height": pa.array([3] * COUNT, pa.int32()),
            "attributes": [json.dumps({"n": n}) for n in range(COUNT)],
            "mask": pa.array([b"%d" % n if n else None for n in range(COUNT)], pa.binary()),
        }
    )
    with io.BytesIO() as out:
        pq.write_table(table, out, compression="none", **options)
        return out.getvalue()


def shards(picture: bytes, mask: bytes, width: int, height: int) -> dict[str, list[bytes]]:
    """Of a PNG and its mask, by the name of the target."""
    records = [
        Record(
            f"{n:064x}",
            picture,
            "png",
            json.dumps({"n": n, "caption": "a"}).encode(),
            [Payload("mask", "png", mask, is_mask=True), Payload("depth", "bin", b"%d" % n)] if n else [],
        )
        for n in range(COUNT)
    ]
    found: dict[str, list[bytes]] = {f"shard_{form}": [] for form in ("webdataset", "mds", "parquet")}
    for recipe in RECIPES:
        for some in (records, records[:1]):
            data = written(recipe, some, width, height)
            first = KINDS[recipe.compression or ""] if recipe.format == "mds" else b""
            found[f"shard_{recipe.format}"].append(first + data)
    found["shard_parquet"] += [foreign(options) for options in LAYOUTS]
    return found
