"""Aggregates, exact on any number of shards."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np

from refinery.fields import Field, FieldType, from_micros
from refinery.index import Aggregate, AggregateKind, Bucket
from refinery.index.buckets import following
from refinery.index.opensearch.reading import Reader

_UNITS = ("hour", "day", "month", "year")
_PER_PAGE = 10_000


def aggregate(
    reader: Reader, chosen: dict[str, Any], field: Field, kind: AggregateKind, size: int
) -> Aggregate:
    """At most `size` buckets of a field over the documents that the query `chosen` finds."""
    name = f"{field.name}.exact" if field.type is FieldType.TEXT else field.name
    ask = _Asker(reader, chosen, name)
    if kind == "terms":
        return _terms(ask, field, size)
    return _histogram(ask, field, size) if kind == "histogram" else _dates(ask, size)


class _Asker:
    def __init__(self, reader: Reader, chosen: dict[str, Any], name: str) -> None:
        self._reader, self._chosen, self.name = reader, chosen, name

    def __call__(self, **aggregations: Any) -> dict[str, Any]:
        """The replies to some aggregations, and how many documents have no value; nothing without an index."""
        body = {
            "size": 0,
            "track_total_hits": False,
            "query": {"bool": {"filter": [self._chosen]}},
            "aggs": {**aggregations, "missing": {"missing": {"field": self.name}}},
        }
        reply = self._reader.search(body)
        return {} if reply is None else dict(reply["aggregations"])


def _terms(ask: _Asker, field: Field, size: int) -> Aggregate:
    order = [{"_count": "desc"}, {"_key": "asc"}]
    found = ask(
        values={"terms": {"field": ask.name, "size": size, "shard_size": 2 * size + 100, "order": order}}
    )
    if not found:
        return Aggregate()
    missing, values = found["missing"]["doc_count"], found["values"]
    if values["doc_count_error_upper_bound"] == 0:
        buckets = tuple(Bucket(_value(field, b["key"]), b["doc_count"]) for b in values["buckets"])
        return Aggregate(buckets, missing, values["sum_other_doc_count"])
    counts = _every_value(ask)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    buckets = tuple(Bucket(_value(field, key), count) for key, count in ordered[:size])
    return Aggregate(buckets, missing, sum(count for _, count in ordered[size:]))


def _every_value(ask: _Asker) -> dict[Any, int]:
    """How many documents have each value, read page by page: shards that see only their share cannot rank values."""
    counts: dict[Any, int] = {}
    pages: dict[str, Any] = {"size": _PER_PAGE, "sources": [{"value": {"terms": {"field": ask.name}}}]}
    while True:
        found = ask(values={"composite": pages})["values"]
        counts |= {bucket["key"]["value"]: bucket["doc_count"] for bucket in found["buckets"]}
        if len(found["buckets"]) < _PER_PAGE:
            return counts
        pages["after"] = found["after_key"]


def _value(field: Field, key: Any) -> Any:
    if field.type is FieldType.DATE:
        return from_micros(key)
    return bool(key) if field.type is FieldType.BOOLEAN else key


def _histogram(ask: _Asker, field: Field, size: int) -> Aggregate:
    found = ask(values={"stats": {"field": ask.name}})
    if not found or not found["values"]["count"]:
        return Aggregate(missing=found["missing"]["doc_count"] if found else 0)
    low, high = found["values"]["min"], found["values"]["max"]
    if low == high:
        return Aggregate((Bucket(low, found["values"]["count"], high),), found["missing"]["doc_count"])
    edges = np.linspace(low, high, size + 1).tolist()
    # OpenSearch cuts the fraction off a bound of integers
    bounds = [math.ceil(edge) for edge in edges] if field.type is FieldType.INTEGER else edges
    ranges: list[dict[str, Any]] = [
        {"key": str(n), "from": a, "to": b} for n, (a, b) in enumerate(pairwise(bounds))
    ]
    del ranges[-1]["to"]  # the last interval has its end
    found = ask(values={"range": {"field": ask.name, "ranges": ranges, "keyed": True}})
    counts = [found["values"]["buckets"][str(n)]["doc_count"] for n in range(size)]
    buckets = (Bucket(a, count, b) for (a, b), count in zip(pairwise(edges), counts, strict=True))
    return Aggregate(tuple(buckets), found["missing"]["doc_count"])


def _dates(ask: _Asker, size: int) -> Aggregate:
    def starts(unit: str) -> dict[str, Any]:
        # in ascending order, the only one that OpenSearch cuts off at the right end
        start = {"field": f"{ask.name}.date", "calendar_interval": unit}
        most = _PER_PAGE if unit == "year" else size + 1
        return {"composite": {"size": most, "sources": [{"start": {"date_histogram": start}}]}}

    found = ask(total={"value_count": {"field": ask.name}}, **{unit: starts(unit) for unit in _UNITS})
    if not found:
        return Aggregate()
    for unit in _UNITS:
        counts = found[unit]["buckets"]
        if len(counts) <= size:
            break
    shown = []
    for bucket in counts[-size:]:
        start = from_micros(1000 * bucket["key"]["start"])
        shown.append(Bucket(start, bucket["doc_count"], following(start, unit)))
    other = int(found["total"]["value"]) - sum(bucket.count for bucket in shown)
    return Aggregate(tuple(shown), found["missing"]["doc_count"], other)
