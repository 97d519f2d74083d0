"""Signing in: by the one password, or through OpenID Connect as Streamlit does it. Nothing else is shown before."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import streamlit as st

from refinery.errors import RefineryError
from refinery.sign_in import VALID, Gate, may_enter, person, read_password
from ui import show
from ui.components import mount

_TICKET = "ticket"
_KEEP = "keep-ticket"


def passed(password_file: Path | None, oidc: bool) -> bool:
    """Whether this browser may see the project; if not, the page asks. `name` of the session is who they are."""
    if oidc:
        return _signed_in()
    password = read_password(password_file, os.environ)
    if password is None:
        return True
    gate = _gate(password)
    _keep()
    ticket = st.session_state.get(_TICKET) or str(st.context.cookies.get(_cookie(), ""))
    name = gate.who(ticket)
    if name is None:
        _ask(gate)
        return False
    st.session_state[_TICKET] = ticket
    st.session_state.setdefault("name", name)
    return True


def identity(password_file: Path | None, *, read_only: bool) -> None:
    """In the sidebar: who one is, and the way out. The name can be changed unless a provider vouches for it."""
    if st.session_state.get(show.VOUCHED):
        st.caption("You are")
        show.text(st.session_state["name"])
        st.button("Sign out", on_click=st.logout)
        return
    if not read_only:
        st.session_state["name"] = st.session_state["name"]  # outlives pages that do not show it
        st.text_input("You are", key="name", help="Every flag, tag and undo carries this name.")
    if _TICKET in st.session_state:
        st.button("Sign out", on_click=_leave, args=(password_file,))


@st.cache_resource(show_spinner=False)
def _gate(password: str) -> Gate:
    """The gate of all sessions of this server; another one for another password."""
    return Gate(password)


def _ask(gate: Gate) -> None:
    with st.container(width=420):
        show.said()
    with st.form("sign-in", width=420):
        st.subheader("Sign in")
        st.text_input("You are", key="typed-name", autocomplete="username")
        st.text_input("Password", type="password", key="typed-password", autocomplete="current-password")
        st.form_submit_button("Sign in", type="primary", on_click=_enter, args=(gate,))


def _enter(gate: Gate) -> None:
    try:
        ticket = gate.enter(
            st.session_state["typed-password"],
            st.session_state["typed-name"],
            str(st.context.ip_address or ""),
        )
    except RefineryError as error:
        show.refuse(error)
    else:
        st.session_state[_TICKET] = st.session_state[_KEEP] = ticket
        st.session_state["name"] = gate.who(ticket)
    finally:
        st.session_state["typed-password"] = ""


def _leave(password_file: Path | None) -> None:
    password = read_password(password_file, os.environ)
    if password is not None:
        _gate(password).leave(st.session_state[_TICKET])
    st.session_state.clear()
    st.session_state[_KEEP] = ""


def _keep() -> None:
    """Tell the browser to keep or forget the ticket, in the one run after it changed."""
    if (ticket := st.session_state.pop(_KEEP, None)) is not None:
        mount("cookie", "cookie", {"name": _cookie(), "value": ticket, "seconds": int(VALID)})


def _cookie() -> str:
    """Cookies belong to a host with all its ports: two viewers of one machine keep two."""
    return f"refinery_viewer_{st.get_option('server.port')}"


def _signed_in() -> bool:
    if st.user.is_logged_in:
        name = person(st.user.to_dict())
        if may_enter(name, st.secrets["viewer"]["people"]):
            st.session_state["name"] = name
            st.session_state[show.VOUCHED] = True
            return True
        show.notice("You may not see this project", name)
        st.button("Sign out", on_click=st.logout)
        return False
    auth = st.secrets["auth"]
    providers = [name for name, value in auth.items() if isinstance(value, Mapping) and "client_id" in value]
    st.subheader("Sign in")
    if "client_id" in auth:
        st.button("Sign in", type="primary", on_click=st.login)
    for name in providers:
        st.button(f"Sign in with {name}", type="primary", on_click=st.login, args=(name,))
    return False
