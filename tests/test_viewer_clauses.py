"""The clauses of the filter builder: what widgets say is parsed, and selects just that."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refinery.digests import digest
from refinery.errors import InputError
from refinery.fields import Field, FieldType
from refinery.filter import Filter, parse
from tests.property.random_filters import FIELDS, VALUES, documents_and_filters, filters
from ui.core import clauses


def selected(where: str, table: pa.Table) -> list[bool]:
    """Which rows a filter selects; all of them when it is empty."""
    if not where:
        return [True] * table.num_rows
    found: list[bool] = parse(where, FIELDS).mask(table).tolist()
    return found


def column(name: str, values: list[Any]) -> pa.Table:
    """Documents with these values in a field, and nothing in the others."""
    schema = FIELDS.schema()
    given_ = {name: values, "sample_id": [digest(bytes([i])) for i in range(len(values))]}
    none = [None] * len(values)
    return pa.table({f.name: pa.array(given_.get(f.name, none), f.type) for f in schema}, schema=schema)


def chosen(clause: str, name: str, values: list[Any]) -> list[Any]:
    """The values whose samples a clause selects; its negation selects the other values, and as in SQL nothing without one."""
    mask = selected(clauses.checked(clause, FIELDS), column(name, values))
    left_out = selected(clauses.checked(clause, FIELDS, negated=True), column(name, values))
    assert left_out == [not m and v is not None for m, v in zip(mask, values, strict=True)]
    return [v for v, m in zip(values, mask, strict=True) if m]


@settings(deadline=None)
@given(documents_and_filters())
def test_a_filter_taken_apart_and_joined_selects_the_same(drawn: tuple[pa.Table, list[Filter]]) -> None:
    table, wanted = drawn
    for found in wanted:
        parts = clauses.split(found.text, FIELDS)
        assert clauses.split(clauses.join(parts, FIELDS), FIELDS) == parts
        masks = [selected(part, table) for part in parts]
        assert selected(clauses.join(parts, FIELDS), table) == selected(found.text, table)
        assert selected(found.text, table) == [all(of) for of in zip(*masks, strict=True)]


@settings(deadline=None)
@given(st.lists(filters, max_size=4), st.data())
def test_any_clauses_joined_select_what_all_of_them_do(wanted: list[Filter], data: st.DataObject) -> None:
    table, _ = data.draw(documents_and_filters())
    texts = [found.text for found in wanted]
    masks = [selected(text, table) for text in texts] or [[True] * table.num_rows]
    assert selected(clauses.join(texts, FIELDS), table) == [all(of) for of in zip(*masks, strict=True)]


def test_alternatives_keep_their_parentheses() -> None:
    parts = ["width > 5 OR height > 5", "safe = TRUE"]
    joined = clauses.join(parts, FIELDS)
    assert joined == "(width > 5 OR height > 5) AND safe = TRUE"
    assert clauses.join(clauses.split(joined, FIELDS)[:1], FIELDS) == "(width > 5 OR height > 5)"
    assert clauses.split("", FIELDS) == clauses.split(" ", FIELDS) == []
    assert clauses.join([], FIELDS) == ""


def test_every_field_has_its_kind_of_widget() -> None:
    kinds = {field.name: clauses.kind_of(field) for field in FIELDS.values()}
    assert kinds["score"] == kinds["order"] == kinds["width"] == "range"
    assert kinds["taken"] == kinds["ingested_at"] == "dates"
    assert kinds["in"] == kinds["labels"] == kinds["source"] == kinds["tags"] == "values"
    assert kinds["caption"] == "words"
    assert kinds["safe"] == "truth"
    assert kinds["raw"] == "none"
    assert kinds["sample_id"] == kinds["uri"] == "typed"
    assert clauses.kind_of(Field("phashes", FieldType.STRING)) == "values"


def test_a_range_has_both_its_ends() -> None:
    order, score = FIELDS["order"], FIELDS["score"]
    assert chosen(clauses.in_range(order, -2, 3), "order", [-3, -2, 0, 3, 4, None]) == [-2, 0, 3]
    assert chosen(clauses.in_range(score, -0.5, 1e22), "score", [-0.51, -0.5, 1e22, 2e22, None]) == [
        -0.5,
        1e22,
    ]
    assert chosen(clauses.in_range(score, 1e-05, 0.1), "score", [0.0, 1e-05, 0.1]) == [1e-05, 0.1]


def test_the_part_of_an_integer_that_is_no_integer_does_not_widen_or_narrow_a_range() -> None:
    order = FIELDS["order"]
    assert chosen(clauses.in_range(order, -2.5, 2.5), "order", [-3, -2, 2, 3]) == [-2, 2]
    assert chosen(clauses.in_range(order, 0.5, 1.5), "order", [0, 1, 2]) == [1]


def test_days_are_whole_days_of_utc() -> None:
    taken = FIELDS["taken"]
    moments = [
        datetime(2024, 2, 28, 23, 59, 59, 999_999, UTC),
        datetime(2024, 2, 29, tzinfo=UTC),
        datetime(2024, 2, 29, 23, 59, 59, 999_999, UTC),
        datetime(2024, 3, 1, tzinfo=UTC),
    ]
    day = date(2024, 2, 29)
    assert chosen(clauses.on_days(taken, day, day), "taken", moments) == moments[1:3]
    assert chosen(clauses.on_days(taken, day, None), "taken", moments) == moments[1:]
    assert chosen(clauses.on_days(taken, None, day), "taken", moments) == moments[:3]
    ends = [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC)]
    assert chosen(clauses.on_days(taken, date.min, date.max), "taken", ends) == ends
    with pytest.raises(InputError):
        clauses.on_days(taken, None, None)


HARD = ["a", "b'", "''", "x' OR '1'='1", 'say "no"', "100%", "_", "\\", "a\nb", "🐼", ") OR TRUE --", " "]


def test_values_are_taken_as_they_are_written() -> None:
    for value in HARD:
        assert chosen(clauses.is_any_of(FIELDS["in"], [value]), "in", [*HARD, None]) == [value]
    assert chosen(clauses.is_any_of(FIELDS["in"], HARD[1:3]), "in", HARD) == HARD[1:3]
    lists = [["a", "b'"], ["a"], [], ["b'", "c"]]
    assert chosen(clauses.is_any_of(FIELDS["labels"], ["b'", "z"]), "labels", lists) == [lists[0], lists[3]]
    with pytest.raises(InputError):
        clauses.is_any_of(FIELDS["in"], [])


def test_words_must_all_be_there_and_need_at_least_one() -> None:
    texts = ["A red panda", "a panda", "red", "it's red, a PANDA", None]
    assert chosen(clauses.has_words(FIELDS["caption"], "panda red"), "caption", texts) == [texts[0], texts[3]]
    assert chosen(clauses.has_words(FIELDS["caption"], "IT'S"), "caption", texts) == [texts[3]]
    with pytest.raises(InputError):
        clauses.checked(clauses.has_words(FIELDS["caption"], "?! …"), FIELDS)


def test_true_false_and_no_value_are_three() -> None:
    values = [True, False, None]
    assert chosen(clauses.is_true(FIELDS["safe"], True), "safe", values) == [True]
    assert chosen(clauses.is_true(FIELDS["safe"], False), "safe", values) == [False]
    assert chosen(clauses.is_missing(FIELDS["safe"]), "safe", values) == [None]


@pytest.mark.parametrize("name", ["score", "order", "in", "taken", "safe", "caption"])
def test_no_value_and_its_negation_part_every_field(name: str) -> None:
    value = {"score": 1.5, "order": 1, "taken": datetime(2024, 1, 1, tzinfo=UTC), "safe": True}.get(name, "x")
    assert chosen(clauses.is_missing(FIELDS[name]), name, [value, None]) == [None]


def test_a_list_without_items_is_no_value() -> None:
    assert chosen(clauses.is_missing(FIELDS["labels"]), "labels", [[], ["a"], None]) == [[], None]


@settings(deadline=None)
@given(st.lists(VALUES[FieldType.STRING], min_size=1, max_size=4, unique=True), VALUES[FieldType.STRING])
def test_any_text_is_a_value_and_never_a_piece_of_filter(some: list[str], other: str) -> None:
    values = [*dict.fromkeys([*some, other])]
    assert chosen(clauses.is_any_of(FIELDS["in"], some), "in", values) == some
