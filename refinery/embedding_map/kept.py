"""What maps keep in the store, below `maps/<step_key of embed>/`.

head.json                    the fit that counts, compare-and-swap
<fit>/landmarks.arrow        a fit: its landmarks with vectors and places; named by the digest of its bytes
<fit>/<batch>-<token>.arrow  where the samples lie whose facts the file of a batch had; the token is that of the file
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from refinery.digests import canonical_json, digest
from refinery.embedding_map.layout import Places, Vectors
from refinery.errors import ConflictError, CorruptionError, InputError
from refinery.facts import Step
from refinery.states.ids import Bytes, sorted_ids, words
from refinery.store import ObjectInfo, ObjectStore
from refinery.store.fresh import put_fresh

HEAD, LANDMARKS, PLACES = "refinery.map/1", "refinery.landmarks/1", "refinery.places/1"
PREFIX = "maps/"
_FIT = "landmarks.arrow"
_UNREADABLE = (pa.ArrowException, OSError, ValueError, LookupError, TypeError)


@dataclass(frozen=True)
class Fit:
    """Landmarks: `ids` (m, 32) in order, unit `vectors` (m, d), `places` (m, 2); `samples` had a vector when it was made."""

    ids: Bytes
    vectors: Vectors
    places: Places
    samples: int


class KeptMap:
    """The stored map of one embed step."""

    def __init__(self, store: ObjectStore, folder: str) -> None:
        self._store, self._folder = store, folder
        self._fits: dict[str, Fit] = {}

    @classmethod
    def of(cls, store: ObjectStore, step: Step) -> KeptMap:
        return cls(store, f"{PREFIX}{step.key}")

    def head(self) -> tuple[str | None, str | None]:
        """The digest of the fit that counts and the head's etag; None twice when there is no map."""
        found = self._store.get_with_etag(f"{self._folder}/head.json")
        if found is None:
            return None, None
        try:
            raw = json.loads(found[0])
            if raw["format"] != HEAD:
                raise ValueError("another format")
            return str(raw["fit"]), found[1]
        except _UNREADABLE:
            raise _damaged(f"{self._folder}/head.json") from None

    def set_head(self, fit: str, etag: str | None) -> bool:
        """Make a fit the one that counts; False when somebody else moved the head."""
        try:
            self._store.put_if_match(
                f"{self._folder}/head.json", canonical_json({"format": HEAD, "fit": fit}), etag
            )
        except ConflictError:
            return False
        return True

    def save_fit(self, fit: Fit) -> str:
        """Store a fit; its digest."""
        dimension = fit.vectors.shape[1]
        table = pa.table(
            {
                "sample_id": _fixed(fit.ids),
                "place": pa.FixedSizeListArray.from_arrays(pa.array(fit.places.ravel()), 2),
                "vector": pa.FixedSizeListArray.from_arrays(pa.array(fit.vectors.ravel()), dimension),
            }
        )
        data = _encode(table, {"format": LANDMARKS, "samples": str(fit.samples)})
        name = digest(data)
        put_fresh(self._store, f"{self._folder}/{name}/{_FIT}", data)
        return name

    def fit(self, name: str) -> Fit:
        """A fit by its digest. CorruptionError when it is gone or is not what was written."""
        if name not in self._fits:
            key = f"{self._folder}/{name}/{_FIT}"
            try:
                table, said = _decode(self._store.get(key), LANDMARKS)
                fit = Fit(
                    _ids(table), _floats(table, "vector"), _floats(table, "place"), int(said["samples"])
                )
            except (*_UNREADABLE, InputError):
                raise _damaged(key) from None
            self._fits = {name: fit}
        return self._fits[name]

    def placed(self, fit: str) -> dict[str, str]:
        """The places that are kept for a fit: name (`<batch>-<token>`) to key."""
        prefix = f"{self._folder}/{fit}/"
        names = {info.key[len(prefix) :]: info.key for info in self._store.list(prefix)}
        return {name.removesuffix(".arrow"): key for name, key in names.items() if name != _FIT}

    def save_places(self, fit: str, name: str, ids: Bytes, places: Places) -> None:
        table = pa.table({"sample_id": _fixed(ids), "x": places[:, 0], "y": places[:, 1]})
        put_fresh(self._store, f"{self._folder}/{fit}/{name}.arrow", _encode(table, {"format": PLACES}))

    def places(self, key: str) -> tuple[Bytes, Places]:
        """Kept places: ids (n, 32) and (n, 2)."""
        try:
            table, _ = _decode(self._store.get(key), PLACES)
            return _ids(table), np.stack([table["x"].to_numpy(), table["y"].to_numpy()], axis=1)
        except (*_UNREADABLE, InputError):
            raise _damaged(key) from None


def places_name(batch: str, version: str) -> str:
    """The name of the places of a batch whose file of facts has this version."""
    return f"{batch}-{digest(version.encode())[:16]}"


def forget(store: ObjectStore, sample_ids: Collection[str]) -> int:
    """Delete all that maps keep of these samples. A fit that has one as a landmark goes on without it: the map
    does not move. How many objects were deleted."""
    gone = words(sorted_ids(sample_ids))
    deleted = 0
    for folder, keys in _folders(store).items():
        kept = KeptMap(store, folder)
        dropped: set[str] = set()
        for key in (k for k in keys if k.endswith(f"/{_FIT}")):
            name = key.split("/")[2]
            fit = kept.fit(name)
            stays = ~np.isin(words(fit.ids), gone)
            if stays.all():
                continue
            dropped.add(name)
            head, etag = kept.head()
            if head == name and stays.any():
                rest = Fit(fit.ids[stays], fit.vectors[stays], fit.places[stays], fit.samples)
                kept.set_head(kept.save_fit(rest), etag)
            elif head == name:
                deleted += store.delete(f"{folder}/head.json")
        for key in keys:
            name, _, last = key.removeprefix(f"{folder}/").partition("/")
            if last and (
                name in dropped or (last != _FIT and np.isin(words(kept.places(key)[0]), gone).any())
            ):
                deleted += store.delete(key)
    return deleted


def garbage(store: ObjectStore, folders: Iterable[str]) -> Iterator[ObjectInfo]:
    """What no map needs that is in use. `folders` are those of the steps whose maps are (`facts/embed/<step_key>`)."""
    used = {f"{PREFIX}{folder.rsplit('/', 1)[1]}": folder for folder in folders}
    for folder, infos in _folders_of(store.list(PREFIX)).items():
        facts = used.get(folder)
        fit = KeptMap(store, folder).head()[0] if facts else None
        needed = {f"{folder}/head.json", f"{folder}/{fit}/{_FIT}"} if facts else set[str]()
        for info in store.list(f"{facts}/") if facts else ():
            batch = info.key.rsplit("/", 1)[1].removesuffix(".parquet")
            needed.add(f"{folder}/{fit}/{places_name(batch, info.version)}.arrow")
        yield from (info for info in infos if info.key not in needed)


def _folders(store: ObjectStore) -> dict[str, list[str]]:
    return {f: [i.key for i in infos] for f, infos in _folders_of(store.list(PREFIX)).items()}


def _folders_of(infos: Iterable[ObjectInfo]) -> dict[str, list[ObjectInfo]]:
    found: dict[str, list[ObjectInfo]] = defaultdict(list)
    for info in infos:
        found["/".join(info.key.split("/")[:2])].append(info)
    return found


def _encode(table: pa.Table, said: dict[str, str]) -> bytes:
    sink = pa.BufferOutputStream()
    tagged = table.replace_schema_metadata(said)
    with pa.ipc.new_file(sink, tagged.schema) as writer:
        writer.write_table(tagged)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _decode(data: bytes, form: str) -> tuple[pa.Table, dict[str, str]]:
    """The table and what it says of itself. ValueError when it is of another format."""
    table = pa.ipc.open_file(data).read_all()
    said = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    if said.get("format") != form:
        raise ValueError("another format")
    return table, said


def _fixed(ids: Bytes) -> pa.Array:
    data = pa.py_buffer(np.ascontiguousarray(ids))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), len(ids), [None, data])


def _ids(table: pa.Table) -> Bytes:
    chunks = [
        np.frombuffer(c.buffers()[1], np.uint8).reshape(-1, 32)[c.offset :][: len(c)]
        for c in table["sample_id"].chunks
        if len(c)
    ]
    return np.concatenate(chunks) if chunks else np.zeros((0, 32), np.uint8)


def _floats(table: pa.Table, name: str) -> npt.NDArray[np.float32]:
    column = table[name].combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, np.float32).reshape(len(column), column.type.list_size)


def _damaged(key: str) -> CorruptionError:
    return CorruptionError(
        f"{key} is not what a map keeps, or is gone: delete {key.rsplit('/', 1)[0]} and make the map again; "
        "all of it is computed from the facts.",
        kind="damaged_map",
    )
