"""Commands about snapshots: create, ls, show, diff, verify, card."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refinery.cli.output import Line, bytes_text, counted, line, many, table
from refinery.cli.session import ActorName, As, Json, start
from refinery.errors import CorruptionError, InputError

if TYPE_CHECKING:
    from refinery.diffs import SnapshotDiff
    from refinery.snapshots import Snapshot

app = typer.Typer(no_args_is_help=True)
Ref = Annotated[str, typer.Argument(metavar="REF", help="`name@version`, or `name` for the newest one.")]
_SHOWN = 50


@app.command()
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The dataset's name; its next version is made.")],
    where: Annotated[
        str | None,
        typer.Option("--where", metavar="FILTER", help="Narrow gold; default: the filter in refinery.yaml."),
    ] = None,
    splits: Annotated[
        str | None,
        typer.Option(
            "--splits",
            metavar="NAME=SHARE,…",
            help="Such as train=0.9,val=0.05,test=0.05; default: refinery.yaml.",
        ),
    ] = None,
    split_seed: Annotated[
        int | None, typer.Option("--split-seed", help="With --splits: another seed, other splits [0].")
    ] = None,
    actor: ActorName = None,
    as_: As = "person",
    as_json: Json = False,
) -> None:
    """Freeze gold as the next version of a dataset. When nothing differs, the newest version stays the newest."""
    from refinery.splits import Splits

    session = start(ctx, as_json)
    project = session.project
    if splits is None and split_seed is not None:
        raise InputError("--split-seed goes with --splits.", kind="seed_without_splits")
    given = None if splits is None else Splits.parse(splits, split_seed or 0)
    snapshot, new = project.freeze(name, where, given, actor=session.actor(actor, as_))
    if project.has_index and not project.projector.is_current():
        project.project()
    session.out.show({**_document(snapshot), "new": new}, lambda: _snapshot_lines(snapshot, [], new=new))


@app.command("ls")
def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """Every snapshot."""
    session = start(ctx, as_json)
    found = session.project.snapshots.all()
    session.out.show({"snapshots": [_document(s) for s in found]}, lambda: _list_lines(found))


@app.command()
def show(ctx: typer.Context, ref: Ref, as_json: Json = False) -> None:
    """What a snapshot holds, what it was computed from, and its exports."""
    session = start(ctx, as_json)
    project = session.project
    snapshot = project.snapshots.get(ref)
    exports = [
        {
            "split": index.get("split"),
            **{k: index[k] for k in ("recipe", "recipe_digest", "samples", "bytes", "buckets", "prefix")},
            "shards": len(index["files"]),
        }
        for index in project.exporter.exports(snapshot)
    ]
    session.out.show({**_document(snapshot), "exports": exports}, lambda: _snapshot_lines(snapshot, exports))


@app.command()
def diff(
    ctx: typer.Context,
    old: Ref,
    new: Ref,
    limit: Annotated[int, typer.Option("--limit", min=0, help="How many moves to show.")] = _SHOWN,
    as_json: Json = False,
) -> None:
    """What differs between two snapshots, with the cause of every sample that moved."""
    session = start(ctx, as_json)
    found = session.project.diff(old, new)
    session.out.show(found.to_json(), lambda: _diff_lines(found, limit))


@app.command()
def verify(ctx: typer.Context, ref: Ref, as_json: Json = False) -> None:
    """Recompute a snapshot's root, and read again every blob, shard and object that it rests on. Exit code 7 when anything is damaged."""
    session = start(ctx, as_json)
    project = session.project
    snapshot = project.snapshots.get(ref)
    findings = list(project.verify(snapshot.ref))
    document = {
        "ref": snapshot.ref,
        "root": snapshot.root,
        "ok": not findings,
        "findings": findings,
        "taken_down": [
            {"sample_id": s.sample_id, "tombstone": s.key, "reason": s.reason, "time": s.time}
            for s in project.snapshots.taken_down(snapshot)
        ],
    }
    session.out.show(document, lambda: _verify_lines(document))
    if findings:
        raise typer.Exit(CorruptionError.exit_code)


@app.command()
def card(
    ctx: typer.Context,
    ref: Ref,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to", metavar="DIR", help="Write README.md and its pictures here; else only print it."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """The dataset card of a snapshot, in Markdown: what it is, from what, what is in it, and what was left out and why."""
    session = start(ctx, as_json)
    found = session.project.card(ref)
    files = [] if to is None else [str(path) for path in found.write(to)]
    document = {"ref": found.figures.snapshot.ref, "files": files, "markdown": found.markdown()}
    session.out.show(document, lambda: files or found.markdown().splitlines())


def _document(snapshot: Snapshot) -> dict[str, Any]:
    return {"ref": snapshot.ref, **snapshot.to_json(), "splits": snapshot.splits}


def _list_lines(found: list[Snapshot]) -> Iterator[Line]:
    if not found:
        yield "There is no snapshot yet: `refinery snapshot create NAME` freezes gold."
        return
    yield table(
        ["snapshot", "samples", "root", "made", "filter"],
        (
            [s.ref, f"{s.count:,}", s.root[:16], s.created_at[:19].replace("T", " "), s.filter or ""]
            for s in found
        ),
        right=["samples"],
    )


def _snapshot_lines(
    snapshot: Snapshot, exports: list[dict[str, Any]], *, new: bool | None = None
) -> Iterator[Line]:
    said = "" if new is None else "  (new)" if new else "  (nothing differs: no new version)"
    yield line((snapshot.ref, "bold"), f"  {many(snapshot.count, 'sample')}{said}")
    yield f"root           {snapshot.root}"
    yield f"parent         {snapshot.parent or 'none'}"
    yield f"filter         {snapshot.filter or 'all of gold'}"
    if snapshot.view:
        yield f"view           {snapshot.view}"
    yield f"policy         {snapshot.policy}"
    yield f"ledger offset  {snapshot.ledger_offset:,}"
    yield f"made           {snapshot.created_at[:19]}"
    if snapshot.splits is not None:
        counts = ", ".join(
            f"{snapshot.splits['counts'][name]:,} {name}" for name, _ in snapshot.splits["shares"]
        )
        yield f"splits         {counts} (seed {snapshot.splits['seed']})"
    for name, step in snapshot.steps.items():
        yield f"step           {name} {step['key']}"
    for export in exports:
        buckets = f", {counted(export['buckets'])}" if export["recipe"].get("size") == "bucket" else ""
        yield (
            f"export         {export['prefix']}: {many(export['shards'], 'shard')}, "
            f"{many(export['samples'], 'sample')}, {bytes_text(export['bytes'])}{buckets}"
        )


def _diff_lines(found: SnapshotDiff, limit: int) -> Iterator[Line]:
    added, removed, changed = (len(found.ids(how)) for how in ("added", "removed", "changed"))
    yield line(
        (f"{found.old} → {found.new}", "bold"),
        f"  {added:,} added, {removed:,} removed, {changed:,} changed",
    )
    for sample_id, (old, new) in sorted(found.split_moves.items())[:limit]:
        yield f"  split     {sample_id[:12]}  {old} → {new}"
    if len(found.split_moves) > limit:
        yield f"  … and {len(found.split_moves) - limit:,} more in another split (--limit N, or --json for all)"
    if not found.moves:
        yield "They hold the same samples."
        return
    yield f"causes: {counted(found.causes)}"
    for move in found.moves[:limit]:
        style = {"added": "green", "removed": "red"}.get(move.how, "")
        yield line((f"  {move.how:8}", style), f"{move.sample_id[:12]}  {move.cause}: {move.sentence}")
    if len(found.moves) > limit:
        yield f"  … and {len(found.moves) - limit:,} more (--limit N, or --json for all)"


def _verify_lines(document: dict[str, Any]) -> Iterator[Line]:
    if document["ok"]:
        yield line(
            (f"{document['ref']} is whole: ", "green"),
            f"its root {document['root'][:16]}, every blob and every shard, to the byte",
        )
    else:
        yield line((f"{document['ref']} is damaged", "bold red"))
        for finding in document["findings"]:
            yield f"  {finding}"
    if gone := document["taken_down"]:
        yield f"{many(len(gone), 'sample')} taken down: the rows are there, the bytes are not"
        for stone in gone:
            yield f"  {stone['tombstone']}  {stone['time'][:10]}  {stone['reason']}"
