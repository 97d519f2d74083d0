"""Commands about one sample of a snapshot: prove that it is in there, and check such a proof without the project."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from refinery.cli.output import Line, line, many
from refinery.cli.session import Json, start
from refinery.cli.snapshots import Ref
from refinery.digests import check_sample_id
from refinery.errors import InputError
from refinery.states.proofs import MOST_BYTES, Proof, check

app = typer.Typer()


@app.command("prove")
def prove_(
    ctx: typer.Context,
    ref: Ref,
    sample: Annotated[str, typer.Argument(metavar="ID", help="The sample's id, or 8 digits of it or more.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Where to write the proof; default: print it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Prove that a snapshot holds a sample, and what it holds of it, to whoever knows the snapshot's root."""
    session = start(ctx, as_json)
    project = session.project
    snapshot = project.snapshots.get(ref)
    proof = project.prove(snapshot.ref, project.resolve(sample))
    data = proof.to_bytes()
    if output is not None:
        _write(output, data)
    document = {
        "ref": snapshot.ref,
        "root": snapshot.root,
        "sample_id": proof.sample_id,
        "bytes": len(data),
        "path": None if output is None else str(output),
        "proof": data.decode(),
    }
    if output is None and not as_json:
        sys.stdout.write(data.decode() + "\n")
        sys.stdout.flush()
        return
    session.out.show(document, lambda: _prove_lines(document))


@app.command("check")
def check_(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="PROOF.json", help="What `snapshot prove` wrote.")],
    root: Annotated[
        str | None, typer.Option("--root", metavar="HEX", help="The snapshot's root; needs no project.")
    ] = None,
    ref: Annotated[
        str | None, typer.Option("--ref", metavar="NAME@V", help="The snapshot, of this project.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a proof against a snapshot's root. Exit code 7 when it does not lead there."""
    session = start(ctx, as_json)
    if (root is None) == (ref is None):
        raise InputError(
            "A proof is checked against one root: give --root HEX, or --ref NAME@V for a snapshot of this project.",
            kind="bad_root",
        )
    wanted = _root(root) if root is not None else session.project.snapshots.get(str(ref)).root
    data = _read(file)
    row = check(data, wanted)
    document = {
        "root": wanted,
        "sample_id": row["sample_id"],
        "branches": len(Proof.from_bytes(data).branches),
    }
    document |= {"ok": True, "row": row}
    session.out.show(document, lambda: _check_lines(document))


def _root(text: str) -> str:
    try:
        return check_sample_id(text)
    except InputError:
        raise InputError(
            f"{text!r} is not a root: expected the 64 lower-case hex digits that `refinery snapshot show` gives.",
            kind="bad_root",
        ) from None


def _read(file: Path) -> bytes:
    """A proof's bytes, without the line end that a shell adds."""
    try:
        with file.open("rb") as opened:
            return opened.read(MOST_BYTES + 2).removesuffix(b"\n")
    except OSError as error:
        raise InputError(f"The proof {file} cannot be read: {error.strerror}.", kind="no_such_file") from None


def _write(file: Path, data: bytes) -> None:
    try:
        file.write_bytes(data)
    except OSError as error:
        raise InputError(
            f"The proof cannot be written to {file}: {error.strerror}.", kind="unwritable_file"
        ) from None


def _prove_lines(document: dict[str, Any]) -> Iterator[Line]:
    yield line(
        (f"{document['path']}", "bold"),
        f"  {document['bytes']:,} bytes: {document['ref']} holds sample {document['sample_id']}",
    )
    yield f"root  {document['root']}"
    yield f"check it anywhere: refinery snapshot check {document['path']} --root {document['root']}"


def _check_lines(document: dict[str, Any]) -> Iterator[Line]:
    yield line(
        (f"sample {document['sample_id']} is in the snapshot: ", "green"),
        f"{many(document['branches'], 'branch')} lead to its root {document['root'][:16]}",
    )
    for name, value in document["row"].items():
        if name != "sample_id":
            yield f"  {name:15}{value}"
