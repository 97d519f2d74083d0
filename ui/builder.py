"""The filter builder: clauses that are added by widgets and taken away by a click, over the one filter text of the URL."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import streamlit as st

from refinery.cli.output import safe
from refinery.digests import digest_json
from refinery.errors import InputError
from refinery.fields import BUILTIN_FIELDS, Field
from refinery.index import Aggregate
from ui import show
from ui.core import Screen, clauses

_OFFERED = 200


def bar(screen: Screen) -> None:
    """The filter as text, its clauses, and (when asked for) widgets that add another."""
    st.text_input(
        "Filter",
        placeholder="SQL WHERE, for example: min_side >= 512 AND aspect BETWEEN 0.5 AND 2",
        help="The one filter language, over the fields on the page Fields. Build one below, or write it here.",
        **show.bound("where", screen.where),
    )
    known = show.viewer().fields
    try:
        standing = clauses.split(screen.where, known)
    except InputError:  # said where the samples would be
        standing = []
    with st.container(horizontal=True, vertical_alignment="center"):
        if standing:
            # a widget for each filter, which begins with all: told to it later, a run that is cut short would not have told it
            key = f"builder-clauses-{digest_json(standing)[:16]}"
            st.multiselect(
                "Clauses",
                standing,
                default=standing,
                key=key,
                format_func=safe,
                on_change=_kept,
                args=(key,),
                label_visibility="collapsed",
                help="Take one away, and what it hid comes back.",
            )
        st.toggle("Add a clause", key="builder-open")
    if st.session_state.get("builder-open"):
        with st.container(border=True):
            _add(screen)


def _kept(key: str) -> None:
    show.change(where=clauses.join(st.session_state[key], show.viewer().fields))


def _add(screen: Screen) -> None:
    known = show.viewer().fields
    left, right = st.columns([1, 2], gap="large")
    with left:
        names = [f.name for f in (*known.attributes, *BUILTIN_FIELDS) if clauses.kind_of(f) != "none"]
        name = st.selectbox("Field", names)
        field = known[name]
        show.text(field.description)
        ways = ["is", "has no value"]
        if clauses.kind_of(field) == "values":
            ways.insert(1, "is, by typing")
        way = st.radio("How", ways, horizontal=True, key=f"builder-how-{name}", label_visibility="collapsed")
        negated = st.checkbox(
            "Leave these out (NOT)",
            key="builder-not",
            help="As in SQL, those without a value are left out too.",
        )
    with right:
        clause = clauses.is_missing(field) if way == "has no value" else _clause(screen, field, way)
    if clause is not None:
        with left:
            st.button("Add", type="primary", on_click=_added, args=(clause, negated))


def _added(clause: str, negated: bool) -> None:
    known = show.viewer().fields
    try:
        standing = clauses.split(show.screen().where, known)
        clause = clauses.checked(clause, known, negated=negated)
    except InputError as error:
        show.refuse(error)
        return
    show.change(where=clauses.join([*standing, clause], known))


def _clause(screen: Screen, field: Field, way: str) -> str | None:
    """The widget of a field's kind, and the clause that it says by now."""
    key = f"builder-{field.name}"
    if clauses.kind_of(field) == "typed" or way == "is, by typing":
        typed = st.text_input("One value", key=f"{key}-typed")
        return clauses.is_any_of(field, [typed]) if typed else None
    try:
        found = show.viewer().spread(
            screen, field.name, _OFFERED if clauses.kind_of(field) == "values" else 30
        )
    except InputError as error:
        show.notice("This filter cannot be built upon", error)
        return None
    match clauses.kind_of(field):
        case "range":
            return _range(field, key, found)
        case "dates":
            return _dates(field, key, found)
        case "words":
            words = st.text_input("All of these words", key=key)
            return clauses.has_words(field, words) if words.strip() else None
        case "truth":
            return clauses.is_true(field, st.radio("It is", ["true", "false"], key=key) == "true")
        case _:
            counts = {str(bucket.value): bucket.count for bucket in found.buckets}
            chosen = st.multiselect(
                "One of", list(counts), key=key, format_func=lambda v: f"{safe(v)} ({counts.get(v, 0):,})"
            )
            return clauses.is_any_of(field, chosen) if chosen else None


def _range(field: Field, key: str, found: Aggregate) -> str | None:
    if not found.buckets:
        st.caption("No sample of this screen has a value.")
        return None
    low, high = found.buckets[0].value, found.buckets[-1].end
    _bars(found)
    left, right = st.columns(2)
    first = left.number_input("From", value=low, key=f"{key}-low", format=_format(low, high))
    last = right.number_input("To", value=high, key=f"{key}-high", format=_format(low, high))
    return clauses.in_range(field, first, last)


def _format(low: float, high: float) -> str:
    return "%.0f" if float(low).is_integer() and float(high).is_integer() and high - low > 10 else "%.4g"


def _dates(field: Field, key: str, found: Aggregate) -> str | None:
    if not found.buckets:
        st.caption("No sample of this screen has a date.")
        return None
    _bars(found)
    left, right = st.columns(2)
    first = left.date_input("From the day", value=_day(found.buckets[0].value), key=f"{key}-low")
    last = right.date_input("To the end of", value=_day(found.buckets[-1].value), key=f"{key}-high")
    return clauses.on_days(field, first, last)


def _day(value: Any) -> date:
    return value.date() if isinstance(value, datetime) else date.fromisoformat(str(value)[:10])


def _bars(found: Aggregate) -> None:
    """A histogram, as a Vega-Lite specification."""
    dates = isinstance(found.buckets[0].value, datetime)
    kind = "temporal" if dates else "quantitative"
    rows = [
        {
            "from": b.value.isoformat() if dates else float(b.value),
            "to": _end(b.value, b.end) if dates else float(b.end),
            "samples": b.count,
        }
        for b in found.buckets
    ]
    interval = [{"field": name, "type": kind} for name in ("from", "to")]
    spec = {
        "data": {"values": rows},
        "mark": "rect",
        "height": 130,
        "encoding": {
            "x": {"field": "from", "type": kind, "title": None, "scale": {"zero": False, "nice": False}},
            "x2": {"field": "to"},
            "y": {"field": "samples", "type": "quantitative", "title": None, "axis": {"tickCount": 3}},
            "y2": {"datum": 0},
            "tooltip": [*interval, {"field": "samples", "type": "quantitative"}],
        },
    }
    st.vega_lite_chart(spec)
    if found.missing:
        st.caption(f"{found.missing:,} samples of this screen have no value.")


def _end(start: datetime, end: Any) -> str:
    return end.isoformat() if isinstance(end, datetime) else start.isoformat()
