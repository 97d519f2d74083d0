"""Fixtures that many suites share."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from refinery.corpus import CorpusReport, build_corpus
from refinery.store import ObjectStore
from refinery.store.local import LocalStore
from tests.servers import aws, bucket, opensearch_url, s3_server, s3_settings

__all__ = ["aws", "bucket", "opensearch_url", "s3_server", "s3_settings"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # as a shell leaves it for what it runs in the background: the programs that tests interrupt would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> CorpusReport:
    """The small corpus: real photographs, derived cases and broken files, with the truth about each. Read only."""
    return build_corpus(tmp_path_factory.mktemp("corpus") / "corpus", size="small")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """An empty object store."""
    return LocalStore(tmp_path / "store")


@pytest.fixture(params=["folder", "s3"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty object store of either kind."""
    if request.param == "folder":
        return LocalStore(tmp_path / "store")
    from refinery.store.s3 import S3Store

    return S3Store(request.getfixturevalue("s3_settings"))


@pytest.fixture(scope="session")
def refined_folder(corpus: CorpusReport, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has ingested the small corpus and been run to gold, through the assets. Read only: copy it."""
    from assets.run import run
    from refinery.ingest import ingest
    from refinery.project import Refinery
    from refinery.sources import open_source

    folder = tmp_path_factory.mktemp("refined") / "project"
    project = Refinery.create(folder, "embedder: {kind: efficientnet_lite0}\n")
    source = open_source(corpus.folder, name="photographs", kind="folder")
    ingest(project.store, project.fields, source, batch_size=50, max_bytes=project.settings.inspect.max_bytes)
    run(project)
    return folder


@pytest.fixture
def refined(refined_folder: Path, tmp_path: Path) -> Path:
    """A copy of the refined project that a test may change."""
    from refinery.project import Refinery

    project = Refinery.open(shutil.copytree(refined_folder, tmp_path / "project"))
    project.replay()  # a copied file is another file to a local store: meet them all once
    project.project()
    return project.path
