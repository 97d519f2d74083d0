"""Browse: find samples by filter, facets, words, likeness or at random; a grid of what was found."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from refinery.cli.output import safe
from refinery.errors import InputError
from refinery.search import Hit
from ui import show
from ui.core import FACETS, Screen

_COLUMNS = 6
_EXAMPLES = "min_side >= 512 AND NOT near_duplicate · matches(caption, 'red panda') · has_flag('review')"


def page() -> None:
    """The page for a project with an index."""
    screen = show.screen()
    st.text_input(
        "Filter",
        placeholder="SQL WHERE, for example: min_side >= 512 AND aspect BETWEEN 0.5 AND 2",
        help=f"The one filter language, over the fields that `refinery fields` lists. Examples: `{_EXAMPLES}`",
        **show.bound("where", screen.where),
    )
    _find(screen)
    try:
        found = show.viewer().browse(screen)
    except InputError as error:
        show.notice("This cannot be shown", error)
        st.button("Start anew", on_click=show.go, args=(Screen(),))
        return
    _heading(screen, found.selected)
    grid(found.hits)
    if not found.hits:
        st.caption("No sample is like that. Widen the filter, or choose another verdict, reason or source.")
    pages(screen.cursor, found.cursor)


def grid(hits: tuple[Hit, ...]) -> None:
    """Thumbnails with verdict badges; a button opens each sample."""
    found = {hit.sample_id: hit for hit in hits}
    tiles(list(found), lambda sample_id: _said(found[sample_id]))


def pages(here: str, following: str | None) -> None:
    """Buttons to the first page, unless it is shown, and to the following one, if there is one."""
    with st.container(horizontal=True, horizontal_alignment="right"):
        if here:
            st.button("First page", on_click=show.change, kwargs={"cursor": ""})
        if following:
            st.button("Next page", type="primary", on_click=show.change, kwargs={"cursor": following})


def tiles(sample_ids: Sequence[str], say: Callable[[str], object]) -> None:
    """A thumbnail of each sample, what `say` puts below it, and a button that opens it."""
    pictures = show.viewer().tiles(sample_ids)
    for start in range(0, len(sample_ids), _COLUMNS):
        line = sample_ids[start : start + _COLUMNS]
        for cell, sample_id in zip(st.columns(_COLUMNS, gap="small"), line, strict=False):
            with cell, st.container(gap="xsmall"):
                st.image(pictures[sample_id], width="stretch", alt=f"thumbnail of sample {sample_id[:12]}")
                say(sample_id)
                st.button(
                    sample_id[:8],
                    key=f"open-{sample_id}",
                    on_click=show.change,
                    kwargs={"sample": sample_id},
                    width="stretch",
                )


def _said(hit: Hit) -> None:
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        show.verdict(hit.document["verdict"])
        if hit.score is not None:
            st.caption(f"{hit.score:.3f}")
    reasons = hit.document["reasons"]
    more = f" +{len(reasons) - 1}" if len(reasons) > 1 else ""
    show.text(reasons[0] + more if reasons else _size(hit))


def _size(hit: Hit) -> str:
    return f"{hit.document['width']} × {hit.document['height']}"


def _heading(screen: Screen, selected: int) -> None:
    order = "in order of id"
    if screen.like:
        order = "the most similar to this one first"
    elif screen.words:
        order = "those with any of the words, the best match first"
    elif screen.seed is not None:
        order = f"in random order, seed {screen.seed}"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{selected:,}** samples match, {order}", width="content")
        if screen.like:
            st.code(screen.like[:12], language=None, width="content")
            st.button("Any order", on_click=show.change, kwargs={"like": ""})
        if screen.view:
            st.code(screen.view[:80], language=None, width="content")
            st.button("Leave the view", on_click=show.change, kwargs={"view": ""})
        for word, count in sorted(show.viewer().counts(screen, "verdict").items()):
            show.verdict(word, count)
    if reasons := show.viewer().counts(screen, "reason"):
        show.text(" · ".join(f"{reason} {count:,}" for reason, count in reasons.items()))


def _find(screen: Screen) -> None:
    """The widgets beside the filter: facets, words, and random order."""
    with st.sidebar:
        for facet in FACETS:
            chosen: str = getattr(screen, facet)
            values = sorted({*show.viewer().counts(Screen(), facet), *filter(None, [chosen])})
            st.selectbox(
                facet.capitalize(),
                values,
                format_func=safe,
                placeholder="any",
                **show.bound(facet, chosen or None),
            )
        st.text_input(
            "Words in captions", placeholder="any of the words", **show.bound("words", screen.words)
        )
        st.number_input(
            "Random order, by seed", min_value=0, step=1, placeholder="off", **show.bound("seed", screen.seed)
        )
        if not show.viewer().read_only:
            st.text_input("Save as view", placeholder="a name", key="typed-view")
            st.button("Save view", on_click=show.act, args=(_save, "typed-view"))


def _save(name: str) -> str:
    view, new = show.viewer().save_view(show.screen(), name, st.session_state["name"])
    return f"Saved as {view.ref}." if new else f"{view.ref} says this already."
