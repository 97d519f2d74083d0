"""The command that looks for what is wrong: doctor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import typer

from refinery.cli.output import Line, line
from refinery.cli.session import Json, Session, start
from refinery.doctor import Finding, check, examine

app = typer.Typer()


@app.command()
def doctor(ctx: typer.Context, as_json: Json = False) -> None:
    """Look for what is wrong, with a fix for each finding. Exit code 7 when data is damaged."""
    session = start(ctx, as_json)
    findings = list(_examine(session))
    code = max(f.exit_code for f in findings)
    document = {
        "ok": code == 0,
        "checks": [{k: v for k, v in asdict(f).items() if k != "exit_code"} for f in findings],
    }
    session.out.show(document, lambda: _lines(findings))
    if code:
        raise typer.Exit(code)


def _examine(session: Session) -> Iterator[Finding]:
    """Every check in turn; without a project nothing else can be looked at."""
    opened = check("project", lambda: _project(session), "`refinery init DIR` makes a project")
    yield opened
    if opened.state != "broken":
        location = (
            "code location",
            lambda _: _code_location(session),
            "see `code_location:` in refinery.yaml",
        )
        yield from examine(session.project, location)


def _project(session: Session) -> str:
    project = session.project
    return f"{project.path}, policy {project.policy.name}"


def _code_location(session: Session) -> str:
    from refinery.cli.gold import code_location

    name = session.project.settings.code_location
    code_location(name)
    return name


def _lines(findings: list[Finding]) -> Iterator[Line]:
    styles = {"ok": "green", "attention": "yellow", "broken": "bold red"}
    for finding in findings:
        yield line((f"{finding.state:10}", styles[finding.state]), f"{finding.check:14}{finding.found}")
        if finding.fix:
            yield f"{'':24}fix: {finding.fix}"
