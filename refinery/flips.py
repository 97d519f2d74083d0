"""The smallest change that would move a sample into gold or out of it: acts of a person and policies, each tried."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from refinery.ledger import Actor, ActorKind, Event, EventType, LedgerView
from refinery.ledger.selection import undo_events, undoable
from refinery.policy import Policy
from refinery.replay import Gathered, Replayer
from refinery.verdicts import BLOCKED, GOLD, PENDING

YOU = Actor(ActorKind.PERSON, "you")


@dataclass(frozen=True, slots=True)
class Flip:
    """One change that turns the verdict into `to`; `tried` tells that evaluating with it was seen to do so.

    `act` says the same for machines: `undo` (ids of events), `unflag` (a kind), `flag` (a kind that a person stands), in this
    order and as one act; or `without` (names of rules that the policy leaves out). Empty for what no act brings about.
    """

    change: str
    to: str
    tried: bool
    act: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Case:
    """One sample with all of its cluster, its verdict and reasons, and what the ledger says of these samples."""

    sample_id: str
    verdict: str
    reasons: list[str]
    gathered: Gathered
    view: LedgerView


def flips(case: Case, replayer: Replayer, policy: Policy) -> Iterator[Flip]:
    """What moves the sample into gold, or out of it, the smallest change first: single events, then several, then policies.

    Only the smallest of each kind is named. A pending sample waits for facts, one that cannot be decoded for other bytes.
    """
    if case.verdict == PENDING:
        yield Flip("compute the missing facts: `refinery run`", "gold or held", False)
        return
    found = False
    most = 0
    for acts in _acts(case):
        if found and len(acts) > most:
            break
        to = _judged(case, replayer, policy, _events(case, acts))
        if (to == GOLD) != (case.verdict == GOLD):
            found, most = True, len(acts)
            yield Flip(_sentence(case, acts), to, True, _machine(acts))
    if case.verdict != GOLD:
        policies = list(_policies(case, replayer, policy))
        yield from policies
        if not found and not policies:
            yield Flip(
                "only other bytes: no flag and no policy makes a picture of what cannot be decoded",
                GOLD,
                False,
            )


Act = tuple[str, Any]
"""`undo` with an event, `unflag` or `flag` with a kind."""


def _acts(case: Case) -> Iterator[list[Act]]:
    """What to try, by the number of events."""
    word = ("flag", "reject" if case.verdict == GOLD else "keep")
    standing = case.view.flags(case.sample_id)
    singles: list[list[Act]] = [[("undo", event)] for event in standing]
    yield from singles
    yield [word]
    if case.reasons == [BLOCKED]:
        yield [("unflag", BLOCKED)]
        yield [("unflag", BLOCKED), word]


def _events(case: Case, acts: list[Act]) -> list[Event]:
    events: list[Event] = []
    for what, on in acts:
        if what == "undo":
            events += undo_events(case.view, undoable(case.view, [on]), YOU)
        else:
            kind = EventType.UNFLAG if what == "unflag" else EventType.FLAG
            events.append(Event(kind, YOU, case.sample_id, on))
    return events


def _sentence(case: Case, acts: list[Act]) -> str:
    short = case.sample_id[:12]
    said = []
    for what, on in acts:
        if what == "undo":
            said.append(f"undo {on.describe()} (event {on.id[:12]}, offset {on.offset})")
        elif what == "unflag":
            said.append(f"take off every {on} flag: `refinery unflag {short} --kind {on}`")
        else:
            said.append(f"a person's {on}: `refinery flag {short} --kind {on}`")
    return ", then ".join(said)


def _machine(acts: list[Act]) -> dict[str, Any]:
    return {what: [on.id] if what == "undo" else on for what, on in acts}


def _policies(case: Case, replayer: Replayer, policy: Policy) -> Iterator[Flip]:
    """The policy without the rules that hold the sample, which may be more than those that hold it now."""
    dropped: list[str] = []
    reasons = case.reasons
    while True:
        more = [rule.name for rule in policy.rules if rule.name in reasons]
        if not more:
            return
        dropped += more
        kept = tuple(rule for rule in policy.rules if rule.name not in dropped)
        described, verdicts = replayer.judge(case.gathered, replace(policy, rules=kept), case.view)
        at = described.documents["sample_id"].to_pylist().index(case.sample_id)
        reasons = verdicts.reasons[at]
        if verdicts.verdict[at] == GOLD:
            held = [rule.hold.text for rule in policy.rules if rule.name in dropped]
            text = " and ".join(f"not ({text})" for text in held)
            without = f"a policy without {', '.join(dropped)}"
            yield Flip(f"other facts such that {text}, or {without}", GOLD, True, {"without": dropped})
            return


def _judged(case: Case, replayer: Replayer, policy: Policy, events: list[Event]) -> str:
    described, verdicts = replayer.judge(case.gathered, policy, case.view.with_events(events))
    return str(verdicts.verdict[described.documents["sample_id"].to_pylist().index(case.sample_id)])
