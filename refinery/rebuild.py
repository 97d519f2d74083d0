"""Rebuild: a snapshot computed again in another store, from nothing but what its lock names.

Taken over, and held against the lock, are bytes and facts: batches, ledger up to the offset, policy, facts as they were,
and the blobs of the members. Computed again are the near-duplicate clusters, every verdict, the membership and both roots;
the trees of the old store are not read. What comes out must be the snapshot, to the byte.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from refinery.batches import Batches
from refinery.blobs import blob_key, read_blob
from refinery.digests import canonical_json, digest
from refinery.documents import state_rows
from refinery.errors import ConfigError, ConflictError, CorruptionError, InputError
from refinery.fact_rows import read_facts
from refinery.facts import FactStore, batch_of, encode
from refinery.fields import Fields
from refinery.filter import parse
from refinery.gates.members import recorded_step
from refinery.inputs import Steps
from refinery.ledger import Ledger, segment_key
from refinery.locks import Lock, Locks
from refinery.near_duplicates import read_clusters, update_clusters
from refinery.near_duplicates.clusters import CODE_VERSION
from refinery.policy import Policy, stored_policy
from refinery.progress import NullProgress, Progress
from refinery.projection import with_verdicts
from refinery.replay import Replayer
from refinery.snapshot_splits import record_splits
from refinery.snapshots import Snapshot, Snapshots
from refinery.states.tree import StateTrees
from refinery.store import ObjectStore
from refinery.store.bulk import each
from refinery.tombstones import Tombstone, Tombstones, removed_facts
from refinery.verdicts import GOLD


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """What a rebuild took over and computed: `samples` verdicts of which `members` are in the snapshot, `blobs` there are
    now with their `bytes`, of which `copied` were written by this call."""

    snapshot: str
    root: str
    state: str
    samples: int
    members: int
    batches: int
    facts: int
    segments: int
    blobs: int
    copied: int
    bytes: int

    def to_json(self) -> dict[str, object]:
        return asdict(self)


class Rebuild:
    """The rebuild of one snapshot of `source` in `target`, which may be of another kind. Any interruption before is made good:
    what is there already is compared, not written again."""

    def __init__(self, source: ObjectStore, target: ObjectStore, ref: str) -> None:
        self._source, self._target = source, target
        self.snapshot: Snapshot = Snapshots(source).get(ref)
        self._lock: Lock = Locks(source).read(self.snapshot.ref)

    def run(self, progress: Progress | None = None) -> RebuildReport:
        """Take over, compute, compare, freeze.

        CorruptionError when something is not what the lock says, or the outcome is not the snapshot; ConflictError when the
        target holds something else; ConfigError when this version computes near-duplicates differently; InputError when
        samples that it was computed from were taken down.
        """
        progress = progress or NullProgress()
        snapshot, lock = self.snapshot, self._lock
        steps = self._steps()
        self._check_target()
        stones = self._check_taken_down()
        self._put(sorted(k for k in lock.objects if k.startswith(("batches/", "policies/", "facts/"))))
        self._put_ledger()
        self._put_facts()
        for stone in stones.values():
            self._store(stone.key, stone.to_bytes())
        rows, policy, fields = self._computed(steps)
        self._put_splits(rows, steps)
        blobs = self._blobs(rows)
        progress.start(len(blobs), "blobs")
        copied = [self._advance(progress, done) for done in each(self._source, self._copy_blob, blobs)]
        progress.done()
        self._freeze(policy, fields)
        return RebuildReport(
            snapshot.ref,
            snapshot.root,
            snapshot.state,
            snapshot.state_count,
            snapshot.count,
            len(lock.batches),
            len(lock.facts),
            lock.segments,
            len(blobs),
            sum(new for new, _ in copied),
            sum(size for _, size in copied),
        )

    def _steps(self) -> Steps:
        near = recorded_step(self.snapshot, "near_duplicates")
        if near.code_version != CODE_VERSION:
            raise ConfigError(
                f"{self.snapshot.ref} was computed with near-duplicates of version {near.code_version}, and this is "
                f"{CODE_VERSION}: rebuild it with the release that made it.",
                kind="other_code_version",
            )
        embed = recorded_step(self.snapshot, "embed")
        return Steps(recorded_step(self.snapshot, "inspect"), {"default": embed}, near)

    def _check_target(self) -> None:
        """Nothing that verdicts are computed from may be there but what this rebuild puts there."""
        ours = set(self._lock.objects) | {segment_key(n) for n in range(1, self._lock.segments + 1)}
        for prefix in ("batches/", "ledger/"):
            for info in self._target.list(prefix):
                if info.key not in ours:
                    raise ConflictError(
                        f"{self._target.url} holds {info.key}, on which {self.snapshot.ref} does not rest: rebuild it in "
                        "an empty place.",
                        kind="target_not_empty",
                    )

    def _check_taken_down(self) -> dict[str, Tombstone]:
        """The tombstones that the snapshot's ledger knows of. InputError when the facts or bytes of a sample that it rests on
        are gone: then it can be explained, and not be computed again."""
        tombstones = Tombstones(self._source)
        stones = tombstones.all()
        members = Snapshots(self._source).rows(self.snapshot).select(["sample_id"]) if stones else None
        lost = set() if members is None else set(tombstones.gone(members["sample_id"].to_pylist()))
        for key, rows in removed_facts(stones).items():
            locked = self._lock.facts.get(key)
            if locked is None:
                continue
            table = read_facts(self._source.get(key), key)
            there = set(table.filter(pc.is_null(table["reason"]))["sample_id"].to_pylist())
            samples = Batches(self._source).samples(batch_of(key))
            lost |= rows.keys() & set(locked.ids(samples)) - there
        if lost:
            first = stones[min(lost)]
            raise InputError(
                f"{self.snapshot.ref} cannot be rebuilt: {len(lost)} of the {self.snapshot.state_count:,} samples that its "
                f"verdicts were computed from were taken down, and their facts and bytes are gone. The first is "
                f"{first.sample_id} ({first.key}: {first.reason}). `refinery snapshot verify` still explains its root; "
                "freeze a new version to have one that can be rebuilt.",
                kind="taken_down",
            )
        return {i: s for i, s in stones.items() if s.ledger_offset <= self.snapshot.ledger_offset}

    def _put(self, keys: Iterable[str]) -> None:
        """Copy immutable objects that have their locked digests."""

        def copy(key: str) -> None:
            self._store(key, self._read(key, self._lock.objects[key]))

        for _ in each(self._source, copy, keys):
            pass

    def _put_ledger(self) -> None:
        expected = self._lock.last
        segments: list[tuple[str, bytes]] = []
        for number in range(self._lock.segments, 0, -1):
            key = segment_key(number)
            data = self._read(key, str(expected))
            expected = json.loads(data.split(b"\n", 1)[0])["previous"]
            segments.append((key, data))
        for key, data in reversed(segments):
            self._store(key, data)

    def _put_facts(self) -> None:
        """The facts there were, as canonical files: the same bytes from whatever the file has become."""
        batches = Batches(self._target)
        for key, locked in sorted(self._lock.facts.items()):
            found = self._source.get_with_etag(key)
            if found is None:
                raise CorruptionError(
                    f"Facts {key} are missing: restore them from a backup.", kind="damaged_facts"
                )
            samples = batches.samples(batch_of(key))
            damage = locked.damage(found[0], samples, key)
            if damage is not None:
                raise CorruptionError(damage, kind="damaged_facts")
            self._store(key, encode(locked.then(read_facts(found[0], key), samples)))

    def _computed(self, steps: Steps) -> tuple[pa.Table, Policy, Fields]:
        """The snapshot's rows, computed from what the target holds now, stored, and found to have its root."""
        target, snapshot = self._target, self.snapshot
        ledger, batches, facts = Ledger(target), Batches(target), FactStore(target)
        report = update_clusters(
            target, steps.near_duplicates, steps.inspect, steps.default_embed, batches=self._lock.compared
        )
        if self._lock.clusters not in ("", report.root):
            raise self._differs("near-duplicate clusters", self._lock.clusters, report.root)
        fields = Fields(ledger.view().registered_fields())
        policy = stored_policy(target.get(f"policies/{snapshot.policy}.json"), fields)
        replayer = Replayer(target, ledger, batches, facts, fields, steps)
        described, verdicts = replayer.evaluate(policy, ledger.view())
        state = state_rows(described, verdicts)
        built = StateTrees(target).build(state)
        if (built.digest, built.count) != (snapshot.state, snapshot.state_count):
            raise self._differs("verdict state", snapshot.state, built.digest)
        rows = state.filter(pc.equal(state["verdict"], GOLD))
        if snapshot.filter:
            where = parse(snapshot.filter, fields)
            others = Snapshots(self._source) if "datasets" in where.fields else None
            datasets = others.memberships(before=snapshot.created_at) if others else {}
            seen = with_verdicts(described.documents, state, datasets)
            chosen = seen.filter(pa.array(where.mask(seen)))["sample_id"]
            rows = rows.filter(pc.is_in(rows["sample_id"], chosen.combine_chunks()))
        node = StateTrees(target).build(rows)
        if (node.digest, node.count) != (snapshot.root, snapshot.count):
            raise self._differs("membership", self.snapshot.root, node.digest)
        return rows, policy, fields

    def _put_splits(self, rows: pa.Table, steps: Steps) -> None:
        """The splits again, from the clusters that were computed again."""
        if self.snapshot.splits is None:
            return
        found = read_clusters(self._target, steps.near_duplicates)
        clusters = dict(zip(found["sample_id"].to_pylist(), found["cluster"].to_pylist(), strict=True))
        rule = Snapshots(self._source).splits(self.snapshot).rule
        ids = rows["sample_id"].to_pylist()
        computed = record_splits(self._target, self.snapshot.name, rule, ids, clusters)
        if computed != self.snapshot.splits:
            raise self._differs("splits", str(self.snapshot.splits["clusters"]), str(computed["clusters"]))

    def _freeze(self, policy: Policy, fields: Fields) -> None:
        """Write the snapshot that was computed, if it is the one that was asked for."""
        computed = replace(
            self.snapshot,
            policy=policy.digest,
            fields=[[f.name, f.type.value] for f in fields.attributes],
        )
        data = canonical_json(computed.to_json())
        if digest(data) != self._lock.objects[self.snapshot.key]:
            raise self._differs("snapshot's file", self._lock.objects[self.snapshot.key], digest(data))
        self._store(self.snapshot.key, data)
        Locks(self._target).write(computed, Ledger(self._target))

    def _blobs(self, rows: pa.Table) -> list[str]:
        """The digests of the members' pictures and payloads."""
        found = set(rows["sample_id"].to_pylist())
        for payloads in rows["payloads"].to_pylist():
            found.update(p["digest"] for p in (json.loads(payloads) if payloads != "[]" else ()))
        return sorted(found)

    def _copy_blob(self, name: str) -> tuple[bool, int]:
        data = read_blob(self._source, name)
        return self._target.put_if_absent(blob_key(name), data), len(data)

    def _advance(self, progress: Progress, done: tuple[bool, int]) -> tuple[bool, int]:
        progress.advance(1, done[1])
        return done

    def _read(self, key: str, expected: str) -> bytes:
        data = self._source.get(key)
        if digest(data) != expected:
            raise CorruptionError(
                f"{key} is damaged: its digest is not {expected}, as {self.snapshot.ref} locked it. Restore it from a backup.",
                kind="damaged_object",
            )
        return data

    def _store(self, key: str, data: bytes) -> None:
        if not self._target.put_if_absent(key, data) and self._target.get(key) != data:
            raise ConflictError(
                f"{self._target.url} holds another {key}: rebuild in an empty place.", kind="target_not_empty"
            )

    def _differs(self, what: str, locked: str, computed: str) -> CorruptionError:
        return CorruptionError(
            f"{self.snapshot.ref} cannot be rebuilt by this version: its {what} was {locked}, and is now computed as "
            f"{computed}. Run `refinery snapshot verify {self.snapshot.ref}`; if all is whole, rebuild it with the release that made it.",
            kind="rebuilt_differently",
        )
