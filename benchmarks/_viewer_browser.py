"""`refinery view` in Chromium: how long until a screen is drawn, after what a person does."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks._table import Row
from benchmarks._viewer_core import ASKED_FOR, peak_memory

_WAIT = 120_000
_STARTS = 120
_REPEATS = 5
_TILES = "[data-sample]"
_POINTS = ".map .frame[data-points]"
_PIERCING = """
const all = (selector, root = document) => [...root.querySelectorAll(selector), ...[...root.querySelectorAll("*")]
  .flatMap((element) => (element.shadowRoot ? all(selector, element.shadowRoot) : []))];
const quiet = () => document.querySelector("[data-test-script-state=notRunning]");
"""
"""Asked at every frame: a locator of Playwright that waits looks again after up to half a second only."""


def in_a_browser(
    project: Path, seconds: Callable[[str, str, float], Row], memory: Callable[[str, int], Row]
) -> Iterator[Row]:
    """What takes how long on the real page; one row that says so where there is no browser."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        yield Row("the real page", "browser", None, "s", note="needs Chromium and playwright")
        return
    with _served(project) as (address, server), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for work, took in _story(browser, address):
            yield seconds(work, "browser", took)
        browser.close()
        yield memory("server", max(map(peak_memory, _family(server))))


def _story(browser: Any, address: str) -> Iterator[tuple[str, float]]:
    warming = browser.new_page()  # the server's first session imports all that it needs
    warming.goto(address)
    _drawn(warming)
    warming.close()
    yield "first screen", median(_first(browser, address)[0] for _ in range(_REPEATS))
    _, page = _first(browser, address)
    turned = [_timed(page, page.get_by_role("button", name="Next page").first.click) for _ in range(_REPEATS)]
    yield "next page", median(turned)
    where = page.get_by_label("Filter", exact=True)

    def narrow(number: int) -> float:
        where.fill(f"min_side >= {1000 + number} AND score > 0.5")
        return _timed(page, lambda: where.press("Enter"))

    yield "filter change", median(map(narrow, range(_REPEATS)))
    yield "open a sample", median(_opened(page, place) for place in range(_REPEATS))
    yield from _map(page, address)


def _first(browser: Any, address: str) -> tuple[float, Any]:
    """Seconds until somebody who was never there sees the first screen, and their page."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    started = time.perf_counter()
    page.goto(address)
    _drawn(page)
    return time.perf_counter() - started, page


def _opened(page: Any, place: int) -> float:
    """Seconds until a sample of the grid is open; the grid is there again afterwards."""
    took = _timed(page, page.locator(_TILES).nth(place).dblclick)
    page.go_back()
    _drawn(page)
    return took


def _map(page: Any, address: str) -> Iterator[tuple[str, float]]:
    started = time.perf_counter()
    page.goto(f"{address}/?page=map")
    _charted(page)
    yield "map", time.perf_counter() - started
    where = page.get_by_label("Filter", exact=True)

    def narrow(number: int) -> float:
        where.fill(f"min_side >= {1100 + number}")
        return _timed(page, lambda: where.press("Enter"), _charted)

    yield "filter change: map", median(map(narrow, range(_REPEATS)))
    names = ("Source", "Cluster", "Flag", "Near-duplicate", "Verdict")
    paint = (_timed(page, page.get_by_role("radio", name=name).click, _charted) for name in names)
    yield "filter change: colour of the map", median(paint)
    page.locator(_POINTS).press("v")
    page.get_by_role("button", name="Show in grid").wait_for(timeout=_WAIT)
    yield "grid of a lasso around all", _timed(page, page.get_by_role("button", name="Show in grid").click)
    page.goto(
        f"{address}/?page=map&target=min_side+>%3D+0&covered=verdict+%3D+%27gold%27+AND+source+%3D+%27web%27"
    )
    _charted(page)
    started = time.perf_counter()
    page.get_by_role("button", name="Look for gaps").click()
    _drawn(page)
    yield f"{ASKED_FOR}gaps of a quarter of all", time.perf_counter() - started


def _charted(page: Any) -> None:
    """Wait until the script has ended and the map has its points."""
    page.wait_for_function(
        f"() => {{ {_PIERCING} return quiet() && all('{_POINTS}').length; }}", timeout=_WAIT
    )


def _timed(page: Any, act: Callable[[], object], drawn: Callable[[Any], None] | None = None) -> float:
    """Seconds from an act until what it asks for is drawn. The script that draws it begins with a new address."""
    started, before = time.perf_counter(), page.url
    act()
    page.wait_for_function("before => location.href !== before", arg=before, timeout=_WAIT)
    (drawn or _drawn)(page)
    return time.perf_counter() - started


def _drawn(page: Any) -> None:
    """Wait until the script has ended and every thumbnail of the desk can be seen."""
    seen = "pictures.length && pictures.every(image => image.complete)"
    page.wait_for_function(
        f"() => {{ {_PIERCING} const pictures = all('{_TILES} img'); return quiet() && {seen}; }}",
        timeout=_WAIT,
    )


@contextmanager
def _served(project: Path) -> Iterator[tuple[str, int]]:
    """Where the viewer of a project answers, and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "refinery.cli", "--project", str(project), "view", "--port", str(port)]
    server = subprocess.Popen(command, env=dict(os.environ))
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(4 * _STARTS):
            try:
                with urllib.request.urlopen(f"{address}/_stcore/health", timeout=5):
                    break
            except (urllib.error.URLError, OSError):
                with suppress(subprocess.TimeoutExpired):
                    server.wait(0.25)
                    raise SystemExit("The viewer ended; what it said stands above.") from None
        else:
            raise SystemExit("The viewer did not begin to answer.")
        yield address, server.pid
    finally:
        server.terminate()
        server.wait(30)


def _family(process: int) -> Iterator[int]:
    """A process and those that it started, by their ids."""
    yield process
    for child in Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").split():
        yield from _family(int(child))
