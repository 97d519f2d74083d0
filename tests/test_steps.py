"""Inspect and embed: every sample ends as a fact, nothing is computed twice, one decode is enough for both."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import datago
from refinery.blobs import blob_key
from refinery.config import InspectSettings
from refinery.digests import digest
from refinery.embedders import TensorSpec, unit
from refinery.errors import InputError
from refinery.facts import FactStore
from refinery.fields import Fields
from refinery.ingest import ingest
from refinery.sources.folder import FolderSource
from refinery.steps.embed import embed_step, run_embed
from refinery.steps.inspect import COLUMNS, inspect_step, run_inspect
from refinery.steps.silver import run_silver
from refinery.steps.tensors import SpillWriter, read_spill
from refinery.store.local import LocalStore

SETTINGS = InspectSettings(max_bytes=100_000)


@dataclass
class MeanColour:
    """A real, tiny model: a picture's vector is its mean colour per quarter. It cannot embed black."""

    name: str = "mean colour"
    model_digest: str = digest(b"mean colour")
    dimension: int = 12
    input: TensorSpec = field(default_factory=lambda: TensorSpec(16, "squash"))
    seen: list[int] = field(default_factory=list)

    def embed_images(self, tensors: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        self.seen.append(len(tensors))
        quarters = tensors.reshape(-1, 2, 8, 2, 8, 3).mean(axis=(2, 4)).reshape(-1, 12)
        return unit(quarters.astype(np.float32))

    def embed_text(self, texts: list[str]) -> npt.NDArray[np.float32]:
        raise InputError("no text", kind="no_text_tower")


def jpeg(seed: int, side: int = 40) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    sink = BytesIO()
    Image.fromarray(pixels).resize((side, side * 2)).save(sink, "JPEG")
    return sink.getvalue()


def black() -> bytes:
    sink = BytesIO()
    Image.new("RGB", (20, 20)).save(sink, "PNG")
    return sink.getvalue()


def landed(
    store: LocalStore, folder: Path, files: dict[str, bytes], max_bytes: int = SETTINGS.max_bytes
) -> str:
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    source = FolderSource(folder.name, folder)
    return ingest(store, Fields(), source, batch_size=100, max_bytes=max_bytes).batches[0].batch


@pytest.fixture
def batch(store: LocalStore, tmp_path: Path) -> str:
    """Four pictures, one of them black, and four files that are none."""
    files = {
        **{f"{i}.jpg": jpeg(i) for i in range(3)},
        "black.png": black(),
        "cut.jpg": jpeg(9)[:300],
        "text.jpg": b"not a picture",
        "empty.png": b"",
        "huge.jpg": jpeg(7) + bytes(SETTINGS.max_bytes),
    }
    return landed(store, tmp_path / "some", files)


def test_every_sample_of_a_batch_ends_as_a_fact_with_columns_or_a_reason(
    store: LocalStore, batch: str
) -> None:
    report = run_inspect(store, batch, SETTINGS)
    table = FactStore(store).read(inspect_step(SETTINGS))
    assert report.samples == report.computed == table.num_rows == 8
    assert report.reused == 0
    assert report.failed == {"empty": 1, "not_an_image": 1, "too_large": 1, "truncated": 1}
    assert report.rate > 0
    assert table.schema.names[4:] == COLUMNS.names
    for row in table.to_pylist():
        known = [row[name] is not None for name in COLUMNS.names]
        assert all(known) if row["reason"] is None else not any(known)
        assert row["reason"] is None or row["detail"]
    good = table.filter(table["reason"].is_null()).to_pylist()[0]
    assert len(good["phash"]) == 16
    assert len(good["pixel_digest"]) == 64


def test_facts_are_what_datago_says_of_the_bytes(store: LocalStore, batch: str) -> None:
    run_inspect(store, batch, SETTINGS)
    data = jpeg(1)
    row = FactStore(store).read(inspect_step(SETTINGS), sample_ids=[digest(data)]).to_pylist()[0]
    columns = datago.inspect([data]).columns
    assert (row["width"], row["height"], row["format"]) == (40, 80, "jpeg")
    assert row["phash"] == f"{int(columns['phash'][0]):016x}"
    for name in ("pixel_digest", "mode", "orientation", "has_alpha", "brightness", "contrast", "sharpness"):
        assert row[name] == columns[name][0]
    assert Image.open(BytesIO(row["thumbnail"])).size == (40, 80)


def test_running_again_computes_nothing_and_changes_nothing(store: LocalStore, batch: str) -> None:
    embedder = MeanColour()
    run_inspect(store, batch, SETTINGS)
    run_embed(store, batch, SETTINGS, embedder)
    facts = FactStore(store)
    before = [facts.files(s) for s in (inspect_step(SETTINGS), embed_step(embedder))]
    calls = len(embedder.seen)
    again = run_inspect(store, batch, SETTINGS)
    embedded = run_embed(store, batch, SETTINGS, embedder)
    assert (again.computed, again.reused) == (0, 8)
    assert (embedded.computed, embedded.reused, embedded.skipped) == (0, 4, 4)
    assert [facts.files(s) for s in (inspect_step(SETTINGS), embed_step(embedder))] == before
    assert len(embedder.seen) == calls


def test_a_sample_of_two_batches_is_computed_once(store: LocalStore, batch: str, tmp_path: Path) -> None:
    run_silver(store, batch, SETTINGS, MeanColour())
    second = landed(store, tmp_path / "more", {"same.jpg": jpeg(1), "new.jpg": jpeg(20)})
    inspected, embedded = run_silver(store, second, SETTINGS, MeanColour(), others=[batch])
    assert (inspected.computed, inspected.reused) == (1, 1)
    assert (embedded.computed, embedded.reused) == (1, 1)
    assert FactStore(store).read(inspect_step(SETTINGS)).num_rows == 9


def test_bytes_kept_by_a_later_batch_are_inspected_although_they_were_too_large_once(
    store: LocalStore, tmp_path: Path
) -> None:
    first = landed(store, tmp_path / "one", {"a.jpg": jpeg(1)}, max_bytes=10)
    assert run_inspect(store, first, SETTINGS).failed == {"too_large": 1}
    assert run_inspect(store, first, SETTINGS).computed == 0
    second = landed(store, tmp_path / "two", {"a.jpg": jpeg(1)})
    assert run_inspect(store, second, SETTINGS).failed == {}
    assert FactStore(store).read(inspect_step(SETTINGS))["reason"].to_pylist() == [None]
    assert run_inspect(store, second, SETTINGS).computed == 0


def test_a_lost_or_damaged_blob_is_a_retryable_failure_and_heals(store: LocalStore, batch: str) -> None:
    lost, damaged = digest(jpeg(0)), digest(jpeg(1))
    paths = [store.root / blob_key(i) for i in (lost, damaged)]
    paths[0].unlink()
    paths[1].chmod(0o644)
    paths[1].write_bytes(jpeg(2))
    failed = run_inspect(store, batch, SETTINGS).failed
    assert failed["unreadable"] == failed["digest_mismatch"] == 1
    paths[0].write_bytes(jpeg(0))
    paths[1].write_bytes(jpeg(1))
    healed = run_inspect(store, batch, SETTINGS)
    assert (healed.computed, healed.failed) == (2, {})


def test_embeddings_are_unit_vectors_and_what_cannot_be_embedded_says_so(
    store: LocalStore, batch: str
) -> None:
    embedder = MeanColour()
    run_inspect(store, batch, SETTINGS)
    report = run_embed(store, batch, SETTINGS, embedder)
    assert report.failed == {"non_finite": 1}
    assert (report.samples, report.computed, report.skipped) == (8, 4, 4)
    rows = FactStore(store).read(embed_step(embedder)).to_pylist()
    for row in rows:
        if row["reason"] is None:
            assert row["embedder"] == embedder.name
            assert np.linalg.norm(row["vector"]) == pytest.approx(1, abs=1e-5)
        else:
            assert row["sample_id"] == digest(black())
            assert row["vector"] is None


def test_inspect_and_embed_in_one_go_decode_once_and_give_the_same_facts(
    store: LocalStore, batch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_inspect(store, batch, SETTINGS)
    run_embed(store, batch, SETTINGS, MeanColour())
    other = LocalStore(tmp_path / "other")
    assert (
        ingest(
            other,
            Fields(),
            FolderSource("some", tmp_path / "some"),
            batch_size=100,
            max_bytes=SETTINGS.max_bytes,
        )
        .batches[0]
        .batch
        == batch
    )
    decoded: list[int] = []
    real = datago.inspect

    def counted(inputs: Any, **options: Any) -> datago.Inspection:
        decoded.append(len(inputs))
        return real(inputs, **options)

    monkeypatch.setattr(datago, "inspect", counted)
    reports = run_silver(other, batch, SETTINGS, MeanColour())
    assert sum(decoded) == 7
    assert reports[1].failed == {"non_finite": 1}
    for step in (inspect_step(SETTINGS), embed_step(MeanColour())):
        assert FactStore(other).read(step).equals(FactStore(store).read(step))


def test_tensors_left_by_inspect_are_used_by_embed_and_then_removed(
    store: LocalStore, batch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = MeanColour()
    with SpillWriter(tmp_path, embedder.input, batch) as spill:
        run_inspect(store, batch, SETTINGS, tensor=embedder.input, on_tensors=spill)
    with monkeypatch.context() as patch:
        patch.setattr(datago, "inspect", lambda *_, **__: pytest.fail("decoded again"))
        report = run_embed(store, batch, SETTINGS, embedder, scratch=tmp_path)
    assert report.computed == 4
    assert list((tmp_path / "tensors").rglob("*.*")) == []
    spilled = FactStore(store).read(embed_step(embedder))
    other = MeanColour(model_digest=digest(b"again"))
    run_embed(store, batch, SETTINGS, other, scratch=tmp_path)
    assert FactStore(store).read(embed_step(other)).equals(spilled)


@pytest.mark.parametrize("harm", ["torn", "flipped", "unfinished", "not json", "other ids"])
def test_a_spill_that_is_not_whole_is_ignored(tmp_path: Path, harm: str) -> None:
    spec = TensorSpec(8)
    pictures = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 3), dtype=np.uint8)
    ids = [f"{i:064x}" for i in range(300)]
    with SpillWriter(tmp_path, spec, "b") as spill:
        spill(ids[:200], pictures[:200])
        spill(ids[200:], pictures[200:])
    blocks = list(read_spill(tmp_path, spec, "b"))
    assert [i for found, _ in blocks for i in found] == ids
    assert (np.concatenate([block for _, block in blocks]) == pictures).all()
    assert list(read_spill(tmp_path, TensorSpec(8, "squash"), "b")) == []
    tensors, index = next(tmp_path.rglob("b.npy")), next(tmp_path.rglob("b.json"))
    data = bytearray(tensors.read_bytes())
    match harm:
        case "torn":
            tensors.write_bytes(data[:-1])
        case "flipped":
            data[-1] ^= 1
            tensors.write_bytes(data)
        case "unfinished":
            index.unlink()
        case "not json":
            index.write_text("{")
        case _:
            note = json.loads(index.read_text())
            note["sample_ids"].reverse()
            index.write_text(json.dumps(note))
    assert list(read_spill(tmp_path, spec, "b")) == []


def test_a_spill_whose_inspection_broke_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> None:
        with SpillWriter(tmp_path, TensorSpec(8), "b") as spill:
            spill(["0" * 64], np.zeros((1, 8, 8, 3), np.uint8))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert list(tmp_path.rglob("*.*")) == []


def test_a_batch_without_samples_or_without_pictures_is_fine(store: LocalStore, tmp_path: Path) -> None:
    batch = landed(store, tmp_path / "none", {"a.jpg": b"no", "b.jpg": b"nor this"})
    inspected, embedded = run_silver(store, batch, SETTINGS, MeanColour())
    assert inspected.failed == {"not_an_image": 2}
    assert (embedded.computed, embedded.skipped) == (0, 2)
    assert set(FactStore(store).files(embed_step(MeanColour()))) == {batch}


def test_a_batch_that_has_not_landed_is_refused(store: LocalStore) -> None:
    with pytest.raises(InputError) as caught:
        run_inspect(store, "mine-0123456789ab", SETTINGS)
    assert caught.value.kind == "no_such_batch"
