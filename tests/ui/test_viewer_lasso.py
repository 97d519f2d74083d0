"""The map in a real browser: made by a button, a lasso drawn on it, its samples flagged on the grid; by keyboard, too."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect
from viewer import MARKS, desk, served, settled, shown, stands, text

from refinery.embedding_map import EmbeddingMap
from refinery.ledger import Actor, ActorKind, Event, EventType
from refinery.project import Refinery
from ui.core import Screen, Viewer

HOSTILE = (
    "<script>window.hacked=1</script><img src=x onerror='window.hacked=2'> ![x](http://127.0.0.1:9/x.png)"
)
ANA = Actor(ActorKind.PERSON, "ana")

pytestmark = MARKS


def drawn(page: Page) -> Locator:
    """The map, once the page has drawn it."""
    frame = page.locator(".map .frame")
    expect(frame).to_be_visible()
    settled(page)
    return frame


def circle(page: Page, frame: Locator, radius: float) -> None:
    """Draw a lasso around the middle of the map: a circle of this share of its height."""
    frame.scroll_into_view_if_needed()
    box = frame.bounding_box()
    assert box is not None
    x, y, r = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, radius * box["height"]
    page.keyboard.down("Shift")
    page.mouse.move(x + r, y)
    page.mouse.down()
    for step in range(1, 121):
        angle = 2 * math.pi * step / 120
        page.mouse.move(x + r * math.cos(angle), y + r * math.sin(angle))
    page.mouse.up()
    page.keyboard.up("Shift")


def test_a_lasso_on_the_map_becomes_a_grid_whose_samples_are_flagged(
    page: Page, person: Callable[[], Page], project: Path
) -> None:
    with served(project) as address:
        page.goto(f"{address}/?page=map")
        page.get_by_role("button", name="Make the map").click()
        frame = drawn(page)
        points = EmbeddingMap.of(Refinery.open(project)).points()
        expect(frame).to_have_attribute("data-points", str(len(points)))
        page.get_by_label("You are", exact=True).fill("ana")
        page.get_by_label("You are", exact=True).press("Enter")
        settled(page)

        circle(page, frame, 0.4)
        text(page, "samples in the lasso")
        expect(page).to_have_url(re.compile("lasso="))
        lasso = re.findall(r"lasso=([^&]+)", page.url)[0].replace("%2C", ",").replace("%3B", ";")
        assert 20 < lasso.count(";") < 60
        inside = list(Viewer.open(project).ids_inside(Screen(lasso=lasso)))
        assert 0 < len(inside) < len(points)

        page.get_by_role("button", name="Show in grid").click()
        text(page, "samples match, in order of id")
        grid = shown(page)
        assert grid == inside[:24]
        other = person()
        other.goto(page.url)
        text(other, "samples match, in order of id")
        assert shown(other) == grid

        desk(page).press("Control+a")
        desk(page).press("r")
        stands(page, f"{len(grid)} events in the ledger")
        view = Refinery.open(project).ledger.view()
        assert [i for i in inside if view.flags(i, "review")] == grid

        page.goto(f"{address}/?page=map&colour=flag")
        drawn(page)
        expect(page.locator(".map li").filter(has_text="review")).to_contain_text(str(len(grid)))


@pytest.mark.parametrize("project", ["embedded"], indirect=True)
def test_the_map_is_worked_by_keyboard_and_hostile_words_stay_words(page: Page, project: Path) -> None:
    opened = Refinery.open(project)
    EmbeddingMap.of(opened).make()
    gold = [h.sample_id for h in Viewer(opened).browse(Screen(verdict="gold")).hits]
    opened.ledger.append([Event(EventType.ATTRIBUTE, ANA, i, kind="caption", value=HOSTILE) for i in gold])
    opened.replay()
    opened.project()
    with served(project) as address:
        page.goto(f"{address}/?page=map&verdict=gold")
        frame = drawn(page)
        frame.press("Enter")
        card = page.locator(".map .card")
        expect(card).to_contain_text(HOSTILE)
        expect(card.locator("img")).to_have_count(1)
        assert page.evaluate("window.hacked") is None
        picked = card.get_attribute("data-sample")
        assert picked in gold

        frame.press("v")
        text(page, "samples in the lasso")
        frame.press("Escape")
        expect(page.get_by_text("samples in the lasso")).to_have_count(0)
        expect(page).not_to_have_url(re.compile("lasso="))
        for _ in range(12):
            frame.press("+")
        for _ in range(9):
            frame.press("ArrowLeft")
        frame.press("v")
        text(page, "samples in the lasso")
        corners = re.findall(r"lasso=([^&]+)", page.url)[0].split("%3B")
        xs = [int(corner.split("%2C")[0]) for corner in corners]
        assert max(xs) - min(xs) < 100
        assert max(xs) < 500

        frame.press("o")
        expect(page).to_have_url(re.compile(f"sample={picked}"))
        text(page, "Because")
