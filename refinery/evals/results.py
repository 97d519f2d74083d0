"""Eval results and feedback as fields of documents: what stands in the ledger, seen flat.

The newest standing result of the metric `probe/loss` is the field `eval_probe_loss`; how often the feedback `down` stands is
`feedback_down`. They are fields as soon as somebody registers them, and no attributes of the sample: they enter documents,
so that filters, policies, search and explain speak of them, and neither the rows of states and snapshots nor shards.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from refinery.ledger import EventType, LedgerView

TYPES = frozenset({EventType.EVAL, EventType.FEEDBACK})
_EVAL, _FEEDBACK = "eval_", "feedback_"
_APART = re.compile(r"[^a-z0-9]+")


def eval_field(metric: str) -> str:
    """The field that holds the newest result of a metric."""
    return _EVAL + _APART.sub("_", metric.lower()).strip("_")


def feedback_field(kind: str) -> str:
    """The field that counts feedback of a kind."""
    return _FEEDBACK + kind


def is_result(name: str) -> bool:
    """Whether a field of this name holds eval results or counts feedback."""
    return name.startswith((_EVAL, _FEEDBACK))


def results(view: LedgerView, sample_id: str) -> dict[str, Any]:
    """What evals and feedback say of a sample, by field name; a later result of a metric replaces an earlier one."""
    if not any(event.type in TYPES for event in view.history(sample_id)):
        return {}
    found: dict[str, Any] = {eval_field(str(e.kind)): e.value for e in view.evals(sample_id)}
    return found | Counter(feedback_field(str(e.kind)) for e in view.feedback(sample_id))
