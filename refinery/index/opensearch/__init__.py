"""`SampleIndex` on OpenSearch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from refinery.config import OpenSearchSettings
from refinery.errors import TransientError
from refinery.fields import Fields
from refinery.filter import Filter
from refinery.index import DOC_DIGEST, MAX_LIMIT, Aggregate, AggregateKind, BulkReport, Failed, Page, Query
from refinery.index.buckets import kind_for
from refinery.index.opensearch.aggregates import aggregate
from refinery.index.opensearch.backing import Backing, Layout
from refinery.index.opensearch.bulk import AliasGone, Bulk
from refinery.index.opensearch.client import Client, Refused, turns
from refinery.index.opensearch.control import Control
from refinery.index.opensearch.documents import to_lines, to_rows, to_table
from refinery.index.opensearch.reading import Reader
from refinery.index.opensearch.replacing import replaced, replacing
from refinery.index.opensearch.search import Searcher
from refinery.index.order import encode_cursor
from refinery.index.rows import check_columns, conform


class OpenSearchIndex:
    """The index called `settings.name`, made at the first write. Safe to use from several threads and processes.

    A delete is remembered for 24 hours while its node runs: a write with a smaller sequence that comes later than that
    brings the document back.
    """

    def __init__(
        self,
        settings: OpenSearchSettings,
        fields: Fields,
        *,
        client: Client | None = None,
        building: str | None = None,
    ) -> None:
        """`building`: the alias of a replacement under way, instead of the index that answers."""
        self._settings, self._fields = settings, fields
        self._client = client or Client(settings)
        self._layout = Layout(self._client, settings)
        self._control = Control(self._client, settings)
        self._building = building is not None
        self._alias = building or self._layout.live
        self._use(fields)

    def _use(self, fields: Fields) -> None:
        self._fields = fields
        self._reader = Reader(self._client, self._layout, fields, self._alias)
        self._searcher = Searcher(self._reader, fields, self._settings)

    def __repr__(self) -> str:
        return f"OpenSearchIndex({self._settings.url!r}, {self._alias!r})"

    # writing

    def next_sequence(self) -> int:
        return self._control.next_sequence()

    def upsert(self, documents: pa.Table, sequence: int | None = None) -> BulkReport:
        for _ in turns():
            live, ahead = self._targets()
            added = check_columns(documents, live.schema(self._fields))
            try:
                live = self._layout.extend(live, self._fields, added)
            except Refused as refused:
                if not refused.gone:
                    raise
                continue
            rows, failed = conform(documents, live.schema(self._fields), self._fields)
            if not rows.num_rows:
                return BulkReport((), failed)
            sequence = self.next_sequence() if sequence is None else sequence
            # first to the replacement: should it take its place between the two, the second write goes there too
            lost = self._write_ahead(ahead, rows, sequence) if ahead is not None else []
            try:
                done = Bulk(self._client, self._settings, self._alias).write(to_lines(rows), sequence)
            except AliasGone:
                continue
            self._refresh()
            unwritten = {failure.sample_id: failure for failure in (*lost, *done.failed)}
            written = tuple(sample_id for sample_id in done.written if sample_id not in unwritten)
            return BulkReport(written, (*failed, *unwritten.values()), tuple(done.superseded))
        raise self._unsettled()

    def _write_ahead(self, ahead: Backing, rows: pa.Table, sequence: int) -> list[Failed]:
        """Write to a replacement, with its own fields and spaces, what it can hold.

        A document that it cannot hold whole gets no digest, so that the next projection sees that it differs.
        """
        new = Fields([field for field in self._fields.attributes if field.name not in ahead.properties])
        try:
            ahead = self._layout.extend(ahead, new)
        except Refused as refused:
            if not refused.gone:
                raise
            return []
        kept = [column.name for column in rows.schema if ahead.holds(column, self._fields)]
        partial = pa.array([False] * rows.num_rows)
        for name in set(rows.column_names).difference(kept):
            partial = pc.or_(partial, _has_value(rows.column(name).combine_chunks()))
        digests = pc.if_else(partial, "", rows.column(DOC_DIGEST))
        place = kept.index(DOC_DIGEST)
        rows = rows.select(kept).set_column(place, DOC_DIGEST, digests)
        try:
            return (
                Bulk(self._client, self._settings, self._layout.next).write(to_lines(rows), sequence).failed
            )
        except AliasGone:
            return []

    def delete(self, sample_ids: Sequence[str], sequence: int | None = None) -> int:
        if not sample_ids:
            return 0
        ids = list(dict.fromkeys(sample_ids))
        for _ in turns():
            _, ahead = self._targets()
            sequence = self.next_sequence() if sequence is None else sequence
            try:
                if ahead is not None:
                    Bulk(self._client, self._settings, self._layout.next).delete(ids, sequence)
            except AliasGone:
                pass
            try:
                done = Bulk(self._client, self._settings, self._alias).delete(ids, sequence)
            except AliasGone:
                continue
            self._refresh()
            return len(done.written)
        raise self._unsettled()

    def set_position(self, position: Mapping[str, Any], sequence: int | None = None) -> bool:
        live, _ = self._targets()
        sequence = self.next_sequence() if sequence is None else sequence
        return self._control.set_position(live.index, position, sequence)

    @contextmanager
    def replacement(self, fields: Fields, spaces: Mapping[str, int]) -> Iterator[OpenSearchIndex]:
        self._targets()
        with replacing(self._layout, self._control, fields, spaces) as build:
            new = OpenSearchIndex(self._settings, fields, client=self._client, building=build)
            yield new
            new._refresh()
        self._use(fields)

    def compact(self) -> None:
        """Make visible what was written by a writer that died; OpenSearch merges by itself."""
        self._refresh()

    def _refresh(self) -> None:
        names = self._alias if self._building else f"{self._alias},{self._layout.next}"
        for _ in turns():
            reply = self._client.request("POST", f"/{names}/_refresh", params={"ignore_unavailable": "true"})
            if not reply["_shards"]["failed"]:
                return
        raise self._unsettled()

    def _targets(self) -> tuple[Backing, Backing | None]:
        """The index that answers, made if there is none, and the replacement that is being built for it."""
        for _ in turns():
            known = self._layout.all()
            live = self._layout.behind(self._alias, known)
            if live is not None:
                return live, None if self._building else self._layout.behind(self._layout.next, known)
            if self._building:
                raise replaced(self._layout.live)
            self._layout.create(0, self._alias, self._fields, {})
        raise self._unsettled()

    def _unsettled(self) -> TransientError:
        return TransientError(
            f"The index {self._alias!r} was removed or replaced again and again meanwhile: try again.",
            kind="index_busy",
        )

    # reading

    def head(self, filter: Filter | None, limit: int, columns: Sequence[str]) -> pa.Table:
        parts: list[pa.Table] = []
        left, cursor = limit, None
        while not parts or (left > 0 and cursor is not None):
            size = max(1, min(left, MAX_LIMIT))
            page = self.query(Query(filter, limit=size, cursor=cursor, columns=tuple(columns)))
            parts.append(page.documents)
            left, cursor = left - size, page.cursor
        return pa.concat_tables(parts).slice(0, limit)

    def position(self) -> dict[str, Any]:
        for _ in turns():
            live = self._reader.backing(fresh=True)
            if live is None:
                return {}
            found = self._control.position(live.index)
            if found is not None:
                return found
            again = self._reader.backing(fresh=True)
            if again is not None and again.index == live.index:
                return {}
        raise self._unsettled()

    def count(self, filter: Filter | None = None) -> int:
        body = {"size": 0, "track_total_hits": True, "query": self._searcher.select(filter)}
        reply = self._reader.search(body)
        return 0 if reply is None else int(reply["hits"]["total"]["value"])

    def get(self, sample_ids: Sequence[str], columns: Sequence[str] | None = None) -> pa.Table:
        return self._reader.get(sample_ids, self._reader.shown(columns))

    def digests(self) -> pa.Table:
        return self._reader.digests()

    def query(self, query: Query) -> Page:
        shown = self._reader.shown(query.columns, *([query.sort.field] if query.sort else ()))
        found = self._searcher.find(query, shown.source)
        count = min(len(found.ids), query.limit)
        cursor = encode_cursor(query, found.mark(count)) if len(found.ids) > count else None
        scores = None if found.scores is None else tuple(found.scores[:count])
        if found.sources is not None:
            page, schema = found.sources[:count], shown.schema
            return Page(scores, cursor, lambda: to_table(page, schema), lambda: to_rows(page, schema))
        names = shown.schema.names
        shown = self._reader.shown([*names, *({"sample_id"}.difference(names))])
        documents = self._reader.get(found.ids[:count], shown)
        there = set(documents.column("sample_id").to_pylist())  # others were removed since they were ranked
        pairs = zip(found.ids[:count], scores or (), strict=True)
        kept = tuple(score for i, score in pairs if i in there)
        return Page(kept, cursor, lambda: documents.select(names))

    def aggregate(
        self, field: str, kind: AggregateKind | None = None, filter: Filter | None = None, size: int = 20
    ) -> Aggregate:
        found = kind_for(self._fields[field], kind, size)
        return aggregate(self._reader, self._searcher.select(filter), self._fields[field], found, size)


def _has_value(column: pa.Array) -> pa.Array:
    if pa.types.is_list(column.type):
        return pc.fill_null(pc.greater(pc.list_value_length(column), 0), False)
    return column.is_valid()
