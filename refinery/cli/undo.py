"""The command that takes back what was said: undo."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refinery.cli.flags import Reason, show_act
from refinery.cli.output import Line, counted, line, many
from refinery.cli.session import ActorName, As, Json, Session, start

if TYPE_CHECKING:
    from refinery.ledger import Selection

app = typer.Typer()

Dry = Annotated[bool, typer.Option("--dry-run", help="Only show what it would do; nothing is written.")]
_SHOWN = 10


@app.command()
def undo(
    ctx: typer.Context,
    event: Annotated[
        str | None,
        typer.Argument(
            help="An event's id or how it begins (`refinery log`); without it the newest act.",
            show_default=False,
        ),
    ] = None,
    act: Annotated[
        str | None,
        typer.Option(
            "--act", metavar="ID", help="A whole act, by its id or how that begins (`refinery log`)."
        ),
    ] = None,
    of_actor: Annotated[
        str | None,
        typer.Option(
            "--of-actor", metavar="ACTOR", help="All that one actor said: 'model blur-critic', 'rule size'."
        ),
    ] = None,
    of_kind: Annotated[
        str | None,
        typer.Option(
            "--of-kind", metavar="KIND", help="Of that act or actor only this kind of flag, or tag."
        ),
    ] = None,
    since: Annotated[
        int, typer.Option("--since", metavar="OFFSET", min=0, help="… and only what came after this offset.")
    ] = 0,
    dry_run: Dry = False,
    reason: Reason = None,
    actor: ActorName = None,
    as_: As = "person",
    as_json: Json = False,
) -> None:
    """Undo an event, an act (the newest by default) or all that one actor said, with all that follows from it (flags that
    were propagated from it). The ledger keeps both; nothing is deleted, and an undo can be undone."""
    from refinery.ledger import Selection, parse_actor

    session = start(ctx, as_json)
    who = session.actor(actor, as_)
    selection = Selection(event, act, parse_actor(of_actor) if of_actor is not None else None, of_kind, since)
    if dry_run:
        _preview(session, selection, who)
        return
    show_act(session, "undo", session.project.undo(who, selection=selection, reason=reason))


def _preview(session: Session, selection: Selection, who: Any) -> None:
    from refinery.ledger.selection import count_by_actor, count_by_kind

    project = session.project
    found = project.preview_undo(selection, who)
    view = project.ledger.view()
    samples = sorted({e.sample_id for e in found.targets if e.sample_id})
    document = {
        "events": len(found.targets),
        "kinds": count_by_kind(view, found.targets),
        "actors": count_by_actor(found.targets),
        "returning": count_by_kind(view, found.returning),
        "samples": samples,
        "moved": None if found.moved is None else asdict(found.moved),
    }
    note_if_stale(session)
    session.out.show(document, lambda: _preview_lines(document))


def note_if_stale(session: Session) -> None:
    """A remark where the next run moves more than what is foretold."""
    if session.project.status().stale:
        session.out.note("Verdicts are behind: `refinery run` will move more than what is foretold here.")


def _preview_lines(document: dict[str, Any]) -> Iterator[Line]:
    yield line(
        ("would undo ", "bold"),
        f"{many(document['events'], 'event')} on {many(len(document['samples']), 'sample')}",
    )
    yield f"  {counted(document['kinds'])}"
    yield f"  said by: {', '.join(f'{who} ({n:,})' for who, n in document['actors'].items())}"
    if document["returning"]:
        yield f"  would stand again: {counted(document['returning'])}"
    yield from sample_lines(document["samples"])
    yield moved_line(document["moved"])
    yield "Nothing was written. The same command without --dry-run does it."


def sample_lines(samples: list[str]) -> Iterator[Line]:
    """The first of some sample ids, and how many more there are."""
    for sample in samples[:_SHOWN]:
        yield f"  {sample}"
    if len(samples) > _SHOWN:
        yield f"  … and {len(samples) - _SHOWN:,} more"


def moved_line(moved: dict[str, Any] | None) -> str:
    """Whose verdict would move, in one line."""
    if moved is None:
        return "It changes the fields there are, so `refinery run` evaluates every sample; moves are not foretold."
    return (
        f"`refinery run` would then move {counted(moved['flips'])}; another verdict or other reasons for "
        f"{many(len(moved['moves']), 'sample')}."
    )
