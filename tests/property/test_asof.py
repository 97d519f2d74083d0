"""As of: what documents, verdicts and searches were after an event is what they are as of its offset, whatever came later."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refinery.asof import DocumentsAt, documents_at, fields_to_evaluate
from refinery.documents import DocumentBuilder
from refinery.errors import InputError
from refinery.filter import parse
from refinery.index import Query, Sort
from refinery.index.lancedb import LanceIndex
from refinery.ledger import Actor, ActorKind, Event, EventType, flag_event, tag_event
from refinery.policy import Policy
from refinery.projection import Projector
from refinery.snapshots import Snapshots
from refinery.store.local import LocalStore
from tests.synthetic import POLICY, Sample, Synthetic, gold, quick_folder

ANA, CRITIC = Actor(ActorKind.PERSON, "ana"), Actor(ActorKind.MODEL, "critic")
SCORED = POLICY + '  - {name: poor, hold: "score < 3"}\n'
SAMPLES = [
    Sample(0, look=1, side=200),
    Sample(1, look=1, side=150, attributes={"mood": "calm", "score": 5}),
    Sample(2, look=1, side=100),
    Sample(3, side=40),
    Sample(4, sharpness=0.05, attributes={"mood": "wild"}),
    Sample(5, failure="truncated"),
    Sample(6, attributes={"score": 2}),
]
FILTERS = (
    "verdict = 'gold'",
    "reasons = 'near_duplicate' OR reasons = 'rejected'",
    "near_duplicate AND NOT has_flag('reject')",
    "has_flag('reject') OR has_tag('sky')",
    "score >= 3",
    "in_dataset('set') AND NOT in_dataset('set@1')",
    "mood = 'calm'",
)


class Project(Synthetic):
    """A synthetic project with an attribute that the policy reads, and with what was recorded of it at each offset."""

    def __init__(self, folder: Path) -> None:
        super().__init__(LocalStore(folder / "store"))
        self.register("score", "number")
        self.policy = self.parse(SCORED)
        self.snapshots = Snapshots(self.store)
        self.compute(self.land(SAMPLES), SAMPLES)
        self.index = LanceIndex(folder / "index", self.fields)
        self.recorded: dict[int, tuple[pa.Table, dict[str, list[str]]]] = {}
        self.record()

    def register(self, name: str, kind: str) -> Event:
        return self.ledger.append([Event(EventType.FIELD, ANA, kind=name, value={"type": kind})])[0]

    def flag(self, sample: Sample, kind: str = "reject", actor: Actor = ANA) -> None:
        self.ledger.append([flag_event(sample.id, kind, actor, known_kinds=[kind])])

    @property
    def projector(self) -> Projector:
        builder = DocumentBuilder(self.store, self.batches, self.facts, self.fields, self.steps)
        return Projector(self.store, self.ledger, self.facts, builder, self.snapshots, self.steps, self.index)

    def record(self) -> None:
        """Keep what a replay and a projection make of the project at this moment."""
        self.replayer.replay(self.policy)
        documents = self.projector.documents().drop_columns("doc_digest")
        selected = {f: chosen(documents, f, self.fields) for f in FILTERS if known(f, self.fields)}
        self.recorded[self.ledger.offset] = documents, selected

    def freeze(self) -> None:
        self.freeze_state(self.snapshots, "set", gold)

    def at(self, offset: int, policy: Policy | None = None) -> DocumentsAt:
        fields = fields_to_evaluate(self.ledger.view(offset), self.fields)
        replayer = type(self.replayer)(self.store, self.ledger, self.batches, self.facts, fields, self.steps)
        return documents_at(self.ledger, offset, replayer, self.snapshots, policy or self.policy)


def known(text: str, fields: Any) -> bool:
    return "mood" not in text or "mood" in fields


def chosen(documents: pa.Table, text: str, fields: Any) -> list[str]:
    """The ids that a filter selects."""
    ids: list[str] = documents.filter(pa.array(parse(text, fields).mask(documents)))["sample_id"].to_pylist()
    return ids


@dataclass(frozen=True)
class Action:
    what: str
    place: int
    word: str


actions = st.builds(
    Action,
    st.sampled_from(["flag", "flag", "model flag", "tag", "score", "field", "undo", "undo", "freeze"]),
    st.integers(0, len(SAMPLES) - 1),
    st.sampled_from(["keep", "reject", "blocked", "review"]),
)


def act(project: Project, action: Action) -> None:
    sample = SAMPLES[action.place]
    match action.what:
        case "flag":
            project.flag(sample, action.word)
        case "model flag":
            project.flag(sample, action.word, CRITIC)
        case "tag":
            project.ledger.append([tag_event(sample.id, "sky", ANA)])
        case "score":
            score = Event(EventType.ATTRIBUTE, ANA, sample_id=sample.id, kind="score", value=action.place)
            project.ledger.append([score])
        case "field":
            project.register("mood", "string")
        case "undo":
            events = project.ledger.events(after=1)  # the policy needs the first one
            if events:
                project.ledger.undo([events[action.place % len(events)]], ANA)
        case "freeze":
            project.freeze()


@given(st.lists(actions, max_size=10))
@settings(max_examples=30, deadline=None)
def test_what_was_at_every_offset_is_what_it_was_as_of_it(history: list[Action]) -> None:
    with quick_folder() as folder:
        project = Project(Path(folder))
        for action in history:
            act(project, action)
            project.record()
        for offset, (documents, selected) in project.recorded.items():
            then = project.at(offset)
            assert then.documents.equals(documents), offset
            for text, ids in selected.items():
                assert [h.sample_id for h in then.search(text).hits] == ids, (offset, text)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def verdicts(then: DocumentsAt) -> dict[str, str]:
    return dict(
        zip(then.documents["sample_id"].to_pylist(), then.documents["verdict"].to_pylist(), strict=True)
    )


def test_a_field_is_unknown_before_its_registration_and_a_policy_that_reads_it_is_evaluated_all_the_same(
    project: Project,
) -> None:
    then = project.at(0)
    assert "score" not in then.documents.column_names
    assert verdicts(then)[SAMPLES[6].id] == "held"
    for search in ({"where": "score > 1"}, {"sort": "score"}):
        with pytest.raises(InputError, match="At ledger offset 0 no field registered later") as caught:
            then.search(**search)  # type: ignore[arg-type]
        assert caught.value.kind == "unknown_field"


def test_verdicts_as_of_an_offset_are_those_of_the_policy_one_names(project: Project) -> None:
    project.flag(SAMPLES[3])
    strict = project.parse(SCORED.replace("min_side < 64", "min_side < 120"))
    then = project.at(1, strict)
    assert then.as_of.policy_digest == strict.digest
    held = then.select("reasons = 'too_small'")[1]["sample_id"].to_pylist()
    assert set(held) >= {SAMPLES[2].id, SAMPLES[3].id}
    assert SAMPLES[2].id not in project.at(1).select("reasons = 'too_small'")[1]["sample_id"].to_pylist()


def test_a_sample_that_came_later_is_there_too_and_its_time_leaves_it_out(project: Project) -> None:
    late = Sample(50)
    project.flag(SAMPLES[0])
    project.compute(project.land([late], "2026-06-01T00:00:00+00:00"), [late])
    then = project.at(1)
    assert verdicts(then)[late.id] == "gold"
    assert "samples" in then.as_of.of_now
    before = then.select("ingested_at < '2026-02-01'")[1]["sample_id"].to_pylist()
    assert sorted(before) == sorted(s.id for s in SAMPLES)


@pytest.mark.parametrize("offset", [-1, 3])
def test_there_is_nothing_as_of_an_offset_beyond_the_end(project: Project, offset: int) -> None:
    project.flag(SAMPLES[0])
    with pytest.raises(InputError, match=f"ends at offset 2: there is no offset {offset}") as caught:
        project.at(offset)
    assert caught.value.kind == "no_such_offset"


def pages(then: DocumentsAt, **search: Any) -> list[list[str]]:
    found = []
    cursor = None
    while True:
        result = then.search(**search, limit=3, cursor=cursor)
        found.append([hit.sample_id for hit in result.hits])
        cursor = result.cursor
        if cursor is None:
            return found


def test_a_search_as_of_an_offset_orders_and_pages_as_the_index_does(project: Project) -> None:
    project.flag(SAMPLES[0])
    project.record()
    project.projector.rebuild()
    then = project.at(2)
    queries: list[tuple[dict[str, Any], dict[str, Any]]] = [({}, {})]
    queries += [({"seed": seed}, {"seed": seed}) for seed in (0, 7)]
    for name in ("score", "width", "bytes", "verdict", "near_duplicate", "ingested_at", "sample_id"):
        queries += [({"sort": sign + name}, {"sort": Sort(name, bool(sign))}) for sign in ("", "-")]
    for where in (None, "verdict = 'held'", "FALSE"):
        checked = parse(where, project.fields) if where else None
        for ours, theirs in queries:
            page = project.index.query(Query(checked, **theirs, limit=100))
            found = pages(then, where=where, **ours)
            assert list(chain(*found)) == page.documents["sample_id"].to_pylist(), (where, ours)
            assert all(len(p) == 3 for p in found[:-1])


def test_a_cursor_belongs_to_its_offset_and_its_query(project: Project) -> None:
    project.flag(SAMPLES[0])
    cursor = project.at(1).search(limit=2).cursor
    for offset, search in ((2, {}), (1, {"seed": 1}), (1, {"where": "TRUE"})):
        with pytest.raises(InputError, match="cursor does not belong") as caught:
            project.at(offset).search(cursor=cursor, **search)  # type: ignore[arg-type]
        assert caught.value.kind == "bad_cursor"


def test_only_fields_that_have_an_order_can_be_sorted_by(project: Project) -> None:
    with pytest.raises(InputError, match="cannot be sorted") as caught:
        project.at(1).search(sort="flags")
    assert caught.value.kind == "bad_sort"
