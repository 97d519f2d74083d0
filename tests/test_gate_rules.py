"""Gate rules: what is wrong with a file is said with the rule's name; the examples of the docs are right."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refinery.errors import ConfigError
from refinery.fields import Field, Fields, FieldType
from refinery.gates import statistics
from refinery.gates.rules import KINDS, GateRules, load_rules, parse_rules

DOCS = Path(__file__).resolve().parent.parent / "docs/gates.md"
FIELDS = Fields([Field("licence", FieldType.STRING), Field("labels", FieldType.STRING_LIST)])
NUMBERS = st.lists(st.integers(0, 20).map(float), min_size=1, max_size=40)


def parse(rule: str) -> GateRules:
    return parse_rules(f"rules: [{{name: mine, {rule}}}]", FIELDS, ["default"], "gate.yaml")


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("kind: sise, min: 1", "unknown kind 'sise'.*Did you mean 'size'"),
        ("min: 1", "it has no kind; there are size, balance"),
        ("kind: size, max_shrnk: 1", "unknown key 'max_shrnk'.*Did you mean 'max_shrink'"),
        ("kind: size", "bounds nothing; give at least one of min, max, max_shrink, max_growth"),
        ("kind: size, max_shrink: 2", "max_shrink.*less than or equal to 1"),
        ("kind: size, min: -1", "min.*greater than or equal to 0"),
        ("kind: balance, field: licnece, max_share: 1", "no field 'licnece'.*Did you mean 'licence'"),
        ("kind: balance, field: sharpness, max_share: 1", "is a number.*use kind drift"),
        ("kind: balance, field: flags, max_share: 1", "'flags' is not frozen in snapshots"),
        ("kind: balance, field: licence, min_share: {}", "bounds nothing"),
        ("kind: duplicates", "bounds nothing"),
        ("kind: leakage, against: []", "against"),
        ("kind: drift, max_ks: 0.1", "either a `field` or an embedding `space`"),
        ("kind: drift, field: width, space: default, max_ks: 1", "either a `field` or"),
        ("kind: drift, space: defualt, max_mmd: 1", "no embedding space 'defualt'.*Did you mean 'default'"),
        ("kind: drift, field: licence, max_ks: 0.1", "max_ks cannot bound field 'licence'.*max_total_var"),
        ("kind: drift, field: width, max_mmd: 0.1", "max_mmd cannot bound field 'width' .integer."),
        ("kind: drift, field: labels, max_missing: 0.1", "string_list, which has no drift; use kind balance"),
    ],
)
def test_a_wrong_rule_is_refused_by_its_name(rule: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"gate.yaml: rule 'mine'.*{said}"):
        parse(rule)


@pytest.mark.parametrize("text", ["", "rules: []", "rule: 1", "[]", "rules: [1]", "{"])
def test_a_file_without_a_rule_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_rules(text, FIELDS, ["default"])


def test_two_rules_of_one_name_and_a_file_that_is_not_there_are_refused(tmp_path: Path) -> None:
    two = "rules: [{name: a, kind: verified}, {name: a, kind: verified}]"
    with pytest.raises(ConfigError, match="another rule has the same name"):
        parse_rules(two, FIELDS, ["default"])
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        load_rules(tmp_path / "none.yaml", FIELDS, ["default"])
    assert caught.value.kind == "no_gate_rules"


def test_comments_do_not_count_in_the_digest_and_bounds_do() -> None:
    one = parse_rules("rules:\n- {name: a, kind: size, min: 1}", FIELDS, [])
    same = parse_rules("# why\nrules: [{kind: size, min: 1, name: a}]", FIELDS, [])
    other = parse_rules("rules: [{kind: size, min: 2, name: a}]", FIELDS, [])
    assert one.digest == same.digest != other.digest


def test_the_examples_of_the_docs_are_right_and_show_every_kind() -> None:
    examples = re.findall(r"```yaml\n(rules:.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    kinds = {rule.kind for text in examples for rule in parse_rules(text, FIELDS, ["default"]).rules}
    assert kinds == set(KINDS)
    text = DOCS.read_text(encoding="utf-8")
    for model in KINDS.values():
        for key in model.model_fields:
            assert f"`{key}`" in text, key


def by_counting(base: list[float], head: list[float]) -> float:
    """Kolmogorov and Smirnov's statistic from its definition."""
    return max(
        abs(sum(v <= x for v in base) / len(base) - sum(v <= x for v in head) / len(head))
        for x in {*base, *head}
    )


@given(NUMBERS, NUMBERS)
def test_ks_is_the_largest_gap_of_the_distribution_functions(base: list[float], head: list[float]) -> None:
    found = statistics.kolmogorov_smirnov(np.array(base), np.array(head))
    assert found == pytest.approx(by_counting(base, head))


def test_psi_is_the_sum_over_bins_worked_out_by_hand() -> None:
    base, head = np.arange(1.0, 9.0), np.array([1.0, 2, 3, 3, 3, 4, 9, 0])
    # cut at 1, 4.5 and just above 8: [below, 1 to 4.5, 4.5 to 8, above] holds 0 4 4 0 and 1 6 0 1
    b = [c / 10 for c in (0.5, 4.5, 4.5, 0.5)]
    h = [c / 10 for c in (1.5, 6.5, 0.5, 1.5)]
    expected = sum((y - x) * math.log(y / x) for x, y in zip(b, h, strict=True))
    assert statistics.population_stability_index(base, head, bins=2) == pytest.approx(expected)
    assert statistics.population_stability_index(base, base) == 0


@given(NUMBERS, NUMBERS)
def test_psi_is_never_negative_and_nought_for_the_same(base: list[float], head: list[float]) -> None:
    assert statistics.population_stability_index(np.array(base), np.array(head)) >= 0
    assert statistics.population_stability_index(np.array(base), np.array(base)) == 0


def test_total_variation_is_half_the_sum_of_the_differences() -> None:
    base, head = statistics.shares(["a", "a", "b", None]), statistics.shares(["a", "c"])
    assert base == {"a": 0.5, None: 0.25, "b": 0.25}
    assert statistics.total_variation(base, head) == 0.5
    assert statistics.total_variation(statistics.shares(["a"]), statistics.shares(["b"])) == 1


def test_mean_discrepancy_and_cosine_agree_with_sums_over_all_pairs() -> None:
    random = np.random.default_rng(0)
    base, head = random.normal(size=(7, 3)), random.normal(1, size=(1030, 3))  # more rows than one block has

    def mean(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.mean([np.exp(-(((a - y) ** 2).sum(axis=1)) / 2) for a in x]))

    expected = math.sqrt(mean(base, base) + mean(head, head) - 2 * mean(base, head))
    assert statistics.maximum_mean_discrepancy(base, head) == pytest.approx(expected)
    assert statistics.maximum_mean_discrepancy(head, head) == 0
    east, north = np.array([[1.0, 0]]), np.array([[0, 1.0]])
    assert statistics.cosine_of_means(east, north) == 1
    assert statistics.cosine_of_means(east, -east) == 2
    assert statistics.cosine_of_means(east, np.array([[1.0, 1], [1, -1]])) == 0


def test_the_choice_of_samples_depends_on_id_and_seed_alone() -> None:
    ids = [f"{n:064x}" for n in range(100)]
    few = statistics.chosen(ids, 10, 0)
    assert few == sorted(few) == statistics.chosen(ids[::-1], 10, 0)
    assert few != statistics.chosen(ids, 10, 1)
    assert set(few) <= set(statistics.chosen(ids, 20, 0))
    assert statistics.chosen([i for i in ids if i not in few[:3]], 7, 0)[:7] == few[3:]
    assert statistics.chosen(ids, 100, 0) == ids
