"""Sensors and the schedule: they tick on a real project, and ask for each thing once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from prefixes import Place
from projects import create_project, stage_sources

from assets.definitions import defs
from assets.instance import open_instance
from assets.run import run
from assets.schedules import curation
from assets.sensors import watch_ledger, watch_sources
from refinery.corpus import CorpusReport
from refinery.errors import ConfigError, InputError
from refinery.ledger import Actor, ActorKind
from refinery.project import Refinery
from resources import RefineryResource, attached
from tests.servers import S3Server

pytestmark = pytest.mark.xdist_group("assets")
FILES = ("photographs/coins.png", "photographs/chelsea.png", "near duplicates/coffee smaller.jpg")


@pytest.fixture
def project(corpus: CorpusReport, tmp_path: Path) -> Refinery:
    return create_project(corpus, tmp_path, FILES)


@pytest.fixture
def instance(project: Refinery) -> Iterator[dg.DagsterInstance]:
    with open_instance(project.path) as (opened, _):
        yield opened


def resources(project: Refinery) -> dict[str, RefineryResource]:
    return {"refinery": RefineryResource(project=str(project.path))}


def tick_sources(project: Refinery, instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    with dg.build_sensor_context(instance, resources=resources(project)) as context:
        result = watch_sources(context)
    assert isinstance(result, dg.SensorResult)
    return list(result.run_requests or [])


def tick_ledger(project: Refinery, instance: dg.DagsterInstance) -> dg.RunRequest | dg.SkipReason:
    with dg.build_sensor_context(instance, resources=resources(project)) as context:
        result = watch_ledger(context)
    assert isinstance(result, dg.RunRequest | dg.SkipReason)
    return result


def tick_curation(project: Refinery, instance: dg.DagsterInstance) -> list[object]:
    with dg.build_schedule_context(
        instance,
        scheduled_execution_time=datetime(2024, 1, 1, 5, tzinfo=UTC),
        resources=resources(project),
    ) as context:
        return list(curation(context))


def test_new_pictures_become_batches_that_start_once(
    project: Refinery, instance: dg.DagsterInstance, corpus: CorpusReport
) -> None:
    [first] = tick_sources(project, instance)
    assert first.run_key == first.partition_key == project.batches.staged()[0]
    assert instance.get_dynamic_partitions("batches") == [first.partition_key]
    assert instance.get_dynamic_partitions("datasets") == ["demo"]
    [again] = tick_sources(project, instance)
    assert again.run_key == first.run_key  # a key that Dagster has seen starts nothing
    shutil.copy2(corpus.folder / "photographs/rocket.jpg", project.path.parent / "pictures")
    later = tick_sources(project, instance)
    assert len(later) == 2
    assert {request.run_key for request in later} > {first.run_key}


def test_the_run_of_a_batch_is_all_that_it_takes(project: Refinery, instance: dg.DagsterInstance) -> None:
    [request] = tick_sources(project, instance)
    job = defs.resolve_job_def("refine_batch")
    with attached(project):
        done = job.execute_in_process(
            instance=instance,
            partition_key=request.partition_key,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
    assert done.success
    assert tick_sources(project, instance) == []
    assert len(project.facts.read(project.steps.default_embed)) == len(FILES)


def test_a_batch_that_somebody_landed_by_hand_is_started_too(
    project: Refinery, instance: dg.DagsterInstance
) -> None:
    from refinery.ingest import land

    [batch] = stage_sources(project)
    land(project.store, project.fields, batch, max_bytes=project.settings.inspect.max_bytes)
    assert [request.partition_key for request in tick_sources(project, instance)] == [batch]


def test_a_missing_source_fails_the_tick_and_names_it(
    project: Refinery, instance: dg.DagsterInstance
) -> None:
    shutil.rmtree(project.path.parent / "pictures")
    with pytest.raises(InputError, match="pictures"):
        tick_sources(project, instance)


@pytest.mark.usefixtures("aws")
def test_objects_that_appear_below_a_prefix_become_batches_that_are_refined(
    corpus: CorpusReport, tmp_path: Path, s3_server: S3Server, bucket: str, capfd: pytest.CaptureFixture[str]
) -> None:
    service = f"endpoint: '{s3_server.endpoint}'"
    config = "embedder: {kind: efficientnet_lite0}\nbatch_size: 2\nsources:\n"
    config += f"  - {{name: closed, url: s3://nobody-made-this/in, {service}}}\n"
    config += f"  - {{name: far, url: s3://{bucket}/in, {service}}}\n"
    project = Refinery.create(tmp_path / "project", config)
    place = Place(s3_server, bucket)
    with open_instance(project.path) as (instance, _):
        with pytest.raises(ConfigError, match="nobody-made-this"):  # nothing else is there to be done
            tick_sources(project, instance)
        place.fill({Path(name).name: (corpus.folder / name).read_bytes() for name in FILES})
        place.fill({"coins.txt": b"coins"})
        asked = tick_sources(project, instance)
        assert "nobody-made-this" in capfd.readouterr().err
        assert [request.run_key for request in asked] == project.batches.staged()
        assert len(asked) == 2
        with attached(project):
            for request in asked:
                done = defs.resolve_job_def("refine_batch").execute_in_process(
                    instance=instance,
                    partition_key=request.partition_key,
                    run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                )
                assert done.success
        assert len(project.facts.read(project.steps.default_embed)) == len(FILES)
        assert {row["source"] for row in project.batches.origins().to_pylist()} == {"far"}
        with pytest.raises(ConfigError, match="nobody-made-this"):
            tick_sources(project, instance)
        assert project.batches.staged() == []
        place.fill({"coins.txt": b"old coins"})
        assert len(tick_sources(project, instance)) == 1


def test_without_a_project_a_tick_says_how_to_name_one(
    monkeypatch: pytest.MonkeyPatch, instance: dg.DagsterInstance
) -> None:
    monkeypatch.delenv("REFINERY_PROJECT", raising=False)
    with (
        dg.build_sensor_context(instance, resources={"refinery": RefineryResource()}) as context,
        pytest.raises(ConfigError, match="REFINERY_PROJECT"),
    ):
        watch_ledger(context)


def test_gold_is_replayed_when_the_ledger_moved_and_only_then(
    project: Refinery, instance: dg.DagsterInstance
) -> None:
    assert isinstance(tick_ledger(project, instance), dg.SkipReason)
    stage_sources(project)
    run(project)
    assert isinstance(tick_ledger(project, instance), dg.SkipReason)
    sample = project.batches.samples(project.batches.landed()[0])[0]
    project.flag([sample], "reject", Actor(ActorKind.PERSON, "ana"))
    asked = tick_ledger(project, instance)
    assert isinstance(asked, dg.RunRequest)
    assert tick_ledger(project, instance) == asked
    run(project)
    assert isinstance(tick_ledger(project, instance), dg.SkipReason)
    policy = project.path / project.settings.policy
    policy.write_text(
        policy.read_text(encoding="utf-8").replace("name:", "name: stricter #", 1), encoding="utf-8"
    )
    assert isinstance(tick_ledger(project, instance), dg.RunRequest)


def test_curation_freezes_what_moved_since(project: Refinery, instance: dg.DagsterInstance) -> None:
    assert [type(asked) for asked in tick_curation(project, instance)] == [dg.SkipReason]
    stage_sources(project)
    run(project)
    assert [type(asked) for asked in tick_curation(project, instance)] == [dg.SkipReason]
    gold = project.snapshots.rows(project.snapshots.get("demo@1"))["sample_id"].to_pylist()
    project.flag(gold[:1], "reject", Actor(ActorKind.PERSON, "ana"))
    project.replay()
    [asked] = tick_curation(project, instance)
    assert isinstance(asked, dg.RunRequest)
    assert asked.partition_key == "demo"
    assert tick_curation(project, instance) == [asked]
