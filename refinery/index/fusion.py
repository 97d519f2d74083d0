"""Hybrid search: a ranking by words and a ranking by similarity, fused into one by reciprocal rank fusion.

Score of a sample: the sum over the rankings that hold it of 1 / (60 + its rank from 1) (Cormack, Clarke, Büttcher 2009,
"Reciprocal rank fusion outperforms Condorcet and individual rank learning methods", SIGIR). Ties go by sample id. The
best `WINDOW` of each ranking take part; the fused ranking ends with the last of them.
"""

from __future__ import annotations

from collections.abc import Sequence

WINDOW = 1000
_CONSTANT = 60


def fuse(*rankings: Sequence[str]) -> list[tuple[str, float]]:
    """Sample ids of all `rankings` (best first) with their fused scores, best first."""
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, sample_id in enumerate(ranking[:WINDOW], start=1):
            scores[sample_id] = scores.get(sample_id, 0.0) + 1 / (_CONSTANT + rank)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))
