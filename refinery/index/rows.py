"""Documents made ready for an index: columns of the right type, and rows that cannot be indexed set apart."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from refinery.errors import ConfigError, InputError
from refinery.fields import MAX_TEXT_BYTES, Fields, FieldType
from refinery.index import DOC_DIGEST, VECTOR, Failed

_SAMPLE_ID = r"\A[0-9a-f]{64}\z"
_SPACE = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")


def check_columns(documents: pa.Table, known: pa.Schema) -> list[pa.Field]:
    """The embedding spaces of `documents` that `known` lacks; InputError or ConfigError when a column does not fit."""
    names = documents.column_names
    for name in ("sample_id", DOC_DIGEST):
        if name not in names:
            raise InputError(
                f"A table of documents needs a column {name!r}; found {names}.", kind="bad_documents"
            )
    if len(set(names)) != len(names):
        raise InputError("A table of documents has two columns of one name.", kind="bad_documents")
    added = []
    for column in documents.schema:
        if column.name in known.names:
            check_type(column.name, column.type, known.field(column.name).type)
        elif column.name.startswith(VECTOR) and _SPACE.match(column.name.removeprefix(VECTOR)):
            if not pa.types.is_fixed_size_list(column.type) or column.type.value_type != pa.float32():
                raise InputError(
                    f"Column {column.name!r} is {column.type}; vectors are fixed-size lists of float32.",
                    kind="bad_documents",
                )
            added.append(pa.field(column.name, pa.list_(pa.float32(), column.type.list_size)))
        else:
            raise InputError(
                f"Column {column.name!r} is no field of this index: register the attribute first.",
                kind="unknown_field",
            )
    return added


def check_type(name: str, found: pa.DataType, wanted: pa.DataType) -> None:
    """ConfigError(kind="index_schema") unless a column of type `found` can be stored as `wanted`."""
    same = found.equals(wanted) or pa.types.is_null(found)
    if pa.types.is_fixed_size_list(found) and pa.types.is_fixed_size_list(wanted):
        same = found.list_size == wanted.list_size and found.value_type == wanted.value_type
    elif pa.types.is_list(found) and pa.types.is_list(wanted):
        same = found.value_type == wanted.value_type
    if not same:
        raise ConfigError(
            f"The index holds {name!r} as {wanted}, but the documents have {found}: "
            "run `refinery rebuild-index` after a change of type or embedder.",
            kind="index_schema",
        )


def conform(documents: pa.Table, schema: pa.Schema, fields: Fields) -> tuple[pa.Table, tuple[Failed, ...]]:
    """`documents` with exactly the columns of `schema`, and the rows that cannot be indexed, with the reason.

    Texts are of at most MAX_TEXT_BYTES, but for those of fields that are stored only. Missing lists are empty, and -0.0 is 0.0. InputError(kind="duplicate_sample_id") when one id comes twice.
    """
    table = pa.table([_column(documents, column) for column in schema], schema=schema)
    reasons = np.full(table.num_rows, None, dtype=object)
    for column in reversed(schema):
        if column.name in fields and fields[column.name].type is FieldType.JSON:
            continue
        wrong, reason = _wrong(table.column(column.name).combine_chunks(), column)
        reasons[wrong] = reason
    good = np.array([reason is None for reason in reasons], np.bool_)
    ids = table.column("sample_id").to_pylist()
    if len(set(ids)) < len(ids):
        raise InputError(
            "A table of documents holds one sample id twice: build one document per sample.",
            kind="duplicate_sample_id",
        )
    failed = tuple(Failed(str(ids[row]), str(reasons[row])) for row in np.flatnonzero(~good))
    return table.filter(pa.array(good)) if failed else table, failed


def _column(documents: pa.Table, wanted: pa.Field) -> pa.Array:
    if wanted.name not in documents.column_names:
        column = pa.nulls(documents.num_rows, wanted.type)
    else:
        column = documents.column(wanted.name).combine_chunks().cast(wanted.type)
    if pa.types.is_list(wanted.type):
        return pc.coalesce(column, pa.scalar([], wanted.type))
    return pc.add(column, 0.0) if pa.types.is_floating(wanted.type) else column


def _wrong(column: pa.Array, wanted: pa.Field) -> tuple[npt.NDArray[np.bool_], str]:
    """Which rows of a column cannot be indexed, and why."""
    bad: Any
    if wanted.name == "sample_id":
        bad, reason = pc.invert(pc.match_substring_regex(column, _SAMPLE_ID)), "bad_sample_id"
        bad = pc.fill_null(bad, True)
    elif pa.types.is_floating(wanted.type):
        bad, reason = pc.invert(pc.is_finite(column)), f"not_finite:{wanted.name}"
    elif pa.types.is_fixed_size_list(wanted.type):
        vectors = np.zeros((len(column), wanted.type.list_size), np.float32)
        present = column.is_valid().to_numpy(zero_copy_only=False)
        vectors[present] = (
            column.drop_null().flatten().to_numpy(zero_copy_only=False).reshape(-1, vectors.shape[1])
        )
        usable = np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)
        return present & ~usable, f"bad_vector:{wanted.name}"
    elif pa.types.is_string(wanted.type):
        bad, reason = pc.greater(pc.binary_length(column), MAX_TEXT_BYTES), f"too_long:{wanted.name}"
    elif pa.types.is_list(wanted.type):
        rows = np.zeros(len(column), np.bool_)
        long = pc.greater(pc.binary_length(pc.list_flatten(column)), MAX_TEXT_BYTES)
        rows[pc.list_parent_indices(column).filter(long).to_numpy()] = True
        return rows, f"too_long:{wanted.name}"
    else:
        return np.zeros(len(column), np.bool_), ""
    return pc.fill_null(bad, False).to_numpy(zero_copy_only=False), reason
