"""A child process that judges pictures, so that what ends a process ends only that one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
Judge = Callable[..., dict[str, Any]]
OF_THE_BYTES = {
    "empty",
    "not_an_image",
    "unsupported_format",
    "truncated",
    "corrupt",
    "too_large",
    "too_many_pixels",
    "too_costly",
}
"""Reasons that say something about the bytes of a picture."""


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    """Sends a task and waits for the answer; a child that ended fails the test that it ended in."""
    command = [sys.executable, "-m", "tests.hardening.child"]
    running: list[subprocess.Popen[str]] = []

    def child() -> subprocess.Popen[str]:
        if not running:
            pipe = subprocess.PIPE
            running.append(subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True))
        return running[0]

    def ask(**task: Any) -> dict[str, Any]:
        process = child()
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps(task) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            code = running.pop().wait()
            pytest.fail(
                f"the process ended with {code} (-27: more than five seconds; -9, -6: memory; -11: a crash)"
            )
        answer: dict[str, Any] = json.loads(line)
        return answer

    yield ask
    for process in running:
        process.communicate()
