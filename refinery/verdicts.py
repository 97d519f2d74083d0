"""verdict(sample) = f(facts, flags, policy): the one function everything else is a view of.

The unit of evaluation is a set of documents closed under near-duplicate clusters. In order of precedence:

1. a standing `blocked` flag, whoever stood it: held, reason `blocked`;
2. a failed inspection that no retry can mend: held, its reason code;
3. facts missing that the policy requires (or a retryable failure): pending;
4. the newest keep or reject of a person: gold, or held with reason `rejected`;
5. the policy's rules: held with the name of every rule that matches; gold when none does.

Near-duplicates come after all other rules: in each cluster the best sample that nothing else holds is kept (a person's
keep first, then more pixels, then more bytes, then the smaller id); the others have `near_duplicate` true.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from refinery.policy import Policy

GOLD, HELD, PENDING = "gold", "held", "pending"
BLOCKED, REJECTED = "blocked", "rejected"
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Inputs:
    """What verdicts are a function of, for n samples: their documents and, as arrays of n, what the documents do not say.

    `documents` has the columns of `Fields.schema()` (verdict, reasons, near_duplicate and datasets are not read).
    """

    documents: pa.Table
    blocked: Mask
    kept: Mask
    rejected: Mask
    missing: Mask

    def __len__(self) -> int:
        return int(self.documents.num_rows)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Verdicts of n samples, in the order of the inputs. `matches` has one mask per rule name."""

    verdict: npt.NDArray[np.object_]
    reasons: list[list[str]]
    near_duplicate: Mask
    matches: Mapping[str, Mask]


def evaluate(inputs: Inputs, policy: Policy) -> Verdicts:
    """The verdict of every sample of `inputs`, which must hold whole clusters."""
    documents, n = inputs.documents, len(inputs)
    failed = documents["failure"].is_valid().to_numpy()
    matches = {r.name: r.hold.mask(documents) for r in policy.rules if not r.after_near_duplicates}
    held = np.zeros(n, bool)
    for mask in matches.values():
        held |= mask
    open_ = ~(inputs.blocked | failed | inputs.missing)
    eligible = open_ & ~inputs.rejected & (inputs.kept | ~held)
    near_duplicate = _beaten(documents, eligible, inputs.kept)
    column = pa.array(near_duplicate)
    seen = documents.set_column(documents.schema.get_field_index("near_duplicate"), "near_duplicate", column)
    for rule in policy.rules:
        if rule.after_near_duplicates:
            matches[rule.name] = rule.hold.mask(seen)
    ordered = {r.name: matches[r.name] for r in policy.rules}

    verdict = np.full(n, GOLD, object)
    reasons: list[list[str]] = [[]] * n
    ruled = open_ & ~inputs.kept & ~inputs.rejected
    for name, mask in ordered.items():
        chosen = mask & ruled
        verdict[chosen] = HELD
        for i in np.flatnonzero(chosen).tolist():
            reasons[i] = [*reasons[i], name]
    rest = np.flatnonzero(~open_ | inputs.rejected)
    for i, failure in zip(rest.tolist(), documents["failure"].take(pa.array(rest)).to_pylist(), strict=True):
        if inputs.blocked[i]:
            verdict[i], reasons[i] = HELD, [BLOCKED]
        elif failed[i]:
            verdict[i], reasons[i] = HELD, [str(failure)]
        elif inputs.missing[i]:
            verdict[i] = PENDING
        else:
            verdict[i], reasons[i] = HELD, [REJECTED]
    return Verdicts(verdict, reasons, near_duplicate, ordered)


def _beaten(documents: pa.Table, eligible: Mask, kept: Mask) -> Mask:
    """Which samples stand in a cluster in which another one is kept instead."""
    beaten = np.zeros(documents.num_rows, bool)
    rows = np.flatnonzero(documents["cluster"].is_valid().to_numpy())
    columns = ("cluster", "sample_id", "width", "height", "bytes")
    members = documents.select(columns).take(pa.array(rows))
    best: dict[str, tuple[tuple[bool, int, int, str], int]] = {}
    clusters = members["cluster"].to_pylist()
    for i, *said in zip(rows.tolist(), *(members[name].to_pylist() for name in columns), strict=True):
        cluster, sample_id, width, height, size = said
        rank = (not kept[i], -(width or 0) * (height or 0), -(size or 0), sample_id)
        if eligible[i] and (cluster not in best or rank < best[cluster][0]):
            best[cluster] = (rank, i)
    for i, cluster in zip(rows.tolist(), clusters, strict=True):
        beaten[i] = cluster in best and best[cluster][1] != i
    return beaten
