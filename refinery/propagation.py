"""Propagation: from a flag on one sample, the same flag on related samples, as children that follow from it.

A proposal is looked at before it is applied: it holds the very events that applying appends, and who would move then. Undoing
the parent undoes its children (see `refinery.ledger.selection`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa
import pyarrow.compute as pc

from refinery.batches import Batches
from refinery.digests import digest_json
from refinery.errors import ConfigError, InputError
from refinery.fields import Fields
from refinery.filter import conjunction, parse
from refinery.index import MAX_LIMIT, Nearest, Query, SampleIndex
from refinery.inputs import Steps
from refinery.ledger import Actor, Event, EventType, Ledger, LedgerView
from refinery.near_duplicates import cluster_mates, read_clusters
from refinery.policy import Policy
from refinery.projection import Projector
from refinery.replay import Replayer
from refinery.search import vector_of
from refinery.store import ObjectStore
from refinery.whatif import Moves, what_if_appended


class Relation(StrEnum):
    """How samples are related to one: near-duplicates of it, from a source it was seen in, or near it in an embedding space."""

    CLUSTER = "cluster"
    SOURCE = "source"
    NEIGHBOURS = "neighbours"


@dataclass(frozen=True, slots=True)
class Reach:
    """Which samples a flag goes on to, narrowed by the filter `where`.

    `k` (samples), `min_cosine` (-1 to 1) and the embedding space are for neighbours: the k nearest of those that match,
    compared with every vector, without those less similar. InputError for figures out of range.
    """

    to: Relation
    k: int = 20
    min_cosine: float = 0.9
    space: str = "default"
    where: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.k <= MAX_LIMIT:
            raise InputError(f"k is {self.k}; it must be 1 to {MAX_LIMIT}.", kind="bad_reach")
        if not -1 <= self.min_cosine <= 1:
            raise InputError(f"The least cosine is {self.min_cosine}; it must be -1 to 1.", kind="bad_reach")


@dataclass(frozen=True, slots=True)
class Proposal:
    """The children that applying appends, and what comes of it.

    `related` samples were found; `flagged` of them are left out, because that flag of that actor stands on them already;
    of the children, `again` had this flag from this parent before, and it was undone. `moved` tells whose verdict moves.
    """

    parent: Event
    reach: Reach
    children: tuple[Event, ...]
    related: int
    flagged: int
    again: int
    moved: Moves


@dataclass(frozen=True, slots=True)
class Propagator:
    """Proposes and applies propagation in one project."""

    store: ObjectStore
    ledger: Ledger
    batches: Batches
    replayer: Replayer
    projector: Projector
    fields: Fields
    steps: Steps
    index: SampleIndex

    def propose(self, parent: Event, reach: Reach, actor: Actor, policy: Policy) -> Proposal:
        """The proposal, in the name of `actor`. `parent` stands in the ledger, or is a flag still to be made (offset 0).

        InputError when the parent is no flag or stands no longer, or its sample lacks what the relation needs; ConfigError
        when there is no index to find neighbours in. Nothing is written.
        """
        view = self.ledger.view()
        sample_id = _checked(parent, view)
        related = self._related(sample_id, reach)
        children = []
        flagged = again = 0
        for other in sorted(related):
            if any(e.actor == actor for e in view.flags(other, parent.kind)):
                flagged += 1
                continue
            child, times_undone = _child(view, parent, other, actor)
            children.append(child)
            again += times_undone > 0
        moved = what_if_appended(self.replayer, policy, view, _act(parent, children))
        return Proposal(parent, reach, tuple(children), len(related), flagged, again, moved)

    def apply(self, proposal: Proposal) -> list[Event]:
        """Append the children (before them a parent that is still to be made) as one act; the children with their offsets.

        Applied twice, the second time adds nothing. InputError when the parent was undone since the proposal.
        """
        _checked(proposal.parent, self.ledger.view())
        act = _act(proposal.parent, proposal.children)
        ids = {child.id for child in proposal.children}
        return [e for e in self.ledger.append(act) if e.id in ids] if act else []

    def _related(self, sample_id: str, reach: Reach) -> set[str]:
        """The related samples that match the filter, without the sample itself."""
        if reach.to is Relation.NEIGHBOURS:
            return self._neighbours(sample_id, reach)
        found = self._cluster(sample_id) if reach.to is Relation.CLUSTER else self._source(sample_id)
        found.discard(sample_id)
        return self._matching(found, reach.where) if reach.where else found

    def _neighbours(self, sample_id: str, reach: Reach) -> set[str]:
        if not self.index.position():
            raise ConfigError(
                "There is no index yet to find neighbours in: `refinery run` makes it.", kind="no_index"
            )
        others = parse(f"sample_id != '{sample_id}'", self.fields)
        query = Query(
            filter=conjunction([parse(reach.where, self.fields) if reach.where else None, others]),
            nearest=Nearest(vector_of(self.index, sample_id, reach.space), reach.space, exact=True),
            limit=reach.k,
            columns=("sample_id",),
        )
        page = self.index.query(query)
        near = zip(page.rows(), page.scores or (), strict=True)
        return {row["sample_id"] for row, cosine in near if cosine >= reach.min_cosine}

    def _cluster(self, sample_id: str) -> set[str]:
        return cluster_mates(read_clusters(self.store, self.steps.near_duplicates), [sample_id])

    def _source(self, sample_id: str) -> set[str]:
        origins = self.batches.origins(columns=["sample_id", "source"])
        mine = origins.filter(pc.equal(origins["sample_id"], sample_id))["source"]
        return set(origins.filter(pc.is_in(origins["source"], pc.unique(mine)))["sample_id"].to_pylist())

    def _matching(self, sample_ids: Collection[str], where: str) -> set[str]:
        chosen = parse(where, self.fields)
        documents = self.projector.documents(sample_ids)
        return set(documents.filter(pa.array(chosen.mask(documents)))["sample_id"].to_pylist())


def _checked(parent: Event, view: LedgerView) -> str:
    """The sample of a flag that others can follow from."""
    if parent.type is not EventType.FLAG or parent.sample_id is None:
        raise InputError(
            f"Event {parent.id[:12]} is no flag ({parent.describe()}): only flags are propagated.",
            kind="no_flag",
        )
    if not view.stands(parent):
        raise InputError(
            f"Event {parent.id[:12]} ({parent.describe()}) is undone: undo its undo first, or flag anew.",
            kind="undone_flag",
        )
    return parent.sample_id


def _child(view: LedgerView, parent: Event, sample_id: str, actor: Actor) -> tuple[Event, int]:
    """The parent's flag on another sample, and how often it was there before and undone.

    Its id follows from what it says, so that two who propagate at once add it once.
    """
    times = 0
    while view.get(name := _child_id(parent, sample_id, actor, times)):
        times += 1
    child = Event(
        EventType.FLAG,
        actor,
        sample_id=sample_id,
        kind=parent.kind,
        value=parent.value,
        reason=parent.reason,
        cause=parent.id,
        id=name,
    )
    return child, times


def _child_id(parent: Event, sample_id: str, actor: Actor, times_undone: int) -> str:
    return digest_json([parent.id, sample_id, str(actor), times_undone])[:32]


def _act(parent: Event, children: Iterable[Event]) -> list[Event]:
    """What is appended for these children: nothing when there are none and the parent is in the ledger already."""
    return [*([] if parent.offset else [parent]), *children]
