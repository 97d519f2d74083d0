"""The viewer's core of policies: tried before they are adopted, adopted once, in somebody's name."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from refinery.digests import digest
from refinery.errors import ConfigError, ConflictError, InputError
from refinery.filter import parse
from refinery.ledger import EventType
from refinery.project import Refinery
from refinery.splits import Splits
from refinery.trials import Trial
from tests.test_viewer_app import ANA
from ui.core import Draft, Viewer


@pytest.fixture
def viewer(refined: Path) -> Viewer:
    return Viewer.open(refined)


def stricter(viewer: Viewer) -> Draft:
    now = viewer.policies.current()
    return Draft(now.text.replace("min_side < 256", "min_side < 400"), now.version)


def verdicts(project: Refinery) -> dict[str, str]:
    documents = project.projector.documents()
    return dict(zip(documents["sample_id"].to_pylist(), documents["verdict"].to_pylist(), strict=True))


def test_what_was_tried_is_what_adopting_it_brings(viewer: Viewer) -> None:
    before, draft = verdicts(viewer.project), stricter(viewer)
    trial = viewer.policies.try_(draft.text)
    assert verdicts(viewer.project) == before
    adoption = viewer.policies.adopt(draft, "ana")
    assert adoption.report is not None
    after = verdicts(viewer.project)
    moved = {m["sample_id"]: (m["from"], m["to"]) for m in trial.found.moves if m["from"] != m["to"]}
    assert moved == {i: (v, after[i]) for i, v in before.items() if v != after[i]}
    assert moved
    assert adoption.report.flips == trial.found.flips
    assert viewer.policies.path.read_text(encoding="utf-8") == draft.text
    [*_, adopted] = viewer.project.ledger.view().records(EventType.POLICY)
    assert (adopted.value, adopted.actor) == (trial.policy.digest, ANA)


def test_a_trial_adds_up_for_every_reason_and_every_part(viewer: Viewer) -> None:
    status, trial = viewer.status(), viewer.policies.try_(stricter(viewer).text)
    assert trial.now == {"gold": status.gold, "held": sum(status.held.values()), "pending": status.pending}
    reasons = trial.reasons()
    assert sum(r.now for r in reasons) == trial.now["held"]
    assert sum(r.then for r in reasons) == trial.found.counts["held"]
    [small] = [r for r in reasons if r.reason == "too_small"]
    assert small.got > small.lost == 0
    for field in trial.fields:
        for part in trial.slices(field):
            assert part.gold_then == part.gold_now + part.joined - part.left
    formats = trial.slices("format")
    assert sum(part.samples for part in formats) == status.seen
    assert sum(part.gold_now for part in formats) == status.gold
    assert sum(part.gold_then for part in formats) == trial.found.counts["gold"]
    assert sum(part.left for part in formats) == trial.found.flips["gold → held"]
    index = viewer.project.index
    for part in formats:
        text = f"format = '{part.value}'" if part.value else "format IS NULL"
        assert index.count(parse(text, viewer.fields)) == part.samples
    for hidden in ("sample_id", "uri", "verdict", "caption", "nonsense"):
        with pytest.raises(InputError):
            trial.slices(hidden)


def test_the_policy_in_force_moves_nothing(viewer: Viewer) -> None:
    trial: Trial = viewer.policies.try_(viewer.policies.current().text)
    assert trial.found.moves == []
    assert not trial.behind
    assert all(part.joined == part.left == 0 for part in trial.slices("source"))


def test_of_two_who_adopt_at_once_the_second_is_told(viewer: Viewer) -> None:
    mine, theirs = stricter(viewer), viewer.policies.current()
    viewer.policies.adopt(
        Draft(theirs.text.replace("sharpness < 10", "sharpness < 11"), theirs.version), "ben"
    )
    with pytest.raises(ConflictError, match="changed since"):
        viewer.policies.adopt(mine, "ana")
    assert "sharpness < 11" in viewer.policies.current().text
    assert sorted(p.name for p in viewer.policies.path.parent.glob(".policy*")) == []


def test_a_policy_keeps_its_mode_and_its_place_behind_a_link(viewer: Viewer) -> None:
    path = viewer.project.path / "policy.yaml"
    real = path.rename(path.with_name("real.yaml"))
    path.symlink_to(real)
    real.chmod(0o640)
    again = Viewer.open(viewer.project.path)
    draft = stricter(again)
    again.policies.adopt(draft, "ana")
    assert path.is_symlink()
    assert real.read_text(encoding="utf-8") == draft.text
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


def test_nobody_adopts_without_a_name_or_in_a_viewer_that_only_reads(viewer: Viewer) -> None:
    draft, before = stricter(viewer), viewer.policies.current()
    with pytest.raises(InputError, match="who you are"):
        viewer.policies.adopt(draft, " ")
    reader = Viewer.open(viewer.project.path, read_only=True)
    assert reader.policies.try_(draft.text).found.moves
    with pytest.raises(ConfigError, match="read only"):
        reader.policies.adopt(draft, "ana")
    with pytest.raises(ConfigError, match="read only"):
        reader.freezing.again("gold@1", "ana")
    assert viewer.policies.current() == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules: [", "is not YAML"),
        ("rules:\n  - {name: a, hold: 'widht < 3'}", "Did you mean 'width'"),
        ("rules:\n  - {name: a, hold: \"verdict = 'gold'\"}", "follow from verdicts"),
        ("rulez: []", "rulez"),
        ("[" * 5000, "nested too deep"),
        ("x" * 100_001, "at most 100,000 characters"),
    ],
)
def test_what_is_no_policy_is_answered_in_words_and_never_adopted(
    viewer: Viewer, text: str, said: str
) -> None:
    version = viewer.policies.current().version
    with pytest.raises((ConfigError, InputError), match=said):
        viewer.policies.try_(text)
    with pytest.raises((ConfigError, InputError), match=said):
        viewer.policies.adopt(Draft(text, version), "ana")
    assert viewer.policies.current().version == version


def test_yaml_that_is_endless_when_written_out_is_refused_shortly(viewer: Viewer) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    for text in ("\n".join(lines), "\n".join([*lines, "name: *a11"]), "\n".join([*lines, "rules: *a11"])):
        with pytest.raises(ConfigError) as refused:
            viewer.policies.parse(text)
        assert len(str(refused.value)) < 2000


def test_a_dataset_is_frozen_again_as_it_was_and_compared(viewer: Viewer) -> None:
    old, _ = viewer.project.freeze("big", "width > 300", Splits.parse("train=0.5,val=0.5", 7), actor=ANA)
    viewer.project.project()
    assert viewer.freezing.newest() == old
    unchanged = viewer.freezing.again(old.ref, "ana")
    assert (unchanged.snapshot, unchanged.new) == (old, False)
    viewer.policies.adopt(stricter(viewer), "ana")
    done = viewer.freezing.again(old.ref, "ana")
    new = done.snapshot
    assert done.new
    assert done.behind == ""
    assert (new.ref, new.filter) == ("big@2", old.filter)
    assert new.splits is not None
    assert old.splits is not None
    assert (new.splits["shares"], new.splits["seed"]) == (old.splits["shares"], old.splits["seed"])
    difference = viewer.diff(old.ref, new.ref)
    assert difference.ids("removed")
    assert all("too_small" in move.sentence for move in difference.moves)


def test_a_policy_that_is_adopted_while_the_replay_fails_says_so(viewer: Viewer) -> None:
    draft = stricter(viewer)
    head = viewer.project.path / "store" / "states" / "head.json"
    head.chmod(0o600)
    head.write_bytes(b"damaged")
    adoption = viewer.policies.adopt(draft, "ana")
    assert adoption.report is None
    assert adoption.behind
    assert digest(draft.text.encode()) == viewer.policies.current().version
