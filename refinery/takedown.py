"""Takedown: a sample's bytes and all that was derived from them leave the store, and a tombstone says so.

What goes: the picture, its payloads, its facts (thumbnail, vector, hashes and figures), its place in near-duplicate
clusters and on maps, and the shards that hold it, each of which is written again without it. What stays is what was said: its id, origins,
attributes, ledger events, and its rows in verdict states and snapshots, without which no root could be verified.

The order makes an interruption harmless: flag, tombstone, then removal, piece by piece. Each piece looks at what is there, so the
same takedown again finishes what was begun, and one that is done changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow.compute as pc

from refinery.batches import Batches
from refinery.blobs import blob_key
from refinery.embedding_map import kept as maps
from refinery.errors import ConfigError, ConflictError, CorruptionError, InputError
from refinery.export import Exporter, parse_recipe, planned
from refinery.export_index import export_prefix, parse_index
from refinery.fact_rows import read_facts, withdrawn
from refinery.facts import batch_of
from refinery.gates.members import recorded_step
from refinery.inputs import Steps
from refinery.ledger import Actor, Event, Ledger, flag_event
from refinery.near_duplicates import update_clusters
from refinery.policy import Policy
from refinery.replay import Replayer
from refinery.snapshots import Snapshot, Snapshots
from refinery.states.head import read_head, write_head
from refinery.states.inputs import PREFIX as INPUTS
from refinery.store import ObjectStore
from refinery.tombstones import Tombstone, Tombstones

_DERIVED = ("facts/inspect/", "facts/embed/")
_MOST_TRIES = 20


@dataclass(frozen=True, slots=True)
class Held:
    """Where a store holds one sample: `snapshots` (root by reference), `exports` (prefixes of those with an index), `shards`
    of these (digest by key), `blobs` (digests of its own bytes and of payloads that no other sample has), and `facts` (keys of
    the files with something derived from it). `taken_down`: it has a tombstone already."""

    sample_id: str
    snapshots: dict[str, str]
    exports: list[str]
    shards: dict[str, str]
    blobs: list[str]
    facts: list[str]
    taken_down: bool


@dataclass(frozen=True, slots=True)
class TakedownReport:
    """What a takedown did: blobs deleted, files of facts and shards written again, shards of unfinished exports deleted. `held`
    says where the samples were when it began."""

    held: list[Held]
    events: list[str]
    blobs: int
    facts: int
    clusters: int
    shards: int
    leftovers: int
    root: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Takedown:
    """Takedowns in one project's store, under its steps and policy in force."""

    def __init__(
        self,
        store: ObjectStore,
        ledger: Ledger,
        batches: Batches,
        snapshots: Snapshots,
        exporter: Exporter,
        replayer: Replayer,
        steps: Steps,
    ) -> None:
        self._store, self._ledger, self._batches = store, ledger, batches
        self._snapshots, self._exporter, self._replayer, self._steps = snapshots, exporter, replayer, steps
        self._tombstones = Tombstones(store, ledger)

    def preview(self, sample_ids: Sequence[str]) -> list[Held]:
        """Where the store holds these samples. Writes nothing; reads all rows only of snapshots that hold one and have exports."""
        ids = sorted(set(sample_ids))
        snapshots: dict[str, dict[str, str]] = defaultdict(dict)
        exports: dict[str, list[str]] = defaultdict(list)
        shards: dict[str, dict[str, str]] = defaultdict(dict)
        for snapshot, members in self._holding(ids):
            for sample_id in members:
                snapshots[sample_id][snapshot.ref] = snapshot.root
            for prefix, key, digest, inside in self._shards(snapshot, set(members)):
                for sample_id in inside:
                    shards[sample_id][key] = digest
                    if prefix not in exports[sample_id]:
                        exports[sample_id].append(prefix)
        facts = self._facts(ids)
        blobs = self._blobs(ids)
        down = self._tombstones.ids()
        return [
            Held(i, snapshots[i], exports[i], shards[i], blobs[i], facts.get(i, []), i in down) for i in ids
        ]

    def run(self, sample_ids: Sequence[str], reason: str, actor: Actor, policy: Policy) -> TakedownReport:
        """Take samples down, and replay.

        InputError without a reason. Repeating it is safe, and finishes one that was interrupted.
        """
        if not reason.strip():
            raise InputError(
                "Say why the samples are taken down: a takedown needs a reason.", kind="no_reason"
            )
        held = self.preview(sample_ids)
        ids = [h.sample_id for h in held]
        events = self._flag(ids, reason.strip(), actor)
        for sample in held:
            self._tombstones.write(self._stone(sample, events[sample.sample_id], reason.strip(), actor))
        blobs = self._remove_blobs(held)
        facts = self._withdraw_facts(ids)
        clusters = self._leave_clusters(ids)
        maps.forget(self._store, ids)
        shards, leftovers = self._rewrite_shards(ids)
        self._forget_inputs()
        root = self._replayer.replay(policy, full=True).root
        named = set(read_head(self._store)[0].inputs)
        for info in list(self._store.list(INPUTS)):
            if info.key not in named:
                self._store.delete(info.key)
        new = [e.id for e in events.values()]
        return TakedownReport(held, new, blobs, facts, clusters, shards, leftovers, root)

    # Where a sample is

    def _holding(self, ids: Collection[str]) -> Iterator[tuple[Snapshot, list[str]]]:
        """The snapshots that hold some of the samples, with these."""
        for snapshot in self._snapshots.all():
            members: list[str] = self._snapshots.lookup(snapshot, ids)["sample_id"].to_pylist()
            if members:
                yield snapshot, members

    def _shards(
        self, snapshot: Snapshot, members: set[str]
    ) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
        """The shards of a snapshot's exports that hold some of its members: prefix, key, digest, which."""
        indexes = [
            i.key for i in self._store.list(f"exports/{snapshot.ref}/") if i.key.endswith("/index.json")
        ]
        for key in indexes:
            index = parse_index(self._store.get(key), key)
            digests = {f["name"]: f["digest"] for f in index["files"]}
            rows = self._snapshots.rows(snapshot, index.get("split"))
            for plan in planned(rows, parse_recipe(index["recipe"]), index.get("taken_down", ())).plans:
                inside = tuple(i for i in plan.sample_ids if i in members)
                if inside and plan.name in digests:
                    yield index["prefix"], f"{index['prefix']}/{plan.name}", digests[plan.name], inside

    def _facts(self, ids: Sequence[str]) -> dict[str, list[str]]:
        """For each sample the files with something that was derived from it, of all steps there ever were."""
        batches = set(self._batches.origins(columns=["batch"], sample_ids=ids)["batch"].to_pylist())
        found: dict[str, list[str]] = defaultdict(list)
        for key in self._files(batches):
            data = self._store.get(key)
            changed, _ = withdrawn(data, key, ids)
            if changed is None:
                continue
            table = read_facts(data, key)
            here = set(table.filter(pc.is_null(table["reason"]))["sample_id"].to_pylist())
            for sample_id in ids:
                if sample_id in here:
                    found[sample_id].append(key)
        return found

    def _files(self, batches: Collection[str]) -> list[str]:
        return [
            info.key
            for prefix in _DERIVED
            for info in self._store.list(prefix)
            if info.key.endswith(".parquet") and batch_of(info.key) in batches
        ]

    def _blobs(self, ids: Sequence[str]) -> dict[str, list[str]]:
        """For each sample its own digest, and those of payloads that no sample has which stays."""
        mine = self._batches.origins(columns=["sample_id", "payloads"], sample_ids=ids)
        payloads: dict[str, set[str]] = defaultdict(set)
        for sample_id, some in zip(*(c.to_pylist() for c in mine.columns), strict=True):
            payloads[sample_id].update(p["digest"] for p in some or ())
        named = set[str]().union(*payloads.values())
        kept: set[str] = set()
        if named:
            leaving = self._tombstones.refused().union(ids)
            every = self._batches.origins(columns=["sample_id", "payloads"])
            for sample_id, some in zip(*(c.to_pylist() for c in every.columns), strict=True):
                if sample_id not in leaving:
                    kept.update({sample_id, *(p["digest"] for p in some or ())} & named)
        return {i: sorted({i, *(payloads[i] - kept)}) for i in ids}

    # Removal, in order

    def _flag(self, ids: Sequence[str], reason: str, actor: Actor) -> dict[str, Event]:
        """The `blocked` flag on each sample: the newest that stands, else one that is appended."""
        view = self._ledger.view()
        standing = {i: flags[-1] for i in ids if (flags := view.blocked(i))}
        fresh = [
            flag_event(
                i, "blocked", actor, known_kinds=("blocked",), reason=reason, evidence={"takedown": True}
            )
            for i in ids
            if i not in standing
        ]
        appended = self._ledger.append(fresh) if fresh else []
        return standing | {str(e.sample_id): e for e in appended}

    def _stone(self, held: Held, event: Event, reason: str, actor: Actor) -> Tombstone:
        return Tombstone(
            held.sample_id,
            reason,
            {"kind": actor.kind.value, "name": actor.name},
            event.id,
            event.offset,
            event.time,
            blobs=tuple(held.blobs),
            snapshots=held.snapshots,
            shards=held.shards,
        )

    def _remove_blobs(self, held: Sequence[Held]) -> int:
        names = sorted({name for sample in held for name in sample.blobs})
        return sum(self._store.delete(blob_key(name)) for name in names)

    def _withdraw_facts(self, ids: Sequence[str]) -> int:
        """Rewrite the files of facts that say something of the samples; how many."""
        batches = set(self._batches.origins(columns=["batch"], sample_ids=ids)["batch"].to_pylist())
        return sum(self._withdraw(key, ids) for key in self._files(batches))

    def _withdraw(self, key: str, ids: Sequence[str]) -> bool:
        for _ in range(_MOST_TRIES):
            found = self._store.get_with_etag(key)
            after, removed = (None, dict[str, str]()) if found is None else withdrawn(found[0], key, ids)
            if found is None or after is None:
                return False
            stones = self._tombstones.of(removed)
            for (
                sample_id,
                row,
            ) in removed.items():  # noted before it goes, so that locks can still be verified
                self._tombstones.write(replace(stones[sample_id], facts={key: row}))
            try:
                self._store.put_if_match(key, after, found[1])
            except ConflictError:
                continue
            return True
        raise ConflictError(f"Facts {key} kept being rewritten by others: try again.", kind="busy_facts")

    def _leave_clusters(self, ids: Sequence[str]) -> int:
        """Take the samples out of the clusters of every near-duplicates step; how many steps. Of one that no snapshot and no
        configuration knows all is deleted: it is computed again if it ever comes back."""
        known = {self._steps.near_duplicates.key: self._steps}
        for snapshot in self._snapshots.all():
            try:
                inspect, embed, near = (
                    recorded_step(snapshot, n) for n in ("inspect", "embed", "near_duplicates")
                )
            except (ConfigError, CorruptionError):
                continue
            known.setdefault(near.key, Steps(inspect, {"default": embed}, near))
        keys: dict[str, list[str]] = defaultdict(list)
        for info in self._store.list("facts/near_duplicates/"):
            keys[info.key.split("/")[2]].append(info.key)
        for step_key, objects in keys.items():
            if step_key in known:
                steps = known[step_key]
                update_clusters(
                    self._store, steps.near_duplicates, steps.inspect, steps.default_embed, forget=ids
                )
            else:
                for key in sorted(objects, key=lambda k: not k.endswith("/head.json")):
                    self._store.delete(key)
        return len(keys)

    def _rewrite_shards(self, ids: Sequence[str]) -> tuple[int, int]:
        """Write the exports again that hold a sample: how many shards were written, and how many of unfinished exports deleted."""
        written = leftovers = 0
        for snapshot, _ in self._holding(ids):
            folders: dict[str, list[str]] = defaultdict(list)
            for info in self._store.list(f"exports/{snapshot.ref}/"):
                folders["/".join(info.key.split("/")[:3])].append(info.key)
            for prefix, keys in folders.items():
                found = self._store.get_with_etag(f"{prefix}/index.json")
                index = parse_index(found[0], f"{prefix}/index.json") if found else None
                recipe = parse_recipe(index["recipe"]) if index else None
                split = index.get("split") if index else None
                if recipe is not None and export_prefix(snapshot, recipe, split) == prefix:
                    written += self._exporter.export(snapshot, recipe, split=split).written
                    continue
                # nobody can tell which shards hold what, or this version writes others: an export makes them again
                for key in sorted(keys, key=lambda k: not k.endswith("/index.json")):
                    leftovers += self._store.delete(key) and "/records/" not in key
        return written, leftovers

    def _forget_inputs(self) -> None:
        """Make the next replay one of every sample: what was kept of facts says what must not stay, and clusters have shrunk."""
        for _ in range(_MOST_TRIES):
            head, etag = read_head(self._store)
            if etag is None or not head.inputs:
                return
            try:
                write_head(self._store, replace(head, inputs=[]), etag)
            except ConflictError:
                continue
            return
        raise ConflictError("Other replays kept swapping the state's head: try again.", kind="replay_busy")
