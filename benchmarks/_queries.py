"""Ten representative filters, each in our language and as a person would write it by hand for every peer."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

JUNE = int(datetime(2024, 6, 1, tzinfo=UTC).timestamp()) * 1_000_000


@dataclass(frozen=True, slots=True)
class FilterCase:
    """One filter: a name for the table, our text, OpenSearch DSL, LanceDB SQL, DuckDB SQL (that of LanceDB unless given), and an order."""

    name: str
    text: str
    dsl: dict[str, Any]
    sql: str
    duck_sql: str | None = None
    sort: str | None = None
    dsl_sort: list[Any] = field(default_factory=lambda: [{"sample_id": "asc"}])
    lance_sort: tuple[tuple[str, bool], ...] = (("sample_id", True),)

    @property
    def duck(self) -> str:
        return self.duck_sql or self.sql.replace("array_has(", "list_contains(")


def _and(*parts: dict[str, Any], no: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"bool": {"filter": list(parts), "must_not": no or []}}


def _or(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"bool": {"should": list(parts), "minimum_should_match": 1}}


def _term(name: str, value: Any) -> dict[str, Any]:
    return {"term": {name: value}}


def _range(name: str, **bounds: Any) -> dict[str, Any]:
    return {"range": {name: bounds}}


FILTERS = [
    FilterCase(
        "by source", "source = 'imagenet'", _term("source", "imagenet"), "array_has(source, 'imagenet')"
    ),
    FilterCase(
        "size and shape",
        "min_side >= 512 AND aspect BETWEEN 0.5 AND 2",
        _and(_range("min_side", gte=512), _range("aspect", gte=0.5, lte=2)),
        "min_side >= 512 AND aspect BETWEEN 0.5 AND 2",
    ),
    FilterCase(
        "date, source, not in evals",
        "ingested_at > '2024-06-01' AND source = 'imagenet' AND NOT in_dataset('evals')",
        _and(_range("ingested_at", gt=JUNE), _term("source", "imagenet"), no=[_term("datasets", "evals")]),
        "ingested_at > timestamp '2024-06-01 00:00:00Z' AND array_has(source, 'imagenet') "
        "AND NOT array_has(datasets, 'evals')",
        "ingested_at > TIMESTAMPTZ '2024-06-01 00:00:00Z' AND list_contains(source, 'imagenet') "
        "AND NOT list_contains(datasets, 'evals')",
    ),
    FilterCase(
        "two words",
        "matches(caption, 'red panda')",
        _and(_term("caption.words", "red"), _term("caption.words", "panda")),
        "regexp_like(caption, '\\bred\\b') AND regexp_like(caption, '\\bpanda\\b')",
        "regexp_matches(caption, '\\bred\\b') AND regexp_matches(caption, '\\bpanda\\b')",
    ),
    FilterCase(
        "tag or flag",
        "has_tag('hundredth') OR has_flag('review')",
        _or(_term("tags", "hundredth"), _term("flags", "review")),
        "array_has(tags, 'hundredth') OR array_has(flags, 'review')",
    ),
    FilterCase(
        "verdict and reason",
        "verdict = 'held' AND reasons = 'blurry'",
        _and(_term("verdict", "held"), _term("reasons", "blurry")),
        "verdict = 'held' AND array_has(reasons, 'blurry')",
    ),
    FilterCase(
        "two values and a score",
        "licence IN ('cc0', 'cc-by') AND score >= 0.5",
        _and({"terms": {"licence": ["cc0", "cc-by"]}}, _range("score", gte=0.5)),
        "licence IN ('cc0', 'cc-by') AND score >= 0.5",
    ),
    FilterCase(
        "LIKE and no mask",
        "caption LIKE '%house%' AND lacks_payload('mask')",
        _and({"wildcard": {"caption.exact": "*house*"}}, no=[_term("payloads", "mask")]),
        "caption LIKE '%house%' AND NOT array_has(payloads, 'mask')",
    ),
    FilterCase(
        "null and two formats",
        "score IS NULL AND (format = 'png' OR format = 'webp')",
        _and({"terms": {"format": ["png", "webp"]}}, no=[{"exists": {"field": "score"}}]),
        "score IS NULL AND format IN ('png', 'webp')",
    ),
    FilterCase(
        "ranges, newest first",
        "width BETWEEN 600 AND 900 AND sharpness > 20",
        _and(_range("width", gte=600, lte=900), _range("sharpness", gt=20)),
        "width BETWEEN 600 AND 900 AND sharpness > 20",
        sort="-ingested_at",
        dsl_sort=[{"ingested_at": {"order": "desc", "missing": "_last"}}, {"sample_id": "asc"}],
        lance_sort=(("ingested_at", False), ("sample_id", True)),
    ),
]

SELECTIVITIES = {"10 %": "tenth", "1 %": "hundredth", "0.1 %": "thousandth"}
"""The tag that so many samples have."""


def tagged(tag: str) -> dict[str, Any]:
    """The samples with a tag, as DSL."""
    return _term("tags", tag)
