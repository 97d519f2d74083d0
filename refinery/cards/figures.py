"""The numbers of a dataset card: read from the snapshot's rows, the rows of its state, its policy and its origins."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from refinery.batches import Batches
from refinery.digests import digest
from refinery.errors import CorruptionError
from refinery.evals.results import is_result
from refinery.fields import to_utc
from refinery.policy import FORMAT as POLICY_FORMAT
from refinery.snapshots import Snapshot
from refinery.states.tree import StateTrees
from refinery.store import ObjectStore
from refinery.verdicts import GOLD, HELD, PENDING

SHOWN = 24
"""How many samples the contact sheet shows."""
_SEED = "refinery card"
_DESCRIBED = ("string", "boolean", "string_list")


@dataclass(frozen=True, slots=True)
class Attribute:
    """One registered attribute: how many samples have a value, how many different ones there are (None: not counted), the
    most frequent ones with their counts, and the least and the greatest number or date."""

    name: str
    type: str
    filled: int
    distinct: int | None
    common: tuple[tuple[str, int], ...]
    least: Any = None
    greatest: Any = None


@dataclass(frozen=True, slots=True)
class Figures:
    """What a card says. Arrays have one entry per sample that has the value: `bytes` in bytes, `sides` the shorter side in
    pixels, `aspects` width / height. `held` counts every held sample once, by its first reason; `reasons` counts each
    reason of each held sample. seen = len(snapshot) + `filtered` + sum(held) + pending."""

    snapshot: Snapshot
    policy_name: str
    rules: tuple[tuple[str, str], ...]
    bytes: npt.NDArray[np.int64]
    sides: npt.NDArray[np.int64]
    aspects: npt.NDArray[np.float64]
    formats: Counter[str]
    sources: Counter[str]
    licences: Counter[str]
    payloads: Counter[str]
    attributes: tuple[Attribute, ...]
    seen: int
    filtered: int
    pending: int
    held: Counter[str]
    reasons: Counter[str]
    near_duplicates: int
    shown: tuple[str, ...]

    @property
    def gold(self) -> int:
        """How many samples were gold, whether the snapshot's filter took them or not."""
        return self.snapshot.count + self.filtered


def measure(store: ObjectStore, batches: Batches, snapshot: Snapshot) -> Figures:
    """The figures of one snapshot."""
    trees = StateTrees(store)
    rows = trees.rows(snapshot.node)
    state = _State()
    for leaf in trees.leaves(snapshot.state_node):
        state.add(leaf)
    name, rules = _policy(store, snapshot)
    attributes = [json.loads(text) for text in rows["attributes"].to_pylist()]
    sized = rows.filter(pc.is_valid(rows["width"]))
    width, height = (np.asarray(sized[side].combine_chunks()) for side in ("width", "height"))
    ids = rows["sample_id"].to_pylist()
    return Figures(
        snapshot=snapshot,
        policy_name=name,
        rules=rules,
        bytes=np.asarray(rows["bytes"].combine_chunks()).astype(np.int64),
        sides=np.minimum(width, height).astype(np.int64),
        aspects=width / np.maximum(height, 1),
        formats=Counter(f or "unknown" for f in rows["format"].to_pylist()),
        sources=_sources(batches, snapshot, ids),
        licences=Counter(str(a.get("licence", "")) for a in attributes),
        payloads=Counter(p["name"] for text in rows["payloads"].to_pylist() for p in json.loads(text)),
        attributes=tuple(
            _attribute(n, t, [a.get(n) for a in attributes]) for n, t in snapshot.fields if not is_result(n)
        ),
        seen=state.seen,
        filtered=state.verdicts[GOLD] - snapshot.count,
        pending=state.verdicts[PENDING],
        held=state.held,
        reasons=state.reasons,
        near_duplicates=state.near_duplicates,
        shown=tuple(sorted(ids, key=lambda i: digest(f"{_SEED}{i}".encode()))[:SHOWN]),
    )


class _State:
    """The accounting of a verdict state, leaf by leaf."""

    def __init__(self) -> None:
        self.seen = self.near_duplicates = 0
        self.verdicts: Counter[str] = Counter()
        self.held: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()

    def add(self, leaf: pa.Table) -> None:
        self.seen += leaf.num_rows
        self.near_duplicates += int(pc.sum(leaf["near_duplicate"]).as_py() or 0)
        self.verdicts.update(leaf["verdict"].to_pylist())
        for reasons in leaf.filter(pc.equal(leaf["verdict"], HELD))["reasons"].to_pylist():
            self.held[reasons[0]] += 1
            self.reasons.update(reasons)


def _policy(store: ObjectStore, snapshot: Snapshot) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The name of the policy that a snapshot was computed with, and its rules: (name, filter) in order."""
    key = f"policies/{snapshot.policy}.json"
    body = store.get(key)
    try:
        raw = json.loads(body)
        if raw["format"] == POLICY_FORMAT:
            return raw["name"], tuple((r["name"], r["hold"]) for r in raw["rules"])
        problem: object = f"its format is {raw['format']!r}"
    except (ValueError, KeyError, TypeError) as error:
        problem = error
    raise CorruptionError(
        f"{key} is not {POLICY_FORMAT} ({problem}): restore it from a backup.", kind="damaged_policy"
    )


def _sources(batches: Batches, snapshot: Snapshot, ids: Sequence[str]) -> Counter[str]:
    """How many samples were seen in each source until the snapshot was frozen. One seen in two counts in both."""
    columns = ["sample_id", "source", "ingested_at"]
    origins = batches.origins(columns=columns, sample_ids=ids)
    frozen = pa.scalar(to_utc(snapshot.created_at), pa.timestamp("us", tz="UTC"))
    then = origins.filter(pc.less_equal(origins["ingested_at"], frozen))
    pairs = then.group_by(["sample_id", "source"]).aggregate([])
    return Counter(pairs["source"].to_pylist())


def _attribute(name: str, kind: str, values: list[Any]) -> Attribute:
    there = [v for v in values if v not in (None, [])]
    least = greatest = None
    if kind in ("integer", "number", "date") and there:
        least, greatest = min(there), max(there)
    common: tuple[tuple[str, int], ...] = ()
    distinct = None
    if kind in _DESCRIBED:
        flat = [str(v) for value in there for v in (value if isinstance(value, list) else [value])]
        counts = Counter(flat)
        common, distinct = tuple(most_common(counts)[:3]), len(counts)
    return Attribute(name, kind, len(there), distinct, common, least, greatest)


def most_common(counts: Counter[str]) -> list[tuple[str, int]]:
    """Counts, the largest first, equal ones in order of name."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
