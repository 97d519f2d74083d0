"""`refinery run`: materialize what is missing, through the same assets that the Dagster UI shows, in this process.

What is missing is read from truth in the store, so a run that was killed at any moment is finished by the next one, and a
run with nothing to do starts nothing.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from assets.plan import BatchWork, check_dataset, dataset_is_due, gold_is_due, plan_batches
from refinery.accounting import Status, audit
from refinery.errors import CorruptionError, GateError
from refinery.progress import Progress
from refinery.project import Refinery

if TYPE_CHECKING:
    import dagster as dg

ORDER = (
    *("raw_samples", "inspected", "embeddings", "near_duplicates"),
    *("verdicts", "snapshots", "shards", "sample_index"),
)
_UNITS = {"raw_samples": "entries", "snapshots": "snapshots", "shards": "shards", "sample_index": "documents"}
GATE_CHECK = "gate_passes"
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True, slots=True)
class StageReport:
    """One asset over all that was materialized of it: `computed` now, `reused` as they were, `failed` among the computed."""

    name: str
    unit: str
    computed: int
    reused: int
    failed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run did. `replay` has evaluated, changed, reused, scope and flips when verdicts were replayed, else None;
    `snapshots` are the newest of the datasets, those made now under `frozen`. `failed_checks` are the findings of asset
    checks that let the run go on; a failed blocking one is a CorruptionError, or a GateError when it is a gate's."""

    stages: list[StageReport]
    replay: dict[str, Any] | None
    snapshots: list[str]
    frozen: list[str]
    failed_checks: list[str]
    status: Status
    launched: int
    seconds: float

    @property
    def facts_computed(self) -> int:
        """Facts of all steps that this run computed."""
        facts = ("inspected", "embeddings", "near_duplicates")
        return sum(stage.computed for stage in self.stages if stage.name in facts)

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return {
            "stages": {s.name: {k: v for k, v in asdict(s).items() if k != "name"} for s in self.stages},
            "replay": self.replay,
            "snapshots": self.snapshots,
            "frozen": self.frozen,
            "failed_checks": self.failed_checks,
            "facts_computed": self.facts_computed,
            "runs_launched": self.launched,
            "seconds": self.seconds,
            "status": self.status.to_json(),
            "root": self.status.root,
        }

    def lines(self) -> Iterator[str]:
        """The report for people."""
        for stage in self.stages:
            failed = f", {stage.failed:,} of them failures" if stage.failed else ""
            took = f"  {stage.seconds:.1f} s" if stage.computed else ""
            yield f"{stage.name:16} {stage.computed:>8,} {stage.unit} computed{failed}, {stage.reused:,} reused{took}"
        if self.replay is None:
            yield "verdicts are current: no sample was evaluated again"
        else:
            replay = self.replay
            yield (
                f"replay: {replay['evaluated']:,} samples evaluated ({replay['scope']}), {replay['reused']:,} reused, "
                f"{replay['changed']:,} changed"
            )
            for flip, count in replay["flips"].items():
                yield f"  {flip}: {count:,}"
        for ref in self.snapshots:
            yield f"{ref} {'frozen now' if ref in self.frozen else 'is still what gold gives'}"
        yield from self.failed_checks
        held, s = sum(self.status.held.values()), self.status
        yield f"{s.seen:,} seen = {s.gold:,} gold + {held:,} held + {s.pending:,} pending"
        yield f"root {s.root}  (ledger offset {s.ledger_offset}, {self.seconds:.1f} s)"


@dataclass
class _Tally:
    """Sums what materializations said, per asset."""

    numbers: dict[str, dict[str, float]] = field(default_factory=dict)
    replay: dict[str, Any] | None = None
    frozen: list[str] = field(default_factory=list)
    failed_checks: list[str] = field(default_factory=list)

    def add(self, asset: str, values: dict[str, Any]) -> None:
        """Take in the metadata values of one materialization."""
        sums = self.numbers.setdefault(asset, dict.fromkeys(("computed", "reused", "failed", "seconds"), 0))
        for name in sums:
            sums[name] += values.get(name, 0)
        if asset == "verdicts":
            self.replay = {
                "evaluated": values["computed"],
                **{k: values[k] for k in ("reused", "changed", "scope", "root", "previous_root")},
                "flips": values["flips"],
            }
        if asset == "snapshots" and values["computed"]:
            self.frozen.append(values["snapshot"])

    def stages(self, works: Sequence[BatchWork]) -> list[StageReport]:
        """One per asset that the project has anything of, what was not even launched counted as reused."""
        idle = [w for w in works if not w.due]
        for name in ("inspected", "embeddings"):
            self.add(name, {"reused": sum(w.samples for w in idle)})
        return [
            StageReport(
                name,
                _UNITS.get(name, "samples"),
                computed=int(sums["computed"]),
                reused=int(sums["reused"]),
                failed=int(sums["failed"]),
                seconds=round(sums["seconds"], 3),
            )
            for name in ORDER
            if (sums := self.numbers.get(name)) is not None
        ]


def run(
    project: Refinery,
    *,
    progress: Callable[[str], Progress] | None = None,
    workers: int | None = None,
) -> RunReport:
    """Materialize what is missing: land, inspect, embed, cluster, judge, freeze the datasets of refinery.yaml, export
    them, index. `progress` makes, for the name of a piece of work, what is told about it; `workers` bounds the threads.

    Raises what the assets raise, GateError when a dataset does not pass its gate (after the others were frozen), and
    CorruptionError when the samples do not add up.
    """
    started = time.monotonic()
    with _Launcher(project, progress, workers or 0) as launch:
        works = plan_batches(project)
        for work in works:
            if work.due:
                launch("refine_batch", work.batch)
        judged = bool(project.batches.landed())
        if gold_is_due(project):
            launch("curate")
        if judged:
            _freeze(project, launch, list(project.settings.datasets))
        return _report(project, launch, works, list(project.settings.datasets), started)


def run_datasets(
    project: Refinery,
    names: Sequence[str],
    *,
    progress: Callable[[str], Progress] | None = None,
    workers: int | None = None,
) -> RunReport:
    """Freeze and export these datasets of refinery.yaml, and let the index know. InputError for an unknown one."""
    started = time.monotonic()
    names = [check_dataset(project, name) for name in names]
    with _Launcher(project, progress, workers or 0) as launch:
        _freeze(project, launch, names)
        return _report(project, launch, plan_batches(project), names, started)


def _freeze(project: Refinery, launch: _Launcher, names: Sequence[str]) -> None:
    due = [name for name in names if dataset_is_due(project, name)]
    failed: list[str] = []
    for name in due:
        try:
            launch("freeze_dataset", name)
        except GateError as error:  # its dataset is frozen and not exported; the others are no worse for it
            failed.append(str(error))
    if due and not project.projector.is_current():
        launch("project_index")
    if failed:
        raise GateError(" ".join(failed), kind="gate_failed")


def _report(
    project: Refinery, launch: _Launcher, works: Sequence[BatchWork], names: Sequence[str], started: float
) -> RunReport:
    if launch.count:
        audit(project.store, project.batches)
    newest = [project.snapshots.latest(name) for name in names]
    return RunReport(
        stages=launch.tally.stages(works),
        replay=launch.tally.replay,
        snapshots=[s.ref for s in newest if s is not None],
        frozen=launch.tally.frozen,
        failed_checks=launch.tally.failed_checks,
        status=project.status(),
        launched=launch.count,
        seconds=round(time.monotonic() - started, 3),
    )


class _Launcher:
    """Starts Dagster when the first run is launched, and never when none is."""

    def __init__(self, project: Refinery, progress: Callable[[str], Progress] | None, workers: int) -> None:
        self._project, self._progress, self._workers = project, progress, workers
        self._stack = ExitStack()
        self._instance: dg.DagsterInstance | None = None
        self._tags: dict[str, str] = {}
        self.tally = _Tally()
        self.count = 0

    def __enter__(self) -> _Launcher:
        return self

    def __exit__(self, *failure: Any) -> None:
        self._stack.close()

    def __call__(self, job: str, partition: str | None = None) -> None:
        """Run a job, for a partition when it has them, and take in what its assets say."""
        from dagster._core.errors import DagsterAssetCheckFailedError, DagsterExecutionInterruptedError

        from assets.definitions import defs
        from assets.instance import failed_checks

        instance = self._instance or self._start()
        self.count += 1
        run_id = str(uuid.uuid4())
        try:
            result = defs.resolve_job_def(job).execute_in_process(
                run_config=_QUIET,
                instance=instance,
                partition_key=partition,
                run_id=run_id,
                tags=self._tags,
            )
        except DagsterExecutionInterruptedError:
            raise KeyboardInterrupt from None
        except DagsterAssetCheckFailedError:
            checks = dict(failed_checks(instance, run_id))
            if set(checks) == {GATE_CHECK}:
                raise GateError(checks[GATE_CHECK], kind="gate_failed") from None
            raise CorruptionError(" ".join(checks.values()), kind="failed_check") from None
        self.tally.failed_checks.extend(text for _, text in failed_checks(instance, run_id))
        for event in result.get_asset_materialization_events():
            found = event.step_materialization_data.materialization
            values = {name: entry.value for name, entry in found.metadata.items()}
            self.tally.add(found.asset_key.to_user_string(), values)

    def _start(self) -> dg.DagsterInstance:
        from assets.instance import open_instance
        from assets.partitions import know_partitions
        from resources import attached

        self._stack.enter_context(attached(self._project, self._progress, self._workers))
        self._instance, self._tags = self._stack.enter_context(open_instance(self._project.path))
        know_partitions(self._instance, self._project)
        return self._instance
