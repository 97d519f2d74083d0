"""Signing in to the viewer: the password, its slow-down, and what a viewer that others reach asks for."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from refinery.errors import ConfigError, InputError
from refinery.sign_in import Gate, check_sign_in, may_enter, person, read_password
from tests.test_viewer_app import click, run, shown, words

SECRET = "correct horse"
HERE = "192.0.2.7"


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate(clock: Clock) -> Gate:
    return Gate(SECRET, clock)


def kind(gate: Gate, password: str, address: str = HERE, name: str = "ana") -> str:
    """How a try is refused."""
    with pytest.raises(InputError) as refused:
        gate.enter(password, name, address)
    assert password not in str(refused.value)
    return refused.value.kind


def test_the_password_gives_a_ticket_that_names_the_person_until_they_leave(gate: Gate) -> None:
    ticket = gate.enter(SECRET, " ana ", HERE)
    assert gate.who(ticket) == "ana"
    assert gate.who(gate.enter(SECRET, "ben", HERE)) == "ben"
    gate.leave(ticket)
    assert gate.who(ticket) is None
    assert gate.who("") is None
    assert gate.who(ticket[:-1]) is None


def test_a_ticket_ends_after_twelve_hours(gate: Gate, clock: Clock) -> None:
    ticket = gate.enter(SECRET, "ana", HERE)
    clock.seconds = 12 * 3600 - 1
    assert gate.who(ticket) == "ana"
    clock.seconds += 1
    assert gate.who(ticket) is None


@pytest.mark.parametrize("wrong", ["", "correct", SECRET + " ", SECRET.upper(), "пароль\udcff"])
def test_another_password_is_wrong(gate: Gate, wrong: str) -> None:
    with pytest.raises(InputError) as refused:
        gate.enter(wrong, "ana", HERE)
    assert refused.value.kind == "wrong_password"


def test_nobody_enters_without_a_name(gate: Gate) -> None:
    assert kind(gate, SECRET, name=" ") == "no_actor"


def test_wrong_tries_make_the_next_one_wait_longer_and_longer_even_the_right_one(
    gate: Gate, clock: Clock
) -> None:
    assert [kind(gate, "guessed") for _ in range(4)] == [*["wrong_password"] * 3, "too_many_tries"]
    assert kind(gate, SECRET) == "too_many_tries"
    waits = []
    for _ in range(8):
        begin = clock.seconds
        while kind(gate, "guessed") == "too_many_tries":
            clock.seconds += 1
        waits.append(clock.seconds - begin)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    clock.seconds += 60
    gate.enter(SECRET, "ana", HERE)
    assert kind(gate, "guessed") == "wrong_password"
    gate.enter(SECRET, "ana", HERE)


def test_wrong_tries_from_one_place_keep_no_other_out(gate: Gate) -> None:
    for _ in range(4):
        kind(gate, "guessed", "2001:db8::1")
    assert kind(gate, SECRET, "2001:db8::2") == "too_many_tries"
    gate.enter(SECRET, "ana", "2001:db8:0:1::1")
    gate.enter(SECRET, "ana", HERE)


def test_what_is_remembered_of_strangers_is_bounded(gate: Gate) -> None:
    for n in range(10_050):
        kind(gate, "guessed", f"host {n}")
    assert len(gate._tries) == 10_000


def test_a_password_comes_from_a_file_before_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("from the file \n")
    there = {"REFINERY_VIEWER_PASSWORD": "from the environment"}
    assert read_password(file, there) == "from the file "
    assert read_password(None, there) == "from the environment"
    assert read_password(None, {"REFINERY_VIEWER_PASSWORD": ""}) is None


def test_a_password_that_cannot_be_one_is_refused_and_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="FileNotFoundError"):
        read_password(tmp_path / "none", {})
    with pytest.raises(ConfigError, match="fewer than 8") as refused:
        read_password(None, {"REFINERY_VIEWER_PASSWORD": "short"})
    assert "short" not in str(refused.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_others_reach_only_a_viewer_that_asks_who_they_are(host: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--password-file or --oidc"):
        check_sign_in(host, None, None, {})
    assert check_sign_in(host, None, None, {"REFINERY_VIEWER_PASSWORD": SECRET}) == []
    (tmp_path / "password").write_text(SECRET)
    assert check_sign_in(host, tmp_path / "password", None, {})[0] == "--password-file"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_this_machine_alone_needs_no_password(host: str) -> None:
    assert check_sign_in(host, None, None, {}) == []


AUTH = "[auth]\nredirect_uri = 'http://localhost:8501/oauth2callback'\n"


def test_openid_connect_needs_what_streamlit_needs_and_to_know_who_may_enter(tmp_path: Path) -> None:
    file = tmp_path / "secrets.toml"
    for text, missing in (
        ("[auth", "TOML"),
        ("[other]\na = 1", r"auth\.redirect_uri and auth\.cookie_secret"),
        (AUTH, r"auth\.cookie_secret"),
        (AUTH + "cookie_secret = 'x'", r"viewer\.people"),
        (AUTH + "cookie_secret = 'x'\n[viewer]\npeople = 'ana'", r"must be a list"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError, match=missing):
            check_sign_in("0.0.0.0", None, file, {})
    file.write_text(AUTH + "cookie_secret = 'x'\n[viewer]\npeople = ['@example.org']")
    assert check_sign_in("0.0.0.0", None, file, {}) == ["--oidc"]
    with pytest.raises(ConfigError, match="not both"):
        check_sign_in("127.0.0.1", tmp_path, file, {})


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"email": "ana@example.org", "sub": "1"}, "ana@example.org"),
        ({"email": "ana@example.org", "email_verified": True, "sub": "1"}, "ana@example.org"),
        ({"email": "ana@example.org", "email_verified": False, "sub": "1"}, "1"),
        ({"email": "ana@example.org", "email_verified": "false", "sub": "1"}, "1"),
        ({"name": "ana@example.org", "sub": "1"}, "1"),
        ({}, ""),
    ],
)
def test_a_person_has_the_name_that_their_provider_vouches_for(claims: dict[str, object], name: str) -> None:
    assert person(claims) == name


@pytest.mark.parametrize(
    ("name", "people", "may"),
    [
        ("ana@example.org", ["ANA@example.org"], True),
        ("ana@example.org", ["@example.org"], True),
        ("ana@example.org", ["*"], True),
        ("", ["*"], False),
        ("ana@evil.example.org", ["@example.org"], False),
        ("@example.org", [], False),
        ("example.org", ["@example.org"], False),
        ("ana@example.org", ["ana@example.com", "ana"], False),
    ],
)
def test_only_people_who_are_named_enter(name: str, people: list[str], may: bool) -> None:
    assert may_enter(name, people) is may


def test_the_pages_ask_before_they_show_anything(
    monkeypatch: pytest.MonkeyPatch, refined_folder: Path
) -> None:
    monkeypatch.setenv("REFINERY_VIEWER_PASSWORD", SECRET)
    app = run(monkeypatch, refined_folder, page="fields")
    assert not app.header
    assert not app.dataframe
    assert not app.radio
    app.text_input(key="typed-name").set_value("ana")
    app.text_input(key="typed-password").set_value("something else")
    app = click(app, "Sign in")
    assert "That is not the password." in words(app)
    assert not app.header
    app.text_input(key="typed-password").set_value(SECRET)
    app = click(app, "Sign in")
    assert app.header[0].value == "Fields"
    assert app.text_input(key="name").value == "ana"
    assert app.session_state["typed-password"] == ""  # the password is kept nowhere
    monkeypatch.setenv("REFINERY_VIEWER_PASSWORD", "another one by now")
    assert not shown(app.run()).header
    monkeypatch.setenv("REFINERY_VIEWER_PASSWORD", SECRET)
    app = click(shown(app.run()), "Sign out")
    assert not app.header
    assert app.text_input(key="typed-password")


def test_nobody_acts_in_the_name_of_another_when_a_provider_vouches() -> None:
    def page() -> None:
        import streamlit as st

        from refinery.errors import InputError
        from ui import show

        st.session_state["name"] = "ana@example.org"
        st.text(show.actor_name("ben"))
        st.session_state[show.VOUCHED] = True
        st.text(show.actor_name("ana@example.org"))
        st.text(show.actor_name())
        try:
            st.text(show.actor_name("ben"))
        except InputError as error:
            st.text(error.kind)

    app = shown(AppTest.from_function(page).run())
    assert words(app).splitlines() == ["ben", "ana@example.org", "ana@example.org", "another_person"]
