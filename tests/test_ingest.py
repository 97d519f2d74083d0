"""Staging and landing: what is a batch, what is in its manifest, and that nothing fails or is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from refinery.batches import MANIFEST, ORIGINS, Batches, listing_key, manifest_key
from refinery.blobs import blob_key, read_blob
from refinery.corpus import CorpusReport
from refinery.digests import digest
from refinery.errors import CorruptionError, InputError
from refinery.fields import Field, Fields, FieldType
from refinery.ingest import IngestReport, ingest, land, stage
from refinery.progress import RichProgress
from refinery.sources import open_source
from refinery.sources.uris import uri_name
from refinery.store.local import LocalStore

FIELDS = Fields(
    [
        Field("caption", FieldType.TEXT),
        Field("score", FieldType.NUMBER),
        Field("tags_given", FieldType.STRING_LIST),
        Field("taken", FieldType.DATE),
    ]
)
CAP = 1 << 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "pictures"
    path.mkdir()
    return path


def run(
    store: LocalStore, folder: Path, fields: Fields = FIELDS, size: int = 100, name: str = "mine"
) -> IngestReport:
    return ingest(store, fields, open_source(folder, name=name), batch_size=size, max_bytes=CAP)


def rows(store: LocalStore) -> list[dict[str, Any]]:
    return Batches(store).origins().to_pylist()


def names(store: LocalStore) -> list[str]:
    return sorted(uri_name(row["uri"]) for row in rows(store))


def test_two_origins_of_the_same_bytes_are_one_sample(store: LocalStore, folder: Path) -> None:
    for name in ("a.jpg", "copy of a.jpg"):
        (folder / name).write_bytes(b"same")
    (report,) = run(store, folder).batches
    assert (report.entries, report.origins, report.samples, report.new, report.known) == (2, 2, 1, 1, 0)
    assert Batches(store).samples(report.batch) == [digest(b"same")]
    assert len(list(store.list("blobs/"))) == 1


def test_bytes_that_the_store_has_are_known_not_new(store: LocalStore, folder: Path) -> None:
    (folder / "a.jpg").write_bytes(b"same")
    run(store, folder, name="first")
    (report,) = run(store, folder, name="second").batches
    assert (report.samples, report.new, report.known) == (1, 0, 1)
    assert [row["source"] for row in rows(store)] == ["first", "second"]


def test_empty_truncated_and_text_files_named_jpg_all_become_samples(store: LocalStore, folder: Path) -> None:
    contents = {
        "empty.jpg": b"",
        "truncated.jpg": b"\xff\xd8\xff\xe0\x00",
        "text.jpg": b"hello",
        "any": b"\x00" * 9,
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    (report,) = run(store, folder).batches
    assert (report.origins, report.unreadable) == (4, ())
    assert {uri_name(r["uri"]): read_blob(store, r["sample_id"]) for r in rows(store)} == contents


def test_the_corpus_of_good_and_broken_pictures_lands_whole(store: LocalStore, corpus: CorpusReport) -> None:
    folder = corpus.folder
    report = run(store, folder, size=50)
    totals = report.totals
    assert totals["entries"] == totals["origins"] + sum(
        1 for b in report.batches for u in b.unreadable if u.reason != "sample_unreadable"
    )
    assert totals["origins"] > 0
    assert all(read_blob(store, row["sample_id"]) is not None for row in rows(store) if row["stored"])
    assert run(store, folder).batches == ()


def test_a_file_over_the_cap_is_digested_and_not_kept(store: LocalStore, folder: Path) -> None:
    big = bytes(CAP) + b"x"
    (folder / "big.jpg").write_bytes(big)
    (folder / "fits.jpg").write_bytes(bytes(CAP))
    (report,) = run(store, folder).batches
    assert (report.samples, report.new, report.over_cap) == (2, 1, 1)
    by_name = {uri_name(row["uri"]): row for row in rows(store)}
    assert (by_name["big.jpg"]["stored"], by_name["big.jpg"]["sample_id"]) == (False, digest(big))
    assert by_name["big.jpg"]["bytes"] == len(big)
    assert by_name["fits.jpg"]["stored"]
    assert not store.exists(blob_key(digest(big)))


def test_a_payload_over_the_cap_is_reported_not_attached(store: LocalStore, folder: Path) -> None:
    (folder / "a.jpg").write_bytes(b"a")
    (folder / "a.latent.npy").write_bytes(bytes(CAP + 1))
    (report,) = run(store, folder).batches
    assert report.unreadable_by_reason == {"over_cap": 1}
    assert rows(store)[0]["payloads"] == []


def test_sidecars_become_attributes_and_what_is_not_registered_is_kept_aside(
    store: LocalStore, folder: Path
) -> None:
    for stem in "ab":
        (folder / f"{stem}.jpg").write_bytes(stem.encode())
    (folder / "a.txt").write_text("\ufeff A red house \n", encoding="utf-8")
    sidecar = {
        "captoin": "x",
        "caption": "from json",
        "score": "high",
        "taken": 5,
        "tags_given": ["p", "q"],
        "width": 1,
    }
    (folder / "a.json").write_text(json.dumps(sidecar))
    (folder / "b.json").write_text('{"captoin": [1, {"deep": null}], "score": "0.5"}')
    (report,) = run(store, folder).batches
    first, second = sorted(rows(store), key=lambda row: row["uri"])
    assert json.loads(first["attributes"]) == {"caption": "A red house", "tags_given": ["p", "q"]}
    assert json.loads(first["extras"]) == {
        "captoin": "x",
        "caption": "from json",
        "score": "high",
        "taken": 5,
        "width": 1,
    }
    assert json.loads(second["attributes"]) == {"score": 0.5}
    assert [(a.key, a.why, a.count, a.hint) for a in report.aside] == [
        ("captoin", "unknown", 2, "Did you mean 'caption'?"),
        ("caption", "repeated", 1, ""),
        ("score", "bad_value", 1, ""),
        ("taken", "bad_value", 1, ""),
        ("width", "builtin", 1, ""),
    ]


def test_a_caption_nobody_registered_is_kept_aside(store: LocalStore, folder: Path) -> None:
    (folder / "a.jpg").write_bytes(b"a")
    (folder / "a.txt").write_text("words")
    run(store, folder, fields=Fields())
    assert (rows(store)[0]["attributes"], rows(store)[0]["extras"]) == ("{}", '{"caption":"words"}')


SIDECARS = {
    "broken": b'{"a": ',
    "list": b"[1, 2]",
    "deep": b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "not_utf8": b'{"a": "\xff"}',
    "large": b'{"a": "' + b"x" * (300 << 10) + b'"}',
}


@pytest.mark.parametrize("name", list(SIDECARS))
def test_a_json_that_holds_no_sane_object_is_kept_as_a_payload(
    store: LocalStore, folder: Path, name: str
) -> None:
    (folder / "a.jpg").write_bytes(b"a")
    (folder / "a.json").write_bytes(SIDECARS[name])
    run(store, folder)
    (row,) = rows(store)
    assert [(p["name"], p["is_mask"]) for p in row["payloads"]] == [("json", False)]
    assert read_blob(store, row["payloads"][0]["digest"]) == SIDECARS[name]
    assert row["extras"] == "{}"


@pytest.mark.parametrize("data", [b"caf\xc3\xa9", "café".encode("utf-16"), "\ufeffcafé".encode()])
def test_captions_in_the_usual_encodings_are_read(store: LocalStore, folder: Path, data: bytes) -> None:
    (folder / "a.jpg").write_bytes(b"a")
    (folder / "a.txt").write_bytes(data)
    run(store, folder)
    assert json.loads(rows(store)[0]["attributes"]) == {"caption": "café"}


def test_a_caption_in_no_encoding_and_wild_numbers_fail_nothing(store: LocalStore, folder: Path) -> None:
    (folder / "a.jpg").write_bytes(b"a")
    (folder / "a.txt").write_bytes(b"caf\xe9")
    (folder / "a.json").write_text('{"score": 1e999, "n": NaN, "s": "\\ud800", "big": 1' + "0" * 400 + "}")
    run(store, folder)
    (row,) = rows(store)
    assert json.loads(row["attributes"]) == {"caption": "caf\ufffd"}
    assert json.loads(row["extras"]) == {"score": "inf", "n": "nan", "s": "\ufffd", "big": 10**400}


def test_a_rerun_stages_nothing_and_new_files_alone_make_the_next_batch(
    store: LocalStore, folder: Path
) -> None:
    (folder / "a.jpg").write_bytes(b"a")
    (folder / ".hidden").write_bytes(b"h")
    first = run(store, folder)
    again = run(store, folder)
    assert (len(first.batches), again.batches, again.unchanged) == (1, (), 2)
    (folder / "b.jpg").write_bytes(b"b")
    (report,) = run(store, folder).batches
    assert (report.entries, report.ignored) == (1, {})
    assert names(store) == ["a.jpg", "b.jpg"]


def test_an_edited_caption_is_a_new_entry_of_the_same_sample(store: LocalStore, folder: Path) -> None:
    (folder / "a.jpg").write_bytes(b"a")
    (folder / "b.jpg").write_bytes(b"b")
    (folder / "a.txt").write_text("before")
    run(store, folder)
    (folder / "a.txt").write_text("afterwards")
    (report,) = run(store, folder).batches
    assert (report.entries, report.new, report.known) == (1, 0, 1)
    assert [
        json.loads(r["attributes"])["caption"] for r in rows(store) if r["sample_id"] == digest(b"a")
    ] == [
        "before",
        "afterwards",
    ]


def test_a_source_is_split_into_batches_of_at_most_the_size_asked_for(
    store: LocalStore, folder: Path
) -> None:
    for n in range(7):
        (folder / f"{n}.jpg").write_bytes(b"%d" % n)
    staged = stage(store, FIELDS, open_source(folder, name="mine"), batch_size=3)
    assert [item.entries for item in staged] == [3, 3, 1]
    assert all(item.batch.startswith("mine-") for item in staged)
    assert Batches(store).staged() == sorted(item.batch for item in staged)
    assert Batches(store).landed() == []


def test_hidden_files_alone_make_no_batch(store: LocalStore, folder: Path) -> None:
    (folder / ".part").write_bytes(b"x")
    assert stage(store, FIELDS, open_source(folder, name="mine"), batch_size=3) == []
    assert list(store.list("")) == []


def test_a_batch_id_names_the_content_of_its_listing(store: LocalStore, folder: Path, tmp_path: Path) -> None:
    (folder / "a.jpg").write_bytes(b"a")
    source = open_source(folder, name="mine")
    other = LocalStore(tmp_path / "other")
    assert stage(store, FIELDS, source, batch_size=3) == stage(other, FIELDS, source, batch_size=9)


def test_a_source_whose_name_begins_anothers_is_another(store: LocalStore, folder: Path) -> None:
    (folder / "a.jpg").write_bytes(b"a")
    run(store, folder, name="a-b")
    assert len(run(store, folder, name="a").batches) == 1
    assert run(store, folder, name="a-b").batches == ()


def test_another_process_can_land_from_the_store_alone(store: LocalStore, folder: Path) -> None:
    (folder / "é b.jpg").write_bytes(b"a")
    (staged,) = stage(store, FIELDS, open_source(folder, name="mine"), batch_size=3)
    code = (
        "import sys, pathlib; from refinery.store.local import LocalStore; from refinery.ingest import land;"
        "from refinery.fields import Fields;"
        "print(land(LocalStore(pathlib.Path(sys.argv[1])), Fields(), sys.argv[2], max_bytes=9).origins)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(store.root), staged.batch],
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\n"
    assert names(store) == ["é b.jpg"]


def test_landing_a_landed_batch_is_told_the_same_report(store: LocalStore, folder: Path) -> None:
    (folder / "a.jpg").write_bytes(b"a")
    (report,) = run(store, folder).batches
    (folder / "a.jpg").unlink()
    before = {info.key: info.version for info in store.list("")}
    assert land(store, FIELDS, report.batch, max_bytes=CAP) == report
    assert {info.key: info.version for info in store.list("")} == before


def test_what_vanished_shrank_or_turned_into_a_pipe_since_its_listing_fails_nothing(
    store: LocalStore, folder: Path
) -> None:
    for name in ("gone.jpg", "grown.jpg", "pipe.jpg", "good.jpg", "good.txt", "gone.txt", "good.mask.png"):
        (folder / name).write_bytes(name.encode())
    (staged,) = stage(store, FIELDS, open_source(folder, name="mine"), batch_size=10)
    (folder / "gone.jpg").unlink()
    (folder / "good.txt").unlink()
    (folder / "pipe.jpg").unlink()
    os.mkfifo(folder / "pipe.jpg")
    (folder / "grown.jpg").write_bytes(b"grown since")
    report = land(store, FIELDS, staged.batch, max_bytes=CAP)
    assert {uri_name(u.uri): u.reason for u in report.unreadable} == {
        "gone.jpg": "missing",
        "gone.txt": "sample_unreadable",
        "good.txt": "missing",
        "pipe.jpg": "not_regular",
    }
    assert names(store) == ["good.jpg", "grown.jpg"]
    assert {row["bytes"] for row in rows(store)} == {8, 11}
    assert run(store, folder).totals["entries"] == 4, "what changed since is listed anew"


def test_a_manifest_has_the_columns_and_order_of_the_format(store: LocalStore, folder: Path) -> None:
    for n in range(5):
        (folder / f"{n}.jpg").write_bytes(b"%d" % (n % 2))
    (report,) = run(store, folder).batches
    import pyarrow.parquet as pq

    path = store.local_path(manifest_key(report.batch))
    assert path is not None
    table = pq.ParquetFile(path).read()
    assert table.schema.equals(MANIFEST, check_metadata=False)
    keys = list(zip(table["sample_id"].to_pylist(), table["uri"].to_pylist(), strict=True))
    assert keys == sorted(keys)
    written = json.loads(store.get(f"batches/{report.batch}/batch.json"))
    assert (written["format"], written["batch"], written["ingested_at"]) == (
        1,
        report.batch,
        report.ingested_at,
    )


def test_origins_come_with_their_batch_and_time_and_only_the_columns_asked_for(
    store: LocalStore, folder: Path
) -> None:
    assert Batches(store).origins().schema.equals(ORIGINS)
    (folder / "a.jpg").write_bytes(b"a")
    first = run(store, folder).batches[0]
    (folder / "b.jpg").write_bytes(b"b")
    second = run(store, folder).batches[0]
    batches = Batches(store)
    assert batches.landed() == [first.batch, second.batch]
    table = batches.origins(columns=["batch", "sample_id", "ingested_at"])
    assert table.column_names == ["batch", "sample_id", "ingested_at"]
    assert [t.isoformat() for t in table["ingested_at"].to_pylist()] == [
        first.ingested_at,
        second.ingested_at,
    ]
    assert batches.origins([second.batch], ["sample_id"]).to_pylist() == [{"sample_id": digest(b"b")}]
    assert batches.origins([second.batch], ["batch"]).to_pylist() == [{"batch": second.batch}]
    assert batches.origins(sample_ids=[digest(b"a"), digest(b"c")])["sample_id"].to_pylist() == [digest(b"a")]
    assert batches.origins(columns=["batch"], sample_ids=[digest(b"b")]).to_pylist() == [
        {"batch": second.batch}
    ]
    with pytest.raises(InputError) as caught:
        batches.origins(columns=["zzz"])
    assert caught.value.kind == "unknown_column"


@pytest.mark.parametrize("batch", ["mine-000000000000", "nonsense", "../../x-000000000000"])
def test_a_batch_that_is_not_there_says_so(store: LocalStore, batch: str) -> None:
    for ask in (Batches(store).info, Batches(store).listing, Batches(store).samples):
        with pytest.raises(InputError) as caught:
            ask(batch)
        assert caught.value.kind in ("no_such_batch", "bad_batch")


def test_a_listing_that_was_tampered_with_is_not_landed(store: LocalStore, folder: Path) -> None:
    (folder / "a.jpg").write_bytes(b"a")
    (staged,) = stage(store, FIELDS, open_source(folder, name="mine"), batch_size=10)
    path = store.local_path(listing_key(staged.batch))
    assert path is not None
    path.write_bytes(path.read_bytes().replace(b"a.jpg", b"b.jpg"))
    with pytest.raises(CorruptionError):
        land(store, FIELDS, staged.batch, max_bytes=CAP)


def test_progress_is_told_every_file_and_byte(store: LocalStore, folder: Path) -> None:
    class Log:
        told: list[Any]

        def __init__(self) -> None:
            self.told = []
            self.files = self.bytes = 0

        def start(self, total: int | None, unit: str) -> None:
            self.told.append((total, unit))

        def advance(self, n: int, bytes: int = 0) -> None:
            self.files += n
            self.bytes += bytes

        def done(self) -> None:
            self.told.append("done")

    for n in range(5):
        (folder / f"{n}.jpg").write_bytes(b"12345")
    log = Log()
    ingest(store, FIELDS, open_source(folder, name="mine"), batch_size=2, max_bytes=CAP, progress=log)
    assert (log.told, log.files, log.bytes) == ([(5, "files"), "done"], 5, 25)


def test_the_progress_line_shows_count_rate_and_megabytes() -> None:
    import io

    from rich.console import Console

    out = io.StringIO()
    progress = RichProgress("landing", Console(file=out, force_terminal=True, width=120))
    progress.start(2, "files")
    progress.advance(2, bytes=3_000_000)
    progress.done()
    assert all(part in out.getvalue() for part in ("landing", "2/2", "files", "MB/s"))
