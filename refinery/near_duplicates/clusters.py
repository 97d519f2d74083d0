"""The near-duplicates step, and its clusters as everybody reads them."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

from refinery.config import NearDuplicateSettings
from refinery.errors import InputError
from refinery.facts import Step
from refinery.near_duplicates.state import State
from refinery.store import ObjectStore

CODE_VERSION = 1
MIN_CONTRAST = 0.02
MIN_ENTROPY = 1.0
COLUMNS = pa.schema([("pixels", pa.bool_()), ("vector", pa.bool_())])


def near_duplicates_step(
    settings: NearDuplicateSettings, inspect_step: Step, embed_step: Step | None
) -> Step:
    """The near-duplicates step over these facts; without `embed_step` embeddings take no part."""
    params = {
        "phash_distance": settings.phash_distance,
        "cosine": settings.cosine,
        "min_contrast": MIN_CONTRAST,
        "min_entropy": MIN_ENTROPY,
        "inspect": inspect_step.key,
        "embed": embed_step.key if embed_step else None,
    }
    return Step("near_duplicates", CODE_VERSION, params, columns=COLUMNS)


def read_clusters(store: ObjectStore, step: Step) -> pa.Table:
    """The clusters of two samples or more: sample_id, cluster (its smallest sample id), size; sorted by sample id."""
    return State(store, step).clusters()


def clusters_root(store: ObjectStore, step: Step) -> str:
    """The digest of all clusters: it changes exactly when `read_clusters` does. Empty before the first update."""
    return State(store, step).head()[0].root


def unmarked_batches(store: ObjectStore, step: Step) -> tuple[str, ...]:
    """The batches that were compared without that being written down among the facts yet: a run was killed in between."""
    return State(store, step).head()[0].unmarked


def members(store: ObjectStore, step: Step, sample_id: str) -> list[str]:
    """The samples of the cluster that `sample_id` is in, sorted. InputError when it has no near-duplicates."""
    table = read_clusters(store, step)
    found = cluster_mates(table, [sample_id])
    if not found:
        raise InputError(
            f"Sample {sample_id} is in no near-duplicate cluster: nothing is close to it, or it was not compared yet.",
            kind="no_cluster",
        )
    return sorted(found)


def cluster_mates(clusters: pa.Table, sample_ids: Collection[str]) -> set[str]:
    """All members of the clusters (rows as `read_clusters` gives them) that these samples are in, themselves included."""
    wanted = pa.array(list(sample_ids), pa.string())
    mine = clusters.filter(pc.is_in(clusters["sample_id"], wanted))["cluster"]
    return set(clusters.filter(pc.is_in(clusters["cluster"], pc.unique(mine)))["sample_id"].to_pylist())
