"""Commands of the ledger: flag, unflag, tag, log."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refinery.cli.output import Line, line, many, table
from refinery.cli.session import ActorName, As, Json, Session, start
from refinery.errors import InputError

if TYPE_CHECKING:
    from refinery.ledger import Event

app = typer.Typer()

Ids = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="ID",
        help="Sample ids, or their first 8 hex digits or more; - reads them from standard input.",
        show_default=False,
    ),
]
Where = Annotated[
    str | None, typer.Option("--where", metavar="FILTER", help="Every sample that matches, instead of ids.")
]
Reason = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why; shown by explain.")]


@app.command()
def flag(
    ctx: typer.Context,
    ids: Ids = None,
    *,
    kind: Annotated[str, typer.Option("--kind", help="keep, reject, blocked, review, or one of your own.")],
    reason: Reason = None,
    where: Where = None,
    confidence: Annotated[
        float | None, typer.Option("--confidence", help="How sure the actor is, 0 to 1.")
    ] = None,
    actor: ActorName = None,
    as_: As = "person",
    as_json: Json = False,
) -> None:
    """Stand a flag on samples, all or none. `refinery run` then re-evaluates exactly what is affected."""
    session = start(ctx, as_json)
    samples = chosen_samples(session, ids, where)
    events = session.project.flag(
        samples, kind, session.actor(actor, as_), reason=reason, confidence=confidence
    )
    show_act(session, f"flag {kind}", events)


@app.command()
def unflag(
    ctx: typer.Context,
    ids: Ids = None,
    *,
    kind: Annotated[str, typer.Option("--kind", help="The kind of flag to take off, or tag (with --tag).")],
    tag: Annotated[
        str | None, typer.Option("--tag", metavar="WORDS", help="With --kind tag: which tag.")
    ] = None,
    reason: Reason = None,
    where: Where = None,
    actor: ActorName = None,
    as_: As = "person",
    as_json: Json = False,
) -> None:
    """Take a kind of flag off samples, whoever stood it. What a person said, and blocked, only a person takes off."""
    from refinery.ledger import unflag_events

    session = start(ctx, as_json)
    project = session.project
    events = unflag_events(
        project.ledger.view(),
        chosen_samples(session, ids, where),
        kind,
        session.actor(actor, as_),
        known_kinds=project.settings.known_flag_kinds,
        tag=tag,
        reason=reason,
    )
    what = f"unflag {kind}" if tag is None else f"untag {tag}"
    show_act(session, what, project.ledger.append(events))


@app.command()
def tag(
    ctx: typer.Context,
    ids: Ids = None,
    *,
    tag: Annotated[
        str, typer.Option("--tag", metavar="WORDS", help="Free words, to search with has_tag('…').")
    ],
    reason: Reason = None,
    where: Where = None,
    actor: ActorName = None,
    as_: As = "person",
    as_json: Json = False,
) -> None:
    """Stand a tag on samples, all or none. Tags are for finding; they hold nothing back by themselves."""
    session = start(ctx, as_json)
    samples = chosen_samples(session, ids, where)
    show_act(
        session, f"tag {tag}", session.project.tag(samples, tag, session.actor(actor, as_), reason=reason)
    )


@app.command()
def log(
    ctx: typer.Context,
    sample: Annotated[
        str | None, typer.Option("--sample", metavar="ID", help="Only events on this sample.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many, the newest first.")] = 20,
    as_json: Json = False,
) -> None:
    """Who said what about which sample, the newest event first."""
    session = start(ctx, as_json)
    project = session.project
    view = project.ledger.view()
    events: Sequence[Event] = project.ledger.events()
    if sample is not None:
        events = view.history(project.resolve(sample))
    rows = [
        {
            **event.to_json(),
            "text": event.describe(),
            "stands": view.stands(event),
            "undone_by": undone.id if (undone := view.undone_by(event)) else None,
        }
        for event in islice(reversed(events), limit)
    ]
    document = {"ledger_offset": view.offset, "total": len(events), "events": rows}
    session.out.show(document, lambda: _log_lines(rows))


def chosen_samples(session: Session, ids: Iterable[str] | None, where: str | None) -> list[str]:
    """The full ids that arguments, standard input or a filter name; each once, in the order given."""
    project = session.project
    given = list(ids or ())
    if where is not None:
        if given:
            raise InputError("Give sample ids or --where, not both.", kind="ids_and_where")
        from refinery.filter import parse

        parsed = parse(where, project.fields)
        documents = project.projector.documents()
        found = documents["sample_id"].to_pylist()
        chosen = [i for i, matches in zip(found, parsed.mask(documents), strict=True) if matches]
        session.out.note(f"{len(chosen):,} of {len(found):,} samples match.")
        return chosen
    if "-" in given:
        given = [i for i in given if i != "-"] + sys.stdin.read().split()
    elif not given:
        raise InputError(
            "Name the samples: ids, - to read ids from standard input, or --where FILTER.", kind="no_samples"
        )
    return list(dict.fromkeys(project.resolve(i) for i in given))


def show_act(session: Session, what: str, events: Sequence[Event]) -> None:
    """What an act did, once it is in the ledger."""
    document = act_document(session, what, events)
    session.out.show(document, lambda: act_lines(document))


def act_document(session: Session, what: str, events: Sequence[Event]) -> dict[str, Any]:
    """An act for machines; the index follows it first."""
    return {
        "act": what,
        "events": [
            {"id": e.id, "offset": e.offset, "sample_id": e.sample_id, "group": e.group} for e in events
        ],
        "samples": len({e.sample_id for e in events}),
        "ledger_offset": session.project.ledger.offset,
        "indexed": session.follow_ledger() if events else 0,
    }


def act_lines(document: dict[str, Any]) -> Iterator[Line]:
    """An act for people."""
    yield line(
        (f"{document['act']}", "bold"),
        f" on {many(document['samples'], 'sample')}; the ledger is at offset {document['ledger_offset']:,}",
    )
    if not document["events"]:
        return
    for event in document["events"][:10]:
        yield f"  {event['sample_id'] or 'a field'}  event {event['id'][:12]}"
    if len(document["events"]) > 10:
        yield f"  … and {len(document['events']) - 10:,} more"
    back = "" if document["act"] == "undo" else "; `refinery undo` takes it back"
    yield f"`refinery run` re-evaluates what is affected{back}."


def _log_lines(rows: Sequence[dict[str, Any]]) -> Iterator[Line]:
    if not rows:
        yield "The ledger has no such event."
        return
    yield table(
        ["offset", "act", "event", "sample", "what", "when"],
        (
            [
                row["offset"],
                row.get("group", "")[:12],
                row["id"][:12],
                row.get("sample_id", "")[:12],
                row["text"] + ("" if row["stands"] else " (undone)"),
                row["time"][:19].replace("T", " "),
            ]
            for row in rows
        ),
        right=["offset"],
    )
