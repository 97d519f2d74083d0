"""Trees as they were kept before packs, to be read: one object per leaf (`refinery.leaf/1`) and inner node (`refinery.node/1`)."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from refinery.errors import CorruptionError, RefineryError
from refinery.states.ids import to_bytes
from refinery.states.merkle import join_nibbles, set_digest
from refinery.states.reading import Node
from refinery.states.rows import row_digests, sorted_rows
from refinery.store import ObjectStore

LEAF_ROWS = 2048
LEAF_FORMAT, NODE_FORMAT = "refinery.leaf/1", "refinery.node/1"
UNREADABLE = (RefineryError, OSError, ValueError, LookupError, TypeError, AttributeError, pa.ArrowException)


class FormerTrees:
    """The trees of one store that are kept so."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def has(self, root: Node) -> bool:
        """Whether a tree that is not empty begins here."""
        return self._store.exists(_key(root))

    def rows(self, root: Node) -> pa.Table:
        """All rows in order of sample id. CorruptionError for formats that this version does not know."""
        return sorted_rows(list(self._leaves(root)))

    def keys(self, root: Node) -> Iterator[str]:
        """The keys of all objects of a tree. Reads its nodes, and no leaf."""
        yield _key(root)
        if not _is_leaf(root):
            for child in self._children(root):
                if child is not None:
                    yield from self.keys(child)

    def verify(self, root: Node, damaged: Container[str]) -> Iterator[str]:
        """Recompute every digest from the rows: a sentence for each node that is not what its name says."""
        key = _key(root)
        if key in damaged:
            yield f"{key} is damaged."
            return
        try:
            if _is_leaf(root):
                rows = self._leaf(root)
                ids = [bytes(i) for i in to_bytes(rows["sample_id"])]
                if len(rows) != root.count or set_digest(ids, row_digests(rows)).hex() != root.digest:
                    yield f"Leaf {key} does not hold the rows that its name says."
                return
            children = self._children(root)
            joined = join_nibbles([bytes.fromhex(c.digest) if c else None for c in children])
        except UNREADABLE as error:
            yield f"{key} cannot be read: {error}"
            return
        if joined.hex() != root.digest or sum(c.count for c in children if c) != root.count:
            yield f"Node {key} does not join to the digest that its name says."
        for child in children:
            if child is not None:
                yield from self.verify(child, damaged)

    def _leaves(self, root: Node) -> Iterator[pa.Table]:
        if _is_leaf(root):
            yield self._leaf(root)
            return
        for child in self._children(root):
            if child is not None:
                yield from self._leaves(child)

    def _children(self, node: Node) -> list[Node | None]:
        body = json.loads(self._store.get(_key(node)))
        _check(_key(node), body.get("format"), NODE_FORMAT)
        return [Node(c["digest"], c["count"], node.depth + 1) if c else None for c in body["children"]]

    def _leaf(self, node: Node) -> pa.Table:
        table = pq.read_table(pa.BufferReader(self._store.get(_key(node))))
        _check(_key(node), (table.schema.metadata or {}).get(b"format", b"").decode(), LEAF_FORMAT)
        return table.replace_schema_metadata(None)


def _is_leaf(node: Node) -> bool:
    return node.count <= LEAF_ROWS


def _key(node: Node) -> str:
    if _is_leaf(node):
        return f"states/leaves/{node.digest[:2]}/{node.digest}.parquet"
    return f"states/nodes/{node.digest}-{node.depth}.json"


def _check(key: str, found: object, known: str) -> None:
    if found != known:
        raise CorruptionError(
            f"{key} has format {found!r}; this version reads {known}.", kind="unknown_format"
        )
