"""Shards: the official readers read them back, and their bytes follow from samples and recipe alone."""

from __future__ import annotations

import io
import json
import tarfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from blake3 import blake3
from PIL import Image

import datago
from datago import ConfigError, InputError, Payload, Recipe, Record, ShardPlan, StorageError
from tests.formats.shards import FORMATS, SKIMAGE, exported, labels, mosaicml_dataset, opened, png


@pytest.mark.filterwarnings(
    "ignore:unclosed file:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("size", ["bucket", "fixed", "bytes"])
def test_webdataset_reads_the_shards_back(size: Any, records: dict[str, Record], tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    recipe = Recipe(size=size, side=128, samples_per_shard=4)
    seen = []
    for plan, _, path in exported(tmp_path, records, recipe):
        dataset = webdataset.WebDataset(str(path), shardshuffle=False)
        samples = list(dataset)
        dataset.close()
        assert [s["__key__"] for s in samples] == list(plan.sample_ids)
        for sample in samples:
            record = records[sample["__key__"]]
            extension = record.extension if size == "bytes" else "jpg"
            attributes = json.loads(sample["json"])
            image = opened(sample[extension])
            assert image.size == (attributes["width"], attributes["height"])
            assert attributes["caption"] == sample["txt"].decode()
            assert sample["latent.npy"] == record.payloads[1].data
            if size == "bytes":
                assert sample[extension] == Path(str(record.image)).read_bytes()
                assert sample["mask.png"] == record.payloads[0].data
            else:
                assert image.size == plan.bucket
                mask = opened(sample["mask.png"])
                assert (mask.size, mask.mode) == (plan.bucket, "L")
                assert set(np.unique(np.asarray(mask))) == {1, 2}
            seen.append(sample["__key__"])
    assert sorted(seen) == sorted(records)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    ("size", "encode"), [("bucket", "jpeg"), ("bucket", "png"), ("bucket", "webp"), ("bytes", "jpeg")]
)
def test_mosaicml_streaming_reads_the_shards_back(
    size: Any, encode: Any, records: dict[str, Record], tmp_path: Path
) -> None:
    recipe = Recipe(format="mds", size=size, encode=encode, side=128, samples_per_shard=4)
    written = list(exported(tmp_path, records, recipe))
    index = {"version": 2, "shards": [result.format_meta for _, result, _ in written]}
    (tmp_path / "index.json").write_text(json.dumps(index))
    dataset = mosaicml_dataset(local=str(tmp_path), validate_hash="xxh128")
    order = [i for plan, _, _ in written for i in plan.sample_ids]
    assert len(dataset) == len(order)
    for position, sample_id in enumerate(order):
        sample = dataset[position]
        record = records[sample_id]
        assert sample["id"] == sample_id
        assert sample["attributes"]["score"] == 0.5
        assert sample["latent"] == record.payloads[1].data
        if size == "bytes":
            assert sample["image"] == Path(str(record.image)).read_bytes()
            image = opened(sample["image"])
        else:
            image = opened(sample["image"]) if encode == "webp" else sample["image"]
        assert image.size == (sample["width"], sample["height"])


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore::UserWarning",
    "ignore::FutureWarning",
    "ignore:unclosed file:ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
@pytest.mark.parametrize("side", [64, 320])
def test_official_readers_give_raw_pixels_as_arrays(
    side: int, records: dict[str, Record], tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encodings = pytest.importorskip("streaming.base.format.mds.encodings")
    webdataset = pytest.importorskip("webdataset")
    recipe = Recipe(format="mds", size="fixed", encode="raw", side=side)
    [(plan, result, _)] = exported(tmp_path, records, recipe)
    (tmp_path / "index.json").write_text(json.dumps({"version": 2, "shards": [result.format_meta]}))
    dataset = mosaicml_dataset(local=str(tmp_path))
    found = datago.decode([records[i].image for i in plan.sample_ids], size=(side, side)).images
    for position, expected in enumerate(found):
        np.testing.assert_array_equal(dataset[position]["image"], expected)
    tar = Recipe(size="fixed", encode="raw", side=side)
    [(_, _, path)] = exported(tmp_path / "tar", records, tar)
    reader = webdataset.WebDataset(str(path), shardshuffle=False)
    members = list(reader)
    reader.close()
    for sample, expected in zip(members, found, strict=True):
        np.testing.assert_array_equal(np.load(io.BytesIO(sample["npy"])), expected)
    assert encodings.mds_encode("ndarray:uint8", found[0]) in (tmp_path / plan.name).read_bytes()


@pytest.mark.parametrize("size", ["bucket", "bytes"])
def test_pyarrow_reads_the_shards_back(size: Any, records: dict[str, Record], tmp_path: Path) -> None:
    recipe = Recipe(format="parquet", size=size, encode="png", side=128, samples_per_shard=4)
    seen = []
    for plan, _, path in exported(tmp_path, records, recipe):
        table = pq.read_table(path)
        names = ["sample_id", "image", "format", "width", "height", "attributes", "latent", "mask"]
        assert table.column_names == names
        assert table["sample_id"].to_pylist() == list(plan.sample_ids)
        for row in table.to_pylist():
            record = records[row["sample_id"]]
            image = opened(row["image"])
            assert image.size == (row["width"], row["height"])
            assert str(image.format).lower() == row["format"]
            assert json.loads(row["attributes"]) == json.loads(record.attributes)
            assert row["latent"] == record.payloads[1].data
            if size == "bytes":
                assert row["image"] == Path(str(record.image)).read_bytes()
            seen.append(row["sample_id"])
        metadata = pq.read_metadata(path).metadata
        assert metadata[b"payload.mask"] == b"png"
        assert metadata[b"payload.latent"] == b"npy"
    assert sorted(seen) == sorted(records)


def test_parquet_row_groups_stay_small_enough_for_random_access(tmp_path: Path) -> None:
    data = png(Image.new("RGB", (8, 8)))
    ids = tuple(f"s{i:03}" for i in range(150))
    plan = ShardPlan("x.parquet", None, ids)
    recipe = Recipe(format="parquet", size="bytes")
    datago.write_shard(tmp_path / "x.parquet", plan, [Record(i, data, "png") for i in ids], recipe)
    file = pq.ParquetFile(tmp_path / "x.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [64, 64, 22]
    assert file.read_row_group(1)["sample_id"].to_pylist() == list(ids[64:128])


@pytest.mark.parametrize("size", ["fixed", "bytes"])
@pytest.mark.parametrize("form", FORMATS)
def test_a_sample_that_can_not_be_used_is_left_out_and_reported(form: Any, size: Any, tmp_path: Path) -> None:
    good = png(Image.new("RGB", (30, 30), "red"))
    recipe = Recipe(format=form, size=size, side=16)
    items = [
        Record("a", good, "png"),
        Record("b", good[:40], "png"),
        Record("c", b"no", "png"),
        Record("d", good, "png"),
    ]
    bucket = (16, 16) if size == "fixed" else None
    plan = ShardPlan("x", bucket, ("a", "b", "c", "d"))
    result = datago.write_shard(tmp_path / "x", plan, items, recipe)
    assert result.samples == 2
    assert [(i, reason) for i, reason, _ in result.failures] == [("b", "truncated"), ("c", "not_an_image")]
    without = ShardPlan("y", bucket, ("a", "d"))
    again = datago.write_shard(tmp_path / "x", without, [items[0], items[3]], recipe)
    assert again.digest == result.digest


@pytest.mark.parametrize("form", FORMATS)
def test_a_picture_that_can_not_be_read_stops_the_shard_and_publishes_nothing(
    form: Any, tmp_path: Path
) -> None:
    items = [
        Record("a", png(Image.new("RGB", (9, 9))), "png"),
        Record("b", str(tmp_path / "missing.png"), "png"),
    ]
    plan = ShardPlan("x", None, ("a", "b"))
    with pytest.raises(StorageError, match=r"sample b: .*missing\.png") as caught:
        datago.write_shard(tmp_path / "x", plan, items, Recipe(format=form, size="bytes"))
    assert caught.value.retryable
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", FORMATS)
def test_an_empty_plan_gives_a_valid_empty_shard(form: Any, tmp_path: Path) -> None:
    result = datago.write_shard(
        tmp_path / "x", ShardPlan("x", None, ()), [], Recipe(format=form, size="bytes")
    )
    assert result.samples == 0
    if form == "parquet":
        assert pq.read_table(tmp_path / "x").num_rows == 0
    if form == "webdataset":
        with tarfile.open(tmp_path / "x") as archive:
            assert archive.getnames() == []


def test_a_shard_in_a_folder_that_does_not_exist_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nowhere"):
        datago.write_shard(tmp_path / "nowhere" / "x.tar", ShardPlan("x", None, ()), [], Recipe(size="bytes"))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (Record("../up", b"", "png"), "sample id"),
        (Record("a.b", b"", "png"), "sample id"),
        (Record("", b"", "png"), "sample id"),
        (Record("a", b"", "p/ng"), "extension"),
        (Record("a", b"", "json"), "extension"),
        (Record("a", b"", "png", b"[1]"), "JSON object"),
        (Record("a", b"", "png", b"{"), "not JSON"),
        (Record("a", b"", "png", b"{}", [Payload("../x", "png", b"")]), "payload"),
        (Record("a", b"", "png", b"{}", [Payload("m.n", "png", b"")]), "payload"),
        (Record("a", b"", "png", b"{}", [Payload("image", "png", b"")]), "name of our own"),
        (
            Record("a", b"", "png", b"{}", [Payload("m", "png", b""), Payload("m", "npy", b"")]),
            "two payloads",
        ),
    ],
)
def test_records_that_could_escape_or_collide_are_refused(
    record: Record, message: str, tmp_path: Path
) -> None:
    plan = ShardPlan("x.tar", None, (record.sample_id,))
    with pytest.raises(InputError, match=message):
        datago.write_shard(tmp_path / "x.tar", plan, [record], Recipe(size="bytes"))
    assert list(tmp_path.iterdir()) == []


def test_records_must_be_the_plans_samples_in_the_plans_order(tmp_path: Path) -> None:
    plan = ShardPlan("x.tar", None, ("a", "b"))
    with pytest.raises(InputError, match="1 records for 2"):
        datago.write_shard(tmp_path / "x", plan, [Record("a", b"", "png")], Recipe(size="bytes"))
    with pytest.raises(InputError, match="record 0 is sample 'b'"):
        datago.write_shard(
            tmp_path / "x", plan, [Record("b", b"", "png"), Record("a", b"", "png")], Recipe(size="bytes")
        )


def test_a_plan_of_another_size_than_the_recipe_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bucket"):
        datago.write_shard(tmp_path / "x", ShardPlan("x", (64, 64), ()), [], Recipe(size="bytes"))


def test_tar_members_carry_no_trace_of_who_wrote_them_and_when(tmp_path: Path) -> None:
    name = "n" * 60
    record = Record(
        "i" * 64, png(Image.new("RGB", (4, 4))), "png", b'{"caption":"x"}', [Payload(name, "bin", b"1234")]
    )
    plan = ShardPlan("x.tar", None, (record.sample_id,))
    datago.write_shard(tmp_path / "x.tar", plan, [record], Recipe(size="bytes"))
    with tarfile.open(tmp_path / "x.tar") as archive:
        members = archive.getmembers()
        base = record.sample_id
        assert [m.name for m in members] == [
            f"{base}.png",
            f"{base}.json",
            f"{base}.txt",
            f"{base}.{name}.bin",
        ]
        assert {(m.mtime, m.uid, m.gid, m.mode, m.uname, m.gname) for m in members} == {
            (0, 0, 0, 0o644, "", "")
        }
        last = archive.extractfile(members[-1])
        assert last is not None
        assert last.read() == b"1234"


def test_shard_bytes_are_the_same_as_ever(tmp_path: Path) -> None:
    """If this fails, shards of old snapshots can not be rebuilt: raise `datago.recipe.ENCODER_VERSION` with the change."""
    x, y = np.meshgrid(np.arange(180), np.arange(120))
    image = Image.fromarray(np.stack([x, y * 2, (x * y) % 256], axis=-1).astype(np.uint8))
    # BMP is not compressed, so no other library's version is in the digests.
    sources = []
    for picture in (image, labels(180, 120)):
        out = io.BytesIO()
        picture.save(out, "bmp")
        sources.append(out.getvalue())
    record = Record(
        "a", sources[0], "bmp", b'{"b":1.50,"a":"\\u00fc"}', [Payload("m", "bmp", sources[1], True)]
    )
    found = {}
    for form in FORMATS:
        for size in ("fixed", "bytes"):
            recipe = Recipe(format=form, size=size, side=48, encode="jpeg")  # type: ignore[arg-type]
            plan = ShardPlan("x", (48, 48) if size == "fixed" else None, ("a",))
            found[form, size] = datago.write_shard(tmp_path / "x", plan, [record], recipe).digest[:16]
    assert found == EVER


EVER = {
    ("mds", "bytes"): "4f5c4ac8d84bf812",
    ("mds", "fixed"): "bed8ed9c4e2d7cc8",
    ("parquet", "bytes"): "2fb8e40b7d7de835",
    ("parquet", "fixed"): "1c3760d866fd4c71",
    ("webdataset", "bytes"): "e6fe7f6c9cca740b",
    ("webdataset", "fixed"): "9daf26fc0e295306",
}


@pytest.mark.parametrize("kind", ["4:4:4", "4:2:0", "raw"])
def test_a_jpeg_is_resized_to_the_same_bytes_as_ever(kind: str, tmp_path: Path) -> None:
    """As above, on the way of a JPEG's own planes; decoded in full and at a half."""
    data = (SKIMAGE / "rocket.jpg").read_bytes()
    assert blake3(data).hexdigest()[:16] == "297c43e8e855f8c6"
    how = {"encode": "raw"} if kind == "raw" else {"subsampling": kind}
    for side in (240, 160):
        recipe = Recipe.from_dict({"size": "fixed", "side": side, **how})
        plan = ShardPlan("x", (side, side), ("a",))
        result = datago.write_shard(tmp_path / "x", plan, [Record("a", data, "jpg")], recipe)
        assert result.digest[:16] == EVER_OF_JPEG[kind, side]


EVER_OF_JPEG = {
    ("4:4:4", 240): "271ff8a5e15ba82a",
    ("4:4:4", 160): "2a5a56231bbc8cfd",
    ("4:2:0", 240): "2b977ccdbc14b404",
    ("4:2:0", 160): "f64e9d106152f84a",
    ("raw", 240): "c4827ad47595ac3a",
    ("raw", 160): "1ff0713dea1c7be6",
}
