"""Explain: why one sample is in or out of gold, and the smallest change that would flip it.

Everything is computed anew from facts, ledger and policy; the stored state is only compared with.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from refinery.asof import AsOf, as_of
from refinery.batches import Batches
from refinery.digests import check_sample_id
from refinery.errors import InputError
from refinery.evals.results import eval_field
from refinery.facts import FactStore
from refinery.flips import Case, Flip, flips
from refinery.inputs import Steps
from refinery.ledger import Event, Ledger, LedgerView
from refinery.policy import Policy, Rule
from refinery.replay import Replayer
from refinery.snapshots import Snapshots
from refinery.states.head import read_head
from refinery.store import ObjectStore
from refinery.verdicts import BLOCKED, GOLD, PENDING, Verdicts

_HIDDEN = ("thumbnail", "vector")


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
        return self.explain_all([sample_id], policy, at)[0]

    def explain_all(
        self, sample_ids: Sequence[str], policy: Policy, at: int | None = None
    ) -> list[Explanation]:
        """The explanations of some samples, in their order; the store is read once for all. Errors as `explain`."""
        for sample_id in sample_ids:
            check_sample_id(sample_id)
        view = self._ledger.view(at)
        gathered = self._replayer.gather(sample_ids)
        described, verdicts = self._replayer.judge(gathered, policy, view)
        everyone = described.documents["sample_id"].to_pylist()
        places = {i: place for place, i in enumerate(everyone)}
        for sample_id in sample_ids:
            if sample_id not in places:
                raise InputError(
                    f"Sample {sample_id} was never ingested: `refinery search` finds the ids of those that were.",
                    kind="no_such_sample",
                )
        together: dict[str, list[int]] = defaultdict(list)
        clusters = described.documents["cluster"].to_pylist()
        for place, cluster in enumerate(clusters):
            if cluster is not None:
                together[cluster].append(place)
        origins, facts = self._origins(sample_ids), self._fact_values(sample_ids)
        memberships = self._snapshots.memberships(list(sample_ids), upto=at)
        stored = {} if at is not None else self._stored(sample_ids)
        when = None if at is None else as_of(self._ledger, at, policy)
        missing = described.missing.to_pylist()
        found = []
        for sample_id in sample_ids:
            place = places[sample_id]
            verdict, reasons = str(verdicts.verdict[place]), verdicts.reasons[place]
            document = described.documents.slice(place, 1).to_pylist()[0]
            mates = [place] if clusters[place] is None else together[clusters[place]]
            cluster = _cluster(everyone, verdicts, clusters[place], mates)
            rules = [self._rule(rule, document, verdicts, place) for rule in policy.rules]
            about = view.about([everyone[mate] for mate in mates])
            case = Case(sample_id, verdict, reasons, gathered.only(mates), about)
            found.append(
                Explanation(
                    sample_id=sample_id,
                    verdict=verdict,
                    reasons=reasons,
                    because=list(_because(verdict, reasons, view, sample_id, rules, cluster, missing[place])),
                    policy=policy.name,
                    policy_digest=policy.digest,
                    ledger_offset=view.offset,
                    origins=origins[sample_id],
                    facts=facts.get(sample_id, {}),
                    rules=rules,
                    events=[_event(e, view) for e in view.history(sample_id)],
                    cluster=cluster,
                    snapshots=memberships.get(sample_id, []),
                    flips=list(flips(case, self._replayer, policy)),
                    stored_verdict=stored.get(sample_id),
                    as_of=when,
                )
            )
        return found

    def _stored(self, sample_ids: Sequence[str]) -> dict[str, str]:
        """The verdicts that the state holds."""
        head, _ = read_head(self._store)
        rows = self._replayer.trees.lookup(head.node, sample_ids)
        return dict(zip(rows["sample_id"].to_pylist(), rows["verdict"].to_pylist(), strict=True))

    def _origins(self, sample_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        columns = ["sample_id", "source", "uri", "batch", "ingested_at"]
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for origin in self._batches.origins(columns=columns, sample_ids=sample_ids).to_pylist():
            found[origin["sample_id"]].append({**origin, "ingested_at": origin["ingested_at"].isoformat()})
        return found

    def _fact_values(self, sample_ids: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
        values: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        for name, step in [
            ("inspect", self._steps.inspect),
            *((f"embed:{s}", e) for s, e in self._steps.embed.items()),
        ]:
            columns = [c for c in step.schema.names if c not in _HIDDEN]
            for row in self._facts.read(step, sample_ids=sample_ids, columns=columns).to_pylist():
                values[row["sample_id"]][name] = {
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


def _cluster(
    ids: list[str], verdicts: Verdicts, name: str | None, members: list[int]
) -> dict[str, Any] | None:
    if name is None:
        return None
    keeper = [ids[i] for i in members if verdicts.verdict[i] == GOLD and not verdicts.near_duplicate[i]]
    return {"id": name, "members": [ids[i] for i in members], "keeper": keeper[0] if keeper else None}


def _event(event: Event, view: LedgerView) -> dict[str, Any]:
    undo = view.undone_by(event)
    return {
        **event.to_json(),
        "text": event.describe(),
        "stands": undo is None,
        **({"undone_by": undo.id} if undo else {}),
    }
