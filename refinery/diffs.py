"""The difference of two snapshots, with the cause of every sample that moved."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from refinery.batches import Batches
from refinery.inputs import Steps
from refinery.ledger import Event, Ledger
from refinery.near_duplicates import read_clusters
from refinery.snapshot_splits import SnapshotSplits
from refinery.snapshots import Snapshot
from refinery.states.tree import StateTrees
from refinery.store import ObjectStore


@dataclass(frozen=True, slots=True)
class Move:
    """One sample that differs: `how` is added, removed or changed; `cause` has one of the kinds event, ingest, facts,
    policy, step, near_duplicate, filter, attributes, and a sentence."""

    sample_id: str
    how: str
    cause: str
    sentence: str


@dataclass(frozen=True, slots=True)
class SnapshotDiff:
    """Every sample that is not the same in both snapshots, in order of sample id; and the samples of both that are in another
    split (old, new), when both have splits."""

    old: str
    new: str
    moves: list[Move]
    split_moves: dict[str, tuple[str, str]] = field(default_factory=dict)

    def ids(self, how: str) -> list[str]:
        """The samples that moved this way."""
        return [m.sample_id for m in self.moves if m.how == how]

    @property
    def causes(self) -> dict[str, int]:
        """How many samples each cause moved; sums to the whole diff."""
        return dict(Counter(m.cause for m in self.moves).most_common())

    def to_json(self) -> dict[str, Any]:
        counts = {how: len(self.ids(how)) for how in ("added", "removed", "changed")}
        return {
            "old": self.old,
            "new": self.new,
            **counts,
            "causes": self.causes,
            "moves": [asdict(m) for m in self.moves],
            "split_moves": [
                {"sample_id": i, "old": old, "new": new} for i, (old, new) in sorted(self.split_moves.items())
            ],
        }


class Differ:
    """Compares snapshots of one store. Equal subtrees are never read."""

    def __init__(self, store: ObjectStore, ledger: Ledger, batches: Batches, steps: Steps) -> None:
        self._store, self._ledger, self._batches, self._steps = store, ledger, batches, steps
        self._trees = StateTrees(store)

    def diff(self, old: Snapshot, new: Snapshot) -> SnapshotDiff:
        """What differs between two snapshots, and why."""
        gone, came = self._trees.diff(old.node, new.node)
        before, after = set(gone["sample_id"].to_pylist()), set(came["sample_id"].to_pylist())
        moved = sorted(before | after)
        rows_old, rows_new = (_by_id(self._trees.lookup(s.state_node, moved)) for s in (old, new))
        low, high = sorted((old.ledger_offset, new.ledger_offset))
        events: dict[str, list[Event]] = {}
        for event in self._ledger.events(after=low, upto=high):
            if event.sample_id:
                events.setdefault(event.sample_id, []).append(event)
        clusters = _Clusters(self._store, self._steps)
        mates_old, mates_new = (
            _by_id(self._trees.lookup(s.state_node, clusters.mates(moved))) for s in (old, new)
        )
        moves = []
        for sample_id in moved:
            how = (
                "changed"
                if sample_id in before and sample_id in after
                else "added"
                if sample_id in after
                else "removed"
            )
            cause, sentence = self._cause(sample_id, old, new, rows_old, rows_new, events)
            if cause == "near_duplicate":
                sentence = (
                    _mate_sentence(clusters.mates([sample_id]), mates_old, mates_new, events) or sentence
                )
            moves.append(Move(sample_id, how, cause, sentence))
        return SnapshotDiff(old.ref, new.ref, moves, self._split_moves(old, new))

    def _split_moves(self, old: Snapshot, new: Snapshot) -> dict[str, tuple[str, str]]:
        """The samples of both that are in another split now: clusters grew together, or the splits were given otherwise."""
        if old.splits is None or new.splits is None or old.splits == new.splits:
            return {}
        before, after = SnapshotSplits(self._store, old), SnapshotSplits(self._store, new)
        ids = set(self._trees.rows(old.node)["sample_id"].to_pylist())
        both = [i for i in self._trees.rows(new.node)["sample_id"].to_pylist() if i in ids]
        return after.rule.moved(both, before.clusters, after.clusters, before.rule)

    def _cause(
        self,
        sample_id: str,
        old: Snapshot,
        new: Snapshot,
        rows_old: dict[str, dict[str, Any]],
        rows_new: dict[str, dict[str, Any]],
        events: dict[str, list[Event]],
    ) -> tuple[str, str]:
        before, after = rows_old.get(sample_id), rows_new.get(sample_id)
        if before is None or after is None:
            return "ingest", f"first seen in {self._first_seen(sample_id)}"
        if sample_id in events:
            return "event", events[sample_id][-1].describe()
        if before["verdict"] == "pending" or after["verdict"] == "pending":
            return "facts", "its facts arrived in between"
        if before == after:
            return "filter", f"the filter of {new.name} changed from {old.filter!r} to {new.filter!r}"
        if before["attributes"] != after["attributes"] or before["payloads"] != after["payloads"]:
            return (
                "attributes",
                f"a newer origin changed {_changed_keys(before['attributes'], after['attributes'])}",
            )
        changed = sorted(set(before["reasons"]) ^ set(after["reasons"]))
        if old.policy != new.policy:
            return (
                "policy",
                f"policy {old.policy[:12]} → {new.policy[:12]}, rules {', '.join(changed) or 'as before'}",
            )
        steps = [n for n in old.steps if old.steps[n].get("key") != new.steps.get(n, {}).get("key")]
        if steps:
            return "step", f"new version of {', '.join(steps)}: rules {', '.join(changed)}"
        return "near_duplicate", f"another sample of its cluster moved: rules {', '.join(changed)}"

    def _first_seen(self, sample_id: str) -> str:
        columns = ["sample_id", "source", "batch", "ingested_at"]
        origins = self._batches.origins(columns=columns, sample_ids=[sample_id])
        found = origins.sort_by("ingested_at").to_pylist()
        return (
            f"batch {found[0]['batch']} of source {found[0]['source']}" if found else "no batch of this store"
        )


class _Clusters:
    def __init__(self, store: ObjectStore, steps: Steps) -> None:
        table = read_clusters(store, steps.near_duplicates)
        self._cluster = dict(zip(table["sample_id"].to_pylist(), table["cluster"].to_pylist(), strict=True))
        self._members: dict[str, list[str]] = {}
        for sample_id, cluster in self._cluster.items():
            self._members.setdefault(cluster, []).append(sample_id)

    def mates(self, sample_ids: Sequence[str]) -> list[str]:
        """The other members of these samples' clusters."""
        mine = {m for i in sample_ids if i in self._cluster for m in self._members[self._cluster[i]]}
        return sorted(mine.difference(sample_ids) if len(sample_ids) == 1 else mine)


def _mate_sentence(
    mates: Sequence[str],
    old: dict[str, dict[str, Any]],
    new: dict[str, dict[str, Any]],
    events: dict[str, list[Event]],
) -> str | None:
    """What happened to the member of the cluster that made this sample move."""
    for mate in mates:
        if mate in events:
            return f"near-duplicate {mate[:12]}: {events[mate][-1].describe()}"
    for mate in mates:
        if mate in new and mate not in old:
            return f"near-duplicate {mate[:12]} was first seen in between"
    return None


def _by_id(rows: pa.Table) -> dict[str, dict[str, Any]]:
    return {row["sample_id"]: row for row in rows.to_pylist()}


def _changed_keys(before: str, after: str) -> str:
    old, new = json.loads(before), json.loads(after)
    return ", ".join(sorted(k for k in {*old, *new} if old.get(k) != new.get(k))) or "its payloads"
