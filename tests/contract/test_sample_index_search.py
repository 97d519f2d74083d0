"""How every `SampleIndex` searches: neighbours, orders, pages, words."""

from __future__ import annotations

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
