"""Signing in to the viewer, in a real browser: by password, and through an OpenID Connect provider."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from dagster_ui import ROOT
from oidc_provider import CLIENT, SECRET, provider
from playwright.sync_api import Page, expect
from viewer import MARKS, free_port, started

PASSWORD = "correct horse battery"

pytestmark = MARKS


def sign_in(page: Page, name: str, password: str) -> None:
    page.get_by_label("You are", exact=True).fill(name)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Sign in").click()


def secrets_toml(file: Path, issuer: str, port: int, people: str) -> Path:
    file.write_text(
        f"""
[auth]
redirect_uri = "http://127.0.0.1:{port}/oauth2callback"
cookie_secret = "a long secret of this test, and of nobody else"
client_id = "{CLIENT}"
client_secret = "{SECRET}"
server_metadata_url = "{issuer}/.well-known/openid-configuration"

[viewer]
people = ["{people}"]
"""
    )
    return file


def test_nothing_is_seen_before_the_password_and_a_reload_keeps_one_in(
    page: Page, refined_folder: Path, tmp_path: Path
) -> None:
    file, log = tmp_path / "password", tmp_path / "log"
    file.write_text(PASSWORD + "\n")
    with started(refined_folder, "--password-file", str(file), log=log) as (address, server):
        page.goto(f"{address}/?verdict=gold")
        expect(page.get_by_role("button", name="Sign in")).to_be_visible()
        assert page.get_by_text("samples match").count() == 0
        sign_in(page, "ana", "another one")
        expect(page.get_by_text("That is not the password.")).to_be_visible()
        assert page.get_by_text("samples match").count() == 0
        sign_in(page, "ana", PASSWORD)
        expect(page.get_by_text("samples match")).to_be_visible()
        expect(page.get_by_label("You are", exact=True)).to_have_value("ana")
        page.reload()
        expect(page.get_by_text("samples match")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("Password", exact=True)).to_be_visible()
        page.reload()
        expect(page.get_by_label("Password", exact=True)).to_be_visible()
        for process in (server.pid, *children(server.pid)):
            assert PASSWORD.encode() not in Path(f"/proc/{process}/cmdline").read_bytes()
    assert PASSWORD not in log.read_text()


def children(pid: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_who_signs_in_with_openid_connect_acts_in_the_name_their_provider_vouches_for(
    page: Page, refined_folder: Path, tmp_path: Path
) -> None:
    port = free_port()
    with provider({"sub": "1", "email": "ana@example.org"}) as issuer:
        file = secrets_toml(tmp_path / "secrets.toml", issuer, port, "@example.org")
        with started(refined_folder, "--oidc", str(file), port=port) as (address, _):
            page.goto(address)
            expect(page.get_by_role("button", name="Sign in")).to_be_visible()
            assert page.get_by_text("samples match").count() == 0
            page.get_by_role("button", name="Sign in").click()
            expect(page.get_by_text("samples match")).to_be_visible()
            expect(page.get_by_text("ana@example.org", exact=True)).to_be_visible()
            expect(page.get_by_label("You are", exact=True)).to_have_count(0)


def test_a_person_who_is_not_named_sees_nothing(page: Page, refined_folder: Path, tmp_path: Path) -> None:
    port = free_port()
    with provider({"sub": "1", "email": "ana@example.org", "email_verified": False}) as issuer:
        file = secrets_toml(tmp_path / "secrets.toml", issuer, port, "@example.org")
        with started(refined_folder, "--oidc", str(file), port=port) as (address, _):
            page.goto(address)
            page.get_by_role("button", name="Sign in").click()
            expect(page.get_by_text("You may not see this project")).to_be_visible()
            assert page.get_by_text("samples match").count() == 0


def test_a_viewer_that_others_reach_asks_who_they_are(refined_folder: Path) -> None:
    command = [sys.executable, "-m", "refinery.cli", "--project", str(refined_folder), "view"]
    done = subprocess.run(
        [*command, "--host", "0.0.0.0"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 4
    assert "--password-file or --oidc" in done.stderr
