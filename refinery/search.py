"""Search: what CLI and viewer ask, checked and passed to the index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from refinery.errors import InputError
from refinery.fields import Fields
from refinery.filter import Filter, parse
from refinery.index import VECTOR, Nearest, Query, SampleIndex, Sort


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """One search. `filter` narrows; `text`, `vector`, both (hybrid), `sort` or `seed` orders (see `refinery.index.Query`).

    `vector` lies in the embedding space `space`: an embedded text or picture, or `vector_of` a sample;
    with `exact` no backend answers from an approximate graph.
    `sort` is a field's name, with a leading - for descending.
    """

    filter: str | None = None
    text: str | None = None
    vector: tuple[float, ...] | None = None
    space: str = "default"
    exact: bool = False
    sort: str | None = None
    seed: int | None = None
    limit: int = 50
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A sample found: its document by field name, and its score when the order has scores."""

    sample_id: str
    score: float | None
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One page of hits, the cursor of the next page, and the checked filter."""

    hits: tuple[Hit, ...]
    cursor: str | None
    filter: Filter | None


def search(index: SampleIndex, fields: Fields, request: SearchRequest) -> SearchResult:
    """The page that `request` asks for. InputError when a part of it does not fit."""
    checked = parse(request.filter, fields) if request.filter and request.filter.strip() else None
    query = Query(
        filter=checked,
        sort=as_sort(request.sort) if request.sort else None,
        nearest=None
        if request.vector is None
        else Nearest(tuple(request.vector), request.space, request.exact),
        text=request.text,
        seed=request.seed,
        limit=request.limit,
        cursor=request.cursor,
    )
    page = index.query(query)
    documents = page.rows()
    scores = page.scores or (None,) * len(documents)
    hits = tuple(Hit(d["sample_id"], score, d) for d, score in zip(documents, scores, strict=True))
    return SearchResult(hits, page.cursor, checked)


def as_sort(text: str) -> Sort:
    """The order that the text of a request says: a field's name, with a leading - for descending."""
    return Sort(text.removeprefix("-"), descending=text.startswith("-"))


def vector_of(index: SampleIndex, sample_id: str, space: str = "default") -> tuple[float, ...]:
    """A sample's vector, shape (dimensions,). InputError when the index has no such sample, or the sample no vector."""
    found = index.get([sample_id], ["sample_id", VECTOR + space]).to_pylist()
    if not found:
        raise InputError(f"There is no sample {sample_id!r} in the index.", kind="unknown_sample")
    vector = found[0][VECTOR + space]
    if vector is None:
        raise InputError(f"Sample {sample_id} has no embedding in the space {space!r}.", kind="no_embedding")
    return tuple(vector)
