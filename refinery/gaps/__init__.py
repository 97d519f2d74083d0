"""Gaps: what a set should hold and does not, by likeness; and what one owns already that would fill it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from refinery.embedding_map.embedding_map import Watch, unwatched, vectors_of
from refinery.embedding_map.layout import Vectors
from refinery.errors import ConfigError, InputError
from refinery.filter import Filter, conjunction, parse
from refinery.gaps.regions import Region, typical_distance, under_covered
from refinery.index import Nearest, Query
from refinery.progress import Progress
from refinery.states.ids import ID_BYTES, Bytes, find, to_bytes, to_text, words

if TYPE_CHECKING:
    from refinery.project import Refinery

COVERED = "verdict = 'gold'"
MOST = 50_000
"""Of larger sets so many samples are compared, those of the smallest ids: ids are digests, so that these are a uniform sample."""
_FILES, _FEW = 8, 2000
"""Files of facts that are read at a time; up to so many samples are looked up in them by their ids."""
_COLUMNS = ["sample_id", "reason", "vector"]
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
    progress: Watch | None = None,
) -> GapReport:
    """The `limit` largest regions of `target` (what should be covered; None: all that one owns) that are under-covered by `covered`
    (the set; None: gold), see `refinery.gaps.regions`.

    Costs one pass over the vectors, the products of at most 50,000 × 50,000 of them twice, in blocks, and one search a region. ConfigError without an index;
    InputError for an unknown space, or when no target has a vector.
    """
    if not project.has_index:
        raise ConfigError("There is no index yet: `refinery run` makes it.", kind="no_index")
    if space not in project.steps.embed:
        project.embedder(space)  # says which there are
    watch = progress or unwatched
    chosen = covered or parse(COVERED, project.fields)
    named = [_named(project, filter) for filter in (target, chosen)]
    asked, reference = _read(project, named, space, watch("reading vectors"))
    if not len(asked.ids):
        raise InputError(
            "None of what should be covered has a vector: widen the target, or `refinery run` to embed it.",
            kind="no_vectors",
        )
    _, inside = find(_named(project, conjunction([target, chosen])), asked.ids)
    found = under_covered(asked.vectors, inside, reference.vectors, watch("comparing"))
    candidates, finding = _candidates(project, chosen), watch("looking for candidates")
    finding.start(len(found[:limit]), "gaps")
    gaps = []
    try:
        for region in found[:limit]:
            gaps.append(_gap(project, space, region, asked, reference, candidates))
            finding.advance(1)
    finally:
        finding.done()
    return GapReport(
        target=target.text if target else None,
        covered_by=chosen.text,
        space=space,
        targets=project.index.count(target),
        covered=project.index.count(chosen),
        targets_compared=len(asked.ids),
        covered_compared=len(reference.ids),
        typical_distance=typical_distance(reference.vectors),
        found=len(found),
        gaps=tuple(gaps),
    )


@dataclass(frozen=True)
class _Set:
    """Samples that have a vector: ids (n, 32) in order, and unit vectors (n, d)."""

    ids: Bytes
    vectors: Vectors


def _named(project: Refinery, chosen: Filter | None) -> Bytes:
    """The first `MOST` samples that a filter selects, in order of id."""
    return to_bytes(project.index.head(chosen, MOST, ("sample_id",))["sample_id"])


def _read(project: Refinery, named: Sequence[Bytes], space: str, progress: Progress) -> list[_Set]:
    """Those of some sets of samples that have a vector. Every file of facts is read once for all of them."""
    step = project.steps.embed[space]
    all_ids = np.frombuffer(np.unique(words(np.concatenate(named))).tobytes(), np.uint8).reshape(-1, ID_BYTES)
    few = to_text(all_ids).to_pylist() if len(all_ids) <= _FEW else None
    vectors, there = [np.zeros((0, 1), np.float32)] * len(named), [np.zeros(len(n), np.bool_) for n in named]
    batches = sorted(project.facts.files(step))
    progress.start(len(batches), "files")
    try:
        for at in range(0, len(batches), _FILES):
            some = batches[at : at + _FILES]
            # a sample of several files has the same vector in each
            table = project.facts.read(step, batches=some, sample_ids=few, columns=_COLUMNS, best=False)
            _, wanted = find(all_ids, to_bytes(table["sample_id"]))
            ids, got = vectors_of(table.filter(pa.array(wanted)))
            for number, names in enumerate(named):
                if not len(vectors[number]) and len(got):
                    vectors[number] = np.empty((len(names), got.shape[1]), np.float32)
                places, known = find(names, ids)
                vectors[number][places[known]] = got[known]
                there[number][places[known]] = True
            progress.advance(len(some))
    finally:
        progress.done()
    for number, have in enumerate(there):
        if not have.all():
            vectors[number] = vectors[number][have] if len(vectors[number]) else vectors[number]
    return [_Set(n[have], v) for n, have, v in zip(named, there, vectors, strict=True)]


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
