"""The command line takes back whole actors, acts and what follows, and lets flags go on to related samples."""

from __future__ import annotations

from pathlib import Path

import pytest

from refinery.project import Refinery
from tests.test_cli import Cli
from tests.test_cli_gold import ids

CRITIC = ("--as", "model", "--actor", "blur-critic")


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], refined: Path) -> Cli:
    return Cli(capsys, refined)


def test_all_that_a_model_said_is_taken_back_and_the_frozen_root_is_the_one_before(cli: Cli) -> None:
    first = cli.json("snapshot", "create", "train")
    one, two, three = ids(cli, "verdict = 'gold' AND cluster IS NULL", 3)
    cli("flag", one, "--kind", "blocked", *CRITIC)
    cli("flag", two, "--kind", "blocked", *CRITIC)
    cli("flag", three, "--kind", "review", "--actor", "ana")
    assert cli.json("run")["replay"]["flips"] == {"gold → held": 2}
    assert cli.json("snapshot", "create", "train")["root"] != first["root"]
    offset = cli.json("status")["ledger_offset"]
    preview = cli.json("undo", "--of-actor", "model blur-critic", "--dry-run")
    assert (preview["events"], preview["kinds"]) == (2, {"flag blocked": 2})
    assert (preview["actors"], preview["returning"]) == ({"model blur-critic": 2}, {})
    assert preview["samples"] == sorted([one, two])
    out, _ = cli("undo", "--of-actor", "model blur-critic", "--dry-run")
    assert "would undo 2 events on 2 samples" in out
    assert "said by: model blur-critic (2)" in out
    assert "would then move 2 held → gold" in out
    assert cli.json("status")["ledger_offset"] == offset
    assert cli.json("undo", "--of-actor", "model blur-critic", "--actor", "ana")["samples"] == 2
    assert cli.json("run")["replay"]["flips"] == preview["moved"]["flips"] == {"held → gold": 2}
    assert cli.json("snapshot", "create", "train")["root"] == first["root"]
    assert ids(cli, "has_flag('review')") == [three]
    assert cli.json("undo", "--of-actor", "model blur-critic", code=3)["kind"] == "nothing_to_undo"


def test_an_actor_is_undone_by_kind_and_from_an_offset_on(cli: Cli) -> None:
    one, two = ids(cli, "verdict = 'gold'", 2)
    cli("flag", one, "--kind", "review", *CRITIC)
    offset = cli.json("status")["ledger_offset"]
    cli("flag", two, "--kind", "review", *CRITIC)
    cli("tag", two, "--tag", "soft", *CRITIC)
    whose = ("--of-actor", "model blur-critic", "--dry-run")
    assert cli.json("undo", *whose)["kinds"] == {"flag review": 2, "tag soft": 1}
    assert cli.json("undo", *whose, "--of-kind", "review")["kinds"] == {"flag review": 2}
    assert cli.json("undo", *whose, "--since", str(offset))["samples"] == [two]
    error = cli.json("undo", "--of-actor", "model blurcritic", code=3)
    assert error["kind"] == "no_such_actor"
    assert "Did you mean 'model blur-critic'?" in error["error"]
    assert cli.json("undo", "--of-actor", "blur-critic", code=3)["kind"] == "bad_actor"
    assert cli.json("undo", "--since", "1", code=3)["kind"] == "bad_selection"


def test_an_act_is_undone_by_its_id_and_its_undo_too(cli: Cli) -> None:
    chosen = ids(cli, "verdict = 'gold'", 3)
    act = cli.json("flag", *chosen, "--kind", "review")["events"][0]["group"]
    cli("tag", chosen[0], "--tag", "later")
    assert act[:12] in cli("log")[0]
    undone = cli.json("undo", "--act", act[:12])
    assert undone["samples"] == 3
    assert ids(cli, "has_flag('review')") == []
    cli("undo", "--act", undone["events"][0]["group"])
    assert sorted(ids(cli, "has_flag('review')")) == sorted(chosen)
    assert cli.json("undo", "--act", "nothing", code=3)["kind"] == "no_such_act"


def test_a_flag_goes_on_to_its_cluster_and_is_undone_with_all_its_children(cli: Cli) -> None:
    before = cli.json("run")["root"]
    sample = ids(cli, "verdict = 'gold' AND cluster IS NOT NULL", 1)[0]
    cluster = cli.json("explain", sample)["cluster"]["members"]
    event = cli.json("flag", sample, "--kind", "reject", "--reason", "a logo", "--actor", "ana")["events"][0]
    cli("run")
    call = ("propagate", event["id"][:12], "--to", "cluster", "--actor", "bo")
    preview = cli.json(*call, "--dry-run")
    assert preview["children"] == sorted(set(cluster) - {sample})
    out, _ = cli(*call, "--dry-run")
    assert f"would flag reject {len(cluster) - 1} sample" in out
    assert ids(cli, "has_flag('reject')") == [sample]
    done = cli.json(*call)
    assert done["indexed"] == len(cluster) - 1
    assert sorted(ids(cli, "has_flag('reject')")) == sorted(cluster)
    assert cli.json("run")["replay"]["flips"] == preview["moved"]["flips"]
    again = cli.json(*call)
    assert (again["events"], again["flagged"]) == ([], len(cluster) - 1)
    out, _ = cli("explain", preview["children"][0])
    follows = f"flag reject by person bo: a logo (follows from event {event['id'][:12]})"
    assert f"because {follows}; a person beats" in out
    assert cli.json("undo", event["id"])["samples"] == len(cluster)
    assert ids(cli, "has_flag('reject')") == []
    assert cli.json("run")["root"] == before


def test_a_flag_goes_on_to_the_nearest_of_those_that_match(cli: Cli) -> None:
    sample = ids(cli, "verdict = 'gold' AND cluster IS NULL", 1)[0]
    event = cli.json("flag", sample, "--kind", "review")["events"][0]["id"]
    near = cli.json("search", "--like", sample, "--exact", "--where", "verdict = 'gold'", "--limit", "5")[
        "hits"
    ]
    call = ("propagate", event, "--to", "neighbours", "--k", "5", "--where", "verdict = 'gold'")
    every = cli.json(*call, "--min-cosine", "-1", "--dry-run")
    assert every["children"] == sorted(hit["sample_id"] for hit in near)
    least = (near[1]["score"] + near[2]["score"]) / 2
    assert cli.json(*call, "--min-cosine", f"{least}")["children"] == sorted(
        hit["sample_id"] for hit in near[:2]
    )
    assert cli.json(*call, "--min-cosine", f"{least}")["events"] == []
    assert cli.json(*call, "--space", "nowhere", code=3)["retryable"] is False


def test_a_flag_goes_on_to_its_source_narrowed_by_a_filter(cli: Cli) -> None:
    sample, *_ = ids(cli, "format = 'jpeg' AND verdict = 'gold'")
    event = cli.json("flag", sample, "--kind", "review")["events"][0]["id"]
    call = ("propagate", event, "--to", "source", "--dry-run")
    everything = Refinery.open(cli.project).status().seen
    assert cli.json(*call)["related"] == everything - 1
    jpegs = set(ids(cli, "format = 'jpeg'")) - {sample}
    assert cli.json(*call, "--where", "format = 'jpeg'")["children"] == sorted(jpegs)
    undo = cli.json("undo", event)["events"][0]["id"]
    assert cli.json(*call, code=3)["kind"] == "undone_flag"
    assert cli.json("propagate", undo, "--to", "source", code=3)["kind"] == "no_flag"


def test_without_an_index_there_are_no_neighbours_but_a_source(cli: Cli) -> None:
    import shutil

    sample = ids(cli, "verdict = 'gold'", 1)[0]
    event = cli.json("flag", sample, "--kind", "review")["events"][0]["id"]
    shutil.rmtree(cli.project / "index")
    assert cli.json("propagate", event, "--to", "neighbours", code=4)["kind"] == "no_index"
    assert cli.json("propagate", event, "--to", "source", "--dry-run")["children"]
