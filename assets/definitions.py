"""The code location of the refinery: everything Dagster loads, named one by one. Loading opens no project."""

from __future__ import annotations

import dagster as dg

from assets.automation import automated, follow_data
from assets.bronze import raw_samples
from assets.checks import (
    accounting_adds_up,
    embeddings_finite_and_complete,
    gate_passes,
    index_matches_truth,
    shards_verify,
    snapshot_verifies,
)
from assets.gold import shards, snapshots, verdicts
from assets.jobs import JOBS
from assets.schedules import curation
from assets.sensors import watch_ledger, watch_sources
from assets.silver import embeddings, inspected, near_duplicates, sample_index
from resources import RefineryResource

defs = dg.Definitions(
    assets=automated(
        [raw_samples, inspected, embeddings, near_duplicates, sample_index, verdicts, snapshots, shards]
    ),
    asset_checks=[
        accounting_adds_up,
        embeddings_finite_and_complete,
        index_matches_truth,
        snapshot_verifies,
        gate_passes,
        shards_verify,
    ],
    jobs=JOBS,
    sensors=[watch_sources, watch_ledger, follow_data],
    schedules=[curation],
    resources={"refinery": RefineryResource()},
    executor=dg.in_process_executor,
)
