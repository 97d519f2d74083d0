"""For any tree and any kill: every file is accounted for, once, and the end is the same."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from refinery.batches import Batches, manifest_key
from refinery.blobs import read_blob
from refinery.fields import Field, Fields, FieldType
from refinery.ingest import ingest
from refinery.sources import open_source
from refinery.sources.uris import uri_path
from refinery.store import ObjectInfo
from refinery.store.local import LocalStore

FIELDS = Fields([Field("caption", FieldType.TEXT), Field("score", FieldType.NUMBER)])

STEMS = st.sampled_from(["a", "b", "a.b", "é", "x y", ".h"]) | st.binary(min_size=1, max_size=8).map(
    lambda raw: os.fsdecode(raw.replace(b"/", b"_").replace(b"\0", b"_"))
)
ENDINGS = [
    "",
    ".jpg",
    ".JPG",
    ".png",
    ".txt",
    ".json",
    ".jpg.txt",
    ".mask.png",
    ".seg.webp",
    ".lat.npy",
    ".npz",
    ".md",
]
FOLDERS = st.lists(st.sampled_from(["d", "ö", "s p", ".git", "e.jpg"]), max_size=3).map("/".join)
CONTENTS = st.sampled_from(
    [b"", b"{}", b'{"score": 1, "x": [NaN]}', b'{"caption": 3}', b"\xff\xfe", b"[", b"same"]
) | (st.binary(max_size=40))
TREES = st.dictionaries(st.tuples(FOLDERS, STEMS, st.sampled_from(ENDINGS)), CONTENTS, max_size=14)
Tree = dict[tuple[str, str, str], bytes]


class Killed(Exception):
    pass


class DyingStore:
    """A store that dies at its n-th write, before or after the write took effect."""

    def __init__(self, store: LocalStore, writes: int, after: bool) -> None:
        self._store, self._left, self._after = store, writes, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return self._store.list(prefix)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self._left -= 1
        if self._left < 0 and not self._after:
            raise Killed
        done = self._store.put_if_absent(key, data)
        if self._left < 0:
            raise Killed
        return done


def build(root: Path, tree: Tree) -> None:
    root.mkdir()
    for (folder, stem, ending), data in tree.items():
        path = root / folder / (stem + ending)
        if path.name in (".", "..") or path.exists() or any(p.is_file() for p in path.parents):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def run(store: Any, root: Path, size: int) -> None:
    ingest(store, FIELDS, open_source(root, name="s", kind="folder"), batch_size=size, max_bytes=30)


def truth(store: LocalStore) -> dict[str, bytes]:
    """Every object's bytes by key, but for batch.json, which has a clock and counts what was new in it."""
    return {info.key: store.get(info.key) for info in store.list("") if not info.key.endswith("/batch.json")}


@settings(max_examples=35, deadline=None)
@given(tree=TREES, size=st.integers(1, 6))
def test_every_file_of_any_tree_is_accounted_for_exactly_by_its_role(tree: Tree, size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, store = Path(folder, "in"), LocalStore(Path(folder, "store"))
        build(root, tree)
        run(store, root, size)
        batches = Batches(store)
        assert batches.staged() == []
        places: dict[str, str] = {}
        for batch in batches.landed():
            report = batches.info(batch)
            lost = {u.uri for u in report.unreadable}
            assert report.entries - report.origins <= len(lost)
            ignored = 0
            for entry in batches.listing(batch).entries:
                pieces = [*entry.sidecars, *(payload.piece for payload in entry.payloads)]
                ignored += bool(entry.ignored)
                places[uri_path(entry.uri)] = "ignored" if entry.ignored else "sample"
                places.update((uri_path(piece.uri), "attached") for piece in pieces)
            assert ignored == sum(report.ignored.values())
        files = {str(p) for p in root.rglob("*") if p.is_file()}
        hidden = {p for p in files if any(part.startswith(".") for part in Path(p).relative_to(root).parts)}
        if any(role == "sample" for role in places.values()):
            assert files - hidden <= set(places)
            assert {p for p, role in places.items() if role == "ignored"} <= {
                str(q) for q in root.rglob("*") if q.name.startswith(".")
            }
        else:
            assert files == hidden
        seen = batches.origins()
        assert sorted(map(uri_path, seen["uri"].to_pylist())) == sorted(
            path for path, role in places.items() if role == "sample"
        )
        for row in seen.to_pylist():
            data = Path(uri_path(row["uri"])).read_bytes()
            assert row["bytes"] == len(data)
            assert row["stored"] == (len(data) <= 30)
            assert not row["stored"] or read_blob(store, row["sample_id"]) == data


@settings(max_examples=35, deadline=None)
@given(
    tree=TREES,
    size=st.integers(1, 6),
    kills=st.lists(st.tuples(st.integers(0, 25), st.booleans()), max_size=3),
)
def test_killed_anywhere_and_repeated_the_store_ends_the_same(
    tree: Tree, size: int, kills: list[tuple[int, bool]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "in")
        build(root, tree)
        whole, torn = LocalStore(Path(folder, "whole")), LocalStore(Path(folder, "torn"))
        run(whole, root, size)
        run(whole, root, size)
        for writes, after in kills:
            try:
                run(DyingStore(torn, writes, after), root, size)
            except Killed:
                continue
        run(torn, root, size)
        assert truth(torn) == truth(whole)
        batches = Batches(torn)
        assert sorted(batches.landed()) == sorted(Batches(whole).landed())
        for batch in batches.landed():
            mine, other = batches.info(batch), Batches(whole).info(batch)
            assert (mine.origins, mine.samples, mine.unreadable, mine.aside) == (
                other.origins,
                other.samples,
                other.unreadable,
                other.aside,
            )
            assert mine.new + mine.known + mine.over_cap == mine.samples


def test_two_that_ingest_the_same_source_at_once_end_as_one(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    root = tmp_path / "in"
    root.mkdir()
    for n in range(60):
        (root / f"{n}.jpg").write_bytes(b"%d" % (n // 2))
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: run(LocalStore(tmp_path / "store"), root, 7), range(3)))
    store = LocalStore(tmp_path / "store")
    batches = Batches(store)
    assert batches.staged() == []
    assert sorted(batches.origins()["uri"].to_pylist()) == sorted(f"file://{root}/{n}.jpg" for n in range(60))
    assert all(store.exists(manifest_key(batch)) for batch in batches.landed())
