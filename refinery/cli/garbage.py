"""Commands that free space: gc, and snapshot rm."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from refinery.cli.output import Line, bytes_text, line, many
from refinery.cli.session import ActorName, As, Json, start
from refinery.cli.snapshots import Ref
from refinery.cli.takedown import Yes
from refinery.errors import InputError

if TYPE_CHECKING:
    from refinery.gc import GarbageReport
    from refinery.removal import Dependents

app = typer.Typer()
snapshot = typer.Typer()
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_WORDS = {
    "roots": "pointers to trees of states",
    "states": "states",
    "inputs": "inputs kept for replays",
    "exports": "exports",
    "facts": "facts of former steps",
    "locks": "what removed snapshots left",
    "maps": "former maps",
}


@app.command()
def gc(
    ctx: typer.Context,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="TIME", help="Leave alone what is younger: 7d, 12h, 30m.")
    ] = "7d",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Free what no snapshot, no export and not the newest state needs. Without --yes nothing is removed.
    No run may take longer than --older-than."""
    session = start(ctx, as_json)
    garbage = session.project.garbage(duration(older_than))
    report = garbage.collect() if yes else garbage.find()
    session.out.show(report.to_json(), lambda: _gc_lines(report, older_than))


@snapshot.command("rm")
def remove(
    ctx: typer.Context,
    ref: Ref,
    reason: Annotated[
        str | None,
        typer.Option("--reason", metavar="TEXT", help="Why; needed with --yes, and kept for ever."),
    ] = None,
    yes: Yes = False,
    actor: ActorName = None,
    as_: As = "person",
    as_json: Json = False,
) -> None:
    """Remove a snapshot, name@version, with its exports. Without --yes only what hangs on it is shown. Its version is never used
    again; `refinery gc` frees what nothing else needs."""
    session = start(ctx, as_json)
    project = session.project
    if not yes:
        found = project.removal.preview(ref)
    elif reason is None:
        raise InputError("Say why, with --reason: others know the snapshot's root.", kind="no_reason")
    else:
        found = project.removal.run(ref, session.actor(actor, as_), reason)
        if project.has_index:
            project.project()
    session.out.show({**found.to_json(), "removed": yes}, lambda: _removed_lines(found, removed=yes))


def duration(text: str) -> timedelta:
    """A time span such as 7d, 12h, 30m or 0s. InputError for anything else."""
    found = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if found is None:
        raise InputError(
            f"{text!r} is no time span: a number and s, m, h or d, such as 7d or 12h.", kind="bad_time_span"
        )
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _gc_lines(report: GarbageReport, older_than: str) -> Iterator[Line]:
    if not report.objects:
        yield f"Nothing to free: all that is older than {older_than} is needed."
        return
    did = "removed" if report.deleted else "would remove"
    yield line((f"{did} {many(report.objects, 'object')}", "bold"), f", {bytes_text(report.bytes)}")
    for kind, found in report.kinds.items():
        yield f"  {found['objects']:,} of {_WORDS[kind]}, {bytes_text(found['bytes'])}"
    if not report.deleted:
        yield "`refinery gc --yes` does it; --json names every object."


def _removed_lines(found: Dependents, *, removed: bool) -> Iterator[Line]:
    did = "removed" if removed else "would remove"
    yield line((f"{did} {found.ref}", "bold"), f" of {many(found.count, 'sample')}, root {found.root[:16]}")
    for prefix in found.exports:
        yield f"  with its export {prefix}"
    for ref in found.versions:
        yield f"  {ref} was made from it: it stays, and its first diff has nothing to compare with"
    for ref in found.filters:
        yield f"  {ref} asks who is in it: it stays, and can no longer be rebuilt"
    if not removed:
        yield "--yes with --reason does it; its version is never used again."
