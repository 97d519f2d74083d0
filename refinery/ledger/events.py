"""Ledger events: what people, models, rules and evals said about samples, one at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from json.encoder import encode_basestring as _quoted
from typing import Any

from refinery.digests import canonical_json, digest
from refinery.errors import CorruptionError


class EventType(StrEnum):
    """What an event does (see docs/ledger.md). Those of RECORDS speak of no sample and move no verdict."""

    FLAG = "flag"
    UNFLAG = "unflag"
    TAG = "tag"
    ATTRIBUTE = "attribute"
    EVAL = "eval"
    FEEDBACK = "feedback"
    FIELD = "field"
    POLICY = "policy"
    VIEW = "view"
    SNAPSHOT = "snapshot"
    UNDO = "undo"


RECORDS = frozenset({EventType.POLICY, EventType.VIEW, EventType.SNAPSHOT})


class ActorKind(StrEnum):
    """Who speaks. A person beats every other kind; a `blocked` flag beats everything, whoever stood it.

    A user is somebody who uses what was trained, and gives feedback: no person of the house.
    """

    PERSON = "person"
    MODEL = "model"
    RULE = "rule"
    EVAL = "eval"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who caused an event."""

    kind: ActorKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind.value} {self.name}"


def fresh_id() -> str:
    """32 random hex digits: an id nobody else makes up."""
    return os.urandom(16).hex()


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `id` makes appending idempotent, `offset` is its place in the ledger (0: not appended yet), `group`
    joins the events of one act, and `target` is the id of the event that an undo compensates."""

    type: EventType
    actor: Actor
    sample_id: str | None = None
    kind: str | None = None
    value: Any = None
    confidence: float | None = None
    reason: str | None = None
    evidence: Any = None
    cause: str | None = None
    target: str | None = None
    time: str = field(default_factory=lambda: datetime.now(UTC).isoformat())
    id: str = field(default_factory=fresh_id)
    group: str = ""
    offset: int = 0

    def at(self, offset: int, group: str = "") -> Event:
        """The same event in its place in the ledger, of an act called `group` unless it names one itself; what is empty is
        None, as it is when it is read."""
        return Event(
            self.type,
            self.actor,
            self.sample_id or None,
            self.kind or None,
            None if self.value == "" else self.value,
            self.confidence,
            self.reason or None,
            None if self.evidence == "" else self.evidence,
            self.cause or None,
            self.target or None,
            self.time,
            self.id,
            self.group or group,
            offset,
        )

    def to_json(self) -> dict[str, Any]:
        """The event as a JSON object without its empty members."""
        found = {name: getattr(self, name) for name in _MEMBERS}
        found["actor"] = {"kind": self.actor.kind.value, "name": self.actor.name}
        return {name: value for name, value in found.items() if value is not None and value != ""}

    def line(self) -> bytes:
        """The event as one line of a segment: canonical JSON, which holds no newline.

        Put together member by member: a general encoder takes most of the time of an append of many.
        """
        return "".join(
            (
                '{"actor":',
                _actor_text(self.actor),
                f',"cause":{_quoted(self.cause)}' if self.cause else "",
                "" if self.confidence is None else f',"confidence":{_text(self.confidence)}',
                "" if self.evidence is None or self.evidence == "" else f',"evidence":{_text(self.evidence)}',
                f',"group":{_quoted(self.group)}' if self.group else "",
                f',"id":{_quoted(self.id)}' if self.id else "",
                f',"kind":{_quoted(self.kind)}' if self.kind else "",
                f',"offset":{self.offset}',
                f',"reason":{_quoted(self.reason)}' if self.reason else "",
                f',"sample_id":{_quoted(self.sample_id)}' if self.sample_id else "",
                f',"target":{_quoted(self.target)}' if self.target else "",
                f',"time":{_quoted(self.time)}' if self.time else "",
                f',"type":"{self.type.value}"',
                "" if self.value is None or self.value == "" else f',"value":{_text(self.value)}',
                "}",
            )
        ).encode()

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Event:
        """The event a segment's line holds. CorruptionError for a type or member this version does not know."""
        try:
            actor = _actor(raw["actor"]["kind"], raw["actor"]["name"])
            return cls(**{**raw, "type": EventType(raw["type"]), "actor": actor})
        except (TypeError, KeyError, ValueError) as error:
            raise CorruptionError(
                f"The ledger holds an event that this version cannot read ({error}): {raw!r:.200}",
                kind="unknown_event",
            ) from None

    @property
    def moves_verdicts(self) -> bool:
        """Whether a verdict, a document or a field can be another one after this event."""
        return self.type not in RECORDS

    def takes_off(self, flag: Event) -> bool:
        """Whether this event, while it stands, takes off `flag`: an unflag takes off every earlier flag of its kind (or
        the tag that it names) from its sample. What a person said, and `blocked`, only a person takes off."""
        return self.names(flag) and flag.offset < self.offset and may_take_off(self.actor, flag)

    def names(self, flag: Event) -> bool:
        """Whether this is an unflag that speaks of `flag`, may its actor take it off or not."""
        if self.type is not EventType.UNFLAG or self.sample_id != flag.sample_id:
            return False
        if self.value is None:
            return flag.type is EventType.FLAG and flag.kind == self.kind
        return flag.type is EventType.TAG and flag.value == self.value

    def describe(self) -> str:
        """One sentence for people: who did what, why, and from which event it follows."""
        why = f": {self.reason}" if self.reason else ""
        follows = f" (follows from event {self.cause[:12]})" if self.cause else ""
        return f"{self._what()} by {self.actor}{why}{follows}"

    def _what(self) -> str:
        match self.type:
            case EventType.TAG:
                return f"tag {self.value}"
            case EventType.UNFLAG:
                return f"unflag {self.kind}" if self.value is None else f"untag {self.value}"
            case EventType.ATTRIBUTE:
                return f"{self.kind} = {self.value!r}"
            case EventType.EVAL:
                return f"eval {self.kind} = {self.value!r}"
            case EventType.FEEDBACK:
                return f"feedback {self.kind}" + ("" if self.value is None else f" ({self.value!r})")
            case EventType.POLICY:
                return f"policy {self.kind} adopted ({str(self.value)[:12]})"
            case EventType.VIEW | EventType.SNAPSHOT:
                version = self.value.get("version") if isinstance(self.value, dict) else None
                did = "saved" if self.type is EventType.VIEW else "frozen"
                return f"{self.type.value} {self.kind}@{version} {did}"
            case EventType.UNDO:
                return "undo"
            case _:
                return f"{self.type.value} {self.kind}"


def of_act(events: Sequence[Event], act: str) -> list[Event]:
    """The events as those of the act with this id (32 hex digits), each with an id that follows from the act's and its place:
    an act that is repeated has the same events, which `Ledger.append` appends once."""
    ids = {e.id: digest(f"{act} {n}".encode())[:32] for n, e in enumerate(events)}
    return [replace(e, id=ids[e.id], cause=ids.get(e.cause or "", e.cause), group=act) for e in events]


def may_take_off(actor: Actor, flag: Event) -> bool:
    """Whether an unflag of `actor` has effect on a flag or tag: a person's word and `blocked` yield to a person only."""
    said_by_person = flag.actor.kind is ActorKind.PERSON
    return actor.kind is ActorKind.PERSON or not (said_by_person or flag.kind == "blocked")


_MEMBERS = tuple(member.name for member in fields(Event))


@lru_cache(maxsize=10_000)
def _actor_text(actor: Actor) -> str:
    return _text({"kind": actor.kind.value, "name": actor.name})


def _text(value: Any) -> str:
    return canonical_json(value).decode()


@lru_cache(maxsize=10_000)
def _actor(kind: str, name: str) -> Actor:
    return Actor(ActorKind(kind), name)
