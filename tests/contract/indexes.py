"""Documents and fixtures of the contract suites of `SampleIndex`."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from refinery.config import OpenSearchSettings
from refinery.digests import digest
from refinery.fields import Field, Fields, FieldType
from refinery.index import Query, SampleIndex
from refinery.index.lancedb import LanceIndex
from refinery.index.opensearch import OpenSearchIndex
from refinery.index.opensearch.client import Client

FIELDS = Fields([Field("caption", FieldType.TEXT), Field("score", FieldType.NUMBER)])
WORDS = ["panda", "tree", "snow", "it's", "a+b", "café", "red", "house"]
DIMENSIONS = 16
START = datetime(2024, 1, 1, tzinfo=UTC)

Open = Callable[[Path, Fields], SampleIndex]


@dataclass(frozen=True, slots=True)
class OnOpenSearch:
    """Opens an index for each path on a real OpenSearch, all under one prefix."""

    url: str
    prefix: str

    def __call__(self, path: Path, fields: Fields) -> SampleIndex:
        name = f"{self.prefix}-{digest(str(path).encode())[:12]}"
        return OpenSearchIndex(OpenSearchSettings(url=self.url, name=name), fields)

    def remove(self) -> None:
        """Remove every index there is under the prefix."""
        Client(OpenSearchSettings(url=self.url)).request("DELETE", f"/{self.prefix}-*")


@pytest.fixture(params=["lancedb", "opensearch"])
def open_index(request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens indexes by path, in any process; those of one path are the same index."""
    if request.param == "lancedb":
        yield LanceIndex
        return
    opener = OnOpenSearch(request.getfixturevalue("opensearch_url"), f"contract-{uuid.uuid4().hex[:12]}")
    yield opener
    opener.remove()


@pytest.fixture
def index(open_index: Open, tmp_path: Path) -> SampleIndex:
    return open_index(tmp_path / "index", FIELDS)


def sample_id(number: int) -> str:
    return digest(str(number).encode())


def vectors(count: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, DIMENSIONS)).astype(np.float32)


def documents(numbers: range | list[int], space: str | None = "default", **columns: list[Any]) -> pa.Table:
    """Documents whose cells follow from their number: each third has no score, each fifth no vector."""
    all_vectors = vectors(max(numbers, default=0) + 1)
    cells: dict[str, list[Any]] = {
        "sample_id": [sample_id(n) for n in numbers],
        "doc_digest": [f"d{n}" for n in numbers],
        "width": list(numbers),
        "score": [None if n % 3 == 0 else (n % 7) / 7 for n in numbers],
        "format": [["jpeg", "png", None][n % 3] for n in numbers],
        "has_alpha": [[True, False, None][n % 3] for n in numbers],
        "source": [["imagenet"] if n % 100 == 0 else ["web", "crawl"] for n in numbers],
        "datasets": [["evals", "evals@1"] if n % 2 else [] for n in numbers],
        "ingested_at": [START + timedelta(days=n % 400) for n in numbers],
        "caption": [f"{WORDS[n % 8]} and {WORDS[n % 5]}" if n % 4 else None for n in numbers],
        **columns,
    }
    schema = FIELDS.schema().append(pa.field("doc_digest", pa.string()))
    table = pa.table({c.name: pa.array(cells.get(c.name, [None] * len(numbers)), c.type) for c in schema})
    if space is None:
        return table
    rows = [all_vectors[n].tolist() if n % 5 else None for n in numbers]
    return table.append_column(f"vector_{space}", pa.array(rows, pa.list_(pa.float32(), DIMENSIONS)))


def ids(table: pa.Table) -> list[str]:
    return table.column("sample_id").to_pylist()  # type: ignore[no-any-return]


def every_page(index: SampleIndex, **query: Any) -> list[str]:
    found: list[str] = []
    cursor = None
    while True:
        page = index.query(Query(cursor=cursor, **query))
        found += ids(page.documents)
        cursor = page.cursor
        if cursor is None:
            return found
