"""The command that judges a dataset's step from one snapshot to another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refinery.cli.output import Line, line, many, table
from refinery.cli.session import Json, start
from refinery.cli.snapshots import Ref
from refinery.errors import GateError, InputError

if TYPE_CHECKING:
    from refinery.gates import GateReport

app = typer.Typer()
_SHOWN = 5


@app.command()
def gate(
    ctx: typer.Context,
    base: Ref,
    head: Ref,
    rules: Annotated[
        Path,
        typer.Option("--rules", metavar="FILE", help="The rules, in YAML; docs/gates.md has every kind."),
    ],
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE.md", help="Write a Markdown report here.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Judge the step from one snapshot to another: size, balance, duplicates, leakage, drift. Exit code 8 when it fails."""
    session = start(ctx, as_json)
    found = session.project.gate(base, head, rules)
    if report is not None:
        try:
            report.write_text(found.markdown(), encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"The report cannot be written to {report}: {error.strerror}. Name a file in a folder that is there.",
                kind="unwritable_report",
            ) from None
    document = {**found.to_json(), "report": None if report is None else str(report)}
    session.out.show(document, lambda: _lines(found))
    if not found.passed:
        raise typer.Exit(GateError.exit_code)


def _lines(found: GateReport) -> Iterator[Line]:
    passed = f"passed all {many(len(found.results), 'rule')}"
    failed = f"failed {len(found.failed)} of {many(len(found.results), 'rule')}"
    yield line(
        (f"{found.base.ref} → {found.head.ref}  ", "bold"),
        (passed, "green") if found.passed else (failed, "bold red"),
    )
    yield table(
        ["rule", "kind", "measure", "value", "bound", ""],
        (
            [result.rule, result.kind, m.name, m.text, m.bound, "" if m.passed else "failed"]
            for result in found.results
            for m in result.measures
        ),
        right=["value"],
    )
    for result in found.results:
        yield line(
            (f"{'passed' if result.passed else 'failed'}  ", "green" if result.passed else "red"),
            f"{result.rule}: {result.sentence}",
        )
        for finding in result.findings:
            yield f"        {finding}"
        for e in result.evidence[:_SHOWN]:
            yield f"        {e.sample_id[:12]}  {e.note}{f' {e.other[:12]}' if e.other else ''}"
        if len(result.evidence) > _SHOWN:
            yield f"        … and {len(result.evidence) - _SHOWN} more (--report FILE.md, or --json)"
