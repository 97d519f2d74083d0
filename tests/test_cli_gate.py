"""`refinery gate` on a real project: what it prints, what it writes, and how it exits."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_cli import Cli

RULES = """\
rules:
  - {name: big_enough, kind: size, min: 2, max_shrink: 0.5}
  - {name: one_format, kind: balance, field: format, max_share: 1}
  - {name: few_twins, kind: duplicates, max_rate: 0, max_equal_pixels: 0}
  - {name: as_sharp, kind: drift, field: sharpness, max_ks: 0.5, max_psi: 1, max_missing: 0}
  - {name: same_content, kind: drift, space: default, max_cosine: 0.5, max_mmd: 0.5, max_missing: 0}
  - {name: whole, kind: verified}
"""
LEAK = "  - {name: no_leak, kind: leakage, against: [evals@1]}\n"


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], refined: Path) -> Cli:
    """A project with train@1, and train@2 that lacks one of its samples."""
    cli = Cli(capsys, refined)
    cli("snapshot", "create", "train")
    sample = cli("search", "--where", "in_dataset('train@1') AND cluster IS NULL", "--limit", "1", "--ids")
    cli("flag", sample[0].strip(), "--kind", "reject")
    cli("run")
    cli("snapshot", "create", "train")
    return cli


def test_a_step_within_all_bounds_passes_and_writes_the_same_report_twice(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "gate.yaml").write_text(RULES)
    asked = ("gate", "train@1", "train", "--rules", str(tmp_path / "gate.yaml"), "--report")
    out, _ = cli(*asked, str(tmp_path / "one.md"))
    assert "train@1 → train@2  passed all 6 rules" in out
    assert "near-duplicate rate" in out
    document = cli.json(*asked, str(tmp_path / "two.md"))
    assert (document["passed"], document["failed"]) == (True, [])
    assert document["base"]["count"] == document["head"]["count"] + 1
    assert (tmp_path / "one.md").read_bytes() == (tmp_path / "two.md").read_bytes()
    assert (tmp_path / "one.md").read_text().startswith("# Gate passed\n")


def test_a_leak_into_the_evals_exits_with_8_and_names_the_samples(cli: Cli, tmp_path: Path) -> None:
    evals = cli.json("snapshot", "create", "evals", "--where", "aspect > 1")
    ids = cli("search", "--where", "in_dataset('evals@1')", "--limit", "100", "--ids")[0].split()
    (tmp_path / "gate.yaml").write_text(RULES + LEAK)
    report = tmp_path / "gate.md"
    asked = ("gate", "train@1", "train@2", "--rules", str(tmp_path / "gate.yaml"), "--report", str(report))
    out, _ = cli(*asked, code=8)
    assert "failed 1 of 7 rules" in out
    assert f"failed  no_leak: {evals['count']} of " in out
    document = cli.json(*asked, code=8)
    assert document["failed"] == ["no_leak"]
    assert [e["sample_id"] for e in document["results"][-1]["evidence"]] == sorted(ids)[:20]
    assert all(i in report.read_text() for i in sorted(ids)[:20])


def test_what_is_wrong_with_the_call_has_the_exit_code_of_its_group(cli: Cli, tmp_path: Path) -> None:
    rules = tmp_path / "gate.yaml"
    assert cli.json("gate", "train", "train", "--rules", str(rules), code=4)["kind"] == "no_gate_rules"
    rules.write_text("rules: [{name: big, kind: size}]")
    assert "'big'" in cli.json("gate", "train", "train", "--rules", str(rules), code=4)["error"]
    rules.write_text(RULES)
    assert cli.json("gate", "train", "trian", "--rules", str(rules), code=3)["kind"] == "no_such_snapshot"
    nowhere = str(tmp_path / "no folder" / "gate.md")
    error = cli.json("gate", "train", "train", "--rules", str(rules), "--report", nowhere, code=3)
    assert error["kind"] == "unwritable_report"
