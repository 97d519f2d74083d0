"""What is still to do, decided by truth in the store alone and never by what Dagster remembers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from refinery.errors import InputError
from refinery.export import parse_export
from refinery.export_index import export_prefix
from refinery.facts import Step
from refinery.freezing import members
from refinery.project import Refinery
from refinery.splits import Splits
from refinery.states.head import read_head


@dataclass(frozen=True, slots=True)
class BatchWork:
    """One batch: how many samples it has, and how many of them lack their inspection and their embeddings. A batch that
    waits for landing has samples that nobody knows yet."""

    batch: str
    landed: bool
    samples: int
    inspect: int
    embed: int
    marked: bool

    @property
    def due(self) -> bool:
        """Whether anything of it is to be materialized."""
        return not (self.landed and self.marked) or self.inspect > 0 or self.embed > 0


def plan_batches(project: Refinery) -> list[BatchWork]:
    """Every batch, landed ones in the order they landed, then those that wait."""
    ids = _members(project)
    inspected, good = _settled(project, [project.steps.inspect])
    embedded, _ = _settled(project, project.steps.embed.values())
    marks = [project.facts.files(s) for s in (project.steps.inspect, *project.steps.embed.values())]
    works = []
    for batch in project.batches.landed():
        mine = ids.filter(pc.equal(ids["batch"], batch))["sample_id"]
        to_embed = mine.filter(pc.is_in(mine, value_set=good))
        works.append(
            BatchWork(
                batch,
                landed=True,
                samples=len(mine),
                inspect=_lacking(mine, inspected),
                embed=_lacking(to_embed, embedded),
                marked=all(batch in files for files in marks),
            )
        )
    return [*works, *(BatchWork(b, False, 0, 0, 0, False) for b in project.batches.staged())]


def gold_is_due(project: Refinery) -> bool:
    """Whether verdicts or the index are behind: facts, batches, flags, policy, fields or steps moved on."""
    if not project.batches.landed():
        return False
    return not project.replayer.is_current(project.policy) or not project.projector.is_current()


def dataset_is_due(project: Refinery, name: str) -> bool:
    """Whether a dataset is to be frozen or exported: its newest snapshot has other members, another filter or splits than it
    would have now, or lacks an export. All rows are looked at only when verdicts, or what a filter may speak of, moved."""
    head, _ = read_head(project.store)
    snapshot = project.snapshots.latest(name)
    settings = project.settings.datasets[name]
    chosen, _ = project.views.narrow(name, settings)
    if snapshot is None or snapshot.filter != chosen:
        return True
    moved = snapshot.state != head.root or (chosen and snapshot.ledger_offset != head.ledger_offset)
    if moved and not members(project, head.node, chosen).equals(project.snapshots.rows(snapshot)):
        return True
    wanted = None if settings.splits is None else Splits(settings.splits, settings.split_seed)
    if wanted is not None and (snapshot.splits is None or project.snapshots.splits(snapshot).rule != wanted):
        return True
    return not all(
        project.store.exists(f"{export_prefix(snapshot, *parse_export(raw))}/index.json")
        for raw in settings.exports
    )


def check_dataset(project: Refinery, name: str) -> str:
    """`name` itself when refinery.yaml configures such a dataset; InputError otherwise."""
    if name not in project.settings.datasets:
        known = ", ".join(project.settings.datasets) or "none"
        raise InputError(
            f"refinery.yaml has no dataset {name!r} (it has: {known}): add it under `datasets:`.",
            kind="no_such_dataset",
        )
    return name


def sharing(project: Refinery) -> dict[str, list[str]]:
    """For each landed batch the other batches that have a sample of it."""
    ids = _members(project)
    seen = ids.group_by("sample_id").aggregate([("batch", "count")])
    several = seen.filter(pc.greater(seen["batch_count"], 1))["sample_id"]
    shared = ids.filter(pc.is_in(ids["sample_id"], value_set=several.combine_chunks()))
    batches_of = defaultdict(set)
    for sample_id, batch in zip(shared["sample_id"].to_pylist(), shared["batch"].to_pylist(), strict=True):
        batches_of[sample_id].add(batch)
    others: dict[str, set[str]] = defaultdict(set)
    for together in batches_of.values():
        for batch in together:
            others[batch] |= together - {batch}
    return {batch: sorted(found) for batch, found in others.items()}


def _members(project: Refinery) -> pa.Table:
    """Which samples are in which landed batch, each pair once."""
    pairs = project.batches.origins(columns=["sample_id", "batch"])
    return pairs.group_by(["sample_id", "batch"]).aggregate([])


def _settled(project: Refinery, steps: Iterable[Step]) -> tuple[pa.Array, pa.Array]:
    """The samples that have a lasting fact of every step, and those where every fact is a success."""
    settled = good = None
    for step in steps:
        facts = project.facts.read(step, columns=["sample_id", "reason", "retryable"])
        lasting = facts.filter(pc.invert(facts["retryable"]))
        mine = _one(lasting["sample_id"])
        fine = _one(lasting.filter(pc.is_null(lasting["reason"]))["sample_id"])
        settled = mine if settled is None else settled.filter(pc.is_in(settled, value_set=mine))
        good = fine if good is None else good.filter(pc.is_in(good, value_set=fine))
    empty = pa.array([], pa.string())
    return (empty if settled is None else settled), (empty if good is None else good)


def _lacking(ids: pa.ChunkedArray, settled: pa.Array) -> int:
    return len(ids) - int(pc.sum(pc.is_in(ids, value_set=settled)).as_py() or 0)


def _one(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
