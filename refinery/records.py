"""Records: the ledger says when a policy was adopted and a snapshot frozen. They move no verdict, and are written once:
an event's id follows from what it says, so that of two writers, or after a crash, there is one.
"""

from __future__ import annotations

from dataclasses import replace

from refinery.digests import digest_json
from refinery.ledger import Actor, ActorKind, EventType, Ledger, policy_event, snapshot_event
from refinery.policy import Policy
from refinery.snapshots import Snapshot

PROGRAM = Actor(ActorKind.RULE, "refinery")
"""Who adopts and freezes when nobody says who does: a run."""


def record_policy(ledger: Ledger, policy: Policy, actor: Actor) -> None:
    """Record that a policy is in force from now on, unless it is the last one recorded."""
    adopted = ledger.view().records(EventType.POLICY)
    if adopted and adopted[-1].value == policy.digest:
        return
    event = policy_event(policy.name, policy.digest, actor)
    ledger.append([replace(event, id=digest_json(["policy", len(adopted), policy.digest])[:32])])


def record_snapshot(ledger: Ledger, snapshot: Snapshot, actor: Actor) -> None:
    """Record that a snapshot was frozen, unless that is recorded."""
    event = snapshot_event(snapshot.name, snapshot.version, snapshot.root, actor)
    name = digest_json(["snapshot", snapshot.name, snapshot.version, snapshot.root])[:32]
    ledger.append([replace(event, id=name)])
