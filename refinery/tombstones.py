"""Tombstones: what stays of a sample that was taken down, `tombstones/<sample_id>.json`.

A tombstone is written before anything is removed, and names all that is: so whoever verifies a snapshot of before can tell
what was taken away from what was lost. It is replaced only by one that names more. It counts when the ledger holds the
`blocked` flag that it names.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from refinery.blobs import blob_key
from refinery.digests import canonical_json, digest_json
from refinery.errors import ConflictError, CorruptionError
from refinery.ledger import Ledger
from refinery.store import ObjectStore
from refinery.store.bulk import get_many

FORMAT = "refinery.tombstone/1"
PREFIX = "tombstones/"
_KEY = re.compile(r"tombstones/([0-9a-f]{64})\.json\Z")
_SWAPS = 100
_UNREADABLE = (CorruptionError, ValueError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True, slots=True)
class Tombstone:
    """One sample that was taken down: who said so, why and when, and `event`, the `blocked` flag at `ledger_offset`.

    `blobs` are the digests of the bytes that were removed, `facts` the digests of the rows of facts (key of the file → row),
    `snapshots` the roots of those that held it by then, and `shards` the digests of the shards (key → digest).
    """

    sample_id: str
    reason: str
    actor: dict[str, str]
    event: str
    ledger_offset: int
    time: str
    blobs: tuple[str, ...] = ()
    facts: dict[str, str] = field(default_factory=dict)
    snapshots: dict[str, str] = field(default_factory=dict)
    shards: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Where it is kept."""
        return tombstone_key(self.sample_id)

    def joined(self, other: Tombstone) -> Tombstone:
        """This one, naming also what the other names."""
        return replace(
            self,
            blobs=tuple(sorted({*self.blobs, *other.blobs})),
            facts=other.facts | self.facts,
            snapshots=other.snapshots | self.snapshots,
            shards=other.shards | self.shards,
        )

    def to_json(self) -> dict[str, Any]:
        """The object's members, but for the digest over them."""
        return {"format": FORMAT, **asdict(self), "blobs": list(self.blobs)}

    def to_bytes(self) -> bytes:
        body = self.to_json()
        return canonical_json(body | {"digest": digest_json(body)})

    @classmethod
    def from_bytes(cls, data: bytes, key: str) -> Tombstone:
        """CorruptionError when it is not exactly what some tombstone of this key is."""
        try:
            raw: dict[str, Any] = json.loads(data)
            if raw.pop("format") != FORMAT:
                raise CorruptionError(
                    f"{key} is not {FORMAT}: this version cannot read it.", kind="unknown_format"
                )
            raw.pop("digest")
            found = cls(**{**raw, "blobs": tuple(raw["blobs"])})
            if found.to_bytes() == data and found.key == key:
                return found
            problem: object = "it is not what its own digest says"
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            problem = error
        raise CorruptionError(
            f"Tombstone {key} is damaged ({problem}): restore it from a backup, or take the sample down again.",
            kind="damaged_tombstone",
        )


class Tombstones:
    """The tombstones of one store. Each call reads anew; a store that has none costs one listing."""

    def __init__(self, store: ObjectStore, ledger: Ledger | None = None) -> None:
        """`ledger` is that of the store, when somebody has read it already."""
        self._store, self._given = store, ledger

    def ids(self) -> set[str]:
        """The samples that have a tombstone. Reads none of them."""
        return {m[1] for info in self._store.list(PREFIX) if (m := _KEY.match(info.key))}

    def scan(self) -> tuple[dict[str, Tombstone], list[CorruptionError]]:
        """The tombstones that count, by sample id, and an error for each that is damaged or that the ledger does not bear out. A
        damaged ledger bears out none."""
        keys = [tombstone_key(i) for i in sorted(self.ids())]
        if keys:
            try:
                self._ledger.view()
            except _UNREADABLE as error:
                said = f"The ledger cannot be read, and no tombstone counts without it: {error}"
                return {}, [CorruptionError(said, kind="damaged_ledger")]
        found: dict[str, Tombstone] = {}
        wrong: list[CorruptionError] = []
        for key, data in zip(keys, get_many(self._store, keys), strict=True):
            try:
                stone = None if data is None else Tombstone.from_bytes(data, key)
            except CorruptionError as error:
                wrong.append(error)
                continue
            if stone is not None and self._borne_out(stone):
                found[stone.sample_id] = stone
            elif stone is not None:
                said = f"the ledger has no `blocked` flag {stone.event} on its sample."
                wrong.append(CorruptionError(f"Tombstone {key} is damaged: {said}", kind="damaged_tombstone"))
        return found, wrong

    def all(self) -> dict[str, Tombstone]:
        """Every tombstone by sample id. CorruptionError for the first one that does not count."""
        found, wrong = self.scan()
        if wrong:
            raise wrong[0]
        return found

    def of(self, sample_ids: Collection[str]) -> dict[str, Tombstone]:
        """The tombstones of some samples. CorruptionError as `all`."""
        return {i: stone for i, stone in self.all().items() if i in set(sample_ids)} if self.ids() else {}

    def refused(self, among: Collection[str] | None = None) -> frozenset[str]:
        """The samples (of some, or all) whose bytes must not be kept: they have a tombstone, and a `blocked` flag stands on them."""
        ids = self.ids()
        ids = ids if among is None else ids.intersection(among)
        view = self._ledger.view() if ids else None
        return frozenset(i for i in ids if view is not None and view.blocked(i))

    def gone(self, sample_ids: Collection[str]) -> frozenset[str]:
        """Those of some samples that were taken down and are not back: refused, or without bytes."""
        ids = self.ids().intersection(sample_ids)
        if not ids:
            return frozenset()
        refused = self.refused(ids)
        return frozenset(i for i in ids if i in refused or not self._store.exists(blob_key(i)))

    def told(self, sample_ids: Collection[str]) -> tuple[frozenset[str], frozenset[str]]:
        """Those of some samples that are refused, and those that are gone; none while a damaged ledger says nothing of it.
        For checks, which name the ledger by themselves."""
        try:
            return self.refused(sample_ids), self.gone(sample_ids)
        except _UNREADABLE:
            return frozenset(), frozenset()

    def write(self, stone: Tombstone) -> Tombstone:
        """Write a tombstone, or make the one there is name all that this one names. The tombstone that stands now."""
        for _ in range(_SWAPS):
            found = self._store.get_with_etag(stone.key)
            old = None if found is None else Tombstone.from_bytes(found[0], stone.key)
            new = stone if old is None else old.joined(stone)
            if new == old:
                return new
            try:
                self._store.put_if_match(stone.key, new.to_bytes(), None if found is None else found[1])
            except ConflictError:
                continue
            return new
        raise ConflictError(
            f"Tombstone {stone.key} was rewritten {_SWAPS} times by others meanwhile: try again.",
            kind="busy_tombstone",
        )

    @cached_property
    def _ledger(self) -> Ledger:
        return self._given or Ledger(self._store)

    def _borne_out(self, stone: Tombstone) -> bool:
        event = self._ledger.view().get(stone.event)
        return event is not None and (event.sample_id, event.kind) == (stone.sample_id, "blocked")


def removed_facts(stones: Mapping[str, Tombstone]) -> dict[str, dict[str, str]]:
    """The rows of facts that were removed: key of the file → sample id → digest of the row."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for stone in stones.values():
        for key, row in stone.facts.items():
            found[key][stone.sample_id] = row
    return dict(found)


def tombstone_key(sample_id: str) -> str:
    """The key of a sample's tombstone."""
    return f"{PREFIX}{sample_id}.json"
