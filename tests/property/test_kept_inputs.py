"""Inputs kept between replays: the newest row of each sample, whatever was added in which order, and never needed."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refinery.errors import CorruptionError
from refinery.ledger import Actor, ActorKind, Event, EventType
from refinery.states import inputs
from refinery.states.head import read_head
from refinery.states.inputs import KeptInputs
from refinery.store.local import LocalStore
from tests.synthetic import POLICY, Hidden, Sample, Synthetic, quick_folder

SCHEMA = pa.schema([("sample_id", pa.string()), ("value", pa.int64()), ("batch", pa.list_(pa.string()))])
IDS = [f"{n % 7:016x}{n:048x}" for n in range(40)]
"""Many share their first 64 bits."""


def table(values: dict[str, int]) -> pa.Table:
    rows = [{"sample_id": i, "value": v, "batch": [str(v)] * (v % 3)} for i, v in sorted(values.items())]
    return pa.Table.from_pylist(rows, SCHEMA)


@pytest.mark.parametrize("remote", [False, True])
@given(additions=st.lists(st.dictionaries(st.sampled_from(IDS), st.integers(0, 99), min_size=1), max_size=12))
@settings(max_examples=60, deadline=None)
def test_the_newest_row_of_each_sample_counts(remote: bool, additions: list[dict[str, int]]) -> None:
    with quick_folder() as folder, patch.object(inputs, "_BATCH_ROWS", 4):
        kept = KeptInputs((Hidden if remote else LocalStore)(Path(folder)))
        segments: list[str] = []
        model: dict[str, int] = {}
        for added in additions:
            segments = kept.add(segments, table(added))
            model |= added
        if not segments:
            return
        assert kept.rows(segments).equals(table(model))
        assert kept.rows(segments, ["value"]).column("value").to_pylist() == [model[i] for i in sorted(model)]
        some = IDS[::3]
        assert kept.lookup(segments, some).equals(table({i: model[i] for i in some if i in model}))
        heads = {i[:16] for i in some}
        possible = {str(v) for added in additions for i, v in added.items() if i[:16] in heads and v % 3}
        seen = {str(model[i]) for i in some if i in model and model[i] % 3}
        assert seen <= kept.batches(segments, some) <= possible
        sizes = [len(kept.rows([key])) for key in segments]
        assert all(a >= 2 * b for a, b in pairwise(sizes))
        assert kept.verify(segments) == []


def replayed(tmp_path: Path) -> tuple[Synthetic, list[str]]:
    project = Synthetic(LocalStore(tmp_path))
    samples = [Sample(n, look=n // 2) for n in range(12)]
    project.compute(project.land(samples), samples)
    project.replayer.replay(project.policy)
    return project, [sample.id for sample in samples]


@pytest.mark.parametrize("harm", ["gone", "cut short", "of another format"])
def test_without_what_was_kept_a_replay_reads_the_facts_again(tmp_path: Path, harm: str) -> None:
    project, ids = replayed(tmp_path)
    for key in read_head(project.store)[0].inputs:
        path = project.store.local_path(key)
        data = path.read_bytes()
        match harm:
            case "gone":
                path.unlink()
            case "cut short":
                path.write_bytes(data[: len(data) // 2])
            case _:
                path.write_bytes(data.replace(b"refinery.inputs/1", b"refinery.inputs/9"))
    assert KeptInputs(project.store).verify(read_head(project.store)[0].inputs)
    reject = Event(EventType.FLAG, Actor(ActorKind.PERSON, "ana"), sample_id=ids[3], kind="reject")
    project.ledger.append([reject])
    report = project.replayer.replay(project.policy)
    assert report.scope == "the inputs that were kept are lost"
    assert report.root == project.replayer.replay(project.policy, full=True).root
    assert KeptInputs(project.store).verify(read_head(project.store)[0].inputs) == []


def test_a_moved_rule_and_a_flag_are_replayed_without_reading_facts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, ids = replayed(tmp_path)
    moved = project.parse(POLICY.replace("sharpness < 0.1", "sharpness < 0.9"))
    flag = Event(EventType.FLAG, Actor(ActorKind.PERSON, "ana"), sample_id=ids[0], kind="keep")
    with monkeypatch.context() as patch:
        patch.setattr(type(project.facts), "read", None)
        by_policy = project.replayer.replay(moved)
        project.ledger.append([flag])
        by_flag = project.replayer.replay(moved)
    assert (by_policy.scope, by_policy.evaluated) == ("policy changed", 12)
    assert (by_flag.scope, by_flag.evaluated) == ("affected samples only", 2)
    assert by_flag.root == project.replayer.replay(moved, full=True).root


def test_rows_of_a_segment_that_is_gone_are_an_error_with_a_kind(tmp_path: Path) -> None:
    with pytest.raises(CorruptionError) as caught:
        KeptInputs(LocalStore(tmp_path)).rows([f"states/inputs/{'0' * 64}.arrow"])
    assert caught.value.kind == "lost_inputs"
