"""Writing again what is there: an object that is to be used must not look as if nobody had needed it for long."""

from __future__ import annotations

from refinery.errors import ConflictError
from refinery.store import ObjectStore


def put_fresh(store: ObjectStore, key: str, data: bytes) -> None:
    """Write an object whose key is a function of its bytes. One that is there is written again, so that it counts as written
    now: a garbage collection that listed it before leaves it alone."""
    while not store.put_if_absent(key, data):
        found = store.get_with_etag(key)
        try:
            if found is not None:
                store.put_if_match(key, data, found[1])
                return
        except ConflictError:
            continue  # somebody did the same, or removed it


def touch(store: ObjectStore, key: str) -> bytes | None:
    """Write an object again as it is, so that it counts as written now; its bytes, or None when there is none."""
    while (found := store.get_with_etag(key)) is not None:
        try:
            store.put_if_match(key, found[0], found[1])
        except ConflictError:
            continue
        return found[0]
    return None
