"""Projection: whatever several projectors did in which order, the index ends as a rebuild from truth would make it."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from refinery.documents import DocumentBuilder
from refinery.filter import parse
from refinery.index import SampleIndex
from refinery.ledger import Actor, ActorKind, Event, EventType
from refinery.projection import ProjectionReport, Projector
from refinery.snapshots import Snapshots
from refinery.states.head import read_head
from refinery.store import ObjectStore
from refinery.store.local import LocalStore
from tests.contract.indexes import Open, open_index
from tests.synthetic import Sample, Synthetic, quick_folder

__all__ = ["open_index"]

ANA = Actor(ActorKind.PERSON, "ana")
KINDS = ("keep", "reject", "review")
BATCHES, PLACES = 3, 4
SPACES = {"default": 32}


def samples_of(batch: int) -> list[Sample]:
    """Four samples a batch; the last one of each batch is seen again in the next one."""
    return [
        Sample(batch * (PLACES - 1) + place, attributes={"caption": f"{batch} {place}"})
        for place in range(PLACES)
    ]


SAMPLES = [sample.id for batch in range(BATCHES) for sample in samples_of(batch)]


class Someone:
    """One process's view of the project: its own ledger and caches, one store and one index with the others."""

    def __init__(self, store: ObjectStore, open_index: Open, path: Path) -> None:
        self.project = Synthetic(store)
        self.index = open_index(path, self.project.fields)

    @property
    def projector(self) -> Projector:
        p = self.project
        builder = DocumentBuilder(p.store, p.batches, p.facts, p.fields, p.steps)
        return Projector(p.store, p.ledger, p.facts, builder, Snapshots(p.store), p.steps, self.index)

    def freeze(self, name: str) -> None:
        self.project.freeze_state(Snapshots(self.project.store), name)


class Meanwhile:
    """An index at which somebody else acts once, at a chosen moment of a projection: before or after a certain call.

    `check` runs after every call that follows.
    """

    def __init__(
        self,
        index: SampleIndex,
        call: str,
        after: bool,
        act: Callable[[], Any],
        check: Callable[[], Any] = lambda: None,
    ) -> None:
        self._index, self._call, self._after, self._check = index, call, after, check
        self._acts = [act]

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._index, name)
        if name == "replacement":
            return self._replacement

        def call(*args: Any, **kwargs: Any) -> Any:
            if name == self._call and not self._after:
                self._act()
            result = method(*args, **kwargs)
            if name == self._call and self._after:
                self._act()
            if not self._acts:
                self._check()
            return result

        return call

    def _act(self) -> None:
        if self._acts:
            self._acts.pop()()

    @contextmanager
    def _replacement(self, *args: Any) -> Iterator[SampleIndex]:
        with self._index.replacement(*args) as new:
            watched = Meanwhile(new, self._call, self._after, self._act, self._check)
            yield watched  # type: ignore[misc]


CALLS = ("next_sequence", "upsert", "set_position", "digests", "get", "position")
WORK: dict[str, Callable[[Projector], ProjectionReport | None]] = {
    "project": Projector.project,
    "follow": Projector.follow_ledger,
    "catch up": lambda projector: projector.catch_up() or projector.project(),
    "rebuild": Projector.rebuild,
}


def rows(index: SampleIndex, projector: Projector) -> list[dict[str, Any]]:
    documents = projector.documents()
    columns = [*documents.column_names, "vector_default"]
    return index.get(index.digests().column("sample_id").to_pylist(), columns).to_pylist()  # type: ignore[no-any-return]


def machine(open_index: Open) -> type[RuleBasedStateMachine]:
    class Projections(RuleBasedStateMachine):
        """Two processes act on one project and project it, each also in the middle of the other's projections."""

        @initialize()
        def start(self) -> None:
            self.folder = quick_folder()
            self.home = Path(self.folder.name)
            self.store = LocalStore(self.home / "store")
            # an index of its own for each example, wherever it is kept
            self.index_path = Path(mkdtemp(dir=self.home)) / uuid.uuid4().hex
            first = Synthetic(self.store)
            for name in ("caption", "note"):
                first.ledger.append([Event(EventType.FIELD, ANA, kind=name, value={"type": "text"})])
            first.compute(first.land(samples_of(0)), samples_of(0))
            first.replayer.replay(first.policy)
            self.people = [Someone(self.store, open_index, self.index_path) for _ in range(2)]

        def teardown(self) -> None:
            if hasattr(self, "people"):
                self.finish()
                self.folder.cleanup()

        def act(self, what: str, who: int, batch: int, place: int) -> None:
            project = self.people[who].project
            sample = samples_of(batch)[place].id
            match what:
                case "flag":
                    event = Event(EventType.FLAG, ANA, sample_id=sample, kind=KINDS[place % len(KINDS)])
                    project.ledger.append([event])
                case "caption":
                    event = Event(EventType.ATTRIBUTE, ANA, sample_id=sample, kind="caption", value="mine")
                    project.ledger.append([event])
                case "undo":
                    events = [e for e in project.ledger.events() if e.type is not EventType.FIELD]
                    if events:
                        project.ledger.undo([events[-1 - place % len(events)]], ANA)
                case "land":
                    project.compute(project.land(samples_of(batch)), samples_of(batch))
                case "replay":
                    project.replayer.replay(project.policy)
                case "freeze":
                    self.people[who].freeze(f"set{place % 2}")

        @rule(
            what=st.sampled_from(["flag", "flag", "undo", "caption", "land", "replay", "freeze"]),
            who=st.integers(0, 1),
            batch=st.integers(0, BATCHES - 1),
            place=st.integers(0, PLACES - 1),
        )
        def truth_moves(self, what: str, who: int, batch: int, place: int) -> None:
            self.act(what, who, batch, place)

        @rule(
            what=st.sampled_from(["flag", "undo"]),
            who=st.integers(0, 1),
            batch=st.integers(0, BATCHES - 1),
            place=st.integers(0, PLACES - 1),
        )
        def somebody_acts_and_can_search_for_it_at_once(
            self, what: str, who: int, batch: int, place: int
        ) -> None:
            self.act(what, who, batch, place)
            me = self.people[who]
            if me.projector.follow_ledger() is not None:
                self.check_flags(me)

        def check_flags(self, me: Someone) -> None:
            """What was searchable when its act's projection was done stays so, whatever others write."""
            view, known = me.project.ledger.view(), set(me.project.batches.origins()["sample_id"].to_pylist())
            for kind in KINDS:
                found = me.index.count(parse(f"has_flag('{kind}')", me.project.fields))
                assert found == len([i for i in set(SAMPLES) & known if view.flags(i, kind)])

        @rule(work=st.sampled_from(sorted(WORK)), who=st.integers(0, 1))
        def somebody_projects(self, work: str, who: int) -> None:
            WORK[work](self.people[who].projector)

        @rule(
            work=st.sampled_from(sorted(WORK)),
            call=st.sampled_from(CALLS),
            after=st.booleans(),
            what=st.sampled_from(["flag", "undo", "land", "nothing"]),
            other=st.sampled_from(sorted(WORK)),
            place=st.integers(0, PLACES - 1),
        )
        def the_other_acts_and_projects_meanwhile(
            self, work: str, call: str, after: bool, what: str, other: str, place: int
        ) -> None:
            def act() -> None:
                self.act(what, 1, 0, place)
                if what == "land":
                    self.act("replay", 1, 0, 0)
                done = WORK[other](self.people[1].projector)
                searchable.append(done is not None and not done.overtaken)

            def check() -> None:
                if any(searchable):
                    self.check_flags(self.people[1])

            searchable: list[bool] = []
            someone = Someone(self.store, open_index, self.index_path)
            someone.index = Meanwhile(someone.index, call, after, act, check)  # type: ignore[assignment]
            WORK[work](someone.projector)

        @invariant()
        def what_the_index_claims_it_holds(self) -> None:
            """An index that says it is current has exactly the documents of truth."""
            if not hasattr(self, "people"):
                return
            me = self.people[0]
            projector = me.projector
            landed, head = me.project.batches.landed(), read_head(self.store)[0]
            if projector.is_current() and set(landed) == set(head.batches):
                truth = dict(
                    zip(
                        *(projector.documents()[n].to_pylist() for n in ("sample_id", "doc_digest")),
                        strict=True,
                    )
                )
                held = dict(zip(*(c.to_pylist() for c in me.index.digests().columns), strict=True))
                assert held == truth

        def finish(self) -> None:
            me = self.people[0]
            me.projector.project()
            assert me.projector.is_current()
            ended = rows(me.index, me.projector)
            fresh = Someone(self.store, open_index, self.index_path.with_name(uuid.uuid4().hex))
            report = fresh.projector.rebuild()
            assert rows(fresh.index, fresh.projector) == ended
            assert report.documents == len(ended)

    return Projections


def test_any_interleaving_of_projections_ends_in_the_documents_of_a_rebuild(
    open_index: Open, request: pytest.FixtureRequest
) -> None:
    quick = "lancedb" in request.node.name
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine(open_index),
        settings=settings(
            max_examples=12 if quick else 3,
            stateful_step_count=8,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_an_older_write_that_lands_while_a_newer_projection_compares_is_put_right(
    open_index: Open, tmp_path: Path
) -> None:
    store = LocalStore(tmp_path / "store")
    project = Synthetic(store)
    project.compute(project.land(samples_of(0)), samples_of(0))
    project.replayer.replay(project.policy)
    slow, quick = (Someone(store, open_index, tmp_path / "index") for _ in range(2))
    quick.projector.project()
    sample = samples_of(0)[0].id
    [flag] = project.ledger.append([Event(EventType.FLAG, ANA, sample_id=sample, kind="review")])
    ready, go = threading.Event(), threading.Event()

    def wait() -> None:
        ready.set()
        assert go.wait(60)

    def land() -> None:
        go.set()
        late.result(60)

    with ThreadPoolExecutor(1) as pool:
        slow.index = Meanwhile(slow.index, "upsert", False, wait)  # type: ignore[assignment]
        late = pool.submit(slow.projector.follow_ledger)
        assert ready.wait(60)
        project.ledger.undo([flag], ANA)
        plain = quick.index
        quick.index = Meanwhile(plain, "digests", True, land)  # type: ignore[assignment]
        quick.projector.project()
    assert quick.projector.is_current()
    assert plain.count(parse("has_flag('review')", project.fields)) == 0


@pytest.mark.parametrize("work", sorted(WORK))
def test_a_flag_projected_in_the_middle_of_any_projection_is_searchable_from_then_on(
    open_index: Open, tmp_path: Path, work: str
) -> None:
    store = LocalStore(tmp_path / "store")
    project = Synthetic(store)
    project.compute(project.land(samples_of(0)), samples_of(0))
    project.replayer.replay(project.policy)
    me, other = (Someone(store, open_index, tmp_path / "index") for _ in range(2))
    plain = me.index
    me.projector.project()
    sample, moments = samples_of(0)[0].id, []
    for call in CALLS:
        for after in (False, True):

            def act() -> None:
                standing = project.ledger.view().flags(sample)
                if standing:
                    project.ledger.undo(standing, ANA)
                else:
                    project.ledger.append([Event(EventType.FLAG, ANA, sample_id=sample, kind="review")])
                assert other.projector.follow_ledger() is not None

            def check() -> None:
                wanted = len(project.ledger.view().flags(sample))
                assert other.index.count(parse("has_flag('review')", project.fields)) == wanted, moments

            moments.append((call, after))
            me.index = Meanwhile(plain, call, after, act, check)  # type: ignore[assignment]
            WORK[work](me.projector)
            check()


def test_catching_up_after_a_replay_writes_what_moved_and_leaves_the_rest_to_a_projection(
    open_index: Open, tmp_path: Path
) -> None:
    store = LocalStore(tmp_path / "store")
    project = Synthetic(store)
    project.compute(project.land(samples_of(0)), samples_of(0))
    project.replayer.replay(project.policy)
    me = Someone(store, open_index, tmp_path / "index")
    assert me.projector.catch_up() is None, "there is no index yet"
    me.projector.project()
    ids = [sample.id for sample in samples_of(0)]
    project.ledger.append([Event(EventType.FLAG, ANA, sample_id=ids[1], kind="reject")])
    project.replayer.replay(project.policy)
    report = me.projector.catch_up()
    assert report is not None
    assert (report.upserted, me.projector.is_current()) == (1, True)
    assert me.index.get([ids[1]], ["verdict"]).to_pylist() == [{"verdict": "held"}]
    before = rows(me.index, me.projector)
    assert me.projector.project().upserted == 0
    assert rows(me.index, me.projector) == before

    me.freeze("set")
    assert me.projector.catch_up() is None, "memberships are others"
    me.projector.project()
    project.compute(project.land(samples_of(1)), samples_of(1))
    project.replayer.replay(project.policy)
    assert me.projector.catch_up() is None, "there are other samples"
    me.projector.project()
    for pack in store.list("states/roots/"):
        store.delete(pack.key)
    assert me.projector.catch_up() is None, "the state it was projected from is gone"
