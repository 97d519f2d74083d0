"""Health: where every sample went, how far the index is behind, and what is wrong."""

from __future__ import annotations

import streamlit as st

from refinery.cli.output import many, safe
from refinery.doctor import Finding
from refinery.errors import RefineryError
from refinery.links import asset_link
from ui import show
from ui.components import mount
from ui.core import Screen
from ui.core.health import Examination, Flows, Health, IndexLag

_EXAMINED = "health-examined"
_STATES = {"ok": "✓ ok", "attention": "△ attention", "broken": "✕ broken"}
_CHECKED = {
    "raw_samples": "batches",
    "verdicts": "verdicts",
    "sample_index": "index",
    "snapshots": "snapshots",
}


def page() -> None:
    """The page: accounting, index, findings."""
    viewer = show.viewer()
    health = Health(viewer.project, read_only=viewer.read_only)
    st.header("Health")
    try:
        _accounting(health.flows())
        _index(health.index())
    except RefineryError as error:
        show.notice("This cannot be read", error)
    _findings(health)
    _dagster()


def _accounting(found: Flows) -> None:
    st.subheader("Where every sample went")
    if found.wrong:
        show.notice("The numbers do not add up", "what disagrees stands below")
        for sentence in found.wrong:
            show.text(sentence)
    else:
        st.badge("✓ It adds up: every stage is the sum of the next", color="green")
    data = {
        "label": "What was listed, and what came of it; the same numbers stand in the table below.",
        "stages": [
            {
                "column": s.column,
                "label": safe(s.label),
                "count": s.count,
                "verdict": s.verdict,
                "leads": s.grid is not None,
            }
            for s in found.stages
        ],
        "flows": [{"start": f.start, "end": f.end, "count": f.count} for f in found.flows],
    }
    st.caption("Choose a stage to see its samples.")
    mount("sankey", "sankey", data, on_go_change=lambda: _gone(found))
    with st.expander("As numbers"):
        show.table(
            [
                {
                    "from": found.stages[f.start].label,
                    "to": found.stages[f.end].label,
                    "how many": f"{f.count:,}",
                }
                for f in found.flows
            ],
            "Nothing was listed yet.",
        )


def _gone(found: Flows) -> None:
    """Show the samples of the stage that was chosen."""
    place = st.session_state["sankey"].go
    if isinstance(place, int) and 0 <= place < len(found.stages):
        grid = found.stages[place].grid
        if grid is not None:
            show.go(Screen.from_params(grid))


def _index(lag: IndexLag | None) -> None:
    st.subheader("The index")
    if lag is None:
        st.caption("There is none yet: `refinery run` makes it.")
        return
    with st.container(horizontal=True, gap="large"):
        st.metric("Documents, of samples", f"{lag.documents:,} of {lag.samples:,}", width=230)
        st.metric("Ledger offset, of the newest", f"{lag.offset:,} of {lag.newest:,}", width=230)
        st.metric("Behind by", many(lag.events, "event"), width=180)
        st.metric("For", _ago(lag.seconds) if lag.events else "–", width=180)
    if lag.documents != lag.samples:
        st.badge(f"△ {abs(lag.samples - lag.documents):,} documents too few or too many", color="orange")
    if lag.events:
        st.badge("△ It does not know the newest events", color="orange")
    if not lag.verdicts_current:
        st.badge("△ Its verdicts are not those of the newest replay", color="orange")
    if lag.documents == lag.samples and not lag.events and lag.verdicts_current:
        st.badge("✓ It is where truth is", color="green")
    else:
        st.caption("`refinery run` brings it up to date.")


def _ago(seconds: float) -> str:
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            return many(round(seconds / size), name)
    return many(round(seconds), "second")


def _findings(health: Health) -> None:
    st.subheader("What is wrong")
    st.caption(
        "Looks at everything, as `refinery doctor` does: the ledger's chain, all verdicts, all documents of the index."
    )
    if st.button("Look at everything"):
        with st.status("Looking…", expanded=True) as status:
            st.session_state[_EXAMINED] = health.examine(_told)
            status.update(label="Looked at everything", state="complete", expanded=False)
    found: Examination | None = st.session_state.get(_EXAMINED)
    if found is None:
        return
    st.caption(f"Looked at {found.at[:19].replace('T', ' ')} UTC")
    show.table(
        [
            {"state": _STATES[f.state], "check": f.check, "found": f.found, "what to do": f.fix}
            for f in sorted(found.findings, key=lambda f: list(_STATES).index(f.state), reverse=True)
        ],
        "",
    )


def _told(finding: Finding) -> None:
    show.text(f"{_STATES[finding.state]} {finding.check}: {finding.found}")


def _dagster() -> None:
    links = {label: link for asset, label in _CHECKED.items() if (link := asset_link(asset))}
    if links:
        st.subheader("Runs and checks in Dagster")
        with st.container(horizontal=True):
            for label, link in links.items():
                st.link_button(label.capitalize(), link)
