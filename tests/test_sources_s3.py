"""A prefix on S3 as a source, on a real server: it gives what folders give, and is listed and landed like them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefixes import CAP, FIELDS, Place, Rows, rows, run
from test_ingest_properties import DyingStore, Killed, truth
from test_sources_webdataset import tar_bytes

from refinery.batches import Batches, BatchReport
from refinery.blobs import read_blob
from refinery.corpus import CorpusReport
from refinery.digests import digest
from refinery.ingest import land, stage
from refinery.sources import Entry, Piece, open_source
from refinery.sources.s3 import folders
from refinery.sources.uris import object_uri, uri_object
from refinery.store.local import LocalStore
from tests.servers import S3Server

pytestmark = pytest.mark.usefixtures("aws")


@pytest.fixture
def place(s3_server: S3Server, bucket: str) -> Place:
    return Place(s3_server, bucket)


def told(rows: Rows, root: str) -> Rows:
    """Rows without what differs from place to place, in order of path."""
    kept = ("sample_id", "bytes", "extension", "stored", "attributes", "extras", "payloads")
    found = [{"path": unquote(r["uri"].removeprefix(root)), **{k: r[k] for k in kept}} for r in rows]
    return sorted(found, key=lambda row: row["path"])


def counted(report: BatchReport) -> dict[str, Any]:
    names = ("entries", "origins", "samples", "new", "over_cap", "sidecars", "payloads", "bytes", "ignored")
    return {name: getattr(report, name) for name in names}


def same_from_both(tmp_path: Path, place: Place, folder: Path, kind: str | None = None) -> BatchReport:
    """Take in a folder and a bucket of the same files, which must tell the same; the bucket's report."""
    place.fill({str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()})
    near, far = LocalStore(tmp_path / "near"), LocalStore(tmp_path / "far")
    local = open_source(folder, name="far", kind="folder" if kind is None else kind)
    (expected,) = run(near, local, 10_000).batches
    (found,) = run(far, place.source(kind=kind), 10_000).batches
    assert told(rows(far), f"s3://{place.bucket}/in/") == told(rows(near), f"{local.uri}/")
    assert counted(found) == counted(expected)
    assert found.unreadable_by_reason == expected.unreadable_by_reason
    assert {i.key for i in far.list("blobs/")} == {i.key for i in near.list("blobs/")}
    return found


def test_a_corpus_in_a_bucket_gives_what_it_gives_in_a_folder(
    tmp_path: Path, place: Place, corpus: CorpusReport
) -> None:
    report = same_from_both(tmp_path, place, corpus.folder)
    assert (report.kind, report.path) == ("s3", f"s3://{place.bucket}/in")
    assert report.origins > 80


def test_sidecars_masks_and_latents_belong_as_in_a_folder(tmp_path: Path, place: Place) -> None:
    folder = tmp_path / "pictures"
    files = {
        "a.jpg": b"a",
        "a.txt": b"a house",
        "a.json": b'{"score": 3, "of nobody": 1}',
        "a.mask.png": b"mask",
        "a.latent.npy": b"latent",
        "b.jpg": b"b",
        "b.json": b"[no object]",
        "deep/a.jpg": b"deep",
        "deep/a.jpg.txt": b"deep words",
        "deep-er/c.png": b"c",
        "deep/er/é 读.webp": b"\xff",
        "deep/.hidden/x.jpg": b"x",
        "deep/.hidden/y.jpg": b"y",
        ".DS_Store": b"z",
        "lone.mask.png": b"lone",
    }
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    report = same_from_both(tmp_path, place, folder)
    assert (report.sidecars, report.payloads, report.ignored) == (3, 3, {"hidden": 2})


@pytest.mark.parametrize("packing", ["", ".gz"])
def test_tars_in_a_bucket_give_what_they_give_in_a_folder(tmp_path: Path, place: Place, packing: str) -> None:
    import gzip

    rng = random.Random(5)
    folder = tmp_path / "tars"
    folder.mkdir()
    for number in range(2):
        members = [
            (f"d/{n:03}.{e}", rng.randbytes(rng.choice([5, 700, 200_000])))
            for n in range(12)
            for e in ("jpg", "mask.png")
        ]
        data = tar_bytes([*members, ("d/000.txt", b"words")])
        (folder / f"{number}.tar{packing}").write_bytes(gzip.compress(data) if packing else data)
    (folder / "empty.tar").write_bytes(b"")
    (folder / "cut.tar").write_bytes(tar_bytes([("k.jpg", bytes(300_000))])[:200_000])
    (folder / "readme.md").write_bytes(b"no tar")
    report = same_from_both(tmp_path, place, folder, "webdataset")
    assert (report.origins, report.payloads, report.ignored) == (24, 24, {"not_a_tar": 1})


def test_one_tar_may_be_the_whole_source(store: LocalStore, place: Place) -> None:
    place.fill({"a.tar": tar_bytes([("k.jpg", b"one")]), "a.tar.bak/x.jpg": b"x", "b.tar": b""})
    (report,) = run(store, place.source("in/a.tar")).batches
    assert (report.kind, report.origins, report.entries) == ("webdataset", 1, 1)
    assert rows(store)[0]["uri"] == f"s3://{place.bucket}/in/a.tar#k.jpg"


def test_a_tar_rewritten_since_its_listing_is_recorded_and_listed_anew(
    store: LocalStore, place: Place
) -> None:
    place.fill({"a.tar": tar_bytes([("k.jpg", b"before")])})
    (staged,) = stage(store, FIELDS, place.source("in/a.tar"), batch_size=9)
    place.fill({"a.tar": tar_bytes([("k.jpg", b"after it")])})
    report = land(store, FIELDS, staged.batch, max_bytes=CAP)
    assert report.unreadable_by_reason == {"changed": 1}
    run(store, place.source("in/a.tar"))
    assert [read_blob(store, row["sample_id"]) for row in rows(store)] == [b"after it"]


def test_a_prefix_is_a_folder_and_an_object_is_a_source_of_one(place: Place) -> None:
    place.fill({"pets/a.jpg": b"a", "petsitters.jpg": b"b", "pets2/c.jpg": b"c"})
    names = {
        below: sorted(place.name(e.uri) for e in place.source(below).entries(FIELDS))
        for below in ("in/pets", "in/pets/", "in/petsitters.jpg", "in/none", "")
    }
    assert names == {
        "in/pets": ["pets/a.jpg"],
        "in/pets/": ["pets/a.jpg"],
        "in/petsitters.jpg": ["petsitters.jpg"],
        "in/none": [],
        "": ["pets/a.jpg", "pets2/c.jpg", "petsitters.jpg"],
    }


def test_an_unchanged_prefix_stages_nothing_and_a_changed_object_alone_is_new(
    store: LocalStore, place: Place
) -> None:
    place.fill({"a.jpg": b"a", "a.txt": b"before", "b.jpg": b"b"})
    assert run(store, place.source()).totals["origins"] == 2
    again = run(store, place.source())
    assert (again.batches, again.unchanged) == ((), 2)
    place.fill({"b.jpg": b"b"})  # the same bytes: the same etag
    assert stage(store, FIELDS, place.source(), batch_size=9) == []
    place.fill({"a.txt": b"afterwards", "c.jpg": b"c"})
    (report,) = run(store, place.source()).batches
    assert (report.entries, report.new, report.known) == (2, 1, 1)
    captions = [
        json.loads(r["attributes"]).get("caption") for r in rows(store) if r["sample_id"] == digest(b"a")
    ]
    assert captions == ["before", "afterwards"]


def test_an_object_changed_or_deleted_since_its_listing_fails_nothing(
    store: LocalStore, place: Place
) -> None:
    place.fill({f"{name}.jpg": name.encode() for name in ("gone", "changed", "shrunk", "good")})
    place.fill({"good.txt": b"words", "gone.txt": b"words", "empty.jpg": b""})
    (staged,) = stage(store, FIELDS, place.source(), batch_size=9)
    for name in ("gone.jpg", "good.txt", "empty.jpg"):
        place.delete(name)
    place.fill({"changed.jpg": b"CHANGED", "shrunk.jpg": b""})
    report = land(store, FIELDS, staged.batch, max_bytes=CAP)
    assert {place.name(u.uri): u.reason for u in report.unreadable} == {
        "gone.jpg": "missing",
        "gone.txt": "sample_unreadable",
        "good.txt": "missing",
        "empty.jpg": "missing",
        "changed.jpg": "changed",
        "shrunk.jpg": "changed",
    }
    assert [place.name(row["uri"]) for row in rows(store)] == ["good.jpg"]
    assert run(store, place.source()).totals["origins"] == 4, "what changed since is listed anew"


def test_an_object_over_the_cap_is_digested_and_not_kept(store: LocalStore, place: Place) -> None:
    big = bytes(CAP) + b"x"
    place.fill({"big.jpg": big, "fits.jpg": bytes(CAP), "fits.latent.npy": big, "empty.jpg": b""})
    (report,) = run(store, place.source()).batches
    assert (report.samples, report.over_cap, report.unreadable_by_reason) == (3, 1, {"over_cap": 1})
    kept = {place.name(row["uri"]): (row["stored"], row["sample_id"]) for row in rows(store)}
    assert kept == {
        "big.jpg": (False, digest(big)),
        "fits.jpg": (True, digest(bytes(CAP))),
        "empty.jpg": (True, digest(b"")),
    }


STRANGE = [
    *("é 读/%20#frag?q=1.jpg", "new\nline.jpg", "tab\t.jpg", "\x01.jpg", "a b+c&d=e;f.jpg", "c:d*|<>.jpg"),
    *("back\\slash.jpg", "'\"`$(x).jpg", "~", "-rf", "x" * 240 + ".jpg", "no extension", "data-at-a-slash/"),
]


def test_keys_that_no_folder_would_hold_are_read_like_any_other(store: LocalStore, place: Place) -> None:
    place.fill({name: name.encode() for name in STRANGE} | {"sub/": b"", "sub/a.jpg": b"a"})
    (report,) = run(store, place.source()).batches
    assert (report.unreadable, report.ignored) == ((), {"folder_marker": 1})
    found = {place.name(row["uri"]): read_blob(store, row["sample_id"]) for row in rows(store)}
    assert found == {name: name.encode() for name in STRANGE} | {"sub/a.jpg": b"a"}
    assert all(row["uri"].isascii() and "\n" not in row["uri"] for row in rows(store))
    place.delete("\x01.jpg")  # no list of keys to delete can name it


def test_more_objects_than_a_page_of_the_listing_are_all_staged(store: LocalStore, place: Place) -> None:
    place.fill({f"{n % 7}/{n:04}.jpg": b"%d" % n for n in range(1060)})
    staged = stage(store, FIELDS, place.source(), batch_size=500)
    assert [item.entries for item in staged] == [500, 500, 60]
    batches = Batches(store)
    listed = [place.name(e.uri) for item in staged for e in batches.listing(item.batch).entries]
    assert sorted(listed) == sorted(f"{n % 7}/{n:04}.jpg" for n in range(1060))


@pytest.mark.parametrize("after", [False, True])
def test_killed_anywhere_and_repeated_the_store_ends_the_same(
    tmp_path: Path, place: Place, after: bool
) -> None:
    place.fill({f"{n}.jpg": b"%d" % (n % 5) for n in range(9)} | {"1.txt": b"one", "2.mask.png": b"m"})
    whole, torn = LocalStore(tmp_path / "whole"), LocalStore(tmp_path / "torn")
    run(whole, place.source(), 4)
    killed = 0
    for writes in (0, 4, 7):
        try:
            run(DyingStore(torn, writes, after), place.source(), 4)
        except Killed:
            killed += 1
    run(torn, place.source(), 4)
    assert killed > 1
    assert truth(torn) == truth(whole)
    assert Batches(torn).staged() == []


def test_a_store_below_the_prefix_is_no_source(place: Place) -> None:
    place.fill({"a.jpg": b"a", "project/store/blobs/x": b"x", "project/storeroom.jpg": b"s", "z.jpg": b"z"})
    found = list(place.source().entries(FIELDS, f"s3://{place.bucket}/in/project/store"))
    assert {place.name(e.uri): e.ignored for e in found} == {
        "a.jpg": "",
        "project/store": "own_store",
        "project/storeroom.jpg": "",
        "z.jpg": "",
    }
    for elsewhere in (f"s3://{place.bucket}x/in", "/in/project/store", f"s3://{place.bucket}/other"):
        assert not any(e.ignored for e in place.source().entries(FIELDS, elsewhere))


NAMES = st.sampled_from(
    ["a", "a.jpg", "a.txt", "a.mask.png", "b.jpg", ".h", "", "-", "é", "#%", "\n", "a.", ".."]
)
KEYS = st.sets(st.lists(NAMES, min_size=1, max_size=4).map("/".join).filter(bool), max_size=20)


@given(keys=KEYS, below=st.sampled_from(["", "in/", "a/.b/"]), empty=st.booleans())
def test_every_key_is_in_its_folder_once_or_ignored_with_what_it_is_in(
    keys: set[str], below: str, empty: bool
) -> None:
    size = 0 if empty else 3
    objects = [(key, Piece(object_uri("b", key), size, "e")) for key in sorted(below + k for k in keys)]
    seen: list[str] = []
    ignored: list[str] = []
    for found in folders("b", below, objects, None):
        if isinstance(found, Entry):
            assert bool(found.piece) != bool(found.ignored)
            (seen if found.piece else ignored).append(uri_object(found.uri)[1])
            continue
        own = [uri_object(piece.uri)[1] for piece in found.values()]
        assert [key.rpartition("/")[2] for key in own] == list(found)
        assert len({key[: len(key) - len(name)] for key, name in zip(own, found, strict=True)}) == 1
        seen += own
    assert len(seen) == len(set(seen))
    for key, _ in objects:
        hidden = any(part.startswith(".") for part in key.removeprefix(below).split("/"))
        marker = key.endswith("/") and empty
        assert (key in seen) == (not hidden and not marker)
        assert key in seen or any(key == i or key.startswith(f"{i}/") for i in ignored)
