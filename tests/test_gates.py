"""Gates: each kind of rule measures what it says, lets pass what is within its bounds, and names what is not."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from refinery.errors import ConfigError, CorruptionError, InputError
from refinery.facts import Step
from refinery.gates import Gate, GateReport, Result, parse_rules
from refinery.ledger import Actor, ActorKind, Event, EventType
from refinery.snapshots import Snapshot, Snapshots
from refinery.store.local import LocalStore
from tests.synthetic import Sample, Synthetic

ANA = Actor(ActorKind.PERSON, "ana")
ATTRIBUTES = {"licence": "string", "score": "number", "labels": "string_list", "taken": "date"}


class Project(Synthetic):
    """A synthetic project that freezes exactly the samples one names."""

    def __init__(self, store: LocalStore) -> None:
        super().__init__(store)
        self.snapshots = Snapshots(store)
        self.ledger.append(
            Event(EventType.FIELD, ANA, kind=name, value={"type": kind, "description": ""})
            for name, kind in ATTRIBUTES.items()
        )
        self.policy = self.parse("name: all\nrequires: [inspect]\nrules: []\n")

    def add(self, samples: Sequence[Sample]) -> None:
        self.compute(self.land(samples), samples)

    def freeze(self, name: str, samples: Sequence[Sample], **recorded: Any) -> Snapshot:
        self.replayer.replay(self.policy)
        wanted = pa.array([s.id for s in samples], pa.string())
        frozen, _ = self.freeze_state(
            self.snapshots, name, lambda rows: rows.filter(pc.is_in(rows["sample_id"], wanted)), **recorded
        )
        assert frozen.count == len(samples)
        return frozen

    def gate(self, base: Snapshot, head: Snapshot, *rules: dict[str, Any]) -> GateReport:
        found = parse_rules(json.dumps({"rules": rules}), self.fields, self.steps.embed)
        return Gate(self.store, self.ledger, self.snapshots, self.fields, self.space).judge(base, head, found)

    def space(self, name: str) -> Step:
        return self.steps.embed[name]

    def judge(self, base: Snapshot, head: Snapshot, kind: str, **bounds: Any) -> Result:
        [result] = self.gate(base, head, {"name": "asked", "kind": kind, **bounds}).results
        return result


def made(n: int, start: int = 0, **values: Any) -> list[Sample]:
    return [Sample(start + i, **values) for i in range(n)]


def measured(result: Result) -> dict[str, float | None]:
    return {m.name: m.value for m in result.measures}


@pytest.fixture
def project(store: LocalStore) -> Project:
    return Project(store)


def test_size_is_bounded_from_below_above_and_by_the_step(project: Project) -> None:
    samples = made(10)
    project.add(samples)
    ten, eight = project.freeze("set", samples), project.freeze("set", samples[:8])
    found = project.judge(ten, eight, "size", min=8, max=8, max_shrink=0.2, max_growth=0)
    assert found.passed
    assert measured(found) == {"samples": 8, "shrink": 0.2, "growth": 0}
    assert found.sentence == "8 samples in HEAD, 10 in BASE (-20.00%)."
    for bound in ({"min": 9}, {"max": 7}, {"max_shrink": 0.19}):
        assert not project.judge(ten, eight, "size", **bound).passed, bound
    assert project.judge(eight, ten, "size", max_growth=0.25, max_shrink=0).passed
    assert not project.judge(eight, ten, "size", max_growth=0.24).passed


def test_growth_from_nothing_is_within_no_bound(project: Project) -> None:
    samples = made(2)
    project.add(samples)
    none, two = project.freeze("none", []), project.freeze("two", samples)
    found = project.judge(none, two, "size", max_growth=100)
    assert (found.passed, measured(found)["growth"]) == (False, None)
    assert project.judge(none, none, "size", max_growth=0, max_shrink=0).passed


def test_results_of_evals_and_feedback_are_measured_as_they_stood_at_heads_offset(project: Project) -> None:
    for name, kind in (("eval_probe_loss", "number"), ("feedback_down", "integer")):
        value = {"type": kind, "description": ""}
        project.ledger.append([Event(EventType.FIELD, ANA, kind=name, value=value)])
    samples = made(8)
    project.add(samples)
    base = project.freeze("set", samples[:4])
    probe, user = Actor(ActorKind.EVAL, "probe"), Actor(ActorKind.USER, "app")
    results = project.ledger.append(
        Event(EventType.EVAL, probe, s.id, "probe/loss", value=float(n)) for n, s in enumerate(samples)
    )
    project.ledger.append(Event(EventType.FEEDBACK, user, s.id, "down") for s in [samples[7]] * 2)
    head = project.freeze("set", samples)
    found = project.judge(base, head, "drift", field="eval_probe_loss", max_ks=0.5, max_missing=0)
    assert found.passed
    assert (measured(found)["KS"], measured(found)["missing"]) == (0.5, 0.0)
    assert not project.judge(base, head, "drift", field="eval_probe_loss", max_ks=0.49).passed
    shares = project.judge(base, head, "balance", field="feedback_down", max_share=0.1)
    assert (shares.passed, [e.sample_id for e in shares.evidence]) == (False, [samples[7].id])
    project.ledger.undo(results, ANA)
    again = project.judge(base, head, "drift", field="eval_probe_loss", max_ks=0.5, max_missing=0)
    assert again == found, "what is said after HEAD does not count"
    later = project.freeze("set", samples[:7])
    gone = project.judge(base, later, "drift", field="eval_probe_loss", max_ks=1)
    assert not gone.passed


def test_balance_bounds_shares_and_their_shift_and_names_the_value(project: Project) -> None:
    cc0, by = (made(6, 0, attributes={"licence": "cc0"}), made(6, 10, attributes={"licence": "cc-by"}))
    project.add([*cc0, *by])
    base, head = project.freeze("set", [*cc0[:4], *by[:4]]), project.freeze("set", [*cc0, *by[:2]])
    bounds = {"max_share": 0.75, "min_share": {"cc-by": 0.25}, "max_shift": 0.25}
    found = project.judge(base, head, "balance", field="licence", **bounds)
    assert found.passed
    assert measured(found) == {"largest share": 0.75, "share of cc-by": 0.25, "largest shift": 0.25}
    assert "'cc0' has the largest share of licence, 75.00%" in found.sentence
    assert found.evidence == ()
    for bound in ({"max_share": 0.74}, {"max_shift": 0.24}):
        failed = project.judge(base, head, "balance", field="licence", **bound)
        assert not failed.passed, bound
    only = project.judge(base, head, "balance", field="licence", max_share=0.7)
    assert {e.sample_id for e in only.evidence} == {s.id for s in cc0}
    assert not project.judge(base, head, "balance", field="licence", min_share={"cc-by": 0.26}).passed
    assert not project.judge(base, head, "balance", field="licence", min_share={"gone": 0.01}).passed


def test_balance_counts_a_sample_under_each_of_its_labels_and_booleans_as_yaml_writes_them(
    project: Project,
) -> None:
    samples = [*made(3, 0, attributes={"labels": ["cat", "cat", "dog"]}), *made(1, 9)]
    project.add(samples)
    head = project.freeze("set", samples)
    found = project.judge(head, head, "balance", field="labels", min_share={"dog": 0.75}, max_share=0.75)
    assert found.passed
    assert measured(found) == {"largest share": 0.75, "share of dog": 0.75}
    text = "rules: [{name: opaque, kind: balance, field: has_alpha, min_share: {false: 1}}]"
    rules = parse_rules(text, project.fields, project.steps.embed)
    gate = Gate(project.store, project.ledger, project.snapshots, project.fields, project.space)
    [alpha] = gate.judge(head, head, rules).results
    assert measured(alpha) == {"share of false": 1.0}


def test_duplicates_are_counted_within_head_alone(project: Project) -> None:
    pair, same = made(2, 0, look=1), made(2, 10, pixels=5)
    lone = [Sample(20, look=2), Sample(21, look=2), *made(4, 30)]
    project.add([*pair, *same, *lone])
    head = project.freeze("set", [*pair, *same, lone[0], *lone[2:]])  # lone[1], its mate, is outside
    found = project.judge(head, head, "duplicates", max_rate=0.45, max_equal_pixels=2)
    assert found.passed
    assert measured(found) == {"near-duplicate rate": 0.444444, "samples with equal pixels": 2}
    assert {e.sample_id for e in found.evidence} == {s.id for s in (*pair, *same)}
    assert "4 of 9 samples are in 2 clusters" in found.sentence
    assert not project.judge(head, head, "duplicates", max_rate=0.44).passed
    assert not project.judge(head, head, "duplicates", max_equal_pixels=1).passed


def test_a_planted_leak_is_found_and_both_sides_are_named(project: Project) -> None:
    train, evals = made(5), made(3, 10)
    twin, copy = Sample(20, look=1), Sample(21, look=1)
    project.add([*train, *evals, twin, copy])
    head = project.freeze("train", [*train, twin])
    clean, leaky = project.freeze("clean", evals), project.freeze("leaky", [*evals, copy, train[0]])
    assert project.judge(head, head, "leakage", against=["clean"]).passed
    found = project.judge(head, head, "leakage", against=["clean@1", "leaky"])
    assert not found.passed
    assert measured(found) == {"overlapping samples": 2}
    assert {(e.sample_id, e.note, e.other) for e in found.evidence} == {
        (train[0].id, "is in leaky@1 too:", train[0].id),
        (twin.id, "is a near-duplicate of a sample of leaky@1:", copy.id),
    }
    assert found.sentence == f"2 of 6 samples of HEAD overlap with {clean.ref}, {leaky.ref}."
    assert project.judge(head, head, "leakage", against=["leaky"], max_overlap=2).passed
    assert not project.judge(head, head, "leakage", against=["leaky"], max_overlap=1).passed
    report = project.gate(head, head, {"name": "clean", "kind": "leakage", "against": ["leaky"]}).markdown()
    assert twin.id in report
    assert copy.id in report


def test_a_long_list_of_leaks_is_cut_and_says_so(project: Project) -> None:
    samples = made(30)
    project.add(samples)
    head, other = project.freeze("train", samples), project.freeze("evals", samples)
    found = project.judge(head, head, "leakage", against=[other.ref])
    assert (measured(found)["overlapping samples"], len(found.evidence)) == (30, 20)
    assert "the first 20 of 30 pairs are named" in found.sentence


def test_samples_that_were_never_compared_fail_what_rests_on_clusters(project: Project) -> None:
    samples = made(3)
    project.add(samples[:2])
    late = project.land(samples[2:])
    head, other = project.freeze("train", samples[:2]), project.freeze("evals", samples[2:])
    found = project.judge(head, head, "leakage", against=["evals"])
    assert not found.passed
    assert "1 samples were never compared" in found.findings[0]
    report = project.gate(head, head, {"name": "no_leak", "kind": "leakage", "against": ["evals"]})
    assert "no_leak: 0 of 2 samples of HEAD overlap with evals@1. 1 samples were" in report.summary
    assert "1 samples were never compared" in report.markdown()
    project.compute(late, samples[2:])
    assert project.judge(head, head, "leakage", against=[other.ref]).passed


def test_leakage_into_an_unknown_snapshot_or_its_own_dataset_is_refused(project: Project) -> None:
    project.add(made(1))
    head = project.freeze("train", made(1))
    with pytest.raises(InputError, match="Did you mean 'train@1'"):
        project.judge(head, head, "leakage", against=["trian@1"])
    with pytest.raises(ConfigError, match=r"'asked'.*versions of one dataset"):
        project.judge(head, head, "leakage", against=["train"])


def test_drift_of_a_fact_is_measured_with_known_numbers(project: Project) -> None:
    sharp, dull = made(10, 0, sharpness=0.75), made(10, 100, sharpness=0.25)
    project.add([*sharp, *dull])
    base, head = project.freeze("set", sharp), project.freeze("set", [*sharp[:5], *dull[:5]])
    assert project.judge(base, base, "drift", field="sharpness", max_ks=0, max_psi=0, max_missing=0).passed
    found = project.judge(base, head, "drift", field="sharpness", max_ks=0.5, max_psi=0.9)
    # below, at and above the only value of BASE are (0, 10, 0) and (5, 5, 0) samples, and half a sample more in each
    psi = (5.5 - 0.5) / 11.5 * math.log(5.5 / 0.5) + (5.5 - 10.5) / 11.5 * math.log(5.5 / 10.5)
    assert measured(found) == {"KS": 0.5, "PSI": pytest.approx(psi, abs=1e-5), "missing": 0}
    assert [m.passed for m in found.measures] == [True, False, True]
    assert {e.sample_id for e in found.evidence} == {s.id for s in dull[:5]}
    assert "The median of sharpness went 0.75 → 0.5" in found.sentence
    assert not project.judge(base, head, "drift", field="sharpness", max_ks=0.49).passed


def test_drift_of_an_attribute_leaves_out_and_reports_samples_without_a_value(project: Project) -> None:
    scored = [Sample(n, attributes={"score": n, "taken": f"2026-01-0{n + 1}"}) for n in range(4)]
    project.add([*scored, *made(4, 10)])
    base, head = project.freeze("set", scored), project.freeze("set", [*scored, *made(4, 10)])
    found = project.judge(base, head, "drift", field="score", max_ks=0, max_missing=0.5)
    assert found.passed
    assert measured(found)["missing"] == 0.5
    assert not project.judge(base, head, "drift", field="score", max_missing=0.49).passed
    assert project.judge(base, head, "drift", field="taken", max_ks=0).passed
    nothing = project.freeze("nothing", made(4, 10))
    unmeasured = project.judge(base, nothing, "drift", field="score", max_missing=1)
    assert (unmeasured.passed, measured(unmeasured)["KS"]) == (False, None)


def test_drift_of_categories_is_their_total_variation(project: Project) -> None:
    cc0, none = made(4, 0, attributes={"licence": "cc0"}), made(4, 10)
    project.add([*cc0, *none])
    base, head = project.freeze("set", [*cc0, *none]), project.freeze("set", [*cc0[:1], *none])
    found = project.judge(base, head, "drift", field="licence", max_total_variation=0.3)
    assert found.passed
    assert measured(found) == {"total variation": 0.3, "missing": 0.8}
    assert "no value grew most, 50.00% → 80.00%" in found.sentence
    failed = project.judge(base, head, "drift", field="licence", max_total_variation=0.29)
    assert {e.sample_id for e in failed.evidence} == {s.id for s in none}


def test_drift_of_embeddings_is_nought_for_the_same_and_large_for_other_samples(project: Project) -> None:
    here, there = made(40), made(40, 100)
    project.add([*here, *there])
    base, head = project.freeze("set", here), project.freeze("set", there)
    same = project.judge(base, base, "drift", space="default", max_cosine=0, max_mmd=0, max_missing=0)
    assert same.passed
    other = project.judge(base, head, "drift", space="default", max_cosine=0.1, max_mmd=0.01)
    assert [m.passed for m in other.measures] == [False, False, True]
    assert len(other.evidence) == 20
    few = project.judge(base, head, "drift", space="default", max_mmd=2, at_most=10)
    assert "10 vectors of BASE, 10 of HEAD" in few.sentence
    again = project.judge(base, head, "drift", space="default", max_mmd=2, at_most=10)
    seeded = project.judge(base, head, "drift", space="default", max_mmd=2, at_most=10, seed=1)
    assert measured(few) == measured(again) != measured(seeded)


def test_a_damaged_head_fails_verified_and_nothing_else_is_judged(project: Project) -> None:
    project.add(made(3))
    head = project.freeze("set", made(3))
    rules = ({"name": "many", "kind": "duplicates", "max_rate": 1}, {"name": "whole", "kind": "verified"})
    whole = project.gate(head, head, *rules)
    assert whole.passed
    assert whole.clusters is not None
    [leaf] = [i.key for i in project.store.list("states/") if head.root in i.key][:1]
    project.store.delete(leaf)
    report = project.gate(head, head, *rules)
    assert report.failed == ["many", "whole"]
    assert report.results[1].sentence.startswith("set@1 is damaged: ")
    assert "Not judged" in report.results[0].sentence
    assert "**failed** | `many`" in report.markdown()


def test_the_report_is_the_same_bytes_on_a_second_run_and_has_no_markup_from_data(store: LocalStore) -> None:
    project = Project(store)
    wild = made(3, 0, attributes={"licence": "<b>|\n[x](http://y)`"})
    project.add([*wild, *made(3, 10, look=1)])
    base, head = project.freeze("set", wild), project.freeze("set", [*wild[:2], *made(3, 10, look=1)])
    rules: list[dict[str, Any]] = [
        {"name": "licence", "kind": "balance", "field": "licence", "max_share": 0.1},
        {"name": "twins", "kind": "duplicates", "max_rate": 0},
        {"name": "looks", "kind": "drift", "space": "default", "max_mmd": 0},
        {"name": "whole", "kind": "verified"},
    ]
    first = project.gate(base, head, *rules)
    again = Project(store)
    second = again.gate(again.snapshots.get("set@1"), again.snapshots.get("set@2"), *rules)
    assert first.markdown() == second.markdown()
    assert json.dumps(first.to_json()) == json.dumps(second.to_json())
    for markup in ("<b>", "](http", "|\n["):
        assert markup not in first.markdown()
    assert first.failed == ["licence", "twins", "looks"]
    assert first.markdown().startswith("# Gate failed: 3 of 4 rules\n")


def test_a_snapshot_is_measured_under_the_steps_that_head_records(project: Project) -> None:
    project.add(made(2))
    head = project.freeze("set", made(2))
    other = Step("inspect", 99, {}, None)
    moved = project.freeze("moved", made(2), inspect={"key": other.key, **other.to_json()})
    assert project.judge(moved, head, "drift", field="sharpness", max_ks=0).passed
    found = project.judge(head, moved, "drift", field="sharpness", max_ks=0)
    assert "0 values in BASE and 0 in HEAD" in found.sentence
    bare = project.freeze("bare", made(1), inspect={"key": "0" * 16, **other.to_json()})
    with pytest.raises(CorruptionError, match="bare@1 records the key 0000"):
        project.judge(head, bare, "drift", field="sharpness", max_ks=0)
