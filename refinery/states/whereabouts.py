"""In which batches samples were seen: so that reading what is known of a few of them opens a few files, not all there are."""

from __future__ import annotations

from collections.abc import Sequence

from refinery.errors import CorruptionError
from refinery.states.head import read_head
from refinery.states.inputs import KeptInputs
from refinery.store import ObjectStore

_FEW_SAMPLES, _FEW_BATCHES = 1000, 4
"""More samples lie in most batches anyway; fewer batches are read sooner than looked up."""


class Whereabouts:
    """What the newest replay kept of one store's samples says of their batches."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._kept = KeptInputs(store)

    def narrow(self, batches: Sequence[str], sample_ids: Sequence[str]) -> Sequence[str]:
        """Those of `batches`, in their order, that may hold something of one of these samples: those that it was seen in, and
        those that no replay has met yet. All of them where that is not known, or would not save anything."""
        if len(batches) <= _FEW_BATCHES or len(sample_ids) > _FEW_SAMPLES:
            return batches
        head, _ = read_head(self._store)
        if not head.inputs:
            return batches
        ids = [i for i in sample_ids if len(i) == 64]
        try:
            seen = self._kept.batches(head.inputs, ids)
        except CorruptionError:
            return batches
        met = set(head.batches)
        return [batch for batch in batches if batch in seen or batch not in met]
