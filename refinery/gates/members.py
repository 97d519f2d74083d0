"""The samples of a snapshot with the values that gates judge: its own rows, and facts under recorded step keys."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from refinery.errors import ConfigError, CorruptionError
from refinery.evals.results import is_result, results
from refinery.facts import FactStore, Step
from refinery.fields import Field, Fields, FieldType, to_micros, to_utc
from refinery.gates.rules import FACT_FIELDS
from refinery.inputs import known_attributes
from refinery.ledger import LedgerView
from refinery.near_duplicates.clusters import COLUMNS as CLUSTERED
from refinery.snapshots import Snapshot


def recorded_step(snapshot: Snapshot, name: str) -> Step:
    """The step `name` (inspect, embed, near_duplicates) that a snapshot was computed with.

    ConfigError when the snapshot records none, CorruptionError when what it records does not give the key it records.
    """
    from refinery.steps.inspect import COLUMNS as INSPECTED

    raw = snapshot.steps.get(name)
    if raw is None:
        raise ConfigError(
            f"{snapshot.ref} records no step {name!r}: freeze it again to judge it by such a rule.",
            kind="no_such_step",
        )
    dimension = raw["params"].get("dimension", 0)
    vectors = pa.schema([("embedder", pa.string()), ("vector", pa.list_(pa.float32(), dimension))])
    columns = {"inspect": INSPECTED, "near_duplicates": CLUSTERED, "embed": vectors}[name]
    step = Step(name, raw["code_version"], raw["params"], raw["model_digest"], columns)
    if step.key != raw["key"]:
        raise CorruptionError(
            f"{snapshot.ref} records the key {raw['key']} for step {name!r}, whose parameters give {step.key}: "
            "restore the snapshot's file.",
            kind="damaged_snapshot",
        )
    return step


class Members:
    """The n samples of a snapshot, in order of id, measured by `inspect`; what evals and users said is that of `view`."""

    def __init__(self, rows: pa.Table, facts: FactStore, inspect: Step | None, view: LedgerView) -> None:
        self._rows, self._facts, self._inspect, self._view = rows, facts, inspect, view
        self.ids: list[str] = rows["sample_id"].to_pylist()

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def id_set(self) -> frozenset[str]:
        return frozenset(self.ids)

    def values(self, field: Field) -> list[Any]:
        """The value of a field for each sample, None where there is none; dates as microseconds since 1970."""
        if not field.builtin:
            found = [a.get(field.name) for a in self._attributes]
            if is_result(field.name):
                found = [self._result(field, i, value) for i, value in zip(self.ids, found, strict=True)]
            return (
                [None if v is None else to_micros(to_utc(v)) for v in found]
                if field.type is FieldType.DATE
                else found
            )
        if field.name in FACT_FIELDS:
            return self.facts(field.name)
        if field.name == "payloads":
            return [[p["name"] for p in json.loads(text)] for text in self._rows["payloads"].to_pylist()]
        if field.name in ("min_side", "aspect"):
            sides = zip(self._rows["width"].to_pylist(), self._rows["height"].to_pylist(), strict=True)
            known = [None if w is None or h is None else (w, h) for w, h in sides]
            derive = min if field.name == "min_side" else lambda side: side[0] / side[1]
            return [None if side is None else derive(side) for side in known]
        column: list[Any] = self._rows[field.name].to_pylist()
        return column

    def _result(self, field: Field, sample_id: str, else_: Any) -> Any:
        """What a document shows in the field of an eval or of feedback: the result, when there is one that fits."""
        known = known_attributes(Fields([field]), results(self._view, sample_id))
        return known.get(field.name, else_)

    def facts(self, column: str) -> list[Any]:
        """One column of the inspect facts for each sample, None where there is no success."""
        assert self._inspect is not None
        table = self._read(self._inspect, column, self.ids)
        by_id = dict(zip(table["sample_id"].to_pylist(), table[column].to_pylist(), strict=True))
        return [by_id.get(i) for i in self.ids]

    def vectors(self, step: Step, sample_ids: Sequence[str]) -> tuple[list[str], npt.NDArray[np.float64]]:
        """The ids among these that have a vector, and their vectors (k, d), in order of id."""
        good = self._read(step, "vector", sample_ids)
        if good.num_rows == 0:
            return [], np.zeros((0, 0))
        flat = np.asarray(good["vector"].combine_chunks().flatten())
        return good["sample_id"].to_pylist(), flat.reshape(good.num_rows, -1).astype(np.float64)

    def compared(self, step: Step) -> int:
        """How many of the samples a near-duplicates step has compared with all others."""
        return int(self._facts.read(step, sample_ids=self.ids, columns=["sample_id"]).num_rows)

    @cached_property
    def _attributes(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self._rows["attributes"].to_pylist()]

    def _read(self, step: Step, column: str, sample_ids: Sequence[str]) -> pa.Table:
        """The successes of a step among these samples, in order of id."""
        table = self._facts.read(step, sample_ids=sample_ids, columns=["sample_id", "reason", column])
        return table.filter(pc.is_null(table["reason"]))
