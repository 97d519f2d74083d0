"""Triage's queues: what waits in each, in which order, and that what a person decided waits in none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from refinery.fields import Field, FieldType
from refinery.ledger import Actor, ActorKind, eval_event, feedback_event, flag_event
from refinery.near_duplicates import read_clusters
from refinery.project import Refinery
from tests.test_viewer_app import click, desks, link, run, shown
from ui.core import Screen, Viewer
from ui.core import triage as core
from ui.core.triage import QUEUES, Item, Queue, Triage

ANA = Actor(ActorKind.PERSON, "ana")
CRITIC, FAN = Actor(ActorKind.MODEL, "critic"), Actor(ActorKind.MODEL, "fan")
PROBE, APP = Actor(ActorKind.EVAL, "probe"), Actor(ActorKind.PERSON, "somebody")


@pytest.fixture
def project(refined: Path) -> Refinery:
    return Refinery.open(refined)


def gold(project: Refinery, count: int) -> list[str]:
    found = Viewer(project).browse(Screen(verdict="gold", density="dense")).hits
    assert len(found) >= count
    return [hit.sample_id for hit in found[:count]]


def flagged(project: Refinery, sample: str, kind: str, actor: Actor, confidence: float | None = None) -> str:
    """A model's flag; its event's id."""
    kinds = project.settings.known_flag_kinds
    event = flag_event(sample, kind, actor, known_kinds=kinds, confidence=confidence)
    return project.ledger.append([event])[0].id


def pages(project: Refinery, screen: Screen) -> Iterator[Queue]:
    """All pages of a queue, one after the other."""
    cursor: str | None = ""
    while cursor is not None:
        page = Triage(Viewer(project)).page(screen.change(cursor=cursor))
        yield page
        cursor = page.cursor


def items(project: Refinery, queue: str, **more: Any) -> list[Item]:
    """All that waits in a queue, in order."""
    found = [i for page in pages(project, Screen(queue=queue, **more)) for g in page.groups for i in g]
    assert len({i.sample_id for i in found}) == len(found)
    return found


def ids(project: Refinery, queue: str, **more: Any) -> list[str]:
    return [item.sample_id for item in items(project, queue, **more)]


def test_what_rules_hold_waits_until_a_person_decides(project: Refinery) -> None:
    viewer = Viewer(project)
    waiting = items(project, "held")
    assert len(waiting) == sum(viewer.status().held.values())
    assert all(item.why == ", ".join(item.document["reasons"]) for item in waiting)
    keep, reject, block = (item.sample_id for item in waiting[:3])
    viewer.acts.decide([keep], [reject], "ana", "looked at")
    viewer.acts.flag([block], "blocked", "ana", "looked at")
    left = ids(project, "held")
    assert left == [i.sample_id for i in waiting if i.sample_id not in (keep, reject, block)]
    reason = waiting[-1].document["reasons"][0]
    some = items(project, "held", reason=reason)
    assert some
    assert all(reason in item.document["reasons"] for item in some)


def test_flags_of_models_near_one_half_wait_the_least_sure_first(project: Refinery) -> None:
    sure, near, nearer, twice, undone = gold(project, 5)
    flagged(project, sure, "review", CRITIC, 0.95)
    flagged(project, near, "reject", CRITIC, 0.31)
    flagged(project, nearer, "keep", FAN, 0.52)
    flagged(project, twice, "review", CRITIC, 0.69)
    flagged(project, twice, "reject", FAN, 0.4)
    event = flagged(project, undone, "review", CRITIC, 0.5)
    project.ledger.undo([project.ledger.find(event)], ANA)
    found = items(project, "uncertain")
    assert [i.sample_id for i in found] == [nearer, twice, near]
    assert [i.why for i in found] == [
        "keep by model fan, confidence 0.52",
        "reject by model fan, confidence 0.40",
        "reject by model critic, confidence 0.31",
    ]
    Viewer(project).acts.flag([nearer], "keep", "ana")
    assert ids(project, "uncertain") == [twice, near]


def test_models_disagree_when_one_keeps_what_another_does_not(project: Refinery) -> None:
    plain, own, among, blocked, agreed = gold(project, 5)
    flagged(project, plain, "keep", FAN)
    flagged(project, plain, "review", CRITIC)
    flagged(project, own, "keep", FAN)
    flagged(project, own, "reject", FAN)
    flagged(project, among, "keep", FAN)
    flagged(project, among, "reject", CRITIC)
    flagged(project, among, "reject", FAN)
    flagged(project, blocked, "blocked", CRITIC)
    flagged(project, blocked, "keep", FAN)
    flagged(project, agreed, "keep", FAN)
    flagged(project, agreed, "keep", CRITIC)
    found = {i.sample_id: i.why for i in items(project, "disagreeing")}
    assert found == {
        plain: "keep by model fan, review by model critic",
        among: "keep by model fan, reject by model critic",
        blocked: "keep by model fan, blocked by model critic",
    }
    Viewer(project).acts.flag([plain], "reject", "ana", "looked at")
    assert set(ids(project, "disagreeing")) == {among, blocked}


@pytest.fixture
def judged(project: Refinery) -> Refinery:
    """A project with results of an eval and feedback on five samples."""
    for name in ("eval_probe_loss", "eval_probe_other", "feedback_down"):
        kind = FieldType.INTEGER if name.startswith("feedback") else FieldType.NUMBER
        project.register_field(Field(name, kind), ANA)
    project.register_field(Field("eval_probe_passed", FieldType.BOOLEAN), ANA)
    project = Refinery.open(project.path)
    events = []
    for number, sample in enumerate(gold(project, 5)):
        events.append(eval_event(sample, "probe/loss", number / 4, PROBE))
        events += [feedback_event(sample, "down", APP, value=n) for n in range(number)]
    project.ledger.append(events)
    project.project()
    return project


def test_eval_results_wait_by_one_number_both_ways(judged: Refinery) -> None:
    samples = gold(judged, 5)
    assert Triage(Viewer(judged)).results("evals") == ["eval_probe_loss", "eval_probe_other"]
    found = items(judged, "evals")
    assert [i.sample_id for i in found] == samples[::-1]
    assert [i.why for i in found][:2] == ["eval_probe_loss 1", "eval_probe_loss 0.75"]
    assert ids(judged, "evals", sort="eval_probe_loss") == samples
    assert ids(judged, "evals", sort="-eval_probe_loss") == samples[::-1]
    assert ids(judged, "evals", sort="-eval_probe_other") == []
    Viewer(judged).acts.flag(samples[1:2], "keep", "ana")
    assert samples[1] not in ids(judged, "evals")
    assert len(ids(judged, "evals")) == 4


def test_feedback_waits_the_most_first_and_none_is_no_feedback(judged: Refinery) -> None:
    samples = gold(judged, 5)
    assert Triage(Viewer(judged)).results("feedback") == ["feedback_down"]
    assert ids(judged, "feedback") == samples[:0:-1]
    assert items(judged, "feedback")[0].why == "feedback_down 4"


def test_a_project_without_results_has_nothing_to_wait(project: Refinery) -> None:
    assert ids(project, "evals") == ids(project, "feedback") == []
    assert ids(project, "uncertain") == ids(project, "disagreeing") == []


def clusters(project: Refinery) -> dict[str, set[str]]:
    """The clusters of more than one of which a sample is held because another one is kept."""
    found: dict[str, set[str]] = {}
    rows = read_clusters(project.store, project.steps.near_duplicates)
    for row in rows.to_pylist():
        found.setdefault(row["cluster"], set()).add(row["sample_id"])
    stood_in_for = {
        h.document["cluster"] for h in Viewer(project).browse(Screen(where="near_duplicate")).hits
    }
    return {name: members for name, members in found.items() if name in stood_in_for}


def test_clusters_come_whole_once_and_the_kept_one_first(
    project: Refinery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core, "CLUSTERS", 1)
    found = list(pages(project, Screen(queue="duplicates")))
    groups = [group for page in found for group in page.groups]
    assert len(found) > 1
    assert all(len(page.groups) <= 1 for page in found)
    assert sorted(map(sorted, clusters(project).values())) == sorted(
        sorted(i.sample_id for i in group) for group in groups
    )
    for group in groups:
        assert [i.keeper for i in group] == [True] + [False] * (len(group) - 1)
        assert "near_duplicate" not in (group[0].document["reasons"] or ())
        assert all(i.document["near_duplicate"] for i in group[1:])


@pytest.mark.parametrize("rows", [3, 5000])
def test_of_a_large_cluster_the_first_are_shown_and_all_are_counted(
    project: Refinery, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    whole = {frozenset(members): len(members) for members in clusters(project).values()}
    kept = {g[0].sample_id for page in pages(project, Screen(queue="duplicates")) for g in page.groups}
    monkeypatch.setattr(core, "MOST_ROWS", rows)
    monkeypatch.setattr(core, "MEMBERS", 2)
    found = [
        (group, size)
        for page in pages(project, Screen(queue="duplicates"))
        for group, size in zip(page.groups, page.sizes, strict=True)
    ]
    assert max(whole.values()) > 2
    assert {g[0].sample_id for g, _ in found} == kept
    for group, size in found:
        assert len(group) == 2
        assert next(n for members, n in whole.items() if group[1].sample_id in members) == size


def test_a_cluster_of_which_a_person_said_anything_waits_no_more(project: Refinery) -> None:
    before = list(pages(project, Screen(queue="duplicates")))
    first = before[0].groups[0]
    viewer = Viewer(project)
    done = viewer.acts.decide([first[0].sample_id], [i.sample_id for i in first[1:]], "ana", "the same")
    waiting = set(ids(project, "duplicates"))
    assert not waiting & {i.sample_id for i in first}
    assert waiting
    viewer.acts.undo("ana", of_act=done.id)
    assert waiting < set(ids(project, "duplicates"))


def test_a_filter_narrows_every_queue(judged: Refinery) -> None:
    sample = gold(judged, 5)[3]
    flagged(judged, sample, "keep", FAN, 0.5)
    flagged(judged, sample, "reject", CRITIC, 0.5)
    flagged(judged, gold(judged, 1)[0], "reject", CRITIC, 0.5)
    where = f"sample_id = '{sample}'"
    for queue in ("uncertain", "disagreeing", "evals", "feedback"):
        assert ids(judged, queue, where=where) == [sample]
        assert ids(judged, queue, where="width < 0") == []
    assert ids(judged, "held", where="width < 0") == ids(judged, "duplicates", where="width < 0") == []


@pytest.mark.parametrize("queue", ["held", "uncertain", "evals"])
def test_small_pages_reach_everything_once(
    judged: Refinery, monkeypatch: pytest.MonkeyPatch, queue: str
) -> None:
    for number, sample in enumerate(gold(judged, 5)):
        flagged(judged, sample, "review", CRITIC, 0.5 + number / 100)
    whole = ids(judged, queue)
    decided = whole[1]
    Viewer(judged).acts.flag([decided], "keep", "ana")
    whole.remove(decided)
    monkeypatch.setattr(Screen, "size", 2)
    found = [len(g) for p in pages(judged, Screen(queue=queue)) for g in p.groups]
    assert len(found) > 1
    assert ids(judged, queue) == whole


@pytest.mark.parametrize("cursor", ["nonsense", "-1", "9" * 5000, "1e3"])
@pytest.mark.parametrize("queue", ["uncertain", "disagreeing"])
def test_a_strange_cursor_of_flags_is_the_first_page(project: Refinery, queue: str, cursor: str) -> None:
    sample = gold(project, 1)[0]
    flagged(project, sample, "keep", FAN, 0.5)
    flagged(project, sample, "reject", CRITIC, 0.5)
    found = Triage(Viewer(project)).page(Screen(queue=queue, cursor=cursor))
    assert [i.sample_id for g in found.groups for i in g] == [sample]


def test_every_queue_has_a_page_and_hostile_links_to_one_are_answered(
    monkeypatch: pytest.MonkeyPatch, judged: Refinery
) -> None:
    for queue in QUEUES:
        app = run(monkeypatch, judged.path, page="triage", queue=queue)
        shows = {t["id"] for d in desks(app) for g in d["groups"] for t in g["tiles"]}
        first = next(pages(judged, Screen(queue=queue)))
        assert shows == {i.sample_id for g in first.groups for i in g}, queue
        assert bool(shows) != any(s.value == "Nothing waits here" for s in app.subheader)
    app = run(monkeypatch, judged.path, page="triage", queue="evals", cursor="9" * 5000)
    app = click(app, "Start anew")
    assert link(app) == {"page": "triage"}
    shown(app)


def test_the_order_of_a_queue_is_not_the_order_of_the_grid(
    monkeypatch: pytest.MonkeyPatch, judged: Refinery
) -> None:
    app = run(monkeypatch, judged.path, page="triage", queue="evals")
    assert app.selectbox(key="screen-sort").placeholder == "eval_probe_loss, greatest first"
    app = shown(app.radio(key="screen-page").set_value("").run())
    assert "sort" not in link(app)
    app = run(monkeypatch, judged.path, page="triage", queue="evals")
    app = shown(app.selectbox(key="screen-sort").select("eval_probe_loss").run())
    assert link(app)["sort"] == "eval_probe_loss"
    assert [t["id"] for t in desks(app)[0]["groups"][0]["tiles"]] == gold(judged, 5)


def test_behind_many_that_are_decided_more_is_found(
    monkeypatch: pytest.MonkeyPatch, judged: Refinery
) -> None:
    samples = gold(judged, 5)
    Viewer(judged).acts.flag(samples[2:], "keep", "ana")
    monkeypatch.setattr(core, "_PAGES", 1)
    monkeypatch.setattr(Screen, "size", 2)
    app = run(monkeypatch, judged.path, page="triage", queue="evals")
    assert app.subheader[0].value == "Nothing waits so far"
    app = click(app, "Look further")
    assert [t["id"] for t in desks(app)[0]["groups"][0]["tiles"]] == [samples[1]]
