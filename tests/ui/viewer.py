"""The viewer as people have it: `refinery view` in a process of its own, and pages of a real Chromium."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from dagster_ui import CHROMIUM, PATIENCE, ROOT
from playwright.sync_api import Locator, Page, expect


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


MARKS = [
    pytest.mark.browser,
    pytest.mark.xdist_group("viewer"),
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no Chromium on this machine"),
]
"""Of every test that looks at the viewer in a browser."""


@contextmanager
def served(project: Path, *options: str) -> Iterator[str]:
    """Where `refinery view` serves a project."""
    with started(project, *options) as (address, _):
        yield address


@contextmanager
def started(
    project: Path, *options: str, port: int | None = None, log: Path | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Where `refinery view` serves a project, and its process; what it says goes to the file `log`."""
    port = port or free_port()
    command = [sys.executable, "-m", "refinery.cli", "--project", str(project), "view", "--port", str(port)]
    with (log or Path(os.devnull)).open("wb") as said:
        server = subprocess.Popen(
            [*command, *options],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=said if log else None,
            stderr=said if log else None,
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


def patient(page: Page) -> Page:
    """The page, which may take its time on a busy machine."""
    page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    return page


def settled(page: Page) -> None:
    """The page has drawn all it has to."""
    expect(page.locator("[data-test-script-state=notRunning]")).to_be_attached()


def text(page: Page, words: str) -> None:
    """These words are on the page, and still are when it has drawn all it has to."""
    expect(page.get_by_text(words).first).to_be_visible()
    settled(page)
    expect(page.get_by_text(words).first).to_be_visible()


def choose(page: Page, label: str, option: str) -> None:
    """Choose an option of a select box."""
    page.get_by_role("combobox", name=re.compile(label)).click()
    page.get_by_role("option", name=option).click()


def desk(page: Page) -> Locator:
    """The first desk of the page."""
    return page.locator(".desk").first


def shown(page: Page) -> list[str]:
    """The ids of the samples on the first desk, in order; there is at least one."""
    expect(desk(page).locator(".tile").first).to_be_visible()
    settled(page)
    return [tile.get_attribute("data-sample") or "" for tile in desk(page).locator(".tile").all()]


def stands(page: Page, words: str) -> None:
    """The desk says that the last act is in the ledger, in such words, and in the index."""
    expect(desk(page).locator(".note")).to_contain_text(words)
    expect(desk(page).locator(".note")).to_contain_text("Search knows it")
    settled(page)


def because(page: Page, reason: str) -> None:
    """Give the reason that the desk asks for."""
    field = desk(page).locator(".prompt input")
    field.fill(reason)
    field.press("Enter")
