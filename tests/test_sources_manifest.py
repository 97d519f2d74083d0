"""The manifest source: rows of CSV, JSON Lines and Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from refinery.errors import InputError
from refinery.fields import Field, Fields, FieldType
from refinery.ingest import ingest
from refinery.sources import Entry, open_source
from refinery.sources.uris import path_uri, uri_name
from refinery.store.local import LocalStore

FIELDS = Fields(
    [Field("caption", FieldType.TEXT), Field("score", FieldType.NUMBER), Field("taken", FieldType.DATE)]
)
Rows = list[dict[str, Any]]


def as_csv(path: Path, rows: Rows) -> Path:
    path = path.with_suffix(".csv")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def as_jsonl(path: Path, rows: Rows) -> Path:
    path = path.with_suffix(".jsonl")
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8")
    return path


def as_parquet(path: Path, rows: Rows) -> Path:
    path = path.with_suffix(".parquet")
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


FORMATS = [as_csv, as_jsonl, as_parquet]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for name in ["a.jpg", "sub/b é.png", "a_mask.png"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def listed(path: Path, root: Path | None = None) -> list[Entry]:
    return list(open_source(path, name="m", kind="manifest", root=root).entries(FIELDS))


def origins(store: LocalStore, path: Path, fields: Fields = FIELDS) -> Rows:
    ingest(store, fields, open_source(path, name="m"), batch_size=10, max_bytes=1 << 20)
    from refinery.batches import Batches

    return Batches(store).origins().sort_by("uri").to_pylist()


@pytest.mark.parametrize("write", FORMATS)
def test_rows_become_origins_with_typed_attributes(
    write: Callable[[Path, Rows], Path], pictures: Path, store: LocalStore
) -> None:
    rows = [
        {"path": "a.jpg", "caption": 'a, "quoted"\nline', "score": 0.5, "taken": "2024-01-02"},
        {"path": "sub/b é.png", "caption": "", "score": 2, "taken": None},
    ]
    found = origins(store, write(pictures / "m", rows))
    assert [uri_name(row["uri"]) for row in found] == ["a.jpg", "b é.png"]
    assert json.loads(found[0]["attributes"]) == {
        "caption": 'a, "quoted"\nline',
        "score": 0.5,
        "taken": "2024-01-02T00:00:00+00:00",
    }
    assert json.loads(found[1]["attributes"]) == {"score": 2.0}


@pytest.mark.parametrize("write", FORMATS)
def test_an_unregistered_column_is_refused_before_anything_is_written(
    write: Callable[[Path, Rows], Path], pictures: Path, store: LocalStore
) -> None:
    path = write(pictures / "m", [{"path": "a.jpg", "captoin": "x", "zzz": "y"}])
    with pytest.raises(InputError) as caught:
        ingest(store, FIELDS, open_source(path, name="m"), batch_size=10, max_bytes=1 << 20)
    assert caught.value.kind == "unknown_field"
    for part in ("'captoin'. Did you mean 'caption'?", "'zzz'", "`refinery fields add captoin --type TYPE`"):
        assert part in str(caught.value)
    assert list(store.list("")) == []


def test_a_column_that_only_a_late_json_line_has_is_refused_too(pictures: Path) -> None:
    path = as_jsonl(pictures / "m", [{"path": "a.jpg"}, {"path": "a.jpg", "zzz": 1}])
    with pytest.raises(InputError) as caught:
        listed(path)
    assert caught.value.kind == "unknown_field"


def test_columns_named_as_built_in_fields_are_kept_aside(pictures: Path, store: LocalStore) -> None:
    path = as_jsonl(pictures / "m", [{"path": "a.jpg", "width": 3}])
    report = ingest(store, FIELDS, open_source(path, name="m"), batch_size=10, max_bytes=1 << 20)
    (aside,) = report.batches[0].aside
    assert (aside.key, aside.why, aside.count) == ("width", "builtin", 1)
    assert json.loads(origins(store, path)[0]["extras"]) == {"width": 3}


def test_a_value_that_does_not_fit_is_kept_aside_and_fails_nothing(pictures: Path, store: LocalStore) -> None:
    path = as_csv(pictures / "m", [{"path": "a.jpg", "score": "high", "taken": "yesterday"}])
    report = ingest(store, FIELDS, open_source(path, name="m"), batch_size=10, max_bytes=1 << 20)
    assert {(a.key, a.why) for a in report.batches[0].aside} == {
        ("score", "bad_value"),
        ("taken", "bad_value"),
    }
    assert json.loads(origins(store, path)[0]["extras"]) == {"score": "high", "taken": "yesterday"}


def test_payload_columns_attach_files(pictures: Path, store: LocalStore) -> None:
    rows = [{"path": "a.jpg", "payload:mask": "a_mask.png", "payload:depth": "none.npy"}]
    path = as_jsonl(pictures / "m", rows)
    report = ingest(store, FIELDS, open_source(path, name="m"), batch_size=10, max_bytes=1 << 20).batches[0]
    (row,) = origins(store, path)
    assert [(p["name"], p["is_mask"], p["extension"]) for p in row["payloads"]] == [("mask", True, "png")]
    assert [(uri_name(u.uri), u.reason) for u in report.unreadable] == [("none.npy", "missing")]


def test_sidecars_beside_a_manifests_file_count_and_the_row_stands(pictures: Path, store: LocalStore) -> None:
    (pictures / "a.json").write_text('{"caption": "from json", "score": 1}')
    (row,) = origins(store, as_jsonl(pictures / "m", [{"path": "a.jpg", "caption": "from row"}]))
    assert json.loads(row["attributes"]) == {"caption": "from row", "score": 1.0}
    assert json.loads(row["extras"]) == {"caption": "from json"}


def test_absolute_paths_and_file_uris_are_paths_too(pictures: Path) -> None:
    rows = [{"path": str(pictures / "a.jpg")}, {"path": path_uri(str(pictures / "sub/b é.png"))}]
    assert all(entry.piece for entry in listed(as_jsonl(pictures / "m", rows)))


@pytest.mark.parametrize(
    "cell", ["../secret.jpg", "sub/../../secret.jpg", "/etc/passwd", "file:///etc/passwd"]
)
def test_a_path_may_not_leave_the_root(pictures: Path, cell: str) -> None:
    inner = pictures / "sub"
    (pictures / "secret.jpg").write_bytes(b"x")
    (entry,) = listed(as_jsonl(inner / "m", [{"path": cell}]))
    assert (entry.piece, entry.unreadable) == (None, "outside_source")
    (entry,) = listed(as_jsonl(inner / "m", [{"path": "x.jpg", "payload:p": cell}]))[:1]
    assert (entry.piece, entry.unreadable) == (None, "outside_source")


def test_a_wider_root_may_be_given(pictures: Path) -> None:
    path = as_jsonl(pictures / "sub" / "m", [{"path": "a.jpg"}])
    (entry,) = listed(path, root=pictures)
    assert entry.uri == path_uri(str(pictures / "a.jpg"))


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("https://example.org/a.jpg", "unsupported_scheme"),
        ("s3://bucket/a.jpg", "unsupported_scheme"),
        ("a\0.jpg", "bad_path"),
        ("\ud800.jpg", "bad_path"),
        ("", "no_path"),
        (None, "no_path"),
        (17, "no_path"),
        ("none.jpg", "missing"),
        ("sub", "not_regular"),
        ("a.jpg/x", "missing"),
        ("x" * 300, "path_too_long"),
    ],
)
def test_a_row_that_leads_nowhere_is_accounted_for_with_its_reason(
    pictures: Path, cell: Any, reason: str
) -> None:
    bad, good = listed(as_jsonl(pictures / "m", [{"path": cell}, {"path": "a.jpg"}]))
    assert (bad.piece, bad.unreadable) == (None, reason)
    assert good.piece


def test_the_same_row_twice_is_one_entry_and_counted(pictures: Path) -> None:
    first, second = listed(as_jsonl(pictures / "m", [{"path": "a.jpg"}, {"path": "a.jpg"}]))
    assert first.piece
    assert second.ignored == "repeated_row"


def test_json_that_no_reader_takes_is_made_safe(pictures: Path, store: LocalStore) -> None:
    path = pictures / "m.jsonl"
    path.write_text('{"path": "a.jpg", "caption": "\\ud83d x", "score": NaN}\n')
    (row,) = origins(store, path)
    assert json.loads(row["attributes"]) == {"caption": "\ufffd x"}
    assert json.loads(row["extras"]) == {"score": "nan"}


def test_parquet_times_are_dates(pictures: Path, store: LocalStore) -> None:
    path = as_parquet(pictures / "m", [{"path": "a.jpg", "taken": datetime(2024, 5, 6, 7, tzinfo=UTC)}])
    assert json.loads(origins(store, path)[0]["attributes"]) == {"taken": "2024-05-06T07:00:00+00:00"}


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("m.csv", b"file,caption\na.jpg,x\n", "no column 'path'"),
        ("m.csv", b"path\na.jpg,x\n", "line 2"),
        ("m.csv", b'path\n"a.jpg\n', "unexpected end of data"),
        ("m.csv", b"path\n\xff\xfe\n", "not UTF-8"),
        ("m.jsonl", b'{"path": "a.jpg"}\n{"path": ', "line 2"),
        ("m.jsonl", b'["a.jpg"]\n', "not a JSON object"),
        ("m.jsonl", b'{"path": "a.jpg", "caption": ' + b"[" * 90 + b"]" * 90 + b"}\n", "64 levels"),
        ("m.parquet", b"PAR1 nonsense", "Parquet"),
        ("m.xlsx", b"x", "csv, jsonl"),
    ],
)
def test_a_manifest_that_cannot_be_read_says_where(
    pictures: Path, name: str, content: bytes, part: str
) -> None:
    (pictures / name).write_bytes(content)
    with pytest.raises(InputError, match=part) as caught:
        listed(pictures / name)
    assert caught.value.kind == "bad_manifest"


def test_binary_columns_are_refused_with_the_way_out(pictures: Path) -> None:
    with pytest.raises(InputError, match="payload:NAME"):
        listed(as_parquet(pictures / "m", [{"path": "a.jpg", "caption": b"x"}]))


def test_an_empty_manifest_lists_nothing(pictures: Path) -> None:
    (pictures / "m.csv").write_text("path,caption\n")
    assert listed(pictures / "m.csv") == []
