"""Rows of CSV, JSON Lines and Parquet files, as dictionaries."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from refinery.errors import InputError

KEYS = ("sample_id", "__key__")
"""The columns that may name the sample: the second is that of a WebDataset sample of an export."""


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All rows of a file. InputError when it cannot be read, or has no column that names samples."""
    readers = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
    read = readers.get(path.suffix.lower())
    if read is None:
        raise _bad(path, f"its name ends in none of {', '.join(readers)}")
    try:
        rows = list(read(path))
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.", kind="no_such_file") from None
    except (ValueError, csv.Error, OSError, RecursionError) as error:
        raise _bad(path, str(error)) from None
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not any(key in row for key in KEYS):
            raise _bad(path, f"row {number} has no column {' or '.join(map(repr, KEYS))}")
    return rows


def key_of(row: dict[str, Any]) -> str:
    """The sample that a row speaks of."""
    return str(next(row[key] for key in KEYS if key in row))


def _csv(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(f"line {reader.line_num} has not as many cells as the header")
            yield row


def _jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig") as file:
        yield from (json.loads(line) for line in file if line.strip())


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    with closing(pq.ParquetFile(path)) as file:
        for batch in file.iter_batches(4096):
            yield from batch.to_pylist()


def _bad(path: Path, problem: str) -> InputError:
    return InputError(f"{path} cannot be taken in: {problem}. Nothing was written.", kind="bad_results")
