"""Shards, read back by the official readers of each format."""

from __future__ import annotations

import io
import json
import tarfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from blake3 import blake3
from PIL import Image

import datago
from datago import ConfigError, InputError, Payload, Recipe, Record, ShardPlan, ShardResult, StorageError

SKIMAGE = Path(pytest.importorskip("skimage").__file__).parent / "data"
NAMES = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "retina.jpg", "logo.png", "camera.png")
FORMATS = ("webdataset", "mds", "parquet")


def labels(width: int, height: int) -> Image.Image:
    """Left half 1, right half 2: nothing else may ever appear."""
    values = np.ones((height, width), np.uint8)
    values[:, width // 2 :] = 2
    return Image.fromarray(values)


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "png")
    return out.getvalue()


@pytest.fixture(scope="module")
def records() -> dict[str, Record]:
    found = {}
    for name in NAMES:
        data = (SKIMAGE / name).read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            mask = png(labels(*image.size))
        attributes = json.dumps({"caption": f"a picture, {name} ü", "score": 0.50}).encode()
        payloads = [
            Payload("mask", "png", mask, True),
            Payload("latent", "npy", b"\x93NUMPY" + name.encode()),
        ]
        sample_id = blake3(data).hexdigest()
        extension = name.rpartition(".")[2]
        found[sample_id] = Record(sample_id, str(SKIMAGE / name), extension, attributes, payloads)
    return found


def exported(
    folder: Path, records: dict[str, Record], recipe: Recipe, threads: int = 0
) -> Iterator[tuple[ShardPlan, ShardResult, Path]]:
    folder.mkdir(parents=True, exist_ok=True)
    inspected = datago.inspect([r.image for r in records.values()]).columns
    for plan in datago.plan(list(records), inspected["width"], inspected["height"], recipe):
        path = folder / plan.name
        result = datago.write_shard(
            path, plan, [records[i] for i in plan.sample_ids], recipe, threads=threads
        )
        data = path.read_bytes()
        assert (result.name, result.bytes, result.digest) == (plan.name, len(data), blake3(data).hexdigest())
        assert result.failures == []
        assert result.samples == len(plan.sample_ids)
        yield plan, result, path
    assert not list(folder.glob(".*"))


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


# webdataset leaves its files to the garbage collector.
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        streaming = pytest.importorskip("streaming")
    recipe = Recipe(format="mds", size=size, encode=encode, side=128, samples_per_shard=4)
    written = list(exported(tmp_path, records, recipe))
    index = {"version": 2, "shards": [result.format_meta for _, result, _ in written]}
    (tmp_path / "index.json").write_text(json.dumps(index))
    dataset = streaming.StreamingDataset(
        local=str(tmp_path), shuffle=False, batch_size=1, validate_hash="sha256", allow_unsafe_types=False
    )
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


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("size", ["bucket", "bytes"])
def test_the_bytes_do_not_depend_on_the_threads(
    form: Any, size: Any, records: dict[str, Record], tmp_path: Path
) -> None:
    recipe = Recipe(format=form, size=size, side=128, samples_per_shard=3)
    digests = [
        [
            (r.name, r.digest, r.format_meta)
            for _, r, _ in exported(tmp_path / str(n), records, recipe, threads=n)
        ]
        for n in (1, 4)
    ]
    assert digests[0] == digests[1]


@pytest.mark.parametrize("form", FORMATS)
def test_a_sample_that_can_not_be_used_is_left_out_and_reported(form: Any, tmp_path: Path) -> None:
    good = png(Image.new("RGB", (30, 30), "red"))
    recipe = Recipe(format=form, size="fixed", side=16)
    items = [
        Record("a", good, "png"),
        Record("b", good[:40], "png"),
        Record("c", b"no", "png"),
        Record("d", good, "png"),
    ]
    plan = ShardPlan("x", (16, 16), ("a", "b", "c", "d"))
    result = datago.write_shard(tmp_path / "x", plan, items, recipe)
    assert result.samples == 2
    assert [(i, reason) for i, reason, _ in result.failures] == [("b", "truncated"), ("c", "not_an_image")]
    without = ShardPlan("y", (16, 16), ("a", "d"))
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


def test_the_resized_picture_is_close_to_pillows_lanczos(tmp_path: Path) -> None:
    with Image.open(SKIMAGE / "coffee.png") as image:
        source = image.convert("RGB")
    recipe = Recipe(size="fixed", side=160, encode="png", format="parquet")
    record = Record("a", png(source), "png")
    datago.write_shard(tmp_path / "x", ShardPlan("x", (160, 160), ("a",)), [record], recipe)
    found = opened(pq.read_table(tmp_path / "x")["image"][0].as_py())
    w, h = source.size
    box = ((w - h) / 2, 0, (w + h) / 2, h)
    expected = source.resize((160, 160), Image.Resampling.LANCZOS, box=box)
    assert abs(np.asarray(found).astype(int) - np.asarray(expected)).mean() < 0.6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_is_stored_upright_and_its_mask_stays_aligned(
    orientation: int, tmp_path: Path
) -> None:
    upright = labels(1200, 700).point(lambda v: 60 if v == 1 else 200).convert("RGB")
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    stored.save(out, "jpeg", quality=95, exif=exif.tobytes())
    record = Record("a", out.getvalue(), "jpg", b"{}", [Payload("mask", "png", png(labels(1200, 700)), True)])
    recipe = Recipe(size="fixed", side=64, encode="png", format="parquet")
    result = datago.write_shard(tmp_path / "x", ShardPlan("x", (64, 64), ("a",)), [record], recipe)
    assert result.failures == []
    row = pq.read_table(tmp_path / "x").to_pylist()[0]
    light = np.asarray(opened(row["image"]).convert("L")) > 130
    mask = np.asarray(opened(row["mask"])) == 2
    assert (light == mask).mean() > 0.98


@pytest.mark.parametrize("mode", ["1", "P", "I;16", "RGB", "LA"])
def test_a_mask_keeps_its_kind_and_its_labels(mode: str, tmp_path: Path) -> None:
    if mode == "I;16":
        source = Image.fromarray((np.arange(48 * 48, dtype=np.uint16) % 7 * 5000).reshape(48, 48))
    elif mode == "P":
        source = Image.fromarray((np.arange(48 * 48, dtype=np.uint8) % 5).reshape(48, 48)).convert("P")
        source.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9, 77, 77, 77])
    else:
        source = labels(48, 48).point(lambda v: 255 * (v - 1)).convert(mode)
    record = Record(
        "a", png(Image.new("RGB", (48, 48))), "png", b"{}", [Payload("mask", "png", png(source), True)]
    )
    recipe = Recipe(size="fixed", side=24, format="parquet")
    datago.write_shard(tmp_path / "x", ShardPlan("x", (24, 24), ("a",)), [record], recipe)
    mask = opened(pq.read_table(tmp_path / "x")["mask"][0].as_py())
    assert mask.mode == {"1": "L"}.get(mode, mode)
    expected = np.asarray(source)[1::2, 1::2]
    if mode == "1":
        expected = expected.astype(np.uint8) * 255
    np.testing.assert_array_equal(np.asarray(mask), expected)


def test_a_mask_of_other_proportions_is_a_mismatch(tmp_path: Path) -> None:
    record = Record(
        "a", png(Image.new("RGB", (40, 40))), "png", b"{}", [Payload("m", "png", png(labels(40, 30)), True)]
    )
    result = datago.write_shard(
        tmp_path / "x.tar", ShardPlan("x.tar", (16, 16), ("a",)), [record], Recipe(size="fixed", side=16)
    )
    assert [(i, reason) for i, reason, _ in result.failures] == [("a", "mask_mismatch")]


def test_payload_columns_can_be_asked_for_where_no_sample_has_them(tmp_path: Path) -> None:
    record = Record("a", png(Image.new("RGB", (8, 8))), "png")
    plan = ShardPlan("x", None, ("a",))
    datago.write_shard(
        tmp_path / "p", plan, [record], Recipe(format="parquet", size="bytes"), payload_names=["mask"]
    )
    assert pq.read_table(tmp_path / "p")["mask"].to_pylist() == [None]
    mds = datago.write_shard(
        tmp_path / "m", plan, [record], Recipe(format="mds", size="bytes"), payload_names=["mask"]
    )
    assert "mask" in mds.format_meta["column_names"]


def test_a_dct_scaled_decode_stays_close_to_a_full_one(tmp_path: Path) -> None:
    path = SKIMAGE / "retina.jpg"
    recipe = Recipe(size="fixed", side=96, encode="png", format="parquet")
    records = [Record("a", str(path), "jpg")]
    with Image.open(path) as image:
        records.append(Record("b", png(image.convert("RGB")), "png"))
    datago.write_shard(tmp_path / "x", ShardPlan("x", (96, 96), ("a", "b")), records, recipe)
    scaled, full = (
        np.asarray(opened(v)).astype(int) for v in pq.read_table(tmp_path / "x")["image"].to_pylist()
    )
    assert abs(scaled - full).mean() < 1.0


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
    ("mds", "bytes"): "1e5596295c81cf20",
    ("mds", "fixed"): "ae8301eec20707f9",
    ("parquet", "bytes"): "2fb8e40b7d7de835",
    ("parquet", "fixed"): "1c3760d866fd4c71",
    ("webdataset", "bytes"): "e6fe7f6c9cca740b",
    ("webdataset", "fixed"): "9daf26fc0e295306",
}
