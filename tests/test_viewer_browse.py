"""Browse: likeness to samples, words, pictures and vectors that somebody brings, orders and page sizes."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refinery.blobs import read_blob
from refinery.errors import InputError, TransientError
from refinery.project import Refinery
from refinery.search import vector_of
from refinery.vectors import vector_from_link, vector_to_link
from tests.test_viewer_app import click, desks, link, run, shown, words
from ui.core import DENSITIES, Screen, Viewer


@pytest.fixture(scope="module")
def viewer(refined_folder: Path) -> Viewer:
    return Viewer.open(refined_folder, read_only=True)


def first(viewer: Viewer, where: str) -> str:
    return viewer.browse(Screen(where=where)).hits[0].sample_id


def ids(viewer: Viewer, screen: Screen) -> list[str]:
    return [hit.sample_id for hit in viewer.browse(screen).hits]


def npy(array: object) -> bytes:
    out = io.BytesIO()
    np.save(out, np.asarray(array))
    return out.getvalue()


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=64).filter(lambda v: any(abs(x) > 1e-6 for x in v))
)
@settings(deadline=None)
def test_a_vector_has_its_direction_after_the_way_through_a_link(vector: list[float]) -> None:
    found = np.array(vector_from_link(vector_to_link(tuple(vector))))
    given_ = np.array(vector)
    assert found.shape == given_.shape
    assert found @ given_ / np.linalg.norm(found) / np.linalg.norm(given_) > 0.9999


@pytest.mark.parametrize("vector", [(), (0.0, 0.0), (float("nan"),), (float("inf"), 1.0)])
def test_a_vector_without_a_direction_makes_no_link(vector: tuple[float, ...]) -> None:
    with pytest.raises(InputError) as error:
        vector_to_link(vector)
    assert error.value.kind == "bad_vector"


NAN = base64.urlsafe_b64encode(np.array([np.nan], "<f2").tobytes()).decode()
LONG = base64.urlsafe_b64encode(np.ones(8193, "<f2").tobytes()).decode()


@pytest.mark.parametrize("text", ["x", "AAA", "é", "A" * 5, "====", "AA AA", "\x00", NAN, LONG, "'; DROP"])
def test_a_damaged_vector_in_a_link_is_said_on_the_page(
    viewer: Viewer, monkeypatch: pytest.MonkeyPatch, refined_folder: Path, text: str
) -> None:
    with pytest.raises(InputError) as error:
        viewer.browse(Screen(vector=text))
    assert error.value.kind in ("bad_vector", "bad_query")
    if text == "x":
        app = run(monkeypatch, refined_folder, vector=text)
        assert "in the link is no vector" in words(app)
        assert link(click(app, "Start anew")) == {}


def test_a_vector_of_other_dimensions_is_refused(viewer: Viewer) -> None:
    with pytest.raises(InputError):
        viewer.browse(Screen(vector=vector_to_link((1.0, 2.0, 3.0))))


def test_a_picture_that_somebody_brings_finds_what_the_sample_itself_finds(viewer: Viewer) -> None:
    sample = first(viewer, "verdict = 'gold' AND format = 'jpeg'")
    near = ids(viewer, Screen(like=sample))
    own = vector_of(viewer.project.index, sample)
    brought = {
        "photo.JPG": read_blob(viewer.project.store, sample),
        "vector.npy": npy(own),
        "VECTOR.NPY": npy(np.array(own, np.float32) * 1e6),
        "vector.json": json.dumps(list(own)).encode(),
    }
    for name, data in brought.items():
        found = ids(viewer, Screen(vector=viewer.vector_of_upload(data, name)))
        assert found[0] == sample, name
        assert found[1:8] == near[:7], name


DEEP = b"[" * 100_000 + b"]" * 100_000
HEADER = b"\x93NUMPY\x01\x00"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.npy", b""),
        ("a.npy", b"PK\x03\x04"),
        ("a.npy", HEADER + b"\x05\x00(((((\n"),
        ("a.npy", HEADER + b"\x76\x00" + b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999,), }".ljust(117) + b"\n"),
        ("a.npy", npy(np.zeros(9000))),
        ("a.npy", npy(["a"])),
        ("a.json", DEEP),
        ("a.json", b"{}"),
        ("a.json", b"[]"),
        ("a.json", b"[1, [2]]"),
        ("a.json", b"\xff"),
        ("a.json", b"[1e999]"),
        ("a.json", b"[NaN]"),
        ("a.json", b'["x"]'),
        ("a.png", b""),
        ("a.png", b"no picture"),
        ("a", b"<svg onload=window.hacked=1>"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_picture_and_no_vector_is_refused_in_words(
    viewer: Viewer, name: str, data: bytes
) -> None:
    with pytest.raises(InputError) as error:
        viewer.vector_of_upload(data, name)
    assert len(str(error.value)) < 600


def test_an_archive_of_arrays_and_a_pickle_are_no_vector(viewer: Viewer) -> None:
    archive, pickled = io.BytesIO(), io.BytesIO()
    np.savez(archive, np.ones(3))
    np.save(pickled, np.array([{}], dtype=object), allow_pickle=True)
    for data in (archive.getvalue(), pickled.getvalue()):
        with pytest.raises(InputError) as error:
            viewer.vector_of_upload(data, "a.npy")
        assert error.value.kind == "bad_vector_file"


def test_a_picture_is_brought_to_the_page_and_let_go_of_again(
    monkeypatch: pytest.MonkeyPatch, refined_folder: Path, viewer: Viewer
) -> None:
    sample = first(viewer, "verdict = 'gold' AND format = 'jpeg'")
    app = run(monkeypatch, refined_folder)
    (upload,) = app.get("file_uploader")
    app = shown(upload.set_value(("a.jpg", read_blob(viewer.project.store, sample), "image/jpeg")).run())
    assert set(link(app)) == {"vector"}
    assert desks(app)[0]["groups"][0]["tiles"][0]["id"] == sample
    app = shown(app.get("file_uploader")[0].set_value(("a.jpg", b"no picture", "image/jpeg")).run())
    assert "a.jpg is no picture that can be decoded" in words(app)
    assert link(click(app, "Without the picture")) == {}


def test_meaning_without_a_model_that_reads_is_refused_on_the_page(
    monkeypatch: pytest.MonkeyPatch, refined_folder: Path
) -> None:
    app = run(monkeypatch, refined_folder, meaning="a cat")
    assert "has no text tower" in words(app)
    app = shown(app.text_input(key="screen-meaning").set_value("").run())
    assert link(app) == {}
    assert desks(app)


def test_a_sort_goes_both_ways_and_those_without_a_value_come_last(viewer: Viewer) -> None:
    screen = Screen(where="width IS NOT NULL", sort="width")

    def widths(screen: Screen) -> list[int]:
        found, cursor = [], ""
        while True:
            page = viewer.browse(screen.change(cursor=cursor))
            found += [hit.document["width"] for hit in page.hits]
            if page.cursor is None:
                return found
            cursor = page.cursor

    up, down = widths(screen), widths(screen.change(sort="-width"))
    assert up == sorted(up)
    assert down == up[::-1]
    assert len(set(up)) > 2
    for sort in ("width", "-width"):
        everything = widths(Screen(sort=sort))
        assert everything[: len(up)] == (up if sort == "width" else down)
        assert set(everything[len(up) :]) == {None}


@pytest.mark.parametrize("density", [*DENSITIES, "nonsense"])
def test_a_page_has_as_many_samples_as_its_density_says(viewer: Viewer, density: str) -> None:
    found = viewer.browse(Screen(density=density))
    size = DENSITIES.get(density, DENSITIES[""])
    assert len(found.hits) == min(size, found.selected)
    assert (found.cursor is None) == (found.selected <= size)


def test_words_and_likeness_together_order_what_either_alone_would_find(viewer: Viewer) -> None:
    captioned = viewer.browse(Screen(where="caption IS NOT NULL")).hits
    word = str(captioned[0].document["caption"]).split()[0]
    sample = captioned[-1].sample_id
    both = viewer.browse(Screen(words=word, like=sample))
    assert sample not in {hit.sample_id for hit in both.hits}
    scores = [hit.score or 0 for hit in both.hits]
    assert scores == sorted(scores, reverse=True)
    alone = set(ids(viewer, Screen(words=word))) - {sample}
    assert alone & {hit.sample_id for hit in both.hits[: len(alone) + 3]}


def test_two_likenesses_and_a_sort_do_not_go_together(viewer: Viewer) -> None:
    sample = first(viewer, "verdict = 'gold'")
    with pytest.raises(InputError):
        viewer.browse(Screen(like=sample, sort="width"))
    with pytest.raises(InputError):
        viewer.browse(Screen(seed=3, sort="width"))


def test_no_view_keeps_a_lasso_a_likeness_or_chance(refined: Path) -> None:
    viewer = Viewer.open(refined)
    sample = first(viewer, "verdict = 'gold'")
    square = "0,0;9,0;9,9"
    for screen in (
        Screen(lasso=square), Screen(like=sample), Screen(meaning="a"), Screen(vector="AAA"), Screen(seed=0)
    ):  # fmt: skip
        with pytest.raises(InputError) as error:
            viewer.save_view(screen, "a", "ana")
        assert error.value.kind == "bad_query"
    assert viewer.project.views.all() == []


def test_a_store_that_does_not_answer_is_said_on_the_page(
    monkeypatch: pytest.MonkeyPatch, refined_folder: Path
) -> None:
    def down(*_: object) -> None:
        raise TransientError("The store did not answer. Try again.", kind="unreachable")

    app = run(monkeypatch, refined_folder)
    with monkeypatch.context() as cut:
        cut.setattr(Refinery, "status", down)
        app = shown(app.run())
        assert "The store did not answer. Try again." in words(app)
    app = click(app, "Try again")
    assert desks(app)


def test_a_cursor_of_thousands_of_digits_is_no_number() -> None:
    assert Screen(cursor="9" * 5000).start == Screen(cursor="-1").start == Screen(cursor="٣").start == 0
    assert Screen(cursor="24").start == 24
