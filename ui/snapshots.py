"""Snapshots: what was frozen, from what, whether it is whole, and what differs from another one and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from refinery.cli.output import many, safe
from refinery.errors import InputError
from refinery.links import asset_link
from refinery.snapshots import Snapshot
from ui import show
from ui.browse import tiles
from ui.core import Screen

if TYPE_CHECKING:
    from refinery.diffs import SnapshotDiff

_HOW = {"added": "▲ added", "removed": "▼ removed", "changed": "◆ changed"}
_AT_ONCE = 100_000
"""Samples that a snapshot may have to be compared with its parent without being asked: that takes under a second."""


def page() -> None:
    """The page of the snapshot that the URL names, or of the newest one."""
    screen = show.screen()
    st.header("Snapshots")
    known = show.viewer().snapshots()
    _make(screen)
    if not known:
        st.caption("There is no snapshot yet: `refinery snapshot create NAME` freezes gold.")
        return
    show.table(
        [
            {
                "snapshot": s.ref,
                "samples": f"{s.count:,}",
                "made": s.created_at[:19].replace("T", " "),
                "root": s.root[:16],
                "filter": s.filter or "all of gold",
            }
            for s in known
        ],
        "",
    )
    refs = [s.ref for s in known]
    chosen = next((s for s in known if s.ref == (screen.ref or refs[0])), None)
    if chosen is None:
        show.notice("There is no such snapshot", screen.ref)
        st.button("Show the newest", on_click=show.change, kwargs={"ref": "", "against": ""})
        return
    left, right = st.columns(2)
    with left:
        st.selectbox("Snapshot", refs, format_func=safe, **show.bound("ref", chosen.ref))
    against = screen.against or (chosen.parent if chosen.count <= _AT_ONCE else None)
    with right:
        st.selectbox(
            "Compare with",
            [ref for ref in refs if ref != chosen.ref],
            format_func=safe,
            placeholder="another snapshot",
            **show.bound("against", against if against in refs and against != chosen.ref else None),
        )
    _about(chosen)
    if against:
        _difference(screen, against, chosen.ref)


def _make(screen: Screen) -> None:
    """A form that freezes what the screen selects of gold."""
    if show.viewer().read_only:
        return
    with st.expander("Freeze a snapshot"):
        try:
            chosen = show.viewer().selected_text(screen)
        except InputError as error:
            show.notice("The filter of this screen fits no longer", error)
            return
        st.text_input("Dataset", placeholder="a name; its next version is made", key="typed-dataset")
        st.text_input("Splits", placeholder="none, or such as train=0.9,val=0.1", key="typed-splits")
        if chosen:
            show.text(f"gold, and of it only: {chosen}")
        else:
            st.caption(
                "All of gold, or what refinery.yaml says of this dataset. Filter the grid first to freeze less."
            )
        st.button("Freeze", on_click=show.act, args=(_freeze, "typed-dataset", "typed-splits"))


def _freeze(dataset: str, splits: str) -> str:
    viewer, screen = show.viewer(), show.screen()
    chosen = viewer.selected_text(screen)
    done = viewer.freezing.freeze(dataset, chosen, splits, show.actor_name())
    show.change(ref=done.snapshot.ref, against="")
    if not done.new:
        return f"Nothing differs from {done.snapshot.ref}."
    return f"{done.snapshot.ref} is frozen: {done.snapshot.count:,} samples. {done.behind}"


def _about(snapshot: Snapshot) -> None:
    left, right = st.columns([3, 2], gap="large")
    with left:
        rows = {
            "samples": f"{snapshot.count:,}",
            "root": snapshot.root,
            "parent": snapshot.parent or "none",
            "filter": snapshot.filter or "all of gold",
            "view": snapshot.view or "none",
            "policy": snapshot.policy,
            "ledger offset": f"{snapshot.ledger_offset:,}",
        }
        if snapshot.splits is not None:
            counts = snapshot.splits["counts"]
            rows["splits"] = ", ".join(f"{counts[name]:,} {name}" for name, _ in snapshot.splits["shares"])
        rows |= {f"step {name}": step["key"] for name, step in snapshot.steps.items()}
        show.table([{"what": k, "is": v} for k, v in rows.items()], "")
    with right:
        datasets = show.viewer().project.settings.datasets
        if snapshot.name in datasets and (link := asset_link("snapshots", snapshot.name)):
            st.link_button("Its runs in Dagster", link)
        pinned = show.viewer().freezing.pinned(snapshot.ref)
        show.table([{"its lock pins": k, "which are": v} for k, v in pinned.items()], "")
        if st.button("Verify", help="Reads every blob, shard and object again that the snapshot rests on."):
            _verified(snapshot)
        if st.button("Card", help="Its contact sheet and distributions, and the whole card as a file."):
            card = show.viewer().project.card(snapshot.ref)
            for name, picture in card.pictures().items():
                st.image(picture, alt=f"{name} of the snapshot", width="stretch")
            st.download_button("Download README.md", card.markdown(), "README.md", "text/markdown")


def _verified(snapshot: Snapshot) -> None:
    with st.spinner("Reading it all again…"):
        findings = list(show.viewer().project.verify(snapshot.ref))
    if findings:
        show.notice("It is damaged", many(len(findings), "finding"))
        for finding in findings:
            show.text(finding)
    else:
        show.notice("It is whole", f"its root {snapshot.root[:16]}, every blob and every shard", good=True)


def _difference(screen: Screen, old: str, new: str) -> None:
    st.subheader("What differs, and why")
    try:
        with st.spinner("Comparing …"):
            found = show.viewer().diff(old, new)
    except InputError as error:
        show.notice("They cannot be compared", error)
        return
    counts = ", ".join(f"{len(found.ids(how)):,} {how}" for how in _HOW)
    show.text(f"{found.old} → {found.new}: {counts}")
    if found.split_moves:
        show.text(f"{many(len(found.split_moves), 'sample')} of both are in another split.")
    if not found.moves:
        st.caption("They hold the same samples.")
        return
    show.table([{"cause": cause, "samples": f"{count:,}"} for cause, count in found.causes.items()], "")
    _moves(screen, found)


def _moves(screen: Screen, found: SnapshotDiff) -> None:
    start = screen.start
    following = start + screen.size
    moves = found.moves[start:following]
    said = {m.sample_id: (_HOW[m.how], f"{m.cause}: {m.sentence}") for m in moves}
    more = str(following) if following < len(found.moves) else None
    tiles(list(said), said, "desk-moves", more)
