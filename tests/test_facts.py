"""Facts: written once, never lost, read by column, sample and batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refinery import facts as module
from refinery.digests import digest
from refinery.facts import FactStore, Step, facts_key, facts_table
from refinery.store.local import LocalStore
from tests.synthetic import Hidden

STEP = Step("weigh", 1, {"unit": "g"}, columns=pa.schema([("grams", pa.int32()), ("picture", pa.binary())]))
IDS = sorted(digest(str(i).encode()) for i in range(1000))


def rows(ids: list[str], reason: str | None = None, retryable: bool = False, grams: int = 1) -> pa.Table:
    columns: dict[str, Any] = {
        "sample_id": ids,
        "reason": [reason] * len(ids),
        "retryable": [retryable] * len(ids),
    }
    if reason is None:
        columns["grams"] = [grams] * len(ids)
    return facts_table(STEP, columns)


@pytest.fixture
def facts(tmp_path: Path) -> FactStore:
    return FactStore(LocalStore(tmp_path))


def test_a_step_key_changes_with_name_version_parameters_and_model_and_with_nothing_else() -> None:
    keys = {
        STEP.key,
        Step("weigh2", 1, {"unit": "g"}).key,
        Step("weigh", 2, {"unit": "g"}).key,
        Step("weigh", 1, {"unit": "kg"}).key,
        Step("weigh", 1, {"unit": "g"}, "abc").key,
    }
    assert len(keys) == 5
    assert Step("weigh", 1, {"unit": "g"}) == STEP
    assert len(STEP.key) == 16


def test_no_facts_read_as_an_empty_table_with_the_columns_asked_for(facts: FactStore) -> None:
    assert facts.read(STEP).schema.equals(STEP.schema)
    assert facts.read(STEP, columns=["grams"]).column_names == ["grams"]
    assert facts.read(STEP, sample_ids=[]).num_rows == 0
    assert facts.files(STEP) == {}
    assert facts.missing(STEP, "b", []) == []
    facts.write(STEP, "b", STEP.schema.empty_table())
    assert facts.read(STEP).num_rows == 0
    assert set(facts.files(STEP)) == {"b"}


def test_writing_equal_facts_again_changes_nothing(facts: FactStore) -> None:
    assert facts.write(STEP, "b", rows(IDS[:5]))
    before = facts.files(STEP)
    assert not facts.write(STEP, "b", rows(IDS[:5][::-1]))
    assert not facts.write(STEP, "b", rows(IDS[2:3], reason="late", retryable=True))
    assert facts.files(STEP) == before


def test_a_rewrite_is_the_union_and_a_success_beats_a_failure(facts: FactStore) -> None:
    facts.write(STEP, "b", rows(IDS[:2], reason="busy", retryable=True))
    facts.write(STEP, "b", rows(IDS[1:3], grams=7))
    table = facts.read(STEP)
    assert table["sample_id"].to_pylist() == IDS[:3]
    assert table["reason"].to_pylist() == ["busy", None, None]
    assert table["grams"].to_pylist() == [None, 7, 7]


def test_equal_facts_are_equal_bytes_whatever_order_and_chunks_they_came_in(tmp_path: Path) -> None:
    stores = [LocalStore(tmp_path / name) for name in "ab"]
    FactStore(stores[0]).write(STEP, "b", rows(IDS[:9]))
    for ids in (IDS[5:9], IDS[:3], IDS[3:5]):
        FactStore(stores[1]).write(STEP, "b", rows(ids[::-1]))
    key = f"{STEP.folder}/b.parquet"
    assert stores[0].get(key) == stores[1].get(key)


def test_reading_one_sample_finds_it_in_whichever_batch_has_it(facts: FactStore) -> None:
    facts.write(STEP, "a", rows(IDS[:700]))
    facts.write(STEP, "b", rows(IDS[600:], grams=2))
    one = facts.read(STEP, sample_ids=[IDS[999]], columns=["sample_id", "grams"])
    assert one.to_pylist() == [{"sample_id": IDS[999], "grams": 2}]
    assert facts.read(STEP, batches=["a"], sample_ids=[IDS[999]]).num_rows == 0
    assert facts.read(STEP, batches=["a", "gone"]).num_rows == 700
    assert facts.read(STEP).num_rows == 1000


class Elsewhere(Hidden):
    """A store across a network: notes how many bytes of an object are fetched in parts; `meanwhile` happens once, before that."""

    fetched = 0
    meanwhile: Callable[[], object] | None = None

    def get_range(self, key: str, start: int, length: int) -> bytes:
        if self.meanwhile is not None:
            act, self.meanwhile = self.meanwhile, None
            act()
        self.fetched += length
        return super().get_range(key, start, length)


def test_of_a_large_file_elsewhere_only_the_rows_around_a_sample_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SMALL", 10_000)
    noise = np.random.default_rng(1)
    columns = {
        "sample_id": IDS,
        "grams": list(range(1000)),
        "picture": [noise.bytes(1000) for _ in IDS],
    }
    FactStore(LocalStore(tmp_path)).write(STEP, "a", facts_table(STEP, columns))
    size = (tmp_path / facts_key(STEP, "a")).stat().st_size
    store = Elsewhere(tmp_path)
    for number in (0, 500, 999):
        store.fetched = 0
        (found,) = FactStore(store).read(STEP, sample_ids=[IDS[number]]).to_pylist()
        assert (found["grams"], found["picture"]) == (number, columns["picture"][number])
        assert store.fetched < size / 3
        store.fetched = 0
        assert FactStore(store).read(STEP, sample_ids=[IDS[number]], columns=["grams"]).num_rows == 1
        assert store.fetched < size / 10
    assert FactStore(store).read(STEP, sample_ids=IDS).num_rows == 1000


@pytest.mark.parametrize("more", [1, 400])
def test_facts_that_are_rewritten_while_they_are_fetched_are_never_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    monkeypatch.setattr(module, "SMALL", 0)
    here, store = FactStore(LocalStore(tmp_path)), Elsewhere(tmp_path)
    here.write(STEP, "a", rows(IDS[:400], reason="busy", retryable=True))
    store.meanwhile = lambda: here.write(STEP, "a", rows(IDS[:more], grams=7))
    found = FactStore(store).read(STEP, sample_ids=IDS[:3], columns=["sample_id", "grams"])
    assert store.meanwhile is None
    assert found["grams"].to_pylist() == [7 if number < more else None for number in range(3)]


def test_missing_leaves_out_what_any_batch_has_and_what_cannot_be_retried(facts: FactStore) -> None:
    facts.write(STEP, "a", rows(IDS[:1]))
    facts.write(STEP, "b", rows(IDS[1:2], reason="broken"))
    facts.write(STEP, "b", rows(IDS[2:3], reason="busy", retryable=True))
    assert facts.missing(STEP, "c", IDS[:4]) == IDS[2:4]
    assert facts.missing(STEP, "c", IDS[:4], others=["b"]) == [IDS[0], *IDS[2:4]]


def test_racing_writers_of_one_batch_lose_no_fact(facts: FactStore) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: facts.write(STEP, "b", rows(IDS[i : i + 3])), range(12)))
    assert facts.read(STEP)["sample_id"].to_pylist() == IDS[:14]


@settings(max_examples=20, deadline=None)
@given(
    writes=st.lists(
        st.tuples(
            st.sampled_from(["a", "b"]),
            st.lists(st.integers(0, 5), unique=True, max_size=4),
            st.sampled_from([(None, False), ("broken", False), ("busy", True)]),
        ),
        max_size=6,
    )
)
def test_the_outcome_of_a_sample_does_not_depend_on_the_order_of_writes(
    writes: list[tuple[str, list[int], tuple[str | None, bool]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    def outcome(order: list[tuple[str, list[int], tuple[str | None, bool]]]) -> list[dict[str, Any]]:
        facts = FactStore(LocalStore(tmp_path_factory.mktemp("facts")))
        for batch, numbers, (reason, retryable) in order:
            facts.write(STEP, batch, rows([IDS[i] for i in numbers], reason, retryable))
        found: list[dict[str, Any]] = facts.read(STEP).to_pylist()
        return found

    assert outcome(writes) == outcome(writes[::-1])
