"""Sensors: what in the world starts work. Run keys are content digests, never clock times."""

from __future__ import annotations

import dagster as dg

from assets.jobs import curate, refine_batch
from assets.partitions import know_partitions
from refinery.digests import digest_json
from refinery.errors import RefineryError
from refinery.ingest import stage
from refinery.project import Refinery
from refinery.sources import configured_source
from refinery.states.head import read_head
from resources import RefineryResource


@dg.sensor(
    job=refine_batch,
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    description="Watches the sources of refinery.yaml: what is new is staged as batches, and every batch that was never "
    "inspected and embedded starts a run of its own.",
)
def watch_sources(context: dg.SensorEvaluationContext, refinery: RefineryResource) -> dg.SensorResult:
    project = refinery.open()
    errors = _stage_sources(context, project)
    know_partitions(context.instance, project)
    batches = _untouched(project)
    if errors and not batches:
        raise errors[0]
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=batch, partition_key=batch) for batch in batches],
        skip_reason=None if batches else "No source has anything new, and no batch waits.",
    )


@dg.sensor(
    job=curate,
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=15,
    description="Replays gold when the ledger moved or the policy was edited.",
)
def watch_ledger(refinery: RefineryResource) -> dg.RunRequest | dg.SkipReason:
    project = refinery.open()
    head, _ = read_head(project.store)
    offset, policy = project.ledger.moving_offset, project.policy.digest
    if not head.policy:
        return dg.SkipReason("Nothing was judged yet: verdicts follow the first batch.")
    if (head.ledger_offset, head.policy) == (offset, policy):
        return dg.SkipReason(f"Verdicts are at the ledger's offset {offset}.")
    return dg.RunRequest(run_key=digest_json([offset, policy, head.root]))


def _stage_sources(context: dg.SensorEvaluationContext, project: Refinery) -> list[RefineryError]:
    """Stage what the sources have that is new; the errors of those that could not be listed."""
    errors = []
    for settings in project.settings.sources:
        try:
            source = configured_source(settings, project.path)
            staged = stage(project.store, project.fields, source, batch_size=project.settings.batch_size)
        except RefineryError as error:
            context.log.error(f"Source {settings.name!r}: {error}")
            errors.append(error)
        else:
            context.log.debug(f"Source {settings.name!r}: {len(staged)} new batches.")
    return errors


def _untouched(project: Refinery) -> list[str]:
    """The batches that wait for landing, and the landed ones that no step has facts of."""
    steps = (project.steps.inspect, *project.steps.embed.values())
    files = [project.facts.files(step) for step in steps]
    landed = [b for b in project.batches.landed() if not all(b in done for done in files)]
    return [*landed, *project.batches.staged()]
