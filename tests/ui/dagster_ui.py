"""The Dagster UI as people have it: `python -m assets.up` in a process of its own, and a real Chromium."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PATIENCE = 120_000
"""Milliseconds that the UI may take on a busy machine."""


@contextmanager
def up(project: Path) -> Iterator[str]:
    """The UI of a project; its address. It ends as on Ctrl-C."""
    with up_with_viewer(project) as (address, _):
        yield address


@contextmanager
def up_with_viewer(project: Path) -> Iterator[tuple[str, str]]:
    """The UI of a project and its viewer; their addresses. They end as on Ctrl-C."""
    with socket.socket() as first, socket.socket() as second:
        for probe in (first, second):
            probe.bind(("127.0.0.1", 0))
        port, viewer = (probe.getsockname()[1] for probe in (first, second))
    command = [sys.executable, "-m", "assets.up", "--project", str(project)]
    command += ["--port", str(port), "--viewer-port", str(viewer)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if f"http://127.0.0.1:{port}" in line:
                break
        else:
            raise AssertionError("".join(said))
        yield f"http://127.0.0.1:{port}", f"http://127.0.0.1:{viewer}"
    finally:
        process.send_signal(signal.SIGINT)
        _, _ = process.communicate(timeout=60)
        assert process.returncode == 0


@contextmanager
def browser(width: int = 1600, height: int = 1000) -> Iterator[Page]:
    """A page of a browser that remembers nothing."""
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as profile:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=CHROMIUM,
            args=[*FLAGS],
            viewport={"width": width, "height": height},
        )
        context.set_default_timeout(PATIENCE)
        try:
            yield context.new_page()
        finally:
            context.close()


def open_graph(page: Page, address: str) -> None:
    """The whole asset graph, groups expanded."""
    page.goto(f"{address}/asset-groups")
    page.get_by_text("bronze", exact=True).last.wait_for()
    page.keyboard.press("Alt+e")
    for name in ("raw_samples", "sample_index", "shards"):
        page.get_by_text(name, exact=True).first.wait_for()
