"""Reading little: what counts and finds a few samples says the same as reading everything, whatever came in which order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refinery import facts
from refinery.accounting import audit, status
from refinery.batches import Listing, listing_key
from refinery.errors import InputError
from refinery.facts import FactStore
from refinery.recent import Recent
from refinery.samples import Samples
from refinery.states.head import read_head
from refinery.states.tree import StateTrees
from refinery.states.whereabouts import Whereabouts
from refinery.store import ObjectStore
from refinery.store.local import LocalStore
from tests.synthetic import Hidden, Sample, Synthetic, quick_folder

NUMBERS = st.lists(st.integers(0, 11), min_size=1, max_size=5, unique=True)


@dataclass(frozen=True)
class Action:
    """Land some samples (again), with their facts or without; stage a listing that does not land; replay."""

    what: str
    numbers: tuple[int, ...] = ()


ACTIONS = (
    st.builds(Action, st.sampled_from(["land", "land", "land without facts"]), NUMBERS.map(tuple))
    | st.builds(Action, st.just("stage"), NUMBERS.map(tuple))
    | st.just(Action("replay"))
)


def act(project: Synthetic, action: Action, number: int) -> None:
    samples = [Sample(n, side=10 if n % 3 == 0 else 100) for n in action.numbers]
    match action.what:
        case "land" | "land without facts":
            batch = project.land(samples, f"2026-01-{1 + number:02}T00:00:00+00:00")
            if action.what == "land":
                project.compute(batch, samples)
        case "stage":
            listing = Listing("synthetic", "folder", f"/staged/{number}", ())
            project.store.put_if_absent(listing_key(listing.batch), listing.to_bytes())
        case _:
            project.replayer.replay(project.policy)


@given(st.lists(ACTIONS, min_size=1, max_size=9))
@settings(max_examples=60, deadline=None)
def test_a_status_counts_what_counting_everything_counts(history: list[Action]) -> None:
    with quick_folder() as folder:
        project = Synthetic(LocalStore(Path(folder)))
        unmet: Recent[int] = Recent(16, lambda _: 1)
        staged = 0
        for number, action in enumerate(history):
            act(project, action, number)
            staged += action.what == "stage"
            origins = project.batches.origins(columns=["sample_id"])
            counted = audit(project.store, project.batches)
            for kept in (unmet, unmet, None):
                found = status(project.store, project.ledger, project.batches, kept)
                assert found.seen == len(set(origins["sample_id"].to_pylist())) == counted["seen"]
                assert (found.gold, sum(found.held.values()), found.pending) == tuple(
                    counted[v] for v in ("gold", "held", "pending")
                )
                assert (found.origins, found.staged) == (len(origins), staged)
                assert found.seen == found.gold + sum(found.held.values()) + found.pending


def test_a_status_counts_what_there_is_when_a_batch_is_gone_or_the_state_cannot_be_read(
    tmp_path: Path,
) -> None:
    project = Synthetic(LocalStore(tmp_path))
    for day, numbers in ((1, range(4)), (2, range(2, 8))):
        samples = [Sample(n) for n in numbers]
        project.compute(project.land(samples, f"2026-01-0{day}T00:00:00+00:00"), samples)
    project.replayer.replay(project.policy)
    late = project.land([Sample(n) for n in range(6, 11)], "2026-01-03T00:00:00+00:00")
    assert status(project.store, project.ledger, project.batches).seen == 11
    for pack in project.store.list("states/packs/"):
        project.store.delete(pack.key)
    assert status(project.store, project.ledger, project.batches).seen == 11
    for info in list(project.store.list(f"batches/{late}/")):
        project.store.delete(info.key)
    assert status(project.store, project.ledger, project.batches).seen == 8


def whole(store: FactStore, project: Synthetic, ids: list[str], best: bool) -> pa.Table:
    """The facts of some samples, from reading all of them."""
    table = store.read(project.steps.inspect, best=best)
    return table.filter(pc.is_in(table["sample_id"], pa.array(ids, pa.string())))


@pytest.mark.parametrize("kind", [LocalStore, Hidden])
@given(st.lists(ACTIONS, min_size=5, max_size=12), NUMBERS)
@settings(max_examples=60, deadline=None)
def test_facts_and_origins_of_a_few_samples_are_those_among_all(
    kind: type[LocalStore], history: list[Action], chosen: list[int]
) -> None:
    with quick_folder() as folder, patch.object(facts, "SMALL", 0):
        project = Synthetic(kind(Path(folder)))
        for number, action in enumerate(history):
            act(project, action, number)
        ids = sorted(Sample(n).id for n in chosen)
        for best in (True, False):
            some = project.facts.read(project.steps.inspect, sample_ids=ids, best=best)
            assert some.equals(whole(project.facts, project, ids, best))
        everything = project.batches.origins()
        mine = everything.filter(pc.is_in(everything["sample_id"], pa.array(ids, pa.string())))
        assert project.batches.origins(sample_ids=ids).equals(mine)
        landed = project.batches.landed()
        holding = {b for b in landed if set(project.batches.samples(b)) & set(ids)}
        narrowed = Whereabouts(project.store).narrow(landed, ids)
        assert holding <= set(narrowed) <= set(landed)
        assert list(narrowed) == [b for b in landed if b in set(narrowed)]


class Opened(LocalStore):
    """A store that notes which files of facts are looked for."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.facts: set[str] = set()

    def local_path(self, key: str) -> Path | None:
        if key.startswith("facts/") and key.endswith(".parquet"):
            self.facts.add(key)
        return super().local_path(key)


def test_the_facts_of_one_sample_are_read_from_its_batches_and_those_not_replayed_yet(tmp_path: Path) -> None:
    project = Synthetic(Opened(tmp_path))
    batches = []
    for day in range(8):
        samples = [Sample(day), Sample(day + 1)]
        batches.append(project.land(samples, f"2026-01-{1 + day:02}T00:00:00+00:00"))
        project.compute(batches[-1], samples)
        if day == 6:
            project.replayer.replay(project.policy)
    store: ObjectStore = project.store
    assert isinstance(store, Opened)
    store.facts.clear()
    assert len(project.facts.read(project.steps.inspect, sample_ids=[Sample(3).id])) == 1
    read = {key.rsplit("/", 1)[1].removesuffix(".parquet") for key in store.facts}
    # the first one is asked for its place to see whether the store is a local one
    assert read - {min(batches)} == {batches[2], batches[3], batches[7]} - {min(batches)}


@given(st.lists(ACTIONS, min_size=1, max_size=8), st.integers(0, 12), st.integers(6, 12))
@settings(max_examples=60, deadline=None)
def test_the_beginning_of_an_id_names_the_sample_that_was_seen(
    history: list[Action], number: int, digits: int
) -> None:
    with quick_folder() as folder:
        project = Synthetic(LocalStore(Path(folder)))
        for place, action in enumerate(history):
            act(project, action, place)
        seen = set(project.batches.origins(columns=["sample_id"])["sample_id"].to_pylist())
        samples, sample_id = Samples(project.store, project.batches), Sample(number).id
        assert samples.seen([sample_id]) == seen & {sample_id}
        if sample_id in seen and digits >= 8:
            assert samples.resolve(sample_id[:digits]) == sample_id
        else:
            with pytest.raises(InputError, match="no sample"):
                samples.resolve(sample_id[:digits])


def test_a_beginning_that_many_ids_share_finds_them_all(tmp_path: Path) -> None:
    project = Synthetic(LocalStore(tmp_path))
    samples = [Sample(n) for n in range(300)]
    project.compute(project.land(samples), samples)
    project.replayer.replay(project.policy)
    trees, node = StateTrees(project.store), read_head(project.store)[0].node
    ids = sorted(s.id for s in samples)
    for prefix in ("", "a", "a1", "a1b", ids[7][:8], ids[7], "zz", "A1"):
        assert trees.beginning(node, prefix) == [i for i in ids if i.startswith(prefix)]
    assert trees.known(node.digest) == node
    assert trees.known("0" * 64) is None
