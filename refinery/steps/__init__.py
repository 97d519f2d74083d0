"""The steps of silver: pure per-sample computations whose results are facts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class StepReport:
    """What one run of a step over one batch did: `samples` = `computed` + `reused` + `skipped`.

    `reused` had their fact already, `skipped` are not for this step (their inspection failed),
    `failed` counts the computed failures by reason. `seconds` is wall time.
    """

    step: str
    step_key: str
    batch: str
    samples: int
    computed: int
    reused: int
    skipped: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Samples computed per second."""
        return self.computed / self.seconds if self.seconds > 0 else 0.0

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object, `rate` included."""
        return {**asdict(self), "rate": round(self.rate, 2)}
