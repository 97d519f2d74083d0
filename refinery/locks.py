"""Locks: the bytes that a snapshot rests on, written down when it is frozen, beside it in `<version>.lock.json`.

A root speaks of rows. It does not say whether a Parquet leaf has still the bytes that were written, as long as the rows come
out of it, and nothing of the batches, the policy or the ledger's last segment. The lock names the immutable objects with the
digests of their bytes, the ledger by its newest segment, from which each segment names the one before, and files of facts,
which may get more rows, by the root of the rows they had (see `fact_rows`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from refinery.batches import Batches
from refinery.digests import canonical_json, digest, digest_json
from refinery.errors import ConfigError, CorruptionError, RefineryError
from refinery.fact_rows import LockedFacts
from refinery.facts import Step, batch_of
from refinery.fields import to_utc
from refinery.ledger import Ledger, segment_key
from refinery.near_duplicates.clusters import COLUMNS, clusters_root
from refinery.snapshot_splits import clusters_key
from refinery.states.head import read_head
from refinery.states.tree import StateTrees
from refinery.store import ObjectStore
from refinery.store.bulk import each, get_many

if TYPE_CHECKING:
    from refinery.snapshots import Snapshot

FORMAT = "refinery.lock/2"
_OLDER = "refinery.lock/1"
_COMPUTED = ("inspect", "embed")
"""The steps whose facts are locked: near-duplicates follow from these."""
Damage = tuple[str, str]
"""The key of an object, and a sentence that names it and says what is wrong."""


@dataclass(frozen=True, slots=True)
class Lock:
    """What a snapshot rests on: immutable `objects` (key → digest), `segments` of the ledger up to its offset and the digest
    of the `last` one; `facts` by key, the landed `batches` in order, those that were `compared` for near-duplicates, and the
    root of the `clusters` there were. The last four are empty in locks of older versions."""

    snapshot: str
    objects: dict[str, str]
    segments: int
    last: str | None
    facts: dict[str, LockedFacts]
    batches: tuple[str, ...] = ()
    compared: tuple[str, ...] = ()
    clusters: str = ""
    complete: bool = True


class Locks:
    """The locks of one store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._trees = StateTrees(store)

    def write(self, snapshot: Snapshot, ledger: Ledger) -> bool:
        """Lock a snapshot as its objects are now; False when it is locked already.

        Reads every object once; those that the parent version locked are taken from there, since none ever changes.
        """
        key = lock_key(snapshot.ref)
        if self._store.exists(key):
            return False
        parent = self._read(snapshot.parent)
        batches, compared, clusters = self._computed_from(snapshot)
        known = parent.objects if parent else {}
        keys = {*self._keys(snapshot), *self._batch_keys(batches)}
        fresh = sorted(keys - known.keys())
        objects = {k: known[k] for k in keys & known.keys()}
        objects |= zip(fresh, each(self._store, lambda k: digest(self._store.get(k)), fresh), strict=True)
        segments, last = ledger.segment_at(snapshot.ledger_offset)
        body = {
            "format": FORMAT,
            "snapshot": snapshot.ref,
            "objects": objects,
            "ledger": {"offset": snapshot.ledger_offset, "segments": segments, "last": last},
            "facts": self._facts(snapshot, batches, parent.facts if parent else {}),
            "batches": batches,
            "compared": compared,
            "clusters": clusters,
        }
        return self._store.put_if_absent(key, canonical_json(body | {"digest": digest_json(body)}))

    def read(self, ref: str) -> Lock:
        """The lock of a snapshot, to rely on. ConfigError when it has none or one of an older version, CorruptionError when
        it is damaged."""
        found = self._store.get_with_etag(lock_key(ref))
        lock = None if found is None else _checked(found[0])
        if found is not None and (lock is None or lock.snapshot != ref):
            raise _damaged(ref)
        if lock is None or not lock.complete:
            raise ConfigError(
                f"{ref} has no lock of facts and batches: it was frozen by an older version. Freeze it again.",
                kind="no_lock",
            )
        return lock

    def known(self, snapshot: Snapshot) -> Lock:
        """The lock of a snapshot; of one without, what can be told of its batches by time (`complete` is False then).

        CorruptionError when it is damaged.
        """
        try:
            return self.read(snapshot.ref)
        except ConfigError:
            batches, compared, clusters = self._computed_from(snapshot)
            return Lock(snapshot.ref, {}, 0, None, {}, tuple(batches), tuple(compared), clusters, False)

    def names(self, ref: str) -> set[str]:
        """The keys of all objects that the lock of a snapshot names, itself included; none without one. CorruptionError when
        it is damaged: nobody can tell then what the snapshot needs."""
        found = self._store.get_with_etag(lock_key(ref))
        if found is None:
            return set()
        lock = _checked(found[0])
        if lock is None:
            raise _damaged(ref)
        return {lock_key(ref), *lock.objects, *lock.facts}

    def verify(
        self, snapshot: Snapshot, removed: Mapping[str, Mapping[str, str]] | None = None
    ) -> Iterator[Damage]:
        """Read what a snapshot's lock names again: everything that is missing or has other bytes. Nothing without a lock.

        `removed` are rows of facts that were taken down: key of the file → sample id → digest of the row.
        """
        key = lock_key(snapshot.ref)
        found = self._store.get_with_etag(key)
        if found is None:
            return
        lock = _checked(found[0])
        if lock is None or lock.snapshot != snapshot.ref:
            yield (
                key,
                f"Lock {key} is damaged: it is not what its own digest says. Restore it from a backup; "
                "until then the snapshot is checked without it.",
            )
            return
        yield from filter(None, each(self._store, self._check, lock.objects.items()))
        yield from self._check_ledger(lock.segments, lock.last)
        yield from self._check_facts(lock, removed or {})

    def samples(self, batch: str) -> list[str]:
        """The distinct samples of a landed batch, in order of id: what the bitmaps of locked facts are over."""
        return Batches(self._store).samples(batch)

    def _computed_from(self, snapshot: Snapshot) -> tuple[list[str], list[str], str]:
        """The batches the state was made of, those compared for near-duplicates, and the root of their clusters."""
        head, _ = read_head(self._store)
        if (head.root, head.ledger_offset, head.policy) == (
            snapshot.state,
            snapshot.ledger_offset,
            snapshot.policy,
        ):
            return head.batches, sorted(head.files.get("near_duplicates", {})), head.clusters
        batches = Batches(self._store)  # somebody replayed since: what had landed when it was frozen
        frozen = to_utc(snapshot.created_at)
        landed = [b for b in batches.landed() if to_utc(batches.info(b).ingested_at) <= frozen]
        raw = snapshot.steps.get("near_duplicates")
        if raw is None:
            return landed, [], ""
        step = Step("near_duplicates", raw["code_version"], raw["params"], raw["model_digest"], COLUMNS)
        compared = {i.key.rsplit("/", 1)[1] for i in self._store.list(f"{step.folder}/")}
        return (
            landed,
            [b for b in sorted(landed) if f"{b}.parquet" in compared],
            clusters_root(self._store, step),
        )

    def _facts(
        self, snapshot: Snapshot, batches: Sequence[str], known: dict[str, LockedFacts]
    ) -> dict[str, dict[str, Any]]:
        """The files of facts of these batches, each read once unless the parent version locked it as it is."""
        found: dict[str, dict[str, Any]] = {}
        mine = set(batches)
        for name in _COMPUTED:
            raw = snapshot.steps.get(name)
            for info in self._store.list(f"facts/{name}/{raw['key']}/") if raw else ():
                batch = batch_of(info.key)
                if batch not in mine or not info.key.endswith(".parquet"):
                    continue
                locked = known.get(info.key)
                if locked is None or locked.version != info.version:
                    data = self._store.get(info.key)
                    if locked is None or locked.digest != digest(data):
                        locked = LockedFacts.of(data, info.version, self.samples(batch), info.key)
                found[info.key] = locked.to_json()
        return found

    def _check_facts(self, lock: Lock, removed: Mapping[str, Mapping[str, str]]) -> Iterator[Damage]:
        keys = sorted(lock.facts)
        for key, data in zip(keys, get_many(self._store, keys), strict=True):
            if data is None:
                yield key, f"Facts {key} are missing."
                continue
            if digest(data) == lock.facts[key].digest:
                continue
            try:
                samples = self.samples(batch_of(key))
            except (RefineryError, OSError, ValueError, KeyError, TypeError):
                continue  # the batch is damaged, and named as that
            found = lock.facts[key].damage(data, samples, key, removed.get(key))
            if found is not None:
                yield key, found

    def _batch_keys(self, batches: Sequence[str]) -> Iterator[str]:
        mine = set(batches)
        for info in self._store.list("batches/"):
            if info.key.split("/")[1] in mine:
                yield info.key

    def _keys(self, snapshot: Snapshot) -> Iterator[str]:
        yield snapshot.key
        yield f"policies/{snapshot.policy}.json"
        for node in (snapshot.node, snapshot.state_node):
            yield from self._trees.keys(node)
        if snapshot.splits is not None:
            yield clusters_key(snapshot.name, snapshot.splits["clusters"])
        for name, step in snapshot.steps.items():
            step_key = f"facts/{name}/{step['key']}/step.json"
            if self._store.exists(step_key):  # of a step that has never written a fact there is none
                yield step_key

    def _read(self, ref: str | None) -> Lock | None:
        if ref is None:
            return None
        found = self._store.get_with_etag(lock_key(ref))
        return None if found is None else _checked(found[0])

    def _check(self, item: tuple[str, str]) -> Damage | None:
        key, expected = item
        found = self._store.get_with_etag(key)
        if found is None:
            return key, f"{key} is missing."
        if digest(found[0]) != expected:
            return key, f"{key} is damaged: its digest is not {expected}, as it was when this was frozen."
        return None

    def _check_ledger(self, segments: int, last: str | None) -> Iterator[Damage]:
        """From the newest segment back. Below a bad one, whose word on the one before is worth nothing, the next is taken
        as it is and the chain goes on from there."""
        expected = last
        keys = [segment_key(n) for n in range(segments, 0, -1)]
        for key, data in zip(keys, get_many(self._store, keys), strict=True):
            if data is None:
                yield key, f"Ledger segment {key} is missing."
                expected = None
            elif expected is not None and digest(data) != expected:
                yield key, f"Ledger segment {key} is damaged: its digest is not {expected}."
                expected = None
            else:
                try:
                    expected = json.loads(data.split(b"\n", 1)[0])["previous"]
                except (ValueError, KeyError, TypeError):
                    yield key, f"Ledger segment {key} is damaged: it has no header."
                    expected = None


def _checked(data: bytes) -> Lock | None:
    """A lock from its bytes; None when they are not what its own digest says."""
    try:
        raw: dict[str, Any] = json.loads(data)
        body = {name: value for name, value in raw.items() if name != "digest"}
        if raw["digest"] != digest_json(body) or canonical_json(raw) != data:
            return None
        base = Lock(
            raw["snapshot"],
            raw["objects"],
            raw["ledger"]["segments"],
            raw["ledger"]["last"],
            {},
            complete=False,
        )
        if raw["format"] == _OLDER:
            return base
        if raw["format"] != FORMAT:
            return None
        facts = {key: LockedFacts(**value) for key, value in raw["facts"].items()}
        batches, compared = tuple(raw["batches"]), tuple(raw["compared"])
        return replace(
            base, facts=facts, batches=batches, compared=compared, clusters=raw["clusters"], complete=True
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _damaged(ref: str) -> CorruptionError:
    return CorruptionError(
        f"Lock {lock_key(ref)} is damaged: it is not what its own digest says. Restore it from a backup.",
        kind="damaged_lock",
    )


def lock_key(ref: str) -> str:
    """Where the lock of a snapshot is kept."""
    return f"snapshots/{ref.replace('@', '/')}.lock.json"
