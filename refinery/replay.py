"""Replay: bring the verdict state up to date by evaluating only what is affected.

Affected are the samples whose inputs changed (those of new batches and of changed files of facts are looked at), those that new
ledger events speak of, and every member of their near-duplicate clusters (clusters only grow, so closing over today's clusters
covers yesterday's).
A changed policy, or clusters made anew, affect every sample; facts are read again for none of them, since what they say is
kept. Changed steps or fields affect every sample, too, and all facts are read. The result equals a full rebuild.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from refinery.batches import Batches
from refinery.digests import digest_json
from refinery.documents import Described, DocumentBuilder, state_rows, verdict_inputs
from refinery.errors import ConflictError, CorruptionError
from refinery.facts import FactStore
from refinery.fields import Fields
from refinery.inputs import Steps
from refinery.ledger import Ledger, LedgerView
from refinery.near_duplicates import cluster_mates, clusters_root, read_clusters, unmarked_batches
from refinery.policy import Policy
from refinery.states.head import StateHead, read_head, write_head
from refinery.states.inputs import KeptInputs
from refinery.states.rows import rows_table
from refinery.states.tree import StateTrees
from refinery.store import ObjectStore
from refinery.verdicts import Verdicts, evaluate

_MOST_TRIES = 20
_AFFECTED, _POLICY = "affected samples only", "policy changed"
_CLUSTERS = "near-duplicates were compared anew"


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


@dataclass(frozen=True, slots=True)
class Gathered:
    """Inputs of samples in whole clusters, in order of sample id (see `refinery.inputs`), and the clusters they are in."""

    inputs: pa.Table
    clusters: pa.Table

    def only(self, rows: Sequence[int]) -> Gathered:
        """Some of the rows, which must be whole clusters again."""
        inputs = self.inputs.take(pa.array(rows, pa.int64()))
        return Gathered(
            inputs, self.clusters.filter(pc.is_in(self.clusters["sample_id"], inputs["sample_id"]))
        )


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
        self._kept = KeptInputs(store)
        self.trees = StateTrees(store)

    def replay(self, policy: Policy, *, full: bool = False) -> ReplayReport:
        """Bring the state up to date (`full`: evaluate every sample) and swap the head."""
        self._store.put_if_absent(f"policies/{policy.digest}.json", policy.body)
        for _ in range(_MOST_TRIES):
            old, etag = read_head(self._store)
            try:
                report, new = self._step(old, policy, full)
                if new == old:
                    return report
                if new.node != old.node:
                    self.trees.release(old.node)
                write_head(self._store, new, etag)
            except ConflictError:
                continue
            return report
        raise ConflictError("Other replays kept swapping the state's head: try again.", kind="replay_busy")

    def evaluate(
        self, policy: Policy, view: LedgerView, sample_ids: Collection[str] | None = None
    ) -> tuple[Described, Verdicts]:
        """Documents and verdicts of samples (None: all), which are widened to whole clusters first; nothing is written."""
        return self.judge(self.gather(sample_ids), policy, view)

    def gather(self, sample_ids: Collection[str] | None = None) -> Gathered:
        """What verdicts of samples (None: all) and of their whole clusters depend on but for ledger and policy."""
        clusters = self._clusters()
        wanted = None if sample_ids is None else set(sample_ids) | cluster_mates(clusters, sample_ids)
        return Gathered(self.inputs(wanted), clusters)

    def judge(self, gathered: Gathered, policy: Policy, view: LedgerView) -> tuple[Described, Verdicts]:
        """Documents and verdicts of what was gathered."""
        described = self._builder.complete(gathered.inputs, view, gathered.clusters)
        return described, evaluate(verdict_inputs(described, view, policy), policy)

    def inputs(self, wanted: Collection[str] | None) -> pa.Table:
        """The inputs of samples (None: all): those that were kept when they are of the facts there are, else from truth."""
        head, _ = read_head(self._store)
        now = self._now(head, "", 0)
        if head.inputs and now == replace(head, policy="", ledger_offset=0):
            with suppress(CorruptionError):
                return (
                    self._kept.rows(head.inputs) if wanted is None else self._kept.lookup(head.inputs, wanted)
                )
        return self._builder.inputs.read(wanted)

    def is_current(self, policy: Policy) -> bool:
        """Whether a replay would find nothing new to look at. Reads no rows."""
        head, _ = read_head(self._store)
        return self._now(head, policy.digest, self._ledger.moving_offset) == head

    def _now(self, old: StateHead, policy: str, offset: int) -> StateHead:
        """The head of this moment, with the rows of `old`."""
        steps = self._steps.by_name()
        return replace(
            old,
            ledger_offset=offset,
            policy=policy,
            fields=digest_json([[f.name, f.type.value] for f in self._fields.attributes]),
            steps={name: s.key for name, s in steps.items()},
            files={name: self._facts.files(s) for name, s in steps.items()},
            clusters=clusters_root(self._store, self._steps.near_duplicates),
            batches=self._batches.landed(),
        )

    def _step(self, old: StateHead, policy: Policy, full: bool) -> tuple[ReplayReport, StateHead]:
        view = self._ledger.view()
        now = self._now(old, policy.digest, view.moving_offset)
        clusters = self._clusters()
        scope, inputs, now = self._inputs(old, now, view, clusters, full)
        if scope == _AFFECTED and not len(inputs):
            return self._report(old, now, scope, 0, rows_table(), rows_table()), now
        described = self._builder.complete(inputs, view, clusters)
        after = state_rows(described, evaluate(verdict_inputs(described, view, policy), policy))
        if scope == _AFFECTED:
            before = self.trees.lookup(old.node, after["sample_id"].to_pylist())
            node = self.trees.apply(old.node, changed := _changed(before, after))
        elif scope in (_POLICY, _CLUSTERS):
            before = self.trees.rows(old.node)
            node = self.trees.apply(old.node, changed := _changed(before, after))
        else:
            node = self.trees.build(after, like=old.node)
            before, changed = self.trees.diff(old.node, node) if old.count else (rows_table(), after)
        counts: Counter[str] = Counter()
        held: Counter[str] = Counter()
        if scope == _AFFECTED:
            counts.update(old.counts)
            held.update(old.held)
            _count(counts, held, before, -1)
        _count(counts, held, after, +1)
        now = replace(now, root=node.digest, count=node.count, counts=_positive(counts), held=_positive(held))
        return self._report(old, now, scope, after.num_rows, changed, before), now

    def _inputs(
        self, old: StateHead, now: StateHead, view: LedgerView, clusters: pa.Table, full: bool
    ) -> tuple[str, pa.Table, StateHead]:
        """Why, of which samples to give a verdict, their inputs, and `now` with what is kept of them."""
        reasons = {
            "full rebuild asked for": full,
            "first replay": not old.policy,
            "fields changed": old.fields != now.fields,
            "steps changed": old.steps != now.steps,
            "ledger is shorter than the state": view.offset < old.ledger_offset,
            "no inputs were kept": bool(old.count and not old.inputs),
        }
        scope = next((reason for reason, applies in reasons.items() if applies), None)
        if scope is None:
            try:
                return self._from_kept(old, now, view, clusters)
            except CorruptionError as error:
                if error.kind != "lost_inputs":
                    raise
                scope = "the inputs that were kept are lost"
        inputs = self._builder.inputs.read()
        return scope, inputs, replace(now, inputs=self._kept.add([], inputs))

    def _from_kept(
        self, old: StateHead, now: StateHead, view: LedgerView, clusters: pa.Table
    ) -> tuple[str, pa.Table, StateHead]:
        affected = view.touched(old.ledger_offset)
        fresh = self._fresh(old, now)
        if fresh:
            rows = self._builder.inputs.read(fresh)
            if old.inputs:
                rows = _changed(self._kept.lookup(old.inputs, fresh), rows)
            now = replace(now, inputs=self._kept.add(old.inputs, rows))
            affected.update(rows["sample_id"].to_pylist())
        if not now.inputs:
            return _AFFECTED, self._builder.inputs.read(()), now
        if old.policy != now.policy:
            return _POLICY, self._kept.rows(now.inputs), now
        if now.clusters != old.clusters:
            # whoever was compared since has other inputs, unless its batch is not marked yet
            unmarked = unmarked_batches(self._store, self._steps.near_duplicates)
            if not unmarked and now.files["near_duplicates"] == old.files["near_duplicates"]:
                return _CLUSTERS, self._kept.rows(now.inputs), now
            affected.update(*(self._batches.samples(batch) for batch in unmarked))
        # a flag may speak of a sample that is not here yet: it has no inputs
        return _AFFECTED, self._kept.lookup(now.inputs, affected | cluster_mates(clusters, affected)), now

    def _fresh(self, old: StateHead, now: StateHead) -> set[str]:
        """The samples of batches that landed and of facts that changed since."""
        batches = set(now.batches) - set(old.batches)
        fresh: set[str] = set()
        for name, step in self._steps.by_name().items():
            before = old.files.get(name, {})
            changed = [b for b, token in now.files[name].items() if before.get(b) != token]
            batches.update(before.keys() - now.files[name].keys())
            if changed:
                rows = self._facts.read(step, batches=changed, columns=["sample_id"])
                fresh.update(rows["sample_id"].to_pylist())
        return fresh.union(*(self._batches.samples(batch) for batch in sorted(batches)))

    def _clusters(self) -> pa.Table:
        return read_clusters(self._store, self._steps.near_duplicates)

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
    """The rows of `after` that `before` does not have as they are. Both are in order of sample id."""
    ids, known = after["sample_id"].combine_chunks(), before["sample_id"].combine_chunks()
    places = pc.index_in(ids, value_set=known)
    was = before if ids.equals(known) else before.take(places)
    changed = pc.is_null(places)
    for name in after.column_names[1:]:
        changed = pc.or_(changed, differs(was[name].combine_chunks(), after[name].combine_chunks()))
    return after.filter(changed)


def differs(a: pa.Array, b: pa.Array) -> pa.Array:
    """Where two columns differ; null equals null."""
    if pa.types.is_list(a.type):
        return pc.or_(
            differs(pc.list_value_length(a), pc.list_value_length(b)),
            differs(pc.binary_join(a, "\0"), pc.binary_join(b, "\0")),
        )
    both = pc.and_(pc.is_valid(a), pc.is_valid(b))
    return pc.if_else(both, pc.fill_null(pc.not_equal(a, b), False), pc.xor(pc.is_valid(a), pc.is_valid(b)))


def _count(counts: Counter[str], held: Counter[str], rows: pa.Table, sign: int) -> None:
    reasons = rows["reasons"].combine_chunks()
    first = pc.list_element(reasons.filter(pc.greater(pc.list_value_length(reasons), 0)), 0)
    for counter, column in ((counts, rows["verdict"]), (held, first)):
        for found in pc.value_counts(column).to_pylist():
            counter[found["values"]] += sign * found["counts"]


def _positive(counts: Counter[str]) -> dict[str, int]:
    return {name: n for name, n in sorted(counts.items()) if n}
