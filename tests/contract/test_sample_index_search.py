"""How every `SampleIndex` searches: neighbours, orders, pages, words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refinery.digests import digest
from refinery.errors import InputError
from refinery.filter import parse
from refinery.index import Nearest, Query, SampleIndex, Sort
from refinery.index.fusion import WINDOW, fuse
from refinery.search import vector_of
from tests.contract.indexes import (
    DIMENSIONS,
    FIELDS,
    Open,
    documents,
    every_page,
    ids,
    index,
    open_index,
    sample_id,
    vectors,
)

__all__ = ["index", "open_index"]


SHARES = {"all": 1, "tenth": 10, "hundredth": 100, "thousandth": 1000}


def test_filtered_neighbours_are_those_of_brute_force_at_every_selectivity(index: SampleIndex) -> None:
    count, k = 6000, 10
    numbers = list(range(count))
    index.upsert(documents(numbers, tags=[[s for s, n in SHARES.items() if i % n == 1 % n] for i in numbers]))
    everything = vectors(count).astype(np.float64)
    units = everything / np.linalg.norm(everything, axis=1, keepdims=True)
    for tag, share in SHARES.items():
        passing = np.array([n for n in numbers if n % share == 1 % share and n % 5])
        kept, asked_for = 0, 0
        for asked in vectors(6, seed=1):
            similarity = units[passing] @ (asked / np.linalg.norm(asked))
            best = [sample_id(n) for n in passing[np.argsort(-similarity)[:k]]]
            query = Query(
                filter=parse(f"has_tag('{tag}')", FIELDS),
                nearest=Nearest(tuple(asked.tolist()), exact=True),
                limit=k,
            )
            exact = index.query(query)
            assert ids(exact.documents) == best
            assert exact.scores == pytest.approx(np.sort(similarity)[::-1][:k], abs=1e-5)
            found = index.query(replace(query, nearest=Nearest(tuple(asked.tolist()))))
            assert found.scores is not None
            assert list(found.scores) == sorted(found.scores, reverse=True)
            assert len(set(ids(found.documents))) == found.documents.num_rows == len(best)
            kept += len(set(ids(found.documents)) & set(best))
            asked_for += len(best)
        assert kept >= 0.95 * asked_for, tag


def test_equal_vectors_come_in_order_of_sample_id_on_any_page(index: SampleIndex) -> None:
    same = [[1.0] * DIMENSIONS] * 30
    table = documents(range(30), space=None).append_column(
        "vector_default", pa.array(same, pa.list_(pa.float32(), DIMENSIONS))
    )
    index.upsert(table)
    nearest = Nearest((1.0,) * DIMENSIONS, exact=True)
    in_order = sorted(ids(table))
    assert ids(index.query(Query(nearest=nearest, limit=4)).documents) == in_order[:4]
    assert every_page(index, nearest=nearest, limit=7) == in_order


@pytest.mark.parametrize(
    ("where", "rare"), [(None, {False, True}), ("NOT has_tag('rare')", {False}), ("has_tag('rare')", {True})]
)
def test_the_head_is_the_first_samples_in_order_of_id_however_many(
    index: SampleIndex, where: str | None, rare: set[bool]
) -> None:
    count = 11_000
    tags = [["rare", f"t{n % 5}"] if n % 40 == 0 else [f"t{n % 5}"] for n in range(count)]
    index.upsert(documents(range(count), space=None, tags=tags))
    chosen = None if where is None else parse(where, FIELDS)
    expected = sorted(sample_id(n) for n in range(count) if (n % 40 == 0) in rare)
    numbers = {sample_id(n): n for n in range(count)}
    for limit in (1, 7, 300, 10_500, 20_000):
        found = index.head(chosen, limit, ("width", "tags", "sample_id"))
        assert found.column_names == ["width", "tags", "sample_id"]
        assert ids(found) == expected[:limit]
        assert found["width"].to_pylist() == [numbers[i] for i in expected[:limit]]
        assert found["tags"].to_pylist() == [tags[numbers[i]] for i in expected[:limit]]
    with pytest.raises(InputError, match="colour"):
        index.head(chosen, 3, ("colour",))
    nothing = parse("width < 0", FIELDS)
    assert index.head(nothing, 5, ("sample_id", "tags")).num_rows == 0


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


def test_a_hybrid_search_fuses_the_order_of_words_with_the_order_of_vectors(index: SampleIndex) -> None:
    index.upsert(documents(range(120)))
    nearest = Nearest(tuple(vectors(4, seed=2)[3].tolist()), exact=True)
    for wanted in (None, parse("width < 60", FIELDS)):
        words = every_page(index, text="red panda", filter=wanted, limit=50)
        similar = every_page(index, nearest=nearest, filter=wanted, limit=50)
        assert 0 < len(words) < len(similar) < WINDOW
        fused = fuse(words, similar)
        page = index.query(Query(text="red panda", nearest=nearest, filter=wanted, limit=len(fused)))
        assert ids(page.documents) == [i for i, _ in fused]
        assert page.scores == pytest.approx([score for _, score in fused])
        assert page.cursor is None
        assert every_page(index, text="red panda", nearest=nearest, filter=wanted, limit=7) == [
            i for i, _ in fused
        ]
    page = index.query(Query(text="red panda", nearest=nearest, limit=5))
    with pytest.raises(InputError) as bad:
        index.query(Query(text="red panda", limit=5, cursor=page.cursor))
    assert bad.value.kind == "bad_cursor"


def test_a_hybrid_search_finds_what_only_one_of_its_orders_knows(index: SampleIndex) -> None:
    index.upsert(documents([1, 5, 10], caption=["a zebra", "a zebra", "a horse"]))
    nearest = Nearest(tuple(vectors(2)[1].tolist()))
    found = ids(index.query(Query(text="zebra", nearest=nearest)).documents)
    assert found == [sample_id(1), sample_id(5)]
    assert ids(index.query(Query(text="nothing", nearest=nearest)).documents) == [sample_id(1)]


def test_a_hybrid_search_returns_exactly_k_whenever_k_match(index: SampleIndex) -> None:
    index.upsert(documents(range(400)))
    nearest = Nearest(tuple(vectors(1, seed=4)[0].tolist()))
    for where, matching in [("width < 400", 320), ("width < 40", 32), ("width < 4", 3)]:
        wanted = parse(where, FIELDS)
        words = set(every_page(index, text="tree", filter=wanted, limit=100))
        vector = {sample_id(n) for n in range(400) if n % 5 and n < int(where.split()[-1])}
        assert len(vector) == matching
        page = index.query(Query(text="tree", nearest=nearest, filter=wanted, limit=300))
        assert page.documents.num_rows == min(300, len(words | vector))


def test_an_approximate_search_and_an_exact_one_are_two_queries(index: SampleIndex) -> None:
    index.upsert(documents(range(60)))
    near = Nearest((1.0,) * DIMENSIONS)
    cursor = index.query(Query(nearest=near, limit=5)).cursor
    assert cursor is not None
    with pytest.raises(InputError, match="does not belong"):
        index.query(Query(nearest=replace(near, exact=True), limit=5, cursor=cursor))
    pages = every_page(index, nearest=near, limit=9)
    assert len(pages) == len(set(pages)) == 48


def test_rows_of_a_page_are_its_documents_as_python_values(index: SampleIndex) -> None:
    index.upsert(documents(range(8)))
    for query in (
        Query(limit=8),
        Query(text="panda", columns=("caption", "sample_id", "ingested_at")),
        Query(nearest=Nearest(tuple(vectors(3)[2].tolist())), columns=("sample_id", "vector_default")),
    ):
        page = index.query(query)
        assert page.rows() == page.documents.to_pylist()
        assert page.rows()
