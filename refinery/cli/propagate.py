"""The command that lets a flag go on to related samples: propagate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any, Literal

import typer

from refinery.cli.flags import act_document, act_lines
from refinery.cli.output import Line, line, many
from refinery.cli.session import ActorName, As, Json, start
from refinery.cli.undo import Dry, moved_line, note_if_stale, sample_lines

app = typer.Typer()


@app.command()
def propagate(
    ctx: typer.Context,
    event: Annotated[str, typer.Argument(help="A flag's event id or how it begins (`refinery log`).")],
    to: Annotated[
        Literal["cluster", "source", "neighbours"],
        typer.Option("--to", help="Its near-duplicates, all of its source, or its neighbours in likeness."),
    ],
    k: Annotated[int, typer.Option("--k", min=1, help="The most neighbours.")] = 20,
    min_cosine: Annotated[
        float, typer.Option("--min-cosine", min=-1, max=1, help="The least likeness of a neighbour.")
    ] = 0.9,
    space: Annotated[str, typer.Option("--space", help="The embedding space of neighbours.")] = "default",
    where: Annotated[
        str | None, typer.Option("--where", metavar="FILTER", help="Only related samples that match.")
    ] = None,
    dry_run: Dry = False,
    actor: ActorName = None,
    as_: As = "person",
    as_json: Json = False,
) -> None:
    """Stand a flag's kind and reason on related samples too, as one act. They follow from it: undoing the flag undoes them.
    Done twice, the second time adds nothing."""
    from refinery.propagation import Reach, Relation

    session = start(ctx, as_json)
    project = session.project
    parent = project.ledger.find(event)
    reach = Reach(Relation(to), k, min_cosine, space, where)
    propagator = project.propagator
    if to == "neighbours" and project.has_index and not project.projector.is_current():
        session.out.note("The index is behind the store: `refinery run` brings it up to date.")
    proposal = propagator.propose(parent, reach, session.actor(actor, as_), project.policy)
    document: dict[str, Any] = {
        "parent": parent.id,
        "flag": parent.kind,
        "to": to,
        "related": proposal.related,
        "flagged": proposal.flagged,
        "again": proposal.again,
        "children": [child.sample_id for child in proposal.children],
        "moved": asdict(proposal.moved),
    }
    note_if_stale(session)
    if dry_run:
        session.out.show(document, lambda: _dry_lines(document))
        return
    document |= act_document(session, f"flag {parent.kind}", propagator.apply(proposal))
    session.out.show(document, lambda: _lines(document))


def _dry_lines(document: dict[str, Any]) -> Iterator[Line]:
    yield _summary(document, "would flag")
    yield from sample_lines(document["children"])
    yield moved_line(document["moved"])
    yield "Nothing was written. The same command without --dry-run does it."


def _lines(document: dict[str, Any]) -> Iterator[Line]:
    yield _summary(document, "flagged")
    if document["events"]:
        yield moved_line(document["moved"])
        yield from act_lines(document)
        yield f"They follow from event {document['parent'][:12]}: undoing it undoes them."


def _summary(document: dict[str, Any], verb: str) -> Line:
    more = f" ({document['again']:,} of them again after an undo)" if document["again"] else ""
    return line(
        (f"{verb} {document['flag']} ", "bold"),
        f"{many(len(document['children']), 'sample')}{more}; of {document['related']:,} related by {document['to']}, "
        f"{document['flagged']:,} had that flag of yours already",
    )
