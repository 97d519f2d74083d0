"""A dataset is frozen again when it would have other members, and at no other time."""

from __future__ import annotations

from pathlib import Path

from assets.plan import dataset_is_due
from assets.run import run
from refinery.ledger import Actor, ActorKind, Event, EventType, tag_event
from refinery.project import Refinery
from refinery.states.head import read_head
from refinery.states.tree import StateTrees

ANA = Actor(ActorKind.PERSON, "ana")
DATASETS = """
datasets:
  all: {}
  tagged: {filter: "has_tag('portrait')"}
"""


def test_a_dataset_is_due_when_its_members_move_and_not_when_others_do(refined: Path) -> None:
    config = refined / "refinery.yaml"
    config.write_text(config.read_text() + DATASETS)
    project = Refinery.open(refined)
    run(project)
    assert not dataset_is_due(project, "all")
    assert not dataset_is_due(project, "tagged")
    rows = StateTrees(project.store).rows(read_head(project.store)[0].node).to_pylist()
    held = next(r["sample_id"] for r in rows if r["verdict"] == "held" and r["reasons"] != ["blocked"])
    before = read_head(project.store)[0].root
    project.ledger.append([Event(EventType.FLAG, ANA, sample_id=held, kind="blocked")])
    project.replay()
    project.project()
    assert read_head(project.store)[0].root != before
    assert not dataset_is_due(project, "all")
    assert not dataset_is_due(project, "tagged")
    member = next(r["sample_id"] for r in rows if r["verdict"] == "gold")
    project.ledger.append([tag_event(member, "portrait", ANA)])
    project.replay()
    project.project()
    assert dataset_is_due(project, "tagged")
    assert not dataset_is_due(project, "all")
    run(project)
    assert project.snapshots.get("tagged").count == 1
    assert not dataset_is_due(project, "tagged")
    project.ledger.append([Event(EventType.FLAG, ANA, sample_id=member, kind="reject")])
    project.replay()
    project.project()
    assert dataset_is_due(project, "all")
    assert dataset_is_due(project, "tagged")
