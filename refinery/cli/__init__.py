"""`refinery`, the command line: the library's own calls, with words for people and JSON for machines.

Exit codes: 0 done · 2 the command line is wrong · 3 fix the input · 4 fix the config · 5 retry · 6 conflict ·
7 damaged data · 8 a gate failed. Errors that refinery does not raise on purpose are shown whole, never hidden.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from refinery.cli import (
    bronze,
    doctor,
    evals,
    explain,
    fields,
    flags,
    garbage,
    gate,
    gold,
    maps,
    policy,
    projects,
    proofs,
    propagate,
    rebuild,
    search,
    show,
    snapshots,
    takedown,
    undo,
    view,
    views,
)
from refinery.cli.session import Session
from refinery.errors import RefineryError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for part in (
    projects,
    bronze,
    gold,
    gate,
    search,
    show,
    flags,
    undo,
    propagate,
    takedown,
    garbage,
    explain,
    fields,
    doctor,
    maps,
    view,
):
    app.add_typer(part.app)
app.add_typer(policy.app, name="policy", help="What holds samples back; try another one.")
app.add_typer(snapshots.app, name="snapshot", help="Frozen datasets: create, list, compare, verify, prove.")
snapshots.app.add_typer(proofs.app)
snapshots.app.add_typer(garbage.snapshot)
app.add_typer(evals.app, name="evals", help="What evals of trained models said of samples.")
app.add_typer(evals.feedback, name="feedback", help="What users of trained models said of samples.")
app.add_typer(views.app, name="views", help="Saved queries: save, list, show.")
snapshots.app.add_typer(rebuild.app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    session = Session()
    try:
        app(args=arguments, obj=session, prog_name="refinery")
    except RefineryError as error:
        session.out.error(error)
        sys.exit(error.exit_code)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            number = version("image-refinery")
        except PackageNotFoundError:
            number = "(not installed: this is a bare checkout)"
        sys.stdout.write(f"refinery {number}\n")
        raise typer.Exit


@app.callback()
def _root(
    ctx: typer.Context,
    project: Annotated[
        Path, typer.Option("--project", metavar="DIR", help="The project's folder (it holds refinery.yaml).")
    ] = Path(),
    version: Annotated[  # noqa: ARG001
        bool,
        typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    """Raw pictures in, training-ready reproducible datasets out, every sample explained."""
    ctx.ensure_object(Session).folder = project
