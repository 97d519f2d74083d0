"""The corpus is what it says: real, credited, the same every time, broken exactly where it claims to be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from refinery.corpus import CorpusReport, build_corpus
from refinery.corpus.photographs import wallpapers
from refinery.digests import digest, digest_file


def everything(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        path.relative_to(folder).as_posix(): (digest_file(path), int(path.stat().st_mtime))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def luma(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    with Image.open(path) as picture:
        upright = ImageOps.exif_transpose(picture).convert("L").resize((32, 32), Image.Resampling.BOX)
    return np.asarray(upright, dtype=np.float64)


def test_made_twice_in_two_places_it_has_the_same_bytes_and_times(
    corpus: CorpusReport, tmp_path: Path
) -> None:
    again = build_corpus(tmp_path / "again", size="small")
    assert again.made
    assert again.files == corpus.files
    assert everything(again.folder) == everything(corpus.folder)


def test_making_it_again_writes_nothing(tmp_path: Path) -> None:
    first = build_corpus(tmp_path / "corpus", size="small")
    before = {path: path.stat().st_ino for path in first.folder.rglob("*")}
    again = build_corpus(tmp_path / "corpus", size="small")
    assert not again.made
    assert again.files == first.files
    assert {path: path.stat().st_ino for path in first.folder.rglob("*")} == before


def test_a_lost_or_changed_file_is_made_again_and_files_of_others_stay(tmp_path: Path) -> None:
    first = build_corpus(tmp_path / "corpus", size="small")
    intact = everything(first.folder)
    (first.folder / "blank/white.jpg").unlink()
    (first.folder / "写真/猫.jpg").write_bytes(b"changed")
    (first.folder / "mine.txt").write_text("a note of mine")
    assert build_corpus(tmp_path / "corpus", size="small").made
    assert (first.folder / "mine.txt").read_text() == "a note of mine"
    (first.folder / "mine.txt").unlink()
    assert everything(first.folder) == intact


def test_another_seed_makes_other_crops_of_the_same_photographs(corpus: CorpusReport, tmp_path: Path) -> None:
    other = build_corpus(tmp_path / "other", size="small", seed=1)
    for path, file in corpus.files.items():
        if file.kind == "photograph":
            assert other.files[path] == file
        if file.kind == "crop":
            assert other.files[path].sample_id != file.sample_id


def test_the_truth_beside_the_folder_says_what_the_report_says(corpus: CorpusReport) -> None:
    truth = json.loads(corpus.truth.read_bytes())
    assert corpus.truth.parent == corpus.folder.parent
    assert truth["files"].keys() == corpus.files.keys()
    for path, file in corpus.files.items():
        data = (corpus.folder / path).read_bytes()
        assert (file.sample_id, file.bytes) == (digest(data), len(data))


def test_pillow_reads_what_is_said_to_be_readable_and_nothing_that_is_not(corpus: CorpusReport) -> None:
    for path, file in corpus.files.items():
        if file.readable:
            with Image.open(corpus.folder / path) as picture:
                picture.load()
        elif file.readable is False:
            with (
                pytest.raises((OSError, Image.DecompressionBombError)),
                Image.open(corpus.folder / path) as picture,
            ):
                picture.load()


def test_planted_near_duplicates_look_alike(corpus: CorpusReport) -> None:
    planted = {path: file.near_duplicate_of for path, file in corpus.files.items() if file.near_duplicate_of}
    assert len(planted) >= 15
    for path, original in planted.items():
        assert original in corpus.files
        difference = np.abs(luma(corpus.folder / path) - luma(corpus.folder / original)).mean()
        assert difference < 8, path


def test_copies_are_the_same_sample_under_another_name(corpus: CorpusReport) -> None:
    copies = {path: file for path, file in corpus.files.items() if file.kind == "copy"}
    assert copies
    for path, file in copies.items():
        assert file.near_duplicate_of is not None
        assert file.near_duplicate_of != path
        assert corpus.files[file.near_duplicate_of].sample_id == file.sample_id
    others = [file.sample_id for file in corpus.files.values() if file.kind != "copy"]
    assert len(others) == len(set(others))


def test_every_photograph_is_credited_in_its_sidecar(corpus: CorpusReport) -> None:
    for path, file in corpus.files.items():
        if file.kind in ("photograph", "crop", "near_duplicate", "re_encoding", "mode"):
            credit = json.loads((corpus.folder / path).with_suffix(".json").read_bytes())
            assert credit["author"]
            assert credit["licence"]


def test_no_two_pictures_share_a_sidecar(corpus: CorpusReport) -> None:
    stems = [
        str(Path(path).with_suffix("")) for path, file in corpus.files.items() if file.readable is not False
    ]
    assert len(stems) == len(set(stems))


def test_masks_have_the_size_of_their_picture_and_two_values(corpus: CorpusReport) -> None:
    masked = [path for path, file in corpus.files.items() if file.mask]
    assert masked
    for path in masked:
        stem = str((corpus.folder / path).with_suffix(""))
        with Image.open(corpus.folder / path) as picture, Image.open(f"{stem}.mask.png") as mask:
            assert mask.size == picture.size
            assert set(mask.get_flattened_data()) == {0, 255}


def test_all_eight_orientations_are_displayed_alike(corpus: CorpusReport) -> None:
    folder = corpus.folder / "exif orientation"
    stored = set()
    for number in range(1, 9):
        with Image.open(folder / f"{number}.jpg") as picture:
            assert picture.getexif()[0x0112] == number
            stored.add(picture.tobytes())
        assert np.abs(luma(folder / f"{number}.jpg") - luma(folder / "1.jpg")).mean() < 2
    assert len(stored) == 8


def test_a_machine_without_wallpapers_has_a_smaller_corpus_and_is_told_so(tmp_path: Path) -> None:
    found, missing = wallpapers(tmp_path)
    assert found == []
    assert missing == ["gnome-backgrounds", "mate-backgrounds", "plasma-workspace-wallpapers"]


def test_names_are_nested_spaced_and_of_several_scripts(corpus: CorpusReport) -> None:
    names = set(corpus.files)
    assert any(" " in name for name in names)
    assert any(not name.isascii() for name in names)
    assert any(name.count("/") >= 6 for name in names)
    assert any("." not in Path(name).name for name in names)
    assert "odd names/e\u0301te\u0301 (1).jpg" in names
