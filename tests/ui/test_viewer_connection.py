"""A lost connection loses no flag and doubles none."""

from __future__ import annotations

import time
from pathlib import Path

from line import Line
from playwright.sync_api import Page, expect
from viewer import MARKS, because, desk, served, shown, stands

from refinery.ledger import EventType
from refinery.project import Refinery

pytestmark = MARKS


def flags(project: Path) -> list[tuple[str, str | None]]:
    """Every flag in the ledger: of what sample, and of what kind."""
    view = Refinery.open(project).ledger.view()
    return [(str(e.sample_id), e.kind) for e in view.where(types={EventType.FLAG})]


def test_a_flag_whose_answer_is_lost_stands_once(page: Page, project: Path) -> None:
    with served(project) as address, Line(address) as line:
        page.goto(f"{line.url}/?verdict=gold")
        sample = shown(page)[0]
        line.deaf = True
        desk(page).press("x")
        because(page, "a logo")
        until(lambda: flags(project) == [(sample, "reject")])  # it stands, and the browser has not heard so
        expect(desk(page).locator(".note")).to_contain_text("not in the ledger yet")
        line.cut()
        line.mend()
        stands(page, "1 event in the ledger")
    assert flags(project) == [(sample, "reject")]


def test_a_flag_given_while_the_line_is_cut_stands_once_when_it_is_mended(page: Page, project: Path) -> None:
    with served(project) as address, Line(address) as line:
        page.goto(f"{line.url}/?verdict=gold")
        first, second = shown(page)[:2]
        line.cut()
        desk(page).press("r")
        desk(page).press("r")
        expect(desk(page).locator(".note")).to_contain_text("2 not in the ledger yet")
        assert flags(project) == []
        line.mend()
        stands(page, "event in the ledger")
        until(lambda: len(flags(project)) == 2)
        expect(desk(page).locator(".said.waits")).to_have_count(0)
    assert flags(project) == [(first, "review"), (second, "review")]


def test_a_flag_outlives_the_server_and_a_reload_of_the_page(page: Page, project: Path) -> None:
    with served(project) as address, Line(address) as line:
        page.goto(f"{line.url}/?verdict=gold")
        sample = shown(page)[0]
        line.cut()
        desk(page).press("r")
        expect(desk(page).locator(".note")).to_contain_text("1 not in the ledger yet")
        line.mend()
        page.reload()  # a new session on the server, which knows nothing of the old one
        stands(page, "1 event in the ledger")
    assert flags(project) == [(sample, "review")]


def until(true: object, seconds: float = 60) -> None:
    """Wait until something is true."""
    assert callable(true)
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)
