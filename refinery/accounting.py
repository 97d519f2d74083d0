"""Total accounting: every sample ever seen is gold, held or pending, and the numbers come from different places."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from refinery.batches import Batches
from refinery.digests import digest_json
from refinery.errors import CorruptionError, RefineryError
from refinery.ledger import Ledger
from refinery.recent import Recent
from refinery.states.head import StateHead, read_head
from refinery.states.tree import StateTrees
from refinery.store import ObjectStore
from refinery.verdicts import GOLD, HELD, PENDING


@dataclass(frozen=True, slots=True)
class Status:
    """Where a project stands. `gold`, `held` (by first reason) and `pending` come from the verdict state, samples it has not
    met yet being pending; `seen` are the distinct samples of the batches that the state met, and of the manifests of those
    that it did not. `stale` tells that a replay is due. `audit` counts every row of manifests and state."""

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


def status(store: ObjectStore, ledger: Ledger, batches: Batches, unmet: Recent[int] | None = None) -> Status:
    """The status of a store; cheap, from the state's head and the manifests of the batches that the state has not met.

    `unmet` remembers how many samples of such batches a state lacks: neither ever changes, so the next status reads nothing.
    """
    head, _ = read_head(store)
    landed, staged = batches.standing()

    def count() -> int:
        return _unmet(store, head, batches, landed)

    unknown = count() if unmet is None else unmet.get(f"{head.root} {digest_json(landed)}", count)
    return Status(
        seen=head.count + unknown,
        gold=head.counts.get(GOLD, 0),
        held=dict(head.held),
        pending=head.counts.get(PENDING, 0) + unknown,
        origins=sum(batches.info(b).origins for b in landed),
        batches=len(landed),
        staged=len(staged),
        unreadable=sum(len(batches.info(b).unreadable) for b in landed),
        ledger_offset=ledger.offset,
        root=head.root,
        policy=head.policy,
        stale=head.ledger_offset != ledger.moving_offset or head.batches != landed,
    )


def _unmet(store: ObjectStore, head: StateHead, batches: Batches, landed: Sequence[str]) -> int:
    """How many samples of these batches the state has no row of. Where that cannot be told by the batches that it has not
    met, because others are gone or its rows cannot be read, all manifests are read and its rows taken at their number."""
    met = set(head.batches)
    fresh = [batch for batch in landed if batch not in met]
    if met.issubset(landed):
        ids = _distinct(batches, fresh)
        with suppress(RefineryError):
            return len(ids) - len(StateTrees(store).lookup(head.node, ids.to_pylist()))
    return len(_distinct(batches, landed)) - head.count


def _distinct(batches: Batches, some: Sequence[str]) -> pa.Array:
    return pc.unique(batches.origins(some, columns=["sample_id"])["sample_id"])


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
