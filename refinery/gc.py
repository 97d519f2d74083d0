"""Garbage collection: objects that nothing needs any more, found by marking what is needed and taking the rest.

Needed is what can be reached from the newest state, from every snapshot and its lock, from exports with an index, and from whatever
was written lately: an operation that is under way names at its end what it wrote, or wrote again, at its beginning. Truth
(blobs, batches, ledger, tombstones, policies) is never garbage, nor are facts of steps that something records or that are in force.
Of maps only those of embed steps in force are kept, and of these what their fit needs.

Pointers to trees (states/roots/) go first, each unless it was written again since it was looked at. Then all is marked anew: a
writer has either written its pointer again, which keeps the tree, or finds none and writes the tree again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from refinery.embedding_map import kept as maps
from refinery.errors import CorruptionError, InputError, RefineryError
from refinery.export_index import parse_index
from refinery.facts import Step
from refinery.locks import Locks
from refinery.snapshot_splits import clusters_key
from refinery.snapshots import Snapshots
from refinery.states.head import read_head
from refinery.states.tree import Node, StateTrees
from refinery.store import ObjectInfo, ObjectStore

GRACE = timedelta(days=7)
_ROOTS, _PACKS, _STATES, _INPUTS = "states/roots/", "states/packs/", "states/", "states/inputs/"
_NAMED = ("points", "edges", "clusters")
"""The folders of near-duplicates whose objects count only when their head names them."""
Found = dict[str, list[ObjectInfo]]
"""Garbage by kind: `roots`, `states`, `inputs`, `exports`, `facts`, `locks`, `maps`."""


@dataclass(frozen=True, slots=True)
class GarbageReport:
    """What was garbage, or (`deleted`) was removed: objects and their bytes by kind, and their keys."""

    deleted: bool
    kinds: dict[str, dict[str, int]]
    keys: list[str]

    @property
    def objects(self) -> int:
        return sum(kind["objects"] for kind in self.kinds.values())

    @property
    def bytes(self) -> int:
        return sum(kind["bytes"] for kind in self.kinds.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "deleted": self.deleted,
            "objects": self.objects,
            "bytes": self.bytes,
            "kinds": self.kinds,
            "keys": self.keys,
        }


class Garbage:
    """The garbage of one store: what is older than `older_than`, and needed by nothing.

    `steps` are those in force. No operation may take longer than `older_than`.
    """

    def __init__(
        self,
        store: ObjectStore,
        steps: Iterable[Step],
        *,
        older_than: timedelta = GRACE,
        now: datetime | None = None,
    ) -> None:
        self._store = store
        self._in_force = {step.folder for step in steps}
        self._before = (now or datetime.now(UTC)) - older_than

    def find(self) -> GarbageReport:
        """What is garbage. Removes nothing. CorruptionError when it cannot be told what a snapshot needs."""
        return _report(self._found(), deleted=False)

    def collect(self) -> GarbageReport:
        """Remove what is garbage; interrupted, another one goes on. CorruptionError as `find`, before anything is removed."""
        removed: Found = defaultdict(list)
        self._remove(removed, "roots", self._found()["roots"])
        found = self._found()
        for kind in ("states", "inputs", "facts", "locks", "maps"):
            self._remove(removed, kind, found[kind])
        self._remove(removed, "exports", [i for i in found["exports"] if _is_record(i.key)])
        self._remove(removed, "exports", self._found()["exports"])
        return _report(removed, deleted=True)

    def _remove(self, removed: Found, kind: str, infos: Sequence[ObjectInfo]) -> None:
        removed[kind] += [info for info in infos if self._store.delete_listed(info)]

    # What is garbage

    def _found(self) -> Found:
        snapshots = Snapshots(self._store)
        needed, folders = self._needed(snapshots)
        found: Found = defaultdict(list)
        for info in self._store.list(_STATES):
            if info.key not in needed and self._old(info) and info.key.count("/") > 1:
                kind = {_ROOTS: "roots", _INPUTS: "inputs"}.get(
                    info.key[: info.key.find("/", 7) + 1], "states"
                )
                found[kind].append(info)
        refs = set(snapshots.refs())
        found["locks"] = [
            info
            for info in self._store.list("snapshots/")
            if self._old(info) and info.key not in needed and _is_of_removed(info.key, refs)
        ]
        found["exports"] = list(self._exports(refs))
        found["facts"] = list(self._facts(folders))
        in_use = [folder for folder in self._in_force if folder.startswith("facts/embed/")]
        found["maps"] = [info for info in maps.garbage(self._store, in_use) if self._old(info)]
        return found

    def _needed(self, snapshots: Snapshots) -> tuple[set[str], set[str]]:
        """The keys that something needs, of states and of what locks name; and the folders of steps that something records."""
        trees, locks = StateTrees(self._store), Locks(self._store)
        head, _ = read_head(self._store)
        needed = set(head.inputs)
        folders = {f"facts/{name}/{key}" for name, key in head.steps.items()} | self._in_force
        self._mark(needed, trees, [head.node], "the newest state")
        for snapshot in snapshots.all():
            self._mark(needed, trees, [snapshot.node, snapshot.state_node], snapshot.ref)
            locked = locks.names(snapshot.ref)
            needed |= locked
            if snapshot.splits is not None:
                needed.add(clusters_key(snapshot.name, snapshot.splits["clusters"]))
            folders |= {_folder(key) for key in locked if key.startswith("facts/")}
            folders |= {f"facts/{name}/{step['key']}" for name, step in snapshot.steps.items()}
        for info in self._store.list(_ROOTS):
            if not self._old(info):
                with suppress(InputError):  # somebody else removed it
                    needed.update([info.key, *trees.named(self._store.get(info.key))])
        for info in self._store.list(_PACKS):
            if not self._old(info):
                with suppress(InputError):
                    needed.update(trees.linked(info.key))
        return needed, folders

    def _mark(self, needed: set[str], trees: StateTrees, nodes: Iterable[Node], what: str) -> None:
        try:
            for node in nodes:
                needed.update(trees.keys(node))
        except (RefineryError, OSError, ValueError) as error:
            raise CorruptionError(
                f"What {what} needs cannot be told, so nothing is removed: {error}", kind="damaged_state"
            ) from None

    def _exports(self, refs: set[str]) -> Iterator[ObjectInfo]:
        """Of exports: all of a snapshot that is gone; of one without index, when nothing in it is young, and of what an index does
        not name, records and what has no record."""
        for folder, infos in self._folders("exports/"):
            keys = {info.key for info in infos}
            index = f"{folder}/index.json"
            orphan = folder.split("/")[1] not in refs
            if orphan or index not in keys:
                if all(map(self._old, infos)):
                    yield from sorted(infos, key=lambda i: (i.key != index, not _is_record(i.key)))
                continue
            names = [f["name"] for f in parse_index(self._store.get(index), index)["files"]]
            named = {index, *(f"{folder}/{n}" for n in names), *(f"{folder}/records/{n}.json" for n in names)}
            for info in infos:
                record = f"{folder}/records/{info.key.rsplit('/', 1)[1]}.json"
                if info.key not in named and self._old(info) and record not in keys:
                    yield info

    def _facts(self, folders: set[str]) -> Iterator[ObjectInfo]:
        """Of facts: those of steps that nothing records, when none is young; of near-duplicates also what no head names."""
        for folder, infos in self._folders("facts/"):
            if folder not in folders:
                if all(map(self._old, infos)):
                    yield from sorted(infos, key=lambda i: (not i.key.endswith("/head.json"), i.key))
            elif folder.startswith("facts/near_duplicates/"):
                loose = [i for i in infos if i.key.split("/")[3] in _NAMED and self._old(i)]
                head = self._store.get_with_etag(f"{folder}/head.json") if loose else None
                yield from (i for i in loose if head is None or i.key.encode() not in head[0])

    def _folders(self, prefix: str) -> Iterator[tuple[str, list[ObjectInfo]]]:
        """The objects below a prefix by the folder of their step or export."""
        found: dict[str, list[ObjectInfo]] = defaultdict(list)
        for info in self._store.list(prefix):
            found[_folder(info.key)].append(info)
        yield from found.items()

    def _old(self, info: ObjectInfo) -> bool:
        return info.written < self._before


def _folder(key: str) -> str:
    """The folder of a step (`facts/<step>/<key>`) or an export (`exports/<snapshot>/<recipe>`) that an object is in."""
    return "/".join(key.split("/")[:3])


def _is_of_removed(key: str, refs: set[str]) -> bool:
    """Whether it is the lock of a snapshot that is not there, or what one kept of clusters."""
    if key.endswith(".lock.json"):
        return "@".join(key.removesuffix(".lock.json").split("/")[1:]) not in refs
    return key.split("/")[2:3] == ["clusters"]


def _is_record(key: str) -> bool:
    return key.split("/")[3:4] == ["records"]


def _report(found: Found, *, deleted: bool) -> GarbageReport:
    kinds = {
        kind: {"objects": len(infos), "bytes": sum(i.bytes for i in infos)}
        for kind, infos in sorted(found.items())
        if infos
    }
    return GarbageReport(deleted, kinds, sorted({i.key for infos in found.values() for i in infos}))
