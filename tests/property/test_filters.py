"""Random filters: their text round-trips, their logic is three-valued, and any text is a filter or an error."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from refinery.errors import InputError
from refinery.filter import Filter, conjunction, parse
from refinery.filter.ast import any_of, negate
from tests.property.random_filters import FIELDS, documents, filters


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
