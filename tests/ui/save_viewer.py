"""Save a picture of every page of the viewer: `python tests/ui/save_viewer.py PROJECT docs/images`.

The project is one that was run; it is copied, and people flag, save a view and freeze in the copy. With `--looks`, each page
is saved light and dark, at the size of a laptop and wide, to be looked at.
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from dagster_ui import CHROMIUM, FLAGS
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright
from viewer import desk, patient, served, settled

from refinery.ledger import Actor, ActorKind
from ui.core import Screen, Viewer
from ui.core.map import MapView

LAPTOP, WIDE = (1280, 800), (1920, 1080)
ANA = Actor(ActorKind.PERSON, "ana")
MODEL = Actor(ActorKind.MODEL, "blur-critic")


def pages(viewer: Viewer) -> dict[str, tuple[str, Callable[[Page], object]]]:
    """What there is to see: a name, the link's query, and what is done there first."""
    near = viewer.browse(Screen(where="near_duplicate")).hits[0].sample_id
    masked = viewer.browse(Screen(where="has_payload('mask')")).hits
    sample = masked[0].sample_id if masked else near
    return {
        "browse": ("where=min_side >= 200 AND NOT has_flag('blocked')&sort=-sharpness", _selected),
        "filter": ("where=aspect BETWEEN 0.5 AND 2&verdict=gold", _building),
        "sample": (f"sample={sample}", lambda page: page.locator(".picture .mask").first.wait_for()),
        "triage": ("page=triage", lambda page: desk(page).locator(".group").first.wait_for()),
        "map": ("page=map", lambda page: page.locator("canvas").first.wait_for()),
        "views": ("page=views", lambda _: None),
        "policy": ("page=policy", _tried),
        "snapshots": ("page=snapshots", lambda page: desk(page).locator(".tile").first.wait_for()),
        "health": ("page=health", lambda page: page.locator("svg text").first.wait_for()),
        "fields": ("page=fields", lambda _: None),
    }


def main() -> None:
    """Make the copy, look at every page, save its picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--looks", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        viewer = lived_in(options.project, Path(home) / options.project.name)
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS])
        with served(viewer.project.path) as address:
            for (width, height), scheme in _looks(options.looks):
                context = chromium.new_context(
                    viewport={"width": width, "height": height}, color_scheme=scheme
                )
                for name, (query, first) in pages(viewer).items():
                    page = patient(context.new_page())
                    page.goto(f"{address}/?{query}")
                    settled(page)
                    first(page)
                    settled(page)
                    page.wait_for_timeout(700)  # what slides and fades comes to rest
                    look = f"-{scheme}-{width}" if options.looks else ""
                    _save(page.screenshot(), options.folder / f"viewer-{name}{look}.png")
                    page.close()
                context.close()
        chromium.close()


def lived_in(project: Path, copy: Path) -> Viewer:
    """A copy of a project in which people have worked: flags, a view, two snapshots, a map."""
    viewer = Viewer.open(shutil.copytree(project, copy))
    opened = viewer.project
    opened.replay()
    opened.project()
    opened.freeze("gallery", actor=ANA)
    gold = [hit.sample_id for hit in viewer.browse(Screen(verdict="gold", sort="sharpness")).hits]
    opened.flag(gold[:2], "reject", ANA, reason="not sharp where it matters")
    opened.flag(gold[2:5], "review", MODEL, reason="the horizon is not level", confidence=0.55)
    viewer.save_view(Screen(where="sharpness >= 50", sort="-sharpness"), "sharp", "ana")
    viewer.save_view(Screen(where="aspect < 1", verdict="gold"), "upright", "ben")
    viewer.acts.replay()
    opened.freeze("gallery", actor=ANA)
    MapView(viewer).make()
    return viewer


def _save(screen: bytes, target: Path) -> None:
    """In 256 colours: a third of the bytes."""
    Image.open(io.BytesIO(screen)).convert("RGB").quantize(256).save(target, optimize=True)


def _looks(every: bool) -> list[tuple[tuple[int, int], str]]:
    if not every:
        return [(LAPTOP, "light")]
    return [(size, scheme) for size in (LAPTOP, WIDE) for scheme in ("light", "dark")]


def _selected(page: Page) -> None:
    desk(page).locator(".tile").first.wait_for()
    for key in ("ArrowRight", "Shift+ArrowRight", "Shift+ArrowRight"):
        desk(page).press(key)


def _building(page: Page) -> None:
    page.get_by_text("Add a clause").click()
    field = page.get_by_role("combobox", name="Field")
    field.fill("sharpness")
    field.press("Enter")
    page.locator(".stVegaLiteChart").first.wait_for()


def _tried(page: Page) -> None:
    editor = page.get_by_role("textbox", name="policy.yaml")
    expect(editor).to_have_value(re.compile("min_side < 256"))
    editor.fill(editor.input_value().replace("min_side < 256", "min_side < 400"))
    editor.press("Control+Enter")
    settled(page)
    page.get_by_role("button", name="Try").click()
    adopt = page.get_by_role("button", name="Adopt")
    adopt.wait_for()
    settled(page)
    page.mouse.move(700, 300)
    page.mouse.wheel(0, 560)


if __name__ == "__main__":
    main()
