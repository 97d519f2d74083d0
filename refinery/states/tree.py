"""Verdict states and snapshot manifests in the object store: a content-addressed hash trie of small Parquet leaves.

A leaf holds at most LEAF_ROWS rows whose ids share a prefix; more rows become an inner node of up to 16 children, one
per next hex digit. Every node is named by the Merkle digest of the rows below it (see `merkle`), is written once, and is
shared by all states and snapshots that hold the same rows. An update rewrites the path to what changed and nothing else.
"""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Container, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from refinery.digests import canonical_json
from refinery.errors import CorruptionError, RefineryError
from refinery.recent import Recent
from refinery.states.merkle import EMPTY, join_nibbles, set_digest
from refinery.states.rows import row_digests, rows_table, sorted_rows
from refinery.store import ObjectStore
from refinery.store.bulk import each

LEAF_ROWS = 2048
LEAF_FORMAT = "refinery.leaf/1"
_RECENT_ROWS = 300_000
"""How many rows are remembered, of the leaves read last: an update reads what was just looked up."""
NODE_FORMAT = "refinery.node/1"
_UNREADABLE = (RefineryError, OSError, ValueError, LookupError, TypeError, AttributeError, pa.ArrowException)


@dataclass(frozen=True, slots=True)
class Node:
    """A set of rows by name: its Merkle digest (hex), how many rows, and how many hex digits its ids are known to share."""

    digest: str
    count: int
    depth: int = 0

    @property
    def is_leaf(self) -> bool:
        return self.count <= LEAF_ROWS


@dataclass(slots=True)
class TreeIO:
    """How many nodes an operation read and wrote."""

    read: int = 0
    written: int = 0


EMPTY_NODE = Node(EMPTY.hex(), 0)


class StateTrees:
    """The trees of one store. Nodes are immutable; an operation returns the new root."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.io = TreeIO()
        self._unwritten: list[tuple[Node, pa.Table]] = []
        self._recent: Recent[pa.Table] = Recent(_RECENT_ROWS, len)

    def build(self, rows: pa.Table) -> Node:
        """The tree of exactly these rows (any order, distinct ids)."""
        root = self._write(sorted_rows([rows]), 0)
        self._write_leaves()
        return root

    def apply(self, root: Node, upserts: pa.Table, deletes: Collection[str] = ()) -> Node:
        """`root` with rows replaced or added, and ids removed."""
        changed = sorted_rows([upserts])
        after = self._apply(root, changed, sorted(deletes))
        self._write_leaves()
        return after

    def lookup(self, root: Node, sample_ids: Collection[str]) -> pa.Table:
        """The rows of those ids that are in the tree."""
        places: list[tuple[Node, list[str]]] = []
        level = [(root, sorted(set(sample_ids)))]
        while level:
            level = [(node, ids) for node, ids in level if ids and node.count]
            places += [place for place in level if place[0].is_leaf]
            inner = [place for place in level if not place[0].is_leaf]
            level = [
                (child, [i for i in ids if i[node.depth] == digit])
                for (node, ids), children in zip(inner, self._children_of([n for n, _ in inner]), strict=True)
                for digit, child in zip("0123456789abcdef", children, strict=True)
                if child is not None
            ]
        leaves = self._read_leaves([node for node, _ in places])
        return sorted_rows(
            [
                rows.filter(pc.is_in(rows["sample_id"], pa.array(ids, pa.string())))
                for rows, (_, ids) in zip(leaves, places, strict=True)
            ]
        )

    def way(self, root: Node, sample_id: str) -> tuple[list[tuple[Node, list[Node | None]]], pa.Table]:
        """The nodes from the root down to where `sample_id` belongs, each with its 16 children, and the rows of the leaf
        there (none when there is no leaf). Reads nothing else."""
        passed: list[tuple[Node, list[Node | None]]] = []
        node: Node | None = root
        while node is not None and not node.is_leaf:
            children = self._children(node)
            passed.append((node, children))
            node = children[int(sample_id[node.depth], 16)]
        return passed, rows_table() if node is None else self._read_leaf(node)

    def leaves(self, root: Node) -> Iterator[pa.Table]:
        """All rows in order of sample id, leaf by leaf."""
        level = [root] if root.count else []
        while inner := [node for node in level if not node.is_leaf]:
            below = dict(zip(inner, self._children_of(inner), strict=True))
            level = [n for node in level for n in below.get(node, [node]) if n is not None]
        yield from self._read_leaves(level)

    def rows(self, root: Node) -> pa.Table:
        """All rows as one table in order of sample id."""
        return sorted_rows(list(self.leaves(root)))

    def diff(self, old: Node, new: Node) -> tuple[pa.Table, pa.Table]:
        """The rows of `old` that are not in `new` as they are, and the other way round. Equal subtrees are not read."""
        gone: list[pa.Table] = []
        came: list[pa.Table] = []
        self._diff(old, new, gone, came)
        return sorted_rows(gone), sorted_rows(came)

    def keys(self, root: Node) -> Iterator[str]:
        """The keys of all objects of a tree. Reads its nodes, and no leaf."""
        if root.is_leaf:
            yield from [_leaf_key(root)] if root.count else []
            return
        yield _node_key(root)
        for child in self._children(root):
            if child is not None:
                yield from self.keys(child)

    def verify(self, root: Node, damaged: Container[str] = ()) -> Iterator[str]:
        """Recompute every digest from the rows; yields a sentence for each node that is missing or not what its name says.

        `damaged` are keys of objects whose bytes are known to be bad: they are named and not read.
        """
        if root.count == 0:
            if root.digest != EMPTY.hex():
                yield f"The empty set has digest {EMPTY.hex()}, not {root.digest}."
            return
        key = _leaf_key(root) if root.is_leaf else _node_key(root)
        if key in damaged:
            yield f"{key} is damaged."
            return
        try:
            if root.is_leaf:
                rows = self._load_leaf(root)
                if rows.num_rows != root.count or _digest(rows) != root.digest:
                    yield f"Leaf {key} does not hold the rows that its name says."
                return
            children = self._children(root)
            joined = join_nibbles([bytes.fromhex(c.digest) if c else None for c in children])
        except _UNREADABLE as error:
            yield f"{key} cannot be read: {error}"
            return
        if joined.hex() != root.digest or sum(c.count for c in children if c) != root.count:
            yield f"Node {key} does not join to the digest that its name says."
        for child in children:
            if child is not None:
                yield from self.verify(child, damaged)

    def _apply(self, node: Node, upserts: pa.Table, deletes: list[str]) -> Node:
        if upserts.num_rows == 0 and not deletes:
            return node
        if node.is_leaf:
            kept = _without(self._read_leaf(node), [*upserts["sample_id"].to_pylist(), *deletes])
            return self._write(sorted_rows([kept, upserts]), node.depth)
        children = self._children(node)
        digits = [i[node.depth] for i in upserts["sample_id"].to_pylist()]
        changed: list[Node | None] = []
        for value, digit in enumerate("0123456789abcdef"):
            child = children[value] or Node(EMPTY_NODE.digest, 0, node.depth + 1)
            mine = upserts.filter(pa.array([d == digit for d in digits], pa.bool_()))
            after = self._apply(child, mine, [i for i in deletes if i[node.depth] == digit])
            changed.append(after if after.count else None)
        count = sum(c.count for c in changed if c)
        if count <= LEAF_ROWS:
            self._write_leaves()
            return self._write(sorted_rows([t for c in changed if c for t in self.leaves(c)]), node.depth)
        return self._write_node(changed, node.depth)

    def _write(self, rows: pa.Table, depth: int) -> Node:
        if rows.num_rows <= LEAF_ROWS:
            return self._write_leaf(rows, depth)
        digits = pc.utf8_slice_codeunits(rows["sample_id"], depth, depth + 1)
        children: list[Node | None] = []
        for digit in "0123456789abcdef":
            part = rows.filter(pc.equal(digits, digit))
            children.append(self._write(part, depth + 1) if part.num_rows else None)
        return self._write_node(children, depth)

    def _write_leaf(self, rows: pa.Table, depth: int) -> Node:
        node = Node(_digest(rows), rows.num_rows, depth)
        if node.count:
            self._unwritten.append((node, rows))
        return node

    def _write_leaves(self) -> None:
        """Write the leaves that are due: a root is handed out when all below it is stored."""

        def write(due: tuple[Node, pa.Table]) -> bool:
            key = _leaf_key(due[0])
            return not self._store.exists(key) and self._store.put_if_absent(key, _leaf_bytes(due[1]))

        due, self._unwritten = self._unwritten, []
        self.io.written += sum(each(self._store, write, due))

    def _write_node(self, children: list[Node | None], depth: int) -> Node:
        joined = join_nibbles([bytes.fromhex(c.digest) if c else None for c in children])
        node = Node(joined.hex(), sum(c.count for c in children if c), depth)
        body: dict[str, Any] = {
            "format": NODE_FORMAT,
            "depth": depth,
            "children": [{"digest": c.digest, "count": c.count} if c else None for c in children],
        }
        if self._store.put_if_absent(_node_key(node), canonical_json(body)):
            self.io.written += 1
        return node

    def _children_of(self, nodes: list[Node]) -> Iterator[list[Node | None]]:
        return each(self._store, self._children, nodes)

    def _read_leaves(self, nodes: list[Node]) -> Iterator[pa.Table]:
        return each(self._store, self._read_leaf, nodes)

    def _children(self, node: Node) -> list[Node | None]:
        self.io.read += 1
        body = json.loads(self._store.get(_node_key(node)))
        if body.get("format") != NODE_FORMAT:
            raise CorruptionError(
                f"{_node_key(node)} has format {body.get('format')!r}; this version reads {NODE_FORMAT}.",
                kind="unknown_format",
            )
        return [Node(c["digest"], c["count"], node.depth + 1) if c else None for c in body["children"]]

    def _read_leaf(self, node: Node) -> pa.Table:
        if node.count == 0:
            return rows_table()
        return self._recent.get(node.digest, lambda: self._load_leaf(node))

    def _load_leaf(self, node: Node) -> pa.Table:
        """The rows of a leaf as they are stored now."""
        self.io.read += 1
        return _leaf_rows(self._store.get(_leaf_key(node)), _leaf_key(node))

    def _diff(self, old: Node, new: Node, gone: list[pa.Table], came: list[pa.Table]) -> None:
        if old.digest == new.digest:
            return
        if old.is_leaf or new.is_leaf:
            before, after = self.rows(old), self.rows(new)
            keys = dict(zip(before["sample_id"].to_pylist(), row_digests(before), strict=True))
            new_keys = dict(zip(after["sample_id"].to_pylist(), row_digests(after), strict=True))
            gone.append(before.filter(pa.array([new_keys.get(i) != d for i, d in keys.items()], pa.bool_())))
            came.append(after.filter(pa.array([keys.get(i) != d for i, d in new_keys.items()], pa.bool_())))
            return
        for left, right in zip(self._children(old), self._children(new), strict=True):
            self._diff(left or EMPTY_NODE, right or EMPTY_NODE, gone, came)


def _digest(rows: pa.Table) -> str:
    ids = [bytes.fromhex(i) for i in rows["sample_id"].to_pylist()]
    return set_digest(ids, row_digests(rows)).hex()


def _without(rows: pa.Table, ids: list[str]) -> pa.Table:
    return rows.filter(pc.invert(pc.is_in(rows["sample_id"], pa.array(ids, pa.string()))))


def _leaf_bytes(rows: pa.Table) -> bytes:
    sink = io.BytesIO()
    tagged = rows.replace_schema_metadata({"format": LEAF_FORMAT})
    pq.write_table(tagged, sink, compression="zstd", store_schema=True)
    return sink.getvalue()


def _leaf_rows(data: bytes, key: str) -> pa.Table:
    table = pq.read_table(pa.BufferReader(data))
    found = (table.schema.metadata or {}).get(b"format", b"").decode()
    if found != LEAF_FORMAT:
        raise CorruptionError(
            f"{key} has format {found!r}; this version reads {LEAF_FORMAT}.", kind="unknown_format"
        )
    return table.replace_schema_metadata(None)


def _leaf_key(node: Node) -> str:
    return f"states/leaves/{node.digest[:2]}/{node.digest}.parquet"


def _node_key(node: Node) -> str:
    return f"states/nodes/{node.digest}-{node.depth}.json"
