"""Fixtures that many suites share."""

from __future__ import annotations

from pathlib import Path

import pytest

from refinery.corpus import CorpusReport, build_corpus
from refinery.store.local import LocalStore


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> CorpusReport:
    """The small corpus: real photographs, derived cases and broken files, with the truth about each. Read only."""
    return build_corpus(tmp_path_factory.mktemp("corpus") / "corpus", size="small")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """An empty object store."""
    return LocalStore(tmp_path / "store")
