"""The command that computes a snapshot again somewhere else: snapshot rebuild."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from refinery.cli.output import Line, bytes_text, line, many
from refinery.cli.session import Json, start

if TYPE_CHECKING:
    from refinery.rebuild import RebuildReport

app = typer.Typer()


@app.command()
def rebuild(
    ctx: typer.Context,
    ref: Annotated[str, typer.Argument(metavar="REF", help="`name@version`, or `name` for the newest one.")],
    into: Annotated[
        str, typer.Option("--into", metavar="PLACE", help="An empty store: a folder, or s3://bucket/prefix.")
    ],
    endpoint: Annotated[
        str | None,
        typer.Option(
            "--endpoint",
            metavar="URL",
            help="The S3 service of --into, when it is not AWS.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compute a snapshot again in another store, from what its lock names: every verdict anew, the same root or an error."""
    session = start(ctx, as_json)
    from refinery.backends import store_at
    from refinery.rebuild import Rebuild

    work = Rebuild(session.project.store, store_at(into, endpoint), ref)
    report = work.run(session.out.progress(f"rebuild {work.snapshot.ref}"))
    session.out.show({**report.to_json(), "path": into}, lambda: _lines(report, into))


def _lines(report: RebuildReport, into: str) -> Iterator[Line]:
    yield line(
        (f"{report.snapshot} is rebuilt", "bold"),
        f" in {into}: the same root {report.root[:16]}, to the byte",
    )
    yield f"  computed again: {many(report.samples, 'verdict')}, of which {many(report.members, 'member')}"
    yield (
        f"  taken over and checked: {report.batches:,} batches, {report.facts:,} files of facts, {report.segments:,} ledger "
        f"segments, {report.blobs:,} blobs of {bytes_text(report.bytes)} ({report.copied:,} written now)"
    )
