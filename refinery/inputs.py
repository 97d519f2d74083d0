"""Inputs: all that origins and facts say of samples, one row each. With flags, clusters and a policy they give verdicts.

The columns are those of a document but for what the ledger, clusters and verdicts say, and three of their own:
`_attributes` and `_payloads` are the canonical JSON of verdict states, `_missing` names the steps without a lasting fact.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from refinery.batches import Batches
from refinery.digests import canonical_json
from refinery.errors import InputError
from refinery.facts import FactStore, Step
from refinery.fields import Field, Fields, FieldType, coerce, to_utc

ATTRIBUTES, PAYLOADS, MISSING = "_attributes", "_payloads", "_missing"
NOT_INPUTS = frozenset(["cluster", "near_duplicate", "flags", "tags", "verdict", "reasons", "datasets"])
"""Fields of a document that are no inputs."""
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
FACTS = frozenset([*_INSPECTED, "failure", "min_side", "aspect", "embedder", MISSING])
"""Inputs that facts say; the others but for the sample's id are from its origins."""
_AT_ONCE = 50_000
"""Samples whose origins are merged at a time."""


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


def input_schema(fields: Fields) -> pa.Schema:
    """The schema of inputs under these fields."""
    own = [(ATTRIBUTES, pa.string()), (PAYLOADS, pa.string()), (MISSING, pa.list_(pa.string()))]
    return pa.schema([*(f for f in fields.schema() if f.name not in NOT_INPUTS), *own])


class InputReader:
    """Reads inputs from truth: batches and facts."""

    def __init__(self, batches: Batches, facts: FactStore, fields: Fields, steps: Steps) -> None:
        self._batches, self._facts, self.fields, self._steps = batches, facts, fields, steps

    def read(self, sample_ids: Collection[str] | None = None) -> pa.Table:
        """The inputs of these samples (None: all that were ever seen), in order of sample id."""
        order = [(name, "ascending") for name in ("sample_id", "ingested_at", "batch", "uri")]
        origins = self._batches.origins(sample_ids=sample_ids).sort_by(order)
        ids = pc.unique(origins["sample_id"])
        wanted = None if sample_ids is None else ids.to_pylist()
        inspected = self._facts_of(self._steps.inspect, ids, wanted, _INSPECTED)
        embedded = self._facts_of(self._steps.default_embed, ids, wanted, ["embedder"])
        compared = self._compared(ids, wanted, inspected, embedded)
        parts = [input_schema(self.fields).empty_table()]
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            first, last = pc.index(origins["sample_id"], some[0]).as_py(), len(origins)
            if start + _AT_ONCE < len(ids):
                last = pc.index(origins["sample_id"], ids[start + _AT_ONCE]).as_py()
            merged = merge_origins(origins.slice(first, last - first))
            facts_i, facts_e = (table.slice(start, _AT_ONCE) for table in (inspected, embedded))
            parts.append(self._rows(merged, some, facts_i, facts_e, compared.slice(start, _AT_ONCE)))
        return pa.concat_tables(parts)

    def _compared(
        self, ids: pa.Array, wanted: list[str] | None, inspected: pa.Table, embedded: pa.Table
    ) -> pa.ChunkedArray:
        """Which samples were compared by all that they have: by pixels, and by vector when they have one that counts."""
        step = self._steps.near_duplicates
        marks = self._facts.read(
            step, sample_ids=wanted, columns=["sample_id", "pixels", "vector"], best=False
        )
        by_pixels, by_vector = (
            pc.is_in(ids, value_set=marks["sample_id"].filter(marks[name]).combine_chunks())
            for name in ("pixels", "vector")
        )
        has_vector = pc.and_(embedded["found"], pc.is_null(embedded["reason"]))
        if step.params["embed"] is None:
            has_vector = pc.and_(has_vector, False)
        for name in ("contrast", "entropy"):
            meaningful = pc.greater_equal(inspected[name], step.params[f"min_{name}"])
            has_vector = pc.and_(has_vector, pc.fill_null(meaningful, False))
        return pc.and_(by_pixels, pc.or_(by_vector, pc.invert(has_vector)))

    def _facts_of(self, step: Step, ids: pa.Array, wanted: list[str] | None, columns: list[str]) -> pa.Table:
        """The facts of a step in the order of `ids`; all null where there is none."""
        facts = self._facts.read(
            step, sample_ids=wanted, columns=["sample_id", "reason", "retryable", *columns]
        )
        places = pc.index_in(ids, value_set=facts["sample_id"].combine_chunks())
        return facts.take(places).append_column("found", pc.is_valid(places))

    def _rows(
        self,
        merged: dict[str, list[Any]],
        ids: pa.Array,
        inspected: pa.Table,
        embedded: pa.Table,
        compared: pa.ChunkedArray,
    ) -> pa.Table:
        attributes = [self._attributes(sidecars) for sidecars in merged["sidecars"]]
        columns: dict[str, Any] = {name: inspected[name] for name in _INSPECTED}
        width, height = inspected["width"], inspected["height"]
        columns |= {
            "sample_id": ids,
            **{name: merged[name] for name in ("bytes", "source", "batch", "uri", "ingested_at")},
            "payloads": [[p["name"] for p in ps] for ps in merged["payloads"]],
            "failure": _failures(inspected, embedded),
            "min_side": pc.min_element_wise(width, height, skip_nulls=False),
            "aspect": pc.divide(width.cast(pa.float64()), height.cast(pa.float64())),
            "embedder": embedded["embedder"],
            ATTRIBUTES: [canonical_json(a).decode() if a else "{}" for a in attributes],
            PAYLOADS: [canonical_json(p).decode() if p else "[]" for p in merged["payloads"]],
            MISSING: _missing(inspected, embedded, compared.to_pylist()),
        }
        for field in self.fields.attributes:
            columns[field.name] = [stored(field, values.get(field.name)) for values in attributes]
        schema = input_schema(self.fields)
        return pa.Table.from_arrays([_column(columns[f.name], f.type) for f in schema], schema=schema)

    def _attributes(self, sidecars: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """Resolved attributes of origins: the newest wins. Keys kept aside join in as soon as somebody registers them."""
        values: dict[str, Any] = {}
        for extras, registered in sidecars:
            for raw in (extras, registered):
                values.update(known_attributes(self.fields, json.loads(raw)) if raw != "{}" else {})
        return values


def known_attributes(fields: Fields, raw: dict[str, Any]) -> dict[str, Any]:
    """Those of `raw` that are registered attributes with a value that fits."""
    known: dict[str, Any] = {}
    for name, value in raw.items():
        if name in fields and not fields[name].builtin:
            try:
                known[name] = coerce(fields[name], value)
            except InputError:
                continue  # kept aside at ingest because it does not fit: it stays aside
    return {name: value for name, value in known.items() if value is not None}


def stored(field: Field, value: Any) -> Any:
    """A resolved attribute as a document column holds it."""
    if value is None:
        return [] if field.type is FieldType.STRING_LIST else None
    if field.type is FieldType.JSON:
        return canonical_json(value).decode()
    return to_utc(value) if field.type is FieldType.DATE else value


def merge_origins(origins: pa.Table) -> dict[str, list[Any]]:
    """One entry per sample from its origins, which are in order of sample id and then of arrival."""
    rows = {name: column.to_pylist() for name, column in zip(origins.column_names, origins, strict=True)}
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
    merged["sidecars"] = [list(zip(extras, attributes, strict=True)) for extras, attributes in sidecars]
    merged["payloads"] = [merge_payloads(values) for values in per_sample("payloads")]
    return merged


def merge_payloads(per_origin: Sequence[Sequence[dict[str, Any]] | None]) -> list[dict[str, Any]]:
    """The payloads of a sample by name; of two with the same name the later origin's."""
    named = {p["name"]: p for payloads in per_origin for p in payloads or ()}
    return [named[name] for name in sorted(named)]


def _failures(inspected: pa.Table, embedded: pa.Table) -> pa.ChunkedArray:
    def lasting(facts: pa.Table) -> Any:
        retryable = pc.fill_null(facts["retryable"], False)
        return pc.if_else(retryable, pa.scalar(None, pa.string()), facts["reason"])

    return pc.coalesce(lasting(inspected), lasting(embedded))


def _missing(inspected: pa.Table, embedded: pa.Table, compared: Sequence[bool]) -> list[list[str]]:
    """Which steps have no lasting fact for each sample. Nothing follows a failed inspection, so nothing is missing then."""
    rows = zip(
        *(
            column.to_pylist()
            for t in (inspected, embedded)
            for column in (t["found"], t["reason"], t["retryable"])
        ),
        compared,
        strict=True,
    )
    missing = []
    for found_i, reason_i, retry_i, found_e, _, retry_e, was_compared in rows:
        names = [] if found_i and not retry_i else ["inspect"]
        if reason_i is None or names:
            names += [] if found_e and not retry_e else ["embed"]
            names += [] if was_compared else ["near_duplicates"]
        missing.append(names)
    return missing


def _column(values: Any, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values.cast(kind)
    return pa.array(values, kind)
