"""Documents: every sample seen flat, from its origins, facts and what stands on it in the ledger."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refinery.batches import Batches
from refinery.digests import canonical_json
from refinery.errors import InputError
from refinery.evals.results import TYPES as RESULTS
from refinery.evals.results import results
from refinery.facts import FactStore, Step
from refinery.fields import Field, Fields, FieldType, coerce
from refinery.ledger import EventType, LedgerView
from refinery.near_duplicates import read_clusters
from refinery.policy import Policy
from refinery.states.rows import ROW_SCHEMA
from refinery.store import ObjectStore
from refinery.verdicts import Inputs, Verdicts

_INSPECTED = [
    "format",
    "width",
    "height",
    "mode",
    "orientation",
    "has_alpha",
    "pixel_digest",
    "phash",
    "brightness",
    "contrast",
    "entropy",
    "sharpness",
]
_VALUES = RESULTS | {EventType.ATTRIBUTE}


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps a project computes, with their keys."""

    inspect: Step
    embed: dict[str, Step]
    near_duplicates: Step

    @property
    def default_embed(self) -> Step:
        return self.embed["default"]

    def by_name(self) -> dict[str, Step]:
        """The steps that verdicts may require, by the name policies use."""
        return {"inspect": self.inspect, "embed": self.default_embed, "near_duplicates": self.near_duplicates}


@dataclass(frozen=True, slots=True)
class Described:
    """Documents of n samples, with what only verdicts and manifests need: payloads and attributes as canonical JSON,
    and the names of the steps whose facts are missing."""

    documents: pa.Table
    attributes: list[str]
    payloads: list[str]
    missing: list[list[str]]


class DocumentBuilder:
    """Builds documents for the samples one asks for, from the facts of given steps."""

    def __init__(
        self, store: ObjectStore, batches: Batches, facts: FactStore, fields: Fields, steps: Steps
    ) -> None:
        self._store = store
        self._batches = batches
        self._facts = facts
        self.fields = fields
        self._steps = steps

    def describe(self, view: LedgerView, sample_ids: Collection[str] | None = None) -> Described:
        """The documents of these samples (None: all that were ever seen), in order of sample id."""
        merged = _merge_origins(self._batches.origins(sample_ids=sample_ids))
        ids = pa.array(merged["sample_id"], pa.string())
        inspected, embedded = (
            self._aligned(self._steps.inspect, ids),
            self._aligned(self._steps.default_embed, ids),
        )
        clustered = set(self._facts.files(self._steps.near_duplicates))
        attributes = [
            self._attributes(view, i, s)
            for i, s in zip(merged["sample_id"], merged["attributes"], strict=True)
        ]
        columns: dict[str, Any] = {name: inspected[name] for name in _INSPECTED}
        columns |= {
            "sample_id": ids,
            "bytes": merged["bytes"],
            "source": merged["source"],
            "batch": merged["batch"],
            "uri": merged["uri"],
            "ingested_at": merged["ingested_at"],
            "payloads": [[p["name"] for p in ps] for ps in merged["payloads"]],
            "failure": _failures(inspected, embedded),
            "min_side": pc.min_element_wise(inspected["width"], inspected["height"], skip_nulls=False),
            "aspect": pc.divide(
                inspected["width"].cast(pa.float64()), inspected["height"].cast(pa.float64())
            ),
            "embedder": embedded["embedder"],
            "cluster": self._clusters(ids),
            "near_duplicate": pa.nulls(len(ids), pa.bool_()),
            "flags": [_kinds(view, i) for i in merged["sample_id"]],
            "tags": [view.tags(i) for i in merged["sample_id"]],
            "verdict": pa.nulls(len(ids), pa.string()),
            "reasons": [[]] * len(ids),
            "datasets": [[]] * len(ids),
        }
        told = [
            values | self._registered(results(view, i))
            for i, values in zip(merged["sample_id"], attributes, strict=True)
        ]
        for field in self.fields.attributes:
            columns[field.name] = [_stored(field, values.get(field.name)) for values in told]
        schema = self.fields.schema()
        table = pa.Table.from_arrays([_column(columns[f.name], f.type) for f in schema], schema=schema)
        return Described(
            table,
            [canonical_json(a).decode() for a in attributes],
            [canonical_json(p).decode() for p in merged["payloads"]],
            _missing(inspected, embedded, [any(b in clustered for b in bs) for bs in merged["batch"]]),
        )

    def amend(self, documents: pa.Table, view: LedgerView) -> pa.Table:
        """Complete documents (the columns of `fields.schema()`) with what stands in the ledger now, the rest as it is."""
        ids = documents["sample_id"].to_pylist()
        columns: dict[str, list[Any]] = {
            "flags": [_kinds(view, i) for i in ids],
            "tags": [view.tags(i) for i in ids],
        }
        told = [any(e.type in _VALUES for e in view.history(i)) for i in ids]
        if any(told):
            spoken_of = [i for i, t in zip(ids, told, strict=True) if t]
            batches = {
                b for row, t in zip(documents["batch"].to_pylist(), told, strict=True) if t for b in row
            }
            merged = _merge_origins(self._batches.origins(sorted(batches), sample_ids=spoken_of))
            sidecars = dict(zip(merged["sample_id"], merged["attributes"], strict=True))
            resolved = {
                i: self._attributes(view, i, sidecars.get(i, [])) | self._registered(results(view, i))
                for i, t in zip(ids, told, strict=True)
                if t
            }
            for field in self.fields.attributes:
                before = documents[field.name].to_pylist()
                columns[field.name] = [
                    _stored(field, resolved[i].get(field.name)) if i in resolved else value
                    for i, value in zip(ids, before, strict=True)
                ]
        for name, values in columns.items():
            column = documents.schema.field(name)
            at = documents.schema.get_field_index(name)
            documents = documents.set_column(at, column, pa.array(values, column.type))
        return documents

    def _aligned(self, step: Step, ids: pa.Array) -> pa.Table:
        """The facts of a step in the order of `ids`; all null where there is none."""
        columns = ["reason", "retryable", *(_INSPECTED if step.name == "inspect" else ["embedder"])]
        facts = self._facts.read(step, sample_ids=ids.to_pylist(), columns=["sample_id", *columns])
        places = pc.index_in(ids, value_set=facts["sample_id"].combine_chunks())
        return facts.take(places).append_column("found", pc.is_valid(places))

    def _attributes(
        self, view: LedgerView, sample_id: str, sidecars: Sequence[tuple[str, str]]
    ) -> dict[str, Any]:
        """Resolved attributes: of origins the newest wins, and the ledger beats origins. Keys kept aside join in as soon
        as somebody registers them."""
        values: dict[str, Any] = {}
        for extras, registered in sidecars:
            for raw in (extras, registered):
                values.update(self._registered(json.loads(raw)) if raw != "{}" else {})
        values.update(self._registered(view.attributes(sample_id)))
        return values

    def _registered(self, raw: dict[str, Any]) -> dict[str, Any]:
        known: dict[str, Any] = {}
        for name, value in raw.items():
            if name in self.fields and not self.fields[name].builtin:
                try:
                    known[name] = coerce(self.fields[name], value)
                except InputError:
                    continue  # kept aside at ingest because it does not fit: it stays aside
        return {name: value for name, value in known.items() if value is not None}

    def _clusters(self, ids: pa.Array) -> pa.Array:
        clusters = read_clusters(self._store, self._steps.near_duplicates)
        places = pc.index_in(ids, value_set=clusters["sample_id"].combine_chunks())
        return clusters["cluster"].take(places)


def verdict_inputs(described: Described, view: LedgerView, policy: Policy) -> Inputs:
    """What `evaluate` needs, from documents and the ledger."""
    ids = described.documents["sample_id"].to_pylist()
    decisions = [view.decision(i) for i in ids]
    required = set(policy.requires)
    return Inputs(
        described.documents,
        blocked=np.array([bool(view.blocked(i)) for i in ids], bool),
        kept=np.array([d is not None and d.keep for d in decisions], bool),
        rejected=np.array([d is not None and not d.keep for d in decisions], bool),
        missing=np.array([bool(required.intersection(m)) for m in described.missing], bool),
    )


def state_rows(described: Described, verdicts: Verdicts) -> pa.Table:
    """The rows of a verdict state, in order of sample id."""
    documents = described.documents
    columns = {
        "sample_id": documents["sample_id"],
        "verdict": pa.array(verdicts.verdict.tolist(), pa.string()),
        "reasons": pa.array(verdicts.reasons, pa.list_(pa.string())),
        "near_duplicate": pa.array(verdicts.near_duplicate),
        **{name: documents[name] for name in ("bytes", "format", "width", "height")},
        "attributes": pa.array(described.attributes, pa.string()),
        "payloads": pa.array(described.payloads, pa.string()),
    }
    return pa.table([columns[f.name] for f in ROW_SCHEMA], schema=ROW_SCHEMA)


def _kinds(view: LedgerView, sample_id: str) -> list[str]:
    return sorted({str(e.kind) for e in view.flags(sample_id)})


def _merge_origins(origins: pa.Table) -> dict[str, list[Any]]:
    """One entry per sample, in order of id, from its origins in order of arrival."""
    order = [(name, "ascending") for name in ("sample_id", "ingested_at", "batch", "uri")]
    rows = {
        name: column.to_pylist()
        for name, column in zip(origins.column_names, origins.sort_by(order), strict=True)
    }
    ids = rows["sample_id"]
    starts = [i for i, sample_id in enumerate(ids) if i == 0 or ids[i - 1] != sample_id]
    runs = list(pairwise([*starts, len(ids)]))

    def per_sample(name: str) -> list[list[Any]]:
        return [rows[name][start:end] for start, end in runs]

    merged: dict[str, list[Any]] = {
        name: [sorted(set(values)) for values in per_sample(name)] for name in ("source", "batch", "uri")
    }
    for name in ("sample_id", "bytes", "ingested_at"):
        merged[name] = [rows[name][start] for start in starts]
    sidecars = zip(per_sample("extras"), per_sample("attributes"), strict=True)
    merged["attributes"] = [list(zip(extras, attributes, strict=True)) for extras, attributes in sidecars]
    merged["payloads"] = [_merge_payloads(values) for values in per_sample("payloads")]
    return merged


def _merge_payloads(per_origin: Sequence[Sequence[dict[str, Any]] | None]) -> list[dict[str, Any]]:
    """The payloads of a sample by name; of two with the same name the later origin's."""
    named = {p["name"]: p for payloads in per_origin for p in payloads or ()}
    return [named[name] for name in sorted(named)]


def _failures(inspected: pa.Table, embedded: pa.Table) -> pa.ChunkedArray:
    def lasting(facts: pa.Table) -> Any:
        retryable = pc.fill_null(facts["retryable"], False)
        return pc.if_else(retryable, pa.scalar(None, pa.string()), facts["reason"])

    return pc.coalesce(lasting(inspected), lasting(embedded))


def _missing(inspected: pa.Table, embedded: pa.Table, clustered: Sequence[bool]) -> list[list[str]]:
    """Which steps have no lasting fact for each sample. Nothing follows a failed inspection, so nothing is missing then."""
    rows = zip(
        *(
            _column.to_pylist()
            for t in (inspected, embedded)
            for _column in (t["found"], t["reason"], t["retryable"])
        ),
        clustered,
        strict=True,
    )
    missing = []
    for found_i, reason_i, retry_i, found_e, _, retry_e, cluster in rows:
        names = [] if found_i and not retry_i else ["inspect"]
        if reason_i is None or names:
            names += [] if found_e and not retry_e else ["embed"]
            names += [] if cluster else ["near_duplicates"]
        missing.append(names)
    return missing


def _stored(field: Field, value: Any) -> Any:
    """A resolved attribute as a document column holds it."""
    if value is None:
        return [] if field.type is FieldType.STRING_LIST else None
    if field.type is FieldType.JSON:
        return canonical_json(value).decode()
    if field.type is FieldType.DATE:
        from refinery.fields import to_utc

        return to_utc(value)
    return value


def _column(values: Any, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values.cast(kind)
    return pa.array(values, kind)
