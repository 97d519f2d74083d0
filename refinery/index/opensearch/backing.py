"""Where an index lives: backing indexes `<name>.documents-<sequence>` behind aliases.

| alias | names |
|---|---|
| `<name>` | the index that answers |
| `<name>.next` | a replacement being built, when there is one; whatever is written goes there too |
| `<name>.build-<sequence>` | the index that this replacement builds or built |

`<name>.documents-0` is made at the first write; all others by replacements. The state of the aliases is the cluster
manager's, read for each write and never from a cache, and every change of it is one atomic request.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from refinery.config import OpenSearchSettings
from refinery.errors import ConfigError
from refinery.fields import Field, Fields
from refinery.index import DOC_DIGEST, VECTOR
from refinery.index.opensearch.client import Client, Refused
from refinery.index.opensearch.mapping import mapping, vector

_MAX_RESULT_WINDOW = 10_001  # one more than the largest page
_TOMBSTONES = "24h"  # how long the sequence of a removed document is remembered
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}\Z")


@dataclass(frozen=True, slots=True)
class Backing:
    """A backing index: its name, the aliases that name it, and the properties of its mapping."""

    index: str
    aliases: frozenset[str]
    properties: Mapping[str, Any]

    @property
    def sequence(self) -> int:
        """The sequence of the replacement that made it."""
        return int(self.index.rpartition("-")[2])

    @property
    def spaces(self) -> dict[str, int]:
        """Dimensions of its embedding spaces by name."""
        return {
            name.removeprefix(VECTOR): found["dimension"]
            for name, found in sorted(self.properties.items())
            if found["type"] == "knn_vector"
        }

    def schema(self, fields: Fields) -> pa.Schema:
        """The columns that documents of `fields` can have here."""
        vectors = [
            pa.field(VECTOR + name, pa.list_(pa.float32(), size)) for name, size in self.spaces.items()
        ]
        return pa.schema([*fields.schema(), pa.field(DOC_DIGEST, pa.string()), *vectors])

    def holds(self, column: pa.Field, fields: Fields) -> bool:
        """Whether it has a column of this name and type."""
        if column.name.startswith(VECTOR) and pa.types.is_fixed_size_list(column.type):
            return self.spaces.get(column.name.removeprefix(VECTOR)) == int(column.type.list_size)
        if column.name not in fields:
            return column.name in self.properties
        return _type(self.properties.get(column.name)) == fields[column.name].type.value


class Layout:
    """The backing indexes and aliases of one index."""

    def __init__(self, client: Client, settings: OpenSearchSettings) -> None:
        name = settings.name or ""
        if not _NAME.match(name):
            raise ConfigError(
                f"{name!r} cannot be the name of an OpenSearch index: set `name` of the index to lower-case letters, "
                "digits, _ and -, at most 100.",
                kind="bad_index_settings",
            )
        self.live, self.next = name, f"{name}.next"
        self._documents = f"{name}.documents-"
        self._client, self._settings = client, settings

    def all(self) -> list[Backing]:
        """Every backing index, leftovers too, oldest first."""
        found = self._client.request(
            "GET",
            f"/{self._documents}*",
            params={"filter_path": "*.aliases,*.mappings.properties", "expand_wildcards": "all"},
        )
        backings = [
            Backing(
                index,
                frozenset(body.get("aliases", {})),
                body.get("mappings", {}).get("properties", {}),
            )
            for index, body in found.items()
        ]
        return sorted(backings, key=lambda backing: backing.sequence)

    def behind(self, alias: str, known: Iterable[Backing] | None = None) -> Backing | None:
        """The index that an alias names; of two (a first write raced a replacement) the newer one, the other removed."""
        found = [b for b in (self.all() if known is None else known) if alias in b.aliases]
        for older in found[:-1]:
            self.remove(older.index)
        return found[-1] if found else None

    def create(self, sequence: int, alias: str, fields: Fields, spaces: Mapping[str, int]) -> str:
        """Make a backing index that `alias` names, unless there is one of this sequence; its name."""
        index = f"{self._documents}{sequence}"
        body = mapping(fields, spaces, self._settings)
        body["mappings"]["properties"] |= {field.name: _typed(body, field) for field in fields.values()}
        body["settings"]["index"] |= {"max_result_window": _MAX_RESULT_WINDOW, "gc_deletes": _TOMBSTONES}
        try:
            self._client.request("PUT", f"/{index}", {**body, "aliases": {alias: {}}})
        except Refused as refused:
            if "resource_already_exists" not in refused.type:
                raise
        return index

    def extend(self, backing: Backing, fields: Fields, added: Iterable[pa.Field] = ()) -> Backing:
        """Give a backing index the fields and vector columns it lacks.

        ConfigError(kind="index_schema") when it holds one of them as another type.
        """
        lacking = []
        for field in fields.values():
            found = _type(backing.properties.get(field.name))
            if found is None:
                lacking.append(field)
            elif found != field.type.value:
                raise _other_type(field.name, found, field.type.value)
        body = mapping(fields, {}, self._settings) if lacking else {}
        missing = {field.name: _typed(body, field) for field in lacking}
        missing |= {column.name: vector(column.type.list_size, self._settings) for column in added}
        if not missing:
            return backing
        try:
            self._client.request("PUT", f"/{backing.index}/_mapping", {"properties": missing})
        except Refused as refused:
            if refused.gone:
                raise
            raise ConfigError(
                f"The index does not take {sorted(missing)} ({refused.reason}): run `refinery rebuild-index` after a change "
                "of type or embedder.",
                kind="index_schema",
            ) from None
        return Backing(backing.index, backing.aliases, {**backing.properties, **missing})

    def change(self, actions: list[dict[str, Any]]) -> None:
        """Change aliases and remove indexes, all or nothing."""
        self._client.request("POST", "/_aliases", {"actions": actions})

    def remove(self, index: str) -> None:
        """Remove a backing index, if it is there."""
        self._client.request("DELETE", f"/{index}", params={"ignore_unavailable": "true"})


def _typed(body: Mapping[str, Any], field: Field) -> dict[str, Any]:
    """The property of a field in the body of a mapping, with the field type that it is made for."""
    return {**body["mappings"]["properties"][field.name], "meta": {"type": field.type.value}}


def _type(found: Mapping[str, Any] | None) -> str | None:
    """The field type that a property was made for."""
    return None if found is None else str(found.get("meta", {}).get("type", found["type"]))


def _other_type(name: str, found: str, wanted: str) -> ConfigError:
    return ConfigError(
        f"The index holds {name!r} as {found}, but it is a {wanted} now: run `refinery rebuild-index` after a change of "
        "type.",
        kind="index_schema",
    )
