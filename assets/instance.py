"""The Dagster instance of a project: `<project>/.dagster`, shared by `refinery run` and the UI of `make up`."""

from __future__ import annotations

import fcntl
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from dagster._core.instance.ref import InstanceRef

CONFIG = """\
# Written by the refinery: how Dagster runs for this project.
telemetry: {enabled: false}
nux: {enabled: false}
run_retries: {enabled: true, max_retries: 0, retry_on_asset_or_op_failure: false}
concurrency:
  pools: {default_limit: 1}
  runs: {max_concurrent_runs: 2}
"""
PROCESS_TAG = "refinery/process"
_UNDER_WAY = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING]
# Output of steps goes where the command's does, not into files.
_IN_PROCESS = {
    "compute_logs": {
        "module": "dagster._core.storage.noop_compute_log_manager",
        "class": "NoOpComputeLogManager",
    }
}


def dagster_home(project: Path) -> Path:
    """The folder that is DAGSTER_HOME for a project, with its dagster.yaml."""
    home = project / ".dagster"
    home.mkdir(exist_ok=True)
    config = home / "dagster.yaml"
    if not config.exists() or config.read_text(encoding="utf-8") != CONFIG:
        fresh = config.with_name(f"dagster.yaml.{uuid.uuid4().hex}")
        fresh.write_text(CONFIG, encoding="utf-8")
        fresh.replace(config)
    return home


@contextmanager
def open_instance(project: Path) -> Iterator[tuple[dg.DagsterInstance, dict[str, str]]]:
    """The instance, for runs inside this process, and the tags that mark them as this process's."""
    home = dagster_home(project)
    with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(home), overrides=_IN_PROCESS)) as instance:
        end_abandoned_runs(instance, home)
        processes = home / "processes"
        processes.mkdir(exist_ok=True)
        mine = processes / uuid.uuid4().hex
        with mine.open("xb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                yield instance, {PROCESS_TAG: mine.name}
            finally:
                mine.unlink(missing_ok=True)


def end_abandoned_runs(instance: dg.DagsterInstance, home: Path) -> int:
    """Record as canceled the runs of processes that were killed, so that nobody waits for them; how many there were."""
    ended = 0
    for run in instance.get_runs(dg.RunsFilter(statuses=_UNDER_WAY)):
        process = run.tags.get(PROCESS_TAG)
        if process is not None and not _alive(home / "processes" / process):
            instance.report_run_canceled(run, message="The process of this run was killed.")
            ended += 1
    return ended


def failed_checks(instance: dg.DagsterInstance, run_id: str) -> Iterator[tuple[str, str]]:
    """The failed asset checks of a run: the name of each and what it found, a sentence or two."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION):
        if entry.dagster_event is not None:
            found = entry.dagster_event.asset_check_evaluation_data
            if not found.passed:
                asset = found.asset_key.to_user_string()
                yield found.check_name, f"Check {found.check_name} of {asset} failed: {found.description}"


def _alive(file: Path) -> bool:
    """Whether the process that made this file still holds it locked."""
    try:
        with file.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    file.unlink(missing_ok=True)
    return False
