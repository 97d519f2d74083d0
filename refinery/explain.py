"""Explain: why one sample is in or out of gold, and the smallest change that would flip it.

Everything is computed anew from facts, ledger and policy; the stored state is only compared with.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from refinery.asof import AsOf, as_of
from refinery.batches import Batches
from refinery.digests import check_sample_id
from refinery.documents import Described
from refinery.errors import InputError
from refinery.evals.results import eval_field
from refinery.facts import FactStore
from refinery.inputs import Steps
from refinery.ledger import Actor, ActorKind, Event, EventType, Ledger, LedgerView
from refinery.ledger.selection import undo_events, undoable
from refinery.policy import Policy, Rule
from refinery.replay import Replayer
from refinery.snapshots import Snapshots
from refinery.states.head import read_head
from refinery.store import ObjectStore
from refinery.verdicts import BLOCKED, GOLD, PENDING, Verdicts

_HIDDEN = ("thumbnail", "vector")


@dataclass(frozen=True, slots=True)
class Flip:
    """One change that turns the verdict into `to`; `tried` tells that evaluating with it was seen to do so."""

    change: str
    to: str
    tried: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a sample has its verdict. `rules` say for each rule of the policy whether it matched and what it compared;
    `flips` are ordered, the smallest change first. `as_of` is set when it was asked for an offset; the verdict stored then
    is not known."""

    sample_id: str
    verdict: str
    reasons: list[str]
    because: list[str]
    policy: str
    policy_digest: str
    ledger_offset: int
    origins: list[dict[str, Any]]
    facts: dict[str, dict[str, Any]]
    rules: list[dict[str, Any]]
    events: list[dict[str, Any]]
    cluster: dict[str, Any] | None
    snapshots: list[str]
    flips: list[Flip]
    stored_verdict: str | None
    as_of: AsOf | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Explainer:
    """Explains samples of one project under one policy."""

    def __init__(
        self,
        store: ObjectStore,
        ledger: Ledger,
        batches: Batches,
        facts: FactStore,
        replayer: Replayer,
        snapshots: Snapshots,
        steps: Steps,
    ) -> None:
        self._store, self._ledger, self._batches, self._facts = store, ledger, batches, facts
        self._replayer, self._snapshots, self._steps = replayer, snapshots, steps

    def explain(self, sample_id: str, policy: Policy, at: int | None = None) -> Explanation:
        """The explanation of one sample, now or after the ledger offset `at`.

        InputError when it was never ingested, or when the ledger is not that long.
        """
        check_sample_id(sample_id)
        view = self._ledger.view(at)
        described, verdicts = self._replayer.evaluate(policy, view, [sample_id])
        ids = described.documents["sample_id"].to_pylist()
        if sample_id not in ids:
            raise InputError(
                f"Sample {sample_id} was never ingested: `refinery search` finds the ids of those that were.",
                kind="no_such_sample",
            )
        place = ids.index(sample_id)
        verdict, reasons = str(verdicts.verdict[place]), verdicts.reasons[place]
        document = described.documents.slice(place, 1)
        cluster = _cluster(described, verdicts, place)
        rules = [self._rule(rule, document.to_pylist()[0], verdicts, place) for rule in policy.rules]
        return Explanation(
            sample_id=sample_id,
            verdict=verdict,
            reasons=reasons,
            because=list(
                _because(verdict, reasons, view, sample_id, rules, cluster, described.missing[place].as_py())
            ),
            policy=policy.name,
            policy_digest=policy.digest,
            ledger_offset=view.offset,
            origins=self._origins(sample_id),
            facts=self._fact_values(sample_id),
            rules=rules,
            events=[_event(e, view) for e in view.history(sample_id)],
            cluster=cluster,
            snapshots=self._snapshots.memberships([sample_id], upto=at).get(sample_id, []),
            flips=list(self._flips(sample_id, verdict, reasons, view, policy, rules)),
            stored_verdict=self._stored(sample_id) if at is None else None,
            as_of=None if at is None else as_of(self._ledger, at, policy),
        )

    def _stored(self, sample_id: str) -> str | None:
        """The verdict that the state holds."""
        head, _ = read_head(self._store)
        stored: list[str] = self._replayer.trees.lookup(head.node, [sample_id])["verdict"].to_pylist()
        return stored[0] if stored else None

    def _origins(self, sample_id: str) -> list[dict[str, Any]]:
        columns = ["sample_id", "source", "uri", "batch", "ingested_at"]
        found = self._batches.origins(columns=columns, sample_ids=[sample_id]).to_pylist()
        return [{**o, "ingested_at": o["ingested_at"].isoformat()} for o in found]

    def _fact_values(self, sample_id: str) -> dict[str, dict[str, Any]]:
        values = {}
        for name, step in [
            ("inspect", self._steps.inspect),
            *((f"embed:{s}", e) for s, e in self._steps.embed.items()),
        ]:
            columns = [c for c in step.schema.names if c not in _HIDDEN]
            for row in self._facts.read(step, sample_ids=[sample_id], columns=columns).to_pylist():
                values[name] = {
                    "step_key": step.key,
                    **{k: v for k, v in row.items() if k != "sample_id" and v is not None},
                }
        return values

    def _rule(self, rule: Rule, document: dict[str, Any], verdicts: Verdicts, place: int) -> dict[str, Any]:
        found = {name: document[name] for name in sorted(rule.hold.fields)}
        if "near_duplicate" in found:
            found["near_duplicate"] = bool(verdicts.near_duplicate[place])
        return {
            "name": rule.name,
            "hold": rule.hold.text,
            "matched": bool(verdicts.matches[rule.name][place]),
            "found": found,
        }

    def _flips(
        self,
        sample_id: str,
        verdict: str,
        reasons: list[str],
        view: LedgerView,
        policy: Policy,
        rules: list[dict[str, Any]],
    ) -> Iterator[Flip]:
        """Single acts that flip the verdict, each tried, then what the rules would have to say."""
        if verdict == PENDING:
            yield Flip("compute the missing facts: `refinery run`", "gold or held", False)
            return
        you = Actor(ActorKind.PERSON, "you")
        trials = [
            (
                f"undo {event.describe()} (event {event.id[:12]}, offset {event.offset})",
                undo_events(view, undoable(view, [event]), you),
            )
            for event in view.flags(sample_id)
        ]
        word = "reject" if verdict == GOLD else "keep"
        trials.append(
            (
                f"a person's {word}: `refinery flag {sample_id[:12]} --kind {word}`",
                [Event(EventType.FLAG, you, sample_id, word)],
            )
        )
        found = False
        for change, events in trials:
            outcome = self._try(sample_id, events, view, policy)
            if (outcome == GOLD) != (verdict == GOLD):
                found = True
                yield Flip(change, outcome, True)
        matched = [r for r in rules if r["matched"]]
        if verdict != GOLD and matched and reasons[0] in {r["name"] for r in matched}:
            text = " and ".join(f"not ({r['hold']})" for r in matched)
            yield Flip(f"other facts or another policy, such that {text}", GOLD, False)
        elif verdict != GOLD and not found:
            yield Flip(
                "only other bytes: no flag and no policy makes a picture of what cannot be decoded",
                GOLD,
                False,
            )

    def _try(self, sample_id: str, events: list[Event], view: LedgerView, policy: Policy) -> str:
        described, verdicts = self._replayer.evaluate(policy, view.with_events(events), [sample_id])
        return str(verdicts.verdict[described.documents["sample_id"].to_pylist().index(sample_id)])


def _because(
    verdict: str,
    reasons: list[str],
    view: LedgerView,
    sample_id: str,
    rules: list[dict[str, Any]],
    cluster: dict[str, Any] | None,
    missing: list[str],
) -> Iterator[str]:
    """The decisive sentences, in order."""
    decision = view.decision(sample_id)
    if reasons == [BLOCKED]:
        yield from (f"{e.describe()}; blocked beats everything" for e in view.blocked(sample_id))
    elif verdict == PENDING:
        yield f"no verdict yet: facts of {', '.join(missing)} are missing"
    elif decision is not None:
        yield f"{decision.event.describe()}; a person beats models and rules"
    elif verdict == GOLD:
        yield "no rule of the policy holds it and no flag stands against it"
    else:
        named = {r["name"]: r for r in rules}
        for reason in reasons:
            if reason not in named:
                yield f"its inspection failed: {reason}"
                continue
            rule = named[reason]
            found = ", ".join(f"{k} = {v!r}" for k, v in rule["found"].items())
            yield f"rule {reason}: {rule['hold']} (found {found})"
            if "near_duplicate" in rule["found"] and cluster:
                yield f"near-duplicate of {cluster['keeper']}, which is kept"
            if "flags" in rule["found"]:
                yield from (e.describe() for e in view.flags(sample_id))
            yield from (
                e.describe() for e in view.evals(sample_id) if eval_field(str(e.kind)) in rule["found"]
            )


def _cluster(described: Described, verdicts: Verdicts, place: int) -> dict[str, Any] | None:
    clusters = described.documents["cluster"].to_pylist()
    if clusters[place] is None:
        return None
    ids = described.documents["sample_id"].to_pylist()
    members = [i for i, c in enumerate(clusters) if c == clusters[place]]
    keeper = [ids[i] for i in members if verdicts.verdict[i] == GOLD and not verdicts.near_duplicate[i]]
    return {
        "id": clusters[place],
        "members": [ids[i] for i in members],
        "keeper": keeper[0] if keeper else None,
    }


def _event(event: Event, view: LedgerView) -> dict[str, Any]:
    undo = view.undone_by(event)
    return {
        **event.to_json(),
        "text": event.describe(),
        "stands": undo is None,
        **({"undone_by": undo.id} if undo else {}),
    }
