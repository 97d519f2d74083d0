"""The main job, end to end, on real photographs: ingest, run, flag, explain, undo, freeze, export, rebuild."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from assets.run import run
from refinery.corpus import CorpusReport
from refinery.ledger import Actor, ActorKind
from refinery.project import Refinery
from refinery.verdicts import GOLD
from refinery.whatif import what_if

ANA = Actor(ActorKind.PERSON, "ana")


@pytest.fixture
def project(refined: Path) -> Refinery:
    return Refinery.open(refined)


def verdicts(project: Refinery) -> dict[str, tuple[str, list[str]]]:
    from refinery.states.head import read_head

    head, _ = read_head(project.store)
    rows = project.replayer.trees.rows(head.node).to_pylist()
    return {row["sample_id"]: (row["verdict"], row["reasons"]) for row in rows}


def gold(project: Refinery) -> list[str]:
    return [i for i, (verdict, _) in verdicts(project).items() if verdict == GOLD]


def test_every_sample_seen_is_gold_held_or_pending(project: Refinery, corpus: CorpusReport) -> None:
    status = project.status()
    assert status.seen == len({planted.sample_id for planted in corpus.files.values()})
    assert status.seen == status.gold + sum(status.held.values()) + status.pending
    assert status.pending == 0
    assert status.gold > 5


def test_every_broken_file_is_held_with_the_reason_that_was_planted(
    project: Refinery, corpus: CorpusReport
) -> None:
    found = verdicts(project)
    broken = {n: p for n, p in corpus.files.items() if p.readable is False}
    assert len(broken) >= 10
    for name, planted in broken.items():
        verdict, reasons = found[planted.sample_id]
        assert verdict == "held", name
        assert reasons, name
        if planted.reason:
            assert reasons == [planted.reason], name


def test_of_planted_near_duplicates_at_most_one_is_gold(project: Refinery, corpus: CorpusReport) -> None:
    chosen = set(gold(project))
    planted = [p for p in corpus.files.values() if p.near_duplicate_of]
    pairs = [{p.sample_id, corpus.files[str(p.near_duplicate_of)].sample_id} for p in planted]
    assert len(pairs) >= 4
    assert all(len(pair & chosen) <= 1 for pair in pairs)


def test_a_flag_moves_exactly_its_sample_and_an_undo_brings_back_the_root(project: Refinery) -> None:
    before = project.status()
    first, _ = project.freeze("set")
    chosen = gold(project)[0]
    project.flag([chosen], "reject", ANA, reason="a logo")
    report = run(project)
    assert report.replay is not None
    assert report.facts_computed == 0
    assert report.replay["changed"] >= 1
    assert report.replay["evaluated"] < before.seen / 4
    second, _ = project.freeze("set")
    assert chosen in project.diff("set@1", "set@2").ids("removed")
    project.undo(ANA)
    assert run(project).status.root == before.root
    third, _ = project.freeze("set")
    assert (third.root, second.root != first.root) == (first.root, True)


def test_explain_agrees_with_the_state_for_every_sample_and_its_smallest_flip_flips(
    project: Refinery,
) -> None:
    found = verdicts(project)
    for sample_id, (verdict, reasons) in found.items():
        explanation = project.explain(sample_id)
        assert (explanation.verdict, explanation.reasons, explanation.stored_verdict) == (
            verdict,
            reasons,
            verdict,
        )
        assert explanation.because
        assert explanation.origins
        tried = [flip for flip in explanation.flips if flip.tried]
        assert all((flip.to == GOLD) != (verdict == GOLD) for flip in tried)
        if explanation.facts["inspect"].get("reason") is None:
            assert tried, explanation.reasons


def test_explain_names_the_flag_its_actor_and_the_undo_that_would_flip_it(project: Refinery) -> None:
    chosen = gold(project)[0]
    project.flag([chosen], "reject", ANA, reason="a logo")
    explanation = project.explain(chosen)
    assert explanation.because == ["flag reject by person ana: a logo; a person beats models and rules"]
    assert explanation.flips[0].change.startswith("undo flag reject by person ana")
    assert explanation.flips[0].to == GOLD


def test_blocked_beats_a_persons_keep_and_never_enters_a_later_snapshot(project: Refinery) -> None:
    chosen = gold(project)[0]
    project.freeze("set")
    project.flag([chosen], "blocked", Actor(ActorKind.MODEL, "scanner"))
    project.flag([chosen], "keep", ANA)
    project.replay()
    second, _ = project.freeze("set")
    assert chosen not in project.snapshots.rows(second)["sample_id"].to_pylist()
    assert project.snapshots.memberships([chosen]) == {chosen: ["set@1"]}


def test_what_if_predicts_exactly_what_adopting_the_policy_does(project: Refinery) -> None:
    from refinery.policy import parse_policy

    text = (project.path / "policy.yaml").read_text().replace("min_side < 256", "min_side < 64")
    predicted = what_if(project.store, project.ledger, project.replayer, parse_policy(text, project.fields))
    before = verdicts(project)
    (project.path / "policy.yaml").write_text(text)
    project.replay()
    after = verdicts(project)
    moved = {i: after[i] for i in after if after[i] != before[i]}
    assert moved
    assert {m["sample_id"]: (m["to"], m["reasons"]) for m in predicted.moves} == moved


def test_a_deleted_index_is_rebuilt_with_the_same_documents(project: Refinery) -> None:
    columns = [*project.fields, "doc_digest", "vector_default"]
    ids = sorted(verdicts(project))
    before = project.index.get(ids, columns)
    assert before.num_rows == len(ids)
    shutil.rmtree(project.path / project.settings.index.path)
    fresh = Refinery.open(project.path)
    report = fresh.rebuild_index()
    assert (report.documents, report.upserted) == (len(ids), len(ids))
    after = fresh.index.get(ids, columns)
    assert after.to_pylist() == before.to_pylist()


def test_a_flag_is_searchable_right_after_it_was_appended(project: Refinery) -> None:
    from refinery.filter import parse

    chosen = gold(project)[0]
    project.flag([chosen], "review", ANA)
    assert project.projector.follow_ledger() is not None
    hits = project.index.count(parse("has_flag('review')", project.fields))
    assert hits == 1


def test_a_flag_is_searchable_although_another_process_registered_a_field(project: Refinery) -> None:
    from refinery.fields import Field, FieldType
    from refinery.filter import parse

    assert project.index.count() > 0
    Refinery.open(project.path).register_field(Field("mood", FieldType.TEXT), ANA)
    project.flag([gold(project)[0]], "review", ANA)
    assert project.projector.follow_ledger() is not None
    assert project.index.count(parse("has_flag('review') AND mood IS NULL", project.fields)) == 1


def test_the_same_pictures_ingested_in_other_batches_give_the_same_root(
    project: Refinery, corpus: CorpusReport, tmp_path: Path
) -> None:
    from refinery.ingest import ingest
    from refinery.sources import open_source

    other = Refinery.create(tmp_path / "other", "embedder: {kind: efficientnet_lite0}\n")
    source = open_source(corpus.folder, name="elsewhere", kind="folder")
    ingest(other.store, other.fields, source, batch_size=17, max_bytes=other.settings.inspect.max_bytes)
    assert run(other).status.root == project.status().root


def test_a_second_run_launches_nothing(project: Refinery) -> None:
    report = run(project)
    assert (report.launched, report.facts_computed, report.replay) == (0, 0, None)
    assert json.dumps(report.to_json())
