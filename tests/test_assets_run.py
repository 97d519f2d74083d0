"""`assets.run`: what is missing is materialized, nothing else, and truth decides what is missing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from projects import copy_pictures, create_project, facts_of, stage_sources

from assets.definitions import defs
from assets.instance import open_instance
from assets.plan import plan_batches
from assets.run import RunReport, run, run_datasets
from refinery.blobs import blob_key
from refinery.corpus import CorpusReport
from refinery.errors import CorruptionError, GateError, InputError
from refinery.filter import parse
from refinery.ingest import stage
from refinery.ledger import Actor, ActorKind
from refinery.project import Refinery
from refinery.sources import open_source
from refinery.states.head import read_head
from resources import attached
from ui.core import Screen

pytestmark = pytest.mark.xdist_group("assets")
ANA = Actor(ActorKind.PERSON, "ana")
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture(scope="module")
def refined(corpus: CorpusReport, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunReport]:
    """A project after its first run, and what that said. Read only."""
    home = tmp_path_factory.mktemp("refined")
    project = create_project(corpus, home)
    assert len(stage_sources(project)) == 2
    return project.path, run(project)


@pytest.fixture
def project(refined: tuple[Path, RunReport], tmp_path: Path) -> Refinery:
    """A copy of the refined project that a test may change."""

    def copy(old: str, new: str) -> None:
        """Objects are linked, so that they are the same to those who look at inode and time; nobody writes into one."""
        if "store" in Path(old).relative_to(refined[0].parent).parts:
            os.link(old, new)
        else:
            shutil.copy2(old, new)

    shutil.copytree(refined[0].parent, tmp_path / "home", copy_function=copy)
    return Refinery.open(tmp_path / "home" / refined[0].name)


@pytest.fixture
def instance(project: Refinery) -> Iterator[dg.DagsterInstance]:
    with attached(project), open_instance(project.path) as (opened, _):
        yield opened


def stages(report: RunReport) -> dict[str, tuple[int, int]]:
    return {stage.name: (stage.computed, stage.reused) for stage in report.stages}


def damage(path: Path, data: bytes) -> None:
    """Put other bytes in the place of an object's."""
    path.unlink()
    path.write_bytes(data)


def check(instance: dg.DagsterInstance, name: str) -> dg.AssetCheckEvaluation:
    """Run one check and nothing else."""
    graph = defs.resolve_asset_graph()
    key = next(key for key in graph.asset_check_keys if key.name == name)
    job = defs.resolve_implicit_global_asset_job_def().get_subset(asset_check_selection={key})
    result = job.execute_in_process(instance=instance, run_config=QUIET, raise_on_error=False)
    [found] = result.get_asset_check_evaluations()
    return found


def test_a_first_run_takes_raw_pictures_to_shards(refined: tuple[Path, RunReport]) -> None:
    path, report = refined
    project, status = Refinery.open(path), report.status
    assert status.seen == 13  # 14 files, one of them a copy
    assert status.gold + sum(status.held.values()) + status.pending == status.seen
    assert status.pending == 0
    assert sum(status.held.values()) >= 4  # blank, two broken, near-duplicates
    assert stages(report)["inspected"][0] == 13
    assert stages(report)["embeddings"][0] == 11
    assert report.frozen == ["demo@1"]
    assert project.index.count() == 13
    assert [e["snapshot"]["ref"] for e in project.exporter.exports(project.snapshots.get("demo"))] == [
        "demo@1"
    ]
    assert json.loads(json.dumps(report.to_json()))["status"]["gold"] == status.gold
    assert any("13 seen" in line for line in report.lines())


def test_a_second_run_launches_nothing_and_loads_neither_dagster_nor_a_model(
    refined: tuple[Path, RunReport],
) -> None:
    program = (
        "import sys\n"
        "from assets.run import run\n"
        "from refinery.project import Refinery\n"
        "report = run(Refinery.open(sys.argv[1]))\n"
        "assert (report.launched, report.facts_computed) == (0, 0), report\n"
        "assert not {'dagster', 'torch', 'timm'} & set(sys.modules)\n"
        "print(report.status.root)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(refined[0])],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == refined[1].status.root


def test_one_decode_feeds_inspection_and_embedding(refined: tuple[Path, RunReport]) -> None:
    spilled = list(Refinery.open(refined[0]).scratch.rglob("*.npy"))
    assert spilled == []  # written by the one, used up by the other


def test_a_flag_moves_exactly_what_it_speaks_of_and_undo_brings_the_root_back(project: Refinery) -> None:
    before = project.status().root
    [first, *_] = project.snapshots.rows(project.snapshots.get("demo@1"))["sample_id"].to_pylist()
    project.flag([first], "reject", ANA, reason="a logo")
    report = run(project)
    assert report.facts_computed == 0
    assert report.replay is not None
    assert report.replay["flips"] == {"gold → held": 1}
    assert report.frozen == ["demo@2"]
    project.undo(ANA)
    assert run(project).status.root == before


def test_new_pictures_are_the_only_ones_computed(project: Refinery, corpus: CorpusReport) -> None:
    more = copy_pictures(corpus, project.path.parent / "more", ("photographs/rocket.jpg",))
    assert len(stage(project.store, project.fields, open_source(more, name="more"), batch_size=8)) == 1
    report = run(project)
    assert stages(report)["inspected"] == (1, 14)
    assert stages(report)["embeddings"] == (1, 14)
    assert report.status.seen == 14


def test_lost_facts_are_computed_again_to_the_same_root(project: Refinery) -> None:
    before, facts = project.status().root, facts_of(project)
    batch = project.batches.landed()[0]
    project.store.delete(f"{project.steps.default_embed.folder}/{batch}.parquet")
    assert plan_batches(project)[0].due
    assert run(project).status.root == before
    assert facts_of(project) == facts


def test_errors_of_assets_come_as_they_were_raised(project: Refinery) -> None:
    raw = json.loads(project.store.get("states/head.json"))
    raw["counts"]["gold"] += 1
    damage(project.store.root / "states/head.json", json.dumps(raw).encode())
    project.flag(project.batches.samples(project.batches.landed()[0])[:1], "review", ANA)
    with pytest.raises(CorruptionError) as caught:
        run(project)
    assert caught.value.kind == "accounting"
    assert caught.value.exit_code == 7


def test_a_failed_blocking_check_ends_the_run_as_damaged_data(project: Refinery) -> None:
    [first, *_] = project.snapshots.rows(project.snapshots.get("demo@1"))["sample_id"].to_pylist()
    project.flag([first], "reject", ANA)
    kept = project.snapshots.rows(project.snapshots.get("demo@1"))["sample_id"].to_pylist()[-1]
    path = project.store.local_path(blob_key(kept))
    assert path is not None
    damage(path, b"other bytes")
    with pytest.raises(CorruptionError, match=f"snapshot_verifies.*{kept}") as caught:
        run(project)
    assert caught.value.kind == "failed_check"


def guarded(project: Refinery, rules: str) -> Refinery:
    """The project with a gate for its dataset, opened anew."""
    (project.path / "gate.yaml").write_text(rules)
    config = project.path / "refinery.yaml"
    config.write_text(config.read_text().replace("  demo:\n", "  demo:\n    gate: gate.yaml\n"))
    return Refinery.open(project.path)


def test_a_version_that_fails_its_gate_is_frozen_and_never_exported(project: Refinery) -> None:
    project = guarded(project, "rules: [{name: steady, kind: size, max_shrink: 0}]")
    [first, *_] = project.snapshots.rows(project.snapshots.get("demo@1"))["sample_id"].to_pylist()
    project.flag([first], "reject", ANA)
    for _ in range(2):  # the next run looks again
        with pytest.raises(
            GateError, match=r"gate_passes.*demo@1 → demo@2 failed 1 of 1 rules\. steady: "
        ) as caught:
            run(project)
        assert (caught.value.kind, caught.value.exit_code) == ("gate_failed", 8)
    failed = project.snapshots.get("demo")
    assert (failed.ref, list(project.exporter.exports(failed))) == ("demo@2", [])
    shards = defs.resolve_job_def("freeze_dataset").get_subset(asset_selection={dg.AssetKey("shards")})
    with (
        attached(project),
        open_instance(project.path) as (instance, _),
        pytest.raises(GateError, match="steady"),
    ):
        shards.execute_in_process(instance=instance, run_config=QUIET, partition_key="demo")
    assert project.projector.is_current()
    run(guarded(project, "rules: [{name: steady, kind: size, max_shrink: 0.5}]"))
    assert len(list(project.exporter.exports(failed))) == 1


def test_the_gate_check_shows_its_numbers_and_its_report(project: Refinery) -> None:
    project = guarded(project, "rules: [{name: big, kind: size, min: 1000}, {name: whole, kind: verified}]")
    with attached(project), open_instance(project.path) as (instance, _):
        found = check(instance, "gate_passes")
    count = project.snapshots.get("demo").count
    assert not found.passed
    assert found.metadata["demo.big.samples"].value == count
    assert (found.metadata["gates"].value, found.metadata["failed_rules"].value) == (1, 1)
    assert "# Gate failed: 1 of 2 rules" in str(found.metadata["report"].value)


def test_a_dataset_that_nobody_configured_is_refused(project: Refinery) -> None:
    with pytest.raises(InputError, match="demo"):
        run_datasets(project, ["dmeo"])


def test_runs_of_killed_processes_do_not_stay_under_way(project: Refinery) -> None:
    with open_instance(project.path) as (instance, tags):
        job = defs.resolve_job_def("curate")
        started = instance.create_run_for_job(job, tags={"refinery/process": "0" * 32})
        mine = instance.create_run_for_job(job, tags=tags)
        for run_ in (started, mine):
            event = dg.DagsterEvent(event_type_value="PIPELINE_START", job_name="curate", message="")
            instance.report_dagster_event(event, run_.run_id)
        with open_instance(project.path):
            statuses = {r.run_id: r.status.value for r in instance.get_runs()}
    assert statuses[started.run_id] == "CANCELED"
    assert statuses[mine.run_id] == "STARTED"


def test_what_was_materialized_links_to_its_screen_in_the_viewer(
    project: Refinery, instance: dg.DagsterInstance
) -> None:
    screens = {}
    for key in defs.resolve_asset_graph().materializable_asset_keys:
        event = instance.get_latest_materialization_event(key)
        assert event is not None
        assert event.asset_materialization is not None
        link = event.asset_materialization.metadata["viewer"].value
        screens[key.to_user_string()] = Screen.from_params(dict(parse_qsl(urlsplit(str(link)).query)))
    batches = [
        parse(screens[name].where, project.fields) for name in ("raw_samples", "inspected", "embeddings")
    ]
    assert all(project.index.count(batch) > 0 for batch in batches)
    assert screens["snapshots"] == screens["shards"] == Screen(page="snapshots", ref="demo@1")
    assert parse(screens["near_duplicates"].where, project.fields)


@pytest.mark.filterwarnings("ignore:Parameter `include_sources`")
def test_an_unchanged_replay_launches_nothing(project: Refinery, instance: dg.DagsterInstance) -> None:
    def tick(cursor: Any = None) -> tuple[Any, set[str]]:
        result = dg.evaluate_automation_conditions(defs=defs, instance=instance, cursor=cursor)
        asked = {r.key.to_user_string() for r in result.results if result.get_num_requested(r.key)}
        return result.cursor, asked

    curate = defs.resolve_job_def("curate")
    replay = curate.get_subset(asset_selection={dg.AssetKey("verdicts")})
    cursor, asked = tick()
    assert asked == set()
    replay.execute_in_process(instance=instance, run_config=QUIET)
    cursor, asked = tick(cursor)
    assert asked == set()
    [first, *_] = project.snapshots.rows(project.snapshots.get("demo@1"))["sample_id"].to_pylist()
    project.flag([first], "reject", ANA)
    replay.execute_in_process(instance=instance, run_config=QUIET)
    cursor, asked = tick(cursor)
    assert asked == {"sample_index"}


def test_checks_pass_on_what_the_run_made(instance: dg.DagsterInstance) -> None:
    for key in defs.resolve_asset_graph().asset_check_keys:
        assert check(instance, key.name).passed, key.name


def test_accounting_fails_when_a_verdict_has_no_sample(
    project: Refinery, instance: dg.DagsterInstance
) -> None:
    batch = project.batches.landed()[-1]
    project.store.delete(f"batches/{batch}/batch.json")
    with attached(Refinery.open(project.path)):
        assert not check(instance, "accounting_adds_up").passed


def test_embeddings_fail_when_a_vector_is_missing_or_not_finite(
    project: Refinery, instance: dg.DagsterInstance
) -> None:
    step, batch = project.steps.default_embed, project.batches.landed()[0]
    path = project.store.local_path(f"{step.folder}/{batch}.parquet")
    assert path is not None
    table = pq.read_table(path)
    path.unlink()
    pq.write_table(table.slice(1), path)
    found = check(instance, "embeddings_finite_and_complete")
    assert not found.passed
    assert found.metadata["missing"].value == 1
    vectors = np.array(table["vector"].to_pylist(), dtype=np.float32)
    vectors[0, 0] = np.nan
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    index = table.schema.get_field_index("vector")
    pq.write_table(table.set_column(index, table.schema.field(index), column), path)
    assert not check(instance, "embeddings_finite_and_complete").passed


def test_the_index_check_fails_when_a_document_is_gone(
    project: Refinery, instance: dg.DagsterInstance
) -> None:
    project.index.delete(project.batches.samples(project.batches.landed()[0])[:1])
    assert not check(instance, "index_matches_truth").passed


def test_the_snapshot_check_fails_when_bytes_are_damaged(
    project: Refinery, instance: dg.DagsterInstance
) -> None:
    [first, *_] = project.snapshots.rows(project.snapshots.get("demo@1"))["sample_id"].to_pylist()
    path = project.store.local_path(blob_key(first))
    assert path is not None
    damage(path, path.read_bytes()[:-1])
    assert not check(instance, "snapshot_verifies").passed


def test_the_shard_check_fails_when_a_shard_is_damaged(
    project: Refinery, instance: dg.DagsterInstance
) -> None:
    [export] = project.exporter.exports(project.snapshots.get("demo@1"))
    path = project.store.local_path(f"{export['prefix']}/{export['files'][0]['name']}")
    assert path is not None
    damage(path, path.read_bytes()[:-1] + b"x")
    assert not check(instance, "shards_verify").passed


def test_the_head_stays_when_nothing_moved(project: Refinery) -> None:
    before = read_head(project.store)
    run(project)
    assert read_head(project.store) == before
