"""The command line from flag to shard: each command does what the library does, and says so."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest

from refinery.corpus import CorpusReport
from refinery.index.fusion import fuse
from refinery.project import Refinery
from refinery.search import vector_of
from tests.test_cli import Cli


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], refined: Path) -> Cli:
    return Cli(capsys, refined)


def ids(cli: Cli, where: str, limit: int = 100) -> list[str]:
    return cli("search", "--where", where, "--limit", str(limit), "--ids")[0].split()


def test_a_flag_is_searchable_at_once_and_moves_exactly_its_sample(cli: Cli) -> None:
    before = cli.json("status")
    sample = ids(cli, "verdict = 'gold' AND cluster IS NULL", 1)[0]
    act = cli.json("flag", sample[:12], "--kind", "reject", "--reason", "a logo", "--actor", "ana")
    assert [e["sample_id"] for e in act["events"]] == [sample]
    assert act["indexed"] == 1
    assert ids(cli, "has_flag('reject')") == [sample]
    report = cli.json("run")
    assert report["replay"]["evaluated"] == 1
    assert report["replay"]["flips"] == {"gold → held": 1}
    assert cli.json("status")["held"]["rejected"] == 1
    out, _ = cli("explain", sample)
    assert "because flag reject by person ana: a logo; a person beats models and rules" in out
    assert "undo flag reject" in out
    cli("undo", "--actor", "ana")
    assert cli.json("run")["root"] == before["root"]
    assert cli.json("run")["runs_launched"] == 0


def test_samples_are_named_by_filter_or_standard_input_too(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    jpegs = ids(cli, "format = 'jpeg' AND verdict = 'gold'")
    act = cli.json("flag", "--where", "format = 'jpeg' AND verdict = 'gold'", "--kind", "review")
    assert sorted(e["sample_id"] for e in act["events"]) == sorted(jpegs)
    assert "samples match" in cli("flag", "--where", "FALSE", "--kind", "review")[1]
    assert cli.json("undo")["samples"] == len(jpegs)
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(jpegs[:2])))
    assert cli.json("tag", "-", "--tag", "first two")["samples"] == 2
    assert sorted(ids(cli, "has_tag('first two')")) == sorted(jpegs[:2])
    assert cli.json("flag", jpegs[0], "--where", "TRUE", "--kind", "keep", code=3)["kind"] == "ids_and_where"


def test_an_event_is_undone_by_its_id(cli: Cli) -> None:
    first, second = ids(cli, "verdict = 'gold'", 2)
    event = cli.json("flag", first, "--kind", "review")["events"][0]["id"]
    cli("flag", second, "--kind", "review")
    cli("undo", event[:12], "--reason", "a mistake")
    assert ids(cli, "has_flag('review')") == [second]
    history = cli.json("log", "--sample", first)
    assert [(e["type"], e["stands"]) for e in history["events"]] == [("undo", True), ("flag", False)]
    assert history["events"][1]["undone_by"] == history["events"][0]["id"]


def test_an_unknown_flag_kind_is_refused_with_a_suggestion(cli: Cli) -> None:
    [sample] = ids(cli, "TRUE", 1)
    error = cli.json("flag", sample, "--kind", "rejct", code=3)
    assert "Did you mean 'reject'?" in error["error"]
    assert cli.json("flag", sample, "--kind", "keep", "--confidence", "2", code=3)["kind"] == "bad_confidence"


def test_search_finds_in_every_order(cli: Cli, corpus: CorpusReport) -> None:
    gold = ids(cli, "verdict = 'gold'")
    widths = [
        h["document"]["width"] for h in cli.json("search", "--sort", "width:desc", "--limit", "5")["hits"]
    ]
    assert widths == sorted(widths, reverse=True)
    assert cli.json("search", "--count", "--where", "verdict = 'gold'")["count"] == len(gold)
    groups = cli.json("search", "--group-by", "verdict")["buckets"]
    assert {g["value"]: g["count"] for g in groups}["gold"] == len(gold)
    cats = cli.json("search", "--text", "cat")["hits"]
    assert any("cat" in hit["document"]["caption"] for hit in cats)
    shuffled = cli("search", "--random", "7", "--ids")[0]
    assert shuffled == cli("search", "--random", "7", "--ids")[0]
    assert shuffled != cli("search", "--random", "8", "--ids")[0]
    near = cli.json("search", "--like", gold[0], "--where", "verdict = 'gold'", "--limit", "3")["hits"]
    assert gold[0] not in [hit["sample_id"] for hit in near]
    assert near[0]["score"] >= near[-1]["score"]
    picture = next(corpus.folder / name for name, f in corpus.files.items() if f.sample_id == gold[0])
    found = cli.json("search", "--like-file", str(picture), "--limit", "1")["hits"][0]
    assert found["score"] == pytest.approx(1, abs=1e-3)
    broken = next(corpus.folder / name for name, f in corpus.files.items() if f.reason == "truncated")
    assert cli.json("search", "--like-file", str(broken), code=3)["kind"] == "unreadable_picture"


def test_a_vector_in_a_file_finds_what_it_is_near(cli: Cli, tmp_path: Path) -> None:
    first = ids(cli, "verdict = 'gold'")[0]
    vector = vector_of(Refinery.open(cli.project).index, first)
    as_json, as_npy = tmp_path / "vector.json", tmp_path / "vector.npy"
    as_json.write_text(json.dumps(vector))
    np.save(as_npy, np.array(vector, np.float32))
    for path in (as_json, as_npy):
        assert cli.json("search", "--like-vector", str(path), "--limit", "1")["hits"][0]["sample_id"] == first
    as_json.write_text("[1, 2, 3]")
    assert "dimensions" in cli.json("search", "--like-vector", str(as_json), code=3)["error"]
    as_json.write_text('{"no": "vector"}')
    assert cli.json("search", "--like-vector", str(as_json), code=3)["kind"] == "bad_vector_file"


def test_words_and_likeness_together_are_a_hybrid_search(cli: Cli) -> None:
    first = ids(cli, "verdict = 'gold'")[0]
    cats = [hit["sample_id"] for hit in cli.json("search", "--text", "cat")["hits"]]
    near = [
        hit["sample_id"] for hit in cli.json("search", "--like", first, "--exact", "--limit", "100")["hits"]
    ]
    both = cli.json("search", "--text", "cat", "--like", first, "--exact", "--limit", "100")["hits"]
    words = [i for i in cats if i != first]
    assert words
    assert [hit["sample_id"] for hit in both] == [i for i, _ in fuse(words, near)]
    for more in (("--like-text", "a cat"), ("--random", "1"), ("--sort", "width")):
        assert cli.json("search", "--like", first, *more, code=3)["kind"] == "bad_query"


def test_pages_follow_each_other(cli: Cli) -> None:
    everything = ids(cli, "TRUE")
    first = cli.json("search", "--limit", "5")
    second = cli.json("search", "--limit", "5", "--cursor", first["cursor"])
    found = [hit["sample_id"] for hit in (*first["hits"], *second["hits"])]
    assert found == everything[:10]
    assert first["cursor"] in cli("search", "--limit", "5")[0]


def test_without_an_index_search_says_what_to_run_and_a_flag_still_counts(cli: Cli) -> None:
    import shutil

    [sample] = ids(cli, "verdict = 'gold'", 1)
    shutil.rmtree(cli.project / "index")
    assert cli.json("search", code=4)["kind"] == "no_index"
    assert cli.json("flag", sample, "--kind", "review")["indexed"] is None
    report = cli.json("rebuild-index")
    assert report["upserted"] == report["documents"] == cli.json("status")["seen"]
    assert ids(cli, "has_flag('review')") == [sample]


def test_show_tells_where_the_bytes_are(cli: Cli, corpus: CorpusReport) -> None:
    name, masked = next((n, f) for n, f in corpus.files.items() if f.mask)
    shown = cli.json("show", masked.sample_id)
    assert Path(shown["path"]).read_bytes() == (corpus.folder / name).read_bytes()
    [mask] = shown["payloads"]
    assert mask["is_mask"]
    assert Path(mask["path"]).read_bytes()
    assert shown["facts"]["inspect"]["step_key"]
    assert shown["facts"]["embed:default"]["embedder"].startswith("efficientnet_lite0")
    assert shown["attributes"].get("caption") == masked.caption
    out, _ = cli("show", masked.sample_id)
    assert shown["path"] in out
    assert "mask mask" in out


def test_fields_tell_how_full_they_are(cli: Cli) -> None:
    catalogue = cli.json("fields")
    by_name = {f["name"]: f for f in catalogue["fields"]}
    assert by_name["sample_id"]["fill_rate"] == 1
    assert 0 < by_name["caption"]["fill_rate"] < 1
    assert "jpeg" in by_name["format"]["examples"]
    assert by_name["caption"]["builtin"] is False
    out, _ = cli("fields")
    assert "caption *" in out
    cli("fields", "add", "score", "--type", "number", "--description", "How good.")
    added = {f["name"]: f for f in cli.json("fields")["fields"]}["score"]
    assert (added["type"], added["description"], added["filled"]) == ("number", "How good.", 0)


def test_another_policy_is_tried_and_then_does_what_was_foretold(cli: Cli, tmp_path: Path) -> None:
    text = (cli.project / "policy.yaml").read_text()
    (tmp_path / "other.yaml").write_text(text.replace("min_side < 256", "min_side < 400"))
    foretold = cli.json("policy", "try", str(tmp_path / "other.yaml"))
    assert foretold["flips"]
    assert "gold → held" in cli("policy", "try", str(tmp_path / "other.yaml"), "--examples", "1")[0]
    assert cli.json("policy", "show")["applied"] is True
    (cli.project / "policy.yaml").write_text((tmp_path / "other.yaml").read_text())
    assert cli.json("policy", "show")["applied"] is False
    report = cli.json("run")
    assert report["replay"]["flips"] == foretold["flips"]
    assert report["status"]["gold"] == foretold["counts"]["gold"]


def test_snapshots_differ_by_what_was_flagged_and_say_why(cli: Cli) -> None:
    created = cli.json("snapshot", "create", "train")
    assert (created["ref"], created["new"]) == ("train@1", True)
    assert cli.json("snapshot", "create", "train")["new"] is False
    sample = ids(cli, "in_dataset('train@1') AND cluster IS NULL", 1)[0]
    cli("flag", sample, "--kind", "reject", "--reason", "a logo", "--actor", "ana")
    cli("run")
    assert cli.json("snapshot", "create", "train")["ref"] == "train@2"
    diff = cli.json("snapshot", "diff", "train@1", "train@2")
    assert [(m["sample_id"], m["how"]) for m in diff["moves"]] == [(sample, "removed")]
    assert diff["causes"] == {"event": 1}
    assert "flag reject by person ana: a logo" in cli("snapshot", "diff", "train@1", "train@2")[0]
    narrow = cli.json("snapshot", "create", "wide", "--where", "aspect > 1")
    assert 0 < narrow["count"] < created["count"]
    assert [s["ref"] for s in cli.json("snapshot", "ls")["snapshots"]] == ["train@1", "train@2", "wide@1"]


def test_an_export_is_found_finished_and_damage_is_found_out(cli: Cli) -> None:
    cli("snapshot", "create", "train")
    recipe = ("export", "train@1", "--format", "webdataset", "--side", "64", "--samples-per-shard", "4")
    first = cli.json(*recipe, "--workers", "2")
    assert first["written"] == first["shards"] > 1
    assert cli.json(*recipe)["found"] == first["shards"]
    [export] = cli.json("snapshot", "show", "train")["exports"]
    assert export["shards"] == first["shards"]
    assert cli.json("snapshot", "verify", "train")["ok"] is True
    shard = next(Path(first["path"]).glob("*.tar"))
    shard.chmod(0o600)
    shard.write_bytes(shard.read_bytes()[:-1])
    found = cli.json("snapshot", "verify", "train", code=7)
    assert shard.name in found["findings"][0]
    assert "is damaged" in cli("snapshot", "verify", "train", code=7)[0]


def test_doctor_finds_nothing_in_a_healthy_project(cli: Cli) -> None:
    report = cli.json("doctor")
    assert report["ok"] is True
    assert {c["check"]: c["state"] for c in report["checks"]} == dict.fromkeys(
        [
            "project",
            "store",
            "ledger",
            "accounting",
            "inputs",
            "snapshots",
            "datago",
            "embedder",
            "code location",
            "index",
            "recall",
        ],
        "ok",
    )


def test_doctor_names_damage_and_its_cure(cli: Cli) -> None:
    store = Refinery.open(cli.project).store
    segment = sorted((store.root / "ledger").iterdir())[0]
    segment.chmod(0o600)
    text = segment.read_bytes()
    segment.write_bytes(re.sub(rb'"segment":1', b'"segment":9', text))
    report = cli.json("doctor", code=7)
    [checked] = [c for c in report["checks"] if c["state"] != "ok"][:1]
    assert checked["fix"]
    segment.write_bytes(text)
    cli("doctor")


def test_doctor_without_a_project_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    report = Cli(capsys, tmp_path).json("doctor", code=4)
    [check] = report["checks"]
    assert (check["check"], check["state"]) == ("project", "broken")


def test_doctor_sees_an_index_that_is_behind(cli: Cli) -> None:
    index = Refinery.open(cli.project).index
    index.delete(ids(cli, "TRUE", 3))
    checks = {c["check"]: c for c in cli.json("doctor")["checks"]}
    assert checks["index"]["state"] == "attention"
    assert "3 missing" in checks["index"]["found"]


def test_a_code_location_that_is_not_there_is_an_error_of_configuration(cli: Cli) -> None:
    config = cli.project / "refinery.yaml"
    config.write_text(config.read_text() + "\ncode_location: nowhere.run\n")
    assert cli.json("run", code=4)["kind"] == "no_code_location"


def test_log_counts_all_and_shows_the_newest(cli: Cli) -> None:
    log = cli.json("log", "--limit", "1")
    assert log["total"] == log["ledger_offset"] == log["events"][0]["offset"]
    assert json.dumps(log)


def test_a_proof_is_checked_by_somebody_who_has_no_project(
    cli: Cli, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = cli.json("snapshot", "create", "train")["root"]
    [sample] = ids(cli, "in_dataset('train@1')", 1)
    file, elsewhere = tmp_path / "proof.json", Cli(capsys, tmp_path / "no project")
    said, _ = cli("snapshot", "prove", "train", sample[:10], "--output", str(file))
    assert root in said
    printed, _ = cli("snapshot", "prove", "train@1", sample)
    assert printed.encode() == file.read_bytes() + b"\n"
    checked = elsewhere.json("snapshot", "check", str(file), "--root", root)
    assert (checked["ok"], checked["row"]["verdict"]) == (True, "gold")
    assert "is in the snapshot" in elsewhere("snapshot", "check", str(file), "--root", root)[0]
    assert elsewhere.json("snapshot", "check", str(file), "--root", "0" * 64, code=7)["kind"] == "wrong_root"
    assert elsewhere.json("snapshot", "check", str(file), "--root", "abc", code=3)["kind"] == "bad_root"
    assert elsewhere.json("snapshot", "check", str(file), "--ref", "train@1", code=4)["kind"] == "no_project"
    assert elsewhere.json("snapshot", "check", str(file), code=3)["kind"] == "bad_root"
    missing = str(tmp_path / "missing.json")
    assert elsewhere.json("snapshot", "check", missing, "--root", root, code=3)["kind"] == "no_such_file"
    file.write_bytes(file.read_bytes().replace(b'"verdict":"gold"', b'"verdict":"held"'))
    assert cli.json("snapshot", "check", str(file), "--ref", "train@1", code=7)["kind"] == "wrong_root"
    file.write_bytes(b"{}")
    assert elsewhere.json("snapshot", "check", str(file), "--root", root, code=7)["kind"] == "unknown_format"
    [held] = ids(cli, "verdict = 'held'", 1)
    assert cli.json("snapshot", "prove", "train@1", held, code=3)["kind"] == "not_in_snapshot"
    odd = ("snapshot", "prove", "train@1", sample, "--output", str(tmp_path))
    assert cli.json(*odd, code=3)["kind"] == "unwritable_file"


def test_an_unflag_takes_a_kind_off_and_is_taken_back_like_any_act(cli: Cli) -> None:
    [sample] = ids(cli, "verdict = 'gold'", 1)
    model = ("--as", "model", "--actor", "critic")
    cli("flag", sample, "--kind", "reject", "--actor", "ana")
    cli("flag", sample, "--kind", "reject", *model)
    assert cli.json("unflag", sample, "--kind", "reject", *model, code=3)["kind"] == "persons_word"
    act = cli.json("unflag", sample[:12], "--kind", "reject", "--actor", "bo")
    assert (act["act"], act["samples"], act["indexed"]) == ("unflag reject", 1, 1)
    assert ids(cli, "has_flag('reject')") == []
    assert cli.json("unflag", sample, "--kind", "reject", code=3)["kind"] == "nothing_to_unflag"
    stands = [e["stands"] for e in cli.json("log", "--sample", sample)["events"]]
    assert stands == [True, False, False]
    cli("undo", "--actor", "bo")
    assert ids(cli, "has_flag('reject')") == [sample]
