"""Sample: one picture, all that is known of it, why its verdict is what it is, and what to say about it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from functools import partial

import streamlit as st

from refinery.cli.output import safe
from refinery.errors import InputError, RefineryError
from refinery.explain import Explanation
from refinery.search import Hit
from ui import propagate, runs, show
from ui.browse import tile, tile_of
from ui.components import mount
from ui.core.payloads import Payload
from ui.desk import Group, Tile, desk, written

_FEW = 12


def page() -> None:
    """The page of the sample that the URL names."""
    screen = show.screen()
    st.button("← Back to the grid", on_click=show.change, kwargs={"sample": ""})
    try:
        sample_id = show.viewer().project.resolve(screen.sample)
        similar = show.viewer().similar_soon(sample_id)
        explained = show.viewer().explain(sample_id)
    except InputError as error:
        show.notice("There is nothing to show", error)
        return
    left, right = st.columns([5, 6], gap="large")
    payloads = show.viewer().payloads(explained.sample_id)
    with left:
        _picture(explained, payloads)
    with right:
        _verdict(explained)
        if not show.viewer().read_only:
            _acts(explained)
    _details(explained, payloads)
    _relatives(explained, similar)


def _picture(explained: Explanation, payloads: list[Payload]) -> None:
    picture = show.viewer().picture(explained.sample_id)
    if picture is None:
        show.notice("No picture", "It cannot be decoded, or its bytes are not kept.")
    else:
        masks = [(p.name, _overlay(p)) for p in payloads if p.is_mask]
        data = {
            "sample": explained.sample_id,
            "label": f"sample {explained.sample_id[:12]}",
            "image": base64.b64encode(picture).decode(),
            "masks": [{"name": safe(n), "image": base64.b64encode(m).decode()} for n, m in masks if m],
        }
        mount("picture", "picture", data)
    st.code(explained.sample_id, language=None, wrap_lines=True)


def _overlay(mask: Payload) -> bytes | None:
    try:
        return show.viewer().overlay(mask)
    except InputError as error:
        show.notice("A mask is not shown", error)
        return None


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


def _acts(explained: Explanation) -> None:
    desk([Group([Tile(explained.sample_id, explained.verdict)])], key="desk-sample", plain=True)
    standing = {
        e["id"]: f"{e['offset']}  {e['text']}"  # two events may say the same: an offset tells them apart
        for e in reversed(explained.events)
        if e["stands"] and e["type"] in ("flag", "tag", "attribute")
    }
    if not standing:
        return

    def undo(event_id: str) -> str:
        return written(show.viewer().acts.undo(show.actor_name(), event=event_id))

    with st.form("undo", border=True):
        which, button = st.columns([9, 2], vertical_alignment="bottom")
        which.selectbox(
            "What stands on it", list(standing), format_func=lambda i: safe(standing.get(i, "")), key="event"
        )
        button.form_submit_button("Undo", on_click=show.act, args=(undo, "event"), width="stretch")
    flags = {e["id"]: standing[e["id"]] for e in explained.events if e["stands"] and e["type"] == "flag"}
    if flags:
        with st.expander("Let a flag go on to related samples", expanded=propagate.is_open(flags)):
            propagate.panel(flags)


@st.fragment
def _details(explained: Explanation, payloads: list[Payload]) -> None:
    """All that is known of it, in tabs; only the one that is open is worked out, and another one without the rest of the page."""
    of_tabs: Mapping[str, Callable[[], None]] = {
        "Rules": partial(_rules, explained),
        "Attributes": partial(_attributes, explained),
        "Payloads": partial(_payloads, payloads),
        "Facts": partial(_facts, explained),
        "Origins": partial(_origins, explained),
        "History": partial(_history, explained),
        "Snapshots": partial(_snapshots, explained),
    }
    for tab, told in zip(st.tabs(list(of_tabs), key="tab", on_change="rerun"), of_tabs.values(), strict=True):
        if tab.open:
            with tab:
                told()


def _rules(explained: Explanation) -> None:
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


def _attributes(explained: Explanation) -> None:
    document = show.viewer().document(explained.sample_id)
    for field in show.viewer().fields.attributes:
        if document[field.name] not in (None, []):
            show.text(f"{field.name}: {document[field.name]}")
    show.text(f"tags: {', '.join(document['tags']) or 'none'}")


def _facts(explained: Explanation) -> None:
    for name, fact in explained.facts.items():
        show.text(f"{name}, step key {fact['step_key']}")
        show.table([{"fact": k, "value": v} for k, v in fact.items() if k != "step_key"], "")
    if not explained.facts:
        st.caption("No step has computed anything yet.")
    runs.of_batches("inspected", "Inspection of batch", _batches(explained))
    runs.of_batches("embeddings", "Embeddings of batch", _batches(explained))


def _origins(explained: Explanation) -> None:
    show.table([{k: v for k, v in o.items() if k != "sample_id"} for o in explained.origins], "")
    runs.of_batches("raw_samples", "Landing of batch", _batches(explained))


def _batches(explained: Explanation) -> list[str]:
    return [str(origin["batch"]) for origin in explained.origins]


def _history(explained: Explanation) -> None:
    for event in reversed(explained.events):
        state = "" if event["stands"] else " (undone)"
        show.text(f"{event['offset']}  {event['time'][:19].replace('T', ' ')}  {event['text']}{state}")
    if not explained.events:
        st.caption("Nobody has said anything about it yet.")


def _snapshots(explained: Explanation) -> None:
    for ref in explained.snapshots:
        with st.container(horizontal=True, vertical_alignment="center"):
            show.text(ref)
            if st.button("Open the snapshot", key=f"snapshot-{ref}"):
                show.change(page="snapshots", ref=ref)
                st.rerun()
    if not explained.snapshots:
        show.text("in no snapshot")


def _payloads(payloads: list[Payload]) -> None:
    show.table(
        [
            {
                "payload": p.name,
                "kind": f".{p.extension}",
                "bytes": f"{p.bytes:,}",
                "mask": "yes" if p.is_mask else "",
            }
            for p in payloads
        ],
        "No payload is attached to it.",
    )
    for payload in payloads:
        if payload.is_mask:
            continue
        try:
            found = show.viewer().figures(payload)
        except RefineryError as error:
            show.text(error)
            continue
        rows = [
            {
                "array": f.name or payload.name,
                "shape": " × ".join(map(str, f.shape)),
                "type": f.dtype,
                "finite": f"{f.finite:.0%}",
                "least": f.least,
                "greatest": f.greatest,
                "mean": f.mean,
                "deviation": f.deviation,
            }
            for f in found
        ]
        show.table(rows, "It has no arrays.")


def _relatives(explained: Explanation, soon: Callable[[], tuple[Hit, ...]]) -> None:
    """Its near-duplicates and the samples most like it, to judge as well."""
    groups = []
    cluster = explained.cluster
    if cluster:
        others = [i for i in cluster["members"] if i != explained.sample_id][:_FEW]
        found = show.viewer().documents(others)
        duplicates = [tile(d, None, "kept" if i == cluster["keeper"] else "") for i, d in found.items() if d]
        groups.append(Group(duplicates, f"Near-duplicates: {len(cluster['members'])} together"))
    similar = soon()
    groups.append(Group([tile_of(hit) for hit in similar], "Most similar"))
    if groups := [group for group in groups if group.tiles]:
        desk(groups, key="desk-relatives", focus=False)
    if not similar:
        st.caption("No embedding, so nothing to compare with.")
    else:
        to = {"like": explained.sample_id, "sample": "", "page": ""}
        st.button("Show all by similarity", on_click=show.change, kwargs=to)
