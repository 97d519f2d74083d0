"""What a field holds: values that fit, texts up to their limit, and as many attributes as there is room for."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from refinery.batches import Batches
from refinery.digests import digest
from refinery.errors import InputError
from refinery.fields import MAX_ATTRIBUTES, MAX_TEXT_BYTES, Field, Fields, FieldType, coerce
from refinery.index.rows import conform
from refinery.ingest import ingest
from refinery.ledger import Actor, ActorKind, Event, EventType
from refinery.project import Refinery
from refinery.sources import open_source
from refinery.sources.sidecars import Metadata
from refinery.store.local import LocalStore

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


def test_what_is_too_long_to_index_is_accounted_for_at_ingest(tmp_path: Path, store: LocalStore) -> None:
    tar = tmp_path / "long.tar"
    with tarfile.open(tar, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in {
            "a.jpg": b"image",
            "a.txt": (LONGEST + "x").encode(),
            "é" * 6000 + ".jpg": b"other",
            "é" * 6000 + ".json": b"{}",
        }.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    source = open_source(tar, name="w", kind="webdataset")
    (report,) = ingest(store, FIELDS, source, batch_size=10, max_bytes=1 << 20).batches
    assert (report.entries, report.origins, len(report.unreadable)) == (2, 1, 2)
    assert [one.reason for one in report.unreadable] == ["uri_too_long", "sample_unreadable"]
    assert "at most 32,000" in report.unreadable[0].detail
    assert [(one.key, one.why) for one in report.aside] == [("caption", "bad_value")]
    (row,) = Batches(store).origins().to_pylist()
    assert row["attributes"] == "{}"
    assert json.loads(row["extras"]) == {"caption": LONGEST + "x"}


def test_a_project_registers_attributes_while_there_is_room(tmp_path: Path) -> None:
    project = Refinery.create(tmp_path / "project", "embedder: {kind: efficientnet_lite0}\n")
    actor = Actor(ActorKind.PERSON, "ann")
    there = len(project.fields.attributes)
    project.ledger.append(
        Event(EventType.FIELD, actor, kind=f"a{i}", value={"type": "string"})
        for i in range(there, MAX_ATTRIBUTES)
    )
    with pytest.raises(InputError, match="500 attributes are registered"):
        project.register_field(Field("more", FieldType.STRING), actor)
    project.register_field(Field("a499", FieldType.STRING, "described"), actor)
    assert len(project.fields.attributes) == MAX_ATTRIBUTES
