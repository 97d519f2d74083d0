"""Judging the step from one snapshot to another by the rules of a gate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cached_property

from refinery.errors import ConfigError
from refinery.facts import FactStore, Step
from refinery.fields import Fields
from refinery.gates.drift import judge_drift
from refinery.gates.members import Members, recorded_step
from refinery.gates.report import EVIDENCE, Evidence, GateReport, Measure, Result, rounded
from refinery.gates.rules import (
    BalanceRule,
    DriftRule,
    DuplicatesRule,
    GateRules,
    LeakageRule,
    Rule,
    SizeRule,
    VerifiedRule,
    label,
)
from refinery.ledger import Ledger
from refinery.near_duplicates import clusters_root, read_clusters
from refinery.snapshots import Snapshot, Snapshots
from refinery.store import ObjectStore


class Gate:
    """Judges snapshots of one store. Facts of BASE and HEAD are both read under the step keys that HEAD records, so that
    a new version of a step or model is not mistaken for drift; results of evals and feedback of both are those that stood
    at HEAD's ledger offset. `space` gives the step of a further embedding space."""

    def __init__(
        self,
        store: ObjectStore,
        ledger: Ledger,
        snapshots: Snapshots,
        fields: Fields,
        space: Callable[[str], Step],
    ) -> None:
        self._store, self._ledger, self._snapshots = store, ledger, snapshots
        self._fields, self._space = fields, space

    def judge(self, base: Snapshot, head: Snapshot, rules: GateRules) -> GateReport:
        """What every rule finds, in the order of the rules.

        InputError for an unknown snapshot in `against`; CorruptionError when rows cannot be read and no `verified` rule
        was asked to say so.
        """
        damage = (
            list(self._snapshots.verify(head, blobs=False))
            if any(isinstance(r, VerifiedRule) for r in rules.rules)
            else []
        )
        step = _Judge(self._store, self._ledger, self._snapshots, self._fields, self._space, base, head)
        results = tuple(
            step.verified(rule, damage)
            if isinstance(rule, VerifiedRule)
            else _not_judged(rule, head)
            if damage
            else step.judge(rule)
            for rule in rules.rules
        )
        asked = any(isinstance(r, DuplicatesRule | LeakageRule) for r in rules.rules) and not damage
        root = clusters_root(self._store, recorded_step(head, "near_duplicates")) if asked else None
        return GateReport(base, head, rules.digest, root, results)


class _Judge:
    """One step from BASE to HEAD; rows, facts and clusters are read once, when a rule first asks for them."""

    def __init__(
        self,
        store: ObjectStore,
        ledger: Ledger,
        snapshots: Snapshots,
        fields: Fields,
        space: Callable[[str], Step],
        base: Snapshot,
        head: Snapshot,
    ) -> None:
        self._store, self._ledger, self._snapshots = store, ledger, snapshots
        self._fields, self._space = fields, space
        self._base, self._head = base, head

    def judge(self, rule: Rule) -> Result:
        match rule:
            case SizeRule():
                return self.size(rule)
            case BalanceRule():
                return self.balance(rule)
            case DuplicatesRule():
                return self.duplicates(rule)
            case LeakageRule():
                return self.leakage(rule)
            case DriftRule():
                field = None if rule.field is None else self._fields[rule.field]
                step = None if rule.space is None else self._embed_step(rule.space)
                return judge_drift(rule, self.base, self.head, field, step)
        raise TypeError(f"no rule: {rule!r}")

    def size(self, rule: SizeRule) -> Result:
        before, after = self._base.count, self._head.count
        change = (after - before) / before if before else (0.0 if after == before else None)
        shrink = rounded(max(0.0, -(change or 0.0)))
        growth = None if change is None else rounded(max(0.0, change))
        measures = [Measure("samples", after, rule.max, rule.min)]
        if rule.max_shrink is not None:
            measures.append(Measure("shrink", shrink, rule.max_shrink))
        if rule.max_growth is not None:
            measures.append(Measure("growth", growth, rule.max_growth))
        moved = "" if change is None else f" ({rounded(change):+.2%})"
        return Result(
            rule.name,
            rule.kind,
            tuple(measures),
            f"{after:,} samples in HEAD, {before:,} in BASE{moved}.",
        )

    def balance(self, rule: BalanceRule) -> Result:
        field = self._fields[rule.field]
        before, after = (_shares(side.values(field)) for side in (self.base, self.head))
        measures: list[Measure] = []
        found, blamed = [], set()
        if after:
            most = max(sorted(after), key=lambda v: after[v])
            found.append(f"{most!r} has the largest share of {rule.field}, {after[most]:.2%}")
        if rule.max_share is not None:
            over = {v for v, share in after.items() if share > rule.max_share}
            blamed |= over
            measures.append(Measure("largest share", max(after.values(), default=0.0), rule.max_share))
        for value, least in sorted(rule.min_share.items()):
            measures.append(Measure(f"share of {value}", after.get(value, 0.0), at_least=least))
        shifts = {v: rounded(abs(after.get(v, 0.0) - before.get(v, 0.0))) for v in {*before, *after}}
        if rule.max_shift is not None:
            measures.append(Measure("largest shift", max(shifts.values(), default=0.0), rule.max_shift))
            blamed |= {v for v, shift in shifts.items() if shift > rule.max_shift}
        if any(shifts.values()):
            value = max(sorted(shifts), key=lambda v: shifts[v])
            found.append(
                f"{value!r} shifted most, {before.get(value, 0.0):.2%} → {after.get(value, 0.0):.2%}"
            )
        evidence = [
            Evidence(i, f"{rule.field} {', '.join(sorted(blamed & set(_labels(v))))}")
            for i, v in zip(self.head.ids, self.head.values(field), strict=True)
            if blamed & set(_labels(v))
        ]
        sentence = f"{'; '.join(found) or f'no sample of HEAD has a value of {rule.field}'}."
        return Result(rule.name, rule.kind, tuple(measures), sentence, tuple(evidence[:EVIDENCE]))

    def duplicates(self, rule: DuplicatesRule) -> Result:
        sizes = Counter(self.clusters[i] for i in self.head.ids if i in self.clusters)
        inside = [i for i in self.head.ids if sizes[self.clusters.get(i, "")] > 1]
        pixels = self.head.facts("pixel_digest")
        times = Counter(p for p in pixels if p is not None)
        equal = [i for i, p in zip(self.head.ids, pixels, strict=True) if times[p] > 1]
        rate = rounded(len(inside) / len(self.head)) if len(self.head) else 0.0
        shared = set(equal)
        evidence = [
            Evidence(i, "equal pixels, cluster" if i in shared else "cluster", self.clusters.get(i))
            for i in sorted({*inside, *equal}, key=lambda i: (self.clusters.get(i, i), i))
        ]
        measures = (
            Measure("near-duplicate rate", rate, rule.max_rate),
            Measure("samples with equal pixels", len(equal), rule.max_equal_pixels),
        )
        clusters = sum(n > 1 for n in sizes.values())
        sentence = (
            f"{len(inside):,} of {len(self.head):,} samples are in {clusters:,} clusters with another sample of HEAD, "
            f"{len(equal):,} have the pixels of another."
        )
        return Result(
            rule.name,
            rule.kind,
            measures,
            sentence,
            tuple(evidence[:EVIDENCE]),
            self._uncompared([self.head]),
        )

    def leakage(self, rule: LeakageRule) -> Result:
        others = [self._snapshots.get(ref) for ref in rule.against]
        pairs: list[Evidence] = []
        sides = [self.head]
        for other in others:
            if other.name == self._head.name:
                raise ConfigError(
                    f"Rule {rule.name!r} compares {self._head.ref} with {other.ref}: versions of one dataset overlap by "
                    "design. Name the datasets it must not overlap with.",
                    kind="bad_gate_rules",
                )
            members = self._members(other)
            sides.append(members)
            pairs += self._overlap(members, other.ref)
        if rule.splits:
            pairs += self._across_splits()
        leaked = {p.sample_id for p in pairs}
        names = ", ".join([*(o.ref for o in others), *(["another split"] if rule.splits else [])])
        sentence = f"{len(leaked):,} of {len(self.head):,} samples of HEAD overlap with {names}."
        if len(pairs) > EVIDENCE:
            sentence = f"{sentence[:-1]}; the first {EVIDENCE} of {len(pairs):,} pairs are named."
        measure = Measure("overlapping samples", len(leaked), rule.max_overlap)
        evidence = tuple(sorted(pairs, key=lambda p: (p.sample_id, p.note))[:EVIDENCE])
        return Result(rule.name, rule.kind, (measure,), sentence, evidence, self._uncompared(sides))

    def verified(self, rule: Rule, damage: list[str]) -> Result:
        """The result of a `verified` rule that found this damage."""
        whole = f"The rows of {self._head.ref} are all there and give its root {self._head.root[:16]}."
        sentence = f"{self._head.ref} is damaged: {damage[0]}" if damage else whole
        measure = Measure("findings", len(damage), at_most=0)
        return Result(rule.name, rule.kind, (measure,), sentence, findings=tuple(damage[:EVIDENCE]))

    def _overlap(self, other: Members, ref: str) -> list[Evidence]:
        """HEAD's samples that are in `other`, or share a cluster with one of it; the pair with its least id."""
        theirs: dict[str, str] = {}
        for sample_id in other.ids:
            if sample_id in self.clusters:
                theirs.setdefault(self.clusters[sample_id], sample_id)
        found = []
        for sample_id in self.head.ids:
            mate = theirs.get(self.clusters.get(sample_id, ""))
            if sample_id in other.id_set:
                found.append(Evidence(sample_id, f"is in {ref} too:", sample_id))
            elif mate is not None:
                found.append(Evidence(sample_id, f"is a near-duplicate of a sample of {ref}:", mate))
        return found

    def _across_splits(self) -> list[Evidence]:
        """HEAD's samples that share a cluster, as clusters are now, with one of another split; the pair with its least id."""
        splits = self._snapshots.splits(self._head).assign(self.head.ids)
        first: dict[tuple[str, str], str] = {}
        of_cluster: dict[str, set[str]] = {}
        for sample_id, split in zip(self.head.ids, splits, strict=True):
            if (cluster := self.clusters.get(sample_id)) is not None:
                first.setdefault((cluster, split), sample_id)
                of_cluster.setdefault(cluster, set()).add(split)
        found = []
        for sample_id, split in zip(self.head.ids, splits, strict=True):
            cluster = self.clusters.get(sample_id, "")
            for other in sorted(of_cluster.get(cluster, set()) - {split}):
                note = f"of {split} is a near-duplicate of a sample of {other}:"
                found.append(Evidence(sample_id, note, first[cluster, other]))
        return found

    def _uncompared(self, sides: list[Members]) -> tuple[str, ...]:
        """A sentence when some of these samples were never compared: then an overlap of theirs is not known."""
        step = recorded_step(self._head, "near_duplicates")
        lacking = sum(len(side) - side.compared(step) for side in sides)
        if not lacking:
            return ()
        return (
            f"{lacking:,} samples were never compared under the near-duplicates step {step.key} that {self._head.ref} "
            "records: `refinery run` compares them; then freeze again.",
        )

    @cached_property
    def base(self) -> Members:
        return self._members(self._base)

    @cached_property
    def head(self) -> Members:
        return self._members(self._head)

    @cached_property
    def clusters(self) -> dict[str, str]:
        """The cluster of each sample of the store that is in one, under the step that HEAD records."""
        table = read_clusters(self._store, recorded_step(self._head, "near_duplicates"))
        return dict(zip(table["sample_id"].to_pylist(), table["cluster"].to_pylist(), strict=True))

    def _members(self, snapshot: Snapshot) -> Members:
        then = self._ledger.view(self._head.ledger_offset)
        return Members(self._snapshots.rows(snapshot), FactStore(self._store), self._inspect, then)

    @cached_property
    def _inspect(self) -> Step:
        return recorded_step(self._head, "inspect")

    def _embed_step(self, space: str) -> Step:
        return recorded_step(self._head, "embed") if space == "default" else self._space(space)


def _not_judged(rule: Rule, head: Snapshot) -> Result:
    return Result(
        rule.name, rule.kind, (), f"Not judged, because {head.ref} is damaged.", findings=("Not judged.",)
    )


def _labels(value: object) -> list[str]:
    """What a sample counts under: its value, each of a list's values once, nothing when it has none."""
    if value is None:
        return []
    return sorted({label(v) for v in value}) if isinstance(value, list) else [label(value)]


def _shares(values: list[object]) -> dict[str, float]:
    """The share of the samples that have each value, among all samples."""
    counts = Counter(name for value in values for name in _labels(value))
    return {name: rounded(n / len(values)) for name, n in counts.items()}
