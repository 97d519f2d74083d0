"""Queries as OpenSearch requests: one for a page, but for similarity where the graph finds too little, and hybrids.

Similarity: the graph is searched with the filter inside, for more candidates than asked, and these are scored exactly, so
that scores are the same on every page and whatever the graph keeps of a vector. Too few of them (there are no more, or a
narrow filter cut the graph apart), a later page, and `exact` are answered by scoring every vector that the filter selects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from refinery.config import OpenSearchSettings
from refinery.digests import digest
from refinery.errors import InputError, did_you_mean
from refinery.fields import Field, Fields, FieldType, from_micros
from refinery.filter import Filter, conjunction
from refinery.index import VECTOR, Nearest, Query
from refinery.index.fusion import WINDOW, fuse
from refinery.index.opensearch.reading import Reader
from refinery.index.order import ID, Mark, after, check_vector, decode_cursor, sort_field

Hit = dict[str, Any]
Body = dict[str, Any]
_MAX_K = 10_000
_BEST_FIRST = ["_score", {"sample_id": "asc"}]
_IDS_ONLY = {"_source": False, "stored_fields": "_none_"}
# The key of docs/filters.md, its constants as signed numbers; as 16 hex digits it compares as the unsigned number does
_RANDOM = """
long x = Long.parseUnsignedLong(doc['sample_id'].value.substring(0, 16), 16) ^ Long.parseUnsignedLong(params.salt, 16);
x = (x ^ (x >>> 30)) * -4658895280553007687L;
x = (x ^ (x >>> 27)) * -7723592293110705685L;
String key = Long.toHexString(x ^ (x >>> 31));
return '0000000000000000'.substring(key.length()) + key;
"""


@dataclass(frozen=True, slots=True)
class Found:
    """Up to limit + 1 samples in order: ids, keys of the order, scores when it has them, and the documents if they came
    with them. `seen` samples came before."""

    ids: Sequence[str]
    keys: Sequence[Any]
    scores: Sequence[float] | None
    sources: Sequence[Any] | None
    seen: int

    def mark(self, number: int) -> Mark:
        """Where a page of `number` samples ends."""
        return Mark(self.keys[number - 1], self.ids[number - 1], self.seen + number)


class Searcher:
    """Answers the queries of one index."""

    def __init__(self, reader: Reader, fields: Fields, settings: OpenSearchSettings) -> None:
        self._reader, self._fields, self._settings = reader, fields, settings

    def find(self, query: Query, source: Any) -> Found:
        """The samples of a page and the one after it; of each document what `source` says (and the sort field)."""
        body = {"size": query.limit + 1, "track_total_hits": False, "_source": source}
        if query.nearest is not None:
            vector = self._vector(query.nearest)
            if query.text is not None:
                return self._by_both(query, query.nearest, vector, query.text)
            return self._by_similarity(query, query.nearest, vector, body)
        if query.text is not None:
            return self._by_text(query, query.text, body)
        if query.seed is not None:
            return self._by_chance(query, query.seed, body)
        return self._by_field(query, body)

    def select(self, filter: Filter | None) -> Body:
        """The query that finds what the filter selects; everything without one."""
        return {"match_all": {}} if filter is None else filter.to_opensearch(self._fields)

    def _by_field(self, query: Query, body: Body) -> Found:
        sort = query.sort or ID
        field = sort_field(sort, self._fields)
        later, seen = after(query, sort, field)
        name = f"{field.name}.exact" if field.type is FieldType.TEXT else field.name
        orders: list[Any] = [{name: {"order": "desc" if sort.descending else "asc", "missing": "_last"}}]
        if sort.field != ID.field:
            orders.append({ID.field: "asc"})
        chosen = query.filter if later is None else conjunction([query.filter, later])
        hits = self._hits({**body, "query": {"bool": {"filter": [self.select(chosen)]}}, "sort": orders})
        return _found(hits, [_key(field, hit.get("_source", {}).get(field.name)) for hit in hits], None, seen)

    def _by_chance(self, query: Query, seed: int, body: Body) -> Found:
        mark = decode_cursor(query, (int,))
        salt = digest(str(seed).encode())[:16]
        script = {"source": _RANDOM, "params": {"salt": salt}}
        body |= {
            "query": {"bool": {"filter": [self.select(query.filter)]}},
            "sort": [{"_script": {"type": "string", "order": "asc", "script": script}}, {"sample_id": "asc"}],
        }
        if mark is not None:
            body["search_after"] = [f"{max(mark.key, 0):016x}", mark.sample_id]
        hits = self._hits(body)
        return _found(hits, [int(hit["sort"][0], 16) for hit in hits], None, mark.seen if mark else 0)

    def _by_text(self, query: Query, text: str, body: Body) -> Found:
        mark = decode_cursor(query, (float, int))
        body |= {"query": self._matching(query.filter, text), "sort": _BEST_FIRST}
        if mark is not None:
            body["search_after"] = [mark.key, mark.sample_id]
        hits = self._hits(body, **self._scoring(text))
        scores = [hit["sort"][0] for hit in hits]
        return _found(hits, scores, scores, mark.seen if mark else 0)

    def _by_similarity(
        self, query: Query, nearest: Nearest, vector: npt.NDArray[np.float32], body: Body
    ) -> Found:
        mark = decode_cursor(query, (float, int))
        hits: list[Hit] = []
        if mark is None and not nearest.exact:
            hits = self._near(query.filter, nearest.space, vector, body)
        if len(hits) <= query.limit:
            hits = self._nearest(query.filter, nearest.space, vector, body, mark)
        scores = [hit["_score"] for hit in hits]
        return _found(hits, scores, [2 * score - 1 for score in scores], mark.seen if mark else 0)

    def _by_both(self, query: Query, nearest: Nearest, vector: npt.NDArray[np.float32], text: str) -> Found:
        mark = decode_cursor(query, (float, int))
        start = mark.seen if mark else 0
        ids = {"size": WINDOW, "track_total_hits": False, "sort": _BEST_FIRST, **_IDS_ONLY}
        words = {**ids, "query": self._matching(query.filter, text)}
        chosen = self._all_with(query.filter, nearest.space)
        exact = {**ids, "query": self._scored(chosen, nearest.space, vector)}
        if nearest.exact:
            replies = self._reader.searches([words, exact], **self._scoring(text))
        else:
            graph = self._graph(query.filter, nearest.space, vector, WINDOW)
            near = {**ids, "query": self._scored(graph, nearest.space, vector)}
            there = {"size": 0, "track_total_hits": WINDOW, "query": chosen}
            *replies, counted = self._reader.searches([words, near, there], **self._scoring(text)) or [None]
            if counted is not None and len(replies[1]["hits"]["hits"]) < counted["hits"]["total"]["value"]:
                replies[1] = self._reader.search(exact, **self._scoring(text)) or replies[1]
        rankings = [[hit["sort"][1] for hit in reply["hits"]["hits"]] for reply in replies]
        shown = fuse(*rankings)[start : start + query.limit + 1]
        scores = [score for _, score in shown]
        return Found([i for i, _ in shown], scores, scores, None, start)

    # similarity

    def _near(
        self, filter: Filter | None, space: str, vector: npt.NDArray[np.float32], body: Body
    ) -> list[Hit]:
        """The best of what the graph finds; nothing when that cannot be said without looking at all."""
        size = body["size"]
        if size > _MAX_K:
            return []
        graph = self._graph(filter, space, vector, max(size, self._settings.ef_search))
        hits = self._hits({**body, "query": self._scored(graph, space, vector)})
        if len(hits) == size > 1 and hits[-1]["_score"] == hits[-2]["_score"]:
            hits = self._hits({**body, "query": self._scored(graph, space, vector), "sort": _BEST_FIRST})
        return sorted(hits, key=lambda hit: (-hit["_score"], hit["_id"]))

    def _nearest(
        self,
        filter: Filter | None,
        space: str,
        vector: npt.NDArray[np.float32],
        body: Body,
        mark: Mark | None,
    ) -> list[Hit]:
        later = {} if mark is None else {"search_after": [mark.key, mark.sample_id]}
        query = self._scored(self._all_with(filter, space), space, vector)
        return self._hits({**body, "query": query, "sort": _BEST_FIRST, **later})

    def _graph(self, filter: Filter | None, space: str, vector: npt.NDArray[np.float32], k: int) -> Body:
        knn: Body = {
            "vector": vector,
            "k": k,
            "method_parameters": {"ef_search": max(k, self._settings.ef_search)},
        }
        if filter is not None:
            knn["filter"] = self.select(filter)
        return {"knn": {VECTOR + space: knn}}

    def _all_with(self, filter: Filter | None, space: str) -> Body:
        return {"bool": {"filter": [self.select(filter), {"exists": {"field": VECTOR + space}}]}}

    def _scored(self, chosen: Body, space: str, vector: npt.NDArray[np.float32]) -> Body:
        """What `chosen` finds, scored (1 + cosine similarity) / 2."""
        params = {"field": VECTOR + space, "query_value": vector, "space_type": "cosinesimil"}
        script = {"lang": "knn", "source": "knn_score", "params": params}
        return {"script_score": {"query": chosen, "script": script}}

    def _vector(self, nearest: Nearest) -> npt.NDArray[np.float32]:
        backing = self._reader.backing()
        if backing is not None and nearest.space not in backing.spaces:
            backing = self._reader.backing(fresh=True)
        spaces = {} if backing is None else backing.spaces
        if nearest.space not in spaces:
            raise InputError(
                f"The index has no embedding space {nearest.space!r}; it has {list(spaces)}."
                f"{did_you_mean(nearest.space, spaces)}",
                kind="unknown_space",
            )
        return check_vector(nearest, spaces[nearest.space])

    # words

    def _matching(self, filter: Filter | None, text: str) -> Body:
        names = [field.name for field in self._fields.values() if field.type is FieldType.TEXT]
        if not names:
            raise InputError(
                "There is no text field to search: register one first, such as a caption.",
                kind="no_text_field",
            )
        words = {"multi_match": {"query": text, "fields": names, "type": "best_fields"}}
        return {"bool": {"must": [words], "filter": [self.select(filter)]}}

    def _scoring(self, text: str) -> dict[str, str]:
        """Makes scores of one text the same on every page: one copy of each shard, and one count of words for all."""
        params = {"preference": digest(text.encode())[:16]} if self._settings.replicas else {}
        if self._settings.shards > 1:
            params["search_type"] = "dfs_query_then_fetch"
        return params

    def _hits(self, body: Body, **params: Any) -> list[Hit]:
        reply = self._reader.search(body, **params)
        return [] if reply is None else reply["hits"]["hits"]


def _found(hits: Sequence[Hit], keys: Sequence[Any], scores: Sequence[float] | None, seen: int) -> Found:
    return Found([hit["_id"] for hit in hits], keys, scores, [hit.get("_source", {}) for hit in hits], seen)


def _key(field: Field, stored: Any) -> Any:
    if field.type is FieldType.DATE and stored is not None:
        return from_micros(stored)
    return stored
