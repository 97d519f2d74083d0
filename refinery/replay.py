"""Replay: bring the verdict state up to date by evaluating only what is affected.

Affected are the samples of new batches, those in fact files that are new or changed, those that new ledger events speak of,
and every member of their near-duplicate clusters (clusters only grow, so closing over today's clusters covers yesterday's).
A changed policy, step or set of fields affects every sample. The result equals a full rebuild.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field, replace

import pyarrow as pa

from refinery.batches import Batches
from refinery.digests import digest_json
from refinery.documents import Described, DocumentBuilder, Steps, state_rows, verdict_inputs
from refinery.errors import ConflictError
from refinery.facts import FactStore
from refinery.fields import Fields
from refinery.ledger import Ledger, LedgerView
from refinery.near_duplicates import cluster_mates, clusters_root, read_clusters
from refinery.policy import Policy
from refinery.states.head import StateHead, read_head, write_head
from refinery.states.rows import row_digests, rows_table
from refinery.states.tree import StateTrees
from refinery.store import ObjectStore
from refinery.verdicts import Verdicts, evaluate

_MOST_TRIES = 20


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What a replay did. `evaluated` samples were looked at, `changed` have a new row, `flips` counts moves between verdicts
    ("gold → held": n; a sample seen for the first time comes from "new"). `scope` says why so much was looked at."""

    root: str
    previous_root: str
    ledger_offset: int
    total: int
    evaluated: int
    changed: int
    scope: str
    counts: dict[str, int]
    held: dict[str, int]
    flips: dict[str, int] = field(default_factory=dict)
    changed_ids: list[str] = field(default_factory=list)

    @property
    def reused(self) -> int:
        """Samples whose verdict was taken over without looking."""
        return self.total - self.evaluated


class Replayer:
    """Replays one project: its store, facts and fields, under the steps in force."""

    def __init__(
        self,
        store: ObjectStore,
        ledger: Ledger,
        batches: Batches,
        facts: FactStore,
        fields: Fields,
        steps: Steps,
    ) -> None:
        self._store, self._ledger, self._batches, self._facts = store, ledger, batches, facts
        self._fields, self._steps = fields, steps
        self._builder = DocumentBuilder(store, batches, facts, fields, steps)
        self.trees = StateTrees(store)

    def replay(self, policy: Policy, *, full: bool = False) -> ReplayReport:
        """Bring the state up to date (`full`: evaluate every sample) and swap the head."""
        self._store.put_if_absent(f"policies/{policy.digest}.json", policy.body)
        for _ in range(_MOST_TRIES):
            old, etag = read_head(self._store)
            report, new = self._step(old, policy, full)
            if new == old:
                return report
            try:
                write_head(self._store, new, etag)
            except ConflictError:
                continue
            return report
        raise ConflictError("Other replays kept swapping the state's head: try again.", kind="replay_busy")

    def evaluate(
        self, policy: Policy, view: LedgerView, sample_ids: Collection[str] | None = None
    ) -> tuple[Described, Verdicts]:
        """Documents and verdicts of samples (None: all), which are widened to whole clusters first; nothing is written."""
        wanted = None if sample_ids is None else self._whole_clusters(set(sample_ids))
        described = self._builder.describe(view, wanted)
        return described, evaluate(verdict_inputs(described, view, policy), policy)

    def is_current(self, policy: Policy) -> bool:
        """Whether a replay would find nothing new to look at. Reads no rows."""
        head, _ = read_head(self._store)
        return self._now(head, policy, self._ledger.moving_offset) == head

    def _now(self, old: StateHead, policy: Policy, offset: int) -> StateHead:
        """The head of this moment, with the rows of `old`."""
        steps = self._steps.by_name()
        return replace(
            old,
            ledger_offset=offset,
            policy=policy.digest,
            fields=digest_json([[f.name, f.type.value] for f in self._fields.attributes]),
            steps={name: s.key for name, s in steps.items()},
            files={name: self._facts.files(s) for name, s in steps.items()},
            clusters=clusters_root(self._store, self._steps.near_duplicates),
            batches=self._batches.landed(),
        )

    def _step(self, old: StateHead, policy: Policy, full: bool) -> tuple[ReplayReport, StateHead]:
        view = self._ledger.view()
        now = self._now(old, policy, view.moving_offset)
        scope, affected = self._affected(old, now, view, full)
        if affected is not None and not affected:
            return self._report(old, now, scope, 0, rows_table(), rows_table()), now
        described, verdicts = self.evaluate(policy, view, affected)
        after = state_rows(described, verdicts)
        if affected is None:
            node = self.trees.build(after)
            before, changed = self.trees.diff(old.node, node) if old.count else (rows_table(), after)
        else:
            before = self.trees.lookup(old.node, after["sample_id"].to_pylist())
            changed = _changed(before, after)
            node = self.trees.apply(old.node, changed)
        counts: Counter[str] = Counter()
        held: Counter[str] = Counter()
        if affected is not None:
            counts.update(old.counts)
            held.update(old.held)
            _count(counts, held, before, -1)
        _count(counts, held, after, +1)
        now = replace(now, root=node.digest, count=node.count, counts=_positive(counts), held=_positive(held))
        return self._report(old, now, scope, after.num_rows, changed, before), now

    def _affected(
        self, old: StateHead, now: StateHead, view: LedgerView, full: bool
    ) -> tuple[str, set[str] | None]:
        """Why, and which samples to evaluate (None: all)."""
        reasons = {
            "full rebuild asked for": full,
            "first replay": not old.policy,
            "policy changed": old.policy != now.policy,
            "fields changed": old.fields != now.fields,
            "steps changed": old.steps != now.steps,
            "ledger is shorter than the state": view.offset < old.ledger_offset,
        }
        for reason, applies in reasons.items():
            if applies:
                return reason, None
        affected = view.touched(old.ledger_offset)
        fresh = set(now.batches) - set(old.batches)
        for name, step in self._steps.by_name().items():
            changed = [b for b, token in now.files[name].items() if old.files.get(name, {}).get(b) != token]
            if name == "near_duplicates":
                fresh.update(changed)
            elif changed:
                affected.update(
                    self._facts.read(step, batches=changed, columns=["sample_id"])["sample_id"].to_pylist()
                )
        if now.clusters != old.clusters and now.files["near_duplicates"] == old.files.get("near_duplicates"):
            # clusters were published whose batches are not marked as compared yet
            clusters = read_clusters(self._store, self._steps.near_duplicates)
            affected.update(clusters["sample_id"].to_pylist())
        landed = {sample_id for batch in fresh for sample_id in self._batches.samples(batch)}
        affected |= landed
        # a flag may speak of a sample that is not here yet; those of batches met before have rows
        affected &= {*landed, *self.trees.lookup(old.node, affected)["sample_id"].to_pylist()}
        return "affected samples only", self._whole_clusters(affected)

    def _whole_clusters(self, sample_ids: set[str]) -> set[str]:
        clusters = read_clusters(self._store, self._steps.near_duplicates)
        return sample_ids | cluster_mates(clusters, sample_ids)

    def _report(
        self,
        old: StateHead,
        now: StateHead,
        scope: str,
        evaluated: int,
        changed: pa.Table,
        before: pa.Table,
    ) -> ReplayReport:
        flips: Counter[str] = Counter()
        ids = changed["sample_id"].to_pylist()
        verdicts = dict(zip(before["sample_id"].to_pylist(), before["verdict"].to_pylist(), strict=True))
        for sample_id, verdict in zip(ids, changed["verdict"].to_pylist(), strict=True):
            if verdicts.get(sample_id) != verdict:
                flips[f"{verdicts.get(sample_id, 'new')} → {verdict}"] += 1
        return ReplayReport(
            root=now.root,
            previous_root=old.root,
            ledger_offset=now.ledger_offset,
            total=now.count,
            evaluated=evaluated,
            changed=len(ids),
            scope=scope,
            counts=dict(now.counts),
            held=dict(now.held),
            flips=dict(sorted(flips.items())),
            changed_ids=ids,
        )


def _changed(before: pa.Table, after: pa.Table) -> pa.Table:
    """The rows of `after` that `before` does not have as they are."""
    known = dict(zip(before["sample_id"].to_pylist(), row_digests(before), strict=True))
    fresh = zip(after["sample_id"].to_pylist(), row_digests(after), strict=True)
    return after.filter(pa.array([known.get(i) != d for i, d in fresh], pa.bool_()))


def _count(counts: Counter[str], held: Counter[str], rows: pa.Table, sign: int) -> None:
    for verdict, n in Counter(rows["verdict"].to_pylist()).items():
        counts[verdict] += sign * n
    for reasons in rows["reasons"].to_pylist():
        if reasons:
            held[reasons[0]] += sign


def _positive(counts: Counter[str]) -> dict[str, int]:
    return {name: n for name, n in sorted(counts.items()) if n}
