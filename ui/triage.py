"""Triage: work off what waits for a person's word, by keyboard."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from refinery.cli.output import safe
from refinery.errors import RefineryError
from ui import builder, show
from ui.browse import order_words, tile
from ui.core import Screen
from ui.core.triage import NEWEST, QUEUES, Item, Triage
from ui.desk import Group, Tile, desk

_ABOUT = {
    "duplicates": "Clusters side by side: accept the one that would be kept, keep another, or keep all.",
    "held": "What rules hold back: keep what they are wrong about, reject what they are right about.",
    "uncertain": f"Flags of models with a confidence near one half, the least sure first (of the newest {NEWEST:,} events).",
    "disagreeing": f"One model says keep, another says reject, blocked or review (of the newest {NEWEST:,} events).",
    "evals": "What evals found, by one result.",
    "feedback": "What users said, the most first.",
}


def page() -> None:
    """The page of the queue that the URL names."""
    screen = show.screen()
    st.header("Triage")
    chosen = screen.queue if screen.queue in QUEUES else "duplicates"
    st.segmented_control(
        "Queue", list(QUEUES), format_func=lambda q: QUEUES[q], **show.bound("queue", chosen)
    )
    st.caption(_ABOUT[chosen] + " What a person has decided on is in no queue.")
    builder.bar(screen)
    triage = Triage(show.viewer())
    _choices(screen, chosen, triage)
    try:
        queue = triage.page(screen.change(queue=chosen, cursor=screen.cursor))
    except RefineryError as error:
        show.notice("This cannot be shown", error)
        st.button("Start anew", on_click=show.go, args=(Screen(page="triage"),))
        return
    if not queue.groups and queue.cursor is not None:
        st.subheader("Nothing waits so far")
        st.caption("All that was looked at has a person's word already; there is more behind it.")
        st.button("Look further", type="primary", on_click=show.change, kwargs={"cursor": queue.cursor})
        return
    if not queue.groups:
        st.subheader("Nothing waits here")
        st.caption("Every sample of this queue has a person's word, or there is none.")
        return
    clusters = chosen == "duplicates"
    groups = zip(queue.groups, queue.sizes if clusters else map(len, queue.groups), strict=True)
    desk(
        [Group(list(map(_tile, g)), _title(g, n) if clusters else "") for g, n in groups],
        key="desk-triage",
        following=queue.cursor,
        triage="clusters" if clusters else "list",
    )


def _choices(screen: Screen, queue: str, triage: Triage) -> None:
    """What a queue is narrowed or sorted by."""
    if queue == "held":
        reasons = sorted({*show.viewer().values("reason"), *filter(None, [screen.reason])})
        st.selectbox(
            "Reason",
            reasons,
            format_func=safe,
            placeholder="any",
            **show.bound("reason", screen.reason or None),
        )
    elif queue in ("evals", "feedback"):
        options = [sign + name for name in triage.results(queue) for sign in ("-", "")]
        if options:
            st.selectbox(
                "Result",
                options,
                format_func=order_words,
                placeholder=order_words(
                    options[0]
                ),  # what holds while nothing is chosen; no other page follows it
                **show.bound("sort", screen.sort if screen.sort in options else None),
            )


def _tile(item: Item) -> Tile:
    found = tile(item.document, None, "would be kept" if item.keeper else "")
    return replace(found, line=item.why or _what(item), keeper=item.keeper)


def _what(item: Item) -> str:
    """What duplicates differ in."""
    document = item.document
    return (
        f"{document['width']} × {document['height']} {document['format']}, {document['bytes'] / 1000:,.0f} kB"
    )


def _title(items: list[Item], size: int) -> str:
    return f"{size:,} near-duplicates" + (f", the first {len(items)} of them" if len(items) < size else "")
