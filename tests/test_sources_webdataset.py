"""The WebDataset source: keys, members, packed tars and damaged ones."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import random
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from refinery.batches import Batches, BatchReport
from refinery.blobs import read_blob
from refinery.fields import Field, Fields, FieldType
from refinery.ingest import ingest
from refinery.sources import Entry, open_source
from refinery.sources.uris import uri_name
from refinery.store.local import LocalStore

FIELDS = Fields([Field("caption", FieldType.TEXT)])


def tar_bytes(members: list[tuple[str, bytes]]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    path.write_bytes(tar_bytes(members))
    return path


def listed(path: Path) -> list[Entry]:
    return list(open_source(path, name="w", kind="webdataset").entries(FIELDS))


def land(store: LocalStore, path: Path) -> tuple[list[dict[str, Any]], BatchReport]:
    report = ingest(
        store, FIELDS, open_source(path, name="w", kind="webdataset"), batch_size=1000, max_bytes=1 << 24
    )
    return Batches(store).origins().sort_by("uri").to_pylist(), report.batches[-1]


def test_every_member_of_a_key_is_kept(tmp_path: Path, store: LocalStore) -> None:
    members = [
        ("d/0001.jpg", b"image"),
        ("d/0001.txt", b"a caption"),
        ("d/0001.json", b'{"width": 3, "license": "cc0"}'),
        ("d/0001.cls", b"7"),
        ("d/0001.mask.png", b"mask"),
        ("d/0001.latent.npy", b"tensor"),
        ("d/0001.strange", b"?"),
    ]
    rows, report = land(store, write_tar(tmp_path / "a.tar", members))
    (row,) = rows
    assert row["uri"].endswith("/a.tar#d/0001.jpg")
    assert (row["extension"], read_blob(store, row["sample_id"])) == ("jpg", b"image")
    assert json.loads(row["attributes"]) == {"caption": "a caption"}
    assert json.loads(row["extras"]) == {"width": 3, "license": "cc0"}
    assert [
        (p["name"], p["is_mask"], p["extension"], read_blob(store, p["digest"])) for p in row["payloads"]
    ] == [
        ("cls", False, "cls", b"7"),
        ("latent", False, "npy", b"tensor"),
        ("mask", True, "png", b"mask"),
        ("strange", False, "strange", b"?"),
    ]
    assert (report.entries, report.origins, report.sidecars, report.payloads) == (1, 1, 2, 4)


def test_of_two_images_one_is_the_sample_and_the_other_its_payload(tmp_path: Path) -> None:
    members = [("k.png", b"p"), ("k.jpg", b"j"), ("k.target.jpg", b"t"), ("k.seg.png", b"s")]
    (entry,) = listed(write_tar(tmp_path / "a.tar", members))
    assert uri_name(entry.uri) == "k.jpg"
    assert [(p.name, p.is_mask) for p in entry.payloads] == [("png", False), ("seg", True), ("target", False)]


def test_an_image_with_a_named_extension_is_the_sample_when_there_is_no_plain_one(tmp_path: Path) -> None:
    (entry,) = listed(
        write_tar(tmp_path / "a.tar", [("k.mask.png", b"m"), ("k.input.jpg", b"i"), ("k.out.jpg", b"o")])
    )
    assert uri_name(entry.uri) == "k.input.jpg"


def test_a_key_without_an_image_gives_a_sample_for_each_member(tmp_path: Path) -> None:
    entries = listed(write_tar(tmp_path / "a.tar", [("k.txt", b"t"), ("k.npy", b"n"), ("plain", b"p")]))
    assert sorted(uri_name(entry.uri) for entry in entries) == ["k.npy", "k.txt", "plain"]
    assert all(entry.piece and not entry.payloads and not entry.sidecars for entry in entries)


def test_the_same_member_twice_is_two_samples(tmp_path: Path, store: LocalStore) -> None:
    members = [("k.jpg", b"one"), ("k.txt", b"c1"), ("k.jpg", b"two"), ("k.txt", b"c2")]
    rows, _ = land(store, write_tar(tmp_path / "a.tar", members))
    assert {(read_blob(store, r["sample_id"]), json.loads(r["attributes"])["caption"]) for r in rows} == {
        (b"one", "c1"),
        (b"two", "c2"),
    }


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [(".tar", bytes), (".tar.gz", gzip.compress), (".tar.bz2", bz2.compress), (".tar.xz", lzma.compress)],
)
def test_packed_tars_give_what_plain_ones_give(
    tmp_path: Path, store: LocalStore, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    # captions first and images last: sidecars of one key lie far from its image
    members = [(f"{n:03}.txt", b"caption %d" % n) for n in range(30)]
    members += [(f"{n:03}.jpg", b"image %d " % n * 500) for n in range(30)]
    (tmp_path / f"a{suffix}").write_bytes(pack(tar_bytes(members)))
    rows, report = land(store, tmp_path / f"a{suffix}")
    assert [read_blob(store, r["sample_id"]) for r in rows] == [b"image %d " % n * 500 for n in range(30)]
    assert [json.loads(r["attributes"]) for r in rows] == [{"caption": f"caption {n}"} for n in range(30)]
    assert report.unreadable == ()


def test_a_folder_of_tars_is_read_in_order_of_name(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ["b.tar", "a.tar", "sub/c.tar"]:
        write_tar(tmp_path / name, [("k.jpg", name.encode())])
    (tmp_path / "readme.md").write_text("x")
    (tmp_path / ".hidden").write_text("x")
    entries = listed(tmp_path)
    assert [e.uri.split("/")[-1].split("#")[0] for e in entries if e.piece] == ["a.tar", "b.tar", "c.tar"]
    assert sorted(e.ignored for e in entries if e.ignored) == ["hidden", "not_a_tar"]


def test_nothing_is_written_outside_the_store_whatever_members_are_called(
    tmp_path: Path, store: LocalStore
) -> None:
    names = ["../../evil.jpg", "/abs/evil.jpg", "a/../../b.jpg", "\udcff\udcfe.jpg", "x" * 300 + ".jpg"]
    (tmp_path / "in").mkdir()
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", errors="surrogateescape") as tar:
        for name in names:
            tar.addfile(info := tarfile.TarInfo(name), io.BytesIO())
            assert info.size == 0
    (tmp_path / "in" / "a.tar").write_bytes(sink.getvalue())
    before = sorted(p for p in tmp_path.rglob("*") if "store" not in p.parts)
    rows, _ = land(store, tmp_path / "in")
    assert sorted(p for p in tmp_path.rglob("*") if "store" not in p.parts) == before
    assert len(rows) == len(names)


def test_links_and_devices_in_a_tar_are_neither_followed_nor_opened(
    tmp_path: Path, store: LocalStore
) -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for name, kind in [
            ("a.jpg", tarfile.SYMTYPE),
            ("b.jpg", tarfile.LNKTYPE),
            ("c.jpg", tarfile.FIFOTYPE),
        ]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        folder = tarfile.TarInfo("d")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    (tmp_path / "a.tar").write_bytes(sink.getvalue())
    rows, report = land(store, tmp_path / "a.tar")
    assert rows == []
    assert report.unreadable_by_reason == {"not_regular": 3}


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_what_a_truncated_tar_still_holds_is_ingested_and_the_rest_recorded(
    tmp_path: Path, store: LocalStore, pack: Callable[[bytes], bytes]
) -> None:
    rng = random.Random(1)
    images = [rng.randbytes(3000) for _ in range(4)]
    data = pack(tar_bytes([(f"{n}.jpg", image) for n, image in enumerate(images)]))
    (tmp_path / "a.tar").write_bytes(
        data[: int(len(data) * 0.6 if pack is gzip.compress else 4096 * 2 + 2000)]
    )
    rows, report = land(store, tmp_path / "a.tar")
    assert [read_blob(store, r["sample_id"]) for r in rows] == images[: len(rows)]
    assert len(rows) == 2
    assert "truncated_tar" in report.unreadable_by_reason
    assert report.entries == report.origins + len(report.unreadable)


def test_a_tar_without_an_end_mark_is_read_and_reported(tmp_path: Path, store: LocalStore) -> None:
    (tmp_path / "a.tar").write_bytes(tar_bytes([("k.jpg", b"x" * 512)])[:1024])
    rows, report = land(store, tmp_path / "a.tar")
    assert len(rows) == 1
    assert report.unreadable_by_reason == {"truncated_tar": 1}


@pytest.mark.parametrize(
    "damage", [b"", b"not a tar at all" * 100, b"\x1f\x8bnonsense", b"BZh9nonsense", b"\xfd7zXZ\0bad"]
)
def test_what_is_no_tar_is_one_unreadable_entry(tmp_path: Path, store: LocalStore, damage: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(damage)
    rows, report = land(store, tmp_path / "a.tar")
    assert rows == []
    assert sum(report.unreadable_by_reason.values()) == 1
    assert set(report.unreadable_by_reason) <= {"damaged_tar", "truncated_tar"}


def test_garbage_between_members_ends_the_tar_with_a_reason(tmp_path: Path, store: LocalStore) -> None:
    whole = tar_bytes([("a.jpg", b"one"), ("b.jpg", b"two")])
    (tmp_path / "a.tar").write_bytes(whole[:1024] + b"\xa5" * 512 + whole[1536:])
    rows, report = land(store, tmp_path / "a.tar")
    assert len(rows) == 1
    assert report.unreadable_by_reason == {"damaged_tar": 1}


def test_a_forged_header_costs_neither_memory_nor_time(tmp_path: Path) -> None:
    long_name = tarfile.TarInfo("././@LongLink")
    long_name.type, long_name.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
    negative = bytearray(tarfile.TarInfo("x.jpg").tobuf(tarfile.GNU_FORMAT))
    negative[124:136] = b"\xff" * 12
    negative[148:156] = b"%06o\0 " % (sum(negative[:148]) + 8 * 32 + sum(negative[156:512]))
    chain = tarfile.TarInfo("././@LongLink")
    chain.type, chain.size = tarfile.GNUTYPE_LONGNAME, 1
    forged = [
        long_name.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 22),
        bytes(negative) + bytes(1024),
        (chain.tobuf(tarfile.GNU_FORMAT) + b"x".ljust(512, b"\0")) * 5000,
    ]
    for number, data in enumerate(forged):
        path = tmp_path / f"{number}.tar"
        path.write_bytes(tar_bytes([("a.jpg", b"x")])[:1024] + data)
        begun = time.monotonic()
        entries = listed(path)
        assert time.monotonic() - begun < 10
        assert [bool(e.piece) for e in entries] == [True, False], number
        assert entries[1].unreadable == "damaged_tar"


def test_any_bit_flips_leave_listing_and_landing_alive(tmp_path: Path, store: LocalStore) -> None:
    rng = random.Random(7)
    good = tar_bytes([(f"{n}.{e}", rng.randbytes(600)) for n in range(4) for e in ("jpg", "txt", "mask.png")])
    for turn in range(40):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 30)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        packed = gzip.compress(good) if turn % 2 else b""
        if packed:
            data = bytearray(packed)
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        folder = tmp_path / str(turn)
        folder.mkdir()
        (folder / "a.tar").write_bytes(data)
        report = ingest(
            store, FIELDS, open_source(folder, name="w", kind="webdataset"), batch_size=100, max_bytes=1 << 20
        )
        for batch in report.batches:
            lost = {u.uri for u in batch.unreadable}
            assert batch.origins <= batch.entries <= batch.origins + len(lost)


def test_a_tar_rewritten_between_listing_and_landing_is_recorded_and_listed_anew(
    tmp_path: Path, store: LocalStore
) -> None:
    from refinery.ingest import land as land_batch
    from refinery.ingest import stage

    path = write_tar(tmp_path / "a.tar", [("k.jpg", b"before")])
    source = open_source(path, name="w")
    (staged,) = stage(store, FIELDS, source, batch_size=10)
    write_tar(path, [("new.jpg", b"inserted before"), ("k.jpg", b"after")])
    report = land_batch(store, FIELDS, staged.batch, max_bytes=1 << 20)
    assert report.unreadable_by_reason == {"changed": 1}
    rows, _ = land(store, path)
    assert {read_blob(store, r["sample_id"]) for r in rows} == {b"inserted before", b"after"}
