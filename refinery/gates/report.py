"""What a gate found, and the Markdown report of it. The same findings give the same bytes: no clock is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from refinery.markdown import escape
from refinery.snapshots import Snapshot

EVIDENCE = 20
"""The most samples that a result names."""


def rounded(value: float) -> float:
    """A number to six significant digits: what is compared with a bound and what is printed, alike on every machine."""
    return float(f"{value:.6g}")


@dataclass(frozen=True, slots=True)
class Measure:
    """One number and its bound. `value` None is what could not be measured, which no bound lets pass."""

    name: str
    value: float | None
    at_most: float | None = None
    at_least: float | None = None

    @property
    def bound(self) -> str:
        """The bound as text: `≤ 0.1`, `≥ 5`, or empty when there is none."""
        parts = ((sign, limit) for sign, limit in (("≥", self.at_least), ("≤", self.at_most)))
        return " and ".join(f"{sign} {_number(limit)}" for sign, limit in parts if limit is not None)

    @property
    def passed(self) -> bool:
        if self.at_most is None and self.at_least is None:
            return True
        return (
            self.value is not None
            and (self.at_most is None or self.value <= self.at_most)
            and (self.at_least is None or self.value >= self.at_least)
        )

    @property
    def text(self) -> str:
        return "not measured" if self.value is None else _number(self.value)

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "value": self.value, "bound": self.bound, "passed": self.passed}


@dataclass(frozen=True, slots=True)
class Evidence:
    """A sample of HEAD that a finding rests on; `other` is the id of the sample it was found with, if any."""

    sample_id: str
    note: str
    other: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What one rule found. `findings` are sentences of things that fail it whatever its bounds are."""

    rule: str
    kind: str
    measures: tuple[Measure, ...]
    sentence: str
    evidence: tuple[Evidence, ...] = ()
    findings: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.findings and all(m.passed for m in self.measures)

    @property
    def said(self) -> str:
        """The sentence, and the first finding when the sentence does not hold it already."""
        return " ".join([self.sentence, *(f for f in self.findings[:1] if f not in self.sentence)])

    def to_json(self) -> dict[str, Any]:
        return {
            "rule": self.rule,
            "kind": self.kind,
            "passed": self.passed,
            "measures": [m.to_json() for m in self.measures],
            "sentence": self.sentence,
            "findings": list(self.findings),
            "evidence": [asdict(e) for e in self.evidence],
        }


@dataclass(frozen=True, slots=True)
class GateReport:
    """What every rule found about the step from `base` to `head`. `rules` is the digest of the rules, `clusters` the root
    of the near-duplicate clusters they were judged with (None when no rule asked for them)."""

    base: Snapshot
    head: Snapshot
    rules: str
    clusters: str | None
    results: tuple[Result, ...]

    @property
    def passed(self) -> bool:
        return all(r.passed for r in self.results)

    @property
    def failed(self) -> list[str]:
        """The names of the rules that failed."""
        return [r.rule for r in self.results if not r.passed]

    @property
    def summary(self) -> str:
        """One sentence: which step, and how many rules passed or which failed."""
        step = f"{self.base.ref} → {self.head.ref}"
        if self.passed:
            return f"{step} passed all {len(self.results)} rules."
        found = " ".join(f"{r.rule}: {r.said}" for r in self.results if not r.passed)
        return f"{step} failed {len(self.failed)} of {len(self.results)} rules. {found}"

    def to_json(self) -> dict[str, Any]:
        sides = {
            name: {"ref": s.ref, "root": s.root, "count": s.count}
            for name, s in (("base", self.base), ("head", self.head))
        }
        return {
            **sides,
            "rules": self.rules,
            "clusters": self.clusters,
            "passed": self.passed,
            "failed": self.failed,
            "results": [r.to_json() for r in self.results],
        }

    def markdown(self) -> str:
        """The report as Markdown; every text that comes from data is escaped."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        verdict = "passed" if self.passed else f"failed: {len(self.failed)} of {len(self.results)} rules"
        yield f"# Gate {verdict}"
        yield ""
        for name, snapshot in (("BASE", self.base), ("HEAD", self.head)):
            yield f"- {name} `{snapshot.ref}`: {snapshot.count:,} samples, root `{snapshot.root}`"
        yield f"- rules `{self.rules}`"
        if self.clusters is not None:
            yield f"- near-duplicate clusters `{self.clusters or 'none yet'}`"
        yield ""
        yield "| | rule | kind | measure | value | bound |"
        yield "| --- | --- | --- | --- | --- | --- |"
        for result in self.results:
            for measure in result.measures or (Measure("–", None),):
                passed = measure.passed and (bool(result.measures) or result.passed)
                value = measure.text if result.measures else ""
                cells = (
                    _verdict(passed),
                    f"`{result.rule}`",
                    result.kind,
                    escape(measure.name),
                    value,
                    measure.bound,
                )
                yield f"| {' | '.join(cells)} |"
        for result in self.results:
            yield ""
            yield f"## `{result.rule}` {_verdict(result.passed)}"
            yield ""
            yield escape(result.sentence)
            yield from ("", *(f"- {escape(f)}" for f in result.findings)) if result.findings else ()
            yield from ("", *(_evidence(e) for e in result.evidence)) if result.evidence else ()


def _evidence(found: Evidence) -> str:
    other = f" `{found.other}`" if found.other else ""
    return f"- `{found.sample_id}` {escape(found.note)}{other}"


def _verdict(passed: bool) -> str:
    return "passed" if passed else "**failed**"


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"
