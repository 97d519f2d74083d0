"""Locks: the bytes that a snapshot rests on, written down when it is frozen, beside it in `<version>.lock.json`.

A root speaks of rows. It does not say whether a Parquet leaf has still the bytes that were written, as long as the rows come
out of it, and nothing of the policy or the ledger's last segment. The lock names the immutable objects with the digests of
their bytes, and the ledger by its newest segment, from which each segment names the one before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from refinery.digests import canonical_json, digest, digest_json
from refinery.ledger import Ledger, segment_key
from refinery.states.tree import StateTrees
from refinery.store import ObjectStore
from refinery.store.bulk import each, get_many

if TYPE_CHECKING:
    from refinery.snapshots import Snapshot

FORMAT = "refinery.lock/1"
Damage = tuple[str, str]
"""The key of an object, and a sentence that names it and says what is wrong."""


class Locks:
    """The locks of one store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._trees = StateTrees(store)

    def write(self, snapshot: Snapshot, ledger: Ledger) -> bool:
        """Lock a snapshot as its objects are now; False when it is locked already.

        Reads every object once; those that the parent version locked are taken from there, since none ever changes.
        """
        key = _lock_key(snapshot.ref)
        if self._store.exists(key):
            return False
        parent = self._read(snapshot.parent)
        known: dict[str, str] = parent["objects"] if parent else {}
        keys = set(self._keys(snapshot))
        fresh = sorted(keys - known.keys())
        objects = {k: known[k] for k in keys & known.keys()}
        objects |= zip(fresh, each(self._store, lambda k: digest(self._store.get(k)), fresh), strict=True)
        segments, last = ledger.segment_at(snapshot.ledger_offset)
        body = {
            "format": FORMAT,
            "snapshot": snapshot.ref,
            "objects": objects,
            "ledger": {"offset": snapshot.ledger_offset, "segments": segments, "last": last},
        }
        return self._store.put_if_absent(key, canonical_json(body | {"digest": digest_json(body)}))

    def verify(self, snapshot: Snapshot) -> Iterator[Damage]:
        """Read what a snapshot's lock names again: everything that is missing or has other bytes. Nothing without a lock."""
        key = _lock_key(snapshot.ref)
        found = self._store.get_with_etag(key)
        if found is None:
            return
        lock = _checked(found[0])
        if lock is None or lock["snapshot"] != snapshot.ref:
            yield (
                key,
                f"Lock {key} is damaged: it is not what its own digest says. Restore it from a backup; "
                "until then the snapshot is checked without it.",
            )
            return
        yield from filter(None, each(self._store, self._check, lock["objects"].items()))
        yield from self._check_ledger(lock["ledger"]["segments"], lock["ledger"]["last"])

    def _keys(self, snapshot: Snapshot) -> Iterator[str]:
        yield snapshot.key
        yield f"policies/{snapshot.policy}.json"
        for node in (snapshot.node, snapshot.state_node):
            yield from self._trees.keys(node)
        for name, step in snapshot.steps.items():
            step_key = f"facts/{name}/{step['key']}/step.json"
            if self._store.exists(step_key):  # of a step that has never written a fact there is none
                yield step_key

    def _read(self, ref: str | None) -> dict[str, Any] | None:
        if ref is None:
            return None
        found = self._store.get_with_etag(_lock_key(ref))
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


def _checked(data: bytes) -> dict[str, Any] | None:
    """A lock from its bytes; None when they are not what its own digest says."""
    try:
        raw: dict[str, Any] = json.loads(data)
        body = {name: value for name, value in raw.items() if name != "digest"}
        whole = raw["format"] == FORMAT and raw["digest"] == digest_json(body) and canonical_json(raw) == data
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return raw if whole else None


def _lock_key(ref: str) -> str:
    return f"snapshots/{ref.replace('@', '/')}.lock.json"
