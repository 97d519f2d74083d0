"""What-if: what is foretold of another policy is exactly what comes when it is adopted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from refinery.ledger import Actor, ActorKind, Event, EventType
from refinery.states.head import read_head
from refinery.store.local import LocalStore
from refinery.whatif import what_if
from tests.synthetic import Sample, Synthetic, quick_folder

ACTORS = (Actor(ActorKind.PERSON, "ana"), Actor(ActorKind.MODEL, "critic"))
RULES = (
    '{name: too_small, hold: "min_side < 64"}',
    '{name: small, hold: "min_side < 120"}',
    '{name: blurry, hold: "sharpness < 0.4"}',
    "{name: flagged, hold: \"has_flag('reject') OR has_flag('review')\"}",
    '{name: near_duplicate, hold: "near_duplicate"}',
    '{name: sharp_twin, hold: "near_duplicate AND sharpness > 0.2"}',
)
policies = st.lists(st.sampled_from(RULES), unique=True, max_size=5)
samples = st.lists(
    st.builds(
        dict,
        look=st.none() | st.integers(0, 3),
        side=st.sampled_from([40, 100, 150]),
        sharpness=st.sampled_from([0.05, 0.3, 0.6]),
        failure=st.sampled_from([None, None, None, "truncated"]),
    ),
    min_size=1,
    max_size=12,
)
flags = st.lists(
    st.tuples(
        st.integers(0, 11), st.sampled_from(["keep", "reject", "blocked", "review"]), st.sampled_from(ACTORS)
    ),
    max_size=8,
)


def policy(project: Synthetic, rules: list[str]) -> Any:
    listed = "".join(f"  - {rule}\n" for rule in rules)
    return project.parse(
        f"name: drawn\nrequires: [inspect, embed, near_duplicates]\nrules:\n{listed or '  []'}"
    )


def rows(project: Synthetic) -> dict[str, tuple[str, list[str]]]:
    found = project.replayer.trees.rows(read_head(project.store)[0].node).to_pylist()
    return {row["sample_id"]: (row["verdict"], row["reasons"]) for row in found}


@given(drawn=samples, said=flags, before=policies, after=policies)
@settings(max_examples=60, deadline=None)
def test_the_moves_that_a_policy_is_said_to_bring_are_those_it_brings(
    drawn: list[dict[str, Any]], said: list[tuple[int, str, Actor]], before: list[str], after: list[str]
) -> None:
    with quick_folder() as folder:
        project = Synthetic(LocalStore(Path(folder)))
        made = [Sample(number, **figures) for number, figures in enumerate(drawn)]
        project.compute(project.land(made), made)
        project.ledger.append(
            Event(EventType.FLAG, actor, made[at % len(made)].id, kind) for at, kind, actor in said
        )
        project.replayer.replay(policy(project, before))
        old = rows(project)
        other = policy(project, after)
        foretold = what_if(project.store, project.ledger, project.replayer, other)
        assert rows(project) == old, "nothing is written"
        report = project.replayer.replay(other)
        new = rows(project)
        moved = {i: (*old[i], *new[i]) for i in new if old[i] != new[i]}
        told = {
            m["sample_id"]: (m["from"], m["reasons_before"], m["to"], m["reasons"]) for m in foretold.moves
        }
        assert told == moved
        assert foretold.flips == report.flips
        assert (foretold.counts, foretold.held) == (report.counts, report.held)
