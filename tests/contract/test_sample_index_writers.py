"""What every `SampleIndex` promises to those who write at once: the newer stands, and a replacement takes over whole."""

from __future__ import annotations

import multiprocessing
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from refinery.errors import ConflictError
from refinery.fields import Field, Fields, FieldType
from refinery.filter import parse
from refinery.index import Nearest, Query, SampleIndex
from tests.contract.indexes import (
    DIMENSIONS,
    FIELDS,
    Open,
    documents,
    ids,
    index,
    open_index,
    sample_id,
    vectors,
)

__all__ = ["index", "open_index"]

SPACES = {"default": DIMENSIONS}
DEADLINE = 60


def captions(index: SampleIndex, numbers: list[int]) -> list[Any]:
    return index.get([sample_id(n) for n in numbers]).column("caption").to_pylist()  # type: ignore[no-any-return]


def _draw(open_index: Open, path: Path, drawn: Any) -> None:
    index = open_index(path, FIELDS)
    drawn.put([index.next_sequence() for _ in range(20)])


def test_sequences_grow_across_processes_and_no_two_are_the_same(
    index: SampleIndex, open_index: Open, tmp_path: Path
) -> None:
    before = index.next_sequence()
    context = multiprocessing.get_context("spawn")
    drawn: Any = context.Queue()
    others = [context.Process(target=_draw, args=(open_index, tmp_path / "index", drawn)) for _ in range(2)]
    for other in others:
        other.start()
    lists = [drawn.get(timeout=DEADLINE) for _ in others]
    for other in others:
        other.join()
    after = index.next_sequence()
    numbers = [number for numbers in lists for number in numbers]
    assert all(numbers == sorted(numbers) for numbers in lists)
    assert len(set(numbers)) == 40
    assert before < min(numbers) <= max(numbers) < after


def test_an_older_upsert_never_replaces_a_newer_one_whichever_comes_last(index: SampleIndex) -> None:
    older, newer = index.next_sequence(), index.next_sequence()
    assert older < newer
    index.upsert(documents([1], caption=["new"]), newer)
    late = index.upsert(documents([1, 2], caption=["old"] * 2), older)
    assert (late.written, late.superseded) == ((sample_id(2),), (sample_id(1),))
    assert captions(index, [1, 2]) == ["new", "old"]
    index.upsert(documents([2], caption=["new"]), newer)
    assert captions(index, [1, 2]) == ["new", "new"]
    again = index.upsert(documents([1], caption=["new again"]), newer)
    assert again.written == (sample_id(1),)
    assert captions(index, [1]) == ["new again"]
    index.upsert(documents([1], caption=["without a sequence"]))
    assert captions(index, [1]) == ["without a sequence"]


def test_an_older_delete_leaves_a_newer_document_and_an_older_document_stays_deleted(
    index: SampleIndex,
) -> None:
    first, second, third = (index.next_sequence() for _ in range(3))
    index.upsert(documents([1]), first)
    index.upsert(documents([2, 3]), third)
    assert index.delete([sample_id(n) for n in (1, 2, 4)], second) == 1
    assert ids(index.digests()) == sorted([sample_id(2), sample_id(3)])
    late = index.upsert(documents([1, 4]), first)
    assert (late.written, sorted(late.superseded)) == ((), sorted([sample_id(1), sample_id(4)]))
    assert index.count() == 2
    assert index.upsert(documents([1]), third).written == (sample_id(1),)
    assert index.delete([sample_id(3)]) == 1
    assert index.count() == 2


def test_every_id_of_an_upsert_is_written_superseded_or_failed(index: SampleIndex) -> None:
    older, newer = index.next_sequence(), index.next_sequence()
    index.upsert(documents([1, 2]), newer)
    table = documents([1, 2, 3, 4, 5], score=[1.0, float("nan"), float("inf"), 1.0, 1.0])
    report = index.upsert(table, older)
    failed = {each.sample_id for each in report.failed}
    assert failed == {sample_id(2), sample_id(3)}
    assert set(report.superseded) == {sample_id(1)}
    assert set(report.written) == {sample_id(4), sample_id(5)}
    assert len(report.written) + len(report.superseded) + len(report.failed) == 5


def test_an_older_position_is_refused(index: SampleIndex) -> None:
    older, newer = index.next_sequence(), index.next_sequence()
    assert index.set_position({"offset": 2}, newer) is True
    assert index.set_position({"offset": 1}, older) is False
    assert index.position() == {"offset": 2}
    assert index.set_position({"offset": 3}, newer) is True
    assert index.set_position({"offset": 4}) is True
    assert index.position() == {"offset": 4}


def test_a_replacement_answers_at_once_and_whole(
    index: SampleIndex, open_index: Open, tmp_path: Path
) -> None:
    other = open_index(tmp_path / "index", FIELDS)
    index.upsert(documents(range(10)))
    index.set_position({"of": "the old"})
    fields = Fields([*FIELDS.attributes, Field("note", FieldType.TEXT)])
    with index.replacement(fields, {**SPACES, "style": 4}) as new:
        assert (new.count(), new.position()) == (0, {})
        new.upsert(documents(range(20, 25)).append_column("note", [["zebra"] * 5]))
        new.set_position({"of": "the new"})
        assert new.count() == 5
        for seen in (index, other):
            assert seen.count() == 10
            assert seen.position() == {"of": "the old"}
            assert ids(seen.query(Query(text="zebra")).documents) == []
    for seen in (index, other, open_index(tmp_path / "index", fields)):
        assert ids(seen.digests()) == sorted(sample_id(n) for n in range(20, 25))
        assert seen.position() == {"of": "the new"}
        assert seen.query(Query(nearest=Nearest((1.0,) * 4, "style"))).documents.num_rows == 0
    assert index.count(parse("matches(note, 'zebra')", fields)) == 5


def test_what_others_write_during_a_replacement_is_in_the_old_and_in_the_new(
    index: SampleIndex, open_index: Open, tmp_path: Path
) -> None:
    other = open_index(tmp_path / "index", FIELDS)
    index.upsert(documents(range(6)))
    with index.replacement(FIELDS, SPACES) as new:
        sequence = new.next_sequence()
        other.upsert(documents([0, 7], caption=["others"] * 2))
        assert other.delete([sample_id(1)]) == 1
        assert captions(other, [0, 7]) == ["others", "others"]
        late = new.upsert(documents(range(5), caption=["mine"] * 5), sequence)
        assert set(late.superseded) == {sample_id(0), sample_id(1)}
        other.upsert(documents([2], caption=["others"]))
        assert other.delete([sample_id(3)]) == 1
        assert other.count() == 5
    assert ids(index.digests()) == sorted(sample_id(n) for n in (0, 2, 4, 7))
    assert captions(index, [0, 2, 4, 7]) == ["others", "others", "mine", "others"]
    assert ids(other.digests()) == ids(index.digests())


def test_a_replacement_that_raises_leaves_the_old(index: SampleIndex) -> None:
    index.upsert(documents(range(5)))
    index.set_position({"of": "the old"})

    def fail() -> None:
        with index.replacement(FIELDS, SPACES) as new:
            new.upsert(documents(range(9)))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert index.count() == 5
    assert index.position() == {"of": "the old"}
    index.upsert(documents([9]))
    assert index.count() == 6


def test_of_two_replacements_the_later_wins(index: SampleIndex, open_index: Open, tmp_path: Path) -> None:
    other = open_index(tmp_path / "index", FIELDS)
    index.upsert(documents(range(3)))
    with ExitStack() as later:

        def replace() -> None:
            with index.replacement(FIELDS, SPACES) as first:
                first.upsert(documents(range(4)))
                second = later.enter_context(other.replacement(FIELDS, SPACES))
                second.upsert(documents(range(8)))

        with pytest.raises(ConflictError) as conflict:
            replace()
        assert conflict.value.kind == "replaced"
        assert index.count() == 3
    assert (index.count(), other.count()) == (8, 8)


def _die_replacing(open_index: Open, path: Path) -> None:
    with open_index(path, FIELDS).replacement(FIELDS, SPACES) as new:
        new.upsert(documents(range(3)))
        os._exit(9)


def test_a_replacement_whose_process_died_changes_nothing_and_is_in_nobodys_way(
    index: SampleIndex, open_index: Open, tmp_path: Path
) -> None:
    index.upsert(documents(range(5)))
    dying = multiprocessing.get_context("spawn").Process(
        target=_die_replacing, args=(open_index, tmp_path / "index")
    )
    dying.start()
    dying.join()
    assert dying.exitcode == 9
    assert index.count() == 5
    assert len(index.upsert(documents([7])).written) == 1
    assert index.count() == 6
    with index.replacement(FIELDS, SPACES) as new:
        new.upsert(documents(range(2)))
    assert ids(index.digests()) == sorted(sample_id(n) for n in range(2))


def _search_until(open_index: Open, path: Path, stop: Any, rounds: Any) -> None:
    """Every order returns exactly k, whatever others do meanwhile."""
    index = open_index(path, FIELDS)
    nearest = Nearest(tuple(vectors(2)[1].tolist()))
    orders: list[dict[str, Any]] = [
        {},
        {"nearest": nearest},
        {"text": "panda"},
        {"nearest": nearest, "text": "panda"},
        {"seed": 3},
    ]
    done = 0
    while not stop.is_set() or done == 0:
        for order in orders:
            page = index.query(Query(limit=7, filter=parse("width >= 0", FIELDS), **order))
            assert page.documents.num_rows == 7, order
            assert page.documents.column("sample_id").null_count == 0
        assert index.count() == 100
        done += 1
    rounds.put(done)


def test_searches_during_upserts_and_replacements_never_raise_and_return_exactly_k(
    index: SampleIndex, open_index: Open, tmp_path: Path
) -> None:
    path = tmp_path / "index"
    index.upsert(documents(range(100)))
    context = multiprocessing.get_context("spawn")
    stop, rounds = context.Event(), context.Queue()
    searcher = context.Process(target=_search_until, args=(open_index, path, stop, rounds))
    searcher.start()
    halt = Event()

    def write() -> int:
        writer = open_index(path, FIELDS)
        done = 0
        while not halt.is_set():
            writer.upsert(documents([n % 100 for n in range(done, done + 10)]))
            done += 10
        return done

    with ThreadPoolExecutor(2) as pool:
        deadline = time.monotonic() + DEADLINE
        searching = pool.submit(_search_until, open_index, path, halt, rounds)
        writing = pool.submit(write)
        try:
            for _ in range(3):
                with index.replacement(FIELDS, SPACES) as new:
                    sequence = new.next_sequence()
                    for start in range(0, 100, 20):
                        new.upsert(documents(list(range(start, start + 20))), sequence)
                assert time.monotonic() < deadline
        finally:
            halt.set()
            stop.set()
        assert writing.result(DEADLINE) > 0
        searching.result(DEADLINE)
    searcher.join(DEADLINE)
    assert searcher.exitcode == 0
    assert min(rounds.get(timeout=DEADLINE), rounds.get(timeout=DEADLINE)) > 0
    assert ids(index.digests()) == sorted(sample_id(n) for n in range(100))
