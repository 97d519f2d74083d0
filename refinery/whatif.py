"""What-if: the verdicts another policy would give, before anybody adopts it. Nothing is written."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from refinery.documents import state_rows
from refinery.ledger import Ledger
from refinery.policy import Policy
from refinery.replay import Replayer
from refinery.states.head import read_head
from refinery.store import ObjectStore


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What would move: `flips` counts moves between verdicts, `moves` names each sample with its reasons before and after."""

    policy: str
    counts: dict[str, int]
    held: dict[str, int]
    flips: dict[str, int]
    moves: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def what_if(store: ObjectStore, ledger: Ledger, replayer: Replayer, policy: Policy) -> WhatIf:
    """Evaluate every sample under `policy` and compare with the verdict state that stands."""
    described, verdicts = replayer.evaluate(policy, ledger.view())
    after = state_rows(described, verdicts).select(["sample_id", "verdict", "reasons"]).to_pylist()
    head, _ = read_head(store)
    before = {
        r["sample_id"]: r
        for r in replayer.trees.rows(head.node).select(["sample_id", "verdict", "reasons"]).to_pylist()
    }
    fresh = {"verdict": "new", "reasons": []}
    flips: Counter[str] = Counter()
    moves = []
    for row in after:
        old = before.get(row["sample_id"], fresh)
        if (old["verdict"], old["reasons"]) == (row["verdict"], row["reasons"]):
            continue
        if old["verdict"] != row["verdict"]:
            flips[f"{old['verdict']} → {row['verdict']}"] += 1
        moves.append(
            {
                "sample_id": row["sample_id"],
                "from": old["verdict"],
                "to": row["verdict"],
                "reasons_before": old["reasons"],
                "reasons": row["reasons"],
            }
        )
    return WhatIf(
        policy=policy.digest,
        counts=dict(sorted(Counter(r["verdict"] for r in after).items())),
        held=dict(sorted(Counter(r["reasons"][0] for r in after if r["reasons"]).items())),
        flips=dict(sorted(flips.items())),
        moves=moves,
    )
