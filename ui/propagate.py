"""Propagation: let a flag go on to related samples, after looking at which."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from refinery.cli.output import many, safe
from refinery.errors import RefineryError
from refinery.propagation import Proposal, Reach, Relation
from ui import show
from ui.browse import known
from ui.desk import Group, desk

_KEY = "propagate-proposal"
_WORDS = {"cluster": "near-duplicates", "neighbours": "nearest neighbours", "source": "all of its source"}
_SHOWN = 48


def is_open(flags: Mapping[str, str]) -> bool:
    """Whether a proposal for one of these flags, in the name of who acts by now, is being looked at. Another is let go of."""
    proposal: Proposal | None = st.session_state.get(_KEY)
    if proposal is None:
        return False
    names = {child.actor.name for child in proposal.children}
    if proposal.parent.id in flags and names <= {show.actor_name().strip()}:
        return True
    del st.session_state[_KEY]
    return False


def panel(flags: Mapping[str, str]) -> None:
    """Choose a flag and how far it goes, look at who would be flagged and move, and let it go."""
    st.selectbox("Flag", list(flags), format_func=lambda i: safe(flags.get(i, "")), key="propagate-flag")
    left, middle, right = st.columns(3)
    left.selectbox("To", list(_WORDS), format_func=lambda to: _WORDS[to], key="propagate-to")
    middle.number_input("At most (neighbours)", 1, 10_000, 20, key="propagate-k")
    right.number_input("Least cosine (neighbours)", -1.0, 1.0, 0.9, 0.01, key="propagate-cosine")
    st.button("Preview", on_click=_preview)
    if is_open(flags):
        _shown(st.session_state[_KEY])


def _preview() -> None:
    viewer = show.viewer()
    state = st.session_state
    try:
        reach = Reach(Relation(state["propagate-to"]), state["propagate-k"], state["propagate-cosine"])
        state[_KEY] = viewer.propose(state["propagate-flag"], reach, show.actor_name())
    except RefineryError as error:
        state.pop(_KEY, None)
        show.refuse(error)


def _shown(proposal: Proposal) -> None:
    ids = [child.sample_id or "" for child in proposal.children]
    moved = sum(proposal.moved.flips.values())
    show.text(
        f"{many(proposal.related, 'related sample')}: {len(ids):,} would be flagged, {proposal.flagged:,} are already; "
        f"{many(moved, 'verdict')} would move."
    )
    if not ids:
        return
    st.button(f"Flag these {len(ids):,}", type="primary", on_click=show.act, args=(_apply,))
    documents = show.viewer().documents(ids[:_SHOWN])
    desk([Group([known(i, document) for i, document in documents.items()])], key="desk-proposal", focus=False)


def _apply() -> str:
    events = show.viewer().apply(st.session_state[_KEY])
    st.session_state.pop(_KEY, None)
    return f"{many(len(events), 'sample')} flagged; undoing the first flag undoes these too."
