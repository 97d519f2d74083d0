"""How the pages show things: text from data is text (never Markdown or HTML), verdicts have a shape and a word."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Literal

import streamlit as st

from refinery.cli.output import safe
from refinery.errors import InputError, RefineryError
from ui.core import Screen, Viewer

_SAID, _TOLD = "said", "told"
VOUCHED = "vouched"
"""Set in the session when a provider vouches for the name of who acts."""
_BOUND = tuple(f.name for f in fields(Screen))
_WHOLE = 60
"""Tables of up to so many rows are shown whole, larger ones scroll."""
_VERDICTS: Mapping[str, tuple[str, Literal["green", "orange", "blue"]]] = {
    "gold": ("● gold", "green"),
    "held": ("■ held", "orange"),
    "pending": ("○ pending", "blue"),
}


def screen() -> Screen:
    """The screen that the URL names."""
    return Screen.from_params(st.query_params.to_dict())


def go(to: Screen) -> None:
    """Make the URL name another screen; the pages follow it."""
    st.query_params.from_dict(to.to_params())


def change(**changes: object) -> None:
    """A callback: change the screen that the URL names and the widgets show by now. The widgets count too, because the
    browser may act again before the URL of its last change has reached it."""
    now = screen()
    shown = {f: _value(f) for f in _BOUND if _key(f) in st.session_state}
    moved = {f: value for f, value in shown.items() if value != getattr(now, f) and f not in changes}
    go((now.change(**moved) if moved else now).change(**changes))


def viewer() -> Viewer:
    """This session's viewer."""
    found: Viewer = st.session_state["viewer"]
    return found


def actor_name(said: str = "") -> str:
    """Who acts: the name that was given when the act was made, or that stands on the page. InputError when a provider vouches
    for one person and the act was made by another."""
    name = str(st.session_state.get("name", ""))
    if said and said != name and st.session_state.get(VOUCHED):
        raise InputError(f"{said} made this, and {name} is signed in now.", kind="another_person")
    return said or name


def bound(field: str, value: object) -> dict[str, Any]:
    """Arguments that bind a widget to a field of the screen: it shows what the URL says, and changes it.
    The browser is told a value only when it has another one: told late, it would take back what was chosen meanwhile. What a run
    told that was cut short by the next one may never have reached the browser, so that it is told again."""
    told: set[str] = st.session_state.setdefault(_TOLD, set())
    if field in told or _key(field) not in st.session_state or st.session_state[_key(field)] != value:
        st.session_state[_key(field)] = value
        told.add(field)
    return {"key": _key(field), "on_change": _changed, "args": (field,)}


def finished() -> None:
    """A run has come to its end: all that it told reaches the browser."""
    st.session_state[_TOLD] = set()


def _changed(field: str) -> None:
    change(**{field: _value(field)})


def _key(field: str) -> str:
    return f"screen-{field}"


def _value(field: str) -> object:
    value = st.session_state[_key(field)]
    return value if field == "seed" else value or ""


def act(what: Callable[..., str], *keys: str) -> None:
    """A button's callback: do something with the values of widgets, and remember what came of it for `said`.
    What was typed stays when it was refused."""
    try:
        st.session_state[_SAID] = (True, what(*(st.session_state[key] for key in keys)))
    except RefineryError as error:
        st.session_state[_SAID] = (False, str(error))
    else:
        for key in keys:
            if isinstance(st.session_state[key], str) and key.startswith("typed-"):
                st.session_state[key] = ""


def refuse(error: RefineryError) -> None:
    """Remember for `said` that something was refused."""
    st.session_state[_SAID] = (False, str(error))


def said() -> None:
    """What came of the last act, once."""
    if (found := st.session_state.pop(_SAID, None)) is not None:
        done, words = found
        notice("Done" if done else "Refused", words, good=done)


def notice(title: str, words: object, *, good: bool = False) -> None:
    """A remark: a constant title, and words that may come from data."""
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.badge(f"✓ {title}" if good else f"✕ {title}", color="green" if good else "red")
        text(words)


def verdict(word: str, count: int | None = None) -> None:
    """A verdict as a badge with a shape of its own; with how many samples have it."""
    label, colour = _VERDICTS[word]
    st.badge(label if count is None else f"{label} {count:,}", color=colour)


def text(words: object) -> None:
    """Words from data, as they are; control characters escaped."""
    st.text(safe(words))


def table(rows: Sequence[Mapping[str, object]], none: str) -> None:
    """Rows as a table of texts, or the words for none."""
    if rows:
        cells = [{name: cell(value) for name, value in row.items()} for row in rows]
        st.dataframe(cells, hide_index=True, height="content" if len(cells) <= _WHOLE else "auto")
    else:
        st.caption(none)


def cell(value: object) -> str:
    """A value as one short text."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return safe(", ".join(map(str, value)) if isinstance(value, list) else value)
