"""The verdict function: precedence, reasons, and who is kept of near-duplicates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from refinery.errors import ConfigError
from refinery.fields import Field, Fields, FieldType
from refinery.policy import DEFAULT_POLICY, parse_policy, stored_policy
from refinery.verdicts import Inputs, Verdicts, evaluate

FIELDS = Fields([Field("score", FieldType.NUMBER)])
POLICY = parse_policy(
    """
requires: [inspect, near_duplicates]
rules:
  - {name: too_small, hold: "min_side < 64"}
  - {name: low_score, hold: "score < 0.5"}
  - {name: near_duplicate, hold: "near_duplicate"}
""",
    FIELDS,
)
GOOD: dict[str, Any] = {
    "width": 100,
    "height": 100,
    "min_side": 100,
    "bytes": 10,
    "score": 0.9,
    "failure": None,
    "cluster": None,
}


def judge(*samples: dict[str, Any]) -> Verdicts:
    rows = [{**GOOD, "sample_id": f"{i:064x}", **s} for i, s in enumerate(samples)]
    schema = FIELDS.schema()
    lists = {f.name for f in schema if pa.types.is_list(f.type)}
    full = [{f.name: row.get(f.name, [] if f.name in lists else None) for f in schema} for row in rows]

    def marked(name: str) -> Any:
        return np.array([s.get(name, False) for s in samples], bool)

    documents = pa.Table.from_pylist(full, schema=schema)
    return evaluate(
        Inputs(documents, marked("blocked"), marked("kept"), marked("rejected"), marked("missing")), POLICY
    )


@pytest.mark.parametrize(
    ("sample", "verdict", "reasons"),
    [
        ({}, "gold", []),
        ({"min_side": 10}, "held", ["too_small"]),
        ({"min_side": 10, "score": 0.1}, "held", ["too_small", "low_score"]),
        ({"score": None}, "gold", []),
        ({"rejected": True}, "held", ["rejected"]),
        ({"min_side": 10, "kept": True}, "gold", []),
        ({"kept": True, "blocked": True}, "held", ["blocked"]),
        ({"kept": True, "failure": "truncated"}, "held", ["truncated"]),
        ({"missing": True}, "pending", []),
        ({"missing": True, "blocked": True}, "held", ["blocked"]),
        ({"missing": True, "failure": "empty"}, "held", ["empty"]),
    ],
)
def test_precedence_is_blocked_then_failure_then_missing_then_person_then_rules(
    sample: dict[str, Any], verdict: str, reasons: list[str]
) -> None:
    found = judge(sample)
    assert (found.verdict[0], found.reasons[0]) == (verdict, reasons)


def test_of_near_duplicates_the_one_with_most_pixels_is_kept() -> None:
    found = judge({"cluster": "c"}, {"cluster": "c", "width": 300}, {"cluster": None})
    assert list(found.verdict) == ["held", "gold", "gold"]
    assert found.reasons[0] == ["near_duplicate"]


def test_a_sample_that_a_rule_holds_is_never_the_kept_one() -> None:
    found = judge({"cluster": "c"}, {"cluster": "c", "width": 300, "score": 0.1})
    assert list(found.verdict) == ["gold", "held"]


def test_a_person_keeps_a_near_duplicate_and_the_rest_of_the_cluster_gives_way() -> None:
    found = judge({"cluster": "c", "kept": True}, {"cluster": "c", "width": 300})
    assert list(found.verdict) == ["gold", "held"]


def test_a_pending_sample_does_not_hold_back_its_near_duplicates() -> None:
    found = judge({"cluster": "c"}, {"cluster": "c", "width": 300, "missing": True})
    assert list(found.verdict) == ["gold", "pending"]


def test_the_digest_of_a_policy_does_not_depend_on_comments_or_layout() -> None:
    commented = parse_policy(
        "# a comment\n" + DEFAULT_POLICY.replace('{name: blurry, hold: "', '{name:   blurry, hold: "'), FIELDS
    )
    assert commented.digest == parse_policy(DEFAULT_POLICY, FIELDS).digest
    assert stored_policy(commented.body, FIELDS).digest == commented.digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rules: [{name: a, hold: 'sharpnes < 1'}]", "Did you mean 'sharpness'"),
        ("rules: [{name: a, hold: \"verdict = 'gold'\"}]", "reads verdict"),
        ("rules: [{name: a, hold: near_duplicate}]", "add near_duplicates"),
        ("rules: [{name: a, hold: 'bytes > 1'}, {name: a, hold: 'bytes > 2'}]", "two rules"),
        ("rulez: []", "Did you mean 'rules'"),
        ("rules: [{name: A B, hold: 'bytes > 1'}]", "rules.0.name"),
        ("a: [", "not YAML"),
    ],
)
def test_a_wrong_policy_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_policy(text, FIELDS)
