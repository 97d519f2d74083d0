"""A manifest as a source: rows of CSV, JSON Lines or Parquet that name files and carry their attributes."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from refinery.digests import digest_json
from refinery.errors import InputError, did_you_mean
from refinery.fields import Fields
from refinery.sources import MANIFEST_EXTENSIONS, OnDisk
from refinery.sources.entries import Attached, Entry, Piece, entry_of, piece_or_blank, utf8
from refinery.sources.folder import scan
from refinery.sources.naming import group_folder, is_mask
from refinery.sources.sidecars import clean_json
from refinery.sources.uris import path_uri, uri_path

PAYLOAD_PREFIX = "payload:"
_PATH_COLUMNS = ("path", "uri")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ManifestSource(OnDisk):
    """The rows of the manifest at `path`. Columns: `path` (or `uri`), registered attributes, `payload:<name>`.

    Paths are relative to `root` (None: the manifest's folder) or absolute or `file:` URIs, and may not leave `root`: a
    manifest from elsewhere cannot name this machine's other files. A file's sidecars count too; the row's word stands.
    """

    name: str
    path: Path
    root: Path | None = None
    kind: str = field(default="manifest", init=False)

    def entries(self, fields: Fields, skip: str | None = None) -> Iterator[Entry]:
        check_columns(self, fields, self._columns())
        sidecars = _Sidecars()
        seen: set[str] = set()
        for number, row in enumerate(self._rows(), 1):
            try:
                values = clean_json(dict(row))
            except (TypeError, ValueError) as error:
                raise self._bad(f"row {number} cannot be read: {error}") from None
            twin = digest_json(values)
            if twin in seen:
                yield Entry(self._row_uri(number), ignored="repeated_row")
                continue
            seen.add(twin)
            yield from self._row_entries(number, row, values, sidecars)

    def _row_entries(
        self, number: int, row: Row, values: dict[str, Any], sidecars: _Sidecars
    ) -> Iterator[Entry]:
        target = self._resolve(_path_of(row))
        if isinstance(target, tuple):
            yield Entry(self._row_uri(number), unreadable=target[0], detail=target[1])
            return
        payloads = []
        used = {next(c for c in _PATH_COLUMNS if c in row)}
        for column in sorted(c for c in row if c.startswith(PAYLOAD_PREFIX)):
            used.add(column)
            if row[column] in (None, ""):
                continue
            name = utf8(column.removeprefix(PAYLOAD_PREFIX)) or "payload"
            place = self._resolve(row[column])
            if isinstance(place, tuple):
                uri = f"{self._row_uri(number)}&payload={quote(name)}"
                yield Entry(uri, unreadable=place[0], detail=place[1])
            else:
                payloads.append(Attached(name, is_mask(name), piece_or_blank(place)))
        attributes = {k: v for k, v in values.items() if k not in used and v not in (None, "")}
        yield replace(
            entry_of(target), sidecars=sidecars.of(target), payloads=tuple(payloads), attributes=attributes
        )

    def _resolve(self, value: Any) -> str | tuple[str, str]:
        """The absolute path a cell names, or the reason code and detail why it names none."""
        if value in (None, "") or not isinstance(value, str):
            return "no_path", "The row has no path."
        base = os.path.abspath(self.root or self.path.parent)
        try:
            text = uri_path(value) if value.startswith("file://") else value
            if _SCHEME.match(text):
                return "unsupported_scheme", f"{utf8(value)!r} is not a file on this machine."
            os.fsencode(text)
        except ValueError:
            return "bad_path", f"{utf8(value)!r} cannot be a path."
        if "\0" in text:
            return "bad_path", f"{value!r} cannot be a path."
        place = os.path.normpath(os.path.join(base, text))
        if os.path.commonpath([base, place]) != base:
            detail = f"{utf8(place)!r} is outside {utf8(base)!r}: give the folder that holds both as the source's root."
            return "outside_source", detail
        return place

    def _row_uri(self, number: int) -> str:
        return f"{path_uri(str(self.path))}#row={number}"

    def _columns(self) -> list[str]:
        """Every column of the manifest, in order of first appearance."""
        if self._format == "parquet":
            return self._parquet_columns()
        found: dict[str, None] = {}
        for row in self._rows():
            found.update(dict.fromkeys(row))
            if self._format == "csv":
                break
        return list(found)

    def _rows(self) -> Iterator[Row]:
        readers = {"csv": self._csv, "parquet": self._parquet}
        try:
            yield from readers.get(self._format, self._jsonl)()
        except FileNotFoundError:
            raise InputError(
                f"There is no manifest at {self.path}: check the path.", kind="no_such_source"
            ) from None
        except UnicodeDecodeError as error:
            raise self._bad(f"it is not UTF-8 text ({error.reason} at byte {error.start})") from None

    @property
    def _format(self) -> str:
        extension = self.path.suffix.lower().lstrip(".")
        if extension not in MANIFEST_EXTENSIONS:
            raise self._bad(f"a manifest's name ends in one of {', '.join(MANIFEST_EXTENSIONS)}")
        return extension

    def _csv(self) -> Iterator[Row]:
        with self.path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            try:
                for row in reader:
                    if None in row:
                        raise self._bad(f"line {reader.line_num} has more cells than the header")
                    yield row
            except csv.Error as error:
                raise self._bad(f"line {reader.line_num}: {error}") from None

    def _jsonl(self) -> Iterator[Row]:
        with self.path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise self._bad(f"line {number} is not JSON: {error}") from None
                if not isinstance(row, dict):
                    raise self._bad(f"line {number} is not a JSON object")
                yield row

    def _parquet(self) -> Iterator[Row]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with closing(pq.ParquetFile(self.path)) as file:
                for batch in file.iter_batches(4096):
                    yield from batch.to_pylist()
        except pa.ArrowInvalid as error:
            raise self._bad(str(error)) from None

    def _parquet_columns(self) -> list[str]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            schema = pq.read_schema(self.path)
        except FileNotFoundError:
            raise InputError(
                f"There is no manifest at {self.path}: check the path.", kind="no_such_source"
            ) from None
        except pa.ArrowInvalid as error:
            raise self._bad(str(error)) from None
        for column in schema:
            if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
                raise self._bad(
                    f"column {column.name!r} holds binary data: name files in '{PAYLOAD_PREFIX}NAME' columns"
                )
        return list(schema.names)

    def _bad(self, problem: str) -> InputError:
        return InputError(f"Manifest {self.path}: {problem}. Nothing was staged.", kind="bad_manifest")


def check_columns(source: ManifestSource, fields: Fields, columns: Iterable[str]) -> None:
    """InputError when a manifest has no path column ("bad_manifest") or columns nobody registered ("unknown_field")."""
    columns = list(columns)
    if columns and not any(c in columns for c in _PATH_COLUMNS):
        raise InputError(
            f"Manifest {source.path} has no column 'path' (or 'uri'); it has {', '.join(map(repr, columns))}.",
            kind="bad_manifest",
        )
    unknown = [c for c in columns if c not in _PATH_COLUMNS and not c.startswith(PAYLOAD_PREFIX)]
    unknown = [c for c in unknown if c not in fields]
    if unknown:
        names = [field.name for field in fields.attributes]
        told = "; ".join(f"{utf8(c)!r}.{did_you_mean(c, names)}" for c in unknown)
        raise InputError(
            f"Manifest {source.path} has columns that are no registered fields: {told} Register one with "
            f"`refinery fields add {utf8(unknown[0])} --type TYPE`, or rename or drop it. Nothing was staged.",
            kind="unknown_field",
        )


def _path_of(row: Row) -> Any:
    return next((row[c] for c in _PATH_COLUMNS if c in row), None)


class _Sidecars:
    """The sidecars beside files, each folder listed once."""

    def __init__(self) -> None:
        self._folders: dict[str, dict[str, list[str]]] = {}

    def of(self, path: str) -> tuple[Piece, ...]:
        folder, name = os.path.split(path)
        if folder not in self._folders:
            try:
                groups = group_folder(scan(folder).files)
            except OSError:
                groups = []  # the file itself is then unreadable too, and says why
            self._folders[folder] = {group.main: group.sidecars for group in groups}
        return tuple(piece_or_blank(os.path.join(folder, n)) for n in self._folders[folder].get(name, ()))
