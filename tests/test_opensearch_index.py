"""What only an index on OpenSearch can get wrong: aliases, shards, the control index, types, limits of the server."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from refinery.config import OpenSearchSettings
from refinery.errors import ConfigError, InputError
from refinery.fields import Field, Fields, FieldType
from refinery.filter import parse
from refinery.index import Nearest, Query, Sort
from refinery.index.buckets import aggregate, kind_for
from refinery.index.opensearch import OpenSearchIndex
from refinery.index.opensearch.client import Client, Refused
from refinery.index.probe import recall
from tests.contract.indexes import DIMENSIONS, FIELDS, documents, every_page, ids, sample_id, vectors

Open = Callable[..., OpenSearchIndex]


@pytest.fixture
def settings(opensearch_url: str) -> Iterator[OpenSearchSettings]:
    settings = OpenSearchSettings(url=opensearch_url, name=f"own-{uuid.uuid4().hex[:12]}")
    yield settings
    Client(settings).request("DELETE", f"/{settings.name}.*")


@pytest.fixture
def index(settings: OpenSearchSettings) -> OpenSearchIndex:
    return OpenSearchIndex(settings, FIELDS)


@pytest.fixture
def client(settings: OpenSearchSettings) -> Client:
    return Client(settings)


def backing(client: Client, settings: OpenSearchSettings) -> list[str]:
    return sorted(client.request("GET", f"/{settings.name}*"))


@pytest.mark.parametrize("name", ["", "Upper", "a.b", "-a", "x" * 101])
def test_a_name_that_no_index_can_have_is_a_matter_of_config(opensearch_url: str, name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        OpenSearchIndex(OpenSearchSettings(url=opensearch_url).model_copy(update={"name": name}), FIELDS)


def test_reading_makes_no_index_and_writing_makes_only_its_own(
    index: OpenSearchIndex, client: Client, settings: OpenSearchSettings
) -> None:
    assert index.count() == 0
    assert index.position() == {}
    index.compact()
    assert backing(client, settings) == []
    index.upsert(documents([1]))
    assert backing(client, settings) == [f"{settings.name}.control-0", f"{settings.name}.documents-0"]


def test_an_index_that_was_wiped_comes_back_with_its_mapping_and_greater_sequences(
    index: OpenSearchIndex, client: Client, settings: OpenSearchSettings
) -> None:
    index.upsert(documents(range(3)))
    index.set_position({"offset": 1})
    before = index.next_sequence()
    client.request("DELETE", f"/{settings.name}.*")
    assert index.count() == 0
    assert index.position() == {}
    assert index.delete([sample_id(1)], before) == 0
    assert index.next_sequence() > before
    assert len(index.upsert(documents(range(2))).written) == 2
    assert index.count(parse("width = 1", FIELDS)) == 1
    names = (f"{settings.name}.control-0", f"{settings.name}.documents-0")
    assert backing(client, settings) == sorted(names)


def test_a_delete_never_makes_an_index_in_the_place_of_its_alias(
    settings: OpenSearchSettings, client: Client
) -> None:
    from refinery.index.opensearch.bulk import AliasGone, Bulk

    with pytest.raises(AliasGone):
        Bulk(client, settings, f"{settings.name}.next").delete([sample_id(1)], 5)
    assert backing(client, settings) == []


def test_leftovers_of_replacements_are_removed_and_of_two_live_indexes_the_newer_stays(
    index: OpenSearchIndex, client: Client, settings: OpenSearchSettings
) -> None:
    index.upsert(documents(range(3)))
    client.request("PUT", f"/{settings.name}.documents-7", {"aliases": {f"{settings.name}.next": {}}})
    with index.replacement(FIELDS, {}) as new:
        new.upsert(documents(range(2), space=None))
    live = backing(client, settings)
    assert len(live) == 2
    client.request("PUT", f"/{settings.name}.documents-0", {"aliases": {str(settings.name): {}}})
    assert len(index.upsert(documents([5], space=None)).written) == 1
    assert backing(client, settings) == live
    assert index.count() == 3


COLUMNS: dict[str, Callable[[np.random.Generator], Any]] = {
    "width": lambda r: int(r.integers(-50, 50)),
    "bytes": lambda r: int(r.integers(-(2**52), 2**52)),
    "score": lambda r: float(r.normal()),
    "format": lambda r: str(r.choice(["jpeg", "png", "é", "Z", ""])),
    "has_alpha": lambda r: bool(r.integers(2)),
    "tags": lambda r: sorted({str(t) for t in r.integers(0, 300, r.integers(0, 5))}),
    "ingested_at": lambda r: (
        datetime(1, 1, 2, tzinfo=UTC) + timedelta(seconds=int(r.integers(0, 3 * 10**11)))
    ),
    "caption": lambda r: str(r.choice(["one", "two words", "Two"])),
}


@pytest.mark.parametrize("shards", [1, 3])
def test_aggregates_are_those_of_the_column_on_any_number_of_shards(
    settings: OpenSearchSettings, shards: int
) -> None:
    index = OpenSearchIndex(settings.model_copy(update={"shards": shards}), FIELDS)
    random = np.random.default_rng(shards)
    cells = {
        name: [None if random.random() < 0.2 else draw(random) for _ in range(400)]
        for name, draw in COLUMNS.items()
    }
    table = documents(range(400), space=None, **cells)
    index.upsert(table)
    for name in COLUMNS:
        column = table.column(name).combine_chunks()
        for kind, size in [(None, 1), (None, 7), (None, 400), ("terms", 3), ("terms", 50)]:
            found = kind_for(FIELDS[name], kind, size)  # type: ignore[arg-type]
            assert index.aggregate(name, found, size=size) == aggregate(column, found, size), (
                name,
                found,
                size,
            )


def test_dates_are_counted_in_the_unit_that_fits(index: OpenSearchIndex) -> None:
    for span in (timedelta(minutes=7), timedelta(hours=5), timedelta(days=3), timedelta(days=40)):
        for start in (datetime(1969, 12, 31, 20, 59, 59, 999_999, UTC), datetime(2024, 2, 28, tzinfo=UTC)):
            table = documents(range(30), space=None, ingested_at=[start + n * span for n in range(30)])
            index.upsert(table)
            for size in (2, 12, 100):
                expected = aggregate(table.column("ingested_at").combine_chunks(), "date", size)
                assert index.aggregate("ingested_at", size=size) == expected


def test_several_shards_answer_every_order_as_one(settings: OpenSearchSettings) -> None:
    one = OpenSearchIndex(settings, FIELDS)
    three = OpenSearchIndex(settings.model_copy(update={"shards": 3, "name": f"{settings.name}-3"}), FIELDS)
    try:
        for index in (one, three):
            index.upsert(documents(range(120)))
        orders: list[dict[str, Any]] = [
            {"sort": Sort("score", True)},
            {"seed": 5},
            {"text": "panda tree"},
            {"nearest": (nearest := Nearest(tuple(vectors(3)[2].tolist()), exact=True))},
            {"nearest": nearest, "text": "panda tree"},
        ]
        for order in orders:
            assert every_page(one, limit=11, **order) == every_page(three, limit=50, **order), order
        assert ids(one.digests()) == ids(three.digests())
    finally:
        Client(settings).request("DELETE", f"/{settings.name}-3.*")


def test_a_list_in_place_of_a_string_is_another_type(settings: OpenSearchSettings) -> None:
    of_strings = Fields([*FIELDS.attributes, Field("labels", FieldType.STRING)])
    OpenSearchIndex(settings, of_strings).upsert(documents([1]).append_column("labels", [["a"]]))
    for kind in (FieldType.STRING_LIST, FieldType.TEXT, FieldType.JSON, FieldType.DATE):
        with pytest.raises(ConfigError, match="rebuild-index") as caught:
            OpenSearchIndex(settings, Fields([Field("labels", kind)])).count()
        assert caught.value.kind == "index_schema"


def test_types_that_change_under_a_writer_leave_it_writing_and_its_documents_to_be_projected(
    index: OpenSearchIndex, settings: OpenSearchSettings
) -> None:
    index.upsert(documents(range(4)))
    fields = Fields([Field("caption", FieldType.TEXT), Field("score", FieldType.STRING)])
    with index.replacement(fields, {"default": 4}) as new:
        old = OpenSearchIndex(settings, FIELDS)
        assert len(old.upsert(documents([1, 3], caption=["kept"] * 2)).written) == 2
        assert old.count() == 4
        assert new.get([sample_id(1)], ["caption", "score", "vector_default", "doc_digest"]).to_pylist() == [
            {"caption": "kept", "score": None, "vector_default": None, "doc_digest": ""}
        ]
        assert new.get([sample_id(3)], ["doc_digest"]).to_pylist() == [{"doc_digest": ""}]
    with pytest.raises(ConfigError, match="rebuild-index"):
        old.upsert(documents([2]))
    assert index.count() == 2


def test_searches_notice_that_the_index_was_replaced_by_one_of_other_types(
    index: OpenSearchIndex, settings: OpenSearchSettings
) -> None:
    index.upsert(documents(range(4)))
    reader = OpenSearchIndex(settings, FIELDS)
    assert reader.count() == 4
    fields = Fields([Field("caption", FieldType.TEXT), Field("score", FieldType.STRING_LIST)])
    with index.replacement(fields, {}) as new:
        new.upsert(documents([1], space=None).drop_columns("score"))
    with pytest.raises(ConfigError, match="rebuild-index"):
        reader.query(Query())


def test_a_search_beyond_the_servers_limits_is_a_matter_of_input(index: OpenSearchIndex) -> None:
    index.upsert(documents(range(3)))
    with pytest.raises(InputError) as caught:
        index.query(Query(text=" ".join(f"w{n}" for n in range(20_000))))
    assert caught.value.kind == "bad_query"


def test_the_largest_page_is_one_page(index: OpenSearchIndex) -> None:
    index.upsert(documents(range(20)))
    for order in ({}, {"nearest": Nearest((1.0,) * DIMENSIONS)}, {"seed": 1}, {"text": "panda"}):
        page = index.query(Query(limit=10_000, **order))  # type: ignore[arg-type]
        assert page.cursor is None
        assert page.documents.num_rows > 0


@pytest.mark.parametrize("quantization", ["none", "byte"])
def test_vectors_come_back_to_the_bit_and_scores_are_exact(
    settings: OpenSearchSettings, quantization: str
) -> None:
    index = OpenSearchIndex(settings.model_copy(update={"quantization": quantization}), FIELDS)
    table = documents(range(300))
    index.upsert(table)
    got = index.get(ids(table), ["vector_default"])
    assert got.column("vector_default").to_pylist() == table.column("vector_default").to_pylist()
    asked = vectors(1, seed=4)[0]
    everything = vectors(300).astype(np.float64)
    cosines = everything @ asked / np.linalg.norm(everything, axis=1) / np.linalg.norm(asked)
    by_id = {sample_id(n): cosines[n] for n in range(300)}
    page = index.query(Query(nearest=Nearest(tuple(asked.tolist())), limit=20))
    assert page.scores == pytest.approx([by_id[i] for i in ids(page.documents)], abs=1e-6)
    found = recall(index, sample=20)
    assert found is not None
    assert found >= 0.95


def test_recall_is_unknown_without_vectors(index: OpenSearchIndex) -> None:
    index.upsert(documents([5]))
    index.upsert(documents([1]))
    assert recall(index) is None


def test_a_document_too_large_for_a_request_goes_alone(settings: OpenSearchSettings) -> None:
    index = OpenSearchIndex(settings.model_copy(update={"bulk_bytes": 1000}), FIELDS)
    report = index.upsert(documents(range(20), uri=[["x" * 3000]] * 20))
    assert len(report.written) == 20
    assert index.count() == 20


def test_an_unexpected_refusal_says_what_was_refused(client: Client) -> None:
    with pytest.raises(Refused, match="parsing_exception") as caught:
        client.request("POST", "/_search", {"query": {"nonsense": {}}})
    assert caught.value.status == 400


def test_lists_and_nothing_come_back_as_the_port_has_them(index: OpenSearchIndex) -> None:
    table = documents([1, 2], tags=[["b", "a"], []], caption=["", None])
    index.upsert(table)
    got = index.get(ids(table), ["tags", "caption", "uri"]).to_pylist()
    assert got == [{"tags": ["b", "a"], "caption": "", "uri": []}, {"tags": [], "caption": None, "uri": []}]
    assert index.get([], ["tags"]).num_rows == 0
    assert isinstance(index.query(Query(columns=("tags",))).documents, pa.Table)


@pytest.mark.parametrize(("found", "requests"), [("all there is", 1), ("too few", 2)])
def test_a_hybrid_search_asks_exactly_only_when_the_graph_found_less_than_there_is(
    index: OpenSearchIndex, monkeypatch: pytest.MonkeyPatch, found: str, requests: int
) -> None:
    index.upsert(documents(range(30)))
    near = Nearest(tuple(vectors(1, seed=3)[0].tolist()), "default")
    query = Query(parse("width >= 0", FIELDS), nearest=near, text="panda", limit=50)
    exact = Nearest(near.vector, near.space, exact=True)
    whole = ids(index.query(Query(query.filter, nearest=exact, text="panda", limit=50)).documents)
    asked: list[str] = []
    searches, request = Client.searches, Client.request

    def counted_searches(self: Client, index: str, bodies: Any, **params: Any) -> list[Any]:
        asked.append("searches")
        replies = searches(self, index, bodies, **params)
        if found == "too few":  # as a graph does that a filter cut apart
            del replies[1]["hits"]["hits"][3:]
        return replies

    def counted_request(self: Client, method: str, path: str, *rest: Any, **named: Any) -> Any:
        asked.extend(["search"] if path.endswith("_search") else [])
        return request(self, method, path, *rest, **named)

    monkeypatch.setattr(Client, "searches", counted_searches)
    monkeypatch.setattr(Client, "request", counted_request)
    assert ids(index.query(query).documents) == whole
    assert len(asked) == requests
