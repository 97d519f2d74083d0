"""Bring the clusters up to date: compare what is new with everything, publish with one conditional write."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from blake3 import blake3

from refinery.facts import FactStore, Step
from refinery.near_duplicates.compare import Comparison, Edges
from refinery.near_duplicates.components import Ints, span
from refinery.near_duplicates.state import CLUSTERS, EDGES, POINTS, Head, State
from refinery.progress import NullProgress, Progress
from refinery.store import ObjectStore

_GROUP_SAMPLES = 20_000
_OBJECTS = 32


@dataclass(frozen=True)
class ClusterReport:
    """What an update did. `samples` were compared so far, `new` of them now; `pairs` of vectors were multiplied;
    `joined` counts the edges that joined samples or clusters, by kind. `clustered` samples are in the `clusters` of two or
    more, the `largest` of which has so many. `root` digests the clusters; `changed` are the samples whose cluster changed.
    """

    step_key: str
    batches: list[str]
    samples: int
    new: int
    pairs: int
    joined: dict[str, int]
    clusters: int
    clustered: int
    largest: int
    root: str
    changed: list[str] = field(repr=False)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object; `changed` as a count."""
        return {**asdict(self), "changed": len(self.changed)}


def update_clusters(
    store: ObjectStore,
    step: Step,
    inspect_step: Step,
    embed_step: Step | None,
    *,
    batches: Iterable[str] | None = None,
    rebuild: bool = False,
    progress: Progress | None = None,
) -> ClusterReport:
    """Compare the facts of batches (all that are inspected and embedded) that were not compared yet.

    Pairs compared before are never compared again; nothing new costs two listings. Large updates are published in
    several goes, and a run that was killed resumes after the last one. Racing updates repeat until each has seen the
    other's samples. `rebuild` starts from nothing. CorruptionError when the stored state is damaged.
    """
    started = time.monotonic()
    state, facts = State(store, step), FactStore(store)
    before = state.clusters()
    wanted = None if batches is None else set(batches)
    done: set[str] = set()
    counts: Counter[str] = Counter()
    progress = progress or NullProgress()
    progress.start(None, "samples")
    try:
        while True:
            head, etag = state.head()
            base = replace(Head(), generation=head.generation) if rebuild else head
            ready = _ready(facts, inspect_step, embed_step, wanted)
            stale = [batch for batch, tokens in ready.items() if base.compared.get(batch) != tokens]
            if not stale and not rebuild:
                if head.unmarked and not _mark(state, head, etag):
                    continue
                break
            moved = _advance(state, facts, inspect_step, embed_step, step, base, ready, stale)
            if moved is None:
                continue
            after, group, joined, pairs, new = moved
            if state.swap(head, etag, after) is None:
                continue
            rebuild = False
            done.update(group)
            counts.update(joined)
            counts["pairs"] += pairs
            counts["new"] += new
            progress.advance(new)
    finally:
        progress.done()
    pairs, new = counts.pop("pairs", 0), counts.pop("new", 0)
    now = state.clusters()
    sizes = pc.value_counts(now["cluster"].combine_chunks()).field("counts").to_numpy()
    return ClusterReport(
        step_key=step.key,
        batches=sorted(done),
        samples=head.samples,
        new=new,
        pairs=pairs,
        joined=dict(sorted(counts.items())),
        clusters=len(sizes),
        clustered=now.num_rows,
        largest=int(sizes.max(initial=0)),
        root=head.root or _root(now),
        changed=_changed(before, now) if done else [],
        seconds=time.monotonic() - started,
    )


def _ready(
    facts: FactStore, inspect_step: Step, embed_step: Step | None, wanted: set[str] | None
) -> dict[str, dict[str, str]]:
    """The batches whose facts are there, with the version tokens of their files."""
    named = {"inspect": facts.files(inspect_step)}
    if embed_step is not None:
        named["embed"] = facts.files(embed_step)  # follows inspection, whose facts may lie with another batch
    last = list(named)[-1]
    tokens = {
        batch: {name: files[batch] for name, files in named.items() if batch in files}
        for batch in named[last]
    }
    return {batch: tokens[batch] for batch in sorted(tokens) if wanted is None or batch in wanted}


def _advance(
    state: State,
    facts: FactStore,
    inspect_step: Step,
    embed_step: Step | None,
    step: Step,
    head: Head,
    ready: dict[str, dict[str, str]],
    stale: list[str],
) -> tuple[Head, list[str], Counter[str], int, int] | None:
    """Compare a group of stale batches and store what will be published; None when the head moved on meanwhile."""
    points, edges = state.load(head.points, POINTS), state.load(head.edges, EDGES)
    if points is None or edges is None:
        return None
    comparison = Comparison(facts, inspect_step, embed_step, step, points)
    group = []
    for batch in stale:
        comparison.add(batch)
        group.append(batch)
        if comparison.new >= _GROUP_SAMPLES:
            break
    universe = comparison.universe()
    labels = np.arange(len(universe), dtype=np.int64)
    labels, _ = span(labels, _at(universe, edges["a"]), _at(universe, edges["b"]))
    kept: list[pa.Table] = []
    joined: Counter[str] = Counter()
    for found in comparison.edges():
        labels, forest = span(labels, found.a, found.b)
        if len(forest):
            kept.append(_edge_rows(universe, found, forest))
            joined[found.kind] += len(forest)
    clusters = _cluster_rows(universe, labels)
    added = comparison.added()
    after = replace(
        head,
        points=_append(state, head, "points", head.points, points, added),
        edges=_append(
            state, head, "edges", head.edges, edges, pa.concat_tables([EDGES.empty_table(), *kept])
        ),
        clusters=state.save(head, "clusters", clusters),
        root=_root(clusters),
        samples=len(universe),
        compared={**head.compared, **{batch: ready[batch] for batch in group}},
        unmarked=tuple(sorted({*head.unmarked, *group})),
    )
    return after, group, joined, comparison.pairs, comparison.new


def _append(
    state: State, head: Head, kind: str, keys: tuple[str, ...], old: pa.Table, new: pa.Table
) -> tuple[str, ...]:
    """The objects of `old` and one more for `new`; all in one when they have become many."""
    if new.num_rows == 0:
        return keys
    if len(keys) + 1 < _OBJECTS:
        return (*keys, state.save(head, kind, new))
    return (state.save(head, kind, pa.concat_tables([old, new])),)


def _mark(state: State, head: Head, etag: str | None) -> bool:
    """Write the <batch>.parquet of what the head says was compared; False when the head moved on meanwhile."""
    points = state.load(head.points, POINTS)
    if points is None:
        return False
    for batch in head.unmarked:
        state.mark(batch, points.filter(pc.equal(points["batch"], batch)))
    return state.swap(head, etag, replace(head, unmarked=())) is not None


def _at(universe: pa.Array, ids: pa.ChunkedArray) -> Ints:
    """Positions of sample ids in the universe."""
    found: Ints = pc.index_in(ids, value_set=universe).to_numpy().astype(np.int64)
    return found


def _edge_rows(universe: pa.Array, edges: Edges, forest: Ints) -> pa.Table:
    a, b = edges.a[forest], edges.b[forest]
    values = edges.values[forest] if edges.values is not None else None
    return pa.table(
        {
            "a": universe.take(pa.array(np.minimum(a, b))),
            "b": universe.take(pa.array(np.maximum(a, b))),
            "kind": pa.array([edges.kind] * len(forest), pa.string()),
            "value": pa.nulls(len(forest), pa.float64()) if values is None else pa.array(values),
        },
        schema=EDGES,
    )


def _cluster_rows(universe: pa.Array, labels: Ints) -> pa.Table:
    """Rows of CLUSTERS: the universe is sorted, so the smallest position is the smallest sample id."""
    sizes = np.bincount(labels, minlength=len(universe))[labels]
    inside = np.flatnonzero(sizes > 1)
    return pa.table(
        {
            "sample_id": universe.take(pa.array(inside)),
            "cluster": universe.take(pa.array(labels[inside])),
            "size": pa.array(sizes[inside], pa.int64()),
        },
        schema=CLUSTERS,
    )


def _root(clusters: pa.Table) -> str:
    """Digest of the canonical rows: "sample_id cluster" lines in order of sample id."""
    hasher = blake3()
    for sample_id, cluster in zip(
        clusters["sample_id"].to_pylist(), clusters["cluster"].to_pylist(), strict=True
    ):
        hasher.update(f"{sample_id} {cluster}\n".encode())
    return hasher.hexdigest()


def _changed(before: pa.Table, after: pa.Table) -> list[str]:
    """The samples whose cluster or its size differs."""
    rows = [
        set(zip(*(table[name].to_pylist() for name in CLUSTERS.names), strict=True))
        for table in (before, after)
    ]
    return sorted({sample_id for sample_id, _, _ in rows[0] ^ rows[1]})
