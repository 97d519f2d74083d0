"""Commands about the policy: show, try."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refinery.cli.output import Line, counted, line, many, table
from refinery.cli.session import Json, start

if TYPE_CHECKING:
    from refinery.policy import Policy
    from refinery.whatif import WhatIf

app = typer.Typer(no_args_is_help=True)


@app.command()
def show(ctx: typer.Context, as_json: Json = False) -> None:
    """The policy of the project, and whether the verdicts were made under it."""
    session = start(ctx, as_json)
    policy = session.project.policy
    document = {**_document(policy), "applied": session.project.status().policy == policy.digest}
    session.out.show(document, lambda: _policy_lines(document))


@app.command("try")
def try_(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="Another policy, in YAML like policy.yaml.")],
    examples: Annotated[int, typer.Option("--examples", min=0, help="How many moves to show.")] = 10,
    as_json: Json = False,
) -> None:
    """What another policy would change. Nothing is written."""
    from refinery.policy import load_policy
    from refinery.trials import try_policy

    session = start(ctx, as_json)
    project = session.project
    policy = load_policy(file, project.fields)
    trial = try_policy(project, policy)
    document = {"name": policy.name, "before": trial.now, **trial.found.to_json()}
    if trial.behind:
        session.out.note("Verdicts are behind: the moves include what `refinery run` would change anyway.")
    session.out.show(document, lambda: _try_lines(policy, trial.now, trial.found, examples))


def _document(policy: Policy) -> dict[str, Any]:
    return {
        "name": policy.name,
        "digest": policy.digest,
        "requires": list(policy.requires),
        "rules": [{"name": rule.name, "hold": rule.hold.text} for rule in policy.rules],
    }


def _policy_lines(document: dict[str, Any]) -> Iterator[Line]:
    yield line(("policy ", ""), (document["name"], "bold"), f"  {document['digest']}")
    yield f"needs facts of {', '.join(document['requires'])}"
    yield table(["reason", "held when"], ([r["name"], r["hold"]] for r in document["rules"]))
    if document["applied"]:
        yield "The verdicts were made under it."
    else:
        yield line(("The verdicts were made under another one: ", "yellow"), "`refinery run` applies it.")


def _try_lines(policy: Policy, now: dict[str, int], found: WhatIf, examples: int) -> Iterator[Line]:
    yield line(("policy ", ""), (policy.name, "bold"), f"  {found.policy}")
    yield table(
        ["verdict", "now", "then"],
        ([name, f"{n:,}", f"{found.counts.get(name, 0):,}"] for name, n in now.items()),
        right=["now", "then"],
    )
    yield f"held then: {counted(found.held)}"
    yield f"moves: {counted(found.flips)}; another verdict or other reasons for {many(len(found.moves), 'sample')}"
    if found.moves and examples:
        yield table(
            ["sample", "from", "to", "reasons before", "reasons then"],
            (
                [
                    m["sample_id"][:12],
                    m["from"],
                    m["to"],
                    ", ".join(m["reasons_before"] or ()),
                    ", ".join(m["reasons"]),
                ]
                for m in found.moves[:examples]
            ),
        )
        if len(found.moves) > examples:
            yield f"… and {len(found.moves) - examples:,} more (--examples N, or --json for all)"
    yield "Nothing was written. Copy the file over policy.yaml and `refinery run` to adopt it."
