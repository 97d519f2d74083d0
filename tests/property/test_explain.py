"""Explain: what it computes is the verdict that stands, and the smallest change it names flips it, each time."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks._facts import Corpus
from refinery.explain import Explainer, Explanation
from refinery.flips import Flip
from refinery.ledger import Actor, ActorKind, Event, EventType
from refinery.snapshots import Snapshots
from refinery.states.head import read_head
from refinery.store.local import LocalStore
from tests.synthetic import Sample, Synthetic

ANA, BEN = Actor(ActorKind.PERSON, "ana"), Actor(ActorKind.PERSON, "ben")
CRITIC = Actor(ActorKind.MODEL, "critic")
KINDS = ("keep", "reject", "blocked", "review")


def explainer(project: Synthetic) -> Explainer:
    return Explainer(
        project.store,
        project.ledger,
        project.batches,
        project.facts,
        project.replayer,
        Snapshots(project.store),
        project.steps,
    )


def verdicts(project: Synthetic) -> dict[str, tuple[str, list[str]]]:
    rows = project.replayer.trees.rows(read_head(project.store)[0].node).to_pylist()
    return {row["sample_id"]: (row["verdict"], row["reasons"]) for row in rows}


def events(flip: Flip, sample_id: str) -> list[Event]:
    act: dict[str, Any] = flip.act
    return [
        Event(kind, ANA, sample_id, str(act[name]))
        for name, kind in (("unflag", EventType.UNFLAG), ("flag", EventType.FLAG))
        if name in act
    ]


def apply(project: Synthetic, flip: Flip, sample_id: str) -> list[Event]:
    """Do what the flip says, for real; what was appended."""
    done: list[Event] = []
    for event_id in flip.act.get("undo", ()):
        done += project.ledger.undo([project.ledger.find(event_id)], ANA)
    return done + (project.ledger.append(made) if (made := events(flip, sample_id)) else [])


def test_every_flip_that_is_named_flips_when_it_is_done(tmp_path: Path) -> None:
    samples = [
        Sample(0),  # gold
        Sample(1, side=30),  # held by a rule
        Sample(2, side=30, sharpness=0.01),  # held by two
        Sample(3, look=7),
        Sample(4, look=7, side=90),  # a near-duplicate
        Sample(5, failure="truncated"),
        Sample(6),  # rejected by a person
        Sample(7),  # blocked twice, by a person and a model
        Sample(8, side=30),  # blocked, and held by a rule besides
        Sample(9, side=30),  # kept by a person
        Sample(10),  # rejected by a model
        Sample(11, look=8, side=30),  # small and in a cluster: without its rule it beats nobody
        Sample(12, look=8),
    ]
    project = Synthetic(LocalStore(tmp_path))
    project.compute(project.land(samples), samples)
    late = [Sample(13)]
    project.land(late, at="2026-01-02T00:00:00+00:00")  # pending: no facts
    project.ledger.append(
        Event(EventType.FLAG, actor, samples[number].id, kind)
        for number, kind, actor in [
            (6, "reject", BEN),
            (7, "blocked", BEN),
            (7, "blocked", CRITIC),
            (8, "blocked", CRITIC),
            (9, "keep", BEN),
            (10, "reject", CRITIC),
        ]
    )
    project.replayer.replay(project.policy)
    before = verdicts(project)
    first_policy = project.policy
    ids = sorted(before)
    explained = explainer(project).explain_all(ids, project.policy)
    for found in explained:
        assert (found.verdict, found.reasons) == before[found.sample_id]
        assert found.stored_verdict == found.verdict
        for flip in found.flips:
            if not flip.tried:
                continue
            done = apply(project, flip, found.sample_id)
            if "without" in flip.act:
                kept = tuple(r for r in first_policy.rules if r.name not in flip.act["without"])
                project.policy = replace(first_policy, rules=kept)
            project.replayer.replay(project.policy)
            now = verdicts(project)[found.sample_id][0]
            assert now == flip.to, (found.sample_id, flip)
            assert (now == "gold") != (found.verdict == "gold")
            if done:
                project.ledger.undo(done, ANA)
            project.policy = first_policy
    project.replayer.replay(project.policy)
    assert verdicts(project) == before
    by_id = {found.sample_id: found for found in explained}
    assert by_id[samples[5].id].flips[0].change.startswith("only other bytes")
    assert by_id[samples[7].id].flips[0].act == {"unflag": "blocked"}
    assert by_id[samples[8].id].flips[0].act == {"unflag": "blocked", "flag": "keep"}
    assert by_id[late[0].id].flips[0].to == "gold or held"
    tried = Counter(bool(f.flips[0].tried) for f in explained)
    assert tried == {True: len(ids) - 2, False: 2}


def test_a_retried_inspection_and_missing_facts_flip_what_only_facts_can(tmp_path: Path) -> None:
    failed, late = Sample(1, failure="truncated"), Sample(2)
    project = Synthetic(LocalStore(tmp_path))
    project.compute(project.land([failed]), [failed])
    batch = project.land([late], at="2026-01-02T00:00:00+00:00")
    project.replayer.replay(project.policy)
    explain = explainer(project)
    assert [f.tried for i in (failed.id, late.id) for f in explain.explain(i, project.policy).flips] == [
        False,
        False,
    ]
    for kind in ("keep", "review"):
        project.ledger.append([Event(EventType.FLAG, ANA, failed.id, kind)])
    project.replayer.replay(replace(project.policy, rules=()))
    assert verdicts(project)[failed.id] == ("held", ["truncated"])
    project.compute(batch, [late])
    project.replayer.replay(project.policy)
    assert verdicts(project)[late.id][0] == "gold"


def _flagged(folder: Path, samples: int) -> tuple[Corpus, list[str]]:
    corpus = Corpus(LocalStore(folder))
    ids = corpus.make(samples)
    rng = np.random.default_rng(3)
    actors = (ANA, BEN, CRITIC)
    chosen = rng.choice(len(ids), len(ids) // 10, replace=False)
    corpus.ledger.append(
        Event(EventType.FLAG, actors[rng.integers(3)], ids[i], KINDS[rng.integers(4)]) for i in chosen
    )
    corpus.replayer.replay(corpus.policy)
    return corpus, ids


@pytest.mark.parametrize(
    "samples", [pytest.param(1_000, id="1,000"), pytest.param(100_000, id="100,000", marks=pytest.mark.heavy)]
)
def test_what_is_explained_is_what_stands_and_all_that_is_named_flips_together(
    tmp_path: Path, samples: int
) -> None:
    corpus, ids = _flagged(tmp_path, samples)
    before = verdicts(corpus)
    explain = explainer(corpus)
    found: dict[str, Explanation] = {}
    for start in range(0, samples, 1000):
        found |= {e.sample_id: e for e in explain.explain_all(ids[start : start + 1000], corpus.policy)}
    assert {i: (e.verdict, e.reasons) for i, e in found.items()} == before
    assert all(e.stored_verdict == e.verdict and e.flips and e.flips[0].tried for e in found.values())
    # flips of different clusters do not meet: each round does the smallest change of one member of every cluster
    rounds: list[list[Explanation]] = [[], []]
    for e in found.values():
        rounds[0 if e.cluster is None or e.cluster["members"].index(e.sample_id) == 0 else 1].append(e)
    for group in rounds:
        undone = [corpus.ledger.find(i) for e in group for i in e.flips[0].act.get("undo", ())]
        done = corpus.ledger.undo(undone, ANA) if undone else []
        done += corpus.ledger.append([m for e in group for m in events(e.flips[0], e.sample_id)])
        corpus.replayer.replay(corpus.policy)
        after = verdicts(corpus)
        assert [e.sample_id for e in group if after[e.sample_id][0] != e.flips[0].to] == []
        assert all((after[e.sample_id][0] == "gold") != (e.verdict == "gold") for e in group)
        corpus.ledger.undo(done, ANA)
        corpus.replayer.replay(corpus.policy)
        assert verdicts(corpus) == before
