"""Browse: find samples by filter, facets, words, meaning, likeness or at random; a grid of what was found, to judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from refinery.cli.output import safe
from refinery.errors import RefineryError
from refinery.fields import FieldType
from refinery.search import Hit
from ui import builder, show
from ui.core import DENSITIES, FACETS, Screen
from ui.desk import Group, Tile, desk

_UNSORTED = frozenset({FieldType.STRING_LIST, FieldType.TEXT, FieldType.JSON})
_DENSITIES = {"dense": "Dense", "": "Usual", "large": "Large"}


def page() -> None:
    """The page for a project with an index."""
    screen = show.screen()
    counted = show.viewer().counts_soon(screen, "verdict", "reason")
    builder.bar(screen)
    _find(screen)
    try:
        found = show.viewer().browse(screen)
    except RefineryError as error:
        show.notice("This cannot be shown", error)
        st.button("Start anew", on_click=show.go, args=(Screen(),))
        return
    _heading(screen, f"{found.selected:,}" if found.exact else f"about {found.selected:,}", *counted())
    if found.hits:
        desk([Group([tile_of(hit) for hit in found.hits])], following=found.cursor)
    else:
        st.caption("No sample is like that. Widen the filter, or choose another verdict, reason or source.")


def tile_of(hit: Hit) -> Tile:
    """A hit as the desk shows it."""
    return tile(hit.document, hit.score)


def tile(document: Mapping[str, Any], score: float | None = None, mark: str = "") -> Tile:
    """A sample's document as the desk shows it."""
    reasons = document["reasons"] or []
    size = f"{document['width']} × {document['height']}" if document["width"] else "no size"
    line = ", ".join(reasons) or document.get("caption") or size
    flags = document["flags"] or []
    return Tile(document["sample_id"], document["verdict"] or "pending", line, flags, score, mark)


def _heading(screen: Screen, selected: str, verdicts: dict[str, int], reasons: dict[str, int]) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{selected}** samples match, {_order(screen)}", width="content")
        if screen.like:
            st.code(safe(screen.like[:12]), language=None, width="content")
        for name, label in (
            ("like", "Any order"),
            ("vector", "Without the picture"),
            ("lasso", "Without the lasso"),
        ):
            if getattr(screen, name):
                st.button(label, on_click=show.change, kwargs={name: ""})
        if screen.view:
            st.code(safe(screen.view[:80]), language=None, width="content")
            st.button("Leave the view", on_click=show.change, kwargs={"view": ""})
        for word, count in sorted(verdicts.items()):
            show.verdict(word, count)
    if reasons:
        show.text(" · ".join(f"{reason} {count:,}" for reason, count in reasons.items()))


def _order(screen: Screen) -> str:
    near = screen.like or screen.meaning or screen.vector
    if near and screen.words:
        return "by likeness and words together"
    if near:
        return "the most similar first"
    if screen.words:
        return "those with any of the words, the best match first"
    if screen.sort:
        return "sorted"
    if screen.seed is not None:
        return f"in random order, seed {screen.seed}"
    return "in order of id"


def _find(screen: Screen) -> None:
    """The widgets beside the filter: facets, words, orders, and how dense the grid is."""
    viewer = show.viewer()
    with st.sidebar:
        for facet in FACETS:
            chosen: str = getattr(screen, facet)
            values = sorted({*viewer.values(facet), *filter(None, [chosen])})
            st.selectbox(
                facet.capitalize(),
                values,
                format_func=safe,
                placeholder="any",
                **show.bound(facet, chosen or None),
            )
        with st.expander("Order", expanded=screen.ordered):
            _orders(screen)
        st.segmented_control(
            "Grid",
            list(_DENSITIES),
            format_func=lambda d: _DENSITIES[d],
            **show.bound("density", screen.density if screen.density in DENSITIES else ""),
        )
        if not viewer.read_only:
            st.text_input("Save as view", placeholder="a name", key="typed-view")
            st.button("Save view", on_click=show.act, args=(_save, "typed-view"))


def _orders(screen: Screen) -> None:
    st.text_input("Words in captions", placeholder="any of the words", **show.bound("words", screen.words))
    st.text_input(
        "Meaning",
        placeholder="what it shows",
        help="For models that read text.",
        **show.bound("meaning", screen.meaning),
    )
    st.file_uploader(
        "Like a picture",
        type=None,
        key="typed-picture",
        on_change=_brought,
        help="A picture, or a vector as .npy or .json.",
    )
    known = show.viewer().fields
    sortable = [f.name for f in known.values() if f.type not in _UNSORTED]
    options = [sign + name for name in sortable for sign in ("", "-")]
    st.selectbox(
        "Sort by",
        options,
        format_func=order_words,
        placeholder="no field",
        **show.bound("sort", screen.sort if screen.sort in options else None),
    )
    st.number_input(
        "Random order, by seed", min_value=0, step=1, placeholder="off", **show.bound("seed", screen.seed)
    )


def order_words(sort: str) -> str:
    """An order by a field, in words."""
    return f"{sort[1:]}, greatest first" if sort.startswith("-") else f"{sort}, least first"


def _brought() -> None:
    file = st.session_state["typed-picture"]
    if file is None:
        show.change(vector="")
        return
    try:
        show.change(vector=show.viewer().vector_of_upload(file.getvalue(), file.name))
    except RefineryError as error:
        show.refuse(error)


def _save(name: str) -> str:
    view, new = show.viewer().save_view(show.screen(), name, show.actor_name())
    return f"Saved as {view.ref}." if new else f"{view.ref} says this already."


def tiles(
    sample_ids: Sequence[str], said: Mapping[str, tuple[str, str]], key: str, following: str | None
) -> None:
    """Samples by id, each with a constant mark and a line of words; those that are not indexed any more too."""
    found = show.viewer().documents(sample_ids)
    shown = [known(i, document, line=said[i][1], mark=said[i][0]) for i, document in found.items()]
    desk([Group(shown)], key=key, following=following, focus=False)


def known(sample_id: str, document: Mapping[str, Any] | None, *, line: str = "", mark: str = "") -> Tile:
    """A sample with a line of one's own, and what its document says of it, if there is one."""
    says = document or {}
    return Tile(sample_id, says.get("verdict") or "", line, says.get("flags") or (), None, mark)
