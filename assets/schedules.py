"""Schedules: what is done by the clock."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg

from assets.jobs import freeze_dataset
from assets.partitions import know_partitions
from assets.plan import dataset_is_due
from refinery.digests import digest_json
from refinery.states.head import read_head
from resources import RefineryResource


@dg.schedule(
    job=freeze_dataset,
    cron_schedule="0 5 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Curation, once a day: freezes and exports every dataset of refinery.yaml whose gold moved since.",
)
def curation(
    context: dg.ScheduleEvaluationContext, refinery: RefineryResource
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    project = refinery.open()
    know_partitions(context.instance, project)
    head, _ = read_head(project.store)
    due = [name for name in project.settings.datasets if head.policy and dataset_is_due(project, name)]
    for name in due:
        recipe = project.settings.datasets[name].model_dump(mode="json")
        yield dg.RunRequest(
            run_key=digest_json([name, head.root, head.ledger_offset, recipe]), partition_key=name
        )
    if not due:
        yield dg.SkipReason("Every dataset is frozen and exported as gold stands.")
