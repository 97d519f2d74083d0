"""The command line looking back: searches and explanations as they were at a ledger offset."""

from __future__ import annotations

import shutil
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from tests.test_cli import Cli

SEARCHES = (
    ("--where", "verdict = 'gold'"),
    ("--where", "has_flag('reject') OR has_tag('sky')"),
    ("--where", "near_duplicate", "--sort", "bytes:desc"),
    ("--where", "in_dataset('train')"),
    ("--sort", "sharpness", "--limit", "7"),
    ("--random", "5", "--limit", "7"),
    ("--limit", "100"),
)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], refined: Path) -> Cli:
    return Cli(capsys, refined)


def searched(cli: Cli, *more: str) -> list[Any]:
    """What the searches find: whole documents (but for the index's own digest), and how many match."""
    hits = [cli.json("search", *search, *more)["hits"] for search in SEARCHES]
    for hit in chain(*hits):
        hit["document"].pop("doc_digest", None)
    return [*hits, cli.json("search", "--where", "verdict = 'gold'", "--count", *more)["count"]]


def test_a_search_at_an_offset_finds_what_it_found_then_and_needs_no_index(cli: Cli) -> None:
    found = {cli.json("status")["ledger_offset"]: searched(cli)}

    def after(*command: str) -> None:
        cli(*command)
        cli("run")
        found[cli.json("status")["ledger_offset"]] = searched(cli)

    kept = cli("search", "--where", "verdict = 'gold' AND cluster IS NOT NULL", "--limit", "1", "--ids")[0]
    after("flag", kept.strip(), "--kind", "reject", "--reason", "a logo", "--actor", "ana")
    cli("snapshot", "create", "train")
    cli("run")
    found[cli.json("status")["ledger_offset"]] = searched(cli)
    after("tag", "--where", "format = 'jpeg'", "--tag", "sky")
    after("undo", "--reason", "not all of them")
    after("flag", "--where", "verdict = 'gold'", "--kind", "blocked")
    assert (len(found), len({str(answers) for answers in found.values()})) == (6, 5)  # an undo brings back
    shutil.rmtree(cli.project / "index")
    for offset, answers in found.items():
        assert searched(cli, "--at", str(offset)) == answers, offset


def test_an_explanation_at_an_offset_is_the_one_given_then(cli: Cli) -> None:
    sample = cli("search", "--where", "verdict = 'gold'", "--limit", "1", "--ids")[0].strip()
    before = cli.json("explain", sample)
    assert (before["verdict"], before["as_of"]) == ("gold", None)
    cli("flag", sample, "--kind", "reject", "--reason", "a logo", "--actor", "ana")
    cli("run")
    rejected = cli.json("explain", sample)
    cli("undo")
    cli("run")
    cli("snapshot", "create", "train")
    assert cli.json("explain", sample)["snapshots"] == ["train", "train@1"]
    for then in (before, rejected):
        now = cli.json("explain", sample, "--at", str(then["ledger_offset"]))
        assert now["as_of"]["offset"] == then["ledger_offset"]
        assert now["stored_verdict"] is None
        aside = ("as_of", "stored_verdict")
        assert {k: v for k, v in now.items() if k not in aside} == {
            k: v for k, v in then.items() if k not in aside
        }
    out, _ = cli("explain", sample, "--at", str(rejected["ledger_offset"]))
    assert "because flag reject by person ana: a logo" in out
    assert f"As of ledger offset {rejected['ledger_offset']} of {rejected['ledger_offset'] + 2}" in out
    assert "stored verdict" not in out


def test_a_search_at_an_offset_says_what_is_of_then_and_what_is_of_now(cli: Cli) -> None:
    end = cli.json("status")["ledger_offset"]
    policy = cli.json("policy", "show")
    newest = cli.json("log", "--limit", "1")["events"][0]
    found = cli.json("search", "--at", str(end), "--limit", "1")
    assert found["as_of"] == {
        "offset": end,
        "time": newest["time"],
        "ledger_offset": end,
        "policy": policy["name"],
        "policy_digest": policy["digest"],
        "of_now": ["samples", "facts", "policy"],
    }
    out, err = cli("search", "--at", "0", "--ids", "--limit", "2")
    assert len(out.split()) == 2
    assert f"As of ledger offset 0 of {end}. Samples, facts and the policy" in err
    assert "are those of now" in err


def test_pages_at_an_offset_follow_each_other(cli: Cli) -> None:
    everything = cli("search", "--at", "1", "--ids", "--limit", "100")[0].split()
    first = cli.json("search", "--at", "1", "--limit", "5")
    second = cli.json("search", "--at", "1", "--limit", "5", "--cursor", first["cursor"])
    assert [h["sample_id"] for h in (*first["hits"], *second["hits"])] == everything[:10]


@pytest.mark.parametrize(
    "ranked",
    [
        ("--text", "cat"),
        ("--like", "0" * 64),
        ("--like-text", "a cat"),
        ("--like-file", "cat.jpg"),
        ("--like-vector", "cat.npy"),
        ("--group-by", "verdict"),
    ],
)
def test_what_only_the_index_can_answer_is_refused_at_an_offset(cli: Cli, ranked: tuple[str, str]) -> None:
    error = cli.json("search", "--at", "1", *ranked, code=3)
    assert error["kind"] == "bad_query"
    assert "--sort and --random" in error["error"]


@pytest.mark.parametrize("offset", ["-1", "1000000"])
def test_an_offset_that_the_ledger_does_not_have_is_an_error_of_the_input(cli: Cli, offset: str) -> None:
    sample = cli("search", "--limit", "1", "--ids")[0].strip()
    for command in (("search",), ("explain", sample)):
        error = cli.json(*command, "--at", offset, code=3)
        assert error["kind"] == "no_such_offset"
        assert offset in error["error"]
