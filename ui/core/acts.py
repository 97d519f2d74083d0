"""What people do in the viewer: ledger events in their name, each act once however often it is sent."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from refinery.errors import ConfigError, InputError, RefineryError
from refinery.ledger import Actor, ActorKind, Event, Selection, flag_event, tag_event, unflag_events
from refinery.ledger.events import fresh_id, of_act
from refinery.ledger.selection import select, undo_events
from refinery.project import Refinery
from refinery.replay import ReplayReport

NEED_REASON = ("reject", "blocked")
_ACT = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Act:
    """What an act wrote, and why the index did not follow at once; empty when it did."""

    id: str
    events: tuple[Event, ...]
    behind: str = ""


class Acts:
    """The acts of one person on an open project. With `read_only`, every act is refused.

    Each takes an id of its own (32 hex digits, made where the act is made: in the browser). An act that is sent again,
    because its reply was lost, is in the ledger already and is answered with what it wrote.
    """

    def __init__(self, project: Refinery, *, read_only: bool = False) -> None:
        self.project, self.read_only = project, read_only

    def flag(
        self, sample_ids: Sequence[str], kind: str, name: str, reason: str = "", act: str | None = None
    ) -> Act:
        """Stand a flag on each sample, all or none. InputError without a name, and for a reject or blocked without a reason."""
        if kind in NEED_REASON:
            _check_reason(kind, reason)
        return self._stand({kind: sample_ids}, name, reason, act)

    def decide(
        self, keep: Sequence[str], reject: Sequence[str], name: str, reason: str, act: str | None = None
    ) -> Act:
        """Keep some samples and reject others, as one act. InputError without a name, or for rejects without a reason."""
        if reject:
            _check_reason("reject", reason)
        return self._stand({"keep": keep, "reject": reject}, name, reason, act)

    def tag(self, sample_ids: Sequence[str], tag: str, name: str, act: str | None = None) -> Act:
        """Stand a tag on each sample. InputError without a name, and for an empty or very long tag."""
        actor = self.actor(name)
        self.project.samples.check_seen(sample_ids)
        return self._once(act, lambda: [tag_event(i, tag, actor) for i in sample_ids])

    def unflag(self, sample_ids: Sequence[str], kind: str, name: str, act: str | None = None) -> Act:
        """Take the flags of a kind off samples, whoever stood them. InputError when there are none."""
        actor, kinds = self.actor(name), self.project.settings.known_flag_kinds
        view = self.project.ledger.view()
        return self._once(act, lambda: unflag_events(view, sample_ids, kind, actor, known_kinds=kinds))

    def undo(
        self, name: str, *, event: str | None = None, of_act: str | None = None, act: str | None = None
    ) -> Act:
        """Compensate one event, or one act, and all that follows from it. InputError when it is undone already."""
        actor, view = self.actor(name), self.project.ledger.view()
        chosen = Selection(event=event, act=of_act)
        return self._once(act, lambda: undo_events(view, select(view, chosen), actor))

    def replay(self) -> ReplayReport:
        """Bring verdicts and index up to date."""
        self.check_writable()
        report = self.project.replay()
        if self.project.projector.catch_up() is None:
            self.project.project()
        return report

    def actor(self, name: str) -> Actor:
        """The person of this name. InputError without one; ConfigError when the viewer only reads."""
        self.check_writable()
        if not name.strip():
            raise InputError("Say who you are: every act carries a name.", kind="no_actor")
        return Actor(ActorKind.PERSON, name.strip())

    def check_writable(self) -> None:
        """ConfigError when the viewer only reads."""
        if self.read_only:
            raise ConfigError(
                "This viewer is read only: start it without --read-only to write.", kind="read_only"
            )

    def follow(self) -> str:
        """Let the index follow the ledger (see `behind`)."""
        return behind(self.project.projector.follow_ledger)

    def _stand(self, kinds: Mapping[str, Sequence[str]], name: str, reason: str, act: str | None) -> Act:
        """Stand flags by kind, all or none."""
        said = reason.strip() or None
        actor, known = self.actor(name), self.project.settings.known_flag_kinds
        self.project.samples.check_seen([i for ids in kinds.values() for i in ids])
        return self._once(
            act,
            lambda: [
                flag_event(i, kind, actor, known_kinds=known, reason=said)
                for kind, ids in kinds.items()
                for i in ids
            ],
        )

    def _once(self, act: str | None, make: Callable[[], Sequence[Event]]) -> Act:
        act = act or fresh_id()
        if not _ACT.fullmatch(act):
            raise InputError(f"{act!r:.60} is no id of an act: it has 32 hex digits.", kind="bad_act")
        events = self.project.ledger.view().where(group=act)
        if not events:
            made = make()
            if not made:
                raise InputError("No sample was chosen, so there is nothing to say.", kind="no_samples")
            events = self.project.ledger.append(of_act(made, act))
        return Act(act, tuple(events), self.follow())


def behind(follow: Callable[[], object]) -> str:
    """Let the index follow truth, with `follow` (gives None where there is no index); why it did not, empty when it did. What
    was written is safe by now: an index that cannot follow at once catches up at the next run."""
    try:
        return "" if follow() is not None else "There is no index yet."
    except RefineryError as error:
        return f"The index did not follow: {error}"


def _check_reason(kind: str, reason: str) -> None:
    if not reason.strip():
        raise InputError(f"Say why: {kind} needs a reason.", kind="no_reason")
