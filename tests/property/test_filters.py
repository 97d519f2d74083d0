"""Random documents × random filters: every evaluator selects the same samples, and text round-trips."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from refinery.digests import digest
from refinery.errors import InputError
from refinery.fields import Field, Fields, FieldType
from refinery.filter import Filter, conjunction, parse
from refinery.filter.ast import (
    And,
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
    Or,
    all_of,
    any_of,
    negate,
)
from refinery.filter.parser import MAX_DEPTH
from refinery.filter.patterns import words
from refinery.index.lancedb import LanceIndex

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

# a small alphabet full of what matters to quoting, patterns and words, so that values and literals meet often
pieces = st.sampled_from(
    [
        "a",
        "B",
        "b",
        "é",
        "É",
        "ß",
        "日",
        "🐼",
        "%",
        "_",
        "\\",
        "'",
        '"',
        "`",
        " ",
        "\n",
        "\0",
        "1",
        "-",
        ";",
        "e\u0301",
    ]
)
strings = st.lists(pieces, max_size=5).map("".join)
names = st.sampled_from(["a", "b'", "c@1", "\\", "%", "é", ""])
integers = st.sampled_from([-(2**63), -1, 0, 1, 2, 512, 2**53 + 1, 2**63 - 1])
floats = st.one_of(
    st.sampled_from([-1.5, -0.0, 0.0, 1.0, 5e-324, 1.7976931348623157e308, 1e-05, 1e22]),
    st.floats(-2, 2, width=16),
)
dates = st.one_of(
    st.sampled_from(
        [
            datetime(1, 1, 1, tzinfo=UTC),
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
def atoms(draw: st.DrawFn) -> Node:
    form = draw(
        st.sampled_from(
            [
                "compare",
                "one_of",
                "between",
                "null",
                "like",
                "matches",
                "list",
                "empty",
                "constant",
                "boolean",
            ]
        )
    )
    if form == "constant":
        return Constant(draw(st.booleans()))
    if form == "boolean":
        field = draw(st.sampled_from(USED[FieldType.BOOLEAN]))
        return Compare(field, draw(st.sampled_from(["=", "!="])), draw(st.booleans()))
    if form in ("list", "empty"):
        field = draw(st.sampled_from(USED[FieldType.STRING_LIST]))
        some = draw(st.lists(names, min_size=1, max_size=3, unique=True))
        return Contains(field, tuple(some)) if form == "list" else IsEmpty(field)
    if form == "matches":
        found = words(draw(strings.filter(lambda text: bool(words(text)))))
        return Matches("caption", found)
    if form == "like":
        return Like(draw(st.sampled_from(["format", "in", "caption"])), draw(strings))
    kind = draw(st.sampled_from(SCALAR if form in ("null", "one_of") else ORDERED))
    field = draw(st.sampled_from(USED[kind]))
    if form == "null":
        return IsNull(field)
    if form == "compare":
        return Compare(field, draw(operators), draw(VALUES[kind]))
    if form == "between":
        return Between(field, draw(VALUES[kind]), draw(VALUES[kind]))
    several = draw(st.lists(VALUES[kind], min_size=2, max_size=4, unique=True))
    return OneOf(field, tuple(several))


nodes = st.recursive(
    atoms(),
    lambda inner: st.one_of(
        inner.map(negate),
        st.lists(inner, min_size=1, max_size=4).map(all_of),
        st.lists(inner, min_size=1, max_size=4).map(any_of),
    ),
    max_leaves=10,
)
filters = nodes.map(Filter)


@st.composite
def documents(draw: st.DrawFn) -> pa.Table:
    count = draw(st.integers(1, 12))
    columns: dict[str, list[Any]] = {
        "sample_id": [digest(bytes([i])) for i in range(count)],
        "doc_digest": ["d"] * count,
    }
    for kind, fields in USED.items():
        value = VALUES[kind]
        cell = st.lists(value, max_size=3) if kind is FieldType.STRING_LIST else st.none() | value
        for field in fields:
            columns[field] = draw(st.lists(cell, min_size=count, max_size=count))
    schema = FIELDS.schema().append(pa.field("doc_digest", pa.string()))
    return pa.table(
        {c.name: pa.array(columns.get(c.name, [None] * count), c.type) for c in schema}, schema=schema
    )


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> LanceIndex:
    return LanceIndex(Path(tmp_path_factory.mktemp("index")), FIELDS)


def selected(table: pa.Table, wanted: Filter) -> set[str]:
    return {
        i for i, yes in zip(table.column("sample_id").to_pylist(), wanted.mask(table), strict=True) if yes
    }


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(documents(), st.lists(filters, min_size=8, max_size=12))
def test_arrow_and_lancedb_select_the_same_samples(
    index: LanceIndex, table: pa.Table, wanted: list[Filter]
) -> None:
    index.delete(index.digests().column("sample_id").to_pylist())
    assert not index.upsert(table).failed
    for one in wanted:
        found = index._table().search().where(one.to_lance()).select(["sample_id"]).limit(100).to_arrow()
        assert set(found.column("sample_id").to_pylist()) == selected(table, one), one.text


@settings(max_examples=300, deadline=None)
@given(filters)
def test_the_canonical_text_parses_back_to_an_equal_filter(wanted: Filter) -> None:
    again = parse(wanted.text, FIELDS)
    assert again == wanted
    assert again.text == wanted.text


@settings(max_examples=100, deadline=None)
@given(documents(), filters, filters)
def test_logic_is_three_valued(table: pa.Table, a: Filter, b: Filter) -> None:
    both, either, no = conjunction([a, b]), Filter(any_of([a.root, b.root])), Filter(negate(a.root))
    assert (both.mask(table) == (a.mask(table) & b.mask(table))).all()
    assert (either.mask(table) == (a.mask(table) | b.mask(table))).all()
    assert not (no.mask(table) & a.mask(table)).any()
    assert (Filter(negate(no.root)).mask(table) == a.mask(table)).all()


@settings(max_examples=100, deadline=None)
@given(documents(), filters)
def test_every_leaf_is_a_filter_of_its_own(table: pa.Table, wanted: Filter) -> None:
    leaves = wanted.leaves()
    assert {field for leaf in leaves for field in leaf.fields} == wanted.fields
    for leaf in leaves:
        assert leaf.leaves() == (leaf,)
        assert len(leaf.mask(table)) == table.num_rows
        assert parse(leaf.text, FIELDS) == leaf


words_of_the_language = st.sampled_from(
    [
        "width",
        "format",
        "caption",
        "tags",
        "has_alpha",
        "ingested_at",
        "raw",
        "in",
        '"in"',
        "order",
        "nope",
        "=",
        "!=",
        "<>",
        "<",
        ">=",
        "(",
        ")",
        ",",
        "AND",
        "OR",
        "NOT",
        "IN",
        "BETWEEN",
        "IS",
        "NULL",
        "LIKE",
        "TRUE",
        "FALSE",
        "'x'",
        "'2024-01-01'",
        "DATE",
        "5",
        "-",
        "1.5",
        "1e999",
        "has_flag(",
        "matches(",
        "SELECT",
        "CASE",
        "--",
        "/*",
        ";",
        "'",
        '"',
        "[",
        "{",
        "::",
        ".",
        "*",
        "@",
        "$",
        "\\",
        "\0",
        "INTERVAL",
        "CAST(",
        "EXISTS",
    ]
)


@settings(max_examples=1500, deadline=None)
@given(
    st.one_of(
        st.text(),
        st.lists(words_of_the_language, max_size=14).map(" ".join),
        st.text(st.characters(), max_size=30),
    )
)
@example("\ud800")
@example("NOT " * 4000 + "TRUE")
@example("(" * 60_000)
@example("(" * 30_000 + "TRUE" + ")" * 30_000)
@example("- " * 30_000 + "1 = width")
@example("width = NOT " * 5000 + "TRUE")
@example("width IN (" * 6000)
@example("width BETWEEN " * 4000 + "1 AND 2")
@example("x" * 60_000)
@example("width = " + "9" * 60_000)
@example("width = 1 OR " * 5000)
@example("'" + "a" * 70_000)
@example("format LIKE '" + "%a" * 20_000 + "'")
def test_any_text_is_a_filter_or_an_input_error(text: str) -> None:
    refused: InputError | None = None
    try:
        found = parse(text, FIELDS)
    except InputError as error:
        refused = error
    if refused is None:
        assert parse(found.text, FIELDS) == found
    else:
        assert refused.kind in ("bad_filter", "unknown_field")
        assert len(str(refused)) < 600


def nested(depth: int, atom: str) -> str:
    text = atom
    for level in range(depth // 2):
        text = f"width > {level} AND ({atom} OR NOT ({text}))"
    return text


def test_the_deepest_and_the_longest_filter_run_on_lancedb(index: LanceIndex) -> None:
    for atom in ("tags IN ('a', 'b')", "NOT matches(caption, 'a b c')", "in IS NULL", "labels IS NULL"):
        deepest = parse(nested(MAX_DEPTH, atom), FIELDS)
        assert index.count(deepest) >= 0
        assert index.count(Filter(negate(And((Constant(True), Or((deepest.root, Constant(False)))))))) >= 0
        with pytest.raises(InputError, match="nested too deeply"):
            parse(nested(MAX_DEPTH + 2, atom), FIELDS)
    longest = parse(" OR ".join(f"width = {i}" for i in range(4000)), FIELDS)
    assert index.count(longest) >= 0
    long_words = "matches(caption, '" + " ".join("w" * 1000 + str(i) for i in range(60)) + "')"
    assert index.count(parse(long_words, FIELDS)) == 0
    pattern = parse("caption LIKE '" + "_%a" * 300 + "'", FIELDS)
    assert index.count(pattern) == 0
