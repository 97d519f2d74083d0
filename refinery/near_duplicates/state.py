"""What near-duplicates keep in the store, below `facts/near_duplicates/<step_key>/`.

head.json                 one small object, compare-and-swap: names all that counts, and what was compared
points/ edges/ clusters/  immutable Parquet objects the head names; any other is left over and means nothing
<batch>.parquet           written after the head: this batch has been compared (facts in the usual form)
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from refinery.digests import canonical_json, digest
from refinery.errors import ConflictError, CorruptionError, InputError
from refinery.facts import Step, encode, facts_table
from refinery.store import ObjectStore
from refinery.store.fresh import put_fresh

FORMAT = 1
POINTS = pa.schema(
    [
        ("sample_id", pa.string()),
        ("batch", pa.string()),
        ("signal", pa.string()),
        ("pixel_digest", pa.string()),
        ("phash", pa.uint64()),
    ]
)
"""One row per compared sample and signal (`pixels`: both of the other columns; `vector`: neither). `phash` is null where
the picture is plain: neither its hash nor its vector means anything. `batch` names the file of facts it came from."""
EDGES = pa.schema([("a", pa.string()), ("b", pa.string()), ("kind", pa.string()), ("value", pa.float64())])
"""A spanning forest of the near-duplicate pairs: `kind` is `pixels`, `phash` (value: Hamming distance) or `cosine`."""
CLUSTERS = pa.schema([("sample_id", pa.string()), ("cluster", pa.string()), ("size", pa.int64())])


@dataclass(frozen=True)
class Head:
    """Which objects count. `compared` has, per batch, the version tokens of the facts that were compared;
    `unmarked` are the batches whose <batch>.parquet has still to be written."""

    generation: int = 0
    points: tuple[str, ...] = ()
    edges: tuple[str, ...] = ()
    clusters: str | None = None
    root: str = ""
    samples: int = 0
    compared: dict[str, dict[str, str]] = field(default_factory=dict)
    unmarked: tuple[str, ...] = ()

    @property
    def objects(self) -> frozenset[str]:
        """The keys of all objects it names."""
        return frozenset((*self.points, *self.edges, *([self.clusters] if self.clusters else [])))


class State:
    """The stored state of one near-duplicates step."""

    def __init__(self, store: ObjectStore, step: Step) -> None:
        self._store = store
        self._step = step
        self._key = f"{step.folder}/head.json"

    def head(self) -> tuple[Head, str | None]:
        """The head and its etag; an empty head and None when nothing was ever compared."""
        found = self._store.get_with_etag(self._key)
        if found is None:
            return Head(), None
        try:
            raw: dict[str, Any] = json.loads(found[0])
            if raw.pop("format") != FORMAT:
                raise ValueError("another format")
            for name in ("points", "edges", "unmarked"):
                raw[name] = tuple(raw[name])
            return Head(**raw), found[1]
        except (ValueError, KeyError, TypeError):
            raise CorruptionError(
                f"{self._key} is not a head of near-duplicates that this version reads: delete it and run "
                "near-duplicates again; it is rebuilt from the facts.",
                kind="damaged_near_duplicates",
            ) from None

    def swap(self, old: Head, etag: str | None, new: Head) -> tuple[Head, str] | None:
        """Make `new` the head and delete what only `old` named; None when somebody else moved the head."""
        new = replace(new, generation=old.generation + 1)
        try:
            tag = self._store.put_if_match(self._key, canonical_json({"format": FORMAT, **asdict(new)}), etag)
        except ConflictError:
            return None
        for key in sorted(old.objects - new.objects):
            self._store.delete(key)
        return new, tag

    def save(self, head: Head, kind: str, table: pa.Table) -> str:
        """Store an object for the head that will follow `head`; its key.

        The key holds the generation, so that no object of an older head, which may be being deleted, is ever reused.
        """
        data = encode(table)
        key = f"{self._step.folder}/{kind}/{head.generation + 1:08d}-{digest(data)[:16]}.parquet"
        put_fresh(self._store, key, data)
        return key

    def load(self, keys: tuple[str, ...], schema: pa.Schema) -> pa.Table | None:
        """The rows of some objects; None when one is gone because the head moved on."""
        tables = [schema.empty_table()]
        for key in keys:
            try:
                tables.append(pq.read_table(io.BytesIO(self._store.get(key)), schema=schema))
            except InputError as error:
                if error.kind != "no_such_object":
                    raise
                if key in self.head()[0].objects:
                    raise CorruptionError(
                        f"{key} is missing although {self._key} names it: delete the head and run near-duplicates "
                        "again; all of it is rebuilt from the facts.",
                        kind="damaged_near_duplicates",
                    ) from None
                return None
        return pa.concat_tables(tables)

    def clusters(self) -> pa.Table:
        """The rows of CLUSTERS under the head of now."""
        while True:
            head, _ = self.head()
            table = self.load((head.clusters,) if head.clusters else (), CLUSTERS)
            if table is not None:
                return table

    def mark(self, batch: str, points: pa.Table) -> None:
        """Write <batch>.parquet: which samples of it were compared, by pixels and by vector."""
        signals: dict[str, set[str]] = {}
        for sample_id, signal in zip(
            points["sample_id"].to_pylist(), points["signal"].to_pylist(), strict=True
        ):
            signals.setdefault(sample_id, set()).add(signal)
        ids = sorted(signals)
        rows = {
            "sample_id": ids,
            **{name: [name in signals[i] for i in ids] for name in self._step.columns.names},
        }
        data = encode(facts_table(self._step, rows))
        key = f"{self._step.folder}/{batch}.parquet"
        while True:
            found = self._store.get_with_etag(key)
            if found is not None and found[0] == data:
                return
            try:
                self._store.put_if_match(key, data, found[1] if found else None)
            except ConflictError:
                continue
            return
