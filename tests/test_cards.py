"""Dataset cards: everything adds up, later events change no byte, and what comes from data is never markup."""

from __future__ import annotations

import re
from collections import Counter
from html import unescape
from pathlib import Path

import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from refinery.cards import Card, make_card
from refinery.errors import CorruptionError
from refinery.ledger import Actor, ActorKind, Event, EventType, flag_event
from refinery.snapshots import Snapshot, Snapshots
from refinery.store.local import LocalStore
from tests.synthetic import Sample, Synthetic, gold, quick_folder
from tests.test_cli import Cli

ANA = Actor(ActorKind.PERSON, "ana")
FIELDS = {"caption": "text", "licence": "string", "score": "number", "labels": "string_list"}
HOSTILE = (
    "<script>alert(1)</script>",
    "![x](https://example.org/track.png)",
    "[click](javascript:alert(1))",
    "a | b | c",
    "`code` ```\n# heading",
    "</td><img src=x onerror=alert(1)>",
    "&lt;b&gt; <!-- -->",
    "\u202egnp.exe",
    "$x^2$ ~~gone~~ *star* __under__",
)


class Project(Synthetic):
    """A synthetic project with attributes, which freezes gold or a part of it."""

    def __init__(self, store: LocalStore) -> None:
        super().__init__(store)
        self.snapshots = Snapshots(store)
        self.ledger.append(
            Event(EventType.FIELD, ANA, kind=name, value={"type": kind, "description": ""})
            for name, kind in FIELDS.items()
        )

    def add(self, *samples: Sample, at: str = "2026-01-01T00:00:00+00:00") -> None:
        self.compute(self.land(samples, at), samples)
        self.replayer.replay(self.policy)

    def freeze(self, most_bytes: int = 10**9) -> Snapshot:
        return self.freeze_state(
            self.snapshots, "train", lambda rows: gold(rows).filter(pc.less(gold(rows)["bytes"], most_bytes))
        )[0]

    def card(self, snapshot: Snapshot) -> Card:
        return make_card(self.store, self.batches, self.facts, snapshot)


@pytest.fixture
def project(store: LocalStore) -> Project:
    return Project(store)


def cells(html: str) -> list[str]:
    """The texts of a page's table cells, as a reader sees them."""
    return [unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", html, re.DOTALL)]


def rendered(card: Card) -> str:
    text = card.markdown().split("---\n", 2)[2]
    return str(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text))


def test_a_card_says_where_every_sample_that_was_seen_is(project: Project) -> None:
    project.add(
        *(Sample(n, sharpness=0.5) for n in range(6)),
        *(Sample(n, side=32) for n in range(6, 9)),
        Sample(9, side=32, sharpness=0.01),
        Sample(10, sharpness=0.01),
        Sample(11, failure="truncated"),
        Sample(12, look=1),
        Sample(13, look=1),
    )
    waiting = project.land([Sample(20), Sample(21)])
    project.replayer.replay(project.policy)
    figures = project.card(project.freeze(most_bytes=1004)).figures
    assert waiting
    assert (figures.seen, figures.snapshot.count, figures.filtered, figures.pending) == (16, 4, 3, 2)
    assert figures.held == {"too_small": 4, "blurry": 1, "truncated": 1, "near_duplicate": 1}
    assert figures.reasons == figures.held + Counter({"blurry": 1})
    assert figures.near_duplicates == 1
    text = project.card(figures.snapshot).markdown()
    assert "16 seen = 7 gold + 7 held + 2 pending; 7 gold = 4 in this dataset + 3 that its filter" in text
    assert figures.snapshot.root in text
    assert f"refinery snapshot verify {figures.snapshot.ref}" in text
    shown = cells(rendered(project.card(figures.snapshot)))
    for name, step in figures.snapshot.steps.items():
        assert {name, step["key"]} <= set(shown)
    for name, hold in [(r.name, r.hold.text) for r in project.policy.rules]:
        assert shown[shown.index(name) + 1] == hold


@given(st.lists(st.tuples(st.integers(0, 12), st.sampled_from([32, 100]), st.booleans()), max_size=12))
@settings(max_examples=25, deadline=None)
def test_the_numbers_of_any_card_add_up(drawn: list[tuple[int, int, bool]]) -> None:
    with quick_folder() as folder:
        project = Project(LocalStore(Path(folder)))
        samples = {n: Sample(n, side=side, failure="truncated" if bad else None) for n, side, bad in drawn}
        project.add(*samples.values())
        figures = project.card(project.freeze()).figures
        assert figures.seen == len(samples)
        assert figures.seen == figures.gold + sum(figures.held.values()) + figures.pending
        assert len(figures.bytes) == sum(figures.formats.values()) == figures.snapshot.count
        assert sum(figures.licences.values()) == figures.snapshot.count


def test_what_happens_after_the_freeze_changes_no_byte_of_the_card(project: Project) -> None:
    first = [Sample(n, attributes={"licence": "cc0"}) for n in range(5)]
    project.add(*first)
    snapshot = project.freeze()
    before = project.card(snapshot).markdown()
    project.ledger.append([flag_event(first[0].id, "reject", ANA, known_kinds=("reject",), reason="a logo")])
    project.add(*first, *(Sample(n) for n in range(5, 9)), at="2126-01-01T00:00:00+00:00")
    project.ledger.append([Event(EventType.FIELD, ANA, kind="mood", value={"type": "string"})])
    assert project.freeze().version == 2
    assert project.card(snapshot).markdown() == before
    assert project.card(snapshot).pictures() == project.card(snapshot).pictures()


def test_attributes_are_counted_with_their_share_and_commonest_values(project: Project) -> None:
    project.add(
        Sample(0, attributes={"licence": "cc0", "score": 0.5, "labels": ["cat", "sofa"]}),
        Sample(1, attributes={"licence": "cc0", "score": 2.25, "labels": ["cat"], "caption": "a cat"}),
        Sample(2, attributes={"licence": "cc-by"}),
        Sample(3),
    )
    card = project.card(project.freeze())
    shown = cells(rendered(card))
    assert shown[shown.index("licence") : shown.index("licence") + 5] == [
        "licence",
        "string",
        "3",
        "75.0%",
        "2 different: cc0 (2), cc-by (1)",
    ]
    assert shown[shown.index("labels") + 2 :][:3] == ["2", "50.0%", "2 different: cat (2), sofa (1)"]
    assert shown[shown.index("score") + 2 :][:3] == ["2", "50.0%", "0.5 to 2.25"]
    assert "1 samples state no licence" in card.markdown()


def test_an_empty_dataset_has_a_card_too(project: Project) -> None:
    project.add(Sample(0, side=32))
    card = project.card(project.freeze())
    assert "0 samples" in card.markdown()
    assert all(data.startswith(b"\x89PNG") for data in card.pictures().values())


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_text_of_a_sample_is_markup_in_the_card(project: Project, hostile: str) -> None:
    project.add(Sample(0, attributes={"licence": hostile, "labels": [hostile], "caption": hostile}))
    card = project.card(project.freeze())
    page = rendered(card)
    assert not re.search(r"<(?!/?(?:h[123]|p|ul|li|table|thead|tbody|tr|th|td|code|pre|hr)\b)", page)
    shown = " ".join(hostile.replace("\u202e", r"\u202e").split())
    assert shown in cells(page)
    assert f"1 different: {shown} (1)" in cells(page)
    assert "\u202e" not in page


def test_a_card_of_a_damaged_policy_names_it(project: Project) -> None:
    project.add(Sample(0))
    snapshot = project.freeze()
    key = f"policies/{snapshot.policy}.json"
    (Path(project.store.root) / key).write_text('{"format": "refinery.policy/9"}')
    with pytest.raises(CorruptionError, match=re.escape(key)):
        project.card(snapshot)


def test_the_command_writes_the_card_with_its_pictures_twice_alike(
    capsys: pytest.CaptureFixture[str], refined: Path, tmp_path: Path
) -> None:
    cli = Cli(capsys, refined)
    cli("snapshot", "create", "train")
    out, _ = cli("snapshot", "card", "train")
    assert "# train@1" in out
    first = cli.json("snapshot", "card", "train@1", "--to", str(tmp_path / "one" / "card"))
    cli("snapshot", "card", "train@1", "--to", str(tmp_path / "two"))
    names = [Path(file).name for file in first["files"]]
    assert names == ["README.md", "contact-sheet.png", "distributions.png"]
    for name in names:
        assert (tmp_path / "one" / "card" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert all(name in (tmp_path / "two" / "README.md").read_text() for name in names[1:])
    assert cli.json("snapshot", "card", "train@9", code=3)["kind"] == "no_such_snapshot"
    (tmp_path / "file").write_text("")
    error = cli.json("snapshot", "card", "train", "--to", str(tmp_path / "file"), code=3)
    assert error["kind"] == "unwritable_card"
