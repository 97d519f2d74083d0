"""Views: the saved queries, how many samples each selects now, and the way into them."""

from __future__ import annotations

import os

import streamlit as st

from refinery.cli.output import many, safe
from refinery.errors import InputError
from refinery.links import VIEWER_VARIABLE, viewer_link
from refinery.views import View
from ui import show
from ui.core import Screen

_SHOWN = 50


def page() -> None:
    """All views, by name."""
    st.header("Views")
    views = show.viewer().project.views.all()
    if not views:
        st.caption('There is no view yet. "Save view" beside the grid saves what it shows, under a name.')
        st.button("Browse", on_click=show.go, args=(Screen(),))
        return
    st.caption(
        "A view is a query with a name: it selects what matches when it is opened. A version never changes."
    )
    wanted = (
        st.text_input("Find a view", placeholder="part of a name, a filter or an author", key="find-view")
        .strip()
        .casefold()
    )
    found = [view for view in views if wanted in f"{view.name} {view.filter} {view.saved_by}".casefold()]
    if not found:
        st.caption("No view is like that.")
    for view in found[:_SHOWN]:
        _view(view)
    if len(found) > _SHOWN:
        st.caption(f"The first {_SHOWN} of {len(found):,}; say more to find the others.")


def _view(view: View) -> None:
    viewer = show.viewer()
    versions = viewer.project.views.versions(view.name)
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.button("Open", key=f"open-view-{view.name}", on_click=show.go, args=(Screen(view=view.name),))
            show.text(view.name)
            st.badge(many(len(versions), "version"), color="gray")
            _count(view)
        with st.container(gap="xsmall"):
            show.text(view.filter or "all samples")
            if view.text:
                show.text(f"words: {view.text}")
            if view.sort:
                show.text(f"sorted by {view.sort}")
            show.text(f"saved {view.saved_at[:19].replace('T', ' ')} UTC by {view.saved_by}")
        with st.expander("Versions and links"):
            for version in reversed(versions):
                st.code(_address(version.ref), language=None)
                show.text(f"{version.ref}: {version.filter or 'all samples'}, by {version.saved_by}")
            st.caption("Always the newest version:")
            st.code(_address(view.name), language=None)


def _count(view: View) -> None:
    """How many samples it selects now."""
    viewer = show.viewer()
    if not viewer.project.has_index:
        st.caption("no index yet")
        return
    try:
        st.caption(f"{viewer.project.index.count(view.selects(viewer.fields)):,} samples now")
    except InputError as error:
        st.badge("△ asks for what is not there any more", color="orange")
        show.text(error)


def _address(ref: str) -> str:
    """The link to a view, as text to give to others: at the address that one has oneself, unless the environment says another."""
    own = (st.context.url or "").split("?")[0]
    given = os.environ.get(VIEWER_VARIABLE) or own
    return safe(viewer_link({VIEWER_VARIABLE: given}, view=ref))
