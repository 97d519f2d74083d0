"""Snapshots: immutable, comparable with causes, and able to tell when a byte was touched."""

from __future__ import annotations

from dataclasses import replace

import pytest

from refinery.diffs import Differ, SnapshotDiff
from refinery.errors import InputError
from refinery.ledger import Actor, ActorKind, Event, EventType
from refinery.snapshots import Snapshot
from refinery.states.head import read_head, write_head
from refinery.store.local import LocalStore
from tests.synthetic import POLICY, Sample, Synthetic, gold

ANA = Actor(ActorKind.PERSON, "ana")
SAMPLES = [*(Sample(n) for n in range(8)), Sample(20, look=1, side=200), Sample(21, look=1, side=150)]


class Project(Synthetic):
    """A synthetic project that can freeze what is gold."""

    def freeze(self, name: str = "set") -> tuple[Snapshot, bool]:
        from refinery.snapshots import Snapshots

        self.snapshots = Snapshots(self.store)
        self.replayer.replay(self.policy)
        return self.freeze_state(self.snapshots, name, gold)

    def add(self, samples: list[Sample], at: str = "2026-01-01T00:00:00+00:00") -> None:
        self.compute(self.land(samples, at), samples)

    def flag(self, sample: Sample, kind: str = "reject") -> Event:
        return self.ledger.append(
            [Event(EventType.FLAG, ANA, sample_id=sample.id, kind=kind, reason="too dark")]
        )[0]

    def diff(self, old: Snapshot, new: Snapshot) -> SnapshotDiff:
        return Differ(self.store, self.ledger).diff(old, new)


@pytest.fixture
def project(store: LocalStore) -> Project:
    project = Project(store)
    project.add(SAMPLES)
    return project


def test_freezing_the_same_samples_again_makes_no_new_version(project: Project) -> None:
    first, created = project.freeze()
    assert (first.ref, created, first.count) == ("set@1", True, 9)
    assert project.freeze() == (first, False)


def test_a_flag_makes_a_version_that_differs_by_exactly_its_sample(project: Project) -> None:
    first, _ = project.freeze()
    project.flag(SAMPLES[0])
    second, _ = project.freeze()
    diff = project.diff(first, second)
    assert diff.ids("removed") == [SAMPLES[0].id]
    assert (diff.ids("added"), diff.ids("changed")) == ([], [])
    assert diff.moves[0].sentence == "flag reject by person ana: too dark"
    assert second.parent == "set@1"


def test_undoing_the_flag_freezes_the_former_root_under_a_new_version(project: Project) -> None:
    first, _ = project.freeze()
    event = project.flag(SAMPLES[0])
    project.freeze()
    project.ledger.undo([event], ANA)
    third, _ = project.freeze()
    assert (third.ref, third.root) == ("set@3", first.root)


def test_every_moved_sample_has_a_cause_and_the_causes_sum_to_the_diff(project: Project) -> None:
    first, _ = project.freeze()
    project.flag(SAMPLES[8])
    project.add([Sample(30), Sample(31, sharpness=0.01)], "2026-02-01T00:00:00+00:00")
    project.policy = project.parse(POLICY.replace("min_side < 64", "min_side < 101"))
    second, _ = project.freeze()
    diff = project.diff(first, second)
    assert sum(diff.causes.values()) == len(diff.moves)
    causes = {m.sample_id: m.cause for m in diff.moves}
    assert causes[SAMPLES[8].id] == "event"
    assert causes[SAMPLES[9].id] == "near_duplicate"
    assert causes[SAMPLES[0].id] == "policy"
    moves = {m.sample_id: m for m in diff.moves}
    assert moves[SAMPLES[0].id].parts[0].rules == ("too_small",)
    assert moves[SAMPLES[9].id].parts[0].mates == (SAMPLES[8].id,)


def test_what_is_said_besides_is_no_cause(project: Project) -> None:
    first, _ = project.freeze()
    flag = project.flag(SAMPLES[0])
    project.ledger.undo([project.flag(SAMPLES[0], "blocked")], ANA)
    project.ledger.append([Event(EventType.TAG, ANA, sample_id=SAMPLES[0].id, kind="tag", value="sky")])
    second, _ = project.freeze()
    [move] = project.diff(first, second).moves
    assert [(part.kind, part.events) for part in move.parts] == [("event", (flag.id,))]
    [back] = project.diff(second, first).moves
    assert (back.how, back.parts) == ("added", move.parts)


def test_two_changes_that_move_a_sample_only_together_are_both_named(project: Project) -> None:
    first, _ = project.freeze()
    flag = project.flag(SAMPLES[0], "review")
    project.policy = project.parse(POLICY.replace("has_flag('reject')", "has_flag('review')"))
    second, _ = project.freeze()
    [move] = project.diff(first, second).moves
    assert move.cause == "several"
    assert [part.kind for part in move.parts] == ["event", "policy"]
    assert move.parts[0].events == (flag.id,)
    assert move.parts[1].rules == ("flagged",)


def test_facts_that_arrive_are_a_cause_though_their_file_is_another_one_by_then(project: Project) -> None:
    late = [Sample(50), Sample(51)]
    batch = project.land(late)
    project.compute(batch, late[:1])
    first, _ = project.freeze()
    project.compute(batch, late[1:])
    second, _ = project.freeze()
    [move] = project.diff(first, second).moves
    assert (move.sample_id, move.how, move.cause) == (late[1].id, "added", "facts")


def test_without_locks_causes_are_found_by_the_times_of_batches(project: Project) -> None:
    first, _ = project.freeze()
    project.flag(SAMPLES[8])
    project.add([Sample(40)], "2126-02-01T00:00:00+00:00")
    second, _ = project.freeze()
    known = project.diff(first, second)
    for snapshot in (first, second):
        project.store.delete(f"snapshots/{snapshot.name}/{snapshot.version}.lock.json")
    head, etag = read_head(project.store)
    write_head(project.store, replace(head, ledger_offset=0), etag)  # as if somebody had replayed since
    found = project.diff(first, second)
    assert {m.sample_id: m.cause for m in known.moves if m.cause != "ingest"} == {
        m.sample_id: m.cause for m in found.moves if m.cause != "unknown"
    }
    assert found.causes == {"event": 1, "near_duplicate": 1, "unknown": 1}, (
        "a batch from the future is not known"
    )


def test_where_facts_are_gone_nothing_is_guessed_but_a_takedown_is_named(project: Project) -> None:
    first, _ = project.freeze()
    blocked = project.flag(SAMPLES[0], "blocked")
    project.flag(SAMPLES[1], "reject")
    second, _ = project.freeze()
    inspect = project.steps.inspect
    for batch in project.facts.files(inspect):
        project.store.delete(f"{inspect.folder}/{batch}.parquet")
    moves = {m.sample_id: m for m in project.diff(first, second).moves}
    assert moves[SAMPLES[0].id].parts[0].events == (blocked.id,)
    assert (moves[SAMPLES[1].id].cause, moves[SAMPLES[1].id].parts[0].events) == ("unknown", ())


def test_an_attribute_of_another_type_since_leaves_causes_unknown(project: Project) -> None:
    def register(kind: str) -> Event:
        value = {"type": kind, "description": ""}
        return project.ledger.append([Event(EventType.FIELD, ANA, kind="score", value=value)])[0]

    number = register("number")
    project.policy = project.parse(POLICY.replace("min_side < 64", "score < 0.5"))
    first, _ = project.freeze()
    project.ledger.undo([number], ANA)
    register("string")
    project.flag(SAMPLES[0])
    project.policy = project.parse(POLICY)
    second, _ = project.freeze()
    [move] = project.diff(first, second).moves
    assert (move.cause, "score" in move.sentence) == ("unknown", True)


def test_a_near_duplicate_that_takes_over_names_what_happened_to_the_other(project: Project) -> None:
    first, _ = project.freeze()
    project.flag(SAMPLES[8])
    second, _ = project.freeze()
    moves = {m.sample_id: m for m in project.diff(first, second).moves}
    assert moves[SAMPLES[9].id].how == "added"
    assert "flag reject by person ana" in moves[SAMPLES[9].id].sentence


def test_a_newly_seen_sample_is_added_by_its_batch(project: Project) -> None:
    first, _ = project.freeze()
    project.add([Sample(40)], "2026-02-01T00:00:00+00:00")
    second, _ = project.freeze()
    [move] = project.diff(first, second).moves
    assert (move.how, move.cause) == ("added", "ingest")
    assert "source synthetic" in move.sentence


def test_memberships_name_every_version_and_the_newest_by_its_name(project: Project) -> None:
    project.freeze()
    project.flag(SAMPLES[0])
    project.freeze()
    found = project.snapshots.memberships([SAMPLES[0].id, SAMPLES[1].id])
    assert found == {SAMPLES[0].id: ["set@1"], SAMPLES[1].id: ["set", "set@1", "set@2"]}


def test_an_unknown_snapshot_is_refused_with_a_suggestion(project: Project) -> None:
    project.freeze()
    with pytest.raises(InputError, match="Did you mean 'set@1'"):
        project.snapshots.get("sett@1")


def test_missing_blobs_are_named_by_verify(project: Project) -> None:
    first, _ = project.freeze()
    findings = list(project.snapshots.verify(first))
    assert len(findings) == first.count
    assert list(project.snapshots.verify(first, blobs=False)) == []
