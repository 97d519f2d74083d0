"""Near-duplicates: one clustering over equal pixels, close perceptual hashes and close embeddings.

Two samples are joined or not by their own facts alone, and clusters are the connected components: the result depends
neither on the order of arrival nor on how samples were cut into batches. A cluster's id is its smallest sample id.
Which member is kept is decided by verdicts.
"""

from __future__ import annotations

from refinery.near_duplicates.clusters import (
    cluster_mates,
    clusters_root,
    members,
    near_duplicates_step,
    read_clusters,
    unmarked_batches,
)
from refinery.near_duplicates.update import ClusterReport, update_clusters

__all__ = [
    "ClusterReport",
    "cluster_mates",
    "clusters_root",
    "members",
    "near_duplicates_step",
    "read_clusters",
    "unmarked_batches",
    "update_clusters",
]
