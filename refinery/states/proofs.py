"""Inclusion proofs: that a sample is in a snapshot with a certain row, shown by its root and less than 2 KB.

A proof is the row and, from the leaf to the root of the Merkle tree (see `merkle`), the digest of the set that is joined at
each branch and the side on which the sample's own set lies. Whoever knows the root hashes the row upwards and compares.
Checking needs BLAKE3 and the proof, and neither a project nor a store.

Why it is sound. With 0x00 before leaves and 0x01 before branches no digest is at once that of a leaf and of a branch, and a
leaf's preimage is the id and the row's digest. So a chain of hashes that ends in the root of a set starts at a leaf of
exactly that set, or somebody found two inputs with one BLAKE3 digest. The sides are hashed, by the order of the two
digests in a branch. The bits at which the sets part are not: a proof that stated them would hold bytes that nobody can
check, therefore it states sides.

For the same reason there is no proof here that a sample is *not* in a snapshot. The obvious one, a walk from the root
that follows the bits of the absent id and ends at another one, is worthless: the root does not say which bit a branch tests,
so a forger names, at any branch, some other bit in which the present id and his favourite leaf agree, and walks past it.

(R. C. Merkle, "A digital signature based on a conventional encryption function", 1987; domain separation as in RFC 6962.)
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from refinery.digests import canonical_json, check_sample_id, digest_json
from refinery.errors import CorruptionError, InputError
from refinery.states.merkle import Branch, branch_digest, leaf_digest, nibble_path, set_path

if TYPE_CHECKING:
    from refinery.states.tree import Node, StateTrees

FORMAT = "refinery.proof/1"
MOST_BYTES = 16 << 20
_MOST_BRANCHES = 256
_MEMBERS = {"format", "row", "sides", "siblings"}


@dataclass(frozen=True)
class Proof:
    """That a set holds `row`. `branches` lead from the leaf to the root: the side of the sample's own set (0: left) and the
    32-byte digest of the other one."""

    row: dict[str, Any]
    branches: tuple[Branch, ...]

    @property
    def sample_id(self) -> str:
        """The sample that it speaks of."""
        return str(self.row["sample_id"])

    @cached_property
    def root(self) -> str:
        """The only root (hex) that it leads to."""
        found = leaf_digest(bytes.fromhex(self.sample_id), bytes.fromhex(digest_json(self.row)))
        for side, sibling in self.branches:
            found = branch_digest(sibling, found) if side else branch_digest(found, sibling)
        return found.hex()

    def to_bytes(self) -> bytes:
        """Its canonical JSON, `refinery.proof/1`: what is kept and handed on."""
        return canonical_json(
            {
                "format": FORMAT,
                "row": self.row,
                "sides": "".join(str(side) for side, _ in self.branches),
                "siblings": base64.b64encode(b"".join(sibling for _, sibling in self.branches)).decode(),
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Proof:
        """A proof from its canonical JSON. CorruptionError when it is anything else, be it by one byte."""
        try:
            raw = json.loads(data) if len(data) <= MOST_BYTES else None
            if not isinstance(raw, dict):
                raise _damaged(f"{len(data):,} bytes that are no JSON object of at most {MOST_BYTES:,} bytes")
            if raw.get("format") != FORMAT:
                raise CorruptionError(
                    f"The proof has format {raw.get('format')!r}; this version reads {FORMAT}.",
                    kind="unknown_format",
                )
            if set(raw) != _MEMBERS:
                raise _damaged(f"its members are {', '.join(sorted(raw))}")
            sides, joined = raw["sides"], base64.b64decode(raw["siblings"], validate=True)
            if set(sides) - {"0", "1"} or len(sides) > _MOST_BRANCHES or len(joined) != 32 * len(sides):
                raise _damaged(f"{len(joined)} bytes of siblings do not fit its sides {str(sides)[:300]!r}")
            check_sample_id(raw["row"]["sample_id"])
            branches = tuple((int(s), joined[32 * i : 32 * i + 32]) for i, s in enumerate(sides))
            proof = cls(raw["row"], branches)
            if proof.to_bytes() != data:
                raise _damaged("it is not written as canonical JSON")
        except (ValueError, TypeError, KeyError, RecursionError, InputError) as error:
            raise _damaged(str(error)) from None
        return proof


def prove(trees: StateTrees, root: Node, sample_id: str) -> Proof:
    """The proof that the tree `root` holds `sample_id`: reads the nodes on its way and one leaf.

    InputError when it is not in there, CorruptionError when what was read does not lead to the root.
    """
    from refinery.states.rows import row_digests

    check_sample_id(sample_id)
    nodes, rows = trees.way(root, sample_id)
    table = {row["sample_id"]: row for row in rows.to_pylist()}
    if sample_id not in table:
        raise InputError(
            f"Sample {sample_id} is not among the {root.count:,} samples of root {root.digest}: nothing can be proved of it.",
            kind="not_in_snapshot",
        )
    ids = [bytes.fromhex(i) for i in table]
    branches = set_path(ids, row_digests(rows), bytes.fromhex(sample_id))
    for node, children in reversed(nodes):
        digests = [bytes.fromhex(c.digest) if c else None for c in children]
        branches += nibble_path(digests, int(sample_id[node.depth], 16))
    proof = Proof(table[sample_id], tuple(branches))
    if proof.root != root.digest:
        raise CorruptionError(
            f"The stored rows around sample {sample_id} lead to root {proof.root}, not to {root.digest}: "
            "`refinery snapshot verify` names what is damaged.",
            kind="damaged_snapshot",
        )
    return proof


def check(proof: bytes, root: str) -> dict[str, Any]:
    """The row that `proof` (canonical JSON) shows to be in the set with this root (64 hex digits).

    CorruptionError when it is no proof, or one that leads to another root.
    """
    read = Proof.from_bytes(proof)
    if read.root != root:
        raise CorruptionError(
            f"The proof of sample {read.sample_id} leads to root {read.root}, not to {root}: the row or the way was "
            "altered, or it belongs to another snapshot.",
            kind="wrong_root",
        )
    return read.row


def _damaged(found: str) -> CorruptionError:
    return CorruptionError(
        f"This is not a proof as `refinery snapshot prove` writes it ({found}): take the original, or have it made anew.",
        kind="damaged_proof",
    )
