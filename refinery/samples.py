"""Which samples a project has ever seen, and what people call them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pyarrow.compute as pc

from refinery.batches import Batches
from refinery.errors import InputError
from refinery.states.head import StateHead, read_head
from refinery.states.tree import StateTrees
from refinery.store import ObjectStore


class Samples:
    """The samples of one store: those of the newest verdict state, and those that landed since."""

    def __init__(self, store: ObjectStore, batches: Batches) -> None:
        self._store, self._batches = store, batches

    def seen(self, sample_ids: Collection[str]) -> set[str]:
        """Those of these ids that were ever ingested."""
        head, _ = read_head(self._store)
        ids = [i for i in sample_ids if len(i) == 64]
        found = set(StateTrees(self._store).lookup(head.node, ids)["sample_id"].to_pylist())
        if not found.issuperset(sample_ids):  # not replayed yet, or never ingested
            origins = self._batches.origins(self._unmet(head), ["sample_id"], set(sample_ids) - found)
            found.update(origins["sample_id"].to_pylist())
        return found

    def check_seen(self, sample_ids: Sequence[str]) -> None:
        """InputError when one of these was never ingested."""
        seen = self.seen(sample_ids)
        for sample_id in sample_ids:
            if sample_id not in seen:
                raise InputError(
                    f"Sample {sample_id!r} was never ingested: `refinery search` finds the ids of those that were.",
                    kind="no_such_sample",
                )

    def resolve(self, prefix: str) -> str:
        """The only sample id that starts with `prefix` (8 hex digits or more). InputError for none or several."""
        if len(prefix) == 64:
            return prefix
        ids = self._beginning(prefix) if len(prefix) >= 8 else []
        if len(ids) != 1:
            count = "no sample" if not ids else f"{len(ids)} samples"
            raise InputError(
                f"{prefix!r} names {count}: give at least 8 hex digits of one sample's id.",
                kind="no_such_sample",
            )
        return ids[0]

    def _beginning(self, prefix: str) -> list[str]:
        """The ids that start so, in order."""
        head, _ = read_head(self._store)
        known = StateTrees(self._store).beginning(head.node, prefix)
        fresh = self._batches.origins(self._unmet(head), ["sample_id"])["sample_id"]
        return sorted({*known, *fresh.filter(pc.starts_with(fresh, prefix)).to_pylist()})

    def _unmet(self, head: StateHead) -> list[str]:
        """The batches that the newest replay did not know."""
        met = set(head.batches)
        return [batch for batch in self._batches.landed() if batch not in met]
