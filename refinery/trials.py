"""Trying a policy before anybody adopts it: what would move, for which reasons, and in which part of the samples."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from refinery.documents import state_rows
from refinery.errors import InputError
from refinery.fields import FieldType
from refinery.policy import Policy
from refinery.states.head import read_head
from refinery.verdicts import GOLD, HELD, PENDING
from refinery.whatif import WhatIf, compared

if TYPE_CHECKING:
    from refinery.project import Refinery

_MOST_VALUES = 10_000
_NO_PARTS = ("sample_id", "uri", "pixel_digest", "phash", "cluster", "verdict", "reasons", "datasets")


@dataclass(frozen=True, slots=True)
class ReasonEffect:
    """What becomes of one reason: samples held by it first, now and then; and how many get it and lose it."""

    reason: str
    now: int
    then: int
    got: int
    lost: int


@dataclass(frozen=True, slots=True)
class SliceEffect:
    """What becomes of the samples with one value of a field (None: without any): how many they are, how many of them are
    gold now and then, and how many join and leave gold."""

    value: str | None
    samples: int
    gold_now: int
    gold_then: int
    joined: int
    left: int


@dataclass(frozen=True, slots=True)
class Trial:
    """A policy that was tried at a ledger offset: samples by verdict `now`, and what was `found`. `behind`: the verdicts that
    stand are stale, so that the moves have in them what a replay would change anyway. `rows` has for each sample whether it
    is gold, `now` and `then`, and the fields by which samples can be parted."""

    policy: Policy
    ledger_offset: int
    now: dict[str, int]
    held: dict[str, int]
    behind: bool
    found: WhatIf
    rows: pa.Table

    def reasons(self) -> list[ReasonEffect]:
        """Every reason that holds a sample now or then, or moves one; those that move the most first."""
        got: Counter[str] = Counter()
        lost: Counter[str] = Counter()
        for move in self.found.moves:
            before, after = set(move["reasons_before"] or ()), set(move["reasons"])
            got.update(after - before)
            lost.update(before - after)
        names = {*self.held, *self.found.held, *got, *lost}
        effects = [
            ReasonEffect(n, self.held.get(n, 0), self.found.held.get(n, 0), got[n], lost[n]) for n in names
        ]
        return sorted(effects, key=lambda e: (-(e.got + e.lost), -max(e.now, e.then), e.reason))

    @property
    def fields(self) -> list[str]:
        """The fields by which samples can be parted: texts of few values."""
        return [name for name in self.rows.column_names if name not in ("now", "then")]

    def slices(self, field: str) -> list[SliceEffect]:
        """What becomes of the samples by the value of a field, those with the most moves first; a sample with several values
        counts for each. InputError for a field that does not part them."""
        if field not in self.fields:
            raise InputError(f"Samples cannot be parted by {field!r}.", kind="unknown_field")
        values, parents = _flat(self.rows[field])
        table = pa.table({"value": values, **{n: self.rows[n].take(parents) for n in ("now", "then")}})
        counted = table.group_by(["value", "now", "then"]).aggregate([([], "count_all")])
        by_value: dict[str | None, Counter[tuple[bool, bool]]] = defaultdict(Counter)
        for row in counted.to_pylist():
            by_value[row["value"]][row["now"], row["then"]] += row["count_all"]
        effects = [
            SliceEffect(
                value,
                sum(n.values()),
                n[True, True] + n[True, False],
                n[True, True] + n[False, True],
                n[False, True],
                n[True, False],
            )
            for value, n in by_value.items()
        ]
        return sorted(effects, key=lambda e: (-(e.joined + e.left), -e.samples, e.value or ""))


def try_policy(project: Refinery, policy: Policy) -> Trial:
    """What another policy would change; nothing is written. Evaluates every sample."""
    status, view, replayer = project.status(), project.ledger.view(), project.replayer
    head, _ = read_head(project.store)
    described, verdicts = replayer.evaluate(policy, view)
    before, after = replayer.trees.rows(head.node), state_rows(described, verdicts)
    documents = described.documents
    was = pc.index_in(after["sample_id"], value_set=before["sample_id"].combine_chunks())
    columns = {
        "now": pc.fill_null(pc.equal(before["verdict"].take(was), GOLD), False),
        "then": pc.equal(after["verdict"], GOLD),
    }
    for field in project.fields.values():
        parts = field.type in (FieldType.STRING, FieldType.STRING_LIST) and field.name not in _NO_PARTS
        if parts and pc.count_distinct(_flat(documents[field.name])[0]).as_py() in range(1, _MOST_VALUES + 1):
            columns[field.name] = documents[field.name]
    return Trial(
        policy,
        view.offset,
        {GOLD: status.gold, HELD: sum(status.held.values()), PENDING: status.pending},
        dict(status.held),
        status.stale,
        compared(policy, before, after),
        pa.table(columns),
    )


def _flat(column: pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """The single values of a column and the rows that they are in; null for a row without any."""
    array = column.combine_chunks()
    if not pa.types.is_list(array.type):
        return array, pa.array(range(len(array)), pa.int64())
    empty = pc.indices_nonzero(pc.equal(pc.fill_null(pc.list_value_length(array), 0), 0))
    values = pa.concat_arrays([pc.list_flatten(array), pa.nulls(len(empty), array.type.value_type)])
    rows = pa.concat_arrays([pc.list_parent_indices(array), empty.cast(pa.int64())])
    return values, rows
