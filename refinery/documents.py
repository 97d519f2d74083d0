"""Documents: every sample seen flat, from its inputs, its cluster and what stands on it in the ledger."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refinery.batches import Batches
from refinery.digests import canonical_json
from refinery.evals.results import TYPES as RESULTS
from refinery.evals.results import results
from refinery.facts import FactStore
from refinery.fields import Fields
from refinery.inputs import (
    ATTRIBUTES,
    MISSING,
    PAYLOADS,
    InputReader,
    Steps,
    known_attributes,
    stored,
)
from refinery.ledger import EventType, LedgerView
from refinery.near_duplicates import read_clusters
from refinery.policy import Policy
from refinery.states.rows import ROW_SCHEMA
from refinery.store import ObjectStore
from refinery.verdicts import Inputs, Verdicts

_VALUES = RESULTS | {EventType.ATTRIBUTE}


@dataclass(frozen=True, slots=True)
class Described:
    """Documents of n samples in order of sample id and, as columns of n, what only verdicts and states need: attributes and
    payloads as canonical JSON, and the names of the steps whose facts are missing. `spoken_of` are the rows of the samples
    that the ledger speaks of."""

    documents: pa.Table
    attributes: pa.ChunkedArray
    payloads: pa.ChunkedArray
    missing: pa.ChunkedArray
    spoken_of: list[int]


class DocumentBuilder:
    """Builds documents for the samples one asks for, from the facts of given steps."""

    def __init__(
        self, store: ObjectStore, batches: Batches, facts: FactStore, fields: Fields, steps: Steps
    ) -> None:
        self._store, self.batches, self.fields, self._steps = store, batches, fields, steps
        self.inputs = InputReader(batches, facts, fields, steps)

    def describe(self, view: LedgerView, sample_ids: Collection[str] | None = None) -> Described:
        """The documents of these samples (None: all that were ever seen), in order of sample id; read from truth."""
        return self.complete(self.inputs.read(sample_ids), view)

    def complete(self, inputs: pa.Table, view: LedgerView, clusters: pa.Table | None = None) -> Described:
        """The documents of inputs (see `refinery.inputs`), with their clusters (None: read now) and what stands in the ledger."""
        if clusters is None:
            clusters = read_clusters(self._store, self._steps.near_duplicates)
        ids = inputs["sample_id"].combine_chunks() if inputs.num_rows else pa.array([], pa.string())
        rows = _rows_spoken_of(view, ids)
        view.recall(rows.values())
        attributes, columns = self._attributes(inputs, view, rows)
        columns |= {
            "flags": _lists(len(ids), {row: _kinds(view, i) for row, i in rows.items()}),
            "tags": _lists(len(ids), {row: view.tags(i) for row, i in rows.items()}),
            "cluster": _clusters_of(ids, clusters),
            "reasons": _lists(len(ids), {}),
            "datasets": _lists(len(ids), {}),
            **{
                name: pa.nulls(len(ids), self.fields[name].type.arrow)
                for name in ("near_duplicate", "verdict")
            },
        }
        schema = self.fields.schema()
        table = pa.Table.from_arrays(
            [columns[f.name] if f.name in columns else inputs[f.name] for f in schema], schema=schema
        )
        return Described(table, attributes, inputs[PAYLOADS], inputs[MISSING], sorted(rows))

    def amend(self, documents: pa.Table, view: LedgerView) -> pa.Table:
        """Complete documents (the columns of `fields.schema()`) with what stands in the ledger now, the rest as it is."""
        ids = documents["sample_id"].to_pylist()
        view.recall(ids)
        columns: dict[str, list[Any]] = {
            "flags": [_kinds(view, i) for i in ids],
            "tags": [view.tags(i) for i in ids],
        }
        told = [i for i in ids if any(e.type in _VALUES for e in view.history(i))]
        if told:
            anew = self.complete(self.inputs.read(told), view).documents
            rows = {row["sample_id"]: row for row in anew.to_pylist()}
            for field in self.fields.attributes:
                before = zip(ids, documents[field.name].to_pylist(), strict=True)
                columns[field.name] = [rows[i][field.name] if i in rows else value for i, value in before]
        for name, values in columns.items():
            column = documents.schema.field(name)
            at = documents.schema.get_field_index(name)
            documents = documents.set_column(at, column, pa.array(values, column.type))
        return documents

    def _attributes(
        self, inputs: pa.Table, view: LedgerView, rows: Mapping[int, str]
    ) -> tuple[pa.ChunkedArray, dict[str, Any]]:
        """The canonical JSON of the attributes, and the columns where the ledger says something: it beats origins. Results
        of evals and feedback are columns only."""
        said = {row: known_attributes(self.fields, view.attributes(i)) for row, i in rows.items()}
        found = {row: known_attributes(self.fields, results(view, i)) for row, i in rows.items()}
        told = [row for row in rows if said[row] or found[row]]
        if not told:
            return inputs[ATTRIBUTES], {}
        origins = inputs[ATTRIBUTES].take(pa.array(told)).to_pylist()
        resolved = [json.loads(o) | said[row] for row, o in zip(told, origins, strict=True)]
        shown = [values | found[row] for row, values in zip(told, resolved, strict=True)]
        columns = {
            field.name: _replaced(inputs[field.name], told, [stored(field, s.get(field.name)) for s in shown])
            for field in self.fields.attributes
        }
        return _replaced(inputs[ATTRIBUTES], told, [canonical_json(r).decode() for r in resolved]), columns


def verdict_inputs(described: Described, view: LedgerView, policy: Policy) -> Inputs:
    """What `evaluate` needs, from documents and the ledger."""
    n = described.documents.num_rows
    blocked, kept, rejected, missing = (np.zeros(n, bool) for _ in range(4))
    ids = described.documents["sample_id"].take(pa.array(described.spoken_of, pa.int64())).to_pylist()
    for row, sample_id in zip(described.spoken_of, ids, strict=True):
        decision = view.decision(sample_id)
        blocked[row] = bool(view.blocked(sample_id))
        kept[row] = decision is not None and decision.keep
        rejected[row] = decision is not None and not decision.keep
    lacked = described.missing.combine_chunks()
    wanted = pc.is_in(pc.list_flatten(lacked), value_set=pa.array(policy.requires, pa.string()))
    missing[pc.list_parent_indices(lacked).to_numpy()[wanted.to_numpy(zero_copy_only=False)]] = True
    return Inputs(described.documents, blocked=blocked, kept=kept, rejected=rejected, missing=missing)


def state_rows(described: Described, verdicts: Verdicts) -> pa.Table:
    """The rows of a verdict state, in order of sample id."""
    documents = described.documents
    columns = {
        "sample_id": documents["sample_id"],
        "verdict": pa.array(verdicts.verdict, pa.string()),
        "reasons": pa.array(verdicts.reasons, pa.list_(pa.string())),
        "near_duplicate": pa.array(verdicts.near_duplicate),
        **{name: documents[name] for name in ("bytes", "format", "width", "height")},
        "attributes": described.attributes,
        "payloads": described.payloads,
    }
    return pa.table([columns[f.name] for f in ROW_SCHEMA], schema=ROW_SCHEMA)


def _clusters_of(ids: pa.Array, clusters: pa.Table) -> pa.ChunkedArray:
    return clusters["cluster"].take(pc.index_in(ids, value_set=clusters["sample_id"].combine_chunks()))


def _rows_spoken_of(view: LedgerView, ids: pa.Array) -> dict[int, str]:
    """The rows of `ids` that the ledger speaks of, and their ids."""
    told = view.spoken_of()
    if len(told) > len(ids):
        found = told.among(ids.to_pylist())
        return {row: i for row, i in enumerate(ids.to_pylist()) if i in found}
    spoken = list(told)
    rows = pc.index_in(pa.array(spoken, pa.string()), value_set=ids).to_pylist()
    return {row: i for row, i in zip(rows, spoken, strict=True) if row is not None}


def _lists(n: int, some: Mapping[int, list[str]]) -> pa.Array:
    """A column of n lists, empty but for some rows."""
    values: list[list[str]] = [[]] * n
    for row, value in some.items():
        values[row] = value
    return pa.array(values, pa.list_(pa.string()))


def _replaced(column: pa.ChunkedArray, rows: Collection[int], values: list[Any]) -> pa.ChunkedArray:
    """`column` with other values in some rows."""
    places = np.arange(len(column))
    places[list(rows)] = len(column) + np.arange(len(values))
    return pa.chunked_array([*column.chunks, pa.array(values, column.type)]).take(pa.array(places))


def _kinds(view: LedgerView, sample_id: str) -> list[str]:
    return sorted({str(e.kind) for e in view.flags(sample_id)})
