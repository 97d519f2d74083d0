"""Map: the embedding space at a glance, a lasso to take samples from it, and what gold lacks."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import streamlit as st

from refinery.cli.output import safe
from refinery.embedding_map import MapStatus
from refinery.errors import RefineryError
from refinery.gaps import Gap, GapReport
from refinery.progress import Progress
from ui import builder, show
from ui.browse import tile
from ui.components import mount
from ui.core import Screen, lasso, quoted
from ui.core.map import COLOURS, Kind, MapView, Picture
from ui.desk import Group, Tile, desk

_COLOURS = {
    "": "Verdict",
    "source": "Source",
    "cluster": "Cluster",
    "flag": "Flag",
    "near_duplicate": "Near-duplicate",
}
_PICKED = "map-picked"


def page() -> None:
    """The map, or what it takes to have one."""
    screen = show.screen()
    st.header("Map")
    view = _view()
    try:
        status = view.status()
        if status is None:
            _none_yet(view)
            return
        if status.missing:
            _place(view, status)
        builder.bar(screen)
        st.segmented_control(
            "Colour",
            list(COLOURS),
            format_func=lambda c: _COLOURS[c],
            **show.bound("colour", screen.colour if screen.colour in COLOURS else ""),
        )
        polygon = lasso.from_link(screen.lasso) if screen.lasso else []
        picture = view.picture(screen)
    except RefineryError as error:
        show.notice("This cannot be shown", error)
        st.button("Start anew", on_click=show.go, args=(Screen(page="map"),))
        return
    _scatter(screen, picture, polygon)
    _below(view, status)
    st.divider()
    _gaps(screen, view)


def _view() -> MapView:
    """The map of this session's viewer."""
    viewer = show.viewer()
    known: tuple[object, MapView] | None = st.session_state.get("map-view")
    if known is None or known[0] is not viewer:
        known = st.session_state["map-view"] = (viewer, MapView(viewer))
    return known[1]


def _none_yet(view: MapView) -> None:
    st.subheader("There is no map yet")
    st.caption(
        "A map gives each sample with a vector a place, so that near is alike. Making it takes seconds to minutes; new samples "
        "are placed on it later, and nothing moves."
    )
    if show.viewer().read_only:
        st.caption("This viewer is read only: `refinery map` makes it.")
    elif st.button("Make the map", type="primary"):
        _make(view, refit=False)


def _make(view: MapView, *, refit: bool) -> None:
    with st.status("Making the map", expanded=True) as status:
        try:
            report = view.make(refit=refit, progress=_Bar)
        except RefineryError as error:
            status.update(label="There is no map", state="error")
            show.text(error)
            return
        status.update(label=f"Made in {report.seconds:.1f} s", state="complete")
    st.rerun()


def _place(view: MapView, status: MapStatus) -> None:
    if show.viewer().read_only:
        st.caption(
            f"Samples of {status.missing:,} batches are not on the map yet: `refinery map` places them."
        )
        return
    view.place(_Bar)


class _Bar:
    """Progress as a bar on the page."""

    def __init__(self, title: str) -> None:
        self._title, self._done, self._total, self._unit = title, 0, 1, ""
        self._bar: Any = None

    def start(self, total: int | None, unit: str) -> None:
        self._done, self._total, self._unit = 0, total or 1, unit
        self._bar = st.progress(0.0)
        self._show()

    def advance(self, n: int, bytes: int = 0) -> None:
        self._done += n
        self._show()

    def done(self) -> None:
        self._bar.empty()

    def _show(self) -> None:
        words = f"{self._title}: {self._done:,} of {self._total:,} {self._unit}"
        self._bar.progress(min(self._done / self._total, 1.0), words)


_MAKES: type[Progress] = _Bar


def _scatter(screen: Screen, picture: Picture, polygon: list[tuple[float, float]]) -> None:
    shown = len(picture.ids)
    picked = st.session_state.get(_PICKED)
    if picked not in picture.ids:
        picked = None
    data = {
        "x_y": base64.b64encode(picture.places.tobytes()).decode(),
        "kinds": base64.b64encode(picture.kinds.tobytes()).decode(),
        "legend": [_kind(kind, screen.colour) for kind in picture.legend],
        "lasso": polygon,
        "shown": f"{shown:,} of {picture.selected:,} shown"
        + (f", {picture.unplaced:,} without a place" if picture.unplaced else ""),
        "picked": _picked(picked, picture) if picked else None,
        "verdicts": COLOURS.get(screen.colour, "verdict") == "verdict",
    }
    st.session_state["map-shown"] = picture.ids
    mount("scatter", "scatter", data, on_go_change=_gone)
    if screen.lasso:
        inside = len(show.viewer().ids_inside(screen))
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{inside:,}** samples in the lasso", width="content")
            st.button("Show in grid", type="primary", on_click=show.change, kwargs={"page": ""})
            st.button("Without the lasso", on_click=show.change, kwargs={"lasso": ""})


def _kind(kind: Kind, colour: str) -> dict[str, Any]:
    """A line of the legend. A cluster is named by how its id begins."""
    word = kind.value[:12] if colour == "cluster" else kind.value
    return {"word": safe(word), "count": f"{kind.count:,}", "special": kind.special}


def _picked(sample_id: str, picture: Picture) -> dict[str, Any]:
    viewer = show.viewer()
    document: Mapping[str, Any] = viewer.documents([sample_id])[sample_id] or {}
    image = viewer.thumbnails([sample_id])[sample_id]
    reasons = ", ".join(document.get("reasons") or ())
    return {
        "at": picture.ids.index(sample_id),
        "id": sample_id,
        "image": base64.b64encode(image).decode() if image else "",
        "verdict": document.get("verdict") or "",
        "line": safe(reasons or document.get("caption") or ""),
    }


def _gone() -> None:
    """What the browser asks for: a point that was clicked, its sample, or a lasso."""
    asked = st.session_state["scatter"].go
    if not isinstance(asked, Mapping):
        return
    ids = st.session_state.get("map-shown", ())
    match asked:
        case {"pick": int(at)} if 0 <= at < len(ids):
            st.session_state[_PICKED] = ids[at]
        case {"pick": None}:
            st.session_state.pop(_PICKED, None)
        case {"open": str(sample_id)}:
            show.change(sample=sample_id)
        case {"lasso": list(corners)}:
            try:
                show.change(lasso=lasso.to_link(corners) if corners else "")
            except (RefineryError, TypeError, ValueError, OverflowError):
                show.change(lasso="")


def _below(view: MapView, status: MapStatus) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"Laid out by {status.landmarks:,} landmarks of {status.samples:,} samples.")
        if show.viewer().read_only:
            return
        if view.outgrown(status):
            st.badge("△ The map is outgrown", color="orange")
        again = st.button(
            "Lay out anew", help="Everything may stand elsewhere afterwards, lassos of links too."
        )
    if again:
        _make(view, refit=True)


def _gaps(screen: Screen, view: MapView) -> None:
    st.subheader("Gaps")
    st.caption(
        "What a set should hold and hardly does: regions of the target whose pictures have few like them in the set. Looked for "
        "when you say so, and kept until you leave."
    )
    left, right = st.columns(2)
    with left:
        st.text_input(
            "Target",
            placeholder="a filter; empty for all that you own",
            help="What the set should cover.",
            **show.bound("target", screen.target),
        )
    with right:
        _choose_set(screen)
    known = view.known_gaps(screen)
    with st.container(horizontal=True, vertical_alignment="center"):
        if known is not None and not known[1]:
            st.badge("△ Found before the last changes", color="orange")
        asked = (known is None or not known[1]) and st.button(
            "Look for gaps" if known is None else "Look again"
        )
    if asked:
        try:
            view.gaps(screen, _Bar)
        except RefineryError as error:
            show.notice("No gaps can be told", error)
            return
        st.rerun()
    if known is not None:
        _proposals(screen, known[0])


def _choose_set(screen: Screen) -> None:
    """Gold, a snapshot, or any other filter that one types."""
    refs = show.viewer().project.snapshots.refs()
    names = {"": "gold, as it is now", **{f"in_dataset({quoted(ref)})": ref for ref in refs}}
    options = [*names, *{screen.covered}.difference(names)]
    st.selectbox(
        "Set",
        options,
        format_func=lambda option: safe(names.get(option, option)),
        accept_new_options=True,
        help="Gold, a snapshot, or type a filter.",
        **show.bound("covered", screen.covered),
    )


def _proposals(screen: Screen, report: GapReport) -> None:
    """What was found: a line, and a row of the desk for each gap."""
    compared = report.targets_compared < report.targets or report.covered_compared < report.covered
    typical = (
        ""
        if report.typical_distance is None
        else f"; samples of the set are {report.typical_distance:.3f} from their nearest"
    )
    st.markdown(
        f"**{report.found:,}** gaps of a set of {report.covered:,} in {report.targets:,} targets{typical}"
        + (f". {report.targets_compared:,} of the targets were compared" if compared else "")
    )
    if not report.gaps:
        st.caption("The set covers the target as densely everywhere.")
        return
    with st.container(horizontal=True):
        for number, gap in enumerate(report.gaps, 1):
            st.button(
                f"Gap {number} in grid",
                key=f"gap-{number}",
                help="What you own of the target, the most like the middle of this gap first.",
                on_click=show.change,
                kwargs={"page": "", "lasso": "", "like": gap.examples[0], "where": screen.target},
            )
    shown = [i for gap in report.gaps for i in (*gap.examples, *(c.sample_id for c in gap.candidates))]
    found = show.viewer().documents(list(dict.fromkeys(shown)))
    groups = [_group(number, gap, found) for number, gap in enumerate(report.gaps, 1)]
    desk(groups, key="desk-gaps", focus=False)


def _group(number: int, gap: Gap, found: Mapping[str, Mapping[str, Any] | None]) -> Group:
    """One gap on the desk: examples of it, then what one owns to fill it."""
    marks = dict.fromkeys(gap.examples, "example")
    distances = {near.sample_id: near.distance for near in gap.candidates}
    for sample_id in distances:
        marks.setdefault(sample_id, "candidate")
    documents = {i: found[i] for i in marks}
    tiles = [
        tile(document, distances.get(i), marks[i]) if document is not None else Tile(i, "", mark=marks[i])
        for i, document in documents.items()
    ]
    far = f"{gap.distance:.3f} from the set (median)" if gap.nearest else "nothing in the set is near"
    title = f"Gap {number}: {gap.samples:,} samples, {far}, {gap.lacking:,.0f} lacking"
    return Group(tiles, title)
