"""The filter language by example: what is accepted, what it means, and what is refused with which words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from refinery.errors import InputError
from refinery.fields import Field, Fields, FieldType
from refinery.filter import Filter, conjunction, parse

FIELDS = Fields(
    [
        Field("caption", FieldType.TEXT),
        Field("score", FieldType.NUMBER),
        Field("date", FieldType.DATE),
        Field("order", FieldType.INTEGER),
        Field("meta", FieldType.JSON),
    ]
)


def rows(**columns: list[Any]) -> pa.Table:
    return pa.table({name: pa.array(cells, FIELDS[name].type.arrow) for name, cells in columns.items()})


def selected(text: str, table: pa.Table) -> list[bool]:
    return [bool(yes) for yes in parse(text, FIELDS).mask(table)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("width > 1", [False, True, False]),
        ("NOT width > 1", [True, False, False]),
        ("width != 1", [False, True, False]),
        ("width NOT IN (1, 5)", [False, True, False]),
        ("width IS NULL OR width > 1", [False, True, True]),
        ("NOT (width > 1 AND TRUE)", [True, False, False]),
        ("width > 1 OR NOT width > 1", [True, True, False]),
        ("width IS NOT NULL", [True, True, False]),
    ],
)
def test_a_comparison_with_no_value_is_unknown_and_not_selected(text: str, expected: list[bool]) -> None:
    assert selected(text, rows(width=[1, 2, None])) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tags = 'a'", [True, False, False, False]),
        ("tags != 'a'", [False, True, True, True]),
        ("tags IN ('a', 'c')", [True, True, False, False]),
        ("NOT has_tag('a')", [False, True, True, True]),
        ("tags IS NULL", [False, False, True, True]),
        ("tags IS NOT NULL", [True, True, False, False]),
    ],
)
def test_a_list_holds_a_value_or_does_not(text: str, expected: list[bool]) -> None:
    assert selected(text, rows(tags=[["a", "b"], ["c"], [], None])) == expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a%", ["a", "a%b", "axb", "a\\", "a\nb"]),
        ("a_b", ["a%b", "axb", "a\nb"]),
        ("a\\%b", ["a%b"]),
        ("a\\", ["a\\"]),
        ("A%", []),
    ],
)
def test_like_follows_its_wildcards(pattern: str, expected: list[str]) -> None:
    values = ["a", "a%b", "axb", "a\\", "a\nb", "ba"]
    found = selected(f"format LIKE '{pattern}'", rows(format=values))
    assert [value for value, yes in zip(values, found, strict=True) if yes] == expected


def test_matches_finds_whole_words_in_any_case_and_order() -> None:
    captions = ["A red panda.", "PANDA, red", "redder panda", "été: panda_red", None]
    table = rows(caption=captions)
    assert selected("matches(caption, 'Panda red')", table) == [True, True, False, True, False]
    assert selected("NOT matches(caption, 'Panda red')", table) == [False, False, True, False, False]
    assert selected("matches(caption, 'ÉTÉ!')", table) == [False, False, False, True, False]


def test_dates_are_moments_in_utc() -> None:
    midnight = datetime(2024, 1, 1, tzinfo=UTC)
    table = rows(date=[midnight, midnight + timedelta(minutes=30), None])
    assert selected("date > '2024-01-01'", table) == [False, True, False]
    assert selected("date > DATE '2024-01-01'", table) == [False, True, False]
    assert selected("date = TIMESTAMP '2024-01-01T01:00:00+01:00'", table) == [True, False, False]


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("width>=512 and (has_alpha or not near_duplicate)", "width >= 512 AND (has_alpha OR NOT near_duplicate)"),
        ("5 < width", "width > 5"),
        ("width = 1024.0", "width = 1024"),
        ("score <> -1", "score != -1.0"),
        ("NOT width BETWEEN -1 AND 2", "width NOT BETWEEN -1 AND 2"),
        ("((WIDTH)) IN ((3), 3)", "width = 3"),
        ("NOT NOT NOT has_alpha -- really", "NOT has_alpha"),
        ("flags = 'it''s'", "has_flag('it''s')"),
        ("lacks_payload('mask')", "NOT has_payload('mask')"),
        ("uri NOT IN ('a', 'b')", "uri NOT IN ('a', 'b')"),
        ("order = 1 AND (order = 1 AND order = 2)", "order = 1 AND order = 2"),
        ("matches(caption, 'red, red car!')", "matches(caption, 'red car')"),
        ("has_alpha = TRUE", "has_alpha"),
    ],
)  # fmt: skip
def test_the_canonical_text_says_it_one_way(text: str, canonical: str) -> None:
    assert parse(text, FIELDS).text == canonical
    assert parse(canonical, FIELDS) == parse(text, FIELDS)


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("wdth > 5", "unknown_field", "Did you mean 'width'"),
        ('format = "jpeg"', "bad_filter", "single quotes"),
        ("width > '5'", "bad_filter", "a whole number; found the text '5'"),
        ("width > 1.5", "bad_filter", "a whole number"),
        ("width > 99999999999999999999", "bad_filter", "64 bits"),
        ("score > 1e999", "bad_filter", "finite"),
        ("width = NULL", "bad_filter", "IS NULL"),
        ("width = height", "bad_filter", "the name 'height'"),
        ("width", "bad_filter", "no condition by itself"),
        ("has_alpha > FALSE", "bad_filter", "NOT has_alpha"),
        ("has_alpha IS TRUE", "bad_filter", "NULL"),
        ("meta = 'x'", "bad_filter", "stored-only JSON"),
        ("tags < 'a'", "bad_filter", "is a list"),
        ("tags LIKE 'a%'", "bad_filter", "string_list"),
        ("date > 'yesterday'", "bad_filter", "ISO 8601"),
        ("matches(format, 'a')", "bad_filter", "text field"),
        ("matches(caption, '?!')", "bad_filter", "1 to 64 words"),
        ("has_flg('x')", "bad_filter", "Did you mean 'has_flag'"),
        ("has_flag('x', 'y')", "bad_filter", "found 2 arguments"),
        ("has_flag(has_tag('x'))", "bad_filter", "inside another"),
        ("caption ILIKE 'a'", "bad_filter", "'ILIKE'"),
        ("width > 5; DROP TABLE documents", "bad_filter", "';'"),
        ("width IN (SELECT 1)", "bad_filter", "'SELECT'"),
        ("width IN ()", "bad_filter", "IN needs a list"),
        ("a.b = 1", "bad_filter", "'.'"),
        ("width > 5 height < 6", "bad_filter", "near 'height'"),
        ("(width > 5", "bad_filter", "without its ')'"),
        ("width > 5)", "bad_filter", "without its '('"),
        ("caption = 'open", "bad_filter", "quote"),
        ("  ", "bad_filter", "empty"),
    ],
)  # fmt: skip
def test_a_wrong_filter_is_refused_with_the_piece_that_is_wrong(text: str, kind: str, words: str) -> None:
    with pytest.raises(InputError) as refused:
        parse(text, FIELDS)
    assert refused.value.kind == kind
    assert words in str(refused.value)


def test_a_filter_says_what_it_reads() -> None:
    found = parse("width > 5 AND NOT in_dataset('evals') AND (in_dataset('train@3') OR TRUE)", FIELDS)
    assert found.fields == {"width", "datasets"}
    assert found.datasets == {"evals", "train@3"}
    assert found.unpinned_datasets == {"evals"}


def test_leaves_are_the_comparisons_in_order() -> None:
    found = parse("sharpness >= 12 AND NOT near_duplicate AND NOT (width < 5 OR height < 5)", FIELDS)
    assert [leaf.text for leaf in found.leaves()] == ["sharpness >= 12.0", "NOT near_duplicate", "width < 5", "height < 5"]  # fmt: skip


def test_a_conjunction_joins_filters_and_nothing_selects_everything() -> None:
    a, b = parse("width > 5", FIELDS), parse("height > 5 OR has_alpha", FIELDS)
    assert conjunction([a, None, b, a]).text == "width > 5 AND (height > 5 OR has_alpha)"
    assert conjunction([]) == parse("TRUE", FIELDS)
    assert conjunction([]).mask(rows(width=[1, None])).tolist() == [True, True]


def test_a_table_without_the_column_is_refused() -> None:
    with pytest.raises(InputError, match="'width'") as refused:
        parse("width > 5", FIELDS).mask(rows(height=[1]))
    assert refused.value.kind == "missing_column"


def test_text_reaches_lancedb_as_a_literal_only() -> None:
    hostile = "x') OR TRUE OR array_has(`tags`, 'y"
    quoted = hostile.replace("'", "''")
    sql = parse(f"has_tag('{quoted}')", FIELDS).to_lance()
    assert sql == f"coalesce(array_has(`tags`, '{quoted}'), false)"
    assert Filter(parse("FALSE", FIELDS).root).to_lance() == "false"
