"""Bulk writes that account for every document.

Each is written with its sequence as external version, so that repeating a request changes nothing. What the server
refuses for want of room is sent again, after a pause, in smaller requests; what it refuses for good is reported.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import orjson

from refinery.backoff import wait
from refinery.config import OpenSearchSettings
from refinery.errors import ConflictError, RefineryError, TransientError
from refinery.index import Failed
from refinery.index.opensearch.client import Client

Item = tuple[str, bytes]
_TRY_LATER = (429, 500, 502, 503, 504)
_FEWEST_ROWS = 10
# A bulk of deletions alone would create the index that its alias lacks: only updates and writes obey `require_alias`.
_GUARD = b'{"update":{"_id":"-"}}\n{"doc":{}}\n'
_SHOWN = "items.*._id,items.*.status,items.*.result,items.*.error.type,items.*.error.reason"


@dataclass(slots=True)
class Outcome:
    """What became of every document: each id is in one of these."""

    written: list[str] = field(default_factory=list)
    superseded: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        """Take the ids of `other` in."""
        self.written += other.written
        self.superseded += other.superseded
        self.absent += other.absent
        self.failed += other.failed


class AliasGone(ConflictError):
    """The alias that was to be written no longer names an index."""


class Bulk:
    """Writes to one alias of an index."""

    def __init__(self, client: Client, settings: OpenSearchSettings, alias: str) -> None:
        self._client, self._settings, self._alias = client, settings, alias
        self._rows = settings.bulk_rows
        self._lock = threading.Lock()

    def write(self, documents: Iterable[Item], sequence: int) -> Outcome:
        """Write documents, given as ids and JSON lines.

        AliasGone when the alias names no index; TransientError when the server is not reached, or takes nothing for as
        long as `timeout`. Then some may be written, and the same call may be repeated.
        """
        items = (
            (
                i,
                b'{"index":{"_id":"%s","version":%d,"version_type":"external_gte"}}\n%s'
                % (i.encode(), sequence, line),
            )
            for i, line in documents
        )
        return self._send(items, b"")

    def delete(self, sample_ids: Iterable[str], sequence: int) -> Outcome:
        """Remove documents; `absent` are those that were not there. Errors as `write`."""
        items = (
            (
                i,
                orjson.dumps({"delete": {"_id": i, "version": sequence, "version_type": "external_gte"}})
                + b"\n",
            )
            for i in sample_ids
        )
        return self._send(items, _GUARD)

    def _send(self, items: Iterable[Item], guard: bytes) -> Outcome:
        total = Outcome()
        chunks = self._chunks(items)
        first, second = next(chunks, None), next(chunks, None)
        if first is None:
            return total
        if second is None:
            return self._chunk(first, guard)
        with ThreadPoolExecutor(self._settings.bulk_in_flight) as pool:
            flying: list[Future[Outcome]] = [pool.submit(self._chunk, c, guard) for c in (first, second)]
            try:
                for chunk in chunks:
                    if len(flying) >= 2 * self._settings.bulk_in_flight:
                        total.add(flying.pop(0).result())
                    flying.append(pool.submit(self._chunk, chunk, guard))
                for future in flying:
                    total.add(future.result())
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
        return total

    def _chunks(self, items: Iterable[Item]) -> Iterator[list[Item]]:
        chunk: list[Item] = []
        size = 0
        for item in items:
            if chunk and (len(chunk) >= self._rows or size + len(item[1]) > self._settings.bulk_bytes):
                yield chunk
                chunk, size = [], 0
            chunk.append(item)
            size += len(item[1])
        if chunk:
            yield chunk

    def _chunk(self, items: list[Item], guard: bytes) -> Outcome:
        total = Outcome()
        waiting, attempt, give_up = items, 0, time.monotonic() + self._settings.timeout
        while waiting:
            some = waiting[: self._rows]
            again, why = self._request(some, guard, total)
            waiting = again + waiting[len(some) :]
            if len(again) < len(some):
                attempt, give_up = 0, time.monotonic() + self._settings.timeout
            elif time.monotonic() >= give_up:
                raise TransientError(
                    f"OpenSearch took none of {len(some)} documents for {self._settings.timeout:g} s ({why}): write them "
                    "again later; lower `bulk_rows` or `bulk_in_flight` of the index if this is usual.",
                    kind="index_busy",
                )
            self._pace(refused=bool(again))
            if again:
                time.sleep(wait(attempt))
                attempt += 1
        return total

    def _pace(self, *, refused: bool) -> None:
        with self._lock:
            if refused:
                self._rows = max(self._rows // 2, min(_FEWEST_ROWS, self._settings.bulk_rows))
            else:
                self._rows = min(self._rows + self._rows // 4 + 1, self._settings.bulk_rows)

    def _request(self, items: list[Item], guard: bytes, total: Outcome) -> tuple[list[Item], str]:
        """Send `items` once, sort the answers into `total`; those to send again, and why."""
        data = guard + b"".join(line for _, line in items)
        try:
            status, reply = self._client.send(
                "POST", f"/{self._alias}/_bulk", data, {"require_alias": "true", "filter_path": _SHOWN}
            )
        except TransientError as error:
            return items, str(error)
        if status == 413 and len(items) > 1:
            half = len(items) // 2
            parts = [self._request(part, guard, total) for part in (items[:half], items[half:])]
            return parts[0][0] + parts[1][0], parts[0][1] or parts[1][1]
        if status == 413:
            total.failed.append(Failed(items[0][0], "too_large"))
            return [], ""
        if status >= 300:
            refusal = self._client.refusal(status, reply)
            if isinstance(refusal, TransientError):
                return items, str(refusal)
            raise refusal
        answers = [next(iter(item.values())) for item in reply.get("items", ())][1 if guard else 0 :]
        if [answer.get("_id") for answer in answers] != [i for i, _ in items]:
            return items, f"its reply accounts for {len(answers)} of {len(items)} documents"
        again, why = [], ""
        for item, answer in zip(items, answers, strict=True):
            if answer["status"] in _TRY_LATER:
                again.append(item)
                why = _said(answer)
            else:
                self._sort(item[0], answer, total)
        return again, why

    def _sort(self, sample_id: str, answer: dict[str, object], total: Outcome) -> None:
        status, error = answer["status"], answer.get("error")
        if status in (200, 201):
            total.written.append(sample_id)
        elif status == 404 and error is None:
            total.absent.append(sample_id)
        elif status == 404:
            raise AliasGone(f"{self._alias} of OpenSearch names no index any more.", kind="index_gone")
        elif status == 409:
            total.superseded.append(sample_id)
        elif status in (401, 403):
            raise self._denied(answer)
        else:
            kind = error.get("type", "") if isinstance(error, dict) else status
            total.failed.append(Failed(sample_id, f"refused:{kind}"))

    def _denied(self, answer: dict[str, object]) -> RefineryError:
        return self._client.refusal(403, answer)


def _said(answer: dict[str, object]) -> str:
    error = answer.get("error")
    if isinstance(error, dict):
        return f"{error.get('type')}: {error.get('reason')}"[:300]
    return str(answer["status"])
