"""Ledger events: what people, models, rules and evals said about samples, one at a time."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any

from refinery.digests import canonical_json, check_sample_id
from refinery.errors import CorruptionError, InputError, did_you_mean


class EventType(StrEnum):
    """What an event does: stand a flag or tag on a sample, set an attribute, register a field, or undo another event."""

    FLAG = "flag"
    TAG = "tag"
    ATTRIBUTE = "attribute"
    FIELD = "field"
    UNDO = "undo"


class ActorKind(StrEnum):
    """Who speaks. A person beats every other kind; a `blocked` flag beats everything, whoever stood it."""

    PERSON = "person"
    MODEL = "model"
    RULE = "rule"
    EVAL = "eval"


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
        """The same event in its place in the ledger, of an act called `group` unless it names one itself."""
        members = {name: getattr(self, name) for name in _MEMBERS}
        return Event(**{**members, "group": self.group or group, "offset": offset})

    def to_json(self) -> dict[str, Any]:
        """The event as a JSON object without its empty members."""
        found = {name: getattr(self, name) for name in _MEMBERS}
        found["actor"] = {"kind": self.actor.kind.value, "name": self.actor.name}
        return {name: value for name, value in found.items() if value is not None and value != ""}

    def line(self) -> bytes:
        """The event as one line of a segment: canonical JSON, which holds no newline."""
        return canonical_json(self.to_json())

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

    def describe(self) -> str:
        """One sentence for people: who did what, why, and from which event it follows."""
        what = {
            EventType.FLAG: f"flag {self.kind}",
            EventType.TAG: f"tag {self.value}",
            EventType.ATTRIBUTE: f"{self.kind} = {self.value!r}",
            EventType.FIELD: f"field {self.kind}",
            EventType.UNDO: "undo",
        }[self.type]
        why = f": {self.reason}" if self.reason else ""
        follows = f" (follows from event {self.cause[:12]})" if self.cause else ""
        return f"{what} by {self.actor}{why}{follows}"


_MEMBERS = tuple(member.name for member in fields(Event))


@lru_cache(maxsize=10_000)
def _actor(kind: str, name: str) -> Actor:
    return Actor(ActorKind(kind), name)


def flag_event(
    sample_id: str,
    kind: str,
    actor: Actor,
    *,
    known_kinds: tuple[str, ...],
    reason: str | None = None,
    value: Any = None,
    confidence: float | None = None,
    evidence: Any = None,
    cause: str | None = None,
) -> Event:
    """A checked flag. InputError for an unknown kind (with a suggestion), a bad sample id or confidence."""
    check_sample_id(sample_id)
    if kind not in known_kinds:
        raise InputError(
            f"There is no flag kind {kind!r}.{did_you_mean(kind, known_kinds)} Known kinds: {', '.join(known_kinds)};"
            " add your own under `flag_kinds:` in refinery.yaml.",
            kind="unknown_flag_kind",
        )
    if confidence is not None and not 0 <= confidence <= 1:
        raise InputError(f"A confidence lies between 0 and 1: found {confidence}.", kind="bad_confidence")
    return Event(
        EventType.FLAG,
        actor,
        sample_id=sample_id,
        kind=kind,
        value=value,
        confidence=confidence,
        reason=reason,
        evidence=evidence,
        cause=cause,
    )


def tag_event(sample_id: str, tag: str, actor: Actor, *, reason: str | None = None) -> Event:
    """A checked tag: free words, at most 200 characters, not empty."""
    check_sample_id(sample_id)
    if not tag.strip() or len(tag) > 200:
        raise InputError(f"A tag has 1 to 200 characters: found {tag!r:.220}.", kind="bad_tag")
    return Event(EventType.TAG, actor, sample_id=sample_id, kind="tag", value=tag.strip(), reason=reason)
