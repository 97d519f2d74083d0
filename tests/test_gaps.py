"""Gaps: kinds of pictures that a set lost are found, with examples and with what one owns to fill them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from refinery.embedding_map.layout import Vectors, unit
from refinery.errors import InputError
from refinery.filter import Filter, parse
from refinery.filter.ast import OneOf
from refinery.gaps import gaps
from refinery.gaps.regions import typical_distance, under_covered
from refinery.ledger import Actor, ActorKind
from refinery.project import Refinery
from tests.test_cli import Cli

ANA = Actor(ActorKind.PERSON, "ana")
KINDS, EACH = 20, 60


def pictures(seed: int = 0, dimension: int = 48) -> tuple[Vectors, np.ndarray]:
    """Unit vectors of 20 kinds of 60 each, and the kind of each."""
    rng = np.random.default_rng(seed)
    kinds = np.repeat(np.arange(KINDS), EACH)
    centres = rng.normal(size=(KINDS, dimension))
    noise = rng.uniform(0.3, 0.7, KINDS)[kinds][:, None] * rng.normal(size=(len(kinds), dimension))
    return unit((centres[kinds] + noise).astype(np.float32)), kinds


@pytest.mark.parametrize("left", [0, 1])
@pytest.mark.parametrize("share", [1.0, 0.6])
def test_kinds_that_were_taken_out_are_the_first_proposals(left: int, share: float) -> None:
    vectors, kinds = pictures()
    rng = np.random.default_rng(1)
    gone = {3, 8, 15}
    inside = rng.random(len(kinds)) < share
    for kind in gone:
        members = np.flatnonzero(kinds == kind)
        inside[members] = False
        inside[members[:left]] = True
    found = under_covered(vectors, inside, vectors[inside])
    assert {int(kinds[r.members[0]]) for r in found[:3]} == gone
    for region in found[:3]:
        assert (kinds[region.members] == kinds[region.members[0]]).mean() > 0.9
        assert not inside[region.members].any()
        own = typical_distance(vectors[region.members])
        assert own is not None
        assert region.distance > own, "they are nearer to each other than to the set"
        assert region.nearest_distance <= region.distance
        assert EACH / 2 < region.deficit <= len(region.members)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1])
def test_a_set_that_is_thinned_alike_everywhere_has_next_to_no_gaps(share: float) -> None:
    vectors, kinds = pictures(2)
    inside = np.random.default_rng(3).random(len(kinds)) < share
    found = under_covered(vectors, inside, vectors[inside])
    assert sum(len(r.members) for r in found) <= 0.02 * len(kinds)


def test_the_first_member_is_the_most_central_and_then_come_the_farthest() -> None:
    vectors, kinds = pictures()
    inside = kinds != 4
    [region, *_] = under_covered(vectors, inside, vectors[inside])
    members = vectors[region.members]
    assert (members @ members.mean(axis=0)).argmax() == 0
    gaps_ = 1 - (members[1:] @ vectors[inside].T).max(axis=1)
    assert (np.diff(gaps_) <= 1e-6).all()
    nearest = (vectors[region.members] @ vectors[inside].T).max()
    assert region.nearest_distance == pytest.approx(1 - nearest, abs=1e-5)


def test_an_order_of_the_samples_changes_no_region() -> None:
    vectors, kinds = pictures()
    inside = ~np.isin(kinds, [2, 7])
    order = np.random.default_rng(5).permutation(len(kinds))
    one = under_covered(vectors, inside, vectors[inside])
    other = under_covered(vectors[order], inside[order], vectors[order][inside[order]])
    assert {frozenset(r.members.tolist()) for r in one} == {
        frozenset(order[r.members].tolist()) for r in other
    }


def test_where_nothing_is_covered_everything_is_a_gap() -> None:
    vectors, kinds = pictures()
    found = under_covered(vectors, np.zeros(len(kinds), bool), vectors[:0])
    assert sum(len(r.members) for r in found) > 0.9 * len(kinds)
    assert all(r.nearest == -1 for r in found)
    assert typical_distance(vectors[:1]) is None


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_handful_of_samples_breaks_nothing(count: int) -> None:
    vectors, _ = pictures()
    some = vectors[:count]
    assert under_covered(some, np.ones(count, bool), some) == []
    assert len(under_covered(some, np.zeros(count, bool), some[:0])) <= 1


def test_gaps_of_a_project_name_what_one_owns_and_could_add(refined: Path) -> None:
    project = Refinery.open(refined)
    few = parse("verdict = 'gold' AND source = 'nothing'", project.fields)
    report = gaps(project, None, few)
    assert (report.covered, report.typical_distance) == (0, None)
    assert report.found >= 1
    [first, *_] = report.gaps
    assert (first.nearest, first.nearest_distance) == (None, None)
    owned = [c.sample_id for c in first.candidates]
    assert owned
    assert [c.distance for c in first.candidates] == sorted(c.distance for c in first.candidates)
    rows = project.index.get(owned, ["sample_id", "near_duplicate", "flags"]).to_pylist()
    assert not any(row["near_duplicate"] or "blocked" in row["flags"] for row in rows)
    project.flag(owned[:1], "blocked", ANA, reason="asked for")
    project.replay()
    project.project()
    again = gaps(project, None, few)
    assert owned[0] not in {c.sample_id for gap in again.gaps for c in gap.candidates}


def test_a_target_without_vectors_is_refused_and_gold_covers_itself(refined: Path) -> None:
    project = Refinery.open(refined)
    gold = parse("verdict = 'gold'", project.fields)
    assert gaps(project, gold).gaps == ()
    with pytest.raises(InputError) as refused:
        gaps(project, parse("source = 'nothing'", project.fields))
    assert refused.value.kind == "no_vectors"


def test_the_command_says_each_gap_in_words(capsys: pytest.CaptureFixture[str], refined: Path) -> None:
    cli = Cli(capsys, refined)
    out, _ = cli("gaps", "--covered", "source = 'nothing'", "--limit", "1")
    assert "gap" in out.splitlines()[0]
    assert "such as " in out
    assert "you own " in out
    assert cli.json("gaps", "--target", "widht > 3", code=3)["kind"] == "unknown_field"
    assert cli.json("gaps", "--space", "nothing", code=3)["kind"] == "no_such_space"


def test_what_is_in_the_set_is_no_gap_though_too_much_is_in_it_to_be_compared(
    refined: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Refinery.open(refined)
    late = sorted(i for i in project.index.digests()["sample_id"].to_pylist())[-30:]
    target = Filter(OneOf("sample_id", tuple(late)))
    monkeypatch.setattr("refinery.gaps.MOST", 30)
    report = gaps(project, target, parse("width > 0 OR width IS NULL", project.fields))
    assert report.covered > report.covered_compared > 0
    assert report.found == 0


class Watched:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.titles: list[str] = []
        self.left = 0

    def __call__(self, title: str) -> Watched:
        self.titles.append(title)
        return self

    def start(self, total: int | None, unit: str) -> None:
        assert total is not None
        self.left = total

    def advance(self, n: int, bytes: int = 0) -> None:
        self.left -= n

    def done(self) -> None:
        assert self.left == 0, self.titles[-1]


def test_looking_for_gaps_says_how_it_moves(refined: Path) -> None:
    project, watched = Refinery.open(refined), Watched()
    for where in ("source = 'nothing'", "verdict = 'gold'"):
        gaps(project, None, parse(where, project.fields), progress=watched)
    assert watched.titles[:3] == ["reading vectors", "comparing", "looking for candidates"]
