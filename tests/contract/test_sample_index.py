"""What every `SampleIndex` does, whatever holds it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refinery.digests import digest
from refinery.errors import ConfigError, InputError
from refinery.fields import Field, Fields, FieldType
from refinery.filter import parse
from refinery.index import Nearest, Query, SampleIndex, Sort
from refinery.index.lancedb import LanceIndex
from refinery.search import SearchRequest, search, vector_of

FIELDS = Fields([Field("caption", FieldType.TEXT), Field("score", FieldType.NUMBER)])
WORDS = ["panda", "tree", "snow", "it's", "a+b", "café", "red", "house"]
DIMENSIONS = 16
START = datetime(2024, 1, 1, tzinfo=UTC)

Open = Callable[[Path, Fields], SampleIndex]


@pytest.fixture(params=[LanceIndex], ids=["lancedb"])
def open_index(request: pytest.FixtureRequest) -> Open:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def index(open_index: Open, tmp_path: Path) -> SampleIndex:
    return open_index(tmp_path / "index", FIELDS)


def sample_id(number: int) -> str:
    return digest(str(number).encode())


def vectors(count: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, DIMENSIONS)).astype(np.float32)


def documents(numbers: range | list[int], space: str | None = "default", **columns: list[Any]) -> pa.Table:
    """Documents whose cells follow from their number: each third has no score, each fifth no vector."""
    all_vectors = vectors(max(numbers, default=0) + 1)
    cells: dict[str, list[Any]] = {
        "sample_id": [sample_id(n) for n in numbers],
        "doc_digest": [f"d{n}" for n in numbers],
        "width": list(numbers),
        "score": [None if n % 3 == 0 else (n % 7) / 7 for n in numbers],
        "format": [["jpeg", "png", None][n % 3] for n in numbers],
        "has_alpha": [[True, False, None][n % 3] for n in numbers],
        "source": [["imagenet"] if n % 100 == 0 else ["web", "crawl"] for n in numbers],
        "datasets": [["evals", "evals@1"] if n % 2 else [] for n in numbers],
        "ingested_at": [START + timedelta(days=n % 400) for n in numbers],
        "caption": [f"{WORDS[n % 8]} and {WORDS[n % 5]}" if n % 4 else None for n in numbers],
        **columns,
    }
    schema = FIELDS.schema().append(pa.field("doc_digest", pa.string()))
    table = pa.table({c.name: pa.array(cells.get(c.name, [None] * len(numbers)), c.type) for c in schema})
    if space is None:
        return table
    rows = [all_vectors[n].tolist() if n % 5 else None for n in numbers]
    return table.append_column(f"vector_{space}", pa.array(rows, pa.list_(pa.float32(), DIMENSIONS)))


def ids(table: pa.Table) -> list[str]:
    return table.column("sample_id").to_pylist()  # type: ignore[no-any-return]


def every_page(index: SampleIndex, **query: Any) -> list[str]:
    found: list[str] = []
    cursor = None
    while True:
        page = index.query(Query(cursor=cursor, **query))
        found += ids(page.documents)
        cursor = page.cursor
        if cursor is None:
            return found


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


def test_a_position_is_kept_until_the_index_is_reset(
    index: SampleIndex, open_index: Open, tmp_path: Path
) -> None:
    index.upsert(documents(range(5)))
    index.set_position({"offset": 7, "root": "ab"})
    again = open_index(tmp_path / "index", FIELDS)
    assert again.position() == {"offset": 7, "root": "ab"}
    assert again.count() == 5
    index.reset(FIELDS, {"default": DIMENSIONS})
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


@pytest.mark.parametrize("share", [2, 10, 100, 1000])
def test_filtered_neighbours_are_those_of_brute_force(index: SampleIndex, share: int) -> None:
    count, k = 6000, 10
    numbers = list(range(count))
    marked = [["yes"] if n % share == 1 else [] for n in numbers]
    index.upsert(documents(numbers, tags=marked))
    everything = vectors(count).astype(np.float64)
    units = everything / np.linalg.norm(everything, axis=1, keepdims=True)
    passing = np.array([n for n in numbers if marked[n] and n % 5])
    for asked in vectors(3, seed=1):
        similarity = units[passing] @ (asked / np.linalg.norm(asked))
        best = passing[np.argsort(-similarity)[:k]]
        page = index.query(
            Query(filter=parse("has_tag('yes')", FIELDS), nearest=Nearest(tuple(asked.tolist())), limit=k)
        )
        assert ids(page.documents) == [sample_id(n) for n in best]
        assert page.scores == pytest.approx(np.sort(similarity)[::-1][:k], abs=1e-5)


def test_equal_vectors_come_in_order_of_sample_id_on_any_page(index: SampleIndex) -> None:
    same = [[1.0] * DIMENSIONS] * 30
    table = documents(range(30), space=None).append_column(
        "vector_default", pa.array(same, pa.list_(pa.float32(), DIMENSIONS))
    )
    index.upsert(table)
    nearest = Nearest((1.0,) * DIMENSIONS)
    in_order = sorted(ids(table))
    assert ids(index.query(Query(nearest=nearest, limit=4)).documents) == in_order[:4]
    assert every_page(index, nearest=nearest, limit=7) == in_order


def test_neighbours_ask_for_a_known_space_and_a_usable_vector(index: SampleIndex) -> None:
    index.upsert(documents(range(6)))
    with pytest.raises(InputError, match="Did you mean 'default'") as space:
        index.query(Query(nearest=Nearest((1.0,), "defalt")))
    assert space.value.kind == "unknown_space"
    for vector in [(1.0,), (0.0,) * DIMENSIONS, (float("nan"),) * DIMENSIONS]:
        with pytest.raises(InputError) as bad:
            index.query(Query(nearest=Nearest(vector)))
        assert bad.value.kind == "bad_vector"
    assert vector_of(index, sample_id(1)) == tuple(vectors(6)[1].tolist())
    with pytest.raises(InputError, match="no embedding"):
        vector_of(index, sample_id(5))
    with pytest.raises(InputError, match="no sample"):
        vector_of(index, sample_id(50))


@pytest.mark.parametrize(
    "sort",
    [
        None,
        Sort("score"),
        Sort("score", True),
        Sort("format", True),
        Sort("has_alpha"),
        Sort("ingested_at", True),
        Sort("sample_id", True),
        Sort("caption"),
    ],
)
def test_pages_hold_every_sample_once_in_order(index: SampleIndex, sort: Sort | None) -> None:
    table = documents(range(60))
    index.upsert(table)
    found = every_page(index, sort=sort, limit=7)
    rows = sorted(table.to_pylist(), key=lambda d: d["sample_id"])
    if sort is not None:
        name, down = sort.field, sort.descending
        with_value = sorted((d for d in rows if d[name] is not None), key=lambda d: d[name], reverse=down)
        rows = with_value + [d for d in rows if d[name] is None]
    assert found == [d["sample_id"] for d in rows]
    wanted = parse("width < 30", FIELDS)
    assert every_page(index, sort=sort, filter=wanted, limit=7) == [
        d["sample_id"] for d in rows if d["width"] < 30
    ]


def test_pages_survive_writes_in_between(index: SampleIndex) -> None:
    index.upsert(documents(range(30)))
    first = index.query(Query(sort=Sort("width"), limit=10))
    index.upsert(documents(range(30, 40), width=[-n for n in range(10)]))
    index.delete([sample_id(9)])
    second = index.query(Query(sort=Sort("width"), limit=10, cursor=first.cursor))
    assert ids(second.documents) == [sample_id(n) for n in range(10, 20)]


def test_a_cursor_belongs_to_its_query(index: SampleIndex) -> None:
    index.upsert(documents(range(30)))
    cursor = index.query(Query(sort=Sort("width"), limit=10)).cursor
    assert cursor is not None
    for text in [cursor, cursor[:-3], "", "!!", "W10", "é", "\ud800"]:
        with pytest.raises(InputError) as bad:
            index.query(Query(seed=3, cursor=text))
        assert bad.value.kind == "bad_cursor"
    with pytest.raises(InputError, match="cannot be sorted"):
        index.query(Query(sort=Sort("tags")))
    with pytest.raises(InputError, match="Did you mean 'width'"):
        index.query(Query(sort=Sort("widht")))


def test_a_random_order_follows_from_its_seed_alone(
    index: SampleIndex, open_index: Open, tmp_path: Path
) -> None:
    index.upsert(documents(range(40)))
    other = open_index(tmp_path / "other", FIELDS)
    other.upsert(documents(list(range(39, 19, -1))))
    other.upsert(documents(range(20)))
    shuffled = every_page(index, seed=7, limit=9)
    assert shuffled == every_page(other, seed=7, limit=40)
    assert sorted(shuffled) == sorted(sample_id(n) for n in range(40))
    assert shuffled != every_page(index, seed=8, limit=9)
    wanted = parse("width < 20", FIELDS)
    among = {sample_id(n) for n in range(20)}
    assert every_page(index, seed=7, limit=3, filter=wanted) == [i for i in shuffled if i in among]


def splitmix(seed: int, sample: str) -> int:
    """The key of docs/filters.md, in plain integers."""
    x = int(sample[:16], 16) ^ int(digest(str(seed).encode())[:16], 16)
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
    return x ^ x >> 31


def test_the_random_order_is_the_documented_one(index: SampleIndex) -> None:
    index.upsert(documents(range(50)))
    expected = sorted((sample_id(n) for n in range(50)), key=lambda i: (splitmix(-5, i), i))
    assert every_page(index, seed=-5, limit=20) == expected


def test_text_search_finds_words_and_joins_with_filters(index: SampleIndex) -> None:
    index.upsert(documents(range(40)))
    captions = dict(
        zip(ids(documents(range(40))), documents(range(40)).column("caption").to_pylist(), strict=True)
    )
    found = every_page(index, text="PANDA", limit=3)
    assert len(found) == len(set(found))
    assert set(found) == {i for i, caption in captions.items() if caption and "panda" in caption}
    page = index.query(Query(text="snow house", filter=parse("width < 20", FIELDS), limit=50))
    assert page.scores is not None
    assert list(page.scores) == sorted(page.scores, reverse=True)
    assert set(ids(page.documents)) == {
        sample_id(n) for n in range(20) if (c := captions[sample_id(n)]) and ("snow" in c or "house" in c)
    }
    index.upsert(documents([50], caption=["a zebra"]))
    index.delete([found[0]])
    assert ids(index.query(Query(text="zebra")).documents) == [sample_id(50)]
    assert set(every_page(index, text="panda", limit=2)) == set(found[1:])
    index.compact()
    assert set(every_page(index, text="panda zebra", limit=2)) == {*found[1:], sample_id(50)}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(st.characters(codec="utf-8"), max_size=20)
    | st.sampled_from(['"', "a AND", "(", "*:*", "\\", "-x", "caption:panda", "~1 ^2", "''"])
)
def test_text_search_has_no_syntax_to_get_wrong(index: SampleIndex, text: str) -> None:
    if index.count() == 0:
        index.upsert(documents(range(10)))
    assert index.query(Query(text=text)).documents.num_rows <= 10


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
