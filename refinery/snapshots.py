"""Snapshots: `name@version`, an immutable membership with everything it was computed from."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pyarrow as pa

from refinery.blobs import blob_key
from refinery.digests import canonical_json, digest
from refinery.errors import CorruptionError, InputError, RefineryError, did_you_mean
from refinery.ledger import EventType, Ledger
from refinery.locks import Locks
from refinery.snapshot_splits import SnapshotSplits
from refinery.states.tree import Node, StateTrees
from refinery.store import ObjectStore
from refinery.tombstones import Tombstone, Tombstones, removed_facts

FORMATS = ("refinery.snapshot/1", "refinery.snapshot/2")
_SINCE_2 = ("splits", "view")
"""Members that a snapshot may have and the first format has no word for: without them it is written in that one."""
_OF_SPLITS = {"shares", "seed", "clusters", "counts"}
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\Z")
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_REF = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}@\d+\Z")
_EVER = re.compile(r"snapshots/[^/]+/(\d+)(?:\.removed)?\.json\Z")
_FILE = re.compile(r"snapshots/([a-z0-9][a-z0-9_-]{0,63})/(\d+)\.json\Z")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One frozen dataset. `root` is the digest of its rows; the other members say what these were computed from: the
    verdict state and its size, the ledger offset, the policy's digest, the steps and their keys, the filter over gold (and
    the `view`, as name@version, that it is from) and the parent version. `splits` are their rule, and the clusters and counts
    there were, None without. Only `created_at` is a clock's, and no root contains it."""

    name: str
    version: int
    root: str
    count: int
    parent: str | None
    filter: str | None
    policy: str
    ledger_offset: int
    state: str
    state_count: int
    steps: dict[str, dict[str, Any]]
    fields: list[list[str]]
    created_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat())
    splits: dict[str, Any] | None = None
    view: str | None = None

    @property
    def ref(self) -> str:
        """How people name it: `name@version`."""
        return f"{self.name}@{self.version}"

    @property
    def key(self) -> str:
        """Where it is kept."""
        return _key(self.name, self.version)

    @property
    def node(self) -> Node:
        """The tree of its rows."""
        return Node(self.root, self.count)

    @property
    def state_node(self) -> Node:
        """The tree of the verdict state it was frozen from."""
        return Node(self.state, self.state_count)

    def to_json(self) -> dict[str, Any]:
        members = {k: v for k, v in asdict(self).items() if v is not None or k not in _SINCE_2}
        return {"format": FORMATS[any(name in members for name in _SINCE_2)], **members}


class Snapshots:
    """The snapshots of one store."""

    def __init__(self, store: ObjectStore, ledger: Ledger | None = None) -> None:
        """`ledger` is that of the store, when somebody has read it already."""
        self._store = store
        self._ledger = ledger or Ledger(store)
        self._trees = StateTrees(store)
        self._locks = Locks(store)
        self._read: dict[str, Snapshot] = {}

    def names(self) -> list[str]:
        """The datasets that have a snapshot, in order of name."""
        return sorted({s.name for s in self.all()})

    def all(self) -> list[Snapshot]:
        """Every snapshot, by name and version."""
        return [self._load(name, version) for name, version in self._versions()]

    def refs(self) -> list[str]:
        """Every snapshot as `name@version`, by name and version. Reads none of them."""
        return [f"{name}@{version}" for name, version in self._versions()]

    def latest(self, name: str) -> Snapshot | None:
        """The newest version of a dataset, or None when it has none."""
        versions = [version for found, version in self._versions() if found == name]
        return self._load(name, versions[-1]) if versions else None

    def get(self, ref: str) -> Snapshot:
        """The snapshot `name@version`, or the newest of `name`. InputError with a suggestion when there is none."""
        name, _, version = ref.partition("@")
        known = self.refs()
        if version and ref in known:
            return self._load(name, int(version))
        if not version and (found := self.latest(name)):
            return found
        if _REF.match(ref) and (gone := self._store.get_with_etag(removed_key(ref))):
            raise InputError(
                f"Snapshot {ref} was removed: {json.loads(gone[0])['reason']} ({removed_key(ref)}).",
                kind="snapshot_removed",
            )
        raise InputError(
            f"There is no snapshot {ref!r}.{did_you_mean(ref, known)} `refinery snapshot ls` lists them all.",
            kind="no_such_snapshot",
        )

    def parent(self, snapshot: Snapshot) -> Snapshot | None:
        """The version that a snapshot followed; None when it was the first, or that one is not in this store any more."""
        return self.get(snapshot.parent) if snapshot.parent and snapshot.parent in self.refs() else None

    def freeze(
        self,
        name: str,
        rows: pa.Table,
        *,
        filter_text: str | None,
        policy: str,
        ledger_offset: int,
        state: Node,
        steps: dict[str, dict[str, Any]],
        fields: list[list[str]],
        splits: dict[str, Any] | None = None,
        view: str | None = None,
    ) -> tuple[Snapshot, bool]:
        """Freeze rows as the next version of `name`, and lock what it rests on. (snapshot, True) when it is new; (the newest
        one, False) when that already holds exactly these rows in the same splits (see `record_splits`)."""
        if not _NAME.match(name):
            raise InputError(
                f"{name!r} cannot name a dataset: lower-case letters, digits, - and _ only, at most 64.",
                kind="bad_dataset_name",
            )
        parent = self.latest(name)
        node = self._trees.build(rows, like=parent.node if parent else state)
        while True:
            parent = self.latest(name)
            if parent is not None and (parent.root, parent.splits) == (node.digest, splits):
                self._locks.write(parent, self._ledger)  # unless it is: whoever froze it may have been killed
                return parent, False
            snapshot = Snapshot(
                name=name,
                version=self._last(name) + 1,
                root=node.digest,
                count=node.count,
                parent=parent.ref if parent else None,
                filter=filter_text,
                policy=policy,
                ledger_offset=ledger_offset,
                state=state.digest,
                state_count=state.count,
                steps=steps,
                fields=fields,
                splits=splits,
                view=view,
            )
            if self._store.put_if_absent(_key(name, snapshot.version), canonical_json(snapshot.to_json())):
                self._locks.write(snapshot, self._ledger)
                return snapshot, True

    def rows(self, snapshot: Snapshot, split: str | None = None) -> pa.Table:
        """The rows of a snapshot, or of one of its splits, in order of sample id. InputError when it has no such split."""
        rows = self._trees.rows(snapshot.node)
        return rows if split is None else self.of_split(snapshot, rows, split)

    def of_split(self, snapshot: Snapshot, rows: pa.Table, split: str) -> pa.Table:
        """Those of a snapshot's rows that are in a split. InputError when it has no such split."""
        splits = self.splits(snapshot)
        splits.check(split)
        return rows.filter(
            pa.array([s == split for s in splits.assign(rows["sample_id"].to_pylist())], pa.bool_())
        )

    def splits(self, snapshot: Snapshot) -> SnapshotSplits:
        """The splits of a snapshot; asked for anything they raise InputError when it has none."""
        return SnapshotSplits(self._store, snapshot)

    def lookup(self, snapshot: Snapshot, sample_ids: Collection[str]) -> pa.Table:
        """The rows of those of some samples that a snapshot holds. Reads the way to them, and no other rows."""
        return self._trees.lookup(snapshot.node, sample_ids)

    def memberships(
        self, sample_ids: list[str] | None = None, *, upto: int | None = None, before: str | None = None
    ) -> dict[str, list[str]]:
        """For each sample the snapshots it is in, as `name@version`, and as `name` when it is in the newest one.

        `upto`: only of snapshots that the ledger records up to this offset (None: of all), and of unrecorded ones frozen at an
        offset up to it; `before`: at an earlier time.
        """
        recorded = {
            f"{e.kind}@{e.value['version']}": e.offset
            for e in self._ledger.view().records(EventType.SNAPSHOT)
        }
        snapshots = [
            s
            for s in self.all()
            if (upto is None or recorded.get(s.ref, s.ledger_offset) <= upto)
            and (before is None or s.created_at < before)
        ]
        newest = {s.name: s.version for s in snapshots}
        found: dict[str, list[str]] = {}
        for snapshot in snapshots:
            rows = (
                self.rows(snapshot) if sample_ids is None else self._trees.lookup(snapshot.node, sample_ids)
            )
            refs = [snapshot.ref, *([snapshot.name] if newest[snapshot.name] == snapshot.version else [])]
            for sample_id in rows["sample_id"].to_pylist():
                found.setdefault(sample_id, []).extend(refs)
        return {sample_id: sorted(refs) for sample_id, refs in found.items()}

    def verify(self, snapshot: Snapshot, *, blobs: bool = True) -> Iterator[str]:
        """Recompute a snapshot from its rows, and read every blob and what its lock names again; yields a sentence for
        each thing that is missing or damaged. Needs nothing but the store. What was taken down is not missing (see
        `taken_down`)."""
        damaged = set[str]()
        tombstones = Tombstones(self._store, self._ledger)
        stones, wrong = tombstones.scan()
        yield from map(str, wrong)
        for key, finding in self._locks.verify(snapshot, removed_facts(stones)):
            damaged.add(key)
            yield finding
        if snapshot.key in damaged:  # what it names cannot be relied on
            return
        broken = False
        for finding in self._trees.verify(snapshot.node, damaged):
            broken = True
            if damaged.isdisjoint(word.rstrip(".:,") for word in finding.split()):
                yield finding
        if broken:
            return
        rows = self.rows(snapshot)
        if snapshot.splits is not None:
            yield from self._check_splits(snapshot, rows["sample_id"].to_pylist(), damaged)
        if not blobs:
            return
        wanted = {i: f"sample {i}" for i in rows["sample_id"].to_pylist()}
        for sample_id, payloads in zip(
            rows["sample_id"].to_pylist(), rows["payloads"].to_pylist(), strict=True
        ):
            for payload in json.loads(payloads) if payloads != "[]" else ():
                wanted[payload["digest"]] = f"payload {payload['name']!r} of sample {sample_id}"
        removed = {name for stone in stones.values() for name in stone.blobs}
        with ThreadPoolExecutor(max(4, self._store.concurrency)) as pool:
            check = partial(self._check_blob, removed)
            yield from filter(None, pool.map(check, wanted.items()))
        for sample_id in sorted(tombstones.told(wanted)[0]):
            if self._store.exists(blob_key(sample_id)):
                yield (
                    f"The bytes of sample {sample_id}, which was taken down, are still there: "
                    f"`refinery takedown {sample_id} --yes` finishes it."
                )

    def _check_splits(self, snapshot: Snapshot, ids: list[str], damaged: Container[str]) -> Iterator[str]:
        try:
            splits = self.splits(snapshot)
            counts = Counter(splits.assign(ids))
        except CorruptionError as error:
            if str(error).split()[0] not in damaged:
                yield str(error)
            return
        if snapshot.splits and {n: counts[n] for n in splits.rule.names} != snapshot.splits["counts"]:
            yield f"{snapshot.key} is damaged: its splits do not have as many samples as it says."

    def taken_down(self, snapshot: Snapshot) -> list[Tombstone]:
        """The tombstones of the samples of a snapshot that were taken down and are not back: its root still holds their
        rows, and their bytes are gone. In order of sample id."""
        tombstones = Tombstones(self._store, self._ledger)
        if not (ids := tombstones.ids()):
            return []
        members = self.lookup(snapshot, ids)["sample_id"].to_pylist()
        gone, stones = tombstones.told(members)[1], tombstones.scan()[0]
        return [stones[i] for i in sorted(gone & stones.keys())]

    def _check_blob(self, removed: Container[str], item: tuple[str, str]) -> str | None:
        expected, what = item
        try:
            found = digest(self._store.get(blob_key(expected)))
        except RefineryError as error:
            if expected in removed and not self._store.exists(blob_key(expected)):
                return None
            return f"The bytes of {what} are missing: {error}"
        return (
            None
            if found == expected
            else f"The bytes of {what} are damaged: {blob_key(expected)} has digest {found}."
        )

    def _last(self, name: str) -> int:
        """The greatest version that a dataset ever had, removed ones included; 0 when it never had one."""
        found = [_EVER.match(info.key) for info in self._store.list(f"snapshots/{name}/")]
        return max((int(m[1]) for m in found if m), default=0)

    def _versions(self) -> list[tuple[str, int]]:
        found = [m for info in self._store.list("snapshots/") if (m := _FILE.match(info.key))]
        return sorted((m[1], int(m[2])) for m in found)

    def _load(self, name: str, version: int) -> Snapshot:
        key = _key(name, version)
        if key not in self._read:
            data = self._store.get(key)
            try:
                raw = json.loads(data)
                known = raw.pop("format", None)
                if known not in FORMATS:
                    raise CorruptionError(
                        f"{key} is none of {' and '.join(FORMATS)}: this version cannot read it.",
                        kind="unknown_format",
                    )
                snapshot = Snapshot(**raw)
                if snapshot.to_json()["format"] > known:
                    raise ValueError(f"{known} has not all of its members")
                for member, value in (("root", snapshot.root), ("state", snapshot.state)):
                    if not _DIGEST.match(value):
                        raise ValueError(f"its {member} is not a digest")
                if snapshot.splits is not None and set(snapshot.splits) != _OF_SPLITS:
                    raise ValueError("its splits are none")
                if not all(
                    isinstance(n, int) for n in (snapshot.count, snapshot.state_count, snapshot.ledger_offset)
                ):
                    raise ValueError("its counts are not integers")
            except (ValueError, TypeError, AttributeError) as error:
                raise CorruptionError(
                    f"{key} is damaged, no snapshot can be read from it ({error}): restore it from a backup.",
                    kind="damaged_snapshot",
                ) from None
            if (snapshot.name, snapshot.version) != (name, version):
                raise CorruptionError(
                    f"{key} is damaged: it says that it is {snapshot.ref}. Restore it from a backup.",
                    kind="damaged_snapshot",
                )
            self._read[key] = snapshot
        return self._read[key]


def _key(name: str, version: int) -> str:
    return f"snapshots/{name}/{version}.json"


def removed_key(ref: str) -> str:
    """Where it is kept that a snapshot was removed."""
    return f"snapshots/{ref.replace('@', '/')}.removed.json"
