"""The command line: what it prints for people and for machines, and how it fails."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from refinery.cli import app, main
from refinery.config import FILE_NAME, EmbedderSettings, load_settings
from refinery.corpus import CorpusReport
from refinery.project import Refinery

ROOT = Path(__file__).resolve().parent.parent
OFFLINE = ("--embedder", "efficientnet_lite0")


class Cli:
    """Runs the command line in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str], project: Path) -> None:
        self._capsys, self.project = capsys, project

    def __call__(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """Standard output and standard error of a command, which must exit with `code`."""
        with pytest.raises(SystemExit) as exit_:
            main(["--project", str(self.project), *arguments])
        out, err = self._capsys.readouterr()
        assert (exit_.value.code or 0) == code, err or out
        return out, err

    def json(self, *arguments: str, code: int = 0) -> Any:
        """The one JSON document that a command prints."""
        return json.loads(self(*arguments, "--json", code=code)[0])


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], refined: Path) -> Cli:
    return Cli(capsys, refined)


@pytest.fixture
def bare(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """The command line before there is a project."""
    return Cli(capsys, tmp_path / "none yet")


def documented() -> dict[str, set[str]]:
    """The members of each command's JSON document, as docs/cli.md promises them."""
    rows = re.findall(
        r"^\| `([a-z][a-z -]*)` \| (`.*`) \|$", (ROOT / "docs/cli.md").read_text(), re.MULTILINE
    )
    return {command: set(re.findall(r"`(\w+)`", members)) for command, members in rows}


def commands(group: Any, path: tuple[str, ...] = ()) -> dict[str, Any]:
    """Every command there is, by its words."""
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        if getattr(command, "commands", None):
            found |= commands(command, (*path, name))
        if not getattr(command, "commands", None) or command.invoke_without_command:
            found[" ".join((*path, name))] = command
    return found


def test_every_command_speaks_json_and_is_documented() -> None:
    found = commands(typer.main.get_command(app))
    del found["view"]  # it stays until it is stopped: there is no document
    for name, command in found.items():
        assert "--json" in {option for p in command.params for option in p.opts}, name
    assert set(found) == {name for name in documented() if "--" not in name}


def test_each_json_document_has_exactly_the_documented_members(
    cli: Cli, corpus: CorpusReport, tmp_path: Path
) -> None:
    sample = cli.json("search", "--where", "verdict = 'gold'", "--limit", "1")["hits"][0]["sample_id"]
    flag = cli.json("flag", sample, "--kind", "review")["events"][0]["id"]
    other = cli.project / "policy.yaml"
    rules = tmp_path / "gate.yaml"
    rules.write_text("rules: [{name: whole, kind: verified}]")
    results = tmp_path / "results.jsonl"
    results.write_text(json.dumps({"sample_id": sample, "loss": 0.5}) + "\n")
    feedback = tmp_path / "feedback.jsonl"
    feedback.write_text(json.dumps({"sample_id": sample, "kind": "up"}) + "\n")
    calls = {
        "init": ("init", str(tmp_path / "fresh"), *OFFLINE),
        "ingest": ("ingest", str(corpus.folder), "--source", "photographs"),
        "status": ("status",),
        "search": ("search", "--limit", "2"),
        "search --count": ("search", "--count"),
        "search --group-by": ("search", "--group-by", "verdict"),
        "search --at": ("search", "--at", "1"),
        "search --at --count": ("search", "--at", "1", "--count"),
        "views save": ("views", "save", "wide", "aspect > 1"),
        "views list": ("views", "list"),
        "views show": ("views", "show", "wide"),
        "show": ("show", sample[:10]),
        "flag": ("flag", sample, "--kind", "review"),
        "tag": ("tag", sample, "--tag", "sky"),
        "undo --dry-run": ("undo", "--dry-run"),
        "undo": ("undo",),
        "propagate --dry-run": ("propagate", flag, "--to", "source", "--dry-run"),
        "propagate": ("propagate", flag, "--to", "source"),
        "unflag": ("unflag", sample, "--kind", "review"),
        "evals ingest": ("evals", "ingest", str(results), "--eval", "probe", "--run", "1"),
        "feedback add": ("feedback", "add", sample, "--kind", "down"),
        "feedback ingest": ("feedback", "ingest", str(feedback), "--source", "app"),
        "log": ("log", "--limit", "3"),
        "explain": ("explain", sample),
        "policy show": ("policy", "show"),
        "policy try": ("policy", "try", str(other)),
        "fields": ("fields",),
        "fields add": ("fields", "add", "score", "--type", "number"),
        "run": ("run",),
        "snapshot create": ("snapshot", "create", "train"),
        "snapshot ls": ("snapshot", "ls"),
        "export": ("export", "train", "--format", "webdataset", "--side", "64"),
        "snapshot show": ("snapshot", "show", "train"),
        "snapshot diff": ("snapshot", "diff", "train@1", "train@1"),
        "gate": ("gate", "train@1", "train@1", "--rules", str(rules)),
        "snapshot card": ("snapshot", "card", "train@1"),
        "snapshot verify": ("snapshot", "verify", "train@1"),
        "snapshot rebuild": ("snapshot", "rebuild", "train@1", "--into", str(tmp_path / "elsewhere")),
        "snapshot prove": ("snapshot", "prove", "train@1", sample, "--output", str(tmp_path / "proof.json")),
        "snapshot check": ("snapshot", "check", str(tmp_path / "proof.json"), "--ref", "train@1"),
        "rebuild-index": ("rebuild-index",),
        "map": ("map",),
        "gaps": ("gaps",),
        "gc": ("gc",),
        "snapshot rm": ("snapshot", "rm", "train@1"),
        "takedown": ("takedown", sample),
        "takedown --yes": ("takedown", sample, "--yes", "--reason", "asked by its author"),
        "doctor": ("doctor",),
    }
    assert set(calls) == set(documented())
    for name, arguments in calls.items():
        assert set(cli.json(*arguments)) == documented()[name], name


def test_status_adds_up_to_what_was_seen(cli: Cli, corpus: CorpusReport) -> None:
    status = cli.json("status")
    assert status["seen"] == len({planted.sample_id for planted in corpus.files.values()})
    assert status["seen"] == status["gold"] + status["held_total"] + status["pending"]
    assert status["held_total"] == sum(status["held"].values())
    out, _ = cli("status")
    assert f"{status['seen']} seen = {status['gold']} gold + {status['held_total']} held + 0 pending" in out


@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [
        (("explain", "f" * 64), 3, "no_such_sample"),
        (("show", "abc"), 3, "no_such_sample"),
        (("search", "--where", "widht > 5"), 3, "unknown_field"),
        (("search", "--sort", "width", "--random", "1"), 3, "bad_query"),
        (("search", "--like-text", "a cat"), 3, "no_text_tower"),
        (("search", "--like-file", "no such file"), 3, "no_such_file"),
        (("snapshot", "show", "nothing"), 3, "no_such_snapshot"),
        (("flag", "--kind", "reject"), 3, "no_samples"),
        (("undo",), 3, "nothing_to_undo"),
        (("fields", "add", "width", "--type", "integer"), 3, "builtin_field"),
        (("ingest", "no such folder", "--source", "mine"), 3, "no_such_source"),
        (("policy", "try", "no-such-policy.yaml"), 4, "no_policy"),
    ],
)
def test_errors_have_the_exit_code_of_their_group(
    cli: Cli, arguments: tuple[str, ...], code: int, kind: str
) -> None:
    error = cli.json(*arguments, code=code)
    assert error["kind"] == kind
    assert error["retryable"] is False
    out, err = cli(*arguments, code=code)
    assert out == ""
    assert err.startswith("error: ")


def test_a_folder_without_a_project_is_an_error_of_configuration(bare: Cli) -> None:
    assert bare.json("status", code=4)["kind"] == "no_project"
    assert "refinery init" in bare("status", code=4)[1]


def test_a_wrong_command_line_exits_with_2(bare: Cli) -> None:
    for arguments in (("nonsense",), ("status", "--nonsense"), ("flag", "--as", "cat", "--kind", "keep")):
        out, err = bare(*arguments, code=2)
        assert out == ""
        assert "refinery" in err


def test_a_recipe_that_does_not_fit_is_an_error_of_configuration(cli: Cli) -> None:
    cli("snapshot", "create", "train")
    error = cli.json("export", "train", "--format", "mds", "--side", "4", code=4)
    assert error["kind"] == "bad_recipe"
    assert "side" in error["error"]


def test_verdicts_that_are_behind_are_not_frozen(cli: Cli) -> None:
    sample = cli.json("search", "--limit", "1")["hits"][0]["sample_id"]
    cli("flag", sample, "--kind", "review")
    assert cli.json("snapshot", "create", "train", code=4)["kind"] == "stale_verdicts"


def test_init_writes_a_commented_configuration_that_loads(bare: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "a project"
    out, _ = bare("init", str(folder), *OFFLINE)
    assert "pictures only" in out
    text = (folder / FILE_NAME).read_text()
    assert text.count("#") > 10
    settings = load_settings(folder)
    assert settings.embedder.kind == "efficientnet_lite0"
    defaults = load_settings(tmp_path / _written(tmp_path, "{}"))
    assert settings.model_copy(update={"embedder": defaults.embedder}) == defaults
    assert bare.json("init", str(folder), *OFFLINE, code=3)["kind"] == "project_exists"


def test_init_offline_says_plainly_which_model_it_took(
    bare: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refinery.embedders.open_clip._fetch", _no_hub)
    made = bare.json("init", str(tmp_path / "p"))
    assert made["embedder"]["kind"] == "efficientnet_lite0"
    assert made["text_search"] is False
    assert "no hub" in made["why"]
    out, _ = bare("init", str(tmp_path / "q"))
    assert "efficientnet_lite0, the offline model" in out
    assert "--like-text` (by meaning) does not" in out
    error = bare.json("init", str(tmp_path / "r"), "--embedder", "open_clip", code=4)
    assert error["kind"] == "model_unavailable"
    assert not (tmp_path / "r" / FILE_NAME).exists()


def test_init_takes_a_checkpoint(bare: Cli, tmp_path: Path) -> None:
    missing = ("init", str(tmp_path / "p"), "--model", "ViT-B-32", "--checkpoint", str(tmp_path / "no.pt"))
    assert bare.json(*missing, code=4)["kind"] == "model_unavailable"
    (tmp_path / "weights.pt").write_bytes(b"weights")
    checkpoint = (
        "--model",
        "ViT-B-32",
        "--checkpoint",
        str(tmp_path / "weights.pt"),
        "--pretrained",
        "openai",
    )
    made = bare.json("init", str(tmp_path / "p"), *checkpoint)
    assert made["text_search"] is True
    raw = yaml.safe_load((tmp_path / "p" / FILE_NAME).read_text())["embedder"]
    assert EmbedderSettings(**raw).checkpoint == tmp_path / "weights.pt"
    both = ("init", str(tmp_path / "q"), *OFFLINE, "--model", "ViT-B-32")
    assert bare.json(*both, code=3)["kind"] == "bad_embedder"


def test_ingest_says_what_became_of_every_entry(bare: Cli, tmp_path: Path, corpus: CorpusReport) -> None:
    bare("init", str(bare.project), *OFFLINE)
    out, err = bare("ingest", str(corpus.folder), "--source", "mine")
    assert f"{len(corpus.files)} entries" in out
    assert re.search(r"^ingest: \d+ files, .* in .* s \(.*/s\)$", err, re.MULTILINE)
    again = bare.json("ingest", str(corpus.folder), "--source", "mine")
    assert again["unchanged"] == len(corpus.files)
    assert again["batches"] == []
    (tmp_path / "rows.csv").write_text("path,captoin\nnothing.jpg,x\n")
    manifest = bare.json("ingest", str(tmp_path / "rows.csv"), "--source", "listed", code=3)
    assert "caption" in manifest["error"]
    (tmp_path / "rows.csv").write_text("path,caption\nnothing.jpg,x\n")
    out, _ = bare("ingest", str(tmp_path / "rows.csv"), "--source", "listed", "--kind", "manifest")
    assert "1 unreadable" in out
    assert "missing" in out


def test_keys_that_are_no_field_are_kept_aside_with_a_suggestion(bare: Cli, tmp_path: Path) -> None:
    bare("init", str(bare.project), *OFFLINE)
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"no picture")
    (folder / "a.json").write_text('{"autor": "Ana"}')
    out, _ = bare("ingest", str(folder), "--source", "mine")
    assert "autor (unknown, 1 times). Did you mean 'author'?" in out


def test_what_data_says_is_neither_markup_nor_a_control_sequence(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "[red]bad[nope \x1b[2J\u202e name.jpg").write_bytes(b"no picture")
    cli("ingest", str(folder), "--source", "evil")
    sample = cli.json("log", "--limit", "1")["events"]
    assert sample
    seen = Refinery.open(cli.project).batches.origins(columns=["sample_id", "source"]).to_pylist()
    [evil] = [row["sample_id"] for row in seen if row["source"] == "evil"]
    reason = "[bold]a[/bold] \x1b]0;title\x07 [/unclosed\nsecond line"
    cli("flag", evil, "--kind", "reject", "--reason", reason, "--actor", "[red]ana\x1b[0m")
    for command in (("explain", evil), ("show", evil), ("log",)):
        out, err = cli(*command)
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", out + err), command
    out, _ = cli("log", "--limit", "1")
    assert r"[bold]a[/bold] \x1b]0;title\x07 [/unclosed\nsecond line" in out
    assert r"person [red]ana\x1b[0m" in out
    assert cli.json("log", "--limit", "1")["events"][0]["reason"] == reason


def test_machine_output_is_alone_on_standard_output(refined: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "refinery.cli", "--project", str(refined), "run", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    report = json.loads(done.stdout)
    assert report["facts_computed"] == 0
    assert report["root"] == report["status"]["root"]


def test_the_version_is_told(bare: Cli) -> None:
    assert re.fullmatch(r"refinery (\d+\.\d+\.\d+|\(not installed: .*\))\n", bare("--version")[0])


def _written(folder: Path, text: str) -> str:
    (folder / "defaults").mkdir()
    (folder / "defaults" / FILE_NAME).write_text(text)
    return "defaults"


def _no_hub(*_: object) -> Path:
    from refinery.errors import ConfigError

    raise ConfigError("The hub does not answer.", kind="model_unavailable")
