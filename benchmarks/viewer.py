"""The viewer with a million samples: its core's screens, the real page in a browser where there is one, and its memory.

.venv/bin/python -m benchmarks.viewer [--quick] [--project DIR] [--json FILE]

A made-up project with the thumbnails of real pictures (--quick: 100,000 samples), kept in DIR to be used again. Seconds are
the median of five, acts are done once; `ours ÷ it` is the goal over what was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks._table import Row, options, report
from benchmarks._viewer_browser import in_a_browser
from benchmarks._viewer_core import ASKED_FOR

_PAGE, _FILTER, _MEMORY = 2.0, 1.0, 1 << 30
"""The goals: seconds of a screen, seconds of a changed filter, bytes."""


def main() -> None:
    """Measure and print."""
    asked = options(__doc__, _more)
    samples = 100_000 if asked.quick else 1_000_000
    with ExitStack() as stack:
        folder = asked.project or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="viewer-bench-"))
        )
        _child("benchmarks._million", folder, samples)
        rows = [*_core(folder / "project"), *in_a_browser(folder / "project", seconds, memory)]
    report(f"the viewer with {samples:,} samples", rows, asked.json)


def _more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--project", type=Path, metavar="DIR", help="keep the project there, or use the one that is"
    )


def _core(project: Path) -> list[Row]:
    found = json.loads(_child("benchmarks._viewer_core", project))
    rows = [Row(work, "core", value, "s", note="imports included") for work, value in found["cold"].items()]
    rows += [seconds(work, "core", value) for work, value in found["warm"].items()]
    return [*rows, memory("core", found["memory"])]


def seconds(work: str, system: str, value: float) -> Row:
    """A row of seconds: a screen has two, a changed filter one, what is asked for no goal."""
    if work.startswith(ASKED_FOR):
        return Row(work, system, value, "s")
    goal = _FILTER if work.startswith("filter change") else _PAGE
    return Row(work, system, value, "s", goal / value, 1, value < goal)


def memory(system: str, value: int) -> Row:
    """A row of the most memory."""
    return Row("the most memory", system, value / 2**20, "MiB", _MEMORY / value, 1, value < _MEMORY)


def _child(module: str, *arguments: object) -> str:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    env = {"MALLOC_ARENA_MAX": "2", **os.environ}  # as `refinery view` has it
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env).stdout


if __name__ == "__main__":
    main()
