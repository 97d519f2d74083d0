"""Verdict states and snapshot manifests in the object store: hash tries of small leaves, kept in packs.

A leaf holds at most LEAF_ROWS rows whose ids share a prefix; more rows become an inner node of up to 16 children, one
per next hex digit. Every set is named by the Merkle digest of its rows (see `merkle`), is written once, and is shared by
all states and snapshots that hold the same rows. An update writes the way to what changed anew, as one object (see `packs`),
and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Container, Iterator
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refinery.errors import RefineryError
from refinery.states.former import UNREADABLE, FormerTrees
from refinery.states.ids import ID_BYTES, find, sorted_ids, words
from refinery.states.merkle import EMPTY, join_nibbles, set_digest
from refinery.states.packs import LEAF, NODE, NOTHING, Pack, Refs, with_ids
from refinery.states.reading import (
    EMPTY_NODE,
    Node,
    Reader,
    TreeIO,
    nothing,
    pack_key,
    pack_name,
    root_key,
    row_places,
)
from refinery.states.rows import row_digests, rows_table, sorted_rows
from refinery.states.sources import Held
from refinery.states.writing import Writer
from refinery.store import ObjectStore
from refinery.store.fresh import touch

__all__ = ["EMPTY_NODE", "Node", "StateTrees", "TreeIO"]

_AT_ONCE = 131_072
"""Rows of a table when all rows are read."""


class StateTrees:
    """The trees of one store. Nodes are immutable; an operation returns the new root."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.io = TreeIO()
        self._reader = Reader(store, self.io)
        self._writer = Writer(store, self._reader, self.io)
        self._former = FormerTrees(store)

    def build(self, rows: pa.Table, like: Node = EMPTY_NODE) -> Node:
        """The tree of exactly these rows (any order, distinct ids). What it has in common with `like` is not written again."""
        try:
            shared = nothing() if self._is_former(like) else self._begin(like)[0]
        except RefineryError:  # what cannot be read cannot be shared
            shared = nothing()
        return self._writer.build(sorted_rows([rows]), shared)

    def apply(self, root: Node, upserts: pa.Table, deletes: Collection[str] = ()) -> Node:
        """`root` with rows replaced or added, and ids removed."""
        if root.count == 0:
            return self.build(upserts)
        if self._is_former(root):
            gone = {*upserts["sample_id"].to_pylist(), *deletes}
            rows = self._former.rows(root)
            kept = rows.filter(pa.array([i not in gone for i in rows["sample_id"].to_pylist()], pa.bool_()))
            return self.build(pa.concat_tables([kept, upserts]))
        if not len(upserts) and not deletes:
            return root
        refs, name = self._begin(root)
        return self._writer.apply(refs, name, sorted_rows([upserts]), sorted_ids(deletes))

    def lookup(self, root: Node, sample_ids: Collection[str]) -> pa.Table:
        """The rows of those ids that are in the tree, in order of sample id."""
        ids = sorted_ids(sample_ids)
        if not root.count or not len(ids):
            return rows_table()
        return self._reader.lookup(self._begin(root)[0], ids)

    def way(self, root: Node, sample_id: str) -> tuple[list[tuple[Node, list[Node | None]]], pa.Table]:
        """The nodes from the root down to where `sample_id` belongs, each with its 16 children, and the rows of the leaf
        there (none when there is no leaf). Reads nothing else."""
        ids = sorted_ids([sample_id])
        passed: list[tuple[Node, list[Node | None]]] = []
        if not root.count or not len(ids):
            return passed, rows_table()
        levels = self._reader.descend(self._begin(root)[0], ids)
        for depth, level in enumerate(levels[:-1]):
            children = [_node(c, depth + 1) if c["kind"] != NOTHING else None for c in level.children[0]]
            passed.append((_node(level.refs[0], depth), children))
        end = levels[-1].refs
        if end[0]["kind"] != LEAF:
            return passed, rows_table()
        return passed, next(self._reader.tables(end, _AT_ONCE))

    def known(self, digest: str) -> Node | None:
        """The tree with this root digest; None when it is not in the store, or no longer."""
        if digest == EMPTY_NODE.digest:
            return EMPTY_NODE
        found = self._store.get_with_etag(root_key(Node(digest, 0)))
        if found is None:
            return None
        with suppress(ValueError, KeyError, TypeError):
            return Node(digest, int(json.loads(found[0])["count"]))
        return None

    def beginning(self, root: Node, prefix: str) -> list[str]:
        """The ids in the tree that start with some hex digits, in order. Reads the way to them, and their rows."""
        if set(prefix) - set("0123456789abcdef"):
            return []
        passed, rows = self.way(root, prefix.ljust(2 * ID_BYTES, "0"))
        if len(passed) > len(prefix):  # so many start so that they lie in many leaves
            rows = self.rows(root)
        ids = rows["sample_id"]
        found: list[str] = ids.filter(pc.starts_with(ids, prefix)).to_pylist()
        return found

    def leaves(self, root: Node) -> Iterator[pa.Table]:
        """All rows in order of sample id, in tables of many leaves."""
        if root.count:
            yield from self._reader.tables(self._reader.leaves(self._begin(root)[0])[0], _AT_ONCE)

    def rows(self, root: Node) -> pa.Table:
        """All rows as one table in order of sample id."""
        return pa.concat_tables([rows_table(), *self.leaves(root)])

    def diff(self, old: Node, new: Node) -> tuple[pa.Table, pa.Table]:
        """The rows of `old` that are not in `new` as they are, and the other way round. Equal subtrees are not read."""
        if old.digest == new.digest:
            return rows_table(), rows_table()
        sides = self._reader.differing(self._begin(old)[0], self._begin(new)[0])
        keys = [self._reader.keys(leaves) for leaves in sides]
        orders = [np.argsort(words(some), kind="stable") for some in keys]
        ordered = [some[order] for some, order in zip(keys, orders, strict=True)]
        found = []
        for mine in (0, 1):
            chosen = orders[mine][~find(ordered[1 - mine], ordered[mine])[1]]
            packs, places = row_places(sides[mine])
            rows = self._reader.rows(packs[chosen], places[chosen])
            found.append(with_ids(keys[mine][chosen, :ID_BYTES], rows))
        return found[0], found[1]

    def release(self, root: Node) -> None:
        """Make a tree that is about to be named no longer count as written now: those who read it are given time. One that is
        damaged or gone is nobody's to read."""
        with suppress(RefineryError):
            for key in self._former.keys(root) if self._is_former(root) else [root_key(root)]:
                touch(self._store, key)

    def keys(self, root: Node) -> Iterator[str]:
        """The keys of all objects of a tree. Reads where it begins, and no row."""
        if not root.count:
            return
        if self._is_former(root):
            yield from self._former.keys(root)
            return
        _, name = self._begin(root)
        yield root_key(root)
        yield from (pack_key(pack) for pack, _, _ in self._reader.links(name))

    def named(self, data: bytes) -> Iterator[str]:
        """The keys of all objects of the tree that an object of states/roots/ points to."""
        raw = json.loads(data)
        yield from self.keys(Node(raw["root"], raw["count"]))

    def linked(self, key: str) -> Iterator[str]:
        """The keys of the packs that the tree of a pack lies in, itself included."""
        yield from (pack_key(pack) for pack, _, _ in self._reader.links(pack_name(key)))

    def verify(self, root: Node, damaged: Container[str] = ()) -> Iterator[str]:
        """Recompute every digest from the rows; yields a sentence for whatever is missing or not what its name says.

        `damaged` are keys of objects whose bytes are known to be bad: they are named and not read.
        """
        if root.count == 0:
            if root.digest != EMPTY.hex():
                yield f"The empty set has digest {EMPTY.hex()}, not {root.digest}."
            return
        if self._is_former(root):
            yield from self._former.verify(root, damaged)
            return
        fresh = StateTrees(self._store)  # what was read before may have been damaged since
        yield from fresh._verify(root, damaged)

    def _verify(self, root: Node, damaged: Container[str]) -> Iterator[str]:
        if root_key(root) in damaged:
            yield f"{root_key(root)} is damaged."
            return
        try:
            refs, name = self._begin(root)
            known = {pack for pack, _, _ in self._reader.links(name) if pack_key(pack) not in damaged}
            bad = [pack_key(pack) for pack, _, _ in self._reader.links(name) if pack not in known]
        except UNREADABLE as error:
            yield f"{root_key(root)}: {error}"
            return
        yield from (f"{key} is damaged." for key in bad)
        told: set[str] = set()
        while len(refs):
            chosen = np.array([self._reader.name(n) in known for n in refs["pack"].tolist()], np.bool_)
            refs = refs[chosen & (refs["kind"] != NOTHING)]
            below: list[Refs] = [refs[:0]]
            for number in np.unique(refs["pack"]).tolist():
                mine, key = refs[refs["pack"] == number], pack_key(self._reader.name(number))
                try:
                    yield from _wrong_leaves(self._reader, mine[mine["kind"] == LEAF], key)
                    children = self._reader.nodes(inner := mine[mine["kind"] == NODE])
                except UNREADABLE as error:
                    if key not in told:
                        yield f"{key} cannot be read: {error}"
                    told.add(key)
                    continue
                yield from _wrong_nodes(inner, children, key)
                below.append(children.reshape(-1))
            refs = np.concatenate(below)

    def _begin(self, root: Node) -> tuple[Refs, str]:
        """Where a tree begins, (1,), and the pack that it was written with. A former one is put into a pack in memory.

        InputError(kind="no_such_object") when nobody wrote it.
        """
        if not root.count:
            return nothing(), ""
        if not self._is_former(root):
            found = self._reader.locate(root)
            if found is None:
                self._store.get(root_key(root))
                return self._begin(root)
            return found
        name = f"former-{root.digest}"
        if not self._reader.holds(name):
            data = pa.py_buffer(self._writer.in_memory(self._former.rows(root)))
            self._reader.hold(name, Pack(pack_key(name), Held(pack_key(name), data)))
        return self._reader.first(root, name), name

    def _is_former(self, root: Node) -> bool:
        """Whether a tree is kept as trees were before packs, and only so."""
        if not root.count or self._reader.holds(f"former-{root.digest}"):
            return bool(root.count)
        return not self._store.exists(root_key(root)) and self._former.has(root)


def _node(ref: np.void, depth: int) -> Node:
    return Node(ref["digest"].tobytes().hex(), int(ref["count"]), depth)


def _wrong_leaves(reader: Reader, leaves: Refs, key: str) -> Iterator[str]:
    """A sentence for each leaf that does not hold the rows that its digest says."""
    start = 0
    for table in reader.tables(leaves, _AT_ONCE):
        ids = [bytes.fromhex(i) for i in table["sample_id"].to_pylist()]
        rows, at = row_digests(table), 0
        while at < len(ids):
            leaf = leaves[start]
            stop = at + int(leaf["count"])
            if sorted(set(ids[at:stop])) != ids[at:stop]:
                yield f"{key}: rows {leaf['at']}–{leaf['at'] + leaf['count']} are not in order of sample id."
            elif set_digest(ids[at:stop], rows[at:stop]) != leaf["digest"].tobytes():
                yield f"{key}: rows {leaf['at']}–{leaf['at'] + leaf['count']} are not those that their digest says."
            at, start = stop, start + 1


def _wrong_nodes(refs: Refs, children: Refs, key: str) -> Iterator[str]:
    """A sentence for each inner node whose children do not join to its digest."""
    for ref, some in zip(refs, children, strict=True):
        joined = join_nibbles([c["digest"].tobytes() if c["kind"] != NOTHING else None for c in some])
        if joined != ref["digest"].tobytes():
            yield f"{key}: node {ref['at']} does not join to the digest that it has."
