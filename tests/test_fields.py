"""What a field holds: values that fit, texts up to their limit, and as many attributes as there is room for."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from refinery.digests import digest
from refinery.errors import InputError
from refinery.fields import MAX_ATTRIBUTES, MAX_TEXT_BYTES, Field, Fields, FieldType, coerce
from refinery.index.rows import conform
from refinery.sources.sidecars import Metadata

LONGEST = "é" * (MAX_TEXT_BYTES // 2)
FIELDS = Fields(
    [
        Field("caption", FieldType.TEXT),
        Field("licence", FieldType.STRING),
        Field("labels", FieldType.STRING_LIST),
        Field("raw", FieldType.JSON),
        Field("score", FieldType.NUMBER),
    ]
)


@pytest.mark.parametrize("name", ["caption", "licence", "labels"])
def test_a_text_fits_up_to_its_limit_and_not_one_byte_more(name: str) -> None:
    field = FIELDS[name]
    assert coerce(field, LONGEST) in (LONGEST, [LONGEST])
    with pytest.raises(InputError, match=r"at most 32,000 bytes, found 32,001.* type json") as refused:
        coerce(field, ["short", LONGEST + "x"] if name == "labels" else LONGEST + "x")
    assert refused.value.kind == "bad_value"
    assert len(str(refused.value)) < 300
    assert coerce(FIELDS["raw"], LONGEST * 10) == LONGEST * 10


@pytest.mark.parametrize("value", ["\ud800", ["a", "\udfff"]])
def test_half_of_a_surrogate_pair_is_no_text(value: Any) -> None:
    with pytest.raises(InputError, match="does not fit"):
        coerce(FIELDS["labels"], value)


def test_there_is_one_zero() -> None:
    assert str(coerce(FIELDS["score"], "-0.0")) == "0.0"


def test_a_text_that_is_too_long_is_kept_aside_with_its_reason() -> None:
    metadata = Metadata()
    metadata.add(FIELDS, {"caption": LONGEST + "x", "licence": "cc0", "raw": LONGEST * 2})
    assert metadata.attributes == {"licence": "cc0", "raw": LONGEST * 2}
    assert metadata.extras == {"caption": LONGEST + "x"}
    assert metadata.aside == {"caption": "bad_value"}


def test_a_document_with_a_text_that_is_too_long_is_set_apart_by_name_of_the_field() -> None:
    ids = [digest(bytes([i])) for i in range(5)]
    cells = {
        "sample_id": ids,
        "doc_digest": ["d"] * 5,
        "caption": [LONGEST, LONGEST + "x", None, "a", "b"],
        "labels": [[LONGEST, ""], [], None, ["a", LONGEST + "x"], ["b"]],
        "raw": [LONGEST * 2] * 5,
        "uri": [[], [], [], [], ["x" * (MAX_TEXT_BYTES + 1)]],
    }
    schema = FIELDS.schema().append(pa.field("doc_digest", pa.string()))
    table = pa.table({name: pa.array(column, schema.field(name).type) for name, column in cells.items()})
    good, failed = conform(table, schema, FIELDS)
    assert good.column("sample_id").to_pylist() == [ids[0], ids[2]]
    assert [(one.sample_id, one.reason) for one in failed] == [
        (ids[1], "too_long:caption"),
        (ids[3], "too_long:labels"),
        (ids[4], "too_long:uri"),
    ]


def test_there_is_room_for_so_many_attributes_and_no_more() -> None:
    almost = [Field(f"a{i}", FieldType.STRING) for i in range(MAX_ATTRIBUTES - 1)]
    Fields(almost).check_room()
    with pytest.raises(InputError, match="500 attributes are registered") as refused:
        Fields([*almost, Field("last", FieldType.STRING)]).check_room()
    assert refused.value.kind == "too_many_attributes"
