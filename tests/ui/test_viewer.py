"""The viewer in a real browser: find, open, reject, replay, undo; links, going back, hostile words."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster_ui import CHROMIUM, PATIENCE, ROOT, browser
from playwright.sync_api import Page, expect

from refinery.ledger import Actor, ActorKind, Event, EventType
from refinery.project import Refinery
from ui.core import Screen, Viewer

HOSTILE = "<script>window.hacked=1</script><img src=x onerror='window.hacked=2'> ![x](http://127.0.0.1:9/x.png) \x1b[31m"
ANA = Actor(ActorKind.PERSON, "ana")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no Chromium on this machine"),
]


@pytest.fixture
def address(refined: Path) -> Iterator[str]:
    """Where `refinery view` serves the refined project."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "refinery.cli", "--project", str(refined), "view", "--port", str(port)]
    server = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5):
                    break
            except (urllib.error.URLError, OSError):
                with pytest.raises(subprocess.TimeoutExpired):
                    server.wait(0.25)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        assert server.wait(30) == 0


@pytest.fixture
def page() -> Iterator[Page]:
    with browser(1280, 800) as opened:
        expect.set_options(timeout=PATIENCE)
        yield opened


def text(page: Page, words: str) -> None:
    """These words are on the page, and still are when it has drawn all it has to."""
    expect(page.get_by_text(words).first).to_be_visible()
    expect(page.locator("[data-test-script-state=notRunning]")).to_be_attached()
    expect(page.get_by_text(words).first).to_be_visible()


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_role("combobox", name=re.compile(label)).click()
    page.get_by_role("option", name=option).click()


def test_a_curator_finds_rejects_replays_and_undoes_and_hostile_words_stay_words(
    page: Page, address: str, refined: Path
) -> None:
    project = Refinery.open(refined)
    sample = Viewer(project).browse(Screen(verdict="gold")).hits[0].sample_id
    project.tag([sample], HOSTILE, ANA)
    project.ledger.append([Event(EventType.ATTRIBUTE, ANA, sample, kind="caption", value=HOSTILE)])
    project.replay()
    project.project()
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))

    page.goto(address)
    text(page, "samples match, in order of id")
    page.get_by_label("Filter", exact=True).fill("min_side >= 256 AND NOT has_flag('reject')")
    page.get_by_label("Filter", exact=True).press("Enter")
    choose(page, "Verdict", "gold")
    expect(page).to_have_url(re.compile(r"where=min_side.*verdict=gold"))
    text(page, "samples match, in order of id")
    button = page.get_by_role("button", name=sample[:8], exact=True)
    expect(button).to_have_count(1)  # the grid of before is there until the new one is drawn
    button.click()
    expect(page).to_have_url(re.compile(f"where=min_side.*verdict=gold&sample={sample}"))
    text(page, "no rule of the policy holds it")

    choose(page, "Flag", "reject")
    page.get_by_role("textbox", name="Reason", exact=True).fill(HOSTILE)
    page.get_by_role("button", name="Flag", exact=True).click()
    text(page, "The last replay said gold; the next one will say held.")
    page.get_by_role("button", name="Replay now").click()
    text(page, "verdicts changed")
    expect(page.get_by_text("■ held").first).to_be_visible()
    assert Viewer.open(refined).browse(Screen(reason="rejected")).selected == 1
    page.get_by_role("tab", name="Attributes").click()
    text(page, "caption: <script>window.hacked=1</script>")
    page.get_by_role("tab", name="History").click()
    text(page, "<script>window.hacked=1</script>")

    page.reload()
    text(page, "a person beats models and rules")
    page.get_by_role("button", name="Undo", exact=True).click()
    text(page, "In the ledger at offset")
    page.get_by_role("button", name="Replay now").click()
    text(page, "verdicts changed")
    text(page, "no rule of the policy holds it")
    expect(page.get_by_text("● gold").first).to_be_visible()
    page.get_by_role("button", name="Back to the grid").click()
    expect(page).to_have_url(re.compile(r"where=min_side.*verdict=gold$"))
    page.go_back()
    expect(page).to_have_url(re.compile(f"sample={sample}"))
    text(page, "no rule of the policy holds it")

    assert page.evaluate("window.hacked") is None
    assert all(url.startswith((address, "data:", "blob:")) for url in requests), requests
