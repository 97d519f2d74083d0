"""Records: what was adopted and frozen is in the ledger, once, and moves nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from refinery import freezing
from refinery.ledger import Actor, ActorKind, Event, EventType, Ledger
from refinery.project import Refinery
from refinery.records import PROGRAM, record_policy, record_snapshot
from refinery.snapshots import Snapshots
from refinery.store.local import LocalStore
from tests.synthetic import POLICY, Sample, Synthetic, gold
from tests.test_cli import Cli

ANA, BEN = Actor(ActorKind.PERSON, "ana"), Actor(ActorKind.PERSON, "ben")


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], refined: Path) -> Cli:
    return Cli(capsys, refined)


def records(ledger: Ledger, kind: EventType) -> list[Event]:
    return ledger.view().records(kind)


def test_a_policy_is_recorded_when_it_comes_to_be_another_and_nothing_is_launched_for_it(cli: Cli) -> None:
    file = cli.project / "policy.yaml"
    text = file.read_text()
    for number, least in enumerate((256, 300, 256), start=1):
        file.write_text(text.replace("min_side < 256", f"min_side < {least}"))
        cli("run")
        again = cli.json("run")
        assert (again["runs_launched"], again["facts_computed"]) == (0, 0)
        status = cli.json("status")
        assert not status["stale"]
        said = records(Refinery.open(cli.project).ledger, EventType.POLICY)
        assert len(said) == number
        assert (said[-1].value, said[-1].actor) == (status["policy"], PROGRAM)
        assert cli.json("status")["root"] == again["root"]
    assert "policy default adopted" in cli("log")[0]
    offset = said[-1].offset
    assert (
        cli("search", "--at", str(offset), "--ids")[0] == cli("search", "--at", str(offset - 1), "--ids")[0]
    )


def test_a_snapshot_is_recorded_in_the_name_of_who_froze_it(cli: Cli) -> None:
    frozen = cli.json("snapshot", "create", "train", "--actor", "ana")
    before = cli.json("status")
    assert not before["stale"]
    assert cli.json("snapshot", "create", "train", "--actor", "ben")["new"] is False
    assert cli.json("status")["ledger_offset"] == before["ledger_offset"]
    assert cli.json("run")["runs_launched"] == 0
    [event] = [e for e in records(Refinery.open(cli.project).ledger, EventType.SNAPSHOT) if e.kind == "train"]
    assert (event.actor, event.value) == (ANA, {"version": 1, "root": frozen["root"]})
    assert "snapshot train@1 frozen by person ana" in cli("log")[0]


def test_whoever_was_killed_between_freezing_and_recording_is_made_good(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    project = Refinery.open(cli.project)
    with monkeypatch.context() as patch:
        patch.setattr(freezing, "record_snapshot", killed)
        with pytest.raises(KeyboardInterrupt):
            project.freeze("train")
    assert [e for e in records(project.ledger, EventType.SNAPSHOT) if e.kind == "train"] == []
    assert cli.json("snapshot", "create", "train")["new"] is False
    assert len([e for e in records(project.ledger, EventType.SNAPSHOT) if e.kind == "train"]) == 1
    assert cli.json("run")["runs_launched"] == 0, "the index followed"


def test_of_two_who_record_the_same_at_once_one_does(store: LocalStore) -> None:
    project = Synthetic(store)
    made = [Sample(1)]
    project.compute(project.land(made), made)
    project.replayer.replay(project.policy)
    snapshot, _ = project.freeze_state(Snapshots(store), "set", gold)
    one, other = Ledger(store), Ledger(store)
    events = [one.view(), other.view()]  # both have read the empty ledger
    assert [view.offset for view in events] == [0, 0]
    for ledger, actor in ((one, ANA), (other, BEN)):
        record_policy(ledger, project.policy, actor)
        record_snapshot(ledger, snapshot, actor)
    assert [e.actor for e in Ledger(store).events()] == [ANA, ANA]
    replacing = project.parse(POLICY.replace("64", "65"))
    for policy in (replacing, project.policy, replace(project.policy)):
        record_policy(one, policy, BEN)
    assert [e.value for e in records(other, EventType.POLICY)] == [
        project.policy.digest,
        replacing.digest,
        project.policy.digest,
    ]
    head = project.replayer.replay(project.policy)
    assert (head.evaluated, head.ledger_offset) == (0, 0)
