"""Sample: one picture, all that is known of it, why its verdict is what it is, and what to say about it."""

from __future__ import annotations

import streamlit as st

from refinery.cli.output import safe
from refinery.errors import InputError
from refinery.explain import Explanation
from ui import show
from ui.browse import grid
from ui.core import NEED_REASON, Act

_NAME = "name"


def page() -> None:
    """The page of the sample that the URL names."""
    screen = show.screen()
    st.button("← Back to the grid", on_click=show.change, kwargs={"sample": ""})
    try:
        explained = show.viewer().explain(screen.sample)
    except InputError as error:
        show.notice("There is nothing to show", error)
        return
    left, right = st.columns([5, 6], gap="large")
    with left:
        _picture(explained)
    with right:
        _verdict(explained)
        if not show.viewer().read_only:
            _actions(explained)
    _details(explained)
    st.subheader("Most similar")
    similar = show.viewer().similar(explained.sample_id)
    grid(similar)
    if not similar:
        st.caption("No embedding, so nothing to compare with.")
    else:
        to = {"like": explained.sample_id, "sample": ""}
        st.button("Show all by similarity", on_click=show.change, kwargs=to)


def _picture(explained: Explanation) -> None:
    picture = show.viewer().picture(explained.sample_id)
    if picture is None:
        picture = show.viewer().tiles([explained.sample_id])[explained.sample_id]
        st.image(picture, alt="no picture")
        st.caption("It cannot be decoded, or its bytes are not kept.")
    else:
        st.image(picture, alt=f"sample {explained.sample_id[:12]}")
    st.code(explained.sample_id, language=None, wrap_lines=True)


def _verdict(explained: Explanation) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        show.verdict(explained.verdict)
        show.text(", ".join(explained.reasons))
    stored = explained.stored_verdict or "pending"
    if stored != explained.verdict:
        show.text(f"The last replay said {stored}; the next one will say {explained.verdict}.")
    st.markdown("**Because**")
    for sentence in explained.because:
        show.text(f"• {sentence}")
    if explained.flips:
        st.markdown("**Smallest change that flips it**")
        first, *others = explained.flips
        show.text(f"→ {first.to}: {first.change}")
        if others:
            with st.expander("Other changes"):
                for flip in others:
                    show.text(f"→ {flip.to}: {flip.change}")


def _actions(explained: Explanation) -> None:
    sample_id, viewer = explained.sample_id, show.viewer()

    def flag(kind: str, reason: str) -> str:
        return _written(viewer.flag(sample_id, kind, st.session_state[_NAME], reason))

    def tag(tag: str) -> str:
        return _written(viewer.tag(sample_id, tag, st.session_state[_NAME]))

    def undo(event_id: str) -> str:
        return _written(viewer.undo(event_id, st.session_state[_NAME]))

    with st.form("flag", border=True):
        kind, why, button = st.columns([3, 6, 2], vertical_alignment="bottom")
        kind.selectbox("Flag", viewer.project.settings.known_flag_kinds, key="kind")
        why.text_input("Reason", key="typed-reason", placeholder=f"needed for {' and '.join(NEED_REASON)}")
        button.form_submit_button(
            "Flag", on_click=show.act, args=(flag, "kind", "typed-reason"), type="primary", width="stretch"
        )
    with st.form("tag", border=True):
        words, button = st.columns([9, 2], vertical_alignment="bottom")
        words.text_input("Tag", key="typed-tag", placeholder="free words, to search with has_tag('…')")
        button.form_submit_button("Tag", on_click=show.act, args=(tag, "typed-tag"), width="stretch")
    standing = {
        e["id"]: e["text"]
        for e in reversed(explained.events)
        if e["stands"] and e["type"] in ("flag", "tag", "attribute")
    }
    if standing:
        with st.form("undo", border=True):
            which, button = st.columns([9, 2], vertical_alignment="bottom")
            which.selectbox(
                "Undo", list(standing), format_func=lambda i: safe(standing.get(i, "")), key="event"
            )
            button.form_submit_button("Undo", on_click=show.act, args=(undo, "event"), width="stretch")


def _written(act: Act) -> str:
    place = f"In the ledger at offset {act.events[-1].offset:,}."
    if act.behind:
        return f"{place} {act.behind} Verdicts and search follow at the next `refinery run`."
    return f"{place} Verdicts follow at the next replay or `refinery run`."


def _details(explained: Explanation) -> None:
    document = show.viewer().document(explained.sample_id)
    tabs = st.tabs(["Rules", "Attributes", "Facts", "Origins", "History", "Snapshots"])
    with tabs[0]:
        rows = [
            {
                "rule": rule["name"],
                "outcome": "■ holds it" if rule["matched"] else "– does not",
                "holds when": rule["hold"],
                "found": ", ".join(f"{k} = {show.cell(v) or 'none'}" for k, v in rule["found"].items()),
            }
            for rule in explained.rules
        ]
        show.table(rows, "The policy has no rules.")
        show.text(
            f"policy {explained.policy} {explained.policy_digest[:12]}, ledger offset {explained.ledger_offset}"
        )
        if explained.cluster:
            show.text(
                f"near-duplicates: {len(explained.cluster['members'])} together; kept: {explained.cluster['keeper']}"
            )
    with tabs[1]:
        for field in show.viewer().fields.attributes:
            if document[field.name] not in (None, []):
                show.text(f"{field.name}: {document[field.name]}")
        show.text(f"tags: {', '.join(document['tags']) or 'none'}")
        show.text(f"payloads: {', '.join(document['payloads']) or 'none'}")
    with tabs[2]:
        for name, fact in explained.facts.items():
            show.text(f"{name}, step key {fact['step_key']}")
            show.table([{"fact": k, "value": v} for k, v in fact.items() if k != "step_key"], "")
        if not explained.facts:
            st.caption("No step has computed anything yet.")
    with tabs[3]:
        show.table([{k: v for k, v in o.items() if k != "sample_id"} for o in explained.origins], "")
    with tabs[4]:
        for event in reversed(explained.events):
            state = "" if event["stands"] else " (undone)"
            show.text(f"{event['offset']}  {event['time'][:19].replace('T', ' ')}  {event['text']}{state}")
        if not explained.events:
            st.caption("Nobody has said anything about it yet.")
    with tabs[5]:
        show.text(", ".join(explained.snapshots) or "in no snapshot")
