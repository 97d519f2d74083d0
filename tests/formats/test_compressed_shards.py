"""MDS shards that are compressed as a whole: mosaicml-streaming and our own streams read them back."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import datago
from datago import ConfigError, CorruptionError, Payload, Recipe, Record, ShardPlan, StorageError
from tests.formats.shards import exported, mosaicml_dataset
from tests.loader.exports import export, pictures, recipe_of, stream

COMPRESSIONS = ("zstd", "gz")
EVER = {"zstd": "46b4e45910427159", "gz": "927eaf69698b973a"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("size", ["bucket", "bytes"])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_mosaicml_streaming_expands_the_shards_and_finds_their_hashes_right(
    compression: Any, size: Any, records: dict[str, Record], tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hashing = pytest.importorskip("streaming.base.hashing")
    recipe = Recipe(format="mds", size=size, encode="png", side=64, samples_per_shard=4)
    packed = Recipe(**{**recipe.to_dict(), "compression": compression})
    written = list(exported(tmp_path / "store", records, packed))
    plain = list(exported(tmp_path / "plain", records, recipe))
    index = {"version": 2, "shards": [result.format_meta for _, result, _ in written]}
    (tmp_path / "store/index.json").write_text(json.dumps(index))
    dataset = mosaicml_dataset(
        remote=str(tmp_path / "store"), local=str(tmp_path / "local"), validate_hash="xxh128"
    )
    order = [i for plan, _, _ in written for i in plan.sample_ids]
    assert [dataset[n]["id"] for n in range(len(dataset))] == order
    for (_, result, path), (_, whole, whole_path) in zip(written, plain, strict=True):
        entry = result.format_meta
        assert path.name == f"{whole_path.name}.{compression}"
        assert entry["zip_data"]["basename"] == path.name
        assert entry["zip_data"]["bytes"] == result.bytes
        raw = (tmp_path / "local" / whole_path.name).read_bytes()
        assert entry["raw_data"]["basename"] == whole_path.name == whole.format_meta["raw_data"]["basename"]
        assert entry["raw_data"]["bytes"] == len(raw)
        assert entry["raw_data"]["hashes"] == {"xxh128": hashing.get_hash("xxh128", raw)}
        if compression == "gz":
            assert gzip.decompress(path.read_bytes()) == raw


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_stream_of_compressed_shards_is_that_of_plain_ones(compression: str, tmp_path: Path) -> None:
    for size in ("bucket", "bytes"):
        plain = export(tmp_path / f"plain-{size}", 40, recipe_of("mds", size=size))
        packed = export(tmp_path / size, 40, recipe_of("mds", size=size, compression=compression))
        recipe = Recipe(side=32, patch=8)
        pairs = zip(
            stream(plain, recipe=recipe, payloads=["latent"]),
            stream(packed, recipe=recipe, payloads=["latent"], verify=True),
            strict=True,
        )
        for ours, theirs in pairs:
            assert ours.ids == theirs.ids
            assert ours.payloads == theirs.payloads
            np.testing.assert_array_equal(ours.images, theirs.images)  # type: ignore[arg-type]
    together = stream(pictures(40), recipe=recipe_of("mds", compression=compression))
    whole = stream(export(tmp_path / "e", 40, recipe_of("webdataset")))
    assert [b.ids for b in together] == [b.ids for b in whole]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_compressed_shards_are_the_same_bytes_as_ever_whatever_the_threads(
    compression: Any, tmp_path: Path
) -> None:
    """If this fails, shards of old snapshots can not be rebuilt: raise `datago.recipe.ENCODER_VERSION` with the change."""
    recipe = Recipe(format="mds", size="bytes", compression=compression)
    out = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(out, "bmp")
    latent = (np.arange(150_000) ** 2 % 257).astype(np.uint16).tobytes()
    items = [
        Record(f"s{n}", out.getvalue(), "bmp", b"{}", [Payload("latent", "bin", latent[n:])])
        for n in range(9)
    ]
    broken = Record("broken", out.getvalue()[:20], "bmp")
    found = set()
    for threads, chosen in ((1, items), (3, items), (2, [broken, *items])):
        plan = ShardPlan("x", None, tuple(item.sample_id for item in chosen))
        found.add(datago.write_shard(tmp_path / "x", plan, chosen, recipe, threads=threads).digest[:16])
    assert found == {EVER[compression]}


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_shard_that_can_not_be_expanded_is_damaged(compression: str, tmp_path: Path) -> None:
    folder = export(tmp_path / "e", 8, recipe_of("mds", size="bytes", compression=compression))
    [path] = folder.glob("*.mds.*")
    data = path.read_bytes()
    for damage in (data[: len(data) // 2], b"no such thing" + data):
        path.write_bytes(damage)
        with pytest.raises(CorruptionError, match="can not be expanded"):
            list(stream(folder, decode=False))
    shutil.rmtree(folder)
    with pytest.raises(StorageError):
        stream(folder)


def test_an_index_of_a_compression_that_there_is_not_is_refused(tmp_path: Path) -> None:
    folder = export(tmp_path / "e", 8, recipe_of("mds", compression="gz"))
    index = json.loads((folder / "index.json").read_text())
    index["recipe"]["compression"] = "br"
    (folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(CorruptionError, match="there is no compression 'br'"):
        stream(folder)
    with pytest.raises(ConfigError, match="compression"):
        Recipe(format="mds", compression="br")  # type: ignore[arg-type]
