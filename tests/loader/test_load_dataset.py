"""`load_dataset`: a snapshot's name and a store are enough, blobs and exports give the same batches, and what is not whole is
never streamed."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import datago
from refinery import load_dataset
from refinery.config import S3StoreSettings
from refinery.errors import ConfigError, ConflictError, CorruptionError, InputError
from refinery.export import Exporter
from refinery.ledger import Actor, ActorKind
from refinery.loading import TakenDownWarning
from refinery.project import Refinery
from refinery.snapshots import Snapshots
from refinery.splits import Splits
from refinery.store import ObjectStore
from tests.loader.exports import FORMATS

ROOT = Path(__file__).resolve().parents[2]
ANA = Actor(ActorKind.PERSON, "ana")


def recipe(form: str = "webdataset") -> datago.Recipe:
    return datago.Recipe(format=form, side=64, patch=16, encode="png", samples_per_shard=4)  # type: ignore[arg-type]


@pytest.fixture
def project(refined: Path) -> Refinery:
    """A project whose gold is frozen, in splits, as set@1."""
    project = Refinery.open(refined)
    project.freeze("set", splits=Splits({"train": 0.7, "test": 0.3}, 5))
    return project


def load(store: Any, ref: str = "set@1", **options: Any) -> datago.Stream:
    return load_dataset(ref, store=store, **{"batch_size": 3, "recipe": recipe(), **options})


def told(stream: datago.Stream) -> list[tuple[list[str], list[dict[str, Any]]]]:
    batches = list(stream)
    assert not any(batch.failures for batch in batches)
    return [(batch.ids, batch.attributes) for batch in batches]


def export(store: ObjectStore, form: str, split: str | None = None) -> str:
    snapshots = Snapshots(store)
    return Exporter(store, snapshots).export(snapshots.get("set@1"), recipe(form), split=split).prefix


@pytest.mark.parametrize("form", FORMATS)
def test_blobs_and_an_export_give_the_same_batches(project: Refinery, form: str) -> None:
    export(project.store, form)
    blobs, shards = load(project.path), load(project.path, recipe=recipe(form), export=True)
    ids = project.snapshots.rows(project.snapshots.get("set@1"))["sample_id"].to_pylist()
    count = 0
    for ours, theirs in zip(blobs, shards, strict=True):
        assert (ours.ids, ours.attributes) == (theirs.ids, theirs.attributes)
        assert np.array_equal(ours.images, theirs.images)  # type: ignore[arg-type]
        assert set(ours.ids) <= set(ids)
        count += len(ours)
    assert count == len(ids) > 10
    token = json.loads(json.dumps(blobs.token()))
    assert told(load(project.path, export=True, recipe=recipe(form), resume=token)) == []


def test_a_store_alone_is_enough_on_a_machine_without_a_project(project: Refinery, tmp_path: Path) -> None:
    expected = told(load(project.path))
    store = tmp_path / "elsewhere"
    store.mkdir()
    for part in ("snapshots", "states", "blobs"):
        shutil.copytree(project.path / "store" / part, store / part)
    program = (
        "import sys, json, refinery, datago\n"
        "recipe = datago.Recipe(side=64, patch=16, encode='png', samples_per_shard=4)\n"
        "stream = refinery.load_dataset('set@1', store=sys.argv[1], batch_size=3, recipe=recipe)\n"
        "print(json.dumps([[b.ids, b.attributes] for b in stream]))\n"
        "assert not {'lancedb', 'torch', 'boto3'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(store)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert [(ids, attributes) for ids, attributes in json.loads(done.stdout)] == expected


def test_a_split_is_streamed_alone(project: Refinery) -> None:
    parts = [{i for ids, _ in told(load(project.path, split=s)) for i in ids} for s in ("train", "test")]
    whole = {i for ids, _ in told(load(project.path)) for i in ids}
    assert parts[0]
    assert parts[1]
    assert parts[0] | parts[1] == whole
    assert not parts[0] & parts[1]
    export(project.store, "mds", "test")
    assert told(load(project.path, split="test", export=True, recipe=None)) == told(
        load(project.path, split="test")
    )
    with pytest.raises(InputError, match="no split 'tset'"):
        load(project.path, split="tset")


def test_what_was_taken_down_is_left_out_and_said(project: Refinery) -> None:
    export(project.store, "mds")
    before = load(project.path)
    token = before.token()
    gone = told(before)[0][0][0]
    stale = shutil.copytree(project.path / "store" / "exports", project.path / "stale")
    project.takedown.run([gone], "asked to", ANA, project.policy)
    with pytest.warns(TakenDownWarning, match=gone):
        blobs = told(load(project.path))
    assert gone not in {i for ids, _ in blobs for i in ids}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TakenDownWarning)
        assert told(load(project.path, export=True, recipe=recipe("mds"))) == blobs
        with pytest.raises(ConfigError, match="source"):
            load(project.path, resume=token)
        shutil.rmtree(project.path / "store" / "exports")
        stale.rename(project.path / "store" / "exports")
        with pytest.raises(ConflictError, match="export set@1 again"):
            load(project.path, export=True, recipe=recipe("mds"))


def test_rows_that_are_not_those_of_the_root_are_never_streamed(project: Refinery) -> None:
    snapshot = project.snapshots.get("set@1")
    rows = project.snapshots.rows(snapshot)
    other = project.freeze("other", f"sample_id != '{rows['sample_id'][0]}'")[0]
    path = project.path / "store" / snapshot.key
    raw = json.loads(path.read_bytes())
    path.chmod(0o644)
    path.write_text(json.dumps(raw | {"root": other.root}, sort_keys=True, separators=(",", ":")))
    with pytest.raises(CorruptionError):
        load(project.path)


def test_payloads_masks_and_untouched_bytes_come_as_from_an_export(project: Refinery) -> None:
    untouched = datago.Recipe(format="mds", size="bytes", samples_per_shard=5)
    snapshots = project.snapshots
    project.exporter.export(snapshots.get("set@1"), untouched)
    options: dict[str, Any] = {"decode": False, "recipe": untouched}
    for ours, theirs in zip(
        load(project.path, **options), load(project.path, export=True, **options), strict=True
    ):
        assert (ours.ids, ours.encoded) == (theirs.ids, theirs.encoded)
        for sample_id, data in zip(ours.ids, ours.encoded, strict=True):
            assert datago.inspect([data]).columns["digest"] == [sample_id]


def test_a_stream_that_has_not_begun_goes_to_another_process(project: Refinery) -> None:
    stream = load(project.path, seed=4)
    copy = pickle.loads(pickle.dumps(stream))  # noqa: S301
    assert told(copy) == told(stream)


def test_what_is_not_there_is_named(project: Refinery, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no store at"):
        load(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    with pytest.raises(InputError, match="Did you mean 'set@1'"):
        load(project.path, "sett@1")
    with pytest.raises(InputError, match="no complete export"):
        load(project.path, export=True)
    with pytest.raises(ConfigError, match="batch_size"):
        load(project.path, batch_size=0)
    with pytest.raises(ConfigError, match="did you mean 'patch'"):
        load(project.path, recipe={"patchh": 64})
    with pytest.raises(TypeError, match="batchsize"):
        load(project.path, batchsize=3)
    export(project.store, "mds")
    export(project.store, "parquet")
    with pytest.raises(ConfigError, match="2 exports"):
        load(project.path, export=True, recipe=None)


@pytest.mark.parametrize("form", FORMATS)
def test_a_snapshot_on_s3_needs_credentials_and_a_name(
    project: Refinery, s3_settings: S3StoreSettings, form: str
) -> None:
    from refinery.store.s3 import S3Store

    store = S3Store(s3_settings)
    for prefix in ("snapshots/", "states/", "blobs/"):
        for info in project.store.list(prefix):
            store.put_if_absent(info.key, project.store.get(info.key))
    export(store, form)
    expected = told(load(project.path))
    place = f"s3://{s3_settings.bucket}/{s3_settings.prefix}"
    here: dict[str, Any] = {"endpoint": s3_settings.endpoint, "recipe": recipe(form)}
    assert told(load(place, **here)) == expected
    assert told(load(place, export=True, **here)) == expected
    pair = [load(place, export=True, rank=rank, world_size=2, **here) for rank in range(2)]
    parts = [told(rank) for rank in pair]
    assert [parts[n % 2][n // 2] for n in range(len(expected))] == expected
    pickle.loads(pickle.dumps(load(place, **here)))  # noqa: S301
