"""Reading trees out of packs, level by level and array by array: a tree of a million rows has 70,000 nodes and leaves."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from refinery.digests import canonical_json
from refinery.errors import CorruptionError
from refinery.recent import Recent
from refinery.states.ids import ID_BYTES, Bytes, Ints, digits, find, ranges
from refinery.states.merkle import EMPTY
from refinery.states.packs import KEY_BYTES, LEAF, NODE, NOTHING, REF, STORED, Pack, Refs, with_ids
from refinery.states.sources import open_source
from refinery.store import ObjectStore

ROOT_FORMAT = "refinery.root/1"
DEEPEST = 2 * ID_BYTES
_OPEN_PACKS = 256
_PAGE_BYTES = 32 << 20
"""How much is remembered of the packs of a remote store."""


@dataclass(frozen=True, slots=True)
class Node:
    """A set of rows by name: its Merkle digest (hex), how many rows, and how many hex digits its ids are known to share."""

    digest: str
    count: int
    depth: int = 0


@dataclass(slots=True)
class TreeIO:
    """How many inner nodes and leaves an operation read and wrote."""

    read: int = 0
    written: int = 0


EMPTY_NODE = Node(EMPTY.hex(), 0)


def nothing() -> Refs:
    """One reference to the empty set, (1,)."""
    refs = np.zeros(1, REF)
    refs["digest"] = np.void(EMPTY)
    return refs


@dataclass(slots=True)
class Level:
    """The sets on the way to some ids at one depth. Entry i has the ids lo[i]:hi[i] below it. Of those that are `inner`, the
    ways go on into `children` (m, 16); those of the next level are the children at `slots` of these, counted flat."""

    refs: Refs
    lo: Ints
    hi: Ints
    inner: npt.NDArray[np.bool_]
    children: Refs
    slots: Ints = field(default_factory=lambda: np.zeros(0, np.int64))


Stop = Callable[[Ints, Ints, Ints], npt.NDArray[np.bool_]]
"""Whether the way ends at inner nodes of some counts with the ids lo:hi below them."""


class Reader:
    """The packs of one store, opened as they are needed. References that it gives name packs by its own numbers."""

    def __init__(self, store: ObjectStore, io: TreeIO) -> None:
        self._store, self._io = store, io
        self._names = [""]
        self._numbers = {"": 0}
        self._lock = threading.Lock()
        self._packs: Recent[Pack] = Recent(_OPEN_PACKS, lambda _: 1)
        self._held: dict[str, Pack] = {}
        self._pages: Recent[bytes] = Recent(_PAGE_BYTES, len)

    def number(self, name: str) -> int:
        """The number of a pack in references."""
        with self._lock:
            if name not in self._numbers:
                self._numbers[name] = len(self._names)
                self._names.append(name)
            return self._numbers[name]

    def name(self, number: int) -> str:
        """The name of the pack with a number."""
        return self._names[number]

    def pack(self, name: str) -> Pack:
        """A pack by name. InputError(kind="no_such_object") when it is missing."""
        key = pack_key(name)
        if name in self._held:
            return self._held[name]
        return self._packs.get(name, lambda: Pack(key, open_source(self._store, key, self._pages)))

    def links(self, name: str) -> list[tuple[str, int, int]]:
        """The packs that the tree of a pack lies in, as (name, rows, nodes), itself first."""
        return [(s.name or name, s.rows, s.nodes) for s in self.pack(name).header.shares]

    def locate(self, root: Node) -> tuple[Refs, str] | None:
        """Where a tree that is not empty begins, (1,), and the pack that it was written with. None: nobody wrote it here."""
        found = self._store.get_with_etag(root_key(root))
        if found is None:
            return None
        name = pointed(root, found[0])
        header = self.pack(name).header
        if (header.root, header.count) != (root.digest, root.count):
            raise CorruptionError(
                f"{root_key(root)} is damaged, it names {pack_key(name)}, which holds another tree.",
                kind="damaged_state",
            )
        return self.first(root, name), name

    def first(self, root: Node, name: str) -> Refs:
        """Where the tree of a pack begins, (1,)."""
        header = self.pack(name).header
        ref = (np.void(bytes.fromhex(root.digest)), root.count, header.at, self.number(name), header.kind)
        return np.array([ref], REF)

    def hold(self, name: str, pack: Pack) -> None:
        """Keep a pack that lies in no store."""
        self._held[name] = pack

    def holds(self, name: str) -> bool:
        """Whether a pack is kept that lies in no store."""
        return name in self._held

    def nodes(self, refs: Refs) -> Refs:
        """The 16 references of each inner node, (n, 16)."""
        self._io.read += len(refs)
        found = np.zeros((len(refs), 16), REF)
        for number, places in _by_pack(refs["pack"]):
            pack = self.pack(self._names[number])
            children = pack.nodes(refs["at"][places].astype(np.int64))
            numbers = [self.number(name) for name, _, _ in self.links(self._names[number])]
            children = children.copy()
            children["pack"] = np.array(numbers, np.uint32)[children["pack"]]
            found[places] = children
        counts = found["count"].astype(np.int64)
        if (counts.sum(axis=1) != refs["count"]).any() or (counts[found["kind"] == NOTHING] != 0).any():
            raise CorruptionError(
                "An inner node of a state does not count as many rows as what refers to it: "
                "`refinery snapshot verify` names what is damaged.",
                kind="damaged_state",
            )
        return found

    def leaves(self, refs: Refs) -> tuple[Refs, Refs]:
        """The leaves below some references, in their order, and the inner nodes among and below them."""
        passed: list[Refs] = [refs[:0]]
        for _ in range(DEEPEST + 1):
            inner = refs["kind"] == NODE
            if not inner.any():
                break
            passed.append(refs[inner])
            width = np.where(inner, 16, 1)
            wider = np.repeat(refs, width)
            wider[np.repeat(inner, width)] = self.nodes(refs[inner]).reshape(-1)
            refs = wider[wider["kind"] != NOTHING]
        return refs[refs["kind"] == LEAF], np.concatenate(passed)

    def keys(self, leaves: Refs) -> Bytes:
        """The keys of leaves, (n, 64), in the leaves' order."""
        self._io.read += len(leaves)
        counts = leaves["count"].astype(np.int64)
        firsts = np.cumsum(counts) - counts
        found = np.zeros((int(counts.sum()), KEY_BYTES), np.uint8)
        for number, places in _by_pack(leaves["pack"]):
            keys = self.pack(self._names[number]).keys(leaves["at"][places].astype(np.int64), counts[places])
            found[ranges(firsts[places], counts[places])] = keys
        return found

    def rows(self, packs: Ints, places: Ints) -> pa.Table:
        """Rows without their ids: row `places[i]` of the pack with number `packs[i]`, in this order."""
        tables: list[pa.Table] = []
        order: list[Ints] = []
        for number, chosen in _by_pack(packs):
            inside = places[chosen]
            ascending = np.argsort(inside, kind="stable")
            order.append(chosen[ascending])
            tables.append(self.pack(self._names[number]).rows(inside[ascending]))
        if not tables:
            return STORED.empty_table()
        table = pa.concat_tables(tables).combine_chunks()
        came = np.concatenate(order)
        if (came[1:] > came[:-1]).all():
            return table
        return table.take(pa.array(np.argsort(came)))

    def tables(self, leaves: Refs, most: int) -> Iterator[pa.Table]:
        """The rows of leaves, in tables of about `most`."""
        ends = np.cumsum(leaves["count"].astype(np.int64))
        start = 0
        while start < len(leaves):
            before = int(ends[start - 1]) if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, before + most, "right")))
            part = leaves[start:stop]
            packs, places = row_places(part)
            yield with_ids(self.keys(part)[:, :ID_BYTES], self.rows(packs, places))
            start = stop

    def descend(self, root: Refs, ids: Bytes, stop: Stop | None = None) -> list[Level]:
        """The ways from a root (1,) to where ids (in order) belong, down to leaves, nothing, or where `stop` says so."""
        refs, lo, hi = root, np.zeros(1, np.int64), np.full(1, len(ids), np.int64)
        levels: list[Level] = []
        for depth in range(DEEPEST + 1):
            inner = (refs["kind"] == NODE) & (lo < hi)
            if stop is not None:
                inner &= ~stop(refs["count"].astype(np.int64), lo, hi)
            level = Level(refs, lo, hi, inner, self.nodes(refs[inner]))
            levels.append(level)
            if not inner.any():
                return levels
            counts = (hi - lo)[inner]
            below = ranges(lo[inner], counts)
            slots = np.repeat(np.arange(len(counts)) * 16, counts) + digits(ids[below], depth)
            firsts = np.flatnonzero(np.diff(slots, prepend=-1))
            level.slots = slots[firsts]
            refs = level.children.reshape(-1)[level.slots]
            lo, hi = below[firsts], below[np.append(firsts[1:], len(below)) - 1] + 1
        raise CorruptionError("A state's nodes lie deeper than ids are long.", kind="damaged_state")

    def lookup(self, root: Refs, ids: Bytes) -> pa.Table:
        """The rows of those ids (in order) that are in a tree."""
        leaves, _ = self.leaves(ends(self.descend(root, ids))[0])
        keys = self.keys(leaves)
        places, found = find(keys[:, :ID_BYTES], ids)
        packs, rows = row_places(leaves)
        chosen = places[found]
        return with_ids(ids[found], self.rows(packs[chosen], rows[chosen]))

    def differing(self, old: Refs, new: Refs) -> tuple[Refs, Refs]:
        """The leaves of two trees in which they may differ, below equal places. Equal sets are not read."""
        pairs: tuple[list[Refs], list[Refs]] = [old[:0]], [new[:0]]
        while len(old):
            differ = old["digest"] != new["digest"]
            old, new = old[differ], new[differ]
            both = (old["kind"] == NODE) & (new["kind"] == NODE)
            pairs[0].append(old[~both])
            pairs[1].append(new[~both])
            old, new = self.nodes(old[both]).reshape(-1), self.nodes(new[both]).reshape(-1)
        return self.leaves(np.concatenate(pairs[0]))[0], self.leaves(np.concatenate(pairs[1]))[0]


def ends(levels: list[Level]) -> tuple[Refs, Ints, Ints]:
    """Where ways end, in order of id: the references, and the ids lo:hi below each."""
    parts = [(level.refs[~level.inner], level.lo[~level.inner], level.hi[~level.inner]) for level in levels]
    refs, lo, hi = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(lo, kind="stable")
    return refs[order], lo[order], hi[order]


def row_places(leaves: Refs) -> tuple[Ints, Ints]:
    """The pack number and the place of every row of some leaves, one leaf after another."""
    counts = leaves["count"].astype(np.int64)
    return np.repeat(leaves["pack"], counts).astype(np.int64), ranges(leaves["at"].astype(np.int64), counts)


def _by_pack(packs: npt.NDArray[Any]) -> Iterator[tuple[int, Ints]]:
    """Each pack number, and where it stands."""
    for number in np.unique(packs):
        yield int(number), np.flatnonzero(packs == number)


def pointer(root: Node, name: str) -> bytes:
    """The object that says in which pack a tree begins."""
    return canonical_json({"format": ROOT_FORMAT, "root": root.digest, "count": root.count, "pack": name})


def pointed(root: Node, data: bytes) -> str:
    """The pack that a pointer names. CorruptionError when it is anything but the pointer of this root."""
    try:
        raw = json.loads(data)
        if raw["format"] != ROOT_FORMAT:
            raise CorruptionError(
                f"{root_key(root)} has format {raw['format']!r}; this version reads {ROOT_FORMAT}.",
                kind="unknown_format",
            )
        name = str(raw["pack"])
        bytes.fromhex(name)
    except (ValueError, KeyError, TypeError, RecursionError):
        name = ""
    if pointer(root, name) != data:
        raise CorruptionError(
            f"{root_key(root)} is damaged: it is not what the tree of its name has there. Restore it from a backup, or "
            "delete it and replay in full.",
            kind="damaged_state",
        )
    return name


def root_key(root: Node) -> str:
    """Where a tree's pointer is kept."""
    return f"states/roots/{root.digest}.json"


def pack_key(name: str) -> str:
    """Where a pack is kept."""
    return f"states/packs/{name}.pack"


def pack_name(key: str) -> str:
    """The name of the pack that is kept there."""
    return key.rsplit("/", 1)[1].removesuffix(".pack")
