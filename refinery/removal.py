"""Removal of a snapshot: its file, its lock and its exports go; that it was there, and its root, stays.

`snapshots/<name>/<version>.removed.json` is written first. A version that was removed is never used again, since
`name@version` names one set of samples for ever.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from refinery.digests import canonical_json
from refinery.errors import InputError
from refinery.fields import Field, Fields, FieldType
from refinery.filter import parse
from refinery.ledger import Actor
from refinery.locks import lock_key
from refinery.snapshots import Snapshot, Snapshots, removed_key
from refinery.states.tree import StateTrees
from refinery.store import ObjectStore

FORMAT = "refinery.removed/1"


@dataclass(frozen=True, slots=True)
class Dependents:
    """What hangs on a snapshot: its `exports` (prefixes) with their bytes, later `versions` that were made from it, and
    snapshots whose `filters` ask who is in it, so that they could not be rebuilt."""

    ref: str
    root: str
    count: int
    exports: list[str]
    bytes: int
    versions: list[str]
    filters: list[str]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Removal:
    """Removes snapshots of one store."""

    def __init__(self, store: ObjectStore, snapshots: Snapshots) -> None:
        self._store, self._snapshots = store, snapshots

    def preview(self, ref: str) -> Dependents:
        """What hangs on a snapshot `name@version`. Writes nothing. InputError when there is none, or no version is given."""
        if "@" not in ref:
            raise InputError(
                f"Say which version of {ref!r} is to be removed: {ref}@VERSION.", kind="no_version"
            )
        snapshot = self._snapshots.get(ref)
        exports = list(self._store.list(f"exports/{ref}/"))
        others = [s for s in self._snapshots.all() if s.ref != ref]
        return Dependents(
            ref,
            snapshot.root,
            snapshot.count,
            sorted({"/".join(info.key.split("/")[:3]) for info in exports}),
            sum(info.bytes for info in exports),
            [s.ref for s in others if s.parent == ref],
            [s.ref for s in others if s.created_at > snapshot.created_at and _asks(s, snapshot)],
        )

    def run(self, ref: str, actor: Actor, reason: str) -> Dependents:
        """Remove a snapshot; repeating it finishes one that was interrupted. Trees that nothing else needs are garbage then.

        InputError as `preview`, and without a reason.
        """
        if not reason.strip():
            raise InputError("Say why the snapshot is removed: others know its root.", kind="no_reason")
        found = self.preview(ref)
        body = {
            "format": FORMAT,
            "snapshot": ref,
            "root": found.root,
            "count": found.count,
            "reason": reason.strip(),
            "actor": {"kind": actor.kind.value, "name": actor.name},
            "time": datetime.now(UTC).isoformat(),
        }
        self._store.put_if_absent(removed_key(ref), canonical_json(body))
        infos = list(self._store.list(f"exports/{ref}/"))
        for info in sorted(infos, key=lambda i: not i.key.endswith("/index.json")):
            self._store.delete(info.key)
        snapshot = self._snapshots.get(ref)
        for node in (snapshot.node, snapshot.state_node):
            StateTrees(self._store).release(node)
        self._store.delete(snapshot.key)
        self._store.delete(lock_key(ref))
        return found


def _asks(snapshot: Snapshot, about: Snapshot) -> bool:
    """Whether the filter of a snapshot asks who is in another."""
    if not snapshot.filter:
        return False
    fields = Fields([Field(name, FieldType(kind)) for name, kind in snapshot.fields])
    return bool({about.name, about.ref} & parse(snapshot.filter, fields).datasets)
