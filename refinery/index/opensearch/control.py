"""What an index says of itself: the last sequence given, and the position of each backing index.

One small index `<name>.control-0` behind the alias `<name>.control`. It may be lost: sequences go on from the clock, and an
index without a position is projected anew.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from refinery.config import OpenSearchSettings
from refinery.index.opensearch.client import Client, Refused

_NEXT = """
long last = ctx._source.last; long now = params.now;
ctx._source.last = last >= now ? last + 1 : now
"""


class Control:
    """The control index of one index. It is made at the first write."""

    def __init__(self, client: Client, settings: OpenSearchSettings) -> None:
        self._client = client
        self._alias = f"{settings.name}.control"
        self._replicas = settings.replicas

    def next_sequence(self) -> int:
        """The clock in milliseconds, or one more than the last sequence when that is greater."""
        now = time.time_ns() // 1_000_000
        reply = self._write(
            "POST",
            "_update/sequence",
            {"script": {"source": _NEXT, "params": {"now": now}}, "upsert": {"last": now}},
            {"retry_on_conflict": 1000, "_source": "true"},
        )
        return int(reply["get"]["_source"]["last"])

    def position(self, index: str) -> dict[str, Any] | None:
        """The position of a backing index, None when it has none."""
        try:
            found = self._client.request("GET", f"/{self._alias}/_doc/{index}")
        except Refused as refused:
            if not refused.gone:
                raise
            return None
        return dict(found["_source"]["position"])

    def set_position(self, index: str, position: Mapping[str, Any], sequence: int) -> bool:
        """Record the position of a backing index; False when one of a greater sequence stands."""
        try:
            self._write(
                "PUT",
                f"_doc/{index}",
                {"position": dict(position)},
                {"version": sequence, "version_type": "external_gte"},
            )
        except Refused as refused:
            if refused.status != 409:
                raise
            return False
        return True

    def forget(self, index: str) -> None:
        """Remove the position of a backing index that is no more."""
        try:
            self._client.request("DELETE", f"/{self._alias}/_doc/{index}")
        except Refused as refused:
            if not refused.gone:
                raise

    def _write(self, method: str, path: str, body: Any, params: Mapping[str, Any]) -> Any:
        params = {**params, "require_alias": "true"}
        try:
            return self._client.request(method, f"/{self._alias}/{path}", body, params)
        except Refused as refused:
            if not refused.gone:
                raise
        self._create()
        return self._client.request(method, f"/{self._alias}/{path}", body, params)

    def _create(self) -> None:
        settings = {"number_of_shards": 1, "number_of_replicas": self._replicas}
        properties = {"last": {"type": "long"}, "position": {"type": "object", "enabled": False}}
        body = {
            "aliases": {self._alias: {}},
            "settings": {"index": settings},
            "mappings": {"dynamic": "strict", "properties": properties},
        }
        try:
            self._client.request("PUT", f"/{self._alias}-0", body)
        except Refused as refused:
            if "resource_already_exists" not in refused.type:
                raise
