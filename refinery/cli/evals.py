"""Commands that bring back what was learnt in training and use: evals, feedback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refinery.cli.flags import Ids, Reason, Where, chosen_samples, show_act
from refinery.cli.output import Line, line
from refinery.cli.session import ActorName, Json, Session, start

if TYPE_CHECKING:
    from refinery.evals import TakenIn

app = typer.Typer(no_args_is_help=True)
feedback = typer.Typer(no_args_is_help=True)
File = Annotated[
    Path,
    typer.Argument(metavar="FILE", help=".csv, .jsonl or .parquet with a column sample_id (or __key__)."),
]
_SHOWN = 5


@app.callback()
def _evals() -> None:
    """What evals of trained models said of samples."""


@app.command()
def ingest(
    ctx: typer.Context,
    file: File,
    name: Annotated[
        str, typer.Option("--eval", metavar="NAME", help="Which evaluation; the actor of the events.")
    ],
    run: Annotated[
        str, typer.Option("--run", help="Which run of it; the same run's file twice adds nothing.")
    ],
    metric: Annotated[
        list[str] | None, typer.Option("--metric", metavar="COLUMN", help="Only these columns; repeatable.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="TEXT", help="What was evaluated; kept as evidence.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Take in per-sample results, a column for each metric, as one act. Filters call them eval_NAME_COLUMN."""
    from refinery.evals import ingest_evals

    session = start(ctx, as_json)
    _show(
        session,
        ingest_evals(session.project, file, name=name, run=run, metrics=metric or (), model=model),
        "result",
    )


@feedback.command("add")
def add(
    ctx: typer.Context,
    ids: Ids = None,
    *,
    kind: Annotated[str, typer.Option("--kind", help="One word, such as up or down.")],
    value: Annotated[str | None, typer.Option("--value", help="Such as a rating.")] = None,
    reason: Reason = None,
    where: Where = None,
    actor: ActorName = None,
    as_json: Json = False,
) -> None:
    """Stand a user's feedback on samples, all or none. Filters call it feedback_KIND: how often it stands."""
    from refinery.evals import give_feedback

    session = start(ctx, as_json)
    samples = chosen_samples(session, ids, where)
    events = give_feedback(
        session.project, samples, kind, session.actor(actor, "user"), value=value, reason=reason
    )
    show_act(session, f"feedback {kind}", events)


@feedback.command("ingest")
def ingest_file(
    ctx: typer.Context,
    file: File,
    source: Annotated[str, typer.Option("--source", metavar="NAME", help="The service it was given to.")],
    as_json: Json = False,
) -> None:
    """Take in feedback, a row each with kind and perhaps value, reason, user and id, as one act."""
    from refinery.evals import ingest_feedback

    session = start(ctx, as_json)
    _show(session, ingest_feedback(session.project, file, source=source), "word")


def _show(session: Session, found: TakenIn, noun: str) -> None:
    indexed = session.follow_ledger() if found.events else 0
    offset = session.project.ledger.offset
    session.out.show(
        {**found.to_json(), "ledger_offset": offset, "indexed": indexed}, lambda: _lines(found, noun)
    )


def _lines(found: TakenIn, noun: str) -> Iterator[Line]:
    yield line((str(found.actor), "bold"), f"  {found.found:,} {noun}s in {found.rows:,} rows")
    yield (
        f"  {found.added:,} added, {found.known:,} known already, {found.repeated:,} repeated, {found.empty:,} empty, "
        f"{found.unfit:,} unfit, {found.unknown:,} of unknown samples"
    )
    for sample in found.unknown_samples[:_SHOWN]:
        yield f"  unknown: {sample}"
    if len(found.unknown_samples) > _SHOWN:
        yield f"  … and {len(found.unknown_samples) - _SHOWN:,} more (--json names all)"
    if found.fields:
        yield f"  in fields {', '.join(found.fields)}; `refinery run` judges anew who is affected"
