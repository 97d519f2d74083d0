"""Total accounting: every sample ever seen is gold, held or pending, and the numbers come from different places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from refinery.batches import Batches
from refinery.errors import CorruptionError
from refinery.ledger import Ledger
from refinery.states.head import read_head
from refinery.states.tree import StateTrees
from refinery.store import ObjectStore
from refinery.verdicts import GOLD, HELD, PENDING


@dataclass(frozen=True, slots=True)
class Status:
    """Where a project stands. `seen` counts distinct samples in batch manifests; `gold`, `held` (by first reason) and
    `pending` come from the verdict state, samples it has not met yet being pending. `stale` tells that a replay is due."""

    seen: int
    gold: int
    held: dict[str, int]
    pending: int
    origins: int
    batches: int
    staged: int
    unreadable: int
    ledger_offset: int
    root: str
    policy: str
    stale: bool

    def to_json(self) -> dict[str, Any]:
        held_total = sum(self.held.values())
        return {
            "seen": self.seen,
            "gold": self.gold,
            "held": self.held,
            "held_total": held_total,
            "pending": self.pending,
            "origins": self.origins,
            "batches": self.batches,
            "staged": self.staged,
            "unreadable": self.unreadable,
            "ledger_offset": self.ledger_offset,
            "root": self.root,
            "policy": self.policy,
            "stale": self.stale,
        }


def status(store: ObjectStore, ledger: Ledger, batches: Batches) -> Status:
    """The status of a store; cheap, from the state's head and the manifests."""
    head, _ = read_head(store)
    landed = batches.landed()
    ids = batches.origins(columns=["sample_id"])["sample_id"]
    seen = len(pc.unique(ids))
    unmet = seen - head.count
    return Status(
        seen=seen,
        gold=head.counts.get(GOLD, 0),
        held=dict(head.held),
        pending=head.counts.get(PENDING, 0) + unmet,
        origins=len(ids),
        batches=len(landed),
        staged=len(batches.staged()),
        unreadable=sum(len(batches.info(b).unreadable) for b in landed),
        ledger_offset=ledger.offset,
        root=head.root,
        policy=head.policy,
        stale=head.ledger_offset != ledger.moving_offset or head.batches != landed,
    )


def audit(store: ObjectStore, batches: Batches) -> dict[str, int]:
    """Count everything anew: the ids of the manifests against the rows of the state's leaves.

    Returns seen, gold, held, pending. CorruptionError when a sample has a verdict without having been seen, when two rows
    speak of one sample, or when the head's counts are not those of its rows.
    """
    head, _ = read_head(store)
    rows = StateTrees(store).rows(head.node)
    seen = set(pc.unique(batches.origins(columns=["sample_id"])["sample_id"]).to_pylist())
    judged = rows["sample_id"].to_pylist()
    strangers = set(judged) - seen
    if strangers or len(set(judged)) != len(judged):
        raise CorruptionError(
            f"The verdict state does not add up: {len(strangers)} samples have a verdict but were never seen, "
            f"{len(judged) - len(set(judged))} have two. Delete states/head.json and run `refinery run` to rebuild it.",
            kind="accounting",
        )
    verdicts = rows["verdict"].to_pylist()
    counts = {v: verdicts.count(v) for v in (GOLD, HELD, PENDING)}
    if any(counts[v] != head.counts.get(v, 0) for v in counts) or sum(head.held.values()) != counts[HELD]:
        raise CorruptionError(
            f"The head counts {head.counts} but its rows are {counts}. Delete states/head.json and run `refinery run`.",
            kind="accounting",
        )
    counts[PENDING] += len(seen) - len(judged)
    return {"seen": len(seen), **counts}
