"""The command that says why: explain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from refinery.cli.output import VERDICT_STYLES, Line, heading, line
from refinery.cli.session import Json, start

if TYPE_CHECKING:
    from refinery.explain import Explanation

app = typer.Typer()


@app.command()
def explain(
    ctx: typer.Context,
    sample: Annotated[
        str, typer.Argument(metavar="ID", help="A sample's id, or its first 8 hex digits or more.")
    ],
    at: Annotated[
        int | None,
        typer.Option(
            "--at", metavar="OFFSET", help="Why it was so after that ledger offset; `log` lists them."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Why a sample is in or out of gold, and the smallest change that would flip it."""
    session = start(ctx, as_json)
    project = session.project
    explanation = project.explain(project.resolve(sample), at)
    session.out.show(explanation.to_json(), lambda: _lines(explanation))


def _lines(e: Explanation) -> Iterator[Line]:
    reasons = f": {', '.join(e.reasons)}" if e.reasons else ""
    yield line((e.sample_id, "bold"), "  ", (e.verdict, VERDICT_STYLES.get(e.verdict, "")), reasons)
    for sentence in e.because:
        yield f"  because {sentence}"
    if e.as_of is not None:
        yield f"  {e.as_of.sentence}"
    elif e.stored_verdict != e.verdict:
        yield line(
            ("  the stored verdict is ", "yellow"),
            f"{e.stored_verdict or 'none yet'}: `refinery run` brings it up to date",
        )
    yield heading("Seen in")
    for origin in e.origins:
        yield f"  source {origin['source']}, batch {origin['batch']}, {origin['ingested_at'][:19]}"
        yield f"    {origin['uri']}"
    yield heading("Facts")
    for name, fact in e.facts.items():
        yield f"  {name} (step {fact['step_key']})"
        values = {k: v for k, v in fact.items() if k not in ("step_key", "retryable")}
        yield "    " + ", ".join(f"{k} {_value(v)}" for k, v in values.items())
    if not e.facts:
        yield "  none yet"
    yield heading(f"Rules of policy {e.policy} ({e.policy_digest[:12]})")
    for rule in e.rules:
        mark = ("holds ", "yellow") if rule["matched"] else ("passes", "green")
        found = ", ".join(f"{k} = {_value(v)}" for k, v in rule["found"].items())
        yield line("  ", mark, f" {rule['name']}: {rule['hold']}  (found {found})")
    yield heading(f"Events up to ledger offset {e.ledger_offset:,}")
    for event in e.events:
        stands = "" if event["stands"] else " (undone)"
        yield f"  #{event['offset']} {event['time'][:19]} {event['text']}{stands}  event {event['id'][:12]}"
    if not e.events:
        yield "  none"
    if e.cluster:
        yield heading(f"Near-duplicates (cluster {e.cluster['id'][:12]})")
        for member in e.cluster["members"]:
            notes = [
                w
                for w, is_it in (("kept", member == e.cluster["keeper"]), ("this one", member == e.sample_id))
                if is_it
            ]
            yield f"  {member}{'  ' + ', '.join(notes) if notes else ''}"
    yield heading("Snapshots")
    yield f"  {', '.join(e.snapshots) or 'in none'}"
    yield heading("What would flip it, the smallest change first")
    for number, flip in enumerate(e.flips, start=1):
        yield line(
            f"  {number}. {flip.change} → ",
            (flip.to, VERDICT_STYLES.get(flip.to, "")),
            " (tried)" if flip.tried else "",
        )


def _value(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
