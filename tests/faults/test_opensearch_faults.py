"""OpenSearch killed, full, slow and cut off: writes converge or fail with a retryable error; nothing acknowledged is lost,
and nothing is doubled."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from s3_proxy import Fault, S3Proxy, again, s3_proxy

from deploy.services.opensearch import OpenSearchServer
from refinery.config import OpenSearchSettings
from refinery.errors import TransientError
from refinery.index import BulkReport, Query
from refinery.index.opensearch import OpenSearchIndex
from refinery.index.opensearch.client import Client
from tests.contract.indexes import DIMENSIONS, FIELDS, documents, ids, sample_id

DEADLINE = 240
Open = Callable[..., OpenSearchIndex]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSearchServer]:
    """A server of these tests' own, with room for one waiting write."""
    queue = {"node.processors": 1, "thread_pool.write.queue_size": 1}
    with OpenSearchServer(
        tmp_path_factory.mktemp("opensearch"), heap="512m", settings=queue, quick=True
    ) as server:
        yield server


@pytest.fixture
def name() -> str:
    return f"faults-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def proxy(opensearch_url: str) -> Iterator[S3Proxy]:
    with s3_proxy(opensearch_url) as running:
        yield running


@pytest.fixture
def direct(opensearch_url: str, name: str) -> Iterator[OpenSearchIndex]:
    """The index as somebody else sees it, without faults."""
    settings = OpenSearchSettings(url=opensearch_url, name=name)
    yield OpenSearchIndex(settings, FIELDS)
    Client(settings).request("DELETE", f"/{name}.*")


@pytest.fixture
def index(proxy: S3Proxy, direct: OpenSearchIndex, name: str) -> OpenSearchIndex:
    direct.upsert(documents(range(3), caption=["first"] * 3))
    return OpenSearchIndex(OpenSearchSettings(url=proxy.url, name=name, timeout=4, bulk_rows=40), FIELDS)


def captions(index: OpenSearchIndex, numbers: list[int]) -> list[Any]:
    return index.get([sample_id(n) for n in numbers]).column("caption").to_pylist()  # type: ignore[no-any-return]


def holds_exactly(index: OpenSearchIndex, count: int) -> bool:
    digests = index.digests().to_pydict()
    expected = {sample_id(n): f"d{n}" for n in range(count)}
    return len(digests["sample_id"]) == count and dict(zip(*digests.values(), strict=True)) == expected


@pytest.mark.parametrize("kind", ["busy", "lost", "reset", "cut", "late"])
def test_a_fault_that_passes_is_not_noticed(
    index: OpenSearchIndex, direct: OpenSearchIndex, proxy: S3Proxy, kind: str
) -> None:
    proxy.script(
        Fault(kind, "POST", "_bulk"), Fault(kind, "POST", "_refresh"), Fault(kind, "POST", "_update")
    )
    report = index.upsert(documents(range(100), caption=["second"] * 100))
    assert (len(report.written), report.failed, report.superseded) == (100, (), ())
    proxy.calm()
    assert holds_exactly(direct, 100)
    newer = direct.upsert(documents([1], caption=["third"]))
    assert len(newer.written) == 1
    proxy.deliver()
    assert captions(direct, [0, 1]) == ["second", "third"]
    proxy.script(Fault(kind, "PUT", "_doc"), Fault(kind, "GET"))
    assert index.set_position({"offset": 5}) is True
    proxy.calm()
    proxy.script(Fault(kind, "POST", "_search"), Fault(kind, "POST", "_mget"))
    assert index.query(Query(limit=7)).documents.num_rows == 7
    assert captions(index, [2]) == ["second"]
    proxy.calm()
    proxy.script(Fault(kind, "POST", "_bulk"))
    index.delete([sample_id(99)])
    proxy.calm()
    assert holds_exactly(direct, 99)
    assert direct.position() == {"offset": 5}


@pytest.mark.parametrize("kind", ["busy", "lost", "reset", "cut"])
def test_a_replacement_takes_its_place_though_replies_are_lost(
    index: OpenSearchIndex, direct: OpenSearchIndex, proxy: S3Proxy, kind: str
) -> None:
    proxy.script(Fault(kind, "PUT", "documents-"), Fault(kind, "POST", "_aliases", times=1))
    with index.replacement(FIELDS, {"default": DIMENSIONS}) as new:
        proxy.calm()
        new.upsert(documents(range(5)))
        new.set_position({"of": "the new"})
        proxy.script(Fault(kind, "POST", "_aliases", times=2))
    proxy.calm()
    assert holds_exactly(direct, 5)
    assert direct.position() == {"of": "the new"}


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize("kind", ["busy", "reset", "hang"])
def test_a_server_that_stays_away_is_a_retryable_error(
    direct: OpenSearchIndex, proxy: S3Proxy, kind: str, name: str
) -> None:
    hasty = OpenSearchIndex(OpenSearchSettings(url=proxy.url, name=name, timeout=0.5), FIELDS)
    proxy.script(Fault(kind, times=1000))
    calls: list[Callable[[], object]] = [
        lambda: hasty.upsert(documents(range(5))),
        lambda: hasty.delete([sample_id(1)]),
        hasty.count,
        hasty.position,
    ]
    for call in calls:
        with pytest.raises(TransientError):
            call()
    proxy.script(Fault(kind, "POST", "_bulk", times=1000))
    with pytest.raises(TransientError):
        hasty.upsert(documents(range(5)))
    proxy.script()
    assert len(hasty.upsert(documents(range(5))).written) == 5
    assert holds_exactly(direct, 5)


def weather(index: OpenSearchIndex, direct: OpenSearchIndex, proxy: S3Proxy, seed: int) -> None:
    """A session of writes in which every fifth request fails somehow."""
    proxy.storm(seed, 0.2)
    first = again(index.next_sequence)
    report = again(lambda: index.upsert(documents(range(200)), first))
    assert len(report.written) + len(report.superseded) == 200
    second = again(index.next_sequence)
    assert second > first
    again(lambda: index.upsert(documents(range(50), caption=["second"] * 50), second))
    late = again(lambda: index.upsert(documents(range(60), caption=["late"] * 60), first))
    assert set(late.superseded) == {sample_id(n) for n in range(50)}
    again(lambda: index.delete([sample_id(n) for n in range(150, 200)], second))
    again(lambda: index.set_position({"offset": seed}, second))
    proxy.calm()
    proxy.deliver()
    assert proxy.struck
    assert holds_exactly(direct, 150)
    assert captions(direct, [0, 49, 50, 59]) == ["second", "second", "late", "late"]
    assert direct.position() == {"offset": seed}


@pytest.mark.parametrize("seed", range(2))
def test_a_session_in_bad_weather_ends_as_in_good(
    index: OpenSearchIndex, direct: OpenSearchIndex, proxy: S3Proxy, seed: int
) -> None:
    weather(index, direct, proxy, seed)


@pytest.mark.heavy
@pytest.mark.parametrize("seed", range(100, 120))
def test_twenty_sessions_in_bad_weather_end_as_in_good(
    index: OpenSearchIndex, direct: OpenSearchIndex, proxy: S3Proxy, seed: int
) -> None:
    weather(index, direct, proxy, seed)


@pytest.mark.xdist_group("faults of opensearch")
def test_a_server_without_room_takes_everything_in_the_end(server: OpenSearchServer, name: str) -> None:
    settings = OpenSearchSettings(url=server.url, name=name, bulk_rows=25, bulk_in_flight=12)
    index, client = OpenSearchIndex(settings, FIELDS), Client(settings)
    index.upsert(documents([0]))

    def turned_away() -> int:
        nodes = client.request("GET", "/_nodes/stats/thread_pool")["nodes"]
        return sum(int(node["thread_pool"]["write"]["rejected"]) for node in nodes.values())

    before = turned_away()
    for _ in range(10):
        report = index.upsert(documents(range(600)))
        assert (len(report.written), report.failed, report.superseded) == (600, (), ())
        if turned_away() > before:
            break
    assert turned_away() > before
    assert holds_exactly(index, 600)
    assert index.delete([sample_id(n) for n in range(300, 600)]) == 300
    assert holds_exactly(index, 300)


def crash(server: OpenSearchServer, name: str) -> None:
    """The server is killed while two write, and comes back. The one that soon gives up is told to try again, what it was
    acknowledged is there, and the same again brings the rest; the patient one does not notice."""
    hasty = OpenSearchSettings(url=server.url, name=f"{name}-hasty", timeout=1, bulk_rows=10)
    patient = OpenSearchSettings(url=server.url, name=f"{name}-patient", timeout=DEADLINE, bulk_rows=20)
    index, other = OpenSearchIndex(hasty, FIELDS), OpenSearchIndex(patient, FIELDS)
    other.upsert(documents([0]))
    again(lambda: index.upsert(documents([0])))
    sequence = again(index.next_sequence)
    acknowledged: list[str] = []
    begun, killed = threading.Event(), threading.Event()
    ended: list[TransientError] = []
    reports: list[BulkReport] = []

    def write() -> None:
        start = 0
        while not ended:
            try:
                acknowledged.extend(index.upsert(documents(range(start, start + 200)), sequence).written)
            except TransientError as error:
                if killed.is_set():  # before that, the other one left no room
                    ended.append(error)
                continue
            start += 200
            begun.set()

    writers = [
        threading.Thread(target=write),
        threading.Thread(target=lambda: reports.append(other.upsert(documents(range(5000))))),
    ]
    for writer in writers:
        writer.start()
    assert begun.wait(DEADLINE)
    while other.count() < 2 and writers[1].is_alive():
        other.compact()
    killed.set()
    server.kill()
    writers[0].join(DEADLINE)
    assert writers[1].is_alive(), "the patient upsert was over before the server was killed"
    server.start()
    writers[1].join(DEADLINE)
    assert len(ended) == 1
    assert len(reports[0].written) == 5000
    assert holds_exactly(other, 5000)
    there = again(lambda: ids(index.digests()))
    assert set(acknowledged) <= set(there)
    assert len(there) == len(set(there))
    count = len(acknowledged) + 400
    report = again(lambda: index.upsert(documents(range(count)), sequence))
    assert len(report.written) == count
    assert holds_exactly(index, count)
    again(lambda: Client(patient).request("DELETE", f"/{name}-*"))


@pytest.mark.xdist_group("faults of opensearch")
def test_a_server_killed_in_the_middle_of_a_bulk_loses_nothing(server: OpenSearchServer, name: str) -> None:
    crash(server, name)


@pytest.mark.heavy
@pytest.mark.timeout(3600)
def test_twenty_crashes_lose_nothing(server: OpenSearchServer) -> None:
    for _ in range(20):
        crash(server, f"faults-{uuid.uuid4().hex[:12]}")
