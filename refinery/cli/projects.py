"""Commands about a project as a whole: init, status."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from refinery.cli.output import Line, line, many, table
from refinery.cli.session import Json, Session, start
from refinery.config import FILE_NAME, EmbedderSettings, InspectSettings, NearDuplicateSettings
from refinery.errors import ConfigError, InputError

if TYPE_CHECKING:
    from refinery.accounting import Status

app = typer.Typer()

Kind = Literal["open_clip", "efficientnet_lite0"]
_NO_TEXT = "It sees pictures only: near-duplicates and `search --like` work; `search --like-text` (by meaning) does not"


@dataclass(frozen=True)
class _Choice:
    """The embedder a new project is given, and why."""

    kind: Kind
    model: str
    pretrained: str | None
    checkpoint: Path | None
    why: str


@app.command()
def init(
    ctx: typer.Context,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder to make a project; created if needed.")
    ],
    embedder: Annotated[
        Literal["auto", "open_clip", "efficientnet_lite0"],
        typer.Option(
            "--embedder", help="auto: open_clip when its weights can be had, else the offline model."
        ),
    ] = "auto",
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="open_clip architecture.", show_default=False),
    ] = None,
    pretrained: Annotated[
        str | None, typer.Option("--pretrained", metavar="TAG", help="open_clip weights by tag.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", metavar="FILE", help="open_clip weights in a local file.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option("--store", metavar="URL", help="s3://bucket/prefix; default: a folder in DIR."),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option("--endpoint", metavar="URL", help="The S3 service of --store, when it is not AWS."),
    ] = None,
    index: Annotated[
        str | None,
        typer.Option("--index", metavar="URL", help="Where OpenSearch answers; default: LanceDB in DIR."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a folder a project (writes refinery.yaml and policy.yaml)."""
    from refinery.project import Refinery

    session = start(ctx, as_json)
    places = _places(store, endpoint, index)
    if (folder / FILE_NAME).exists():
        raise InputError(
            f"{folder} is a refinery project already: it has a {FILE_NAME}.", kind="project_exists"
        )
    choice = _choose(session, folder, embedder, model, pretrained, checkpoint)
    project = Refinery.create(folder, _config(choice, places))
    document = {
        "project": str(project.path),
        "store": project.store.url,
        "embedder": project.settings.embedder.model_dump(mode="json"),
        "why": choice.why,
        "text_search": choice.kind == "open_clip",
        "files": [str(project.path / FILE_NAME), str(project.path / project.settings.policy)],
    }
    session.out.show(document, lambda: _init_lines(document, folder))


@app.command()
def status(ctx: typer.Context, as_json: Json = False) -> None:
    """Where it stands: seen = gold + held + pending."""
    session = start(ctx, as_json)
    found = session.project.status()
    session.out.show(found.to_json(), lambda: _status_lines(found))


def _choose(
    session: Session,
    folder: Path,
    asked: str,
    model: str | None,
    pretrained: str | None,
    checkpoint: Path | None,
) -> _Choice:
    """The embedder to configure; explicit choices are checked by describing the model."""
    from refinery.embedders import make_embedder

    names_weights = model is not None or pretrained is not None or checkpoint is not None
    if asked == "efficientnet_lite0":
        if names_weights:
            raise InputError(
                "--model, --pretrained and --checkpoint belong to --embedder open_clip.", kind="bad_embedder"
            )
        _describe(EmbedderSettings(kind="efficientnet_lite0"), folder)
        return _Choice("efficientnet_lite0", "", None, None, "asked for")
    defaults = EmbedderSettings()
    settings = EmbedderSettings(
        model=model or defaults.model,
        pretrained=pretrained or (None if checkpoint else defaults.pretrained),
        checkpoint=checkpoint.absolute() if checkpoint else None,
    )
    chosen = _Choice("open_clip", settings.model, settings.pretrained, settings.checkpoint, "asked for")
    if asked == "open_clip" or names_weights:
        _describe(settings, folder)
        return chosen
    session.out.note(f"Looking for the weights of {make_embedder(settings, folder).name} …")
    try:
        _describe(settings, folder)
    except ConfigError as error:
        if error.kind not in ("model_unavailable", "missing_package"):
            raise
        _describe(EmbedderSettings(kind="efficientnet_lite0"), folder)
        missing = f"the weights {settings.model}/{settings.pretrained} are not on this machine, and no hub gives them"
        why = missing if error.kind == "model_unavailable" else str(error)
        return _Choice("efficientnet_lite0", "", None, None, why)
    return _Choice("open_clip", settings.model, settings.pretrained, None, "its weights can be had")


def _describe(settings: EmbedderSettings, folder: Path) -> None:
    """Find the model and its weights (fetching a tag's); ConfigError when that fails."""
    from refinery.embedders import make_embedder

    folder.mkdir(parents=True, exist_ok=True)
    embedder = make_embedder(settings, folder.absolute())
    assert embedder.dimension
    assert embedder.model_digest


def _places(store: str | None, endpoint: str | None, index: str | None) -> str:
    """The `store:` and `index:` lines of refinery.yaml. InputError for what is no URL of theirs."""
    if store is not None and not store.startswith("s3://"):
        raise InputError(f"--store {store!r} is no s3://bucket/prefix.", kind="bad_store")
    if endpoint is not None and store is None:
        raise InputError("--endpoint belongs to --store s3://bucket/prefix.", kind="bad_store")
    if index is not None and not index.startswith(("http://", "https://")):
        raise InputError(f"--index {index!r} is no http:// or https:// URL.", kind="bad_index")
    bucket, _, prefix = (store or "").removeprefix("s3://").partition("/")
    lines = [
        "# Truth: raw bytes, batches, facts, the ledger, verdicts, snapshots and exports."
        + (" Credentials: boto3's standard chain." if store else ""),
        "store: "
        + (
            _flow({"kind": "s3", "bucket": bucket, "prefix": prefix.strip("/"), "endpoint": endpoint})
            if store
            else "{kind: local, path: store}"
        ),
        "# What search reads. It can be deleted at any time: `refinery rebuild-index` makes it again from the store.",
        "index: "
        + (_flow({"kind": "opensearch", "url": index}) if index else "{kind: lancedb, path: index}"),
    ]
    return "\n".join(lines)


def _flow(section: dict[str, str | None]) -> str:
    import yaml

    given = {key: value for key, value in section.items() if value}
    return yaml.safe_dump(given, default_flow_style=True, sort_keys=False, width=1000).strip()


def _config(choice: _Choice, places: str) -> str:
    """refinery.yaml of a new project."""
    import yaml

    known, near, caps = EmbedderSettings(), NearDuplicateSettings(), InspectSettings()
    if choice.kind == "efficientnet_lite0":
        embedder = (
            "embedder:\n  kind: efficientnet_lite0   # pictures only: no search by meaning from words\n"
        )
        embedder += "# With a model hub in reach, or a checkpoint at hand, name an open_clip model instead:\n"
        embedder += f"# embedder: {{kind: open_clip, model: {known.model}, pretrained: {known.pretrained}}}\n"
    else:
        settings: dict[str, Any] = {
            "kind": "open_clip",
            "model": choice.model,
            "pretrained": choice.pretrained,
        }
        if choice.checkpoint:
            settings["checkpoint"] = str(choice.checkpoint)
        embedder = yaml.safe_dump({"embedder": settings}, sort_keys=False, allow_unicode=True)
    return f"""\
# A refinery project. Unknown keys are errors; paths are relative to this file.

{places}

# The model that embeds pictures; its weights' digest is in every fact. Another model is another step: run again.
{embedder}
# When two samples are near-duplicates; policy.yaml decides what becomes of them.
near_duplicates: {{phash_distance: {near.phash_distance}, cosine: {near.cosine}}}

# Caps of the inspection: larger files are not kept, larger pictures are not decoded.
inspect: {{max_bytes: {caps.max_bytes}, max_pixels: {caps.max_pixels}}}

# Rules that hold samples back. `refinery policy try FILE` shows what another one would change.
policy: policy.yaml

# Folders and S3 prefixes that the Dagster sensor watches (`refinery ingest` needs no entry here).
sources: []
#  - {{name: mine, kind: folder, path: ../pictures}}
#  - {{name: arrivals, kind: s3, url: "s3://bucket/arrivals"}}

# What `refinery run` freezes and exports: a filter over gold (null: all of it), and recipes for shards.
datasets: {{}}
#  train:
#    filter: "min_side >= 512"
#    exports:
#      - {{format: webdataset, size: bucket, side: 512, patch: 16}}
"""


def _init_lines(document: dict[str, Any], folder: Path) -> Iterator[Line]:
    yield line(("Made a project in ", "bold"), document["project"])
    yield f"  truth in {document['store']}"
    for path in document["files"]:
        yield f"  {path}"
    embedder = document["embedder"]
    if embedder["kind"] == "open_clip":
        weights = embedder["checkpoint"] or embedder["pretrained"]
        yield f"Embedder: open_clip {embedder['model']}, {weights} ({document['why']})."
    else:
        yield line(("Embedder: efficientnet_lite0, the offline model", "yellow"), f" ({document['why']}).")
        yield f"  {_NO_TEXT}."
    yield f"Next: refinery --project {folder} ingest FOLDER --source NAME"


def _status_lines(status: Status) -> Iterator[Line]:
    held = sum(status.held.values())
    yield line(
        (f"{status.seen:,} seen", "bold"),
        " = ",
        (f"{status.gold:,} gold", "green"),
        " + ",
        (f"{held:,} held", "yellow"),
        " + ",
        (f"{status.pending:,} pending", "cyan"),
    )
    if status.held:
        rows = sorted(status.held.items(), key=lambda item: (-item[1], item[0]))
        yield table(["held because", "samples"], ([r, f"{n:,}"] for r, n in rows), right=["samples"])
    staged = f", {many(status.staged, 'batch')} to land" if status.staged else ""
    yield f"{many(status.origins, 'origin')} in {many(status.batches, 'batch')}{staged}; {status.unreadable:,} unreadable"
    yield f"ledger at offset {status.ledger_offset:,}"
    yield f"policy {status.policy or 'none applied yet'}"
    yield f"root   {status.root}"
    if status.stale or status.staged:
        yield line(("Verdicts are behind: ", "yellow"), "`refinery run` brings them up to date.")
