"""The folder source: which files are samples, which belong to one, and that none is lost."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from refinery.errors import InputError
from refinery.fields import Fields
from refinery.sources import Entry, guess_kind, open_source
from refinery.sources.uris import member_uri, path_uri, uri_name, uri_path


def write(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode("utf-8", "surrogateescape"))


def listed(root: Path, skip: str | None = None) -> dict[str, Entry]:
    """Entries by path relative to `root`."""
    entries = list(open_source(root, name="s", kind="folder").entries(Fields(), skip))
    found = {os.path.relpath(uri_path(entry.uri), root): entry for entry in entries}
    assert len(found) == len(entries)
    return found


def samples(root: Path) -> list[str]:
    return [name for name, entry in listed(root).items() if entry.piece]


def payloads(entry: Entry) -> list[tuple[str, bool, str]]:
    return [(p.name, p.is_mask, uri_name(p.piece.uri)) for p in entry.payloads]


def test_every_file_at_any_depth_is_a_sample_image_or_not(tmp_path: Path) -> None:
    names = [
        "a.jpg",
        "b/c d/é.png",
        "b/c d/读.webp",
        "b/notes.pdf",
        "b/no_extension",
        "-rf",
        "x;y|z.gif",
        "100%.jpg",
    ]
    write(tmp_path, *names, "/".join(["deep"] * 60) + "/z.jpg")
    assert sorted(samples(tmp_path)) == sorted([*names, "/".join(["deep"] * 60) + "/z.jpg"])


def test_names_that_are_not_utf8_have_a_uri_that_leads_back_to_their_bytes(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \xff.jpg")
    write(tmp_path, name)
    (entry,) = listed(tmp_path).values()
    assert entry.uri.isascii()
    assert Path(uri_path(entry.uri)).read_bytes() == b"caf\xe9 \xff.jpg"
    assert uri_name(entry.uri) == "caf\ufffd \ufffd.jpg"


@pytest.mark.parametrize("path", ["/a b/c#d?e%20.jpg", "/é/\udcff.png", "/x:y;z"])
def test_a_uri_is_reversible_with_and_without_a_member(path: str) -> None:
    assert uri_path(path_uri(path)) == path
    assert uri_path(member_uri(path_uri(path), "k#1.jpg")) == path
    assert uri_name(member_uri(path_uri(path), "d/k#1.jpg")) == "k#1.jpg"


@pytest.mark.parametrize("uri", ["https://example.org/a.jpg", "a.jpg", "file:a", "file://host/a.jpg"])
def test_what_is_no_absolute_file_uri_has_no_path(uri: str) -> None:
    with pytest.raises(ValueError, match="file URI"):
        uri_path(uri)


def test_sidecars_belong_to_the_images_of_their_stem(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", "a.png", "a.txt", "a.png.json", "b.JPG", "b.TXT", "sub/a.json")
    found = listed(tmp_path)
    assert [uri_name(p.uri) for p in found["a.jpg"].sidecars] == ["a.txt"]
    assert [uri_name(p.uri) for p in found["a.png"].sidecars] == ["a.txt", "a.png.json"]
    assert [uri_name(p.uri) for p in found["b.JPG"].sidecars] == ["b.TXT"]
    assert sorted(found) == ["a.jpg", "a.png", "b.JPG", "sub/a.json"]


def test_masks_and_tensors_beside_an_image_are_its_payloads(tmp_path: Path) -> None:
    write(
        tmp_path,
        "a.jpg",
        "a.mask.png",
        "a.seg.PNG",
        "a.latent.npy",
        "a.vae.safetensors",
        "a.npz",
        "a.mask.npy",
    )
    (entry,) = listed(tmp_path).values()
    assert sorted(payloads(entry)) == [
        ("latent", False, "a.latent.npy"),
        ("mask", True, "a.mask.png"),
        ("mask.npy", True, "a.mask.npy"),
        ("npz", False, "a.npz"),
        ("seg", True, "a.seg.PNG"),
        ("vae", False, "a.vae.safetensors"),
    ]


def test_what_has_no_image_of_its_stem_is_a_sample_itself(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "b.json", "c.mask.png", "d.latent.npy", "e.v2.jpg", "readme.md")
    assert sorted(samples(tmp_path)) == [
        "a.txt",
        "b.json",
        "c.mask.png",
        "d.latent.npy",
        "e.v2.jpg",
        "readme.md",
    ]


def test_hidden_files_and_linked_folders_are_ignored_and_named(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", ".DS_Store", ".git/config", "sub/.x")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    ignored = {name: entry.ignored for name, entry in listed(tmp_path).items() if entry.ignored}
    assert ignored == {".DS_Store": "hidden", ".git": "hidden", "sub/.x": "hidden", "loop": "folder_link"}


def test_a_linked_file_is_read_and_a_broken_link_has_its_reason(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg")
    (tmp_path / "b.jpg").symlink_to(tmp_path / "a.jpg")
    (tmp_path / "c.jpg").symlink_to(tmp_path / "none")
    (tmp_path / "d.jpg").symlink_to(tmp_path / "d.jpg")
    found = listed(tmp_path)
    assert found["b.jpg"].piece
    assert [found["c.jpg"].unreadable, found["d.jpg"].unreadable] == ["broken_link", "broken_link"]


def test_what_is_no_file_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "s.jpg"))
        (tmp_path / "null.jpg").symlink_to("/dev/null")
        found = listed(tmp_path)
    assert {entry.unreadable for entry in found.values()} == {"not_regular"}
    assert "FIFO" in found["pipe.jpg"].detail
    assert "socket" in found["s.jpg"].detail
    assert "character device" in found["null.jpg"].detail


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_this_user_may_not_read_has_its_reason(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", "sub/b.jpg")
    (tmp_path / "a.jpg").chmod(0)
    (tmp_path / "sub").chmod(0)
    try:
        found = listed(tmp_path)
    finally:
        (tmp_path / "sub").chmod(0o755)
    assert [found["a.jpg"].unreadable, found["sub"].unreadable] == ["permission_denied", "permission_denied"]


def test_the_store_itself_is_never_a_source(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", "project/store/blobs/x")
    found = listed(tmp_path, skip=str(tmp_path / "project" / "store"))
    assert found["project/store"].ignored == "own_store"
    assert sorted(found) == ["a.jpg", "project/store"]


def test_listing_order_does_not_depend_on_the_directory_order(tmp_path: Path) -> None:
    write(tmp_path / "1", "b.jpg", "a.jpg", "c/d.jpg", "c.jpg")
    write(tmp_path / "2", "c.jpg", "c/d.jpg", "a.jpg", "b.jpg")
    assert (
        list(listed(tmp_path / "1")) == list(listed(tmp_path / "2")) == ["a.jpg", "b.jpg", "c.jpg", "c/d.jpg"]
    )


def test_a_source_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        open_source(tmp_path / "none", name="s")
    assert caught.value.kind == "no_such_source"


@pytest.mark.parametrize("name", ["", "A", "a b", "-a", "a/b", "é", "a" * 42, "a,b"])
def test_a_source_name_that_could_not_be_a_partition_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError) as caught:
        open_source(tmp_path, name=name)
    assert caught.value.kind == "bad_source_name"


def test_an_unknown_kind_of_source_is_refused_with_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Did you mean 'folder'") as caught:
        open_source(tmp_path, name="s", kind="foldr")
    assert caught.value.kind == "bad_source_kind"


def test_the_kind_of_a_source_is_guessed_from_what_it_is(tmp_path: Path) -> None:
    write(
        tmp_path,
        "tars/a.tar",
        "tars/b.tar.gz",
        "tars/.hidden",
        "m.csv",
        "m.parquet",
        "mixed/a.tar",
        "mixed/a.jpg",
    )
    (tmp_path / "empty").mkdir()
    kinds = {
        name: guess_kind(tmp_path / name)
        for name in ["tars", "tars/a.tar", "m.csv", "m.parquet", "mixed", "empty"]
    }
    assert kinds == {
        "tars": "webdataset",
        "tars/a.tar": "webdataset",
        "m.csv": "manifest",
        "m.parquet": "manifest",
        "mixed": "folder",
        "empty": "folder",
    }
