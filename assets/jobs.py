"""Jobs: what is materialized together. A run is one process; batches are the unit of parallel work."""

from __future__ import annotations

import dagster as dg

from assets.bronze import raw_samples
from assets.gold import shards, snapshots, verdicts
from assets.silver import embeddings, inspected, near_duplicates, sample_index

# A run that was lost with its machine is started again; a run key is remembered for ever, so nothing else would.
_AGAIN = {"dagster/max_retries": "2"}

refine_batch = dg.define_asset_job(
    "refine_batch",
    selection=[raw_samples, inspected, embeddings],
    tags=_AGAIN,
    description="Land one batch, inspect and embed it, decoding each sample once.",
)
curate = dg.define_asset_job(
    "curate",
    selection=[near_duplicates, verdicts, sample_index],
    tags=_AGAIN,
    description="Bring clusters, verdicts and index up to date with all facts and flags.",
)
freeze_dataset = dg.define_asset_job(
    "freeze_dataset",
    selection=[snapshots, shards],
    tags=_AGAIN,
    description="Freeze a dataset's newest version, when gold moved, and write its shards.",
)
project_index = dg.define_asset_job(
    "project_index",
    selection=[sample_index],
    tags=_AGAIN,
    description="Bring the index up to date with truth.",
)
JOBS = [refine_batch, curate, freeze_dataset, project_index]
