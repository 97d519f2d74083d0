"""More than a hundred hostile words, from every place that words come from, are text in a real browser."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hostile import WORDS
from PIL import Image
from playwright.sync_api import Page, TimeoutError
from viewer import MARKS, desk, served, settled, shown

from refinery.cli.output import safe
from refinery.ingest import ingest
from refinery.ledger import Actor, ActorKind, Event, EventType, flag_event
from refinery.project import Refinery
from refinery.sources import open_source
from ui.core import Screen, Viewer

pytestmark = MARKS
ANA = Actor(ActorKind.PERSON, "ana <img src=x onerror=window.hacked=1>")
ALL_TEXT = """() => {
  const words = [];
  const visit = (node) => {
    if (node.nodeType === Node.TEXT_NODE) words.push(node.data);
    if (node.tagName === "INPUT" || node.tagName === "TEXTAREA") words.push(node.value);
    if (node.shadowRoot) visit(node.shadowRoot);
    for (const child of node.childNodes) visit(child);
  };
  visit(document.body);
  return words.join("\\n");
}"""
STRANGE = """() => {
  const found = [];
  const visit = (root) => {
    for (const e of root.querySelectorAll("*")) {
      if (e.shadowRoot) visit(e.shadowRoot);
      const tag = e.tagName.toLowerCase();
      if (["iframe", "object", "embed", "base", "math", "marquee", "slot", "video", "audio"].includes(tag)) found.push(tag);
      if ([...e.attributes].some((a) => /hacked|127\\.0\\.0\\.1:9/.test(a.value) && !["value", "aria-label", "title", "placeholder"].includes(a.name)))
        found.push(e.outerHTML.slice(0, 200));
    }
  };
  visit(document);
  return found;
}"""


@pytest.fixture
def hostile(refined: Path, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A project with hostile words for captions, tags, reasons, actors, file names, EXIF and views; one sample has them all."""
    project = Refinery.open(refined)
    inspected = [h.sample_id for h in Viewer(project).browse(Screen(where="width > 0", density="dense")).hits]
    victim, events = inspected[0], []
    for sample, caption in zip(inspected[1:], WORDS * 2, strict=False):
        events.append(Event(EventType.ATTRIBUTE, ANA, sample, kind="caption", value=caption))
        events.append(
            flag_event(sample, "keep", ANA, known_kinds=("keep",), reason="so that its caption is shown")
        )
    for number, words in enumerate(WORDS):
        events.append(Event(EventType.TAG, ANA, victim, kind="tag", value=words))
        model = Actor(ActorKind.MODEL, words)
        events.append(
            flag_event(
                victim, "review", model, known_kinds=("review",), reason=f"{number}: {words}", confidence=0.5
            )
        )
        project.views.save(f"view{number}", "", ANA, text=words)
    project.ledger.append(events)
    _ingest_names(project, tmp_path / "named")
    project.replay()
    project.project()
    yield refined, victim
    shutil.rmtree(tmp_path / "named")


def _ingest_names(project: Refinery, folder: Path) -> None:
    """Pictures with hostile names and EXIF, and an SVG that is a script."""
    folder.mkdir()
    names = [w for w in WORDS if not set(w) & set("/\0") and len(w.encode()) < 200]
    for number, name in enumerate(names):
        exif = Image.Exif()
        exif[0x010E] = exif[0x013B] = name.encode("ascii", "replace").decode()  # description, artist
        picture = Image.new("RGB", (64, 64), (number, 99, 99))
        out = io.BytesIO()
        picture.save(out, "JPEG", exif=exif)
        (folder / f"{name}.jpg").write_bytes(out.getvalue())
    (folder / "a.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg' onload='window.hacked=1'/>")
    source = open_source(folder, name="named", kind="folder")
    ingest(project.store, project.fields, source, batch_size=200, max_bytes=1 << 20)


def test_over_a_hundred_hostile_words_are_text_on_every_page(page: Page, hostile: tuple[Path, str]) -> None:
    folder, victim = hostile
    assert len({*WORDS}) == len(WORDS) >= 100
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("dialog", lambda dialog: pytest.fail(f"a dialog opened: {dialog.message}"))
    with served(folder) as address:

        def look(where: str, wanted: list[str], first: Callable[[], object] = lambda: None) -> None:
            page.goto(f"{address}/?{where}")
            settled(page)
            first()
            there = f"(all) => {{ const said = ({ALL_TEXT})(); return all.every((word) => said.includes(word)); }}"
            with suppress(TimeoutError):  # what is missing is said below
                page.wait_for_function(there, arg=list(map(safe, wanted)))
            said = page.evaluate(ALL_TEXT)
            assert [w for w in wanted if safe(w) not in said] == []
            assert page.evaluate("window.hacked") is None
            assert page.evaluate(STRANGE) == []

        captions = (
            Viewer.open(folder)
            .browse(Screen(where="caption IS NOT NULL", verdict="gold", density="dense"))
            .hits
        )
        look(
            "where=caption IS NOT NULL&verdict=gold&density=dense", [h.document["caption"] for h in captions]
        )
        tab = page.get_by_role("tab", name="Attributes")
        look(f"sample={victim}", sorted(WORDS), lambda: tab.click())
        look(f"sample={victim}", WORDS, lambda: page.get_by_role("tab", name="History").click())
        page.get_by_role("tab", name="Origins").click()
        look("page=triage&queue=uncertain", ["review by model"])
        for words in (WORDS[0], WORDS[11], WORDS[-12]):
            for field in ("where", "source", "words", "view", "ref", "sample", "like", "cursor", "lasso"):
                page.goto(f"{address}/?" + _query(field, words))
                settled(page)
                assert page.evaluate("window.hacked") is None, field
                assert page.evaluate(STRANGE) == [], field
        page.goto(f"{address}/?density=dense")
        shown(page)
        page.get_by_text("Add a clause").click()
        field = page.get_by_role("combobox", name="Field")
        field.fill("tags")
        field.press("Enter")
        settled(page)
        page.get_by_role("combobox", name="One of").click()
        settled(page)
        assert page.evaluate(STRANGE) == []
        desk(page).press("Enter")
        settled(page)
        assert page.evaluate("window.hacked") is None
        for name in ("snapshots", "fields", "views", "health", "policy", "map"):
            page.goto(f"{address}/?page={name}")
            settled(page)
            assert page.evaluate("window.hacked") is None, name
            assert page.evaluate(STRANGE) == [], name
    assert all(url.startswith((address, "data:", "blob:")) for url in requests), requests


def _query(field: str, words: str) -> str:
    from urllib.parse import urlencode

    return urlencode({field: words, **({"page": "snapshots"} if field == "ref" else {})})
