"""Triage in a real browser, with the keyboard alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from conftest import on_backend
from PIL import Image
from playwright.sync_api import Page, expect
from viewer import MARKS, desk, served, settled, stands, text

from assets.run import run
from refinery.corpus import CorpusReport
from refinery.ingest import ingest
from refinery.ledger import Actor, ActorKind
from refinery.near_duplicates import read_clusters
from refinery.project import Refinery
from refinery.sources import open_source
from ui.core import Screen, Viewer
from ui.core.triage import Triage

pytestmark = MARKS
SCENES = 24  # of which some look alike
SIDE = 288
POLICY = """
name: pairs
requires: [inspect, embed, near_duplicates]
rules:
  - {name: near_duplicate, hold: near_duplicate}
"""


@pytest.fixture(scope="session")  # before the browser, whose loop Dagster cannot run in
def paired(corpus: CorpusReport, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of scenes, each twice: as it is, and compressed hard."""
    home = tmp_path_factory.mktemp("paired")
    pictures = home / "pictures"
    pictures.mkdir()
    for number, scene in enumerate(islice(_scenes(corpus.folder / "photographs"), SCENES)):
        scene.save(pictures / f"{number}.png")
        scene.save(pictures / f"{number}.jpg", quality=60)
    project = Refinery.create(home / "project", "embedder: {kind: efficientnet_lite0}\n")
    (project.path / "policy.yaml").write_text(POLICY, encoding="utf-8")
    source = open_source(pictures, name="pairs", kind="folder")
    most = project.settings.inspect.max_bytes
    ingest(project.store, project.fields, source, batch_size=50, max_bytes=most)
    run(project)
    return project.path


def _scenes(photographs: Path) -> Iterator[Image.Image]:
    """Parts of photographs, each upright and upside down: nothing there looks like anything else."""
    for name in sorted(p.name for p in photographs.iterdir() if p.suffix in (".png", ".jpg")):
        with Image.open(photographs / name) as opened:
            picture = opened.convert("RGB")
        for top in range(0, picture.height - SIDE + 1, SIDE):
            for left in range(0, picture.width - SIDE + 1, SIDE):
                part = picture.crop((left, top, left + SIDE, top + SIDE))
                if len(set(part.resize((8, 8)).convert("L").tobytes())) > 40:
                    yield part
                    yield part.transpose(Image.Transpose.ROTATE_180)


@pytest.fixture(params=["embedded", "real"])
def clusters(request: pytest.FixtureRequest, paired: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of that project, embedded and on servers."""
    import shutil

    project = Refinery.open(shutil.copytree(paired, tmp_path / "project"))
    project.replay()
    project.project()
    yield from on_backend(request, project.path, tmp_path)


def test_twenty_clusters_are_triaged_with_the_keyboard_alone(page: Page, clusters: Path) -> None:
    opened = Refinery.open(clusters)
    table = read_clusters(opened.store, opened.steps.near_duplicates)
    sizes = dict(sorted(Counter(table["cluster"].to_pylist()).items()))
    assert len(sizes) >= 20
    third = list(sizes.values())[2]
    before = opened.ledger.offset
    with served(clusters) as address:
        page.goto(f"{address}/?page=triage")
        expect(desk(page)).to_be_focused()
        for key in ("a", "ArrowRight k", "d"):
            first = desk(page).locator(".group.current .tile").first.get_attribute("data-sample")
            for pressed in key.split():
                page.keyboard.press(pressed)
            expect(desk(page).locator(f".tile[data-sample='{first}']")).to_have_count(0)
        page.keyboard.press("u")
        expect(desk(page).locator(f".tile[data-sample='{first}']")).to_have_count(1)
        expect(desk(page).locator(".group.current .tile").first).to_have_attribute("data-sample", str(first))
        page.keyboard.press("d")
        expect(desk(page).locator(f".tile[data-sample='{first}']")).to_have_count(0)
        while page.get_by_text("Nothing waits here").count() == 0:
            page.keyboard.press("a")  # as fast as they can, while the page is drawn anew under their fingers
        settled(page)
        page.get_by_role("button", name="Replay now").click()
        text(page, "verdicts changed")
    project = Refinery.open(clusters)
    assert project.ledger.offset == before + len(table) + 2 * third  # one act was undone, and done again
    viewer = Viewer(project)
    assert (
        viewer.browse(Screen(where="cluster IS NOT NULL", verdict="gold")).selected == len(sizes) + third - 1
    )  # all of one cluster
    assert viewer.browse(Screen(where="has_flag('reject')")).selected == len(table) - len(sizes) - third + 1
    assert not Triage(viewer).page(Screen(queue="duplicates")).groups


def test_single_samples_are_triaged_one_key_each_and_leave_the_queue(page: Page, refined: Path) -> None:
    project = Refinery.open(refined)
    held = Viewer(project).browse(Screen(reason="blurry")).hits
    model = Actor(ActorKind.MODEL, "critic")
    project.flag([h.sample_id for h in held[:3]], "review", model, confidence=0.55)
    project.project()
    with served(refined) as address:
        page.goto(f"{address}/?page=triage&queue=uncertain")
        text(page, "review by model critic, confidence 0.55")
        expect(desk(page).locator(".tile")).to_have_count(3)
        page.keyboard.press("k")
        stands(page, "1 event in the ledger")
        expect(desk(page).locator(".tile")).to_have_count(2)
        page.keyboard.press("x")
        page.keyboard.type("out of focus")
        page.keyboard.press("Enter")
        expect(desk(page).locator(".tile")).to_have_count(1)
    kinds = sorted(
        str(e.kind) for h in held[:3] for e in Refinery.open(refined).ledger.view().flags(h.sample_id)
    )
    assert kinds == ["keep", "reject", "review", "review", "review"]
