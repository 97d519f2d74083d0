"""The command line removes snapshots that are asked for by name and reason, and frees what nothing needs, when told to."""

from __future__ import annotations

from pathlib import Path

import pytest

from refinery.project import Refinery
from tests.test_cli import Cli

WHY = "superseded"


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], refined: Path) -> Cli:
    return Cli(capsys, refined)


def test_a_removed_snapshot_takes_its_exports_along_and_its_version_is_never_used_again(cli: Cli) -> None:
    first = cli.json("snapshot", "create", "train")
    [one, *_] = (
        Refinery.open(cli.project)
        .snapshots.rows(Refinery.open(cli.project).snapshots.get("train"))["sample_id"]
        .to_pylist()
    )
    cli("export", "train@1", "--format", "webdataset", "--side", "64")
    cli("flag", one, "--kind", "reject")
    cli("run")
    second = cli.json("snapshot", "create", "train")
    assert (second["ref"], second["parent"]) == ("train@2", "train@1")
    cli("export", "train@2", "--format", "webdataset", "--side", "64")
    shown = cli.json("snapshot", "rm", "train@1")
    assert (shown["removed"], shown["versions"], len(shown["exports"])) == (False, ["train@2"], 1)
    assert cli.json("snapshot", "rm", "train", code=3)["kind"] == "no_version"
    assert cli.json("snapshot", "rm", "train@1", "--yes", code=3)["kind"] == "no_reason"
    out, _ = cli("snapshot", "rm", "train@1", "--yes", "--reason", WHY)
    assert f"removed train@1 of {first['count']} samples" in out
    assert "train@2 was made from it: it stays" in out
    error = cli.json("snapshot", "show", "train@1", code=3)
    assert (error["kind"], WHY in error["error"]) == ("snapshot_removed", True)
    assert [s["ref"] for s in cli.json("snapshot", "ls")["snapshots"]] == ["train@2"]
    assert cli.json("snapshot", "verify", "train@2")["ok"]
    assert cli.json("search", "--where", "in_dataset('train@1')", "--count")["count"] == 0
    cli("snapshot", "rm", "train@2", "--yes", "--reason", WHY)
    again = cli.json("snapshot", "create", "train")
    assert (again["ref"], again["parent"], again["root"]) == ("train@3", None, second["root"])


def test_space_is_freed_when_it_is_asked_for_and_not_before(cli: Cli) -> None:
    cli("snapshot", "create", "train")
    cli("export", "train", "--format", "webdataset", "--side", "64")
    cli("snapshot", "rm", "train@1", "--yes", "--reason", WHY)
    assert cli.json("gc")["objects"] == 0
    assert "Nothing to free" in cli("gc")[0]
    found = cli.json("gc", "--older-than", "0s")
    assert (found["deleted"], set(found["kinds"])) == (False, {"roots", "states"})
    out, _ = cli("gc", "--older-than", "0s")
    assert f"would remove {found['objects']} objects" in out
    assert cli.json("gc", "--older-than", "0s", "--yes")["keys"] == found["keys"]
    assert cli.json("gc", "--older-than", "0s")["objects"] == 0
    assert cli.json("gc", "--older-than", "soon", code=3)["kind"] == "bad_time_span"
    status = cli.json("status")
    assert (status["stale"], status["gold"] > 0) == (False, True)
