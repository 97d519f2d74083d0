"""Together: which samples near-duplicates would join in a world between two snapshots (see `refinery.worlds`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from refinery.near_duplicates import cluster_mates, clusters_root, read_clusters
from refinery.near_duplicates.few import Compared, FewFacts, compare_few
from refinery.store import ObjectStore
from refinery.then import Then

World = tuple[bool, bool]
"""Whether the steps are those of the newer snapshot, and whether the samples compared with are."""


def closed(store: ObjectStore, older: Then, newer: Then, sample_ids: Collection[str]) -> set[str]:
    """These samples and all that may be in a cluster with them on either side: the clusters of a step only grow."""
    nears = {side.steps.near_duplicates.key: side.steps.near_duplicates for side in (older, newer)}
    tables = [read_clusters(store, near) for near in nears.values()]
    found = set(sample_ids)
    while True:
        more = found.union(*(cluster_mates(table, found) for table in tables))
        if more == found or len(tables) == 1:
            return more
        found = more


class Together:
    """The clusters of some samples, which `closed` gave. `seen` are those of them that the older snapshot had seen."""

    def __init__(
        self,
        store: ObjectStore,
        older: Then,
        newer: Then,
        people: Collection[str],
        seen: Collection[str],
        steps_differ: bool,
    ) -> None:
        self._store, self._sides, self._people = store, (older, newer), people
        self._seen, self._steps_differ = frozenset(seen), steps_differ
        self._alike = not steps_differ and older.clusters == newer.clusters != ""
        self._companies: dict[tuple[str, bool], frozenset[str]] = {}

    @cached_property
    def clusters(self) -> Mapping[World, Mapping[str, str]]:
        """The cluster of each sample that is in one, by world."""
        old, new = (self._clusters(side) for side in self._sides)
        if not self._steps_differ:
            return {
                (steps, mates): new if mates else old for steps in (False, True) for mates in (False, True)
            }
        few, compared = self._facts[1], self._facts[0].sample_ids
        known = Compared(self._compare(few.only(compared)).points, old)
        return {
            (False, False): old,
            (False, True): self._compare(few.only(compared | (few.sample_ids - self._seen)), known).clusters,
            (True, False): self._compare(few.only(self._seen)).clusters,
            (True, True): new,
        }

    def cluster(self, sample_id: str, world: World, newer_facts: bool) -> str | None:
        """The name of a sample's cluster, when its own facts are those of the older or of the newer."""
        company = self.company(sample_id, world, newer_facts)
        if company is not None:
            return min({*company, sample_id}) if company else None
        if not self._alike and sample_id not in self._facts[newer_facts].sample_ids:
            return None  # it was not compared
        return self.clusters[world].get(sample_id)

    def mates(self, sample_id: str, world: World, newer_facts: bool) -> set[str]:
        """The others in its cluster."""
        company = self.company(sample_id, world, newer_facts)
        if company is not None:
            return set(company)
        name = self.cluster(sample_id, world, newer_facts)
        return set() if name is None else self._members(world)[name] - {sample_id}

    def company(self, sample_id: str, world: World, newer_facts: bool) -> frozenset[str] | None:
        """Of a sample that is compared with others of which it was none: those in a cluster with it; None for any other."""
        steps, mates = world
        if self._alike or mates or not newer_facts or sample_id not in self._late[steps]:
            return None
        key = (sample_id, steps)
        if key not in self._companies:
            self._companies[key] = self._company(sample_id, steps)
        return self._companies[key]

    def near(self, sample_id: str, group: Collection[str]) -> bool:
        """Whether a sample would be in a cluster with these, which are in one, if there were no others."""
        few, one = self._facts[1], min(group)
        known = Compared(self._compare(few.only(group)).points, dict.fromkeys(group, one))
        found = self._compare(few.only({*group, sample_id}), known).clusters
        return sample_id in found and found[sample_id] == found.get(one)

    def _company(self, sample_id: str, steps: bool) -> frozenset[str]:
        name = self.clusters[True, True].get(sample_id)
        few = self._facts[1]
        there = (self._seen if steps else self._facts[0].sample_ids) - {sample_id}
        close = self._members((True, True))[name] & there if name is not None else set()
        if not close:
            return frozenset()
        old = self.clusters[steps, False]
        names = {old[i] for i in close if i in old}
        group = close.union(*(self._members((steps, False))[n] for n in names)) - {sample_id}
        known = Compared(self._compare(few.only(group)).points, {i: old[i] for i in group if i in old})
        found = self._compare(few.only({*group, sample_id}), known).clusters
        return frozenset(i for i in group if sample_id in found and found.get(i) == found[sample_id])

    def _members(self, world: World) -> Mapping[str, set[str]]:
        if world not in self._by_name:
            members: dict[str, set[str]] = defaultdict(set)
            for sample_id, name in self.clusters[world].items():
                members[name].add(sample_id)
            self._by_name[world] = members
        return self._by_name[world]

    @cached_property
    def _by_name(self) -> dict[World, Mapping[str, set[str]]]:
        return {}

    @cached_property
    def _late(self) -> Mapping[bool, frozenset[str]]:
        """The samples that the newer compared otherwise than the older, by whether the steps are the newer's."""
        old, new = self._facts
        absent = new.sample_ids - self._seen
        if self._steps_differ:
            return {False: absent, True: absent}
        late = frozenset(i for i in new.sample_ids if new.signals(i) != old.signals(i))
        return {False: late, True: late}

    @cached_property
    def _facts(self) -> tuple[FewFacts, FewFacts]:
        old, new = (
            FewFacts.of(s.facts, [s.steps.inspect, s.steps.default_embed], self._people, s.compared)
            for s in self._sides
        )
        return old, new

    def _clusters(self, side: Then) -> Mapping[str, str]:
        near = side.steps.near_duplicates
        if side.clusters != clusters_root(self._store, near):
            return self._compare(self._facts[side is self._sides[1]], side=side).clusters
        table = read_clusters(self._store, near)
        mine = table.filter(pc.is_in(table["sample_id"], pa.array(sorted(self._people), pa.string())))
        return dict(zip(mine["sample_id"].to_pylist(), mine["cluster"].to_pylist(), strict=True))

    def _compare(self, few: FewFacts, known: Compared | None = None, side: Then | None = None) -> Compared:
        steps = (side or self._sides[1]).steps
        return compare_few(few, steps.near_duplicates, steps.inspect, steps.default_embed, known)
