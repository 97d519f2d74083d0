"""The viewer's server: Streamlit's, with all modules imported before it answers, and the first screen read ahead.

`refinery view` runs it as `python -m ui.serve run …`, with the arguments of `streamlit`.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from streamlit.web.cli import main as streamlit

from refinery.errors import RefineryError
from ui import browse, health, map, policy, propagate, sample, snapshots, triage, views
from ui.core import FACETS, Screen, Viewer

PAGES = (browse, health, map, policy, propagate, sample, snapshots, triage, views)


def main(arguments: Sequence[str]) -> None:
    """Serve until the process is told to stop."""
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument("--project", type=Path)
    project = parser.parse_known_args(arguments)[0].project
    if project is not None:
        threading.Thread(target=read_ahead, args=(project,), name="read-ahead", daemon=True).start()
    streamlit(list(arguments), prog_name="streamlit")


def read_ahead(project: Path) -> None:
    """Read what the first screen shows, so that the first person need not wait for the disk. What is wrong with the project,
    the page says."""
    with suppress(RefineryError, OSError):
        viewer = Viewer.open(project, read_only=True)
        if viewer.stage(viewer.status()) == "ready":
            for facet in FACETS:
                viewer.values(facet)
            viewer.thumbnails([hit.sample_id for hit in viewer.browse(Screen()).hits])


if __name__ == "__main__":
    main(sys.argv[1:])
