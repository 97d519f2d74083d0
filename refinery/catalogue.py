"""The catalogue of fields: how many samples have each, and with what values."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from refinery.fields import Field, FieldType

if TYPE_CHECKING:
    import pyarrow as pa

    from refinery.index import SampleIndex
    from refinery.project import Refinery

_EXAMPLES = 3
_LOOKED_AT = 2000
_AT_ONCE = 4
"""Counts that an index makes at a time."""


@dataclass(frozen=True, slots=True)
class FieldUse:
    """A field, how many samples have a value of it (of a list, at least one), their share, and its most frequent values
    among the first 2000 samples in order of id, which are as good as any: ids are digests. No index counts what is stored
    only (JSON): `filled` and `fill_rate` are None then."""

    field: Field
    filled: int | None
    fill_rate: float | None
    examples: list[Any]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Every field in order, over so many samples, as the index holds them: what it was projected from ends at
    `ledger_offset` of the ledger, and `current` says whether that is all of truth. Without an index it is truth itself,
    and `ledger_offset` None."""

    samples: int
    fields: tuple[FieldUse, ...]
    ledger_offset: int | None = None
    current: bool = True


def catalogue(project: Refinery) -> Catalogue:
    """The fields of a project. Asks the index; where there is none yet, it reads every sample's document."""
    projector, known = project.projector, project.fields
    position = project.index.position()
    if position:
        index = project.index
        samples, first = index.count(), _first(index, tuple(known))
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="catalogue") as pool:
            asked = partial(_asked, index, samples, first)
            uses = tuple(pool.map(asked, known.values()))
        return Catalogue(samples, uses, position["ledger_offset"], projector.is_current())
    documents = projector.documents() if project.batches.landed() else known.schema().empty_table()
    samples, few = documents.num_rows, documents.slice(0, _LOOKED_AT)
    columns = ((field, documents[field.name], few[field.name]) for field in known.values())
    return Catalogue(
        samples, tuple(_use(field, _having(all_), samples, some) for field, all_, some in columns)
    )


def _first(index: SampleIndex, names: tuple[str, ...]) -> pa.Table:
    from refinery.index import Query

    return index.query(Query(limit=_LOOKED_AT, columns=names)).documents


def _asked(index: SampleIndex, samples: int, first: pa.Table, field: Field) -> FieldUse:
    from refinery.filter import Filter
    from refinery.filter.ast import IsEmpty, IsNull, Not

    few = first[field.name]
    if field.type is FieldType.JSON:
        return _use(field, None, samples, few)
    without = IsEmpty(field.name) if field.type is FieldType.STRING_LIST else IsNull(field.name)
    return _use(field, index.count(Filter(Not(without))), samples, few)


def _having(column: pa.ChunkedArray) -> int:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_list(column.type):
        return int(len(column) - column.null_count)
    return int(pc.sum(pc.greater(pc.fill_null(pc.list_value_length(column), 0), 0)).as_py() or 0)


def _use(field: Field, filled: int | None, samples: int, few: pa.ChunkedArray) -> FieldUse:
    import pyarrow as pa
    import pyarrow.compute as pc

    values = pc.list_flatten(few) if pa.types.is_list(few.type) else few.drop_null()
    counts = [(str(v["values"]), v["counts"], v["values"]) for v in pc.value_counts(values).to_pylist()]
    frequent = sorted(counts, key=lambda item: (-item[1], item[0]))[:_EXAMPLES]
    rate = None if filled is None else filled / samples if samples else 0.0
    return FieldUse(field, filled, rate, [value for _, _, value in frequent])
