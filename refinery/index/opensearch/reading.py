"""Reading an index while it may be replaced: what is gone is looked for again, and types are checked before they are used."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa

from refinery.errors import InputError, TransientError, did_you_mean
from refinery.fields import Fields
from refinery.index import DOC_DIGEST, VECTOR
from refinery.index.opensearch.backing import Backing, Layout
from refinery.index.opensearch.client import Client, Refused, turns
from refinery.index.opensearch.documents import to_table
from refinery.index.opensearch.replacing import replaced

T = TypeVar("T")
_TRUSTED = 5.0  # seconds for which what was read of the mapping is used
_IDS_AT_ONCE = 1000
_DIGESTS_AT_ONCE = 10_000
_KEPT = "5m"  # how long a consistent view waits for its next page


@dataclass(frozen=True, slots=True)
class Shown:
    """The columns that a table of documents has, and which parts of a document the server has to send for them."""

    schema: pa.Schema
    source: Any


class Reader:
    """Requests that read the index behind `alias`."""

    def __init__(self, client: Client, layout: Layout, fields: Fields, alias: str) -> None:
        self.client, self._layout, self._fields, self._alias = client, layout, fields, alias
        self._known: tuple[float, Backing] | None = None
        self._shown_of: Backing | None = None
        self._shown: dict[Any, Shown] = {}

    def backing(self, *, fresh: bool = False) -> Backing | None:
        """The index that answers, with every field, None when there is none.

        ConfigError(kind="index_schema") when it holds a field as another type; ConflictError(kind="replaced") when it was a
        replacement that was overtaken.
        """
        known = self._known
        if known is not None and not fresh and time.monotonic() - known[0] < _TRUSTED:
            return known[1]
        self._known = None
        found = self._layout.behind(self._alias)
        if found is None and self._alias != self._layout.live:
            raise replaced(self._layout.live)
        if found is not None:
            found = self._layout.extend(found, self._fields)
            self._known = (time.monotonic(), found)
        return found

    def search(self, body: Mapping[str, Any], **params: Any) -> Any:
        """The reply to a search, None when there is no index."""
        params["allow_partial_search_results"] = "false"
        reply = self.trying(lambda: self.client.request("POST", f"/{self._alias}/_search", body, params))
        self._check(reply)
        return reply

    def searches(self, bodies: Sequence[Mapping[str, Any]], **params: Any) -> list[Any]:
        """The replies to several searches sent at once, none when there is no index."""
        replies = self.trying(lambda: self.client.searches(self._alias, bodies, **params)) or []
        for reply in replies:
            self._check(reply)
        return replies

    def trying(self, ask: Callable[[], T]) -> T | None:
        """What `ask` returns, asked again when the index was replaced meanwhile; None when there is no index."""
        for attempt in turns():
            try:
                return None if self.backing(fresh=attempt > 0) is None else ask()
            except Refused as refused:
                if not refused.gone:
                    self.backing(fresh=True)  # says so when the index has other types by now
                    raise
        raise TransientError(
            f"The index {self._alias!r} was replaced again and again while it was read: try again.",
            kind="index_busy",
        )

    def shown(self, columns: Sequence[str] | None, *also: str) -> Shown:
        """`columns` to show, by default all but vectors; `also` are sent without being shown.

        InputError(kind="unknown_field") for a column there is not.
        """
        backing = self.backing()
        if backing is not self._shown_of:
            self._shown_of, self._shown = backing, {}
        key = (None if columns is None else tuple(columns), also)
        if key not in self._shown:
            self._shown[key] = self._choose(columns, also)
        return self._shown[key]

    def _choose(self, columns: Sequence[str] | None, also: Sequence[str]) -> Shown:
        schema = _schema(self.backing(), self._fields)
        if columns is not None and not set(columns) <= set(schema.names):
            schema = _schema(self.backing(fresh=True), self._fields)
        vectors = [name for name in schema.names if name.startswith(VECTOR)]
        plain = [name for name in schema.names if name not in vectors]
        names = plain if columns is None else list(columns)
        for name in names:
            if name not in schema.names:
                raise InputError(
                    f"The index has no column {name!r}.{did_you_mean(name, schema.names)}",
                    kind="unknown_field",
                )
        wanted = {*names, *also}
        source: Any = {"includes": sorted(wanted)} if wanted else False
        if wanted.issuperset(plain):
            source = {"excludes": [name for name in vectors if name not in wanted]}
        return Shown(pa.schema([schema.field(name) for name in names]), source)

    def get(self, sample_ids: Sequence[str], shown: Shown) -> pa.Table:
        """These documents, in this order; unknown ids left out."""
        found: list[Mapping[str, Any]] = []
        for start in range(0, len(sample_ids), _IDS_AT_ONCE):
            asked = [{"_id": i, "_source": shown.source} for i in sample_ids[start : start + _IDS_AT_ONCE]]
            found += self.trying(lambda asked=asked: self._documents(asked)) or ()  # type: ignore[misc]
        return to_table(found, shown.schema)

    def _documents(self, asked: list[dict[str, Any]]) -> list[Mapping[str, Any]]:
        reply = self.client.request("POST", f"/{self._alias}/_mget", {"docs": asked})
        for answer in reply["docs"]:
            if "error" in answer:
                raise self.client.refusal(404, answer)
        return [answer.get("_source", {}) for answer in reply["docs"] if answer["found"]]

    def digests(self) -> pa.Table:
        """`sample_id` and `doc_digest` of every document, in order, as they stood at one moment."""
        found = self.trying(self._digests) or ([], [])
        return pa.table([pa.array(column, pa.string()) for column in found], names=["sample_id", DOC_DIGEST])

    def _digests(self) -> tuple[list[str], list[str]]:
        view = self.client.request(
            "POST", f"/{self._alias}/_search/point_in_time", params={"keep_alive": _KEPT}
        )["pit_id"]
        body: dict[str, Any] = {
            "size": _DIGESTS_AT_ONCE,
            "sort": [{"sample_id": "asc"}],
            "stored_fields": "_none_",
            "docvalue_fields": [DOC_DIGEST],
            "track_total_hits": False,
        }
        ids: list[str] = []
        digests: list[str] = []
        try:
            while True:
                body["pit"] = {"id": view, "keep_alive": _KEPT}
                reply = self.client.request(
                    "POST", "/_search", body, {"allow_partial_search_results": "false"}
                )
                hits, view = reply["hits"]["hits"], reply.get("pit_id", view)
                ids += [hit["sort"][0] for hit in hits]
                digests += [hit["fields"][DOC_DIGEST][0] for hit in hits]
                if len(hits) < _DIGESTS_AT_ONCE:
                    return ids, digests
                body["search_after"] = [ids[-1]]
        finally:
            with suppress(Refused, TransientError):  # it ends by itself
                self.client.request("DELETE", "/_search/point_in_time", {"pit_id": [view]})

    def _check(self, reply: Any) -> None:
        """Check the types of the index that answered, when it is another one than before."""
        hits = [] if reply is None else reply["hits"]["hits"]
        if hits and self._known is not None and hits[0]["_index"] != self._known[1].index:
            self.backing(fresh=True)


def _schema(backing: Backing | None, fields: Fields) -> pa.Schema:
    return (backing or Backing("", frozenset(), {})).schema(fields)
