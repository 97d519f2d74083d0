"""The folder of a LanceDB index: what is lost comes back, and what nobody needs any more goes."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from refinery.errors import CorruptionError
from refinery.index import Query
from refinery.index.lancedb import LanceIndex, folder
from tests.contract.indexes import DIMENSIONS, FIELDS, documents, ids, sample_id

SPACES = {"default": DIMENSIONS}


@pytest.fixture
def index(tmp_path: Path) -> LanceIndex:
    index = LanceIndex(tmp_path / "index", FIELDS)
    index.upsert(documents(range(5)))
    return index


def tables(index: LanceIndex) -> set[str]:
    return {path.stem for path in index.path.glob("*.lance")}


def test_sequences_go_on_after_the_index_was_lost(index: LanceIndex) -> None:
    drawn = [index.next_sequence() for _ in range(200)]
    assert drawn == sorted(set(drawn))
    shutil.rmtree(index.path)
    assert index.next_sequence() > drawn[-1]


def test_an_index_that_was_lost_claims_nothing_and_is_made_again(index: LanceIndex) -> None:
    index.set_position({"offset": 3})
    (table,) = tables(index)
    shutil.rmtree(index.path / f"{table}.lance")
    assert index.position() == {}
    assert index.count() == 0
    index.upsert(documents(range(2)))
    assert LanceIndex(index.path, FIELDS).count() == 2


def test_a_reader_that_holds_a_replaced_table_goes_on_reading_it(index: LanceIndex) -> None:
    held = index._table()
    with index.replacement(FIELDS, SPACES) as new:
        new.upsert(documents(range(2)))
    assert held.count_rows() == 5
    assert index.count() == 2


def test_a_replaced_table_goes_when_no_reader_can_hold_it_any_more(
    index: LanceIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    with index.replacement(FIELDS, SPACES):
        pass
    index.compact()
    assert len(tables(index)) == 2
    monkeypatch.setattr(folder, "KEPT", timedelta(0))
    index.compact()
    assert len(tables(index)) == 1
    assert index.count() == 0


def test_a_dead_replacement_is_dropped_by_the_next_writer(index: LanceIndex) -> None:
    (answering,) = tables(index)
    dying = index.replacement(FIELDS, SPACES)
    new = dying.__enter__()
    new.upsert(documents(range(3)))
    assert len(tables(index)) == 2
    for path in index.path.glob("*.own"):  # what the end of its process does to the lock
        path.unlink()
    index.upsert(documents([7]))
    assert tables(index) == {answering}
    assert index.count() == 6


def test_deletes_are_remembered_for_a_day_only(index: LanceIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    older = index.next_sequence()
    index.delete([sample_id(1)])
    assert index.upsert(documents([1]), older).superseded == (sample_id(1),)
    monkeypatch.setattr(folder, "REMEMBERED", timedelta(0))
    index.delete([sample_id(2)])
    assert index.upsert(documents([1]), older).written == (sample_id(1),)


def test_a_state_that_cannot_be_read_is_reported_with_what_to_do(index: LanceIndex) -> None:
    (index.path / "state.json").write_text("{")
    with pytest.raises(CorruptionError, match="rebuild-index") as damaged:
        index.query(Query())
    assert damaged.value.kind == "index_unreadable"


def test_the_column_of_sequences_is_no_part_of_a_document(index: LanceIndex) -> None:
    assert index.get([sample_id(1)]).column_names == [*FIELDS.schema().names, "doc_digest"]
    assert "_sequence" not in index.query(Query(limit=1)).documents.column_names
    assert len(ids(index.digests())) == 5
