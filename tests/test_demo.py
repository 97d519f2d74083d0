"""The demo tells one story, twice the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from assets import demo


def test_a_second_demo_recomputes_nothing_and_ends_with_the_same_roots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "demo"
    monkeypatch.setattr("sys.argv", ["demo", "--project", str(home), "--size", "small"])
    demo.main()
    first = capsys.readouterr().out
    summary = json.loads((home / "summary.json").read_text())
    status = summary["status"]
    held = sum(status["held"].values())
    assert status["seen"] == status["gold"] + held + status["pending"]
    assert (
        f"{status['seen']} seen = {status['gold']} gold + {held} held + {status['pending']} pending" in first
    )
    assert {"state", "demo@1", "demo@2"} < set(summary["roots"])
    assert {p.split("/")[2].split("-")[0] for p in summary["roots"] if "/" in p} == {
        "webdataset",
        "mds",
        "parquet",
    }
    assert "flag reject by person ana: a logo in the corner" in first
    with Image.open(home / "contact-sheet.png") as sheet:
        assert sheet.width > 1000

    demo.main()
    second = capsys.readouterr().out
    assert "0 facts recomputed; roots are the same as before" in second
    assert json.loads((home / "summary.json").read_text()) == summary
