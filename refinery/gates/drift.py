"""The rules of kind drift: how far HEAD has moved from BASE in one field or one embedding space."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from refinery.facts import Step
from refinery.fields import Field
from refinery.gates import statistics
from refinery.gates.members import Members
from refinery.gates.report import EVIDENCE, Evidence, Measure, Result, rounded
from refinery.gates.rules import NUMERIC, DriftRule, label


def judge_drift(
    rule: DriftRule, base: Members, head: Members, field: Field | None, step: Step | None
) -> Result:
    """Judge drift of `field`, or of the vectors of `step`, both sides measured by the same steps."""
    if field is None:
        assert step is not None
        return _space(rule, base, head, step)
    before, after = base.values(field), head.values(field)
    missing = Measure("missing", _missing(after), rule.max_missing)
    return (_numbers if field.type in NUMERIC else _categories)(rule, before, after, head.ids, missing)


def _numbers(
    rule: DriftRule, before: list[Any], after: list[Any], ids: list[str], missing: Measure
) -> Result:
    b, h = (np.array([v for v in side if v is not None], np.float64) for side in (before, after))
    measurable = len(b) > 0 and len(h) > 0

    def value(measure: Callable[[], float]) -> float | None:
        return rounded(measure()) if measurable else None

    measures = (
        Measure("KS", value(lambda: statistics.kolmogorov_smirnov(b, h)), rule.max_ks),
        Measure("PSI", value(lambda: statistics.population_stability_index(b, h, rule.bins)), rule.max_psi),
        missing,
    )
    if not measurable:
        return _unmeasured(rule, f"field {rule.field!r}", len(b), len(h), measures)
    medians = f"{rounded(float(np.median(b))):g} → {rounded(float(np.median(h))):g}"
    outside = [
        Evidence(
            i, f"{rule.field} {rounded(v):g}, outside BASE's {rounded(b.min()):g} to {rounded(b.max()):g}"
        )
        for i, v in zip(ids, after, strict=True)
        if v is not None and not b.min() <= v <= b.max()
    ]
    sentence = (
        f"The median of {rule.field} went {medians} (KS {measures[0].text}, PSI {measures[1].text}; {len(b):,} values in "
        f"BASE, {len(h):,} in HEAD)."
    )
    return Result(rule.name, rule.kind, measures, sentence, _on_failure(measures, outside))


def _categories(
    rule: DriftRule, before: list[Any], after: list[Any], ids: list[str], missing: Measure
) -> Result:
    if not before or not after:
        measures: tuple[Measure, ...] = (
            Measure("total variation", None, rule.max_total_variation),
            missing,
        )
        return _unmeasured(rule, f"field {rule.field!r}", len(before), len(after), measures)
    b, h = statistics.shares(before), statistics.shares(after)
    distance = rounded(statistics.total_variation(b, h))
    measures = (Measure("total variation", distance, rule.max_total_variation), missing)
    grown = max(sorted({*b, *h}, key=str), key=lambda v: h.get(v, 0) - b.get(v, 0))
    shift = f"{rounded(b.get(grown, 0)):.2%} → {rounded(h.get(grown, 0)):.2%}"
    name = "no value" if grown is None else repr(label(grown))
    evidence = [Evidence(i, f"{rule.field} {name}") for i, v in zip(ids, after, strict=True) if v == grown]
    sentence = (
        f"{rule.field} is {measures[0].text} away in total variation; {name} grew most, {shift}."
        if distance
        else f"{rule.field} is distributed as in BASE."
    )
    return Result(rule.name, rule.kind, measures, sentence, _on_failure(measures, evidence))


def _space(rule: DriftRule, base: Members, head: Members, step: Step) -> Result:
    picked = [statistics.chosen(side.ids, rule.at_most, rule.seed) for side in (base, head)]
    (_, b), (ids, h) = (side.vectors(step, p) for side, p in zip((base, head), picked, strict=True))
    missing = Measure("missing", rounded(1 - len(h) / len(picked[1])) if picked[1] else 0.0, rule.max_missing)
    measurable = len(b) > 0 and len(h) > 0
    cosine = rounded(max(0.0, statistics.cosine_of_means(b, h))) if measurable else None
    mmd = rounded(statistics.maximum_mean_discrepancy(b, h)) if measurable else None
    measures = (
        Measure("cosine of means", _settled(cosine), rule.max_cosine),
        Measure("MMD", _settled(mmd), rule.max_mmd),
        missing,
    )
    if not measurable:
        return _unmeasured(rule, f"embedding space {rule.space!r}", len(b), len(h), measures)
    alike = h @ b.mean(axis=0)
    order = sorted(range(len(ids)), key=lambda n: (rounded(float(alike[n])), ids[n]))
    evidence = [Evidence(ids[n], "among the least like BASE's mean vector") for n in order]
    sentence = (
        f"Mean vectors of space {rule.space!r} are {measures[0].text} apart in cosine, the distributions {measures[1].text} "
        f"in MMD ({len(b):,} vectors of BASE, {len(h):,} of HEAD, embed step {step.key})."
    )
    return Result(rule.name, rule.kind, measures, sentence, _on_failure(measures, evidence))


def _unmeasured(rule: DriftRule, what: str, base: int, head: int, measures: tuple[Measure, ...]) -> Result:
    found = f"{what} has {base:,} values in BASE and {head:,} in HEAD: there is nothing to compare."
    return Result(
        rule.name,
        rule.kind,
        measures,
        found[0].upper() + found[1:],
        findings=(f"{rule.name} cannot be judged.",),
    )


def _on_failure(measures: tuple[Measure, ...], evidence: list[Evidence]) -> tuple[Evidence, ...]:
    return () if all(m.passed for m in measures) else tuple(evidence[:EVIDENCE])


def _missing(values: list[Any]) -> float:
    return rounded(sum(v is None for v in values) / len(values)) if values else 0.0


def _settled(value: float | None) -> float | None:
    """A distance whose last digits are the noise of floating-point sums, without them."""
    return None if value is None else round(value, 6)
