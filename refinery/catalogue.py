"""The catalogue of fields: how many samples have each, and with what values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from refinery.fields import Field

if TYPE_CHECKING:
    import pyarrow as pa

    from refinery.project import Refinery

_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class FieldUse:
    """A field, how many samples have a value of it (of a list, at least one), their share, and the most frequent values."""

    field: Field
    filled: int
    fill_rate: float
    examples: list[Any]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Every field in order, over so many samples."""

    samples: int
    fields: tuple[FieldUse, ...]


def catalogue(project: Refinery) -> Catalogue:
    """What truth holds now, index or no index. Reads every sample's document."""
    known = project.fields
    documents = project.projector.documents() if project.batches.landed() else known.schema().empty_table()
    return Catalogue(
        documents.num_rows, tuple(_use(field, documents[field.name]) for field in known.values())
    )


def _use(field: Field, column: pa.ChunkedArray) -> FieldUse:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_list(column.type):
        has = pc.greater(pc.fill_null(pc.list_value_length(column), 0), 0)
        values = pc.list_flatten(column)
    else:
        has, values = pc.is_valid(column), column.drop_null()
    filled = int(pc.sum(has).as_py() or 0)
    counts = [(str(v["values"]), v["counts"], v["values"]) for v in pc.value_counts(values).to_pylist()]
    frequent = sorted(counts, key=lambda item: (-item[1], item[0]))[:_EXAMPLES]
    rate = filled / len(column) if len(column) else 0.0
    return FieldUse(field, filled, rate, [value for _, _, value in frequent])
