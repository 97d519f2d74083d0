"""The Dagster UI in a real browser: the graph, a batch by click, sensors and the schedule."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from dagster_ui import CHROMIUM, PATIENCE, browser, open_graph, up
from playwright.sync_api import Page, expect
from projects import copy_pictures, create_project, stage_sources

from assets.instance import open_instance
from assets.partitions import know_partitions
from refinery.corpus import CorpusReport
from refinery.project import Refinery

pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("dagster ui"),
    pytest.mark.timeout(600),
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no Chromium on this machine"),
]
FILES = ("photographs/coins.png", "photographs/chelsea.png", "near duplicates/coffee smaller.jpg")
ASSETS = (
    *("raw_samples", "inspected", "embeddings", "near_duplicates"),
    *("verdicts", "snapshots", "shards", "sample_index"),
)


@pytest.fixture(scope="module")
def project(corpus: CorpusReport, tmp_path_factory: pytest.TempPathFactory) -> Refinery:
    """A project whose source has nothing yet."""
    home = tmp_path_factory.mktemp("ui")
    (home / "pictures").mkdir()
    return create_project(corpus, home, ())


def switch(page: Page, address: str, sensor: str, on: bool) -> None:
    page.goto(f"{address}/locations/refinery/sensors/{sensor}")
    box = page.get_by_role("checkbox").first
    if box.is_checked() != on:
        box.dispatch_event("click")
    expect(box).to_be_checked(checked=on, timeout=PATIENCE)


def test_a_person_refines_a_batch_in_the_ui(project: Refinery, corpus: CorpusReport, tmp_path: Path) -> None:
    with up(project.path) as address, browser() as page:
        open_graph(page, address)
        for name in ASSETS:
            expect(page.get_by_text(name, exact=True).first).to_be_visible()
        page.screenshot(path=str(tmp_path / "graph.png"))

        # sensors and the schedule are listed, on, and tick
        page.goto(f"{address}/automation")
        for name in ("watch_sources", "watch_ledger", "follow_data", "curation"):
            expect(page.get_by_text(name, exact=True).first).to_be_visible(timeout=PATIENCE)
        page.screenshot(path=str(tmp_path / "automation.png"))
        page.goto(f"{address}/locations/refinery/sensors/watch_ledger?status=all")
        expect(page.get_by_text("0 runs requested").first).to_be_visible(timeout=PATIENCE)
        page.screenshot(path=str(tmp_path / "sensor.png"))
        page.goto(f"{address}/locations/refinery/schedules/curation")
        expect(page.get_by_text("At 05:00 AM").first).to_be_visible(timeout=PATIENCE)

        # a batch that nobody started materializes by click
        switch(page, address, "watch_sources", on=False)
        copy_pictures(corpus, project.path.parent / "pictures", FILES)
        [batch] = stage_sources(project)
        with open_instance(project.path) as (instance, _):
            know_partitions(instance, project)
        page.goto(f"{address}/locations/refinery/jobs/refine_batch")
        page.get_by_role("button", name="Materialize all").click()
        page.get_by_role("button", name="All", exact=True).click()
        page.screenshot(path=str(tmp_path / "launch.png"))
        page.get_by_role("button", name="Launch").last.click()
        expect(page.get_by_text("Launched").first).to_be_visible(timeout=PATIENCE)
        page.goto(f"{address}/assets/embeddings?view=events")
        expect(page.get_by_text("Materialized in run").first).to_be_visible(timeout=PATIENCE)
        expect(page.get_by_text(batch).first).to_be_visible()
        expect(page.get_by_text("samples_per_second").first).to_be_visible()
        page.screenshot(path=str(tmp_path / "batch.png"))

        # what follows, follows by itself
        page.goto(f"{address}/assets/verdicts?view=events")
        expect(page.get_by_text("Materialized in run").first).to_be_visible(timeout=PATIENCE)
        page.goto(f"{address}/assets/sample_index?view=events")
        expect(page.get_by_text("Materialized in run").first).to_be_visible(timeout=PATIENCE)
        page.screenshot(path=str(tmp_path / "index.png"))
    status = project.status()
    assert (status.seen, status.pending) == (3, 0)
    with open_instance(project.path) as (instance, _):
        found = instance.get_latest_materialization_event(dg.AssetKey("verdicts"))
    assert found is not None
    assert found.asset_materialization is not None
    assert found.asset_materialization.metadata["root"].value == status.root
