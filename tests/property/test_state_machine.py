"""Any history of landings, facts, events, policies, replays and crashes ends where a plain model of verdicts says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from refinery.accounting import audit
from refinery.config import InspectSettings, NearDuplicateSettings
from refinery.export import Exporter
from refinery.gc import Garbage
from refinery.inputs import Steps
from refinery.ledger import Actor, ActorKind, Event, EventType
from refinery.near_duplicates import near_duplicates_step
from refinery.snapshots import Snapshot, Snapshots
from refinery.states.head import read_head
from refinery.steps.inspect import inspect_step
from refinery.store.local import LocalStore
from refinery.takedown import Takedown
from tests.synthetic import POLICY, Sample, Synthetic, gold, quick_folder

ANA, CRITIC = Actor(ActorKind.PERSON, "ana"), Actor(ActorKind.MODEL, "critic")
SAMPLES = [
    Sample(
        n,
        look=n % 3 if n < 7 else None,
        pixels=100 + n % 2 if n in (6, 7, 8) else None,
        side=40 if n in (2, 9) else 100 + n,
        sharpness=0.05 if n == 10 else 0.3,
        failure="truncated" if n == 11 else None,
    )
    for n in range(12)
]
BATCHES = [SAMPLES[0:5], SAMPLES[4:9], SAMPLES[8:12], SAMPLES[0:12:3]]
SIDES = {"small": 64, "none": 0, "large": 104, "scored": 64}
"""Policies by name: the least side each asks for; `none` does not look at near-duplicates, `scored` looks at a score."""
SCORE = Event(EventType.FIELD, ANA, kind="score", value={"type": "number", "description": ""})


class Crash(Exception):
    """The process ended at a write."""


class CrashingStore(LocalStore):
    """A local store whose n-th write from now never returns: it happened, or it did not."""

    left: int | None = None
    happens = False

    def _write(self, write: Any) -> Any:
        if self.left == 0:
            if self.happens:
                write()
            raise Crash
        if self.left is not None:
            self.left -= 1
        return write()

    def put_if_absent(self, key: str, data: bytes) -> bool:
        return bool(self._write(lambda: super(CrashingStore, self).put_if_absent(key, data)))

    def put_if_match(self, key: str, data: bytes, etag: str | None) -> str:
        if etag is None:
            return super().put_if_match(key, data, etag)  # which is a put_if_absent
        return str(self._write(lambda: super(CrashingStore, self).put_if_match(key, data, etag)))


class Model:
    """Verdicts by the words of the documentation, in plain dicts."""

    def __init__(self) -> None:
        self.landed: set[int] = set()
        self.version = 0
        self.computed_by: dict[int, set[int]] = {0: set(), 1: set()}
        self.events: list[Event] = []
        self.taken_down: set[str] = set()
        self.policy = "small"

    @property
    def computed(self) -> set[int]:
        return self.computed_by[self.version]

    def standing(self, kind: EventType) -> list[Event]:
        """The events that stand: an undo takes its target away unless it is undone, an unflag earlier flags of its kind."""
        undone: set[str] = set()
        for event in reversed(self.events):
            if event.type is EventType.UNDO and event.id not in undone:
                undone.add(str(event.target))
        there = [e for e in self.events if e.id not in undone]
        off = [e for e in there if e.type is EventType.UNFLAG]
        return [
            e
            for e in there
            if e.type is kind
            and not any(
                kind is EventType.FLAG
                and (u.sample_id, u.kind) == (e.sample_id, e.kind)
                and u.offset > e.offset
                and (u.actor == ANA or (e.actor != ANA and e.kind != "blocked"))
                for u in off
            )
        ]

    def scores(self) -> dict[str, float]:
        """A person's word beats any other, then the newest."""
        said = self.standing(EventType.ATTRIBUTE)
        if not self.standing(EventType.FIELD):
            return {}
        return {str(e.sample_id): e.value for who in (CRITIC, ANA) for e in said if e.actor == who}

    def seen(self, batches: set[int]) -> dict[str, Sample]:
        return {s.id: s for b in batches for s in BATCHES[b]}

    def failure(self, s: Sample) -> str | None:
        """Why nothing but this is known of a sample."""
        return s.failure or ("taken_down" if s.id in self.taken_down else None)

    def clusters(self) -> dict[str, int]:
        """A number of each sample's cluster: what shares a look or pixels, directly or through others, is together."""
        label: dict[str, int] = {}
        compared = [s for s in self.seen(self.computed).values() if self.failure(s) is None]
        for number, start in enumerate(compared):
            queue = [start] if start.id not in label else []
            for one in queue:
                label[one.id] = number
                queue += [
                    s
                    for s in compared
                    if s.id not in label
                    and s not in queue
                    and (s.phash == one.phash or (s.pixels is not None and s.pixels == one.pixels))
                ]
        return label

    def verdicts(self) -> dict[str, tuple[str, list[str]]]:
        flags: dict[str, list[Event]] = {}
        for event in self.standing(EventType.FLAG):
            flags.setdefault(str(event.sample_id), []).append(event)
        known, label, scores = self.seen(self.computed), self.clusters(), self.scores()
        found: dict[str, tuple[str, list[str]]] = {}
        rules: dict[str, list[str]] = {}
        candidates: dict[int, list[tuple[bool, int, int, str]]] = {}
        for i, s in self.seen(self.landed).items():
            mine = flags.get(i, [])
            said = [e.kind for e in mine if e.actor.kind is ActorKind.PERSON and e.kind in ("keep", "reject")]
            word = said[-1] if said else None
            if any(e.kind == "blocked" for e in mine):
                found[i] = ("held", ["blocked"])
            elif i in known and (failure := self.failure(s)):
                found[i] = ("held", [failure])
            elif i not in known:
                found[i] = ("pending", [])
            elif word == "reject":
                found[i] = ("held", ["rejected"])
            else:
                rules[i] = [
                    name
                    for name, holds in (
                        ("too_small", s.side < SIDES[self.policy]),
                        ("blurry", s.sharpness < 0.1),
                        ("low", self.policy == "scored" and scores.get(i, 1.0) < 0.5),
                        ("flagged", any(e.kind == "reject" for e in mine)),
                    )
                    if holds
                ]
                if word == "keep" or not rules[i]:
                    rank = (word != "keep", -s.side * s.side, -(1000 + s.number), i)
                    candidates.setdefault(label[i], []).append(rank)
                if word == "keep":
                    found[i] = ("gold", [])
        for i, reasons in rules.items():
            rivals = candidates.get(label[i])
            beaten = rivals is not None and min(rivals)[3] != i
            if i not in found:
                why = reasons + (["near_duplicate"] if beaten and self.policy != "none" else [])
                found[i] = ("held" if why else "gold", why)
        return found


class Histories(RuleBasedStateMachine):
    """Each rule does the same to the project and to the model; what must hold is looked at after every replay."""

    @initialize()
    def begin(self) -> None:
        self.folder = quick_folder()
        self.model = Model()
        self.frozen: list[tuple[Snapshot, list[dict[str, Any]]]] = []
        self.names: dict[int, str] = {}
        self.fresh = False
        self.model.events += Synthetic(LocalStore(Path(self.folder.name))).ledger.append([SCORE])
        self.reopen()

    @rule()
    def reopen(self) -> None:
        self.store = CrashingStore(Path(self.folder.name))
        self.project = Synthetic(self.store)
        self.compute_by(self.model.version)

    @rule(version=st.sampled_from([0, 0, 1]))
    def compute_by(self, version: int) -> None:
        """Steps of another version: what was computed under that one counts, and nothing else."""
        inspect, embed = (
            inspect_step(InspectSettings(thumbnail_side=256 + version)),
            self.project.steps.default_embed,
        )
        near = near_duplicates_step(NearDuplicateSettings(), inspect, embed)
        self.project.steps = Steps(inspect, {"default": embed}, near)
        self.model.version = version
        left = self.project.facts.files(inspect).keys()
        self.model.computed_by[version] &= {b for b, name in self.names.items() if name in left}
        self.project.cluster()
        self.adopt(self.model.policy)

    @rule(policy=st.sampled_from(sorted(SIDES)))
    def adopt(self, policy: str) -> None:
        text = POLICY.replace("min_side < 64", f"min_side < {SIDES[policy]}")
        if policy == "scored":
            text = text.replace(
                "  - {name: flagged", "  - {name: low, hold: 'score < 0.5'}\n  - {name: flagged"
            )
        if policy == "none":
            text = "\n".join(line for line in text.splitlines() if "name: near_duplicate" not in line)
        self.model.policy, self.fresh = policy, False
        self.project.policy = self.project.parse(text)
        self.replayer = self.project.replayer

    @rule(batch=st.sampled_from(range(len(BATCHES))), facts=st.booleans())
    def ingest(self, batch: int, facts: bool) -> None:
        self.names[batch] = self.project.land(BATCHES[batch], f"2026-01-0{batch + 1}T00:00:00+00:00")
        self.model.landed.add(batch)
        self.fresh = False
        if facts and batch not in self.model.computed:
            self.project.compute(
                self.names[batch], [replace(s, failure=self.model.failure(s)) for s in BATCHES[batch]]
            )
            self.model.computed.add(batch)

    def say(self, event: Event) -> None:
        self.model.events += self.project.ledger.append([event])
        self.fresh = False

    @rule(
        sample=st.sampled_from(SAMPLES),
        actor=st.sampled_from([ANA, CRITIC]),
        kind=st.sampled_from(["keep", "reject", "blocked"]),
    )
    def flag(self, sample: Sample, actor: Actor, kind: str) -> None:
        self.say(Event(EventType.FLAG, actor, sample_id=sample.id, kind=kind))

    @rule(
        sample=st.sampled_from(SAMPLES),
        actor=st.sampled_from([ANA, CRITIC]),
        kind=st.sampled_from(["reject", "blocked"]),
    )
    def unflag(self, sample: Sample, actor: Actor, kind: str) -> None:
        self.say(Event(EventType.UNFLAG, actor, sample_id=sample.id, kind=kind))

    @rule(
        sample=st.sampled_from(SAMPLES),
        actor=st.sampled_from([ANA, CRITIC]),
        value=st.sampled_from([0.1, 0.9]),
    )
    def score(self, sample: Sample, actor: Actor, value: float) -> None:
        self.say(Event(EventType.ATTRIBUTE, actor, sample_id=sample.id, kind="score", value=value))

    @rule(
        sample=st.sampled_from(SAMPLES), kind=st.sampled_from([EventType.TAG, EventType.EVAL, EventType.VIEW])
    )
    def say_what_moves_no_verdict(self, sample: Sample, kind: EventType) -> None:
        about = None if kind is EventType.VIEW else sample.id
        name = "tag" if kind is EventType.TAG else "probe"
        self.say(Event(kind, CRITIC, sample_id=about, kind=name, value="said"))

    @precondition(lambda self: len(self.model.events) > 1)
    @rule(which=st.integers(0, 60))
    def undo(self, which: int) -> None:
        target = self.model.events[1:][which % (len(self.model.events) - 1)]  # the field stays
        if target.type is EventType.VIEW:
            return
        self.model.events += self.project.ledger.undo([target], ANA)
        self.fresh = False

    @rule(sample=st.sampled_from(SAMPLES), happens=st.booleans())
    def crash_while_appending(self, sample: Sample, happens: bool) -> None:
        self.store.left, self.store.happens = 0, happens
        event = Event(EventType.FLAG, ANA, sample_id=sample.id, kind="reject")
        try:
            self.project.ledger.append([event])
        except Crash:
            self.reopen()
        self.say(event)

    @rule(left=st.integers(0, 3), happens=st.booleans())
    def crash_while_replaying(self, left: int, happens: bool) -> None:
        self.store.left, self.store.happens = left, happens
        try:
            self.replay(False)
        except Crash:
            self.reopen()
        self.store.left = None

    @rule(full=st.booleans())
    def replay(self, full: bool) -> None:
        before = self.replayer.replay(self.project.policy)
        if full:
            anew = self.project.replayer.replay(self.project.policy, full=True)
            assert (anew.root, anew.counts, anew.held) == (before.root, before.counts, before.held)
        self.fresh = True

    @rule()
    def freeze(self) -> None:
        self.replay(False)
        snapshot, _ = self.project.freeze_state(Snapshots(self.store), "set", gold)
        self.frozen.append((snapshot, Snapshots(self.store).rows(snapshot).to_pylist()))

    @rule(sample=st.sampled_from(SAMPLES))
    def take_down(self, sample: Sample) -> None:
        """What is known of the sample goes; it is blocked by the flag that stands, or by one more."""
        if sample.id not in self.model.seen(self.model.landed):
            return
        project, snapshots = self.project, Snapshots(self.store, self.project.ledger)
        blocked = any(
            e.sample_id == sample.id and e.kind == "blocked" for e in self.model.standing(EventType.FLAG)
        )
        exporter = Exporter(self.store, snapshots)
        takedown = Takedown(
            self.store, project.ledger, project.batches, snapshots, exporter, self.replayer, project.steps
        )
        takedown.run([sample.id], "asked by its author", ANA, project.policy)
        said = project.ledger.events(after=len(self.model.events))
        assert [(e.sample_id, e.kind) for e in said] == [(sample.id, "blocked")] * (not blocked)
        self.model.events += said
        self.model.taken_down.add(sample.id)
        self.fresh = True

    @rule()
    def collect_garbage(self) -> None:
        """All that is there counts as old. Facts that nothing records may go, those in force and verdicts may not."""
        steps = self.project.steps
        in_force = [steps.inspect, steps.near_duplicates, steps.default_embed]
        later = datetime.now(UTC) + timedelta(days=1)
        Garbage(self.store, in_force, older_than=timedelta(0), now=later).collect()

    @invariant()
    def every_sample_has_the_verdict_and_the_reasons_of_the_model(self) -> None:
        events = self.project.ledger.events()
        assert [e.id for e in events] == [e.id for e in self.model.events]
        assert [e.offset for e in events] == list(range(1, len(events) + 1))
        if self.fresh:
            rows = self.replayer.trees.rows(read_head(self.store)[0].node).to_pylist()
            assert {r["sample_id"]: (r["verdict"], r["reasons"]) for r in rows} == self.model.verdicts()

    def teardown(self) -> None:
        try:
            self.at_the_end()
        finally:
            self.folder.cleanup()

    def at_the_end(self) -> None:
        self.replay(True)
        self.every_sample_has_the_verdict_and_the_reasons_of_the_model()
        counts = audit(self.store, self.project.batches)
        assert counts["seen"] == counts["gold"] + counts["held"] + counts["pending"]
        assert counts["seen"] == len(self.model.seen(self.model.landed))
        for snapshot, rows in self.frozen:
            kept = Snapshots(self.store)
            assert list(kept.verify(snapshot, blobs=False)) == []
            assert kept.get(snapshot.ref) == snapshot
            assert kept.rows(snapshot).to_pylist() == rows


class TestHistories(Histories.TestCase):
    settings = settings(max_examples=500, stateful_step_count=50, deadline=None)


@pytest.mark.heavy
class TestManyHistories(Histories.TestCase):
    settings = settings(max_examples=10_000, stateful_step_count=50, deadline=None)
