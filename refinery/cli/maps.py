"""Commands about an embedding space as a whole: map, gaps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from refinery.cli.output import Line, line, many
from refinery.cli.session import Json, start

if TYPE_CHECKING:
    from refinery.embedding_map import MapReport
    from refinery.gaps import GapReport

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


@app.command("gaps")
def find_gaps(
    ctx: typer.Context,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="FILTER", help="What should be covered [everything owned]."),
    ] = None,
    covered: Annotated[
        str | None, typer.Option("--covered", metavar="FILTER", help="The set [verdict = 'gold'].")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100, help="The most regions.")] = 10,
    space: Space = "default",
    as_json: Json = False,
) -> None:
    """Find what a set should hold and hardly does, by likeness: regions with examples, distances, and the nearest samples
    that you own and could add."""
    session = start(ctx, as_json)
    project = session.project
    from refinery.filter import parse
    from refinery.gaps import gaps

    fields = project.fields
    wanted, chosen = (parse(text, fields) if text else None for text in (target, covered))
    report = gaps(project, wanted, chosen, limit, space=space, progress=session.out.progress)
    session.out.show(report.to_json(), lambda: _gap_lines(report))


def _gap_lines(report: GapReport) -> Iterator[Line]:
    yield line(
        (f"{many(report.found, 'gap')} of {report.covered_by}", "bold"),
        f": {report.covered:,} of the set, {many(report.targets, 'sample')} to cover",
    )
    if (report.targets_compared, report.covered_compared) < (report.targets, report.covered):
        yield f"compared {report.targets_compared:,} and {report.covered_compared:,} of them, a uniform sample"
    if report.typical_distance is not None:
        yield f"a sample of the set is {report.typical_distance:.3f} from its nearest other one (median)"
    for number, gap in enumerate(report.gaps, 1):
        yield line(
            (f"{number}. {many(gap.samples, 'sample')}", "bold"), f" {gap.distance:.3f} from the set (median)"
        )
        yield f"   such as {' '.join(i[:12] for i in gap.examples)}"
        near = " ".join(f"{c.sample_id[:12]} ({c.verdict}, {c.distance:.3f})" for c in gap.candidates)
        yield f"   you own {near}" if near else "   you own nothing to fill it with"


def _map_lines(report: MapReport) -> Iterator[Line]:
    did = "laid out" if report.fitted else "kept"
    yield line(
        (f"map of {many(report.samples, 'sample')}", "bold"),
        f" in {report.seconds:.1f} s: {many(report.landmarks, 'landmark')} {did}, {report.placed:,} samples placed now",
    )
