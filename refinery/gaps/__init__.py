"""Gaps: what a set should hold and does not, by likeness; and what one owns already that would fill it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from refinery.embedding_map.embedding_map import vectors_of
from refinery.embedding_map.layout import Vectors
from refinery.errors import ConfigError, InputError
from refinery.filter import Filter, conjunction, parse
from refinery.gaps.regions import Region, typical_distance, under_covered
from refinery.index import MAX_LIMIT, Nearest, Query
from refinery.states.ids import ID_BYTES, Bytes, find, sorted_ids, to_text, words

if TYPE_CHECKING:
    from refinery.project import Refinery

COVERED = "verdict = 'gold'"
MOST = 50_000
"""Of larger sets so many samples are compared, those of the smallest ids: ids are digests, so that these are a uniform sample."""
_FILES = 64
_EXAMPLES = 6
_CANDIDATES = 6


@dataclass(frozen=True, slots=True)
class Near:
    """A sample, and its cosine distance (1 - cos) from the middle of a region."""

    sample_id: str
    distance: float
    verdict: str | None


@dataclass(frozen=True, slots=True)
class Gap:
    """A region of the target that the set hardly covers.

    `samples`: how many of the targets compared lie in it; `lacking`: how many of them the set would need to be as well covered
    as elsewhere; `distance`: the median cosine distance of these to their nearest covered sample; `nearest`: the covered
    sample that is nearest to any of them, and its distance (None when nothing is covered). `examples`: the most central one,
    then those farthest from the set. `candidates`: samples that one owns, nearest to the middle, that are neither in the set nor
    blocked nor the near-duplicate of a better one.
    """

    samples: int
    lacking: float
    distance: float
    nearest: str | None
    nearest_distance: float | None
    examples: tuple[str, ...]
    candidates: tuple[Near, ...]


@dataclass(frozen=True, slots=True)
class GapReport:
    """The gaps of a set, the largest first. Counts of `targets` and of `covered` samples, and how many of each were `compared`;
    `typical_distance`: the median cosine distance of covered samples to their nearest other one."""

    target: str | None
    covered_by: str
    space: str
    targets: int
    covered: int
    targets_compared: int
    covered_compared: int
    typical_distance: float | None
    found: int
    gaps: tuple[Gap, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def gaps(
    project: Refinery,
    target: Filter | None = None,
    covered: Filter | None = None,
    limit: int = 10,
    *,
    space: str = "default",
) -> GapReport:
    """The `limit` largest regions of `target` (what should be covered; None: all that one owns) that are under-covered by `covered`
    (the set; None: gold), see `refinery.gaps.regions`.

    Costs the products of at most 50,000 × 50,000 vectors twice, in blocks, and one search a region. ConfigError without an index;
    InputError for an unknown space, or when no target has a vector.
    """
    if not project.has_index:
        raise ConfigError("There is no index yet: `refinery run` makes it.", kind="no_index")
    if space not in project.steps.embed:
        project.embedder(space)  # says which there are
    chosen = covered or parse(COVERED, project.fields)
    asked, reference = _Set.read(project, target, space), _Set.read(project, chosen, space)
    if not len(asked.ids):
        raise InputError(
            "None of what should be covered has a vector: widen the target, or `refinery run` to embed it.",
            kind="no_vectors",
        )
    _, inside = find(reference.named, asked.ids)
    found = under_covered(asked.vectors, inside, reference.vectors)
    candidates = _candidates(project, chosen)
    return GapReport(
        target=target.text if target else None,
        covered_by=chosen.text,
        space=space,
        targets=asked.count,
        covered=reference.count,
        targets_compared=len(asked.ids),
        covered_compared=len(reference.ids),
        typical_distance=typical_distance(reference.vectors),
        found=len(found),
        gaps=tuple(_gap(project, space, region, asked, reference, candidates) for region in found[:limit]),
    )


@dataclass(frozen=True)
class _Set:
    """What a filter selects: how many, the ids of the first `MOST` (`named`), and of these the ids and vectors that there are."""

    count: int
    named: Bytes
    ids: Bytes
    vectors: Vectors

    @classmethod
    def read(cls, project: Refinery, chosen: Filter | None, space: str) -> _Set:
        ids: list[str] = []
        cursor: str | None = None
        while len(ids) < MOST:
            limit = min(MAX_LIMIT, MOST - len(ids))
            page = project.index.query(Query(chosen, limit=limit, cursor=cursor, columns=("sample_id",)))
            ids += page.documents["sample_id"].to_pylist()
            cursor = page.cursor
            if cursor is None:
                break
        return cls(project.index.count(chosen), sorted_ids(ids), *_vectors(project, ids, space))


def _vectors(project: Refinery, sample_ids: Sequence[str], space: str) -> tuple[Bytes, Vectors]:
    """The ids and vectors of those of these samples that have one, in order of id; read some files at a time."""
    step = project.steps.embed[space]
    names, parts = [np.zeros((0, ID_BYTES), np.uint8)], list[Vectors]()
    batches = sorted(project.facts.files(step))
    for at in range(0, len(batches), _FILES):
        some, columns = batches[at : at + _FILES], ["sample_id", "reason", "vector"]
        table = project.facts.read(step, batches=some, sample_ids=sample_ids, columns=columns)
        ids, vectors = vectors_of(table)
        names.append(ids)
        parts.append(vectors)
    ids = np.concatenate(names)
    _, first = np.unique(words(ids), return_index=True)
    return ids[first], np.concatenate(parts)[first] if parts else np.zeros((0, 1), np.float32)


def _candidates(project: Refinery, covered: Filter) -> Filter:
    """What one owns and could add: neither in the set nor blocked, and of near-duplicates one."""
    others = parse(f"NOT ({covered.text})", project.fields)
    return conjunction([others, parse("NOT has_flag('blocked') AND NOT near_duplicate", project.fields)])


def _gap(
    project: Refinery, space: str, region: Region, asked: _Set, reference: _Set, candidates: Filter
) -> Gap:
    shown = to_text(asked.ids[region.members[:_EXAMPLES]]).to_pylist()
    middle = tuple(asked.vectors[region.members[0]].tolist())
    query = Query(
        candidates,
        nearest=Nearest(middle, space, exact=True),
        limit=_CANDIDATES,
        columns=("sample_id", "verdict"),
    )
    page = project.index.query(query)
    near = zip(page.rows(), page.scores or (), strict=True)
    covered = region.nearest >= 0
    return Gap(
        samples=len(region.members),
        lacking=round(region.deficit, 1),
        distance=region.distance,
        nearest=to_text(reference.ids[[region.nearest]]).to_pylist()[0] if covered else None,
        nearest_distance=region.nearest_distance if covered else None,
        examples=tuple(shown),
        candidates=tuple(Near(d["sample_id"], max(0.0, 1 - score), d["verdict"]) for d, score in near),
    )
