"""What every command starts from: the project folder, the opened project, and where words go."""

from __future__ import annotations

import getpass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from refinery.cli.output import Output
from refinery.errors import InputError, RefineryError

if TYPE_CHECKING:
    from refinery.ledger import Actor
    from refinery.project import Refinery

Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, for machines.")]
ActorName = Annotated[str | None, typer.Option("--actor", metavar="NAME", help="Who says so; default: you.")]
As = Annotated[Literal["person", "model", "rule", "eval"], typer.Option("--as", help="What kind of actor.")]


class Session:
    """One run of the command line."""

    def __init__(self) -> None:
        self.folder = Path()
        self.out = Output()

    @cached_property
    def project(self) -> Refinery:
        """The project of `--project`. ConfigError when the folder is none."""
        from refinery.project import Refinery

        return Refinery.open(self.folder)

    def actor(self, name: str | None, kind: str) -> Actor:
        """Who acts: `name`, else the user of this machine. InputError when nobody knows."""
        from refinery.ledger import Actor, ActorKind

        if name is None:
            try:
                name = getpass.getuser()
            except (KeyError, OSError, ImportError):
                name = ""
        if not name.strip():
            raise InputError(
                "Nobody knows who says so: name yourself with --actor NAME.", kind="no_actor"
            ) from None
        return Actor(ActorKind(kind), name.strip())

    def follow_ledger(self) -> int | None:
        """Make the newest ledger events searchable at once: how many documents were written, None when there is no index
        or it is further behind. The events themselves are safe already: an index that does not answer is only noted."""
        project = self.project
        try:
            report = project.projector.follow_ledger()
        except RefineryError as error:
            self.out.note(
                f"Saved, but the index did not follow ({error}); `refinery run` brings it up to date."
            )
            return None
        return report.upserted if report else None


def start(ctx: typer.Context, as_json: bool) -> Session:
    """The session of this command."""
    session = ctx.obj
    assert isinstance(session, Session)
    session.out.json = as_json
    return session
