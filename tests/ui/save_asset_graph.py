"""Save a picture of the asset graph: `python tests/ui/save_asset_graph.py PROJECT docs/images/asset-graph.png`."""

from __future__ import annotations

import sys
from pathlib import Path

from dagster_ui import browser, open_graph, up
from playwright.sync_api import Page


def main(project: Path, target: Path) -> None:
    """Open the UI on a project that was run, in a window wide enough for every node to show what it says, and save
    the graph without what is around it."""
    with up(project) as address, browser(2600, 1150) as page:
        open_graph(page, address)
        page.get_by_text("Hide navigation").click()
        page.reload()
        page.get_by_text("1 / 1 Passed").nth(4).wait_for()
        left, top = _place(page, "bronze")[0], _place(page, "silver")[1]
        right, bottom = _place(page, "shards")
        clip = {"x": left - 40, "y": top - 40, "width": right - left + 300, "height": bottom - top + 210}
        page.screenshot(path=str(target), clip=clip)


def _place(page: Page, name: str) -> tuple[float, float]:
    """Where the last thing on the page that has this name begins."""
    box = page.get_by_text(name, exact=True).last.bounding_box()
    assert box is not None
    return box["x"], box["y"]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
