"""Fields: what filters speak of, how many samples have it, and with what values."""

from __future__ import annotations

import streamlit as st

from ui import show


def page() -> None:
    """The catalogue of fields."""
    st.header("Fields")
    found = show.viewer().catalogue()
    st.markdown(f"**{len(found.fields):,}** fields over **{found.samples:,}** samples", width="content")
    show.table(
        [
            {
                "field": use.field.name,
                "type": use.field.type.value,
                "kind": "built in" if use.field.builtin else "attribute",
                "filled": "–" if use.fill_rate is None else f"{use.fill_rate:.0%}",
                "samples": "–" if use.filled is None else f"{use.filled:,}",
                "meaning": use.field.description,
                "examples": ", ".join(show.cell(value) for value in use.examples),
            }
            for use in found.fields
        ],
        "",
    )
    st.caption(
        "`refinery fields add NAME --type TYPE` registers another attribute; no index is made anew for it."
    )
