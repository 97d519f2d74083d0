"""The command of bronze: ingest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from refinery.cli.output import Line, bytes_text, counted, line, many, table
from refinery.cli.session import Json, start
from refinery.config import S3Connection
from refinery.sources.uris import is_object

if TYPE_CHECKING:
    from refinery.ingest import IngestReport

app = typer.Typer()
_SHOWN = 20


@app.command()
def ingest(
    ctx: typer.Context,
    place: Annotated[
        str,
        typer.Argument(
            metavar="PLACE",
            help="A folder of any depth, a CSV, JSONL or Parquet manifest, WebDataset tars, or s3://BUCKET/PREFIX.",
        ),
    ],
    source: Annotated[
        str, typer.Option("--source", metavar="NAME", help="What to call where these come from.")
    ],
    kind: Annotated[
        Literal["folder", "manifest", "webdataset", "s3"] | None,
        typer.Option("--kind", help="What PLACE is; guessed from it when left out.", show_default=False),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            "--root", metavar="DIR", help="Manifests: what paths are relative to and may not leave."
        ),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            "--endpoint", metavar="URL", help="S3: the service, when it is not AWS.", show_default=False
        ),
    ] = None,
    region: Annotated[
        str | None, typer.Option("--region", metavar="NAME", help="S3: its region.", show_default=False)
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option("--profile", metavar="NAME", help="S3: whose credentials, by name.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Take in raw pictures with sidecars and payloads. What was taken in before is not read again.

    How a service on S3 is reached may stand in refinery.yaml under `sources:` instead, in the entry of this NAME.
    """
    from refinery.ingest import ingest as take_in
    from refinery.sources import open_source

    session = start(ctx, as_json)
    project = session.project
    given = S3Connection(endpoint=endpoint, region=region, profile=profile)
    known = {s.name: s.connection for s in project.settings.sources if s.url}
    connection = known.get(source, given) if given == S3Connection() and is_object(place) else given
    report = take_in(
        project.store,
        project.fields,
        open_source(place, name=source, kind=kind, root=root, connection=connection),
        batch_size=project.settings.batch_size,
        max_bytes=project.settings.inspect.max_bytes,
        progress=session.out.progress("ingest"),
    )
    session.out.show(report.to_json(), lambda: _lines(report))


def _lines(report: IngestReport) -> Iterator[Line]:
    totals = report.totals
    if not report.batches:
        why = f"{report.unchanged:,} entries are unchanged" if report.unchanged else "there is nothing in it"
        yield f"Nothing new in source {report.source}: {why}."
        return
    yield line(
        (many(totals["samples"], "sample"), "bold"),
        f" in {many(len(report.batches), 'batch')} of source {report.source}, {bytes_text(totals['bytes'])}",
    )
    yield f"  {totals['entries']:,} entries = {totals['origins']:,} origins + {totals['entries'] - totals['origins']:,} unreadable"
    yield f"  {totals['new']:,} samples new, {totals['known']:,} known, {totals['over_cap']:,} over the cap (not kept)"
    yield f"  {many(totals['sidecars'], 'sidecar')}, {many(totals['payloads'], 'payload')}"
    if report.unchanged:
        yield f"  {report.unchanged:,} entries unchanged since before"
    ignored: dict[str, int] = {}
    for batch in report.batches:
        for reason, n in batch.ignored.items():
            ignored[reason] = ignored.get(reason, 0) + n
    if ignored:
        yield f"  ignored: {counted(ignored)}"
    unreadable = [item for batch in report.batches for item in batch.unreadable]
    if unreadable:
        yield line((f"{len(unreadable):,} unreadable", "yellow"))
        yield table(["reason", "what", "detail"], ([u.reason, u.uri, u.detail] for u in unreadable[:_SHOWN]))
        if len(unreadable) > _SHOWN:
            yield f"… and {len(unreadable) - _SHOWN:,} more (--json lists them all)"
    aside = {(a.key, a.why): a for batch in report.batches for a in batch.aside}
    if aside:
        yield line(("Kept aside: ", "yellow"), "keys that are no registered field, or do not fit one")
        for found in aside.values():
            yield f"  {found.key} ({found.why}, {found.count:,} times). {found.hint.strip()}"
        yield "  `refinery fields add NAME --type TYPE` registers a key; values kept aside then join in."
    yield "Next: refinery run"
