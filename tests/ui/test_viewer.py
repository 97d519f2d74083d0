"""The viewer in a real browser: find, reject, replay, undo; links, going back, two people, hostile words."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect
from viewer import MARKS, because, choose, desk, served, settled, shown, stands, text

from refinery.ledger import Actor, ActorKind, Event, EventType
from refinery.project import Refinery
from ui.core import Screen, Viewer

HOSTILE = "<script>window.hacked=1</script><img src=x onerror='window.hacked=2'> ![x](http://127.0.0.1:9/x.png) \x1b[31m"
ANA = Actor(ActorKind.PERSON, "ana")

pytestmark = MARKS


def test_a_curator_finds_rejects_replays_sees_it_leave_gold_and_undoes(page: Page, project: Path) -> None:
    opened = Refinery.open(project)
    sample = Viewer(opened).browse(Screen(verdict="gold")).hits[0].sample_id
    with served(project) as address:
        page.goto(address)
        text(page, "samples match, in order of id")
        page.get_by_label("You are", exact=True).fill("ana")
        page.get_by_label("Filter", exact=True).fill("min_side >= 256 AND NOT has_flag('reject')")
        page.get_by_label("Filter", exact=True).press("Enter")
        choose(page, "Verdict", "gold")
        expect(page).to_have_url(re.compile(r"where=min_side.*verdict=gold"))
        expect(desk(page).locator(f"[data-sample='{sample}']")).to_be_visible()
        before = shown(page)
        assert before[0] == sample

        desk(page).press("x")
        because(page, HOSTILE)
        stands(page, "1 event in the ledger")
        assert shown(page) == before[1:]  # the filter leaves out what is rejected
        page.get_by_role("button", name="Replay now").click()
        text(page, "verdicts changed")
        assert Viewer.open(project).browse(Screen(reason="rejected")).selected == 1
        (flag,) = Refinery.open(project).ledger.view().flags(sample)
        assert (flag.actor, flag.kind, flag.reason) == (ANA, "reject", HOSTILE.strip())

        page.goto(f"{address}/?sample={sample[:12]}")
        text(page, "a person beats models and rules")
        expect(page.get_by_text("■ held").first).to_be_visible()
        desk(page).press("u")
        stands(page, "1 event in the ledger")
        page.get_by_role("button", name="Replay now").click()
        text(page, "no rule of the policy holds it")
        expect(page.get_by_text("● gold").first).to_be_visible()
    assert Viewer.open(project).browse(Screen(verdict="gold")).hits[0].sample_id == sample


def test_a_link_shows_the_same_in_another_browser_and_going_back_goes_back(
    page: Page, person: Callable[[], Page], project: Path
) -> None:
    link = "where=width > 100 AND NOT near_duplicate&sort=-sharpness&density=dense"
    with served(project) as address:
        page.goto(f"{address}/?{link}")
        text(page, "samples match, sorted")
        there = shown(page)
        other = person()
        other.goto(page.url)
        text(other, "samples match, sorted")
        assert shown(other) == there
        page.get_by_label("Save as view", exact=True).fill("sharp")
        page.get_by_label("Save as view", exact=True).press("Enter")
        page.get_by_role("button", name="Save view").click()
        text(page, "Saved as sharp@1.")
        other.goto(f"{address}/?view=sharp&density=dense")
        expect(other.get_by_role("button", name="Leave the view")).to_be_visible()
        assert shown(other) == there
        desk(page).press("Enter")
        expect(page).to_have_url(re.compile(f"sample={there[0]}"))
        text(page, "Because")
        page.go_back()
        text(page, "samples match, sorted")
        assert shown(page) == there


def test_two_people_flag_at_once_and_each_sees_the_others_flag(
    page: Page, person: Callable[[], Page], project: Path
) -> None:
    first, second = [h.sample_id for h in Viewer.open(project).browse(Screen(verdict="gold")).hits[:2]]
    other = person()
    with served(project) as address:
        for who, where in (("ana", page), ("ben", other)):
            where.goto(f"{address}/?verdict=gold")
            settled(where)
            where.get_by_label("You are", exact=True).fill(who)  # what they do next carries it
        desk(page).press("r")
        desk(other).press("ArrowRight")
        desk(other).press("r")
        stands(page, "1 event")
        stands(other, "1 event")
        for where in (page, other):
            where.reload()
            for sample in (first, second):
                expect(desk(where).locator(f"[data-sample='{sample}']")).to_contain_text("⚑ review")
        view = Refinery.open(project).ledger.view()
        assert [str(e.actor) for i in (first, second) for e in view.flags(i)] == ["person ana", "person ben"]
        desk(other).press("Shift+R")  # ben takes off what ana said
        stands(other, "1 event")
        expect(desk(other).locator(f"[data-sample='{first}']")).not_to_contain_text("⚑ review")
    view = Refinery.open(project).ledger.view()
    assert [str(e.actor) for i in (first, second) for e in view.flags(i)] == ["person ben"]


def test_hostile_words_stay_words_and_no_other_host_is_reached(page: Page, refined: Path) -> None:
    project = Refinery.open(refined)
    sample = Viewer(project).browse(Screen(verdict="gold")).hits[0].sample_id
    project.tag([sample], HOSTILE, ANA)
    project.flag([sample], "review", ANA, reason=HOSTILE)
    project.ledger.append([Event(EventType.ATTRIBUTE, ANA, sample, kind="caption", value=HOSTILE)])
    project.replay()
    project.project()
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    with served(refined) as address:
        page.goto(f"{address}/?verdict=gold")
        text(page, "<script>window.hacked=1</script>")
        page.goto(f"{address}/?sample={sample}")
        page.get_by_role("tab", name="Attributes").click()
        text(page, "caption: <script>window.hacked=1</script>")
        page.get_by_role("tab", name="History").click()
        text(page, "flag review by person ana: <script>window.hacked=1</script>")
    assert page.evaluate("window.hacked") is None
    assert all(url.startswith((address, "data:", "blob:")) for url in requests), requests
