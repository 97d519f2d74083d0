"""Commands about the fields: the catalogue, and registering attributes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import typer

from refinery.cli.output import Line, line, safe, table
from refinery.cli.session import ActorName, As, Json, Session, start

app = typer.Typer()
fields = typer.Typer(invoke_without_command=True, help="The fields that filters speak of; add attributes.")
app.add_typer(fields, name="fields")


@fields.callback()
def catalogue(ctx: typer.Context, as_json: Json = False) -> None:
    """The fields that filters speak of: name, type, meaning, how many samples have them, examples."""
    if ctx.invoked_subcommand is not None:
        return
    session = start(ctx, as_json)
    document = _catalogue(session)
    session.out.show(document, lambda: _lines(document))


@fields.command()
def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits and _.")],
    type_: Annotated[
        Literal["string", "text", "integer", "number", "boolean", "date", "string_list", "json"],
        typer.Option("--type", help="text is tokenized for full-text search; json is stored and shown only."),
    ],
    description: Annotated[str, typer.Option("--description", help="What it means, in one sentence.")] = "",
    actor: ActorName = None,
    as_: As = "person",
    as_json: Json = False,
) -> None:
    """Register an attribute. Values kept aside under this name join in at the next run."""
    from refinery.fields import Field, FieldType

    session = start(ctx, as_json)
    field = Field(name, FieldType(type_), description)
    event = session.project.register_field(field, session.actor(actor, as_))
    document = {"name": name, "type": type_, "description": description, "event": event.id}
    session.out.show(document, lambda: [line((name, "bold"), f" is registered as {type_}.")])


def _catalogue(session: Session) -> dict[str, Any]:
    from refinery.catalogue import catalogue as measured

    found = measured(session.project)
    return {
        "samples": found.samples,
        "ledger_offset": found.ledger_offset,
        "current": found.current,
        "fields": [
            {
                "name": use.field.name,
                "type": use.field.type.value,
                "description": use.field.description,
                "builtin": use.field.builtin,
                "filled": use.filled,
                "fill_rate": use.fill_rate,
                "examples": use.examples,
            }
            for use in found.fields
        ],
    }


def _lines(document: dict[str, Any]) -> Iterator[Line]:
    behind = "" if document["current"] else ", as the index has them: `refinery run` brings it up to date"
    yield f"{len(document['fields'])} fields, {document['samples']:,} samples{behind}"
    yield table(
        ["field", "type", "filled", "meaning", "examples"],
        (
            [
                field["name"] if field["builtin"] else f"{field['name']} *",
                field["type"],
                "–" if field["fill_rate"] is None else f"{field['fill_rate']:.0%}",
                field["description"],
                ", ".join(_short(value) for value in field["examples"]),
            ]
            for field in document["fields"]
        ),
        right=["filled"],
    )
    yield "* attributes; `refinery fields add NAME --type TYPE` registers another."


def _short(value: object) -> str:
    text = safe(f"{value:.4g}" if isinstance(value, float) else value)
    return text if len(text) <= 24 else f"{text[:23]}…"
