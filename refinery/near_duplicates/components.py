"""Connected components, vectorized: hook every root to its smallest neighbour, compress, repeat."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def span(labels: Ints, a: Ints, b: Ints) -> tuple[Ints, Ints]:
    """Add edges (a[i], b[i]) to a partition.

    `labels` (n,) holds the smallest node of each node's component. Gives the new labels (a copy) and the positions of a
    smallest set of edges that joins what all of them join: a spanning forest over the old components.
    """
    labels = labels.copy()
    live = np.arange(len(a), dtype=np.int64)
    kept: list[Ints] = []
    while len(live):
        ends = np.stack([labels[a[live]], labels[b[live]]])
        low, high = ends.min(axis=0), ends.max(axis=0)
        open_ = low != high
        live, low, high = live[open_], low[open_], high[open_]
        if not len(live):
            break
        order = np.lexsort((low, high))
        first = np.ones(len(order), dtype=bool)
        first[1:] = high[order][1:] != high[order][:-1]
        chosen = order[first]
        labels[high[chosen]] = low[chosen]
        kept.append(live[chosen])
        while True:
            up = labels[labels]
            if np.array_equal(up, labels):
                break
            labels = up
    return labels, np.sort(np.concatenate(kept)) if kept else np.empty(0, np.int64)
