"""The ledger and a whole ingest and replay on an S3 service that fails: they end where they end without faults."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from s3_proxy import PART, Fault, S3Proxy, again, direct, proxy, store, through

from refinery.config import S3StoreSettings
from refinery.digests import digest
from refinery.errors import TransientError
from refinery.ingest import ingest
from refinery.ledger import Actor, ActorKind, Event, Ledger, flag_event
from refinery.sources import open_source
from refinery.store import ObjectStore
from refinery.store.local import LocalStore
from refinery.store.s3 import S3Store
from tests.synthetic import Sample, Synthetic

__all__ = ["direct", "proxy", "store"]
PUT = "PUT"


def flags(writer: str, count: int) -> list[Event]:
    actor = Actor(ActorKind.PERSON, writer)
    return [flag_event(digest(b"%d" % n), "review", actor, known_kinds=("review",)) for n in range(count)]


@pytest.mark.parametrize("kind", ["busy", "lost", "reset", "late", "cut"])
@pytest.mark.parametrize("method", [PUT, "GET"])
def test_an_append_is_acknowledged_once_and_stands_once(
    store: S3Store, direct: S3Store, proxy: S3Proxy, kind: str, method: str
) -> None:
    first, second = flags("ana", 2)
    Ledger(direct).append([first])
    ledger = Ledger(store)
    proxy.script(Fault(kind, method))
    assert [e.offset for e in ledger.append([second])] == [2]
    proxy.calm() if kind != "cut" or method == "GET" else proxy.script()
    proxy.deliver()
    assert [e.id for e in Ledger(direct).events()] == [first.id, second.id]
    assert Ledger(direct).verify() == 2


def test_an_append_whose_outcome_is_unknown_can_be_repeated_and_is_not_doubled(
    store: S3Store, direct: S3Store, proxy: S3Proxy
) -> None:
    [event] = flags("ana", 1)
    proxy.script(Fault("lost", PUT), Fault("reset", PUT, times=2), Fault("reset", "HEAD", times=3))
    with pytest.raises(TransientError):
        Ledger(store).append([event])
    proxy.calm()
    assert [e.offset for e in Ledger(store).append([event])] == [1]
    assert Ledger(direct).offset == 1


def test_an_append_overtaken_while_its_reply_was_lost_keeps_its_place(
    store: S3Store, direct: S3Store, proxy: S3Proxy
) -> None:
    mine, theirs = flags("ana", 1)[0], flags("ben", 1)[0]
    proxy.script(Fault("lost", PUT, meanwhile=lambda: Ledger(direct).append([theirs])))
    assert [e.offset for e in Ledger(store).append([mine])] == [1]
    proxy.calm()
    assert [e.id for e in Ledger(direct).events()] == [mine.id, theirs.id]


def race(proxy: S3Proxy, settings: S3StoreSettings, seed: int) -> None:
    proxy.storm(seed, 0.25)

    def write(writer: str) -> list[Event]:
        ledger = Ledger(through(proxy, settings))
        return [again(lambda event=event: ledger.append([event]))[0] for event in flags(writer, 6)]

    with ThreadPoolExecutor(3) as pool:
        told = [event for events in pool.map(write, ["ana", "ben", "cyd"]) for event in events]
    assert sum(proxy.struck.values()) > 5
    proxy.calm()
    ledger = Ledger(S3Store(settings))
    assert sorted(told, key=lambda e: e.offset) == list(ledger.events())
    assert len(told) == 18 == ledger.verify()


def test_racing_appends_under_random_faults_lose_and_double_nothing(
    proxy: S3Proxy, s3_settings: S3StoreSettings
) -> None:
    race(proxy, s3_settings, 1)


def refine(
    store: ObjectStore, pictures: Path, events: list[Event], repeat: Callable[[Callable[[], Any]], Any]
) -> str:
    """Ingest a folder, land and compute samples, flag some, replay; the root of the verdicts."""
    project = Synthetic(store)
    source = open_source(pictures, name="pictures", kind="folder")
    fields = project.fields
    repeat(lambda: ingest(store, fields, source, batch_size=7, max_bytes=8 << 20))
    samples = [Sample(n, look=n // 2) for n in range(10)]
    batch = repeat(lambda: project.land(samples))
    repeat(lambda: project.compute(batch, samples))
    for event in events:
        repeat(lambda event=event: project.ledger.append([event]))
    report = repeat(lambda: project.replayer.replay(project.policy))
    assert project.ledger.offset == len(events)
    return str(report.root)


def converge(proxy: S3Proxy, settings: S3StoreSettings, home: Path, seed: int) -> None:
    pictures = home / "pictures"
    pictures.mkdir()
    for n in range(12):
        (pictures / f"{n}.jpg").write_bytes(b"%d " % n * 1000)
    (pictures / "large.jpg").write_bytes(b"large" * (PART // 4))
    actor = Actor(ActorKind.PERSON, "ana")
    events = [flag_event(Sample(n).id, "reject", actor, known_kinds=("reject",)) for n in range(4)]
    calm = LocalStore(home / "calm")
    expected = refine(calm, pictures, events, lambda call: call())
    proxy.storm(seed, 0.15)
    assert refine(through(proxy, settings), pictures, events, again) == expected
    assert sum(proxy.struck.values()) > 5
    proxy.calm()
    direct = S3Store(settings)
    assert refine(direct, pictures, events, lambda call: call()) == expected
    assert [info.key for info in direct.list("blobs/")] == [info.key for info in calm.list("blobs/")]
    assert all(direct.get(info.key) == calm.get(info.key) for info in calm.list("blobs/"))


def test_ingest_and_replay_under_random_faults_end_where_they_end_without(
    proxy: S3Proxy, s3_settings: S3StoreSettings, tmp_path: Path
) -> None:
    converge(proxy, s3_settings, tmp_path, 1)


@pytest.mark.heavy
@pytest.mark.parametrize("seed", range(100, 120))
def test_every_seed_of_twenty_in_a_row_passes(
    proxy: S3Proxy, s3_settings: S3StoreSettings, tmp_path: Path, seed: int
) -> None:
    race(proxy, s3_settings.model_copy(update={"prefix": "race"}), seed)
    converge(proxy, s3_settings, tmp_path, seed)
