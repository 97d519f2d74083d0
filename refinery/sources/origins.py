"""From entries and what reading their pieces gave to the rows of a manifest, with everything counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from refinery.batches import Aside, BatchReport, Unreadable
from refinery.blobs import Put
from refinery.digests import canonical_json
from refinery.errors import did_you_mean
from refinery.fields import MAX_TEXT_BYTES, Fields
from refinery.sources.entries import Entry, Piece
from refinery.sources.naming import split_extension
from refinery.sources.sidecars import Metadata
from refinery.sources.uris import uri_name

Outcome = Put | Unreadable | Mapping[str, Any]
"""What reading a piece gave: stored bytes, a reason why there are none, or (a sidecar) its values."""
_ASIDE_KEYS = 50


def was_refused(outcome: Outcome | None) -> bool:
    """Whether these are the bytes of a sample that was taken down."""
    return isinstance(outcome, Put) and outcome.refused


def file_extension(uri: str) -> str:
    """The extension of a file or member: lower case, without the dot, '' when it has none."""
    return split_extension(uri_name(uri))[1]


class Tally:
    """Collects the manifest rows of a batch and its report, entry by entry."""

    def __init__(self, fields: Fields, outcomes: Mapping[tuple[Piece, bool], Outcome]) -> None:
        self.rows: list[dict[str, Any]] = []
        self._fields = fields
        self._outcomes = outcomes
        self._entries = 0
        self._samples: dict[str, Put] = {}
        self._sidecars: set[str] = set()
        self._payloads: set[str] = set()
        self._ignored: Counter[str] = Counter()
        self._unreadable: dict[str, Unreadable] = {}
        self._aside: Counter[tuple[str, str]] = Counter()

    def add(self, entry: Entry) -> None:
        """Account for one entry."""
        if entry.ignored:
            self._ignored[entry.ignored] += 1
            return
        self._entries += 1
        found = self._outcomes[entry.piece, False] if entry.piece else None
        if (size := len(entry.uri.encode())) > MAX_TEXT_BYTES:
            detail = f"Its name comes to a uri of {size:,} bytes; at most {MAX_TEXT_BYTES:,} are allowed."
            found = Unreadable(entry.uri, "uri_too_long", detail)
        if not isinstance(found, Put):
            given = Unreadable(entry.uri, entry.unreadable, entry.detail)
            self._lose(found if isinstance(found, Unreadable) else given)
            for piece in (*entry.sidecars, *(payload.piece for payload in entry.payloads)):
                detail = f"It belongs to {entry.uri}, which could not be read."
                self._lose(Unreadable(piece.uri, "sample_unreadable", detail))
            return
        first = self._samples.setdefault(found.digest, found)
        if found.new and not first.new:
            self._samples[found.digest] = found
        payloads: dict[str, dict[str, Any]] = {}
        metadata = Metadata()
        if (
            not found.refused
        ):  # of a sample that was taken down the origin is noted, and nothing that came with it
            for payload in entry.payloads:
                self._attach(payloads, payload.name, payload.is_mask, payload.piece, sidecar=False)
            metadata = self._metadata(entry, payloads)
        self.rows.append(
            {
                "sample_id": found.digest,
                "uri": entry.uri,
                "bytes": found.bytes,
                "extension": file_extension(entry.uri),
                "stored": found.stored,
                "attributes": canonical_json(metadata.attributes).decode(),
                "extras": canonical_json(metadata.extras).decode(),
                "payloads": [payloads[name] for name in sorted(payloads)],
            }
        )

    def report(self, batch: str, source: str, kind: str, path: str) -> BatchReport:
        """The counts so far. Sets the source of every row."""
        for row in self.rows:
            row["source"] = source
        new = sum(put.new for put in self._samples.values())
        over_cap = sum(not put.stored and not put.refused for put in self._samples.values())
        return BatchReport(
            batch,
            source,
            kind,
            path,
            entries=self._entries,
            origins=len(self.rows),
            samples=len(self._samples),
            new=new,
            known=len(self._samples) - new - over_cap,
            over_cap=over_cap,
            sidecars=len(self._sidecars),
            payloads=len(self._payloads),
            bytes=sum(row["bytes"] for row in self.rows),
            ignored=dict(sorted(self._ignored.items())),
            unreadable=tuple(self._unreadable[uri] for uri in sorted(self._unreadable)),
            aside=self._most_aside(),
        )

    def _metadata(self, entry: Entry, payloads: dict[str, dict[str, Any]]) -> Metadata:
        metadata = Metadata()
        metadata.add(self._fields, entry.attributes)
        # a caption file is what people edit by hand: its word stands before a .json's
        for piece in sorted(entry.sidecars, key=lambda p: (file_extension(p.uri) != "txt", p.uri)):
            found = self._outcomes[piece, True]
            if isinstance(found, Mapping):
                self._sidecars.add(piece.uri)
                metadata.add(self._fields, found)
            else:
                self._attach(payloads, file_extension(piece.uri), False, piece, sidecar=True)
        self._aside.update((name, why) for name, why in metadata.aside.items())
        return metadata

    def _attach(
        self, payloads: dict[str, dict[str, Any]], name: str, mask: bool, piece: Piece, *, sidecar: bool
    ) -> None:
        found = self._outcomes[piece, sidecar]
        if isinstance(found, Unreadable):
            self._lose(found)
        elif isinstance(found, Put) and not found.stored:
            reason = "taken_down" if found.refused else "over_cap"
            why = "is a sample that was taken down" if found.refused else "is over the cap"
            detail = f"A payload of {found.bytes} bytes {why} and was not kept."
            self._lose(Unreadable(piece.uri, reason, detail))
        elif isinstance(found, Put):
            self._payloads.add(piece.uri)
            free, number = name, 1
            while free in payloads:
                number += 1
                free = f"{name}-{number}"
            payloads[free] = {
                "name": free,
                "digest": found.digest,
                "bytes": found.bytes,
                "extension": file_extension(piece.uri),
                "is_mask": mask,
            }

    def _lose(self, what: Unreadable) -> None:
        self._unreadable.setdefault(what.uri, what)

    def _most_aside(self) -> tuple[Aside, ...]:
        ordered = sorted(self._aside.items(), key=lambda item: (-item[1], item[0]))
        names = [attribute.name for attribute in self._fields.attributes]
        told = [
            Aside(key, why, count, did_you_mean(key, names).strip() if why == "unknown" else "")
            for (key, why), count in ordered[:_ASIDE_KEYS]
        ]
        if rest := ordered[_ASIDE_KEYS:]:
            told.append(Aside(f"({len(rest)} more keys)", "more", sum(count for _, count in rest)))
        return tuple(told)
