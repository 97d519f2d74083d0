"""Many objects at once: from a store across a network, several are on their way at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from refinery.store import ObjectStore

T = TypeVar("T")
K = TypeVar("K")


def get_many(store: ObjectStore, keys: Iterable[str]) -> Iterator[bytes | None]:
    """The bytes of each object in turn, None for one that is not there. Whoever stops early reads little more than that."""

    def get(key: str) -> bytes | None:
        found = store.get_with_etag(key)
        return None if found is None else found[0]

    return each(store, get, keys)


def each(store: ObjectStore, call: Callable[[K], T], items: Iterable[K]) -> Iterator[T]:
    """`call` of each item in turn, by as many threads as the store serves best; on a local disk one after another."""
    rest = iter(items)
    first = list(islice(rest, 2))
    rest = iter([*first, *rest])
    if len(first) < 2 or store.local_path("any") is not None:
        yield from map(call, rest)
        return
    pool = ThreadPoolExecutor(store.concurrency, thread_name_prefix="store")
    try:
        under_way: deque[Future[T]] = deque(
            pool.submit(call, item) for item in islice(rest, 2 * store.concurrency)
        )
        while under_way:
            yield under_way.popleft().result()
            under_way.extend(pool.submit(call, item) for item in islice(rest, 1))
    finally:
        pool.shutdown(cancel_futures=True)
