"""Replay: looking only at what is affected gives exactly what looking at everything gives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refinery.accounting import audit
from refinery.inputs import InputReader
from refinery.ledger import Actor, ActorKind, Event, EventType
from refinery.near_duplicates import cluster_mates, read_clusters
from refinery.replay import ReplayReport
from refinery.store.local import LocalStore
from tests.synthetic import POLICY, Sample, Synthetic, quick_folder

ANA = Actor(ActorKind.PERSON, "ana")
CRITIC = Actor(ActorKind.MODEL, "critic")
POLICIES = (
    POLICY,
    POLICY.replace("sharpness < 0.1", "sharpness < 0.4"),
    POLICY.replace("min_side < 64", "min_side < 30"),
)


def samples_of(batch: int) -> list[Sample]:
    """Six samples a batch; looks are shared across batches, so clusters grow and merge as batches arrive."""
    return [
        Sample(
            batch * 6 + place,
            look=(batch + place) % 5 if place < 3 else None,
            side=40 if place == 4 else 100 + place,
            sharpness=0.05 if place == 5 else 0.3,
            failure="truncated" if place == 3 and batch % 2 else None,
        )
        for place in range(6)
    ]


@dataclass(frozen=True)
class Action:
    what: str
    batch: int
    place: int
    kind: str
    replayed: bool


actions = st.builds(
    Action,
    st.sampled_from(
        [
            "land",
            "compute",
            "compute one",
            "fail one",
            "flag",
            "model flag",
            "unflag",
            "tag",
            "undo",
            "policy",
        ]
    ),
    st.integers(0, 3),
    st.integers(0, 5),
    st.sampled_from(["keep", "reject", "blocked"]),
    st.booleans(),
)


def act(project: Synthetic, action: Action) -> None:
    samples = samples_of(action.batch)
    one = samples[action.place]
    match action.what:
        case "land":
            project.land(samples)
        case "compute":
            project.compute(project.land(samples), samples)
        case "compute one":
            project.compute(project.land(samples), [one])
        case "fail one":
            project.compute(project.land(samples), [replace(one, failure="timed_out", retryable=True)])
        case "flag" | "model flag":
            actor = ANA if action.what == "flag" else CRITIC
            project.ledger.append([Event(EventType.FLAG, actor, sample_id=one.id, kind=action.kind)])
        case "unflag":
            project.ledger.append([Event(EventType.UNFLAG, ANA, sample_id=one.id, kind=action.kind)])
        case "tag":
            project.ledger.append([Event(EventType.TAG, CRITIC, sample_id=one.id, kind="tag", value="seen")])
        case "undo":
            events = project.ledger.events()
            if events:
                project.ledger.undo([events[action.place % len(events)]], ANA)
        case "policy":
            project.policy = project.parse(POLICIES[action.place % len(POLICIES)])


class Watch:
    """What a replay has to look at, by the words of the documentation: worked out from truth, and from all of it."""

    def __init__(self, project: Synthetic) -> None:
        self.project = project
        self.inputs: dict[str, Any] = {}
        self.offset = 0
        self.policy = ""

    def affected(self) -> int:
        """The samples whose inputs changed since the last call or that events since speak of, and their clusters; all
        of them under another policy."""
        reader = InputReader(
            self.project.batches, self.project.facts, self.project.fields, self.project.steps
        )
        inputs = {row["sample_id"]: row for row in reader.read().to_pylist()}
        events = self.project.ledger.events(after=self.offset)
        chosen = {i for i, row in inputs.items() if self.inputs.get(i) != row} | {
            str(e.sample_id) for e in events
        }
        clusters = read_clusters(self.project.store, self.project.steps.near_duplicates)
        chosen = (chosen | cluster_mates(clusters, chosen)) & inputs.keys()
        if self.policy != self.project.policy.digest:
            chosen = set(inputs)
        self.inputs, self.offset, self.policy = inputs, self.offset + len(events), self.project.policy.digest
        return len(chosen)


def ends_in_the_root_of_a_full_rebuild(history: list[Action]) -> None:
    with quick_folder() as folder:
        store = LocalStore(Path(folder))
        project = Synthetic(store)
        watch = Watch(project)
        for action in history:
            act(project, action)
            if action.replayed:
                looks_at_what_is_affected(project, watch)
        looks_at_what_is_affected(project, watch)
        incremental = project.replayer.replay(project.policy)
        assert incremental.evaluated == 0
        assert audit(store, project.batches)["seen"] == incremental.total
        full = project.replayer.replay(project.policy, full=True)
        assert (incremental.root, incremental.counts, incremental.held) == (full.root, full.counts, full.held)


def looks_at_what_is_affected(project: Synthetic, watch: Watch) -> None:
    affected = watch.affected()
    report = project.replayer.replay(project.policy)
    assert report.changed <= report.evaluated <= 1.2 * affected, report.scope


@given(st.lists(actions, min_size=5, max_size=25))
@settings(max_examples=100, deadline=None)
def test_any_history_replayed_step_by_step_looks_at_what_is_affected_and_ends_as_a_full_rebuild(
    history: list[Action],
) -> None:
    ends_in_the_root_of_a_full_rebuild(history)


@pytest.mark.heavy
@given(st.lists(actions, min_size=10, max_size=60))
@settings(max_examples=1_000, deadline=None)
def test_a_thousand_long_histories_do_as_well(history: list[Action]) -> None:
    ends_in_the_root_of_a_full_rebuild(history)


def ready(store: LocalStore, batches: int = 5) -> tuple[Synthetic, ReplayReport]:
    project = Synthetic(store)
    for batch in range(batches):
        project.compute(project.land(samples_of(batch)), samples_of(batch))
    return project, project.replayer.replay(project.policy)


def test_a_second_replay_looks_at_nothing(store: LocalStore) -> None:
    project, first = ready(store)
    again = project.replayer.replay(project.policy)
    assert (again.evaluated, again.changed, again.root) == (0, 0, first.root)


def test_a_flag_makes_replay_look_at_its_sample_and_its_cluster_only(store: LocalStore) -> None:
    project, first = ready(store)
    alone = samples_of(0)[3].id
    project.ledger.append([Event(EventType.FLAG, ANA, sample_id=alone, kind="reject")])
    report = project.replayer.replay(project.policy)
    assert (report.evaluated, report.changed_ids) == (1, [alone])
    assert report.reused == first.total - 1


def test_undoing_a_flag_brings_back_the_former_root(store: LocalStore) -> None:
    project, first = ready(store)
    [event] = project.ledger.append(
        [Event(EventType.FLAG, ANA, sample_id=samples_of(0)[0].id, kind="reject")]
    )
    assert project.replayer.replay(project.policy).root != first.root
    project.ledger.undo([event], ANA)
    assert project.replayer.replay(project.policy).root == first.root


def test_when_the_kept_sample_of_a_cluster_is_rejected_the_next_best_takes_its_place(
    store: LocalStore,
) -> None:
    project = Synthetic(store)
    samples = [Sample(1, look=1, side=200), Sample(2, look=1, side=150), Sample(3, look=1, side=100)]
    project.compute(project.land(samples), samples)
    project.replayer.replay(project.policy)

    def gold() -> list[str]:
        node = project.replayer.trees.rows
        from refinery.states.head import read_head

        rows = node(read_head(store)[0].node).to_pylist()
        return [r["sample_id"] for r in rows if r["verdict"] == "gold"]

    assert gold() == [samples[0].id]
    project.ledger.append([Event(EventType.FLAG, ANA, sample_id=samples[0].id, kind="reject")])
    project.replayer.replay(project.policy)
    assert gold() == [samples[1].id]


def test_samples_without_facts_are_pending_until_their_facts_arrive(store: LocalStore) -> None:
    project = Synthetic(store)
    samples = samples_of(0)
    batch = project.land(samples)
    assert project.replayer.replay(project.policy).counts == {"pending": 6}
    project.compute(batch, samples)
    report = project.replayer.replay(project.policy)
    assert report.evaluated == 6
    assert "pending" not in report.counts
