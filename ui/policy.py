"""Policy: the rules in force, what another policy would change, and its adoption."""

from __future__ import annotations

from collections import Counter
from typing import Any

import streamlit as st

from refinery.errors import RefineryError
from refinery.links import asset_link
from refinery.trials import Trial
from ui import show
from ui.browse import tiles
from ui.core import Draft, Screen

_DRAFT = "policy-draft"
_BEGAN = "policy-began"
_TEXT = "policy-text"
_TRIAL = "policy-trial"
_REFUSED = "policy-refused"
_ADOPTED = "policy-adopted"
_KIND = "policy-kind"
_SHAPES = {"gold": "●", "held": "■", "pending": "○", "new": "○"}
_MOST_ROWS = 200
_SAME = "other reasons"


def page() -> None:
    """What is in force, the editor, and what came of the last trial."""
    st.header("Policy")
    try:
        current = show.viewer().policies.current()
    except RefineryError as error:
        show.notice("The policy cannot be read", error)
        return
    _in_force(current)
    _adopted()
    if _DRAFT not in st.session_state:
        _load(current)
    draft: Draft = st.session_state[_DRAFT]
    if draft.version != current.version:
        draft = _outdated(draft, current)
    st.subheader("Another policy")
    st.session_state[_TEXT] = draft.text
    st.text_area(
        "policy.yaml",
        key=_TEXT,
        height=320,
        on_change=_typed,
        help="Rules in order; each `hold` is a filter over the fields that the page Fields lists.",
    )
    trial: tuple[Draft, Trial] | None = st.session_state.get(_TRIAL)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Try", type="primary", on_click=_try, help="Says what would move; nothing is written.")
        if draft.text != current.text:
            st.button("Begin anew", on_click=_load)
    if st.session_state.get(_REFUSED):
        _refused(st.session_state[_REFUSED])
    elif trial is None:
        st.caption("Change the text and try it: what would move is shown here before anything is written.")
    if trial is not None:
        _tried(trial[1], trial[0] == draft)


def _in_force(current: Draft) -> None:
    viewer = show.viewer()
    try:
        policy = viewer.policies.parse(current.text)
    except RefineryError as error:
        _refused(str(error))
        return
    status = viewer.status()
    with st.container(horizontal=True, vertical_alignment="center"):
        show.text(f"{policy.name} · {policy.digest[:16]} · needs facts of {', '.join(policy.requires)}")
        if status.policy == policy.digest:
            st.badge("✓ the verdicts were made under it", color="green")
        else:
            st.badge("△ the verdicts were made under another one", color="orange")
        if link := asset_link("verdicts"):
            st.link_button("Replays in Dagster", link)
    show.table(
        [
            {
                "order": str(number),
                "reason": rule.name,
                "held when": rule.hold.text,
                "held by it first": f"{status.held.get(rule.name, 0):,}",
            }
            for number, rule in enumerate(policy.rules, start=1)
        ],
        "It has no rules: whatever can be decoded is gold.",
    )


def _refused(words: str) -> None:
    show.notice("This is no policy", "what is wrong stands below")
    with st.container(border=True, gap="xsmall"):
        for line in words.splitlines():
            show.text(line)


def _outdated(draft: Draft, current: Draft) -> Draft:
    """A draft that began from another policy.yaml: replaced where nobody typed into it, else its author is asked."""
    if draft.text in (current.text, st.session_state[_BEGAN]):
        _load(current)
        return current
    show.notice(
        "policy.yaml was changed meanwhile", "this draft began from another one and cannot be adopted"
    )
    with st.container(horizontal=True):
        st.button("Keep the draft, on the new one", on_click=_rebase, args=(current,))
        st.button("Load the new one", on_click=_load)
    return draft


def _load(current: Draft | None = None) -> None:
    current = current or show.viewer().policies.current()
    st.session_state[_DRAFT] = current
    st.session_state[_BEGAN] = current.text
    for key in (_TRIAL, _REFUSED):
        st.session_state.pop(key, None)


def _rebase(current: Draft) -> None:
    st.session_state[_DRAFT] = Draft(st.session_state[_DRAFT].text, current.version)
    st.session_state.pop(_TRIAL, None)


def _typed() -> None:
    st.session_state[_DRAFT] = Draft(st.session_state[_TEXT], st.session_state[_DRAFT].version)
    st.session_state.pop(_REFUSED, None)


def _try() -> None:
    draft = Draft(st.session_state[_TEXT], st.session_state[_DRAFT].version)
    st.session_state[_DRAFT] = draft
    show.change(cursor="")
    for key in (_TRIAL, _REFUSED, _KIND, _ADOPTED):
        st.session_state.pop(key, None)
    try:
        with st.spinner("Evaluating every sample…"):
            st.session_state[_TRIAL] = draft, show.viewer().policies.try_(draft.text)
    except RefineryError as error:
        st.session_state[_REFUSED] = str(error)


def _tried(trial: Trial, fresh: bool) -> None:
    st.subheader("What it would change")
    show.text(
        f"{trial.policy.name} · {trial.policy.digest[:16]} · tried at ledger offset {trial.ledger_offset:,}"
    )
    if trial.behind:
        st.badge(
            "△ Verdicts are behind: the moves have in them what a replay would change anyway", color="orange"
        )
    with st.container(horizontal=True, gap="large"):
        for word, now in trial.now.items():
            then = trial.found.counts.get(word, 0)
            st.metric(
                f"{_SHAPES[word]} {word}",
                f"{then:,}",
                f"{then - now:+,}" if then != now else None,
                delta_color="off",
                width=160,
            )
    if not show.viewer().read_only:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.button(
                "Adopt",
                on_click=show.act,
                args=(_adopt,),
                disabled=not fresh,
                type="primary",
                help="Writes policy.yaml and replays, in your name.",
            )
            if not fresh:
                st.caption("The text is another one by now: try it again.")
    if trial.found.moves:
        _effects(trial)
    else:
        st.caption("Nothing moves: every sample has the same verdict and the same reasons.")


def _effects(trial: Trial) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**By reason**")
        show.table(
            [
                {
                    "reason": e.reason,
                    "held first": f"{e.now:,} → {e.then:,}",
                    "get it": f"{e.got:,}",
                    "lose it": f"{e.lost:,}",
                }
                for e in trial.reasons()
            ],
            "",
        )
    with right:
        _slices(trial)
    _flips(trial)


def _slices(trial: Trial) -> None:
    options = trial.fields
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown("**By the values of**", width="content")
        field = st.selectbox(
            "By the values of",
            options,
            index=options.index("source") if "source" in options else 0,
            label_visibility="collapsed",
        )
    effects = trial.slices(field) if field else []
    show.table(
        [
            {
                "value": "(none)" if e.value is None else e.value,
                "samples": f"{e.samples:,}",
                "gold": f"{e.gold_now:,} → {e.gold_then:,}",
                "join": f"{e.joined:,}",
                "leave": f"{e.left:,}",
            }
            for e in effects[:_MOST_ROWS]
        ],
        "No field parts the samples.",
    )
    if len(effects) > _MOST_ROWS:
        st.caption(f"The {_MOST_ROWS} values with the most moves of {len(effects):,}.")


def _flips(trial: Trial) -> None:
    kinds = Counter(_kind(move) for move in trial.found.moves)
    options = sorted(kinds, key=lambda k: (_SAME in k, -kinds[k]))
    st.markdown("**Which samples**")
    kind = st.segmented_control(
        "Which samples",
        options,
        default=options[0],
        format_func=lambda k: f"{k} ({kinds[k]:,})",
        key=_KIND,
        label_visibility="collapsed",
    )
    chosen = [move for move in trial.found.moves if _kind(move) == (kind or options[0])]
    screen = show.screen()
    start = screen.start
    start = start if start < len(chosen) else 0
    shown = chosen[start : start + screen.size]
    said = {m["sample_id"]: (_kind(m), _why(m)) for m in shown}
    following = start + screen.size
    tiles(list(said), said, "desk-flips", str(following) if following < len(chosen) else None)


def _kind(move: dict[str, Any]) -> str:
    before, after = (f"{_SHAPES[move[name]]} {move[name]}" for name in ("from", "to"))
    return f"{before} → {after}" if before != after else f"{before}, {_SAME}"


def _why(move: dict[str, Any]) -> str:
    before, after = (", ".join(move[name] or ()) or "no reason" for name in ("reasons_before", "reasons"))
    return f"{before} → {after}"


def _adopt() -> str:
    policies = show.viewer().policies
    newest = show.viewer().freezing.newest()
    with st.spinner("Replaying…"):
        done = policies.adopt(st.session_state[_DRAFT], show.actor_name())
    _load()
    show.change(cursor="")
    st.session_state[_ADOPTED] = newest.ref if newest else ""
    if done.report is None:
        return f"{done.policy.name} is in force, but its verdicts are not there yet: {done.behind}"
    return f"{done.policy.name} is in force: {done.report.changed:,} verdicts changed, at ledger offset {done.report.ledger_offset:,}."


def _adopted() -> None:
    """After an adoption: the way to what it made of the dataset that was frozen last."""
    ref = st.session_state.get(_ADOPTED)
    if not ref or show.viewer().read_only:
        return
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        show.text(f"{ref} was frozen under the policy before.")
        st.button("Freeze it again and compare", key="freeze-again", on_click=show.act, args=(_freeze_again,))


def _freeze_again() -> str:
    ref = st.session_state[_ADOPTED]
    done = show.viewer().freezing.again(ref, show.actor_name())
    st.session_state.pop(_ADOPTED)
    show.go(Screen(page="snapshots", ref=done.snapshot.ref, against=ref if done.new else ""))
    return (
        f"{done.snapshot.ref} is frozen. {done.behind}"
        if done.new
        else f"Nothing differs from {done.snapshot.ref}."
    )
