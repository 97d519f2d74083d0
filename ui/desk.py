"""The desk: thumbnails that one selects and judges by mouse or keyboard, and the acts that come from there."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import streamlit as st

from refinery.cli.output import safe
from refinery.digests import digest_json
from refinery.errors import InputError, RefineryError
from ui import show
from ui.components import mount
from ui.core import NEED_REASON, Act

_ANSWERS = "desk-answers"
_MOST_ANSWERS = 100
_KEYS = {"keep": "k", "reject": "x", "review": "r", "blocked": "b"}
_FREE_KEYS = "123456789"


@dataclass(frozen=True, slots=True)
class Tile:
    """One sample on the desk: its verdict, a line of words, the flags that stand on it, its score, and a constant mark.
    `keeper`: it is the one that is proposed to be kept of its group."""

    sample_id: str
    verdict: str
    line: str = ""
    flags: Sequence[str] = ()
    score: float | None = None
    mark: str = ""
    keeper: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Tiles that belong together, under a title."""

    tiles: Sequence[Tile]
    title: str = ""


def desk(
    groups: Sequence[Group],
    *,
    key: str = "desk",
    following: str | None = None,
    triage: Literal["", "list", "clusters"] = "",
    focus: bool = True,
    plain: bool = False,
) -> None:
    """Show groups of samples. `following` is the cursor of the next page. With `triage` the desk moves on after each act,
    and whole clusters are judged at once; a `plain` desk has its keys and buttons only."""
    screen, viewer = show.screen(), show.viewer()
    ids = [tile.sample_id for group in groups for tile in group.tiles]
    pictures = {} if plain else viewer.thumbnails(ids)
    kinds = viewer.project.settings.known_flag_kinds
    own = iter(_FREE_KEYS)
    keys = {kind: _KEYS.get(kind) or next(own, "") for kind in kinds}
    data = {
        "project": digest_json(str(viewer.project.path))[:16],
        "shown": digest_json([key, ids])[:16],
        "groups": [
            {"title": safe(group.title), "tiles": [_tile(tile, pictures) for tile in group.tiles]}
            for group in groups
        ],
        "kinds": [{"kind": k, "key": keys[k], "needsReason": k in NEED_REASON} for k in kinds],
        "pages": {"first": bool(screen.cursor), "next": following is not None},
        "density": screen.density,
        "triage": triage,
        "readOnly": viewer.read_only,
        "name": show.actor_name(),
        "answers": st.session_state.get(_ANSWERS, {}),
        "focus": focus,
        "plain": plain,
    }
    st.session_state["desk-following"] = following or ""
    mount("desk", key, data, on_acts_change=lambda: _heard(key), on_go_change=lambda: _gone(key))


def _tile(tile: Tile, pictures: Mapping[str, bytes | None]) -> dict[str, Any]:
    data = pictures.get(tile.sample_id)
    return {
        "id": tile.sample_id,
        "image": base64.b64encode(data).decode() if data else "",
        "verdict": tile.verdict,
        "line": safe(tile.line),
        "flags": [safe(flag) for flag in tile.flags],
        "score": "" if tile.score is None else f"{tile.score:.3f}",
        "mark": tile.mark,
        "keeper": tile.keeper,
    }


def _gone(key: str) -> None:
    where = st.session_state[key].go
    if not isinstance(where, Mapping):
        return
    if isinstance(where.get("open"), str):
        show.change(sample=where["open"])
    elif isinstance(where.get("like"), str):
        show.change(like=where["like"], page="", sample="")
    elif where.get("page") == "next":
        show.change(cursor=st.session_state["desk-following"])
    elif where.get("page") == "first":
        show.change(cursor="")


def _heard(key: str) -> None:
    """Do what the browser asks for and has no answer to yet. It asks again until it hears the answer."""
    answers: dict[str, dict[str, Any]] = st.session_state.setdefault(_ANSWERS, {})
    said = st.session_state[key].acts
    for act in _acts_in(said):
        if act["id"] in answers:
            continue
        try:
            answers[act["id"]] = {"done": True, "text": safe(written(perform(act)))}
        except RefineryError as error:
            if not (error.retryable or error.kind == "ledger_busy"):
                answers[act["id"]] = {"done": False, "text": safe(error)}
    for old in list(answers)[:-_MOST_ANSWERS]:
        del answers[old]


def _acts_in(said: object) -> list[dict[str, Any]]:
    """The acts in what a browser sent; what has no id is none."""
    acts = said.get("acts") if isinstance(said, Mapping) else None
    found = acts if isinstance(acts, list) else []
    return [act for act in found if isinstance(act, dict) and isinstance(act.get("id"), str)]


def perform(act: Mapping[str, Any]) -> Act:
    """Do one act as the browser says it. InputError when it says none that there is."""
    acts, name = show.viewer().acts, show.actor_name(str(act.get("as", "")))
    match act:
        case {
            "do": "flag",
            "id": str(number),
            "kind": str(kind),
            "samples": list(samples),
            "reason": str(why),
        } if _texts(samples):
            return acts.flag(samples, kind, name, why, act=number)
        case {"do": "unflag", "id": str(number), "kind": str(kind), "samples": list(samples)} if _texts(
            samples
        ):
            return acts.unflag(samples, kind, name, act=number)
        case {"do": "tag", "id": str(number), "tag": str(tag), "samples": list(samples)} if _texts(samples):
            return acts.tag(samples, tag, name, act=number)
        case {
            "do": "decide",
            "id": str(number),
            "keep": list(keep),
            "reject": list(reject),
            "reason": str(why),
        } if _texts([*keep, *reject]):
            return acts.decide(keep, reject, name, why, act=number)
        case {"do": "undo", "id": str(number), "of": str(of)}:
            return acts.undo(name, of_act=of, act=number)
    raise InputError("The browser asked for an act that there is not.", kind="bad_act")


def _texts(ids: Sequence[object]) -> bool:
    return all(isinstance(i, str) for i in ids)


def written(act: Act) -> str:
    """What came of an act, in words."""
    said = f"{len(act.events):,} events" if len(act.events) != 1 else "1 event"
    place = f"{said} in the ledger, up to offset {act.events[-1].offset:,}."
    if act.behind:
        return f"{place} {act.behind} Verdicts and search follow at the next `refinery run`."
    return f"{place} Search knows it; verdicts follow at the next replay or `refinery run`."
