"""The mapping of an OpenSearch index, on a real server: what it holds comes back as it was, and words are the language's."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from opensearchpy import OpenSearch
from opensearchpy.exceptions import RequestError

from refinery.config import OpenSearchSettings
from refinery.errors import ConfigError
from refinery.fields import MAX_ATTRIBUTES, MAX_TEXT_BYTES, Field, Fields, FieldType, to_micros, to_utc
from refinery.filter.patterns import fold, folds
from refinery.index.opensearch.mapping import MAX_SPACES, mapping

FIELDS = Fields(
    [Field("caption", FieldType.TEXT), Field("raw", FieldType.JSON), Field("taken", FieldType.DATE)]
)
LUCENE = OpenSearchSettings()
BYTE = OpenSearchSettings(quantization="byte", m=8, ef_construction=64)

Make = Callable[..., str]


@pytest.fixture
def client(opensearch_url: str) -> OpenSearch:
    return OpenSearch(opensearch_url, timeout=60)


@pytest.fixture
def make(client: OpenSearch) -> Iterator[Make]:
    """Creates an index of a mapping; returns its name."""
    names: list[str] = []

    def create(body: dict[str, Any]) -> str:
        name = f"mapping-{uuid.uuid4().hex[:12]}"
        client.indices.create(index=name, body=body)
        names.append(name)
        return name

    yield create
    for name in names:
        client.indices.delete(index=name)


def tokens(client: OpenSearch, index: str, field: str, text: str) -> list[str]:
    found = client.indices.analyze(index=index, body={"field": field, "text": text})["tokens"]
    return [token["token"] for token in found]


def put(client: OpenSearch, index: str, **document: Any) -> dict[str, Any]:
    """The source of a document after it was written."""
    client.index(index=index, id="1", body=document, params={"refresh": "true"})
    (hit,) = client.search(index=index, body={"query": {"ids": {"values": ["1"]}}})["hits"]["hits"]
    assert hit["_source"] == client.get(index=index, id="1")["_source"]
    return dict(hit["_source"])


def test_a_full_registry_fits_and_no_field_comes_in_beside_it(client: OpenSearch, make: Make) -> None:
    full = Fields(Field(f"a{i}", FieldType.TEXT) for i in range(MAX_ATTRIBUTES))
    index = make(mapping(full, {f"s{i}": 4 for i in range(MAX_SPACES)}, LUCENE))
    put(client, index, a0="x", a499="y", vector_s31=[1, 0, 0, 0])
    with pytest.raises(RequestError, match="strict_dynamic_mapping_exception"):
        put(client, index, a500="x")


def test_the_longest_texts_are_held_whole(client: OpenSearch, make: Make) -> None:
    index = make(mapping(FIELDS, {}, LUCENE))
    for longest in ("x" * MAX_TEXT_BYTES, "Ⱥ" * (MAX_TEXT_BYTES // 2), "İ" * (MAX_TEXT_BYTES // 2)):
        put(client, index, caption=longest, tags=[longest, "short"], format=longest)
        for name in ("caption.exact", "tags", "format"):
            assert client.count(index=index, body={"query": {"term": {name: longest}}})["count"] == 1
        assert tokens(client, index, "caption.words", longest) == [fold(longest)]
    with pytest.raises(RequestError, match="immense term"):
        put(client, index, format="x" * 32_767)


def test_json_and_digests_are_stored_whatever_their_length(client: OpenSearch, make: Make) -> None:
    index = make(mapping(FIELDS, {}, LUCENE))
    raw = '{"a": "' + "é" * 500_000 + '"}'
    assert put(client, index, raw=raw, doc_digest="d1") == {"raw": raw, "doc_digest": "d1"}
    hits = client.search(index=index, body={"_source": False, "docvalue_fields": ["doc_digest"]})["hits"]
    assert hits["hits"][0]["fields"] == {"doc_digest": ["d1"]}


def test_dates_are_exact_over_all_years_and_fall_into_calendar_buckets(
    client: OpenSearch, make: Make
) -> None:
    index = make(mapping(FIELDS, {}, LUCENE))
    moments = ["0001-01-01T00:00:00.000001", "1969-12-31T23:59:59.999999", "9999-12-31T23:59:59.999999"]
    for place, moment in enumerate(moments):
        micros = to_micros(to_utc(moment))
        client.index(index=index, id=str(place), body={"taken": micros}, params={"refresh": "true"})
        for name, bounds in (("gt", micros - 1), ("lt", micros + 1)):
            query = {"bool": {"filter": [{"range": {"taken": {name: bounds}}}, {"term": {"taken": micros}}]}}
            assert client.count(index=index, body={"query": query})["count"] == 1
    years = {
        "date_histogram": {
            "field": "taken.date",
            "calendar_interval": "year",
            "format": "yyyy",
            "min_doc_count": 1,
        }
    }
    found = client.search(index=index, body={"size": 0, "aggs": {"years": years}})["aggregations"]["years"]
    assert [(bucket["key_as_string"], bucket["doc_count"]) for bucket in found["buckets"]] == [
        ("0001", 1),
        ("1969", 1),
        ("9999", 1),
    ]


def test_words_fold_as_the_regular_expressions_do(client: OpenSearch, make: Make) -> None:
    cased = sorted({*folds(), *folds().values(), *"İıŉǰẖéé日1"})
    column = pa.array(cased)
    for letter in cased:
        alike = pc.match_substring_regex(column, rf"(?i)\A{letter}\z").to_pylist()
        assert [fold(other) == fold(letter) for other in cased] == alike, letter
    assert all(len(folded.encode()) <= len(letter.encode()) for letter, folded in folds().items())
    index = make(mapping(FIELDS, {}, LUCENE))
    assert tokens(client, index, "caption.words", "-".join(cased)) == [fold(letter) for letter in cased]


def test_words_are_runs_of_letters_marks_and_digits(client: OpenSearch, make: Make) -> None:
    index = make(mapping(FIELDS, {}, LUCENE))
    text = "It's a RED_panda-house, e\u0301te\u0301 Été 日本 🐼x 𐐀 x²\u0663"
    assert tokens(client, index, "caption.words", text) == [
        "it", "s", "a", "red", "panda", "house", "e\u0301te\u0301", "été", "日本", "x", "𐐨", "x²\u0663",
    ]  # fmt: skip
    found = tokens(client, index, "caption", text)
    assert found[:8] == ["it", "s", "a", "red", "panda", "house", "ete", "ete"]


@pytest.mark.parametrize("settings", [LUCENE, BYTE], ids=["none", "byte"])
def test_vectors_come_back_to_the_last_bit(
    client: OpenSearch, make: Make, settings: OpenSearchSettings
) -> None:
    index = make(mapping(FIELDS, {"default": 8}, settings))
    wanted = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    wanted[0] = [1e-38, -1e-40, 1.0, 1e18, 0.0, 1e-45, 0.1, -3.0]
    lines: list[Any] = []
    for place, vector in enumerate(wanted.tolist()):
        lines += [{"index": {"_id": str(place)}}, {"vector_default": vector}]
    assert not client.bulk(index=index, body=lines, params={"refresh": "true"})["errors"]
    client.indices.forcemerge(index=index, params={"max_num_segments": "1"})
    docs = client.mget(index=index, body={"ids": [str(i) for i in range(50)]})["docs"]
    found = np.array([doc["_source"]["vector_default"] for doc in docs], np.float32)
    assert found.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("quantization", ["none", "fp16"])
def test_the_engine_faiss_gives_back_the_vector_that_was_written(
    client: OpenSearch, make: Make, quantization: Any
) -> None:
    body = mapping(
        FIELDS, {"default": 3}, OpenSearchSettings(engine="faiss", quantization=quantization, m=24)
    )
    body["settings"]["index"]["knn.advanced.approximate_threshold"] = -1  # no graph: it needs native code
    index = make(body)
    assert put(client, index, vector_default=[3.0, 4.0, 5.0]) == {"vector_default": [3.0, 4.0, 5.0]}


@pytest.mark.parametrize(("engine", "quantization"), [("lucene", "fp16"), ("faiss", "byte")])
def test_a_quantization_that_the_engine_lacks_is_refused(engine: Any, quantization: Any) -> None:
    with pytest.raises(ConfigError, match=f"{engine} has no quantization {quantization}") as refused:
        mapping(FIELDS, {"default": 8}, OpenSearchSettings(engine=engine, quantization=quantization))
    assert refused.value.kind == "bad_index_settings"


def test_shards_replicas_and_the_graph_are_those_of_the_settings(client: OpenSearch, make: Make) -> None:
    settings = OpenSearchSettings(shards=3, replicas=0, m=24, ef_construction=200)
    index = make(mapping(FIELDS, {"default": 8}, settings))
    found = client.indices.get(index=index)[index]
    assert found["settings"]["index"]["number_of_shards"] == "3"
    assert found["settings"]["index"]["number_of_replicas"] == "0"
    method = found["mappings"]["properties"]["vector_default"]["method"]
    assert method["engine"] == "lucene"
    assert method["space_type"] == "cosinesimil"
    assert method["parameters"] == {"m": 24, "ef_construction": 200}
