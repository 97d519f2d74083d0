"""As of: documents, verdicts and searches as they were after the first L events of the ledger. Nothing of it is stored.

As of L is what the ledger and the snapshots say: flags, tags, attributes set in the ledger and the fields registered; the
verdicts, reasons and near-duplicates that follow; and membership of the snapshots recorded up to L, a dataset's bare name
being the newest of these. A snapshot of a version that did not record them counts from the offset it was frozen at.

Of now are the samples with their origins and payloads, their facts and clusters, and the policy (unless one is given).
The ledger does not say when a sample came: batches land beside it. So a sample ingested after event L is there too, with
the verdict it would have had, and may be the one that its cluster keeps. `ingested_at <= …` with the time of event L leaves
it out as far as clocks agree; what was frozen is exact in its snapshot.

Verdicts are evaluated, not read: they are those of a replay at L, also where none was run then.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from refinery.documents import state_rows
from refinery.errors import InputError
from refinery.fields import Fields
from refinery.filter import Filter, parse
from refinery.index import Query
from refinery.index.order import (
    ID,
    Mark,
    after,
    decode_cursor,
    encode_cursor,
    random_keys,
    rows_after,
    sort_field,
)
from refinery.ledger import Ledger, LedgerView
from refinery.policy import Policy
from refinery.projection import with_verdicts
from refinery.replay import Replayer
from refinery.search import Hit, SearchResult, as_sort
from refinery.snapshots import Snapshots

OF_NOW = ("samples", "facts", "policy")


@dataclass(frozen=True, slots=True)
class AsOf:
    """What an answer is as of: the offset and the time of its event (None: before the first one), where the ledger ends
    now, the policy evaluated, and what is of now instead."""

    offset: int
    time: str | None
    ledger_offset: int
    policy: str
    policy_digest: str
    of_now: tuple[str, ...] = OF_NOW

    @property
    def sentence(self) -> str:
        """The same in words, for people."""
        when = f", {self.time[:19]}" if self.time else ""
        return (
            f"As of ledger offset {self.offset:,} of {self.ledger_offset:,}{when}. Samples, facts and the policy "
            f"{self.policy} ({self.policy_digest[:12]}) are those of now."
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def as_of(ledger: Ledger, offset: int, policy: Policy) -> AsOf:
    """What an answer at `offset` under `policy` is as of. InputError when the ledger is not that long."""
    ledger.view(offset)
    time = ledger.events(after=offset - 1, upto=offset)[0].time if offset else None
    return AsOf(offset, time, ledger.offset, policy.name, policy.digest)


def fields_to_evaluate(view: LedgerView, now: Fields) -> Fields:
    """The fields registered at the view's offset, and those of now that it had not: a policy of now may read them."""
    then = Fields(view.registered_fields())
    return Fields([*then.attributes, *(f for f in now.attributes if f.name not in then)])


@dataclass(frozen=True, slots=True)
class DocumentsAt:
    """All documents at an offset, in order of sample id, with the columns of `fields`: those registered at the offset."""

    as_of: AsOf
    fields: Fields
    documents: pa.Table

    def select(self, where: str | None = None) -> tuple[Filter | None, pa.Table]:
        """The checked filter and the documents it selects. InputError when it does not fit the fields of the offset."""
        with self._explained():
            checked = parse(where, self.fields) if where and where.strip() else None
        return checked, _filtered(self.documents, checked)

    def search(
        self,
        where: str | None = None,
        *,
        sort: str | None = None,
        seed: int | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> SearchResult:
        """One page of what a filter selects, in the order that an index gives: by a field (a leading - for descending),
        at random for a seed, else by sample id. InputError for anything that does not fit, such as another offset's cursor.
        """
        checked, selected = self.select(where)
        order = as_sort(sort) if sort else None
        query = Query(checked, order, seed=seed, limit=limit, cursor=self._inner(cursor))
        if seed is None:
            with self._explained():
                page, marks = _by_field(selected, query, self.fields)
        else:
            page, marks = _by_chance(selected, query, seed)
        more = page.num_rows > limit
        hits = tuple(Hit(row["sample_id"], None, row) for row in page.slice(0, limit).to_pylist())
        after_page = f"{self.as_of.offset}.{encode_cursor(query, marks[limit - 1])}" if more else None
        return SearchResult(hits, after_page, checked)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """A field that is unknown at the offset may have been registered since: the error says so."""
        try:
            yield
        except InputError as error:
            if error.kind != "unknown_field":
                raise
            since = f"At ledger offset {self.as_of.offset} no field registered later is known yet."
            raise InputError(f"{error} {since}", kind=error.kind) from None

    def _inner(self, cursor: str | None) -> str | None:
        """The cursor within this offset: offsets have cursors of their own."""
        if cursor is None:
            return None
        offset, dot, inner = cursor.partition(".")
        if not dot or offset != str(self.as_of.offset):
            raise InputError(
                f"The cursor does not belong to a search at offset {self.as_of.offset}: start from the first page.",
                kind="bad_cursor",
            )
        return inner


def documents_at(
    ledger: Ledger, offset: int, replayer: Replayer, snapshots: Snapshots, policy: Policy
) -> DocumentsAt:
    """All documents at an offset. `replayer` and `policy` are of `fields_to_evaluate` there.

    InputError when the ledger is not that long.
    """
    view = ledger.view(offset)
    described, verdicts = replayer.evaluate(policy, view)
    fields = Fields(view.registered_fields())
    documents = described.documents.select(fields.schema().names)
    filled = with_verdicts(documents, state_rows(described, verdicts), snapshots.memberships(upto=offset))
    return DocumentsAt(as_of(ledger, offset, policy), fields, filled)


def _filtered(documents: pa.Table, checked: Filter | None) -> pa.Table:
    return documents if checked is None else documents.filter(pa.array(checked.mask(documents)))


def _by_field(documents: pa.Table, query: Query, fields: Fields) -> tuple[pa.Table, list[Mark]]:
    """What the page begins with and one document more, and a mark for each."""
    sort = query.sort or ID
    later, seen = after(query, sort, sort_field(sort, fields))
    rest = _filtered(documents, later)
    order = [(sort.field, "descending" if sort.descending else "ascending")]
    if sort.field != ID.field:
        order.append((ID.field, "ascending"))
    places = pc.sort_indices(rest, sort_keys=order)  # nulls last, in both directions
    page = rest.take(places[: query.limit + 1])
    rows = zip(page[sort.field].to_pylist(), page["sample_id"].to_pylist(), strict=True)
    return page, [Mark(key, i, seen + n) for n, (key, i) in enumerate(rows, start=1)]


def _by_chance(documents: pa.Table, query: Query, seed: int) -> tuple[pa.Table, list[Mark]]:
    """The same in the random order of a seed."""
    mark = decode_cursor(query, (int,))
    ids: npt.NDArray[np.str_] = np.array(documents["sample_id"].to_pylist(), np.str_)
    keys = random_keys(seed, pa.array(ids.tolist(), pa.string()))
    places = rows_after(keys, ids, mark)[: query.limit + 1]
    seen = mark.seen if mark else 0
    marks = [Mark(int(keys[p]), str(ids[p]), seen + n) for n, p in enumerate(places, start=1)]
    return documents.take(pa.array(places)), marks
