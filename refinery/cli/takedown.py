"""The command that removes samples for good: takedown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refinery.cli.flags import Ids, Where, chosen_samples
from refinery.cli.output import Line, line, many
from refinery.cli.session import ActorName, As, Json, start
from refinery.errors import InputError

if TYPE_CHECKING:
    from refinery.takedown import Held

app = typer.Typer()
Yes = Annotated[bool, typer.Option("--yes", help="Do it; without it only what would be done is shown.")]
_SHOWN = 10


@app.command()
def takedown(
    ctx: typer.Context,
    ids: Ids = None,
    *,
    reason: Annotated[
        str | None,
        typer.Option("--reason", metavar="TEXT", help="Why; needed with --yes, and kept for ever."),
    ] = None,
    where: Where = None,
    yes: Yes = False,
    actor: ActorName = None,
    as_: As = "person",
    as_json: Json = False,
) -> None:
    """Remove samples for good: bytes, thumbnails, vectors, and their part of every shard. A tombstone explains the old roots.
    Without --yes nothing is written; interrupted, the same again finishes it."""
    session = start(ctx, as_json)
    project = session.project
    samples = chosen_samples(session, ids, where)
    project.samples.check_seen(samples)
    if not yes:
        held = project.takedown.preview(samples)
        document: dict[str, Any] = {"samples": [_document(h) for h in held]}
        session.out.show(document, lambda: _preview_lines(held))
        return
    if reason is None:
        raise InputError(
            "Say why the samples are taken down, with --reason: the tombstones keep it.", kind="no_reason"
        )
    report = project.takedown.run(samples, reason, session.actor(actor, as_), project.policy)
    indexed = project.project().upserted if project.has_index else None
    document = {
        **report.to_json(),
        "samples": [_document(h) for h in report.held],
        "ledger_offset": project.ledger.offset,
        "indexed": indexed,
    }
    del document["held"]
    session.out.show(document, lambda: _done_lines(document))


def _document(held: Held) -> dict[str, Any]:
    return {
        "sample_id": held.sample_id,
        "taken_down": held.taken_down,
        "snapshots": sorted(held.snapshots),
        "exports": held.exports,
        "shards": sorted(held.shards),
        "facts": held.facts,
        "blobs": held.blobs,
    }


def _preview_lines(held: list[Held]) -> Iterator[Line]:
    yield line((f"would take down {many(len(held), 'sample')}", "bold"), "; --yes with --reason does it")
    for sample in held[:_SHOWN]:
        said = "  (taken down already)" if sample.taken_down else ""
        yield line((sample.sample_id[:12], "bold"), f"  in {many(len(sample.snapshots), 'snapshot')}{said}")
        yield from (f"  {ref}" for ref in sorted(sample.snapshots))
        yield from (f"  {key}" for key in sorted(sample.shards))
        yield f"  {many(len(sample.blobs), 'blob')}, {many(len(sample.facts), 'file')} of facts"
    if len(held) > _SHOWN:
        yield f"… and {len(held) - _SHOWN:,} more (--json for all)"


def _done_lines(document: dict[str, Any]) -> Iterator[Line]:
    yield line((f"took down {many(len(document['samples']), 'sample')}", "bold"))
    yield (
        f"{many(document['blobs'], 'blob')} deleted; {many(document['facts'], 'file')} of facts and "
        f"{many(document['shards'], 'shard')} written again; {many(document['leftovers'], 'shard')} of unfinished exports deleted"
    )
    for sample in document["samples"][:_SHOWN]:
        yield f"  {sample['sample_id']}  tombstones/{sample['sample_id']}.json"
    yield f"The ledger is at offset {document['ledger_offset']:,}; verdicts are up to date, root {document['root'][:16]}."
