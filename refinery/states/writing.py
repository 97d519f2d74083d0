"""Writing trees: what an operation adds becomes one pack, and refers to what is there already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from refinery.digests import digest
from refinery.errors import ConflictError
from refinery.states.ids import ID_BYTES, Bytes, Ints, digits, find, to_bytes, words
from refinery.states.merkle import join_nibbles, set_digest
from refinery.states.packs import KEY_BYTES, LEAF, NODE, NOTHING, REF, STORED, Refs, Share, pack_bytes
from refinery.states.reading import (
    EMPTY_NODE,
    Level,
    Node,
    Reader,
    TreeIO,
    pack_key,
    pointer,
    root_key,
    row_places,
)
from refinery.states.rows import row_digests
from refinery.store import ObjectStore
from refinery.store.fresh import put_fresh, touch

LEAF_ROWS = 64
"""A leaf has no more rows: so few have to be written again for one that changes."""
MOST_PACKS, FEWEST_PACKS = 64, 16
"""A tree that would lie in more packs is gathered into so many."""
_FRESH = -1


@dataclass(slots=True)
class _Grown:
    """A set that may have to be written: rows start:stop of what is being merged, as a leaf or as 16 children."""

    digest: bytes
    start: int
    stop: int
    children: list[_Grown | None] | None = None


@dataclass(slots=True)
class _Merged:
    """Rows in order of id from which leaves are made: their keys (n, 64), and where each lies: row `places[i]` of the pack with
    number `packs[i]`, or of the rows that are new (`_FRESH`)."""

    keys: Bytes
    packs: Ints
    places: Ints
    ids: list[bytes] = field(init=False)
    rows: list[bytes] = field(init=False)

    def __post_init__(self) -> None:
        data = self.keys.tobytes()
        starts = range(0, len(data), KEY_BYTES)
        self.ids = [data[at : at + ID_BYTES] for at in starts]
        self.rows = [data[at + ID_BYTES : at + KEY_BYTES] for at in starts]

    def grow(self, start: int, stop: int, depth: int) -> _Grown | None:
        """The set of some rows, whose ids share `depth` hex digits."""
        if start == stop:
            return None
        if stop - start <= LEAF_ROWS:
            return _Grown(set_digest(self.ids[start:stop], self.rows[start:stop]), start, stop)
        column = digits(self.keys[start:stop, :ID_BYTES], depth)
        cuts = (start + np.searchsorted(column, np.arange(17))).tolist()
        children = [self.grow(cuts[d], cuts[d + 1], depth + 1) for d in range(16)]
        return _Grown(join_nibbles([c.digest if c else None for c in children]), start, stop, children)


class Draft:
    """A pack in the making. References to it have the pack number 0."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._keys: list[Bytes] = []
        self._packs: list[Ints] = []
        self._places: list[Ints] = []
        self._counts: list[int] = []
        self._nodes: list[Refs] = []
        self.rows = 0
        self.reused: list[np.void] = []

    @property
    def size(self) -> int:
        """How many leaves and inner nodes it has."""
        return len(self._counts) + len(self._nodes)

    @property
    def nodes(self) -> int:
        return len(self._nodes)

    def leaf(self, digest: bytes, merged: _Merged, start: int, stop: int) -> np.void:
        """A leaf of some rows."""
        self._keys.append(merged.keys[start:stop])
        self._packs.append(merged.packs[start:stop])
        self._places.append(merged.places[start:stop])
        self._counts.append(stop - start)
        self.rows += stop - start
        return _ref(digest, stop - start, self.rows - (stop - start), LEAF)

    def move(self, leaves: Refs) -> Refs:
        """Leaves of other packs, as leaves of this one."""
        packs, places = row_places(leaves)
        counts = leaves["count"].astype(np.int64)
        moved = leaves.copy()
        moved["at"] = self.rows + np.cumsum(counts) - counts
        moved["pack"] = 0
        self._keys.append(self._reader.keys(leaves))
        self._packs.append(packs)
        self._places.append(places)
        self._counts.extend(counts.tolist())
        self.rows += int(counts.sum())
        return moved

    def node(self, digest: bytes, children: Refs) -> np.void:
        """An inner node of 16 children."""
        self._nodes.append(children.copy())
        return _ref(digest, int(children["count"].astype(np.int64).sum()), len(self._nodes) - 1, NODE)

    def place(self, grown: _Grown | None, merged: _Merged, like: np.void | None) -> np.void:
        """A set that was grown; what equals `like`, or lies at the same place below it and equals that, is referred to."""
        if grown is None:
            nowhere: np.void = np.zeros(1, REF)[0]
            return nowhere
        if like is not None and like["kind"] != NOTHING and like["digest"].tobytes() == grown.digest:
            self.reused.append(like)
            return like
        if grown.children is None:
            return self.leaf(grown.digest, merged, grown.start, grown.stop)
        below: Sequence[np.void | None] = [None] * 16
        if like is not None and like["kind"] == NODE:
            below = list(self._reader.nodes(np.array([like], REF))[0])
        placed = [
            self.place(child, merged, there) for child, there in zip(grown.children, below, strict=True)
        ]
        return self.node(grown.digest, np.array(placed, REF))

    def bytes(self, root: np.void, shares: dict[int, list[int]], fresh: pa.Table) -> bytes:
        """The pack, whose tree begins at `root`. `shares` are the rows and nodes that lie in other packs, by number."""
        others = sorted(number for number, (rows, nodes) in shares.items() if number and (rows or nodes))
        named = [Share(self._reader.name(number), *shares[number]) for number in others]
        lut = np.zeros(max(others, default=0) + 1, np.uint32)
        lut[others] = np.arange(1, len(others) + 1)
        nodes = []
        for children in self._nodes:
            there = children["kind"] != NOTHING
            children["pack"][~there] = 0
            children["pack"][there] = lut[children["pack"][there]]
            nodes.append(children)
        keys = np.concatenate([np.zeros((0, KEY_BYTES), np.uint8), *self._keys])
        counts = np.array(self._counts, np.int64)
        pieces = pack_bytes(
            root,
            [Share("", self.rows, len(nodes)), *named],
            nodes,
            keys,
            self._rows(fresh),
            np.cumsum(counts) - counts,
        )
        return b"".join(pieces)

    def _rows(self, fresh: pa.Table) -> pa.Table:
        packs, places = (
            np.concatenate([np.zeros(0, np.int64), *parts]) for parts in (self._packs, self._places)
        )
        new = packs == _FRESH
        chosen = fresh.select(STORED.names)
        if new.all() and np.array_equal(places, np.arange(len(fresh))):
            return chosen
        known = self._reader.rows(packs[~new], places[~new])
        both = pa.concat_tables([known, chosen.take(pa.array(places[new]))])
        order = np.empty(len(packs), np.int64)
        order[~new] = np.arange(len(known))
        order[new] = len(known) + np.arange(int(new.sum()))
        return both.take(pa.array(order))


class Writer:
    """Writes trees into one store. A root is handed out when all below it is stored, and counts as written now: until somebody
    names it, that is what keeps garbage collection off it."""

    def __init__(self, store: ObjectStore, reader: Reader, io: TreeIO) -> None:
        self._store, self._reader, self._io = store, reader, io

    def build(self, rows: pa.Table, like: Refs) -> Node:
        """The tree of exactly these rows (in order of id), which shares with `like` (1,) what both have."""
        draft, merged = Draft(self._reader), _fresh(rows)
        root = draft.place(merged.grow(0, len(rows), 0), merged, like[0])
        return self._finish(draft, root, self._shares(np.array(draft.reused, REF)), rows)

    def in_memory(self, rows: pa.Table) -> bytes:
        """The pack of a tree of these rows (in order of id) and nothing else."""
        draft, merged = Draft(self._reader), _fresh(rows)
        return draft.bytes(draft.place(merged.grow(0, len(rows), 0), merged, None), {}, rows)

    def apply(self, root: Refs, pack: str, upserts: pa.Table, deletes: Bytes) -> Node:
        """The tree at `root` (1,), written with `pack`, with rows (in order of id) replaced or added, and ids removed."""
        fresh = _fresh(upserts)
        ids = _union(fresh.keys[:, :ID_BYTES], deletes)
        levels = self._reader.descend(root, ids, lambda counts, lo, hi: counts - (hi - lo) <= LEAF_ROWS)
        ends, merged, cuts, depths, ranks = self._merge(levels, fresh, ids)
        draft = Draft(self._reader)
        placed = ends.copy()
        for number, depth in enumerate(depths.tolist()):
            grown = merged.grow(int(cuts[number]), int(cuts[number + 1]), depth)
            same = grown is not None and grown.digest == ends[number]["digest"].tobytes()
            if not same:
                placed[number] = draft.place(grown, merged, None)
        changed = (
            (placed["pack"] != ends["pack"]) | (placed["at"] != ends["at"]) | (placed["kind"] != ends["kind"])
        )
        gone = [*self._reader.leaves(ends[changed])]
        top = self._up(draft, levels, placed, ranks, gone)
        shares = {self._reader.number(name): [rows, nodes] for name, rows, nodes in self._reader.links(pack)}
        for refs in gone:
            self._add(shares, refs, -1)
        return self._finish(draft, top[0], shares, upserts)

    def _merge(
        self, levels: list[Level], fresh: _Merged, ids: Bytes
    ) -> tuple[Refs, _Merged, Ints, Ints, list[Ints]]:
        """Where the ways end, in order of id; the rows there are to be below each (cut at `cuts`), the depths of the ends,
        and for each level which of the ends are its own."""
        parts = [
            (level.refs[~level.inner], level.lo[~level.inner], level.hi[~level.inner]) for level in levels
        ]
        refs, lo, hi = (np.concatenate(column) for column in zip(*parts, strict=True))
        depths = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
        order = np.argsort(lo, kind="stable")
        ranks = np.empty_like(order)
        ranks[order] = np.arange(len(order))
        ends = refs[order]
        leaves, _ = self._reader.leaves(ends)
        keys = self._reader.keys(leaves)
        packs, places = row_places(leaves)
        under = np.repeat(np.arange(len(ends)), ends["count"].astype(np.int64))
        kept = ~find(ids, keys[:, :ID_BYTES])[1]
        above = np.repeat(np.arange(len(ends)), (hi - lo)[order])
        end = np.concatenate([under[kept], above[find(ids, fresh.keys[:, :ID_BYTES])[0]]])
        joined = [
            np.concatenate(c)
            for c in ((keys[kept], fresh.keys), (packs[kept], fresh.packs), (places[kept], fresh.places))
        ]
        sequence = np.argsort(words(joined[0][:, :ID_BYTES]), kind="stable")
        cuts = np.searchsorted(end[sequence], np.arange(len(ends) + 1))
        sizes = np.cumsum([0, *(len(part[0]) for part in parts)])
        own = [ranks[sizes[k] : sizes[k + 1]] for k in range(len(parts))]
        return ends, _Merged(*(column[sequence] for column in joined)), cuts, depths[order], own

    def _up(
        self, draft: Draft, levels: list[Level], placed: Refs, ranks: list[Ints], gone: list[Refs]
    ) -> Refs:
        """The references of the first level once those of the ends are `placed`; inner nodes that changed join `gone`."""
        below = np.zeros(0, REF)
        for level, own in zip(reversed(levels), reversed(ranks), strict=True):
            result = level.refs.copy()
            result[~level.inner] = placed[own]
            children = level.children.copy()
            children.reshape(-1)[level.slots] = below
            moved = _moved(children, level.children)
            inner = np.flatnonzero(level.inner)
            for number in np.flatnonzero(moved).tolist():
                joined = join_nibbles(_digests(children[number]))
                result[inner[number]] = draft.node(joined, children[number])
            gone.append(level.refs[inner[moved]])
            below = result
        return below

    def _finish(self, draft: Draft, root: np.void, shares: dict[int, list[int]], fresh: pa.Table) -> Node:
        node = Node(root["digest"].tobytes().hex(), int(root["count"]))
        if root["kind"] == NOTHING:
            return EMPTY_NODE
        if touch(self._store, root_key(node)) is not None:
            return node
        if not draft.size:
            raise ConflictError(
                f"{root_key(node)} was removed as garbage while a tree equal to it was made: do the same again.",
                kind="tree_removed",
            )
        name = self._write(draft, root, shares, fresh)
        used = sum(1 for number, share in shares.items() if number and any(share))
        if used >= MOST_PACKS:
            name = self._gather(name)
        put_fresh(self._store, root_key(node), pointer(node, name))
        return node

    def _write(self, draft: Draft, root: np.void, shares: dict[int, list[int]], fresh: pa.Table) -> str:
        data = draft.bytes(root, shares, fresh)
        name = digest(data)
        put_fresh(self._store, pack_key(name), data)
        self._io.written += draft.size
        return name

    def _gather(self, name: str) -> str:
        """Write what lies in the smallest packs of a tree again, into one; the name of the pack where it begins then."""
        header = self._reader.pack(name).header
        numbers = [self._reader.number(n) for n, _, _ in self._reader.links(name)]
        order = sorted(range(len(numbers)), key=lambda i: header.shares[i].rows + header.shares[i].nodes)
        left = np.array([numbers[i] for i in order[: len(order) - FEWEST_PACKS + 1]] + [numbers[0]])
        refs = np.array([(bytes.fromhex(header.root), header.count, header.at, numbers[0], header.kind)], REF)
        draft = Draft(self._reader)
        levels: list[tuple[Refs, Refs, Refs]] = []
        while len(refs):
            leaves = (refs["kind"] == LEAF) & np.isin(refs["pack"], left)
            moved = refs.copy()
            if leaves.any():
                moved[leaves] = draft.move(refs[leaves])
            children = self._reader.nodes(refs[refs["kind"] == NODE])
            levels.append((refs, moved, children))
            refs = children.reshape(-1)
        kept: list[Refs] = []
        below = np.zeros(0, REF)
        for refs, moved, children in reversed(levels):
            after = below.reshape(-1, 16)
            inner = np.flatnonzero(refs["kind"] == NODE)
            again = _moved(after, children) | np.isin(refs["pack"][inner], left)
            for number in np.flatnonzero(again).tolist():
                ref = refs[inner[number]]
                moved[inner[number]] = draft.node(ref["digest"].tobytes(), after[number])
            kept.append(moved[(moved["pack"] != 0) & (moved["kind"] != NOTHING)])
            below = moved
        shares: dict[int, list[int]] = {}
        for some in kept:
            self._add(shares, some, 1)
        return self._write(draft, below[0], shares, STORED.empty_table())

    def _shares(self, refs: Refs) -> dict[int, list[int]]:
        """The rows and nodes of sets, by the number of the pack that they lie in."""
        shares: dict[int, list[int]] = {}
        for some in self._reader.leaves(refs):
            self._add(shares, some, 1)
        return shares

    def _add(self, shares: dict[int, list[int]], refs: Refs, sign: int) -> None:
        for number in np.unique(refs["pack"]).tolist():
            mine = refs[refs["pack"] == number]
            share = shares.setdefault(number, [0, 0])
            share[0] += sign * int(mine["count"][mine["kind"] == LEAF].astype(np.int64).sum())
            share[1] += sign * int((mine["kind"] == NODE).sum())


def _ref(digest: bytes, count: int, at: int, kind: int) -> np.void:
    refs: Any = np.array([(np.void(digest), count, at, 0, kind)], REF)
    first: np.void = refs[0]
    return first


def _fresh(rows: pa.Table) -> _Merged:
    n = len(rows)
    keys = np.zeros((n, KEY_BYTES), np.uint8)
    keys[:, :ID_BYTES] = to_bytes(rows["sample_id"])
    keys[:, ID_BYTES:] = np.frombuffer(b"".join(row_digests(rows)), np.uint8).reshape(n, KEY_BYTES - ID_BYTES)
    return _Merged(keys, np.full(n, _FRESH, np.int64), np.arange(n))


def _union(a: Bytes, b: Bytes) -> Bytes:
    """The distinct ids among both, in order."""
    joined = np.concatenate([a, b])
    return joined[np.unique(words(joined), return_index=True)[1]]


def _moved(after: Refs, before: Refs) -> npt.NDArray[np.bool_]:
    """Which nodes (n, 16) refer to something else or elsewhere."""
    other = np.zeros(before.shape, np.bool_)
    for name in ("digest", "pack", "at", "kind"):
        other |= after[name] != before[name]
    moved: npt.NDArray[np.bool_] = other.any(axis=1)
    return moved


def _digests(children: Refs) -> list[bytes | None]:
    return [c["digest"].tobytes() if c["kind"] != NOTHING else None for c in children]
