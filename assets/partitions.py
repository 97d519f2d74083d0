"""What the graph is partitioned by: batches and datasets. Samples are never partitions."""

from __future__ import annotations

import dagster as dg

from refinery.project import Refinery

BATCHES = dg.DynamicPartitionsDefinition(name="batches")
DATASETS = dg.DynamicPartitionsDefinition(name="datasets")


def know_partitions(instance: dg.DagsterInstance, project: Refinery) -> None:
    """Make every batch of the store and every dataset of refinery.yaml a partition that Dagster knows."""
    wanted = {
        "batches": [*project.batches.landed(), *project.batches.staged()],
        "datasets": list(project.settings.datasets),
    }
    for name, keys in wanted.items():
        known = set(instance.get_dynamic_partitions(name))
        if fresh := [key for key in keys if key not in known]:
            instance.add_dynamic_partitions(name, fresh)
