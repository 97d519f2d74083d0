"""Commands about views: save, list, show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refinery.cli.output import Line, line, table
from refinery.cli.search import as_sort_field
from refinery.cli.session import ActorName, As, Json, start

if TYPE_CHECKING:
    from refinery.views import View

app = typer.Typer(no_args_is_help=True)
At = Annotated[int | None, typer.Option("--at", metavar="OFFSET", help="As it was after that ledger offset.")]


@app.command()
def save(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The view's name; its next version is saved.")],
    where: Annotated[
        str, typer.Argument(metavar="FILTER", help="SQL WHERE over `refinery fields`; empty selects all.")
    ] = "",
    text: Annotated[
        str | None, typer.Option("--text", metavar="WORDS", help="Words in captions and other text fields.")
    ] = None,
    sort: Annotated[
        str | None, typer.Option("--sort", metavar="FIELD[:desc]", help="Order by a field.")
    ] = None,
    actor: ActorName = None,
    as_: As = "person",
    as_json: Json = False,
) -> None:
    """Save a query under a name. Versions are immutable; what the newest one says already makes no new one."""
    session = start(ctx, as_json)
    found, new = session.project.views.save(
        name, where, session.actor(actor, as_), text=text, sort=as_sort_field(sort)
    )
    session.follow_ledger()
    session.out.show({**_document(found), "new": new}, lambda: _lines(found, new=new))


@app.command("list")
def list_(ctx: typer.Context, at: At = None, as_json: Json = False) -> None:
    """The newest version of every view."""
    session = start(ctx, as_json)
    found = session.project.views.all(at)
    session.out.show({"views": [_document(v) for v in found]}, lambda: _list_lines(found))


@app.command()
def show(
    ctx: typer.Context,
    ref: Annotated[str, typer.Argument(metavar="REF", help="`name@version`, or `name` for the newest one.")],
    at: At = None,
    as_json: Json = False,
) -> None:
    """What a view asks for, who saved it, and its versions."""
    session = start(ctx, as_json)
    views = session.project.views
    found = views.get(ref, at)
    versions = [v.version for v in views.versions(found.name, at)]
    session.out.show({**_document(found), "versions": versions}, lambda: _lines(found, versions=versions))


def _document(view: View) -> dict[str, Any]:
    return {"ref": view.ref, **asdict(view)}


def _lines(view: View, *, new: bool | None = None, versions: list[int] | None = None) -> Iterator[Line]:
    said = "" if new is None else "  (new)" if new else "  (says this already: no new version)"
    yield line((view.ref, "bold"), said)
    yield f"filter    {view.filter or 'all samples'}"
    if view.text:
        yield f"words     {view.text}"
    if view.sort:
        yield f"sort      {view.sort}"
    yield f"saved     {view.saved_at[:19]} by {view.saved_by}, ledger offset {view.offset:,}"
    if versions:
        yield f"versions  {', '.join(map(str, versions))}"


def _list_lines(views: list[View]) -> Iterator[Line]:
    if not views:
        yield 'There is no view yet: `refinery views save NAME "FILTER"` saves one.'
        return
    yield table(
        ["view", "filter", "words", "sort", "saved by"],
        ([v.ref, v.filter, v.text or "", v.sort or "", v.saved_by] for v in views),
    )
