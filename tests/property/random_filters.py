"""Random documents and random filters, drawn so that they often meet."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from refinery.digests import digest
from refinery.fields import Field, Fields, FieldType
from refinery.filter import Filter
from refinery.filter.ast import (
    Between,
    Compare,
    Constant,
    Contains,
    IsEmpty,
    IsNull,
    Like,
    Matches,
    Node,
    OneOf,
    Operator,
    all_of,
    any_of,
    negate,
)
from refinery.filter.patterns import words

FIELDS = Fields(
    [
        Field("caption", FieldType.TEXT),
        Field("score", FieldType.NUMBER),
        Field("order", FieldType.INTEGER),
        Field("in", FieldType.STRING),
        Field("taken", FieldType.DATE),
        Field("safe", FieldType.BOOLEAN),
        Field("labels", FieldType.STRING_LIST),
        Field("raw", FieldType.JSON),
    ]
)
USED = {
    FieldType.STRING: ["format", "in"],
    FieldType.TEXT: ["caption"],
    FieldType.INTEGER: ["width", "order"],
    FieldType.NUMBER: ["score", "sharpness"],
    FieldType.BOOLEAN: ["has_alpha", "safe"],
    FieldType.DATE: ["ingested_at", "taken"],
    FieldType.STRING_LIST: ["flags", "tags", "datasets", "payloads", "labels"],
}

# small alphabets full of what matters to quoting and patterns, to letter case, and to words: values and literals meet often
ALPHABETS = [
    ["a", "B", "b", "é", "ß", "日", "🐼", "%", "_", "\\", "'", '"', "`", "*", "?", "\n", "\0", "1", "-", ";", " "],
    ["k", "K", "\u212a", "ſ", "s", "S", "ß", "ẞ", "σ", "ς", "Σ", "i", "I", "İ", "ı", "å", "Å", "\u212b", "µ", "μ", " "],
    ["\u0390", "\u1fd3", "ﬅ", "ﬆ", "𐐀", "𐐨", "Ⱥ", "ⱥ", "ῼ", "ῳ", "ǅ", "Ǆ", "\u0345", "ι", "ᏸ", "Ᏸ", "\u1c80", "в", " "],
    ["e", "é", "e\u0301", "\u0301", "क्", "日", "本", "١", "²", "Ⅷ", "ⅷ", "Ⓐ", "👩🏽‍🚀", "\u200d", "\xa0", "_", ".", " "],
]  # fmt: skip
strings = (
    st.sampled_from(ALPHABETS)
    .flatmap(lambda alphabet: st.lists(st.sampled_from(alphabet), max_size=5))
    .map("".join)
)
names = st.sampled_from(["a", "b'", "c@1", "\\", "%", "é", "*", "K", "\u212a", "🐼", ""])
integers = st.sampled_from([-(2**63), -1, 0, 1, 2, 512, 2**53 + 1, 2**63 - 1])
floats = st.one_of(
    st.sampled_from([-1.5, -0.0, 0.0, 1.0, 5e-324, 1e308, 1.7976931348623157e308, 1e-05, 1e22]),
    st.floats(-2, 2, width=16),
)
dates = st.one_of(
    st.sampled_from(
        [
            datetime(1, 1, 1, tzinfo=UTC),
            datetime(1, 1, 1, 0, 0, 0, 1, UTC),
            datetime(1969, 12, 31, 23, 59, 59, 999999, UTC),
            datetime(2024, 1, 1, tzinfo=UTC),
            datetime(9999, 12, 31, 23, 59, 59, 999999, UTC),
        ]
    ),
    st.datetimes(datetime(2023, 12, 30), datetime(2024, 1, 3)).map(lambda d: d.replace(tzinfo=UTC)),
)
VALUES: dict[FieldType, st.SearchStrategy[Any]] = {
    FieldType.STRING: strings,
    FieldType.TEXT: strings,
    FieldType.INTEGER: integers,
    FieldType.NUMBER: floats.map(lambda x: x + 0.0),
    FieldType.BOOLEAN: st.booleans(),
    FieldType.DATE: dates,
    FieldType.STRING_LIST: names,
}
ORDERED = [FieldType.STRING, FieldType.TEXT, FieldType.INTEGER, FieldType.NUMBER, FieldType.DATE]
SCALAR = [*ORDERED, FieldType.BOOLEAN]
operators: st.SearchStrategy[Operator] = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])


@st.composite
def atoms(draw: st.DrawFn, seen: Mapping[str, list[Any]]) -> Node:
    """A comparison; its literals are often among the values `seen` in the field."""

    def literal(field: str) -> st.SearchStrategy[Any]:
        drawn = VALUES[FIELDS[field].type]
        return st.sampled_from(seen[field]) | drawn if seen.get(field) else drawn

    form = draw(
        st.sampled_from(["compare", "compare", "one_of", "between", "null", "like", "matches", "list", "empty", "constant", "boolean"])
    )  # fmt: skip
    if form == "constant":
        return Constant(draw(st.booleans()))
    if form == "boolean":
        field = draw(st.sampled_from(USED[FieldType.BOOLEAN]))
        return Compare(field, draw(st.sampled_from(["=", "!="])), draw(st.booleans()))
    if form in ("list", "empty"):
        field = draw(st.sampled_from(USED[FieldType.STRING_LIST]))
        some = draw(st.lists(literal(field), min_size=1, max_size=3, unique=True))
        return Contains(field, tuple(some)) if form == "list" else IsEmpty(field)
    if form == "matches":
        text = draw(literal("caption"))
        return Matches("caption", words(text) or ("a",))
    if form == "like":
        field = draw(st.sampled_from(["format", "in", "caption"]))
        return Like(field, draw(literal(field) | patterns(literal(field))))
    kind = draw(st.sampled_from(SCALAR if form in ("null", "one_of") else ORDERED))
    field = draw(st.sampled_from(USED[kind]))
    if form == "null":
        return IsNull(field)
    if form == "compare":
        return Compare(field, draw(operators), draw(literal(field)))
    if form == "between":
        return Between(field, draw(literal(field)), draw(literal(field)))
    several = draw(st.lists(literal(field), min_size=2, max_size=4, unique=True))
    return OneOf(field, tuple(several))


@st.composite
def patterns(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> str:
    """A text with some characters replaced by wildcards, or all escaped."""
    forms = st.sampled_from(draw(st.sampled_from([["{}", "{}", "_", "%", "\\{}", "%{}", "_{}"], ["\\{}"]])))
    return "".join(draw(forms).format(character) for character in draw(texts))


def filters_on(seen: Mapping[str, list[Any]]) -> st.SearchStrategy[Filter]:
    """Filters of up to ten comparisons with the values `seen` by field, and others."""
    nodes = st.recursive(
        atoms(seen),
        lambda inner: st.one_of(
            inner.map(negate),
            st.lists(inner, min_size=1, max_size=4).map(all_of),
            st.lists(inner, min_size=1, max_size=4).map(any_of),
        ),
        max_leaves=10,
    )
    return nodes.map(Filter)


filters = filters_on({})


@st.composite
def documents(draw: st.DrawFn) -> pa.Table:
    count = draw(st.integers(1, 12))
    columns: dict[str, list[Any]] = {
        "sample_id": [digest(bytes([i])) for i in range(count)],
        "doc_digest": ["d"] * count,
    }
    for kind, fields in USED.items():
        value = floats if kind is FieldType.NUMBER else VALUES[kind]
        cell = st.lists(value, max_size=3) if kind is FieldType.STRING_LIST else st.none() | value
        for field in fields:
            columns[field] = draw(st.lists(cell, min_size=count, max_size=count))
    schema = FIELDS.schema().append(pa.field("doc_digest", pa.string()))
    return pa.table(
        {c.name: pa.array(columns.get(c.name, [None] * count), c.type) for c in schema}, schema=schema
    )


@st.composite
def documents_and_filters(draw: st.DrawFn) -> tuple[pa.Table, list[Filter]]:
    """Documents, and filters that speak of their values."""
    table = draw(documents())
    seen: dict[str, list[Any]] = {}
    for name in (name for names in USED.values() for name in names):
        cells = table.column(name).to_pylist()
        values = [item for cell in cells for item in (cell if isinstance(cell, list) else [cell])]
        seen[name] = [
            0.0 if value == 0 and isinstance(value, float) else value for value in values if value is not None
        ]
    return table, draw(st.lists(filters_on(seen), min_size=16, max_size=24))
