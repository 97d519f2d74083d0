"""What every `SampleIndex` does with documents, whatever holds it."""

from __future__ import annotations

import multiprocessing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from refinery.errors import ConfigError, InputError
from refinery.fields import Field, Fields, FieldType
from refinery.filter import parse
from refinery.index import Nearest, Query, SampleIndex
from refinery.search import SearchRequest, search
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


def test_a_new_index_is_empty(index: SampleIndex) -> None:
    assert index.count() == 0
    assert index.count(parse("width > 5 AND tags = 'x'", FIELDS)) == 0
    assert index.digests().num_rows == 0
    assert index.position() == {}
    assert index.query(Query()).documents.num_rows == 0
    assert index.query(Query(text="panda")).documents.num_rows == 0
    assert index.query(Query(seed=1)).cursor is None
    assert index.get([sample_id(1)]).num_rows == 0
    assert index.aggregate("width").buckets == ()


def test_upserting_twice_replaces_and_accounts_for_every_id(index: SampleIndex) -> None:
    first = index.upsert(documents(range(20)))
    assert sorted(first.written) == sorted(sample_id(n) for n in range(20))
    assert not first.failed
    again = index.upsert(documents(range(10, 30), caption=["new"] * 20))
    assert len(again.written) == 20
    assert index.count() == 30
    got = index.get([sample_id(29), sample_id(10), sample_id(99), sample_id(3)])
    assert ids(got) == [sample_id(29), sample_id(10), sample_id(3)]
    assert got.column("caption").to_pylist() == ["new", "new", "it's and it's"]
    digests = dict(zip(*index.digests().to_pydict().values(), strict=True))
    assert digests == {sample_id(n): f"d{n}" for n in range(30)}
    assert list(digests) == sorted(digests)


def test_a_document_comes_back_as_it_was_written(index: SampleIndex) -> None:
    written = documents([1, 2, 3], uri=[["ünïcode 'quoted'.jpg"], None, []])
    index.upsert(written)
    got = index.get(ids(written), written.column_names)
    expected = written.to_pylist()
    for document in expected:
        document.update(
            {
                name: []
                for name, cell in document.items()
                if cell is None and pa.types.is_list(written.schema.field(name).type)
            }
        )
    assert got.to_pylist() == expected
    assert index.get(ids(written)).column_names == [*FIELDS.schema().names, "doc_digest"]


def test_documents_that_cannot_be_indexed_are_reported_and_the_others_written(index: SampleIndex) -> None:
    table = documents([1, 2, 3, 4])
    bad_vectors = [[float("nan")] * DIMENSIONS, [0.0] * DIMENSIONS, None, [1.0] * DIMENSIONS]
    table = table.set_column(
        table.column_names.index("vector_default"),
        "vector_default",
        pa.array(bad_vectors, pa.list_(pa.float32(), DIMENSIONS)),
    )
    table = table.set_column(
        table.column_names.index("score"), "score", pa.array([0.0, 0.0, float("inf"), -0.0])
    )
    table = pa.concat_tables([table, documents([5], sample_id=["no id"])])
    report = index.upsert(table)
    assert report.written == (sample_id(4),)
    reasons = {failed.sample_id: failed.reason for failed in report.failed}
    assert reasons == {
        sample_id(1): "bad_vector:vector_default",
        sample_id(2): "bad_vector:vector_default",
        sample_id(3): "not_finite:score",
        "no id": "bad_sample_id",
    }
    assert ids(index.digests()) == [sample_id(4)]
    assert index.count(parse("score = 0", FIELDS)) == 1


def test_a_table_that_is_not_of_documents_is_refused(index: SampleIndex) -> None:
    with pytest.raises(InputError, match="doc_digest") as missing:
        index.upsert(pa.table({"sample_id": [sample_id(1)]}))
    assert missing.value.kind == "bad_documents"
    with pytest.raises(InputError) as twice:
        index.upsert(documents([1, 1]))
    assert twice.value.kind == "duplicate_sample_id"
    with pytest.raises(InputError, match="'colour'") as unknown:
        index.upsert(documents([1]).append_column("colour", [["red"]]))
    assert unknown.value.kind == "unknown_field"
    index.upsert(documents([1]))
    other = documents([2], space=None).append_column(
        "vector_default", pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2))
    )
    with pytest.raises(ConfigError, match="rebuild-index") as schema:
        index.upsert(other)
    assert schema.value.kind == "index_schema"
    assert index.count() == 1


def test_deleting_says_how_many_were_there(index: SampleIndex) -> None:
    index.upsert(documents(range(10)))
    assert index.delete([sample_id(1), sample_id(2), sample_id(77)]) == 2
    assert index.delete([]) == 0
    assert index.count() == 8


def test_a_position_is_kept_until_the_index_is_replaced(
    index: SampleIndex, open_index: Open, tmp_path: Path
) -> None:
    index.upsert(documents(range(5)))
    index.set_position({"offset": 7, "root": "ab"})
    again = open_index(tmp_path / "index", FIELDS)
    assert again.position() == {"offset": 7, "root": "ab"}
    assert again.count() == 5
    with index.replacement(FIELDS, {"default": DIMENSIONS}):
        assert again.position() == {"offset": 7, "root": "ab"}
    assert again.position() == {}
    assert again.count() == 0
    assert again.query(Query(nearest=Nearest((1.0,) * DIMENSIONS))).documents.num_rows == 0


def test_attributes_and_spaces_registered_later_need_no_rebuild(open_index: Open, tmp_path: Path) -> None:
    open_index(tmp_path, FIELDS).upsert(documents(range(6)))
    more = Fields([*FIELDS.attributes, Field("note", FieldType.TEXT), Field("labels", FieldType.STRING_LIST)])
    index = open_index(tmp_path, more)
    assert index.count(parse("NOT labels = 'x' AND note IS NULL AND labels IS NULL", more)) == 6
    table = documents([5, 6], space="style").append_column("note", [["a panda here", None]])
    table = table.append_column("labels", pa.array([["x"], []], pa.list_(pa.string())))
    assert len(index.upsert(table).written) == 2
    assert index.count(parse("labels = 'x'", more)) == 1
    assert ids(index.query(Query(text="here")).documents) == [sample_id(5)]
    assert ids(index.query(Query(nearest=Nearest(tuple(vectors(7)[6].tolist()), "style"))).documents) == [
        sample_id(6)
    ]
    with pytest.raises(ConfigError, match="rebuild-index"):
        open_index(tmp_path, Fields([Field("caption", FieldType.INTEGER)])).count()


def test_the_example_of_the_design_runs_as_one_call(index: SampleIndex) -> None:
    index.upsert(documents(range(1000)))
    wanted = "ingested_at > '2024-01-01' AND source = 'imagenet' AND NOT in_dataset('evals')"
    result = search(
        index, FIELDS, SearchRequest(filter=wanted, vector=tuple(vectors(7)[6].tolist()), limit=5)
    )
    selected = [n for n in range(0, 1000, 100) if n % 400 and n % 5]
    assert [hit.sample_id for hit in result.hits] == [sample_id(n) for n in selected]
    result = search(index, FIELDS, SearchRequest(filter=wanted, limit=5))
    assert {hit.document["width"] for hit in result.hits} <= {n for n in range(0, 1000, 100) if n % 400}
    assert len(result.hits) == 5
    assert result.cursor is not None


def test_aggregates_count_every_sample(index: SampleIndex) -> None:
    index.upsert(documents(range(100)))
    formats = index.aggregate("format")
    assert [(b.value, b.count) for b in formats.buckets] == [("jpeg", 34), ("png", 33)]
    assert (formats.missing, formats.other) == (33, 0)
    sources = index.aggregate("source", size=1, filter=parse("width < 50", FIELDS))
    assert [(b.value, b.count) for b in sources.buckets] == [("crawl", 49)]
    assert sources.other == 50
    assert index.aggregate("datasets").missing == 50
    widths = index.aggregate("width", size=10)
    assert [b.count for b in widths.buckets] == [10] * 10
    assert (widths.buckets[0].value, widths.buckets[-1].end) == (0.0, 99.0)
    months = index.aggregate("ingested_at", size=12)
    assert [(b.value.month, b.count) for b in months.buckets] == [(1, 31), (2, 29), (3, 31), (4, 9)]
    assert months.buckets[-1].end == datetime(2024, 5, 1, tzinfo=UTC)
    years = index.aggregate("ingested_at", size=2)
    assert sum(b.count for b in years.buckets) == 100
    assert {b.value: b.count for b in index.aggregate("has_alpha").buckets} == {True: 34, False: 33}
    for field, kind in [("format", "histogram"), ("width", "date")]:
        with pytest.raises(InputError) as bad:
            index.aggregate(field, kind)  # type: ignore[arg-type]
        assert bad.value.kind == "bad_aggregate"


def test_a_query_has_one_order(index: SampleIndex) -> None:
    with pytest.raises(InputError, match="text and seed") as bad:
        search(index, FIELDS, SearchRequest(text="a", seed=1))
    assert bad.value.kind == "bad_query"
    with pytest.raises(InputError, match="limit"):
        Query(limit=0)


def _write(open_index: Open, path: Path, start: int, go: Any) -> None:
    index = open_index(path, FIELDS)
    go.wait()
    for step in range(4):
        numbers = list(range(start + step, start + step + 8))
        index.upsert(documents(numbers, space=None))


def test_racing_writers_in_several_processes_never_double_a_sample(open_index: Open, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    go = context.Barrier(2)
    writers = [context.Process(target=_write, args=(open_index, tmp_path, start, go)) for start in (0, 4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    index = open_index(tmp_path, FIELDS)
    assert ids(index.digests()) == sorted(sample_id(n) for n in range(15))
    assert index.count() == 15


def test_many_small_upserts_stay_searchable(index: SampleIndex) -> None:
    for n in range(40):
        index.upsert(documents([n], space=None))
    assert index.count() == 40
    assert index.count(parse("width < 10", FIELDS)) == 10
    index.compact()
    assert ids(index.digests()) == sorted(sample_id(n) for n in range(40))
