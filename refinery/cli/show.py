"""The command that shows all there is about one sample: show."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refinery.cli.output import VERDICT_STYLES, Line, bytes_text, heading, line
from refinery.cli.session import Json, start
from refinery.errors import InputError

if TYPE_CHECKING:
    from refinery.project import Refinery

app = typer.Typer()
_LARGE = ("thumbnail", "vector")


@app.command()
def show(
    ctx: typer.Context,
    sample: Annotated[
        str, typer.Argument(metavar="ID", help="A sample's id, or its first 8 hex digits or more.")
    ],
    as_json: Json = False,
) -> None:
    """All there is about one sample: origins, attributes, facts, payloads, where its bytes are."""
    session = start(ctx, as_json)
    project = session.project
    document = _document(project, project.resolve(sample))
    session.out.show(document, lambda: _lines(document))


def _document(project: Refinery, sample_id: str) -> dict[str, Any]:
    from refinery.documents import DocumentBuilder

    builder = DocumentBuilder(project.store, project.batches, project.facts, project.fields, project.steps)
    described = builder.describe(project.ledger.view(), [sample_id])
    if described.documents.num_rows == 0:
        raise InputError(
            f"Sample {sample_id!r} was never ingested: `refinery search` finds the ids of those that were.",
            kind="no_such_sample",
        )
    row = project.projector.documents([sample_id]).to_pylist()[0]
    payloads = json.loads(described.payloads[0].as_py())
    return {
        "sample_id": sample_id,
        "path": _path(project, sample_id),
        "document": {k: v for k, v in row.items() if k != "doc_digest"},
        "attributes": json.loads(described.attributes[0].as_py()),
        "origins": _origins(project, sample_id),
        "facts": _facts(project, sample_id),
        "payloads": [{**p, "path": _path(project, p["digest"])} for p in payloads],
    }


def _path(project: Refinery, digest: str) -> str | None:
    """Where bytes lie on this machine; None when the store has none of them here (over the cap, or remote)."""
    from refinery.blobs import blob_path

    path = blob_path(project.store, digest)
    return str(path) if path is not None and path.is_file() else None


def _origins(project: Refinery, sample_id: str) -> list[dict[str, Any]]:
    columns = ["sample_id", "source", "batch", "uri", "ingested_at", "attributes", "extras"]
    rows = project.batches.origins(columns=columns, sample_ids=[sample_id]).to_pylist()
    return [
        {
            **{k: v for k, v in row.items() if k != "sample_id"},
            "attributes": json.loads(row["attributes"]),
            "extras": json.loads(row["extras"]),
        }
        for row in rows
    ]


def _facts(project: Refinery, sample_id: str) -> dict[str, dict[str, Any]]:
    steps = {"inspect": project.steps.inspect}
    steps |= {f"embed:{space}": step for space, step in project.steps.embed.items()}
    found = {}
    for name, step in steps.items():
        columns = [c for c in step.schema.names if c not in _LARGE]
        for row in project.facts.read(step, sample_ids=[sample_id], columns=columns).to_pylist():
            found[name] = {"step_key": step.key, **{k: v for k, v in row.items() if k != "sample_id"}}
    return found


def _lines(d: dict[str, Any]) -> Iterator[Line]:
    document = d["document"]
    verdict = document["verdict"]
    reasons = f": {', '.join(document['reasons'])}" if document["reasons"] else ""
    yield line((d["sample_id"], "bold"), "  ", (verdict, VERDICT_STYLES.get(verdict, "")), reasons)
    yield f"  {bytes_text(document['bytes'])}, {d['path'] or 'its bytes are not kept here'}"
    yield heading("Seen in")
    for origin in d["origins"]:
        yield f"  source {origin['source']}, batch {origin['batch']}, {origin['ingested_at'].isoformat()[:19]}"
        yield f"    {origin['uri']}"
        for key, value in origin["extras"].items():
            yield f"    kept aside: {key} = {value}"
    yield heading("Attributes")
    for key, value in d["attributes"].items():
        yield f"  {key} = {value}"
    yield from () if d["attributes"] else ("  none",)
    yield heading("Facts")
    for name, fact in d["facts"].items():
        yield f"  {name} (step {fact['step_key']})"
        for key, value in fact.items():
            if value is not None and key not in ("step_key", "retryable"):
                yield f"    {key:14} {f'{value:.6g}' if isinstance(value, float) else value}"
    yield from () if d["facts"] else ("  none yet",)
    yield heading("Flags, tags, cluster, datasets")
    for key in ("flags", "tags", "datasets"):
        yield f"  {key:10} {', '.join(document[key]) or 'none'}"
    yield f"  {'cluster':10} {document['cluster'] or 'none'}"
    for payload in d["payloads"]:
        kind = "mask" if payload["is_mask"] else "payload"
        yield f"  {kind} {payload['name']}: {bytes_text(payload['bytes'])}, {payload['path']}"
