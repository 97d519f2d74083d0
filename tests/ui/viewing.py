"""`refinery view` in a process of its own, as people start it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from dagster_ui import ROOT


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def viewing(
    project: Path,
    *arguments: str,
    port: int | None = None,
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The viewer of a project: its address, and the process. What it says goes to the file `log`. It ends as on SIGTERM."""
    port = port or free_port()
    command = [sys.executable, "-m", "refinery.cli", "--project", str(project), "view", "--port", str(port)]
    said = log.open("wb") if log else None
    server = subprocess.Popen(
        [*command, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
        stdout=said,
        stderr=subprocess.STDOUT if said else None,
    )
    try:
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5):
                    break
            except (urllib.error.URLError, OSError):
                with pytest.raises(subprocess.TimeoutExpired):
                    server.wait(0.25)
        yield f"http://127.0.0.1:{port}", server
    finally:
        server.terminate()
        assert server.wait(30) == 0
        if said:
            said.close()
