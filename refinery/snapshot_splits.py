"""The splits of a snapshot: the rule, and the near-duplicate clusters that its samples were in when it was frozen.

A split follows from rule and cluster, so it is stored for no sample; but clusters grow, and a snapshot never changes, so the clusters
of its samples are kept as they were: `snapshots/<name>/clusters/<digest>.json`, named by the digest of its bytes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from refinery.digests import canonical_json, digest
from refinery.errors import CorruptionError, InputError, did_you_mean
from refinery.splits import Splits
from refinery.store import ObjectStore
from refinery.store.fresh import put_fresh

if TYPE_CHECKING:
    from refinery.snapshots import Snapshot

FORMAT = "refinery.clusters/1"


def record_splits(
    store: ObjectStore, name: str, splits: Splits, sample_ids: Sequence[str], clusters: Mapping[str, str]
) -> dict[str, Any]:
    """What the next snapshot of `name`, of these samples, says of its splits; their clusters are stored."""
    mine = {i: clusters[i] for i in sample_ids if i in clusters}
    data = canonical_json({"format": FORMAT, "clusters": mine})
    put_fresh(store, clusters_key(name, digest(data)), data)
    counts = Counter(splits.assign(sample_ids, mine))
    return {
        "shares": [[split, share] for split, share in splits.shares.items()],
        "seed": splits.seed,
        "clusters": digest(data),
        "counts": {split: counts[split] for split in splits.names},
    }


@dataclass(frozen=True)
class SnapshotSplits:
    """The splits of one snapshot that has some. CorruptionError when what it kept of clusters is missing or damaged."""

    store: ObjectStore
    snapshot: Snapshot

    @cached_property
    def rule(self) -> Splits:
        """Names, shares and seed."""
        return Splits(dict(self._recorded["shares"]), self._recorded["seed"])

    @cached_property
    def clusters(self) -> dict[str, str]:
        """The cluster, when it was frozen, of each of its samples that was in one."""
        key = clusters_key(self.snapshot.name, self._recorded["clusters"])
        found = self.store.get_with_etag(key)
        if found is None or digest(found[0]) != self._recorded["clusters"]:
            state = "missing" if found is None else "damaged"
            raise CorruptionError(
                f"{key} is {state}, without it nobody knows the splits of {self.snapshot.ref}: restore it from a backup.",
                kind="damaged_snapshot",
            )
        raw = json.loads(found[0])
        if raw["format"] != FORMAT:
            raise CorruptionError(
                f"{key} is not {FORMAT}: this version cannot read it.", kind="unknown_format"
            )
        clusters: dict[str, str] = raw["clusters"]
        return clusters

    def assign(self, sample_ids: Sequence[str]) -> list[str]:
        """The split of each of these samples."""
        return self.rule.assign(sample_ids, self.clusters)

    def check(self, split: str) -> None:
        """InputError when it has no split of this name."""
        if split not in self.rule.names:
            raise InputError(
                f"{self.snapshot.ref} has no split {split!r}: it has {', '.join(self.rule.names)}."
                f"{did_you_mean(split, self.rule.names)}",
                kind="no_such_split",
            )

    @property
    def _recorded(self) -> dict[str, Any]:
        if self.snapshot.splits is None:
            raise InputError(
                f"{self.snapshot.ref} has no splits: freeze it with `--splits train=0.9,val=0.05,test=0.05`, or give "
                f"its dataset `splits:` in refinery.yaml.",
                kind="no_splits",
            )
        return self.snapshot.splits


def clusters_key(name: str, digest: str) -> str:
    """Where the clusters of the samples of a snapshot of `name` are kept."""
    return f"snapshots/{name}/clusters/{digest}.json"
