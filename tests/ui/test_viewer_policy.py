"""A policy in a real browser, on both backends: tried, adopted, and compared with the snapshot before."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Page, expect
from viewer import MARKS, served, settled, shown, text

from refinery.ledger import Actor, ActorKind, EventType
from refinery.project import Refinery

ANA = Actor(ActorKind.PERSON, "ana")
HOSTILE = "<script>window.hacked=1</script><img src=x onerror='window.hacked=2'>"

pytestmark = MARKS


def test_a_curator_tries_a_policy_adopts_it_and_sees_what_differs_and_why(page: Page, project: Path) -> None:
    opened = Refinery.open(project)
    opened.freeze("gold", actor=ANA)
    opened.project()
    before = opened.status()
    with served(project) as address:
        page.goto(f"{address}/?page=policy")
        text(page, "the verdicts were made under it")
        page.get_by_label("You are", exact=True).fill("ana")
        editor = page.get_by_role("textbox", name="policy.yaml")
        expect(editor).to_have_value(re.compile("min_side < 256"))
        draft = editor.input_value()

        editor.fill(f"{draft}# {HOSTILE}\nrules: {HOSTILE}\n")
        page.get_by_role("button", name="Try", exact=True).click()
        text(page, "This is no policy")
        assert page.evaluate("window.hacked") is None

        editor.fill(draft.replace("min_side < 256", "min_side < 400"))
        page.get_by_role("button", name="Try", exact=True).click()
        text(page, "What it would change")
        gold = page.get_by_test_id("stMetric").filter(has_text="● gold").get_by_test_id("stMetricValue")
        then = int(gold.inner_text())
        flips = shown(page)
        assert len(flips) == before.gold - then > 0
        assert opened.status() == before

        page.get_by_role("button", name="Adopt").click()
        text(page, "is in force")
        settled(page)
        after = opened.status()
        assert (after.gold, after.stale) == (then, False)
        [*_, adopted] = opened.ledger.view().records(EventType.POLICY)
        assert adopted.actor == ANA

        page.get_by_role("button", name="Freeze it again and compare").click()
        expect(page).to_have_url(re.compile(r"page=snapshots&ref=gold%402&against=gold%401"))
        text(page, f"gold@1 → gold@2: 0 added, {len(flips)} removed, 0 changed")
        assert set(shown(page)) == set(flips)
    difference = opened.diff("gold@1", "gold@2")
    assert set(difference.ids("removed")) == set(flips)


def test_health_draws_flows_that_lead_to_their_samples(page: Page, project: Path) -> None:
    opened = Refinery.open(project)
    with served(project) as address:
        page.goto(f"{address}/?page=health")
        text(page, "It adds up")
        labels = page.locator(".sankey text")
        expect(labels.first).to_be_visible()
        status = opened.status()
        words = labels.all_text_contents()
        assert any(word.startswith(f"● gold {status.gold}") for word in words), words
        assert any(word.startswith(f"■ held {sum(status.held.values())}") for word in words), words
        assert page.locator(".sankey path").count() > len(status.held)
        page.get_by_role("button", name="Look at everything").click()
        text(page, "Looked at 20")
        text(page, "It is where truth is")
        page.get_by_role("link", name=re.compile(f"Show ■ held {sum(status.held.values())}")).click()
        expect(page).to_have_url(re.compile(r"\?verdict=held$"))
        text(page, f"{sum(status.held.values())} samples match")
