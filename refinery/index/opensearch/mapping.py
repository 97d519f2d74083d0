"""The mapping of a backing index: every field has its type, and a document with any other is refused.

| field | in the index |
|---|---|
| string, string list | `keyword`: whole values, compared and ordered by their UTF-8 bytes |
| text | `text` for BM25; `.exact`, the whole value as `keyword`; `.words`, the words that `matches(…)` finds |
| integer, number, boolean | `long`, `double`, `boolean` |
| date | `long`: microseconds since 1970 UTC, exact from the year 1 to 9999; `.date`, in milliseconds, for aggregations |
| JSON, `doc_digest` | stored; the digest can be read without the document (doc values) |
| `vector_<space>` | `knn_vector`, cosine similarity |

A value that a keyword cannot hold (over `refinery.fields.MAX_TEXT_BYTES`) never comes here, so no field ignores any.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refinery.config import OpenSearchSettings
from refinery.errors import ConfigError
from refinery.fields import BUILTIN_FIELDS, MAX_ATTRIBUTES, Fields, FieldType
from refinery.filter.patterns import folds
from refinery.index import DOC_DIGEST, VECTOR

MAX_SPACES = 32
# a field counts once, and once more for each sub-field; a text has the most, two
MAX_FIELDS = 3 * (len(BUILTIN_FIELDS) + MAX_ATTRIBUTES) + MAX_SPACES + 1

_BETWEEN_WORDS = r"[^\p{L}\p{N}\p{M}]+"
_COMPRESSION = {("faiss", "fp16"): "2x", ("lucene", "byte"): "4x"}

_STORED = {"type": "keyword", "index": False, "doc_values": False}
_TYPES: dict[FieldType, dict[str, Any]] = {
    FieldType.STRING: {"type": "keyword"},
    FieldType.STRING_LIST: {"type": "keyword"},
    FieldType.TEXT: {
        "type": "text",
        "analyzer": "refinery_text",
        "fields": {
            "exact": {"type": "keyword"},
            "words": {
                "type": "text",
                "analyzer": "refinery_words",
                "norms": False,
                "index_options": "docs",
            },
        },
    },
    FieldType.INTEGER: {"type": "long"},
    FieldType.NUMBER: {"type": "double"},
    FieldType.BOOLEAN: {"type": "boolean"},
    FieldType.DATE: {"type": "long", "fields": {"date": {"type": "date", "format": "epoch_micros"}}},
    FieldType.JSON: _STORED,
}


def mapping(fields: Fields, spaces: Mapping[str, int], settings: OpenSearchSettings) -> dict[str, Any]:
    """The body that creates a backing index for `fields` and embedding `spaces` (dimensions by name).

    ConfigError(kind="bad_index_settings") when the engine has no such quantization, or there are too many spaces.
    """
    if len(spaces) > MAX_SPACES:
        raise ConfigError(
            f"An index has at most {MAX_SPACES} embedding spaces; found {len(spaces)}.",
            kind="bad_index_settings",
        )
    properties = {field.name: _TYPES[field.type] for field in fields.values()}
    properties[DOC_DIGEST] = {"type": "keyword", "index": False}
    properties |= {VECTOR + space: vector(size, settings) for space, size in spaces.items()}
    index: dict[str, Any] = {
        "knn": True,
        "number_of_shards": settings.shards,
        "number_of_replicas": settings.replicas,
        "refresh_interval": "1s",
        "mapping.total_fields.limit": MAX_FIELDS,
    }
    if settings.engine == "faiss":
        # it keeps vectors at length one: those of the document are what was written
        index["knn.derived_source.enabled"] = False
    return {
        "settings": {"index": index, "analysis": _analysis()},
        "mappings": {"dynamic": "strict", "properties": properties},
    }


def vector(dimension: int, settings: OpenSearchSettings) -> dict[str, Any]:
    """The mapping of one embedding space; errors as `mapping`."""
    field: dict[str, Any] = {
        "type": "knn_vector",
        "dimension": dimension,
        "method": {
            "name": "hnsw",
            "space_type": "cosinesimil",
            "engine": settings.engine,
            "parameters": {"m": settings.m, "ef_construction": settings.ef_construction},
        },
    }
    if settings.quantization == "none":
        return field
    try:
        compression = _COMPRESSION[settings.engine, settings.quantization]
    except KeyError:
        known = " and ".join(f"{quantization} with {engine}" for engine, quantization in _COMPRESSION)
        raise ConfigError(
            f"The engine {settings.engine} has no quantization {settings.quantization} of vectors compared by cosine: "
            f"there is {known}.",
            kind="bad_index_settings",
        ) from None
    return field | {"compression_level": compression}


def _analysis() -> dict[str, Any]:
    """Words as docs/filters.md defines them; in `refinery_text` accents do not matter, and words over 255 characters
    are left out."""
    return {
        "char_filter": {
            "refinery_fold": {
                "type": "mapping",
                "mappings": [f"{character} => {folded}" for character, folded in folds().items()],
            },
            "refinery_accents": {
                "type": "pattern_replace",
                "pattern": r"[\u0300-\u036f]+",
                "replacement": "",
            },
        },
        "tokenizer": {"refinery_word": {"type": "pattern", "pattern": _BETWEEN_WORDS}},
        "filter": {"refinery_length": {"type": "length", "max": 255}},
        "analyzer": {
            "refinery_words": {
                "type": "custom",
                "char_filter": ["refinery_fold"],
                "tokenizer": "refinery_word",
            },
            "refinery_text": {
                "type": "custom",
                "char_filter": ["refinery_accents"],
                "tokenizer": "refinery_word",
                "filter": ["lowercase", "asciifolding", "refinery_length"],
            },
        },
    }
