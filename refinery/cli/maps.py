"""Commands about an embedding space as a whole: map, gaps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from refinery.cli.output import Line, line, many
from refinery.cli.session import Json, start

if TYPE_CHECKING:
    from refinery.embedding_map import MapReport

app = typer.Typer()
Space = Annotated[str, typer.Option("--space", help="The embedding space.")]


@app.command("map")
def make_map(
    ctx: typer.Context,
    refit: Annotated[
        bool, typer.Option("--refit", help="Lay it out anew: everything may stand elsewhere afterwards.")
    ] = False,
    space: Space = "default",
    as_json: Json = False,
) -> None:
    """Make the map of the embedding space that the viewer shows, or place on it what is new. Nothing else needs it."""
    session = start(ctx, as_json)
    from refinery.embedding_map import EmbeddingMap

    made = EmbeddingMap.of(session.project, space)
    report = made.make(refit=refit, progress=session.out.progress)
    session.out.show(report.to_json(), lambda: _map_lines(report))


def _map_lines(report: MapReport) -> Iterator[Line]:
    did = "laid out" if report.fitted else "kept"
    yield line(
        (f"map of {many(report.samples, 'sample')}", "bold"),
        f" in {report.seconds:.1f} s: {many(report.landmarks, 'landmark')} {did}, {report.placed:,} samples placed now",
    )
