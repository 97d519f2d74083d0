"""The viewer's entry: `refinery view`, or `streamlit run ui/app.py -- --project DIR`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import streamlit as st

from refinery.errors import RefineryError
from ui import browse, fields, health, policy, sample, show, sign_in, snapshots, triage, views
from ui import map as map_page
from ui.core import Viewer, default_name

PROJECT_VARIABLE = "REFINERY_PROJECT"
_WITHOUT_INDEX = {
    "views": views.page,
    "policy": policy.page,
    "snapshots": snapshots.page,
    "health": health.page,
    "fields": fields.page,
}
_WITH_INDEX = {"triage": triage.page, "map": map_page.page}
_PAGES = {
    "": "Browse",
    "triage": "Triage",
    "map": "Map",
    "views": "Views",
    "policy": "Policy",
    "snapshots": "Snapshots",
    "health": "Health",
    "fields": "Fields",
}
_STYLE = """<style>
.stMainBlockContainer {padding: 1.75rem 3rem 3rem}
.stMainBlockContainer h2 {font-size: 1.5rem; padding: 0.25rem 0}
.stMainBlockContainer h3 {font-size: 1.15rem; padding: 0.25rem 0}
[data-testid="stSidebarHeader"] {height: 1rem; padding-bottom: 0}
[data-testid="stImage"] img {max-height: 32rem; object-fit: contain}
.st-key-policy-text textarea {font-family: var(--st-code-font, monospace); font-size: 0.85rem}
</style>"""


def main() -> None:
    """One run of the page: the URL says which."""
    st.set_page_config(page_title="refinery", page_icon="◆", layout="wide")
    st.html(_STYLE)
    options = _options()
    try:
        if not sign_in.passed(options.password_file, options.oidc):
            return
        _open(options.project, options.read_only)
    except RefineryError as error:
        show.notice("No project is open", error)
        st.caption(
            "Start the viewer with `refinery --project DIR view`, or set REFINERY_PROJECT to a project's folder."
        )
        return
    _sidebar(options)
    try:
        _shown()
    except RefineryError as error:  # of whatever a page does not answer itself, such as a store that is down
        show.notice("This cannot be shown now", error)
        st.button("Try again")
    show.finished()


def _shown() -> None:
    """The page that the URL names, or what there is instead."""
    remarks = st.container()  # always there, so that what stands below keeps its place, and its open tab
    with remarks:
        show.said()
    status = show.viewer().status()
    stage = show.viewer().stage(status)
    if stage == "nothing_ingested":
        st.subheader("Nothing has been ingested yet")
        st.caption("`refinery ingest FOLDER --source NAME`, then `refinery run`, and samples appear here.")
        return
    if status.stale:
        with remarks:
            _stale(status.staged)
    page = None if show.screen().sample else _WITHOUT_INDEX.get(show.screen().page)
    if page is not None:
        page()
    elif stage == "no_index":
        st.subheader("There is no index yet")
        st.caption(f"{status.seen:,} samples have been ingested; `refinery run` makes them searchable.")
    elif show.screen().sample:
        sample.page()
    else:
        _WITH_INDEX.get(show.screen().page, browse.page)()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument("--project", type=Path, default=Path(os.environ.get(PROJECT_VARIABLE) or "."))
    parser.add_argument("--read-only", action="store_true")
    parser.add_argument("--password-file", type=Path)
    parser.add_argument("--oidc", action="store_true")
    return parser.parse_known_args()[0]


def _open(folder: Path, read_only: bool) -> None:
    """One project for each browser session: a session's runs follow each other, so nothing is shared between threads."""
    known: Viewer | None = st.session_state.get("viewer")
    here = folder.absolute()
    if known is not None and (known.project.path, known.read_only) == (here, read_only):
        st.session_state["viewer"] = known.current()
    else:
        st.session_state["viewer"] = Viewer.open(here, read_only=read_only)


def _sidebar(options: argparse.Namespace) -> None:
    with st.sidebar:
        show.text(show.viewer().project.path.name)
        page = show.screen().page
        st.radio(
            "Page",
            list(_PAGES),
            format_func=lambda page: _PAGES[page],
            label_visibility="collapsed",
            **show.bound("page", page if page in _PAGES else ""),
        )
        st.session_state.setdefault("name", default_name())
        if show.viewer().read_only:
            st.badge("read only", color="gray")
        sign_in.identity(options.password_file, read_only=show.viewer().read_only)


def _stale(staged: int) -> None:
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.badge("△ Verdicts are behind", color="orange")
        st.text(
            "They follow at the next `refinery run`"
            + (", which also lands what is staged." if staged else ".")
        )
        if not show.viewer().read_only:
            st.button("Replay now", on_click=show.act, args=(_replay,))


def _replay() -> str:
    report = show.viewer().acts.replay()
    return f"Replayed to ledger offset {report.ledger_offset:,}: {report.changed:,} verdicts changed."


main()
