"""The `SampleIndex` port: documents that can be searched. A projection: it can be wiped and rebuilt, and is never the truth.

A document table has the columns of `Fields.schema()`, `doc_digest` (string), and one `vector_<space>` column
(fixed-size list of float32, null when missing) per embedding space.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

import pyarrow as pa

from refinery.errors import InputError
from refinery.fields import Fields
from refinery.filter import Filter

MAX_LIMIT = 10_000
VECTOR = "vector_"
DOC_DIGEST = "doc_digest"

AggregateKind = Literal["terms", "histogram", "date"]


@dataclass(frozen=True, slots=True)
class Sort:
    """Order by a field that holds one value; samples without a value come last, ties in order of sample id."""

    field: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Nearest:
    """Order by cosine similarity to `vector` in an embedding space, most similar first. Samples without a vector are left out.

    A backend may answer from an approximate graph (ties and near-ties in any order) unless `exact` is asked for.
    """

    vector: tuple[float, ...]
    space: str = "default"
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """Which samples, in which order, and how many.

    At most one order: `sort`, `nearest`, `text` (best match of any of its words in the text fields first; the text has
    no syntax), `text` and `nearest` together (hybrid, see `refinery.index.fusion`), or `seed` (a random order, the same
    on every backend). Without one: by sample id.
    `cursor` is the one of the page before, of the same query. `columns` restricts the documents to some columns.
    """

    filter: Filter | None = None
    sort: Sort | None = None
    nearest: Nearest | None = None
    text: str | None = None
    seed: int | None = None
    limit: int = 50
    cursor: str | None = None
    columns: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        orders = [name for name in ("sort", "nearest", "text", "seed") if getattr(self, name) is not None]
        if len(orders) > 1 and orders != ["nearest", "text"]:
            raise InputError(
                f"A query has one order, but this one has {' and '.join(orders)}: choose one "
                "(text and a vector together are a hybrid search).",
                kind="bad_query",
            )
        if not 1 <= self.limit <= MAX_LIMIT:
            raise InputError(f"The limit is {self.limit}; it must be 1 to {MAX_LIMIT}.", kind="bad_query")


@dataclass(frozen=True)
class Page:
    """One page of a query: `documents` in order, a score for each when the order has scores, and where to go on.

    Scores: cosine similarity of `nearest`, BM25 of `text`, fused ranks of both. `cursor` is None on the last page.
    `read` makes the table of documents; `read_rows` their rows, where a backend has them without a table.
    """

    scores: tuple[float, ...] | None
    cursor: str | None
    read: Callable[[], pa.Table]
    read_rows: Callable[[], list[dict[str, Any]]] | None = None

    @cached_property
    def documents(self) -> pa.Table:
        """The documents as a table."""
        return self.read()

    def rows(self) -> list[dict[str, Any]]:
        """The documents as Python values by column: what `documents.to_pylist()` gives, the quickest way."""
        return self.documents.to_pylist() if self.read_rows is None else self.read_rows()


@dataclass(frozen=True, slots=True)
class Failed:
    """A document that was not written, and why."""

    sample_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class BulkReport:
    """What became of every document of an upsert: `written`, `superseded` and `failed` ids are all of them.

    `superseded`: a write with a greater sequence was there already, and stands.
    """

    written: tuple[str, ...] = ()
    failed: tuple[Failed, ...] = ()
    superseded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bucket:
    """A value (terms), the start of an interval (histogram, date), and how many samples fall there.

    `end` is the end of the interval, excluded but for the last one of a histogram; None for terms.
    """

    value: Any
    count: int
    end: Any = None


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Buckets of a field. `missing` samples have no value; `other` occurrences are in no bucket shown."""

    buckets: tuple[Bucket, ...] = field(default=())
    missing: int = 0
    other: int = 0


class SampleIndex(Protocol):
    """Where documents are searched. Implementations: LanceDB in a local folder, OpenSearch.

    Several projections may run at once. Each takes a sequence *before* it reads truth, and passes it with every write:
    of two writes of one document the one with the greater sequence stands, whichever comes last. So a slow projection of
    old truth never undoes the work of a newer one. A write without a sequence takes one for itself.
    """

    def next_sequence(self) -> int:
        """A number greater than any given before, also across processes and after the index was lost."""
        ...

    def upsert(self, documents: pa.Table, sequence: int | None = None) -> BulkReport:
        """Write documents, each replacing the one of the same sample id whole; missing columns become null.

        All that were written are visible when the call returns. A document whose id is no sample id, that holds a number
        or vector that is not finite (or a vector of zeros), or a text that is too long, is reported as failed.
        InputError for a table with an unknown column, without `sample_id` or `doc_digest`, or with one id twice;
        ConfigError(kind="index_schema") when a column's type is not the index's; TransientError when the backend could
        not be reached or stayed overloaded: some may be written, and the same call may be repeated.
        """
        ...

    def delete(self, sample_ids: Sequence[str], sequence: int | None = None) -> int:
        """Remove documents; the number that were there (and were not written with a greater sequence)."""
        ...

    def count(self, filter: Filter | None = None) -> int:
        """How many documents the filter selects."""
        ...

    def get(self, sample_ids: Sequence[str], columns: Sequence[str] | None = None) -> pa.Table:
        """The documents of these ids, in this order, unknown ids left out; vectors only when named in `columns`."""
        ...

    def digests(self) -> pa.Table:
        """`sample_id` and `doc_digest` of every document, in order of sample id."""
        ...

    def head(self, filter: Filter | None, limit: int, columns: Sequence[str]) -> pa.Table:
        """The first `limit` documents in order of sample id that the filter selects, as many as one likes, with `columns`.

        Ids are digests, so that these are a uniform sample. InputError: unknown column.
        """
        ...

    def query(self, query: Query) -> Page:
        """One page. With `nearest`, exactly `limit` hits whenever so many samples with a vector pass the filter.

        A page follows the one before by order and sample id, so that samples written in between are neither repeated
        nor do they push others out. InputError: unknown field, space or cursor.
        """
        ...

    def aggregate(
        self, field: str, kind: AggregateKind | None = None, filter: Filter | None = None, size: int = 20
    ) -> Aggregate:
        """At most `size` buckets of a field over the samples the filter selects.

        terms: the most frequent values (of a list: each of its values), ties in order of value. histogram: intervals
        of equal width from the least to the greatest value. date: the hours, days, months or years (the finest of
        which at most `size` hold a sample; else the latest years) that hold one. None: the kind that suits the field.
        """
        ...

    def position(self) -> dict[str, Any]:
        """What the index was projected from, as last set; empty when never."""
        ...

    def set_position(self, position: Mapping[str, Any], sequence: int | None = None) -> bool:
        """Record what the documents written so far were projected from (JSON values).

        False: a projection with a greater sequence has recorded one, which stands.
        """
        ...

    def replacement(self, fields: Fields, spaces: Mapping[str, int]) -> AbstractContextManager[SampleIndex]:
        """A new, empty index with these fields and embedding spaces (dimensions by name) that takes this one's place.

        The block projects into the index it is given. At its end the new index, its position included, answers in
        place of the old one, at once and for everybody; when the block raises, the new one is dropped. Until then
        searches and `position` are those of the old index, and whatever others upsert or delete reaches both, so that
        nothing they wrote is lost or unseen at any moment. ConflictError(kind="replaced") when a later replacement has
        begun meanwhile: that one goes on, this one is dropped.
        """
        ...

    def compact(self) -> None:
        """Merge small pieces, bring text indexes up to date, and free what old versions hold."""
        ...
