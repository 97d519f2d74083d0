"""The catalogue of fields: the index counts what truth holds, and says how far it is behind."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from refinery.catalogue import catalogue
from refinery.fields import Field, FieldType
from refinery.ledger import Actor, ActorKind, Event, EventType
from refinery.project import Refinery

ANA = Actor(ActorKind.PERSON, "ana")


def test_the_index_counts_each_field_as_truth_does_but_for_what_no_index_counts(refined: Path) -> None:
    project = Refinery.open(refined)
    project.register_field(Field("notes", FieldType.JSON), ANA)
    project.register_field(Field("score", FieldType.NUMBER), ANA)
    sample = project.index.get(project.index.digests()["sample_id"].to_pylist()[:1], ["sample_id"])
    said = [("notes", {"a": 1}), ("score", 0.5)]
    [sample_id] = sample["sample_id"].to_pylist()
    project.ledger.append(Event(EventType.ATTRIBUTE, ANA, sample_id, kind=k, value=v) for k, v in said)
    project.replay()
    project.project()
    asked = catalogue(Refinery.open(refined))
    assert (asked.ledger_offset, asked.current) == (project.ledger.offset, True)

    shutil.rmtree(refined / "index")
    counted = catalogue(Refinery.open(refined))
    assert (counted.ledger_offset, counted.current) == (None, True)
    assert asked.samples == counted.samples > 0
    by_name = {use.field.name: use for use in counted.fields}
    assert by_name["score"].filled == by_name["notes"].filled == 1
    assert 0 < (by_name["caption"].filled or 0) < counted.samples
    for use in asked.fields:
        truth = by_name[use.field.name]
        if use.field.type is FieldType.JSON:
            truth = replace(truth, filled=None, fill_rate=None)
        assert use == truth


def test_the_catalogue_says_when_the_index_is_behind(refined: Path) -> None:
    project = Refinery.open(refined)
    assert catalogue(project).current
    offset = project.ledger.offset
    project.register_field(Field("score", FieldType.NUMBER), ANA)
    behind = catalogue(project)
    assert (behind.ledger_offset, behind.current) == (offset, False)
    assert {use.field.name: use.filled for use in behind.fields}["score"] == 0
