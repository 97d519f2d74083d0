"""What-if: the verdicts that another policy or further events would give, before anybody adopts them. Nothing is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from refinery.documents import state_rows
from refinery.ledger import Actor, Event, EventType, Ledger, LedgerView, Selection
from refinery.ledger.selection import select, subject, undo_events
from refinery.policy import Policy
from refinery.replay import Replayer
from refinery.states.head import read_head
from refinery.store import ObjectStore


@dataclass(frozen=True, slots=True)
class Moves:
    """Who would move: `flips` counts moves between verdicts, `moves` names each sample that would have another verdict
    or other reasons, with both before and after."""

    flips: dict[str, int]
    moves: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class WhatIf(Moves):
    """What would move under another policy, and how many samples would have each verdict and be held for each reason."""

    policy: str
    counts: dict[str, int]
    held: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def what_if(store: ObjectStore, ledger: Ledger, replayer: Replayer, policy: Policy) -> WhatIf:
    """Evaluate every sample under `policy` and compare with the verdict state that stands."""
    head, _ = read_head(store)
    after = state_rows(*replayer.evaluate(policy, ledger.view()))
    return compared(policy, replayer.trees.rows(head.node), after)


def compared(policy: Policy, before: pa.Table, after: pa.Table) -> WhatIf:
    """What moves between the rows of two states, the second of which is under `policy`."""
    found = _moves(before, after)
    rows = after.select(["verdict", "reasons"]).to_pylist()
    return WhatIf(
        found.flips,
        found.moves,
        policy=policy.digest,
        counts=dict(sorted(Counter(r["verdict"] for r in rows).items())),
        held=dict(sorted(Counter(r["reasons"][0] for r in rows if r["reasons"]).items())),
    )


def what_if_appended(replayer: Replayer, policy: Policy, view: LedgerView, events: Sequence[Event]) -> Moves:
    """Who would move if these events were appended to the view; only the samples they speak of and their clusters are
    evaluated. The next replay moves exactly these when verdicts are current and nothing else happens before it."""
    samples = {event.sample_id for event in events if event.sample_id}
    if not samples:
        return Moves({}, [])
    before = state_rows(*replayer.evaluate(policy, view, samples))
    after = state_rows(*replayer.evaluate(policy, view.with_events(events), samples))
    return _moves(before, after)


@dataclass(frozen=True, slots=True)
class UndoPreview:
    """What an undo would compensate (`targets`), which flags and tags would stand again because an undo or unflag is undone,
    and who would move. `moved` is None where fields are (un)registered: what the policy then reads is not foretold."""

    targets: list[Event]
    returning: list[Event]
    moved: Moves | None


def preview_undo(
    replayer: Replayer, policy: Policy, view: LedgerView, selection: Selection, actor: Actor
) -> UndoPreview:
    """What undoing the selection would do. InputError when nothing of it is left to undo."""
    targets = select(view, selection)
    undos = undo_events(view, targets, actor)
    then = view.with_events(undos)
    subjects = {subject(view, e).id: subject(view, e) for e in targets}
    touched = sorted({e.sample_id for e in targets if e.sample_id})
    about = {e.id: e for e in (*subjects.values(), *(e for i in touched for e in view.history(i)))}
    returning = [
        e for e in about.values() if e.type is not EventType.UNDO and then.stands(e) and not view.stands(e)
    ]
    fields = any(e.type is EventType.FIELD for e in subjects.values())
    return UndoPreview(
        targets, returning, None if fields else what_if_appended(replayer, policy, view, undos)
    )


def _moves(before: pa.Table, after: pa.Table) -> Moves:
    columns = ["sample_id", "verdict", "reasons"]
    known = {row["sample_id"]: row for row in before.select(columns).to_pylist()}
    fresh = {"verdict": "new", "reasons": []}
    flips: Counter[str] = Counter()
    moves = []
    for row in after.select(columns).to_pylist():
        old = known.get(row["sample_id"], fresh)
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
    return Moves(dict(sorted(flips.items())), moves)
