"""The difference of two snapshots, with the cause of every sample that moved."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from refinery.causes import Cause, find_causes, unknown
from refinery.ledger import Ledger
from refinery.snapshot_splits import SnapshotSplits
from refinery.snapshots import Snapshot
from refinery.states.tree import StateTrees
from refinery.store import ObjectStore
from refinery.then import Then
from refinery.worlds import Worlds


@dataclass(frozen=True, slots=True)
class Move:
    """One sample that differs: `how` is added, removed or changed; `cause` is the kind of its only cause, or `several`;
    `parts` are all of them, and `sentence` says them."""

    sample_id: str
    how: str
    cause: str
    sentence: str
    parts: tuple[Cause, ...]


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

    def __init__(self, store: ObjectStore, ledger: Ledger) -> None:
        self._store, self._ledger = store, ledger
        self._trees = StateTrees(store)

    def diff(self, old: Snapshot, new: Snapshot) -> SnapshotDiff:
        """What differs between two snapshots, and why. The causes are those that led from the one frozen earlier to the
        later one, whichever of them is `old`."""
        gone, came = map(_by_id, self._trees.diff(old.node, new.node))
        moved = sorted(gone.keys() | came.keys())
        if not moved:
            return SnapshotDiff(old.ref, new.ref, [], self._split_moves(old, new))
        (first, before), (last, after) = sorted(
            ((old, gone), (new, came)), key=lambda side: (side[0].ledger_offset, side[0].created_at)
        )
        older, newer = (Then(self._store, self._ledger, side) for side in (first, last))
        if retyped := [n for n, f in older.fields.items() if f.type is not newer.fields.get(n, f).type]:
            why = f"attribute {', '.join(retyped)} has another type since"
            causes = {i: [unknown(why)] for i in moved}
        else:
            worlds = Worlds(self._store, older, newer, moved)
            causes = find_causes(worlds, {i: before.get(i) for i in moved}, {i: after.get(i) for i in moved})
        moves = []
        for i in moved:
            how = "changed" if i in gone and i in came else "added" if i in came else "removed"
            parts = tuple(causes[i])
            kind = parts[0].kind if len(parts) == 1 else "several"
            moves.append(Move(i, how, kind, "; and ".join(c.sentence for c in parts), parts))
        return SnapshotDiff(old.ref, new.ref, moves, self._split_moves(old, new))

    def _split_moves(self, old: Snapshot, new: Snapshot) -> dict[str, tuple[str, str]]:
        """The samples of both that are in another split now: clusters grew together, or the splits were given otherwise."""
        if old.splits is None or new.splits is None or old.splits == new.splits:
            return {}
        before, after = SnapshotSplits(self._store, old), SnapshotSplits(self._store, new)
        ids = set(self._trees.rows(old.node)["sample_id"].to_pylist())
        both = [i for i in self._trees.rows(new.node)["sample_id"].to_pylist() if i in ids]
        return after.rule.moved(both, before.clusters, after.clusters, before.rule)


def _by_id(rows: pa.Table) -> dict[str, dict[str, Any]]:
    return {row["sample_id"]: row for row in rows.to_pylist()}
