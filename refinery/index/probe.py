"""How good an index's approximate similarity search is, measured on its own vectors."""

from __future__ import annotations

from refinery.index import VECTOR, Nearest, Query, SampleIndex


def recall(
    index: SampleIndex, sample: int = 50, k: int = 10, space: str = "default", seed: int = 0
) -> float | None:
    """recall@k of the approximate search, 0 to 1, against the exact one; None when there are no two vectors to compare.

    The vectors of up to `sample` random samples are looked for, and the samples themselves not counted among what is
    found. A sample as similar as the last of the exact k counts as found.
    """
    column = VECTOR + space
    page = index.query(Query(seed=seed, limit=sample, columns=("sample_id", column)))
    found = wanted = 0
    for row in page.rows():
        if row[column] is None:
            continue
        own, vector = row["sample_id"], tuple(row[column])
        near, exact = (_neighbours(index, Nearest(vector, space, exact=e), own, k) for e in (False, True))
        if exact:
            least = min(exact.values()) - 1e-6
            found += min(sum(score >= least for score in near.values()), len(exact))
            wanted += len(exact)
    return found / wanted if wanted else None


def _neighbours(index: SampleIndex, nearest: Nearest, own: str, k: int) -> dict[str, float]:
    """The k samples most similar to a vector but for its own, with their similarity."""
    page = index.query(Query(nearest=nearest, limit=k + 1, columns=("sample_id",)))
    ids = (row["sample_id"] for row in page.rows())
    pairs = [(i, score) for i, score in zip(ids, page.scores or (), strict=True) if i != own]
    return dict(pairs[:k])
