"""Freezing: gold, narrowed by a dataset's view and filter, as the next version of the dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from refinery.errors import ConfigError
from refinery.filter import parse
from refinery.ledger import Actor
from refinery.near_duplicates import read_clusters
from refinery.records import record_snapshot
from refinery.snapshot_splits import record_splits
from refinery.splits import Splits
from refinery.states.head import read_head
from refinery.states.tree import Node, StateTrees
from refinery.verdicts import GOLD

if TYPE_CHECKING:
    from refinery.project import Refinery
    from refinery.snapshots import Snapshot


def freeze(
    project: Refinery, name: str, filter_text: str | None, splits: Splits | None, actor: Actor
) -> tuple[Snapshot, bool]:
    """See `Refinery.freeze`."""
    if not project.replayer.is_current(project.policy):
        raise ConfigError(
            "Verdicts are behind the ledger, the facts or the policy: `refinery run` brings them up to date.",
            kind="stale_verdicts",
        )
    head, _ = read_head(project.store)
    dataset = project.settings.datasets.get(name)
    text, view = filter_text, None
    if filter_text is None and dataset:
        text, view = project.views.narrow(name, dataset)
    rows = members(project, head.node, text)
    if splits is None and dataset is not None and dataset.splits is not None:
        splits = Splits(dataset.splits, dataset.split_seed)
    recorded = None
    if splits is not None:
        clusters = read_clusters(project.store, project.steps.near_duplicates)
        names = dict(zip(clusters["sample_id"].to_pylist(), clusters["cluster"].to_pylist(), strict=True))
        recorded = record_splits(project.store, name, splits, rows["sample_id"].to_pylist(), names)
    steps = {n: {"key": s.key, **s.to_json()} for n, s in project.steps.by_name().items()}
    snapshot, new = project.snapshots.freeze(
        name,
        rows,
        filter_text=text,
        policy=head.policy,
        ledger_offset=head.ledger_offset,
        state=head.node,
        steps=steps,
        fields=[[f.name, f.type.value] for f in project.fields.attributes],
        splits=recorded,
        view=view,
    )
    record_snapshot(project.ledger, snapshot, actor)
    return snapshot, new


def members(project: Refinery, state: Node, filter_text: str | None) -> pa.Table:
    """The rows of a state that are gold, narrowed by a filter over the documents of now."""
    rows = StateTrees(project.store).rows(state)
    rows = rows.filter(pc.equal(rows["verdict"], GOLD))
    if filter_text:
        rows = rows.filter(pc.is_in(rows["sample_id"], _selected(project, filter_text)))
    return rows


def _selected(project: Refinery, text: str) -> pa.Array:
    """The samples that a filter matches."""
    documents = project.projector.documents()
    chosen = documents.filter(pa.array(parse(text, project.fields).mask(documents)))
    return chosen["sample_id"].combine_chunks()
