"""Save a picture of the asset graph: `python tests/ui/save_asset_graph.py PROJECT docs/images/asset-graph.png`."""

from __future__ import annotations

import sys
from pathlib import Path

from dagster_ui import browser, open_graph, up

# The canvas without navigation and tools, in a window that is wide enough for every node to show what it says.
_HIDE = "document.querySelectorAll('[aria-label=\"zoom\"]').forEach(e => e.style.visibility = 'hidden')"


def main(project: Path, target: Path) -> None:
    """Open the UI on a project that was run and save what the graph shows."""
    with up(project) as address, browser(2600, 1150) as page:
        open_graph(page, address)
        page.get_by_text("Hide navigation").click()
        page.get_by_role("button", name="Materialize all").wait_for()
        page.reload()
        page.get_by_text("raw_samples", exact=True).first.wait_for()
        page.get_by_text("computed").or_(page.get_by_text("Materialized").first).first.wait_for()
        page.evaluate(_HIDE)
        page.screenshot(path=str(target))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
