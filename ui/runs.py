"""Links to the assets of Dagster that made a thing, when it is known where Dagster answers."""

from __future__ import annotations

from collections.abc import Iterable

import streamlit as st

from refinery.links import asset_link

_MOST = 8


def of_batches(asset: str, words: str, batches: Iterable[str]) -> None:
    """A button for each batch that leads to its runs of an asset; `words` are constant."""
    links = [(batch, asset_link(asset, batch)) for batch in sorted(set(batches))[:_MOST]]
    known = [(batch, link) for batch, link in links if link]
    if known:
        with st.container(horizontal=True):
            for batch, link in known:
                digest = batch[-12:] if batch[-12:].isalnum() else ""
                st.link_button(f"{words} {digest} in Dagster", link)
