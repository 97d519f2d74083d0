"""Projects for the viewer, embedded and on real servers."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dagster_ui import CHROMIUM, FLAGS
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from viewer import patient

from refinery.project import Refinery
from tests.servers import S3Server


@pytest.fixture
def chromium() -> Iterator[Browser]:
    """A real browser, for one test: its event loop would be in the way of the fixtures that run Dagster."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS])
        yield opened
        opened.close()


@pytest.fixture
def person(chromium: Browser) -> Iterator[Callable[[], Page]]:
    """Another person at another screen: a page that shares nothing with others."""
    contexts: list[BrowserContext] = []

    def sit_down() -> Page:
        contexts.append(chromium.new_context(viewport={"width": 1280, "height": 800}))
        return patient(contexts[-1].new_page())

    yield sit_down
    for context in contexts:
        context.close()


@pytest.fixture
def page(person: Callable[[], Page]) -> Page:
    return person()


@pytest.fixture(params=["embedded", "real"])
def project(request: pytest.FixtureRequest, refined: Path, tmp_path: Path) -> Iterator[Path]:
    """The refined project, embedded and on servers."""
    yield from on_backend(request, refined, tmp_path)


def on_backend(request: pytest.FixtureRequest, embedded: Path, home: Path) -> Iterator[Path]:
    """The project as it is, or moved to servers, as the fixture's parameter says."""
    if request.param == "embedded":
        yield embedded
        return
    from opensearchpy import OpenSearch

    from assets import twin

    request.getfixturevalue("aws")
    server: S3Server = request.getfixturevalue("s3_server")
    url: str = request.getfixturevalue("opensearch_url")
    patch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    patch.setattr(twin, "BUCKET", request.getfixturevalue("bucket"))
    patch.setenv("AWS_ENDPOINT_URL_S3", server.endpoint)
    patch.setenv("OPENSEARCH_URL", url)
    moved: Refinery = twin.make_twin(embedded, home / f"viewer-{uuid.uuid4().hex[:12]}", dict(os.environ))
    moved.replay()
    moved.project()
    yield moved.path
    OpenSearch(url).indices.delete(index=f"{moved.settings.index.name}*", expand_wildcards="all")
