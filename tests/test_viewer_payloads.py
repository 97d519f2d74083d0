"""Payloads in the viewer: masks as an overlay, arrays as figures, and what is never opened."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from safetensors.numpy import save as save_tensors
from streamlit.testing.v1 import AppTest

from refinery.arrays import npy_array
from refinery.blobs import blob_path, put_bytes
from refinery.corpus import CorpusReport
from refinery.errors import InputError
from refinery.ingest import ingest
from refinery.project import Refinery
from refinery.sources import open_source
from tests.test_viewer_app import run, shown, tab, words
from ui.core import Viewer, payloads
from ui.core.payloads import ArrayFigures, Payload, figures, overlay


@pytest.fixture
def project(tmp_path: Path) -> Refinery:
    return Refinery.create(tmp_path / "project", "embedder: {kind: efficientnet_lite0}\n")


def kept(project: Refinery, data: bytes, extension: str, *, mask: bool = False) -> Payload:
    """A payload whose bytes the project has."""
    return Payload("it", put_bytes(project.store, data).digest, len(data), extension, mask)


def png(image: npt.NDArray[Any]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


def npy(array: npt.NDArray[Any], **more: bool) -> bytes:
    out = io.BytesIO()
    np.save(out, array, **more)
    return out.getvalue()


def npz(**parts: npt.NDArray[Any]) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, **parts)
    return out.getvalue()


def drawn(project: Refinery, image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """The overlay of a mask, (height, width, 4)."""
    found = overlay(project, kept(project, png(image), "png", mask=True))
    assert found is not None
    picture = Image.open(io.BytesIO(found))
    assert (picture.format, picture.mode) == ("PNG", "RGBA")
    return np.asarray(picture)


def test_a_mask_is_clear_where_it_is_zero_and_each_other_value_has_its_colour(project: Refinery) -> None:
    mask = np.repeat(np.arange(8, dtype=np.uint8)[:, None], 12, axis=1)
    found = drawn(project, mask)
    assert found.shape == (8, 12, 4)
    assert (found[0] == 0).all()
    assert (found[1:, :, 3] == 255).all()
    assert len({tuple(row[0]) for row in found}) == 8
    assert all((row == row[0]).all() for row in found)


def test_masks_of_colours_and_of_nothing_are_drawn(project: Refinery) -> None:
    colours = np.array([[[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 1]]], np.uint8)
    found = drawn(project, colours)
    assert found[0, :, 3].tolist() == [0, 255, 255, 255]
    assert len({tuple(pixel) for pixel in found[0].tolist()}) == 4
    assert not drawn(project, np.zeros((3, 5), np.uint8)).any()


def test_a_large_mask_shrinks_without_new_shades(project: Refinery) -> None:
    mask = np.zeros((1000, 4001), np.uint8)
    mask[:, 2000:] = 9
    found = drawn(project, mask)
    assert max(found.shape[:2]) <= 1600
    assert found.shape[1] / found.shape[0] == pytest.approx(4, abs=0.02)
    assert len({tuple(pixel) for pixel in found[0].tolist()}) == 2


@pytest.mark.parametrize(
    "data", [b"", b"no picture", b"<svg onload=window.hacked=1>", png(np.ones((9, 9), np.uint8))[:-30]]
)
def test_a_mask_that_cannot_be_decoded_is_not_drawn(project: Refinery, data: bytes) -> None:
    assert overlay(project, kept(project, data, "png", mask=True)) is None


def test_a_payload_whose_bytes_are_gone_or_too_many_is_not_opened(
    project: Refinery, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Payload("it", "0" * 64, 10, "npy", False)
    assert overlay(project, gone) is None
    with pytest.raises(InputError) as error:
        figures(project, gone)
    assert error.value.kind == "no_such_object"
    monkeypatch.setattr(payloads, "_LARGEST", 100)
    large = kept(project, npy(np.ones(100)), "npy")
    for opens in (figures, overlay):
        with pytest.raises(InputError) as error:
            opens(project, large)
        assert error.value.kind == "too_large"


def test_figures_are_of_the_finite_numbers(project: Refinery) -> None:
    array = np.array([[1.0, np.nan], [3.0, -np.inf]], np.float16)
    assert figures(project, kept(project, npy(array), "npy")) == [
        ArrayFigures("", (2, 2), "float16", 0.5, 1.0, 3.0, 2.0, 1.0)
    ]
    nothing = figures(project, kept(project, npy(np.full(3, np.nan)), "NPY"))
    assert nothing == [ArrayFigures("", (3,), "float64", 0.0, None, None, None, None)]
    assert figures(project, kept(project, npy(np.zeros((0, 4))), "npy"))[0].shape == (0, 4)
    assert figures(project, kept(project, npy(np.array(True)), "npy"))[0].mean == 1.0
    assert figures(project, kept(project, npy(np.array(["a", "b"])), "npy"))[0].least is None


@settings(deadline=None)
@given(
    arrays.arrays(np.float32, st.integers(1, 40), elements=st.floats(-1e3, 1e3, width=32)), st.integers(1, 7)
)
def test_figures_are_the_same_however_they_are_cut(array: npt.NDArray[np.float32], block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(payloads, "_BLOCK", block)
        found = payloads._figures("", array)
    numbers = array.astype(np.float64)
    assert (found.least, found.greatest) == (numbers.min(), numbers.max())
    assert found.mean == pytest.approx(numbers.mean(), abs=1e-9)
    assert found.deviation == pytest.approx(numbers.std(), abs=1e-6)


def test_every_array_of_an_archive_and_of_tensors_is_told_of(project: Refinery) -> None:
    parts = {"b": np.arange(6).reshape(2, 3), "a": np.ones(2, np.float32)}
    for data, extension in ((npz(**parts), "npz"), (save_tensors(parts), "safetensors")):
        found = {f.name: (f.shape, f.dtype, f.mean) for f in figures(project, kept(project, data, extension))}
        assert list(found) == ["a", "b"]
        assert found == {"a": ((2,), "float32", 1.0), "b": ((2, 3), "int64", 2.5)}


class Opened:
    """What would leave a trace if it were unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.trace,)


def test_pickles_are_never_opened(project: Refinery, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    objects = np.array([Opened(trace)], dtype=object)
    pickled = pickle.dumps(Opened(trace))
    inside = io.BytesIO()
    with zipfile.ZipFile(inside, "w") as archive:
        archive.writestr("a.npy", pickled)
    for data, extension in (
        (npy(objects, allow_pickle=True), "npy"),
        (npz(a=objects), "npz"),
        (pickled, "npy"),
        (pickled, "npz"),
        (pickled, "safetensors"),
        (inside.getvalue(), "npz"),
        (pickled, "pt"),
        (pickled, "pkl"),
    ):
        with pytest.raises(InputError):
            figures(project, kept(project, data, extension))
    assert not trace.exists()
    pickle.loads(pickled)  # noqa: S301
    assert trace.exists()


def test_a_file_of_another_kind_is_refused_with_the_kinds_that_are_opened(project: Refinery) -> None:
    with pytest.raises(InputError, match=r"is a \.pt file: only npy, npz, safetensors are opened") as error:
        figures(project, kept(project, b"x", "pt"))
    assert error.value.kind == "no_array"


def test_an_archive_that_claims_or_holds_too_much_is_refused(
    project: Refinery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payloads, "_LARGEST", 1 << 20)
    bomb = npz(a=np.zeros(1 << 20))
    assert len(bomb) < 1 << 15
    with pytest.raises(InputError, match=r"its arrays have 8,388,\d+ bytes"):
        figures(project, kept(project, bomb, "npz"))
    small = npz(a=np.zeros(1 << 20))
    size = (8 << 20) + 128
    lying = small.replace(size.to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    assert lying != small
    with pytest.raises(InputError):
        figures(project, kept(project, lying, "npz"))


HEADER = b"\x93NUMPY\x01\x00"


def headed(words_: bytes) -> bytes:
    return HEADER + (len(words_) + 1).to_bytes(2, "little") + words_ + b"\n"


CLAIM = b"{'descr': '<f8', 'fortran_order': False, 'shape': (%d,), }"
ARCHIVE = npz(a=np.ones(3))


@pytest.mark.parametrize(
    ("data", "extension"),
    [
        (b"", "npy"),
        (ARCHIVE, "npy"),
        (headed(b"((((("), "npy"),
        (headed(b"'''"), "npy"),
        (headed(b"-" * 5000), "npy"),
        (headed(b"[" * 5000), "npy"),
        (headed(CLAIM % 10**14), "npy"),
        (headed(CLAIM % 10**30), "npy"),
        (headed(CLAIM % -1), "npy"),
        (b"", "npz"),
        (ARCHIVE[:-40], "npz"),
        (ARCHIVE.replace(b"\x08\x00", b"\x63\x00"), "npz"),
        (ARCHIVE[:40] + b"\xff" * 20 + ARCHIVE[60:], "npz"),
        (b"", "safetensors"),
        (b"\xff" * 8 + b"{}", "safetensors"),
        (save_tensors({"a": np.ones(9)})[:-4], "safetensors"),
        (b'\x02\x00\x00\x00\x00\x00\x00\x00{}' + b"x" * 9, "safetensors"),
    ],
)  # fmt: skip
def test_a_damaged_array_is_refused_shortly(project: Refinery, data: bytes, extension: str) -> None:
    with pytest.raises(InputError) as error:
        figures(project, kept(project, data, extension))
    assert error.value.kind == "bad_array"
    assert len(str(error.value)) < 400


def test_an_archive_in_an_archive_is_no_array(project: Refinery) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("inner.npy", ARCHIVE)
    with pytest.raises(InputError, match="holds no arrays"):
        figures(project, kept(project, out.getvalue(), "npz"))


@given(st.binary(max_size=200), st.booleans())
@settings(deadline=None)
def test_any_bytes_are_an_array_or_one_error(data: bytes, headed_: bool) -> None:
    with suppress(ValueError):
        npy_array(headed(data) if headed_ else data)


# On the sample's page


@pytest.fixture
def page(
    monkeypatch: pytest.MonkeyPatch, corpus: CorpusReport, project: Refinery, tmp_path: Path
) -> tuple[AppTest, Refinery]:
    """The page of a sample with a mask and several other payloads."""
    from assets.run import run as refine

    name = next(n for n, truth in corpus.files.items() if truth.mask)
    stem, folder = Path(name).stem, tmp_path / "pictures"
    folder.mkdir()
    for found in (corpus.folder / name).parent.glob(f"{stem}.*"):
        (folder / found.name).write_bytes(found.read_bytes())
    (folder / f"{stem}.latent.npy").write_bytes(npy(np.array([1.0, np.nan, 3.0])))
    (folder / f"{stem}.extra.npz").write_bytes(npz(a=np.ones(2)))
    source = open_source(folder, name="photographs", kind="folder")
    ingest(project.store, project.fields, source, batch_size=50, max_bytes=project.settings.inspect.max_bytes)
    refine(project)
    app = run(monkeypatch, project.path, sample=corpus.files[name].sample_id)
    return tab(app, "Payloads"), project


def pictures(app: AppTest) -> dict[str, Any]:
    (found,) = [
        json.loads(e.proto.json)
        for e in app.get("bidi_component")
        if e.proto.component_name == "refinery_picture"
    ]
    return dict(found)


def test_the_page_of_a_sample_shows_its_mask_and_the_figures_of_its_arrays(
    monkeypatch: pytest.MonkeyPatch, page: tuple[AppTest, Refinery]
) -> None:
    app, project = page
    ((mask,),) = [pictures(app)["masks"]]
    assert mask["image"]
    tables = [t.value for t in app.dataframe]
    listed = next(t for t in tables if "payload" in t.columns)
    assert set(listed["mask"]) == {"yes", ""}
    told = [t for t in tables if "deviation" in t.columns]
    assert {tuple(t[["shape", "finite", "mean", "deviation"]].iloc[0]) for t in told} >= {
        ("3", "67%", "2", "1")
    }
    viewer = Viewer.open(project.path)
    sample = pictures(app)["sample"]
    for payload in viewer.payloads(sample):
        path = blob_path(project.store, payload.digest)
        assert path is not None
        path.unlink()
    app = tab(run(monkeypatch, project.path, sample=sample), "Payloads")
    assert pictures(app)["masks"] == []
    assert words(app).count("are not kept") == len(told)


def test_a_mask_that_is_too_large_is_said_and_the_page_goes_on(
    monkeypatch: pytest.MonkeyPatch, page: tuple[AppTest, Refinery]
) -> None:
    app, _ = page
    monkeypatch.setattr(payloads, "_LARGEST", 10)
    app = shown(app.run())
    assert "the viewer opens at most 10" in words(app)
    assert "no rule of the policy holds it" in words(app)
