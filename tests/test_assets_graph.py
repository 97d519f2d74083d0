"""The code location: what Dagster shows, and that loading it touches nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from assets.definitions import defs

ROOT = Path(__file__).resolve().parent.parent

GRAPH = {
    "raw_samples": ("bronze", "batches", []),
    "inspected": ("silver", "batches", ["raw_samples"]),
    "embeddings": ("silver", "batches", ["inspected"]),
    "near_duplicates": ("silver", None, ["embeddings", "inspected"]),
    "verdicts": ("gold", None, ["near_duplicates"]),
    "snapshots": ("gold", "datasets", ["verdicts"]),
    "shards": ("gold", "datasets", ["snapshots"]),
    "sample_index": ("silver", None, ["snapshots", "verdicts"]),
}


def test_the_graph_is_the_one_of_the_design() -> None:
    graph = defs.resolve_asset_graph()
    found = {}
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        partitions = node.partitions_def
        name = partitions.name if isinstance(partitions, dg.DynamicPartitionsDefinition) else None
        parents = sorted(parent.to_user_string() for parent in node.parent_keys)
        found[key.to_user_string()] = (node.group_name, name, parents)
    assert found == GRAPH


def test_every_asset_says_what_it_is() -> None:
    for spec in defs.resolve_all_asset_specs():
        assert spec.description
        assert len(spec.description) > 40
        assert spec.kinds
        assert spec.code_version


def test_checks_guard_what_gold_rests_on() -> None:
    graph = defs.resolve_asset_graph()
    checks = {key.name: graph.get(key).blocking for key in graph.asset_check_keys}
    assert checks == {
        "accounting_adds_up": True,
        "embeddings_finite_and_complete": True,
        "snapshot_verifies": True,
        "gate_passes": True,
        "index_matches_truth": False,
        "shards_verify": False,
    }


def test_only_sensors_and_the_schedule_start_what_nothing_precedes() -> None:
    graph = defs.resolve_asset_graph()
    conditions = {
        key.to_user_string(): graph.get(key).automation_condition for key in graph.get_all_asset_keys()
    }
    assert {name for name, condition in conditions.items() if condition is None} == {
        "raw_samples",
        "snapshots",
    }
    labels = {condition.get_label() for condition in conditions.values() if condition}
    assert labels == {"follows its inputs"}


def test_sensors_and_the_schedule_run_without_being_switched_on() -> None:
    sensors = {sensor.name: sensor.default_status.value for sensor in defs.sensors or []}
    assert sensors == {"watch_sources": "RUNNING", "watch_ledger": "RUNNING", "follow_data": "RUNNING"}
    assert [(s.name, s.default_status.value) for s in defs.schedules or []] == [("curation", "RUNNING")]


def test_the_workspace_validates_without_a_project(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("REFINERY_", "DAGSTER_"))}
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "dagster", "definitions", "validate", "-w", "workspace.yaml"],
        env={**environment, "DAGSTER_HOME": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "refinery" in done.stderr + done.stdout


def test_loading_the_definitions_opens_no_project_and_loads_no_model(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from assets.definitions import defs\n"
        "slow = {'torch', 'lancedb', 'open_clip', 'timm', 'sklearn'} & set(sys.modules)\n"
        "assert not slow, slow\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "REFINERY_PROJECT": str(tmp_path / "nowhere")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text", ["![x](https://example.org/x.png)", "<img src=x onerror=alert(1)>", "a | b\nc"]
)
def test_data_in_metadata_is_never_markup(text: str) -> None:
    from refinery.markdown import escape

    shown = escape(text)
    for mark in ("<", "|", "](", "\n"):
        assert mark not in shown.replace(f"\\{mark[0]}", "")


def test_the_ui_of_a_project_that_is_not_there_says_how_to_get_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from assets.up import main

    assert main(["--project", str(tmp_path / "nowhere")]) == 3
    assert "make demo" in capsys.readouterr().err
    assert main(["--project", str(tmp_path)]) == 4
    assert "refinery.yaml" in capsys.readouterr().err
