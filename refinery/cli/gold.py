"""Commands that make things: run, export, rebuild-index."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from refinery.cli.output import Line, bytes_text, counted, line, many
from refinery.cli.session import Json, start
from refinery.errors import ConfigError

if TYPE_CHECKING:
    from refinery.export import ExportReport
    from refinery.projection import ProjectionReport

app = typer.Typer()


@app.command()
def run(ctx: typer.Context, as_json: Json = False) -> None:
    """Bring everything up to date; what is there is reused. Lands, inspects, embeds, clusters, judges, indexes, freezes and exports."""
    session = start(ctx, as_json)
    project = session.project
    report = code_location(project.settings.code_location).run(project, progress=session.out.progress)
    session.out.show(report.to_json(), report.lines)


@app.command()
def export(
    ctx: typer.Context,
    ref: Annotated[
        str, typer.Argument(metavar="REF", help="A snapshot: `name@version`, or `name` for the newest.")
    ],
    format_: Annotated[
        Literal["webdataset", "mds", "parquet"], typer.Option("--format", help="What to write.")
    ],
    size: Annotated[
        Literal["bucket", "fixed", "bytes"] | None,
        typer.Option(
            "--size", help="Aspect-ratio buckets, one fixed square, or the bytes untouched [bucket]."
        ),
    ] = None,
    side: Annotated[
        int | None, typer.Option("--side", help="Pictures get about side × side pixels [512].")
    ] = None,
    patch: Annotated[
        int | None, typer.Option("--patch", help="Sides of buckets are multiples of it [16].")
    ] = None,
    min_aspect: Annotated[
        float | None, typer.Option("--min-aspect", help="Width / height is larger [0.5].")
    ] = None,
    max_aspect: Annotated[
        float | None, typer.Option("--max-aspect", help="Width / height is smaller [2].")
    ] = None,
    encode: Annotated[
        Literal["jpeg", "png", "webp", "raw"] | None,
        typer.Option("--encode", help="Of resized pictures; raw is their pixels [jpeg]."),
    ] = None,
    quality: Annotated[int | None, typer.Option("--quality", help="Of jpeg and webp, 1 to 100 [92].")] = None,
    subsampling: Annotated[
        Literal["4:4:4", "4:2:0"] | None,
        typer.Option("--subsampling", help="Colour resolution of jpeg: full, or half and faster [4:4:4]."),
    ] = None,
    extra_images: Annotated[
        list[str] | None,
        typer.Option(
            "--extra-image",
            metavar="NAME",
            help="A payload that is resized as its picture is; may be repeated.",
        ),
    ] = None,
    compression: Annotated[
        Literal["zstd", "gz"] | None, typer.Option("--compression", help="Of whole MDS shards [none].")
    ] = None,
    samples_per_shard: Annotated[
        int | None, typer.Option("--samples-per-shard", help="The most samples in a shard [1024].")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Another seed, another shuffle [0].")] = None,
    split: Annotated[
        str | None, typer.Option("--split", metavar="NAME", help="Only this split of the snapshot.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Shards written at once; same bytes.")] = 1,
    as_json: Json = False,
) -> None:
    """Write a snapshot's shards. A finished shard is never written again; killed and repeated, the bytes are the same."""
    session = start(ctx, as_json)
    from refinery.export import parse_recipe

    asked = {
        "format": format_,
        "size": size,
        "side": side,
        "patch": patch,
        "min_aspect": min_aspect,
        "max_aspect": max_aspect,
        "encode": encode,
        "quality": quality,
        "subsampling": subsampling,
        "extra_images": extra_images,
        "compression": compression,
        "samples_per_shard": samples_per_shard,
        "seed": seed,
    }
    recipe = parse_recipe({name: value for name, value in asked.items() if value is not None})
    project = session.project
    snapshot = project.snapshots.get(ref)
    report = project.exporter.export(
        snapshot,
        recipe,
        split=split,
        workers=workers,
        progress=session.out.progress(f"export {snapshot.ref}"),
    )
    place = f"{project.store.url}/{report.prefix}"
    session.out.show({**asdict(report), "path": place}, lambda: _export_lines(report, place))


@app.command("rebuild-index")
def rebuild_index(ctx: typer.Context, as_json: Json = False) -> None:
    """Make the search index again from the store. The old one answers until the new one, of the same documents, is whole."""
    session = start(ctx, as_json)
    report = session.project.rebuild_index()
    session.out.show(asdict(report), lambda: _index_lines(report))


def code_location(name: str) -> Any:
    """The module that orders the stages, found as `dagster -m` finds it: on the path or in the current folder."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise ConfigError(
            f"code_location {name!r} of refinery.yaml cannot be imported: there is no module {error.name!r}. Run from "
            "the checkout that has it, or name another one.",
            kind="no_code_location",
        ) from None


def _export_lines(report: ExportReport, place: str) -> Iterator[Line]:
    yield line(
        (many(report.shards, "shard"), "bold"),
        f" of {report.snapshot}: {many(report.samples, 'sample')}, {bytes_text(report.bytes)}",
    )
    yield f"  {report.written:,} written, {report.reused:,} taken from the parent version, {report.found:,} found finished"
    yield f"  {counted(report.buckets)}"
    if report.stages.bottleneck is not None:
        yield f"  bottleneck: {report.stages.bottleneck} (time: {report.stages})"
    yield f"  {place}"


def _index_lines(report: ProjectionReport) -> Iterator[Line]:
    if report.overtaken:
        yield "Another process began to make the index again later, and goes on; this one gave way to it."
        return
    yield line((f"{report.documents:,} documents", "bold"), f" at ledger offset {report.ledger_offset:,}")
    yield f"  {report.upserted:,} written, {report.deleted:,} removed, {report.unchanged:,} unchanged"
