"""The filter language: SQL `WHERE` text, parsed into typed nodes and compiled for each place that evaluates it.

One language for search, views, policies, snapshots, CLI and viewer; docs/filters.md is its reference.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from refinery.filter.ast import Filter, conjunction

if TYPE_CHECKING:
    from refinery.fields import Fields

__all__ = ["Filter", "conjunction", "parse"]


def parse(text: str, fields: Fields) -> Filter:
    """The filter that `text` says, checked against `fields`.

    InputError(kind="unknown_field") for a field that does not exist; InputError(kind="bad_filter") for anything else
    that the language does not have, naming the piece and what is allowed.
    """
    return _parsed(text, _Known(fields.types, fields))


@dataclass(frozen=True, slots=True)
class _Known:
    """Fields as the key of a cache: what a filter means depends on their names and types only."""

    types: tuple[tuple[str, str], ...]
    fields: Fields = field(compare=False)


@lru_cache(maxsize=512)
def _parsed(text: str, known: _Known) -> Filter:
    from refinery.filter.parser import read

    return read(text, known.fields)
