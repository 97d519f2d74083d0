"""Search and projection: ten filters, filtered and hybrid similarity, and writing, against doing the same by hand.

Peers: the OpenSearch DSL written by hand and sent with opensearch-py to the same index, LanceDB's own API on the same table,
`helpers.parallel_bulk` of the same documents, and a scan of the same data as Parquet with DuckDB. Ours and a peer take turns,
and every peer's answer is compared with ours. Recall is against brute force.
Run: python -m benchmarks.search [--quick] [--samples 1000000]
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from benchmarks._queries import FILTERS, SELECTIVITIES, FilterCase, tagged
from benchmarks._samples import CHUNK, DIMENSIONS, FIELDS, Samples
from benchmarks._table import Row, report
from refinery.config import OpenSearchSettings
from refinery.index import SampleIndex
from refinery.index.lancedb import LanceIndex
from refinery.index.opensearch import OpenSearchIndex
from refinery.search import SearchRequest, search

LIMIT = 50
K = 10
NAME = "search-bench"
_note = Console(stderr=True).print


@contextmanager
def server() -> Iterator[str]:
    """An OpenSearch: the one that REFINERY_TEST_OPENSEARCH_URL names, or one of our own with a heap of 3 GB."""
    if url := os.environ.get("REFINERY_TEST_OPENSEARCH_URL"):
        yield url
        return
    from deploy.services.opensearch import OpenSearchServer

    with tempfile.TemporaryDirectory() as folder, OpenSearchServer(Path(folder), heap="3g") as started:
        yield started.url


def turns(works: list[Callable[[], Any]], repeats: int) -> list[npt.NDArray[np.float64]]:
    """Milliseconds of each work's calls, taking turns, after three that are not counted."""
    times: list[list[float]] = [[] for _ in works]
    for number in range(repeats + 3):
        for work, kept in zip(works, times, strict=True):
            start = time.perf_counter()
            work()
            if number >= 3:
                kept.append((time.perf_counter() - start) * 1000)
    return [np.array(kept) for kept in times]


def latencies(
    work: str, ours: Callable[[], list[str]], peers: dict[str, Callable[[], list[str]]], repeats: int
) -> list[Row]:
    """p50 and p95 of ours and of each peer; every peer finds the same samples."""
    for name, peer in peers.items():
        if sorted(peer()) != sorted(ours()):
            raise SystemExit(f"{work}: {name} finds other samples than refinery does.")
    measured = turns([ours, *peers.values()], repeats)
    rows = []
    for quantile in (50, 95):
        mine = float(np.percentile(measured[0], quantile))
        rows.append(Row(f"{work}, p{quantile}", "refinery", mine, "ms"))
        for name, times in zip(peers, measured[1:], strict=True):
            its = float(np.percentile(times, quantile))
            goal = 1 / 1.15 if quantile == 50 and "DSL" in name else None
            ratio = its / mine
            rows.append(
                Row(
                    f"{work}, p{quantile}",
                    name,
                    its,
                    "ms",
                    ratio,
                    goal,
                    None if goal is None else ratio >= goal,
                )
            )
    return rows


def overall(rows: list[Row], system: str, work: str) -> Row:
    """The geometric mean of the p50 ratios over one peer."""
    ratios = [r.ratio for r in rows if r.system == system and r.ratio and r.work.endswith("p50")]
    ratio = float(np.exp(np.mean(np.log(ratios))))
    goal = 1 / 1.15 if "DSL" in system else None
    return Row(work, system, 100 * ratio, "%", ratio, goal, None if goal is None else ratio >= goal)


def projection(samples: Samples, ours: OpenSearchIndex, client: Any) -> list[Row]:
    """Write every document through the port, and by parallel_bulk into an index of the same mapping, in turns."""
    from opensearchpy import helpers

    body = next(iter(client.indices.get(index=NAME).values()))
    kept = ("knn", "number_of_shards", "number_of_replicas", "analysis", "refresh_interval", "mapping")
    settings = {k: v for k, v in body["settings"]["index"].items() if k in kept}
    client.indices.delete(index=f"{NAME}-raw", ignore_unavailable=True)
    client.indices.create(
        index=f"{NAME}-raw", body={"settings": {"index": settings}, "mappings": body["mappings"]}
    )
    spent = [0.0, 0.0]
    for number, chunk in enumerate(samples.chunks()):
        actions = [_action(row) for row in chunk.to_pylist()]

        def by_hand(actions: list[dict[str, Any]] = actions) -> None:
            done = sum(ok for ok, _ in helpers.parallel_bulk(client, actions, thread_count=2, chunk_size=500))
            assert done == len(actions)
            client.indices.refresh(index=f"{NAME}-raw")

        def through_port(chunk: pa.Table = chunk) -> None:
            assert len(ours.upsert(chunk).written) == chunk.num_rows

        for which in (0, 1) if number % 2 else (1, 0):
            start = time.perf_counter()
            (through_port, by_hand)[which]()
            spent[which] += time.perf_counter() - start
        _note(f"projected {min((number + 1) * CHUNK, samples.count):,} of {samples.count:,}")
    client.indices.delete(index=f"{NAME}-raw")
    mine, its = (samples.count / seconds for seconds in spent)
    work = f"projection of {samples.count:,} documents"
    return [
        Row(work, "refinery", mine, "documents/s"),
        Row(work, "helpers.parallel_bulk", its, "documents/s", mine / its, 0.9, mine / its >= 0.9),
    ]


def _action(row: dict[str, Any]) -> dict[str, Any]:
    """The document as a person who knows the mapping would send it."""
    row = {name: value for name, value in row.items() if value is not None}
    row["ingested_at"] = int(row["ingested_at"].timestamp() * 1_000_000)
    return {"_index": f"{NAME}-raw", "_id": row["sample_id"], "_source": row}


def on_opensearch(index: OpenSearchIndex, client: Any, samples: Samples, repeats: int) -> list[Row]:
    """Ours against the DSL by hand, and recall by selectivity."""
    source = {"excludes": ["vector_default"]}

    def by_hand(body: dict[str, Any]) -> list[str]:
        reply = client.search(
            index=NAME, body={"size": LIMIT, "_source": source, "track_total_hits": False, **body}
        )
        return [hit["_source"]["sample_id"] for hit in reply["hits"]["hits"]]

    rows: list[Row] = []
    for case in FILTERS:
        ours = _ours(index, SearchRequest(filter=case.text, sort=case.sort, limit=LIMIT))
        body = {"query": {"bool": {"filter": [case.dsl]}}, "sort": case.dsl_sort}
        rows += latencies(
            f"OpenSearch: {case.name}", ours, {"raw DSL": lambda body=body: by_hand(body)}, repeats
        )
    for vector in samples.queries(1):
        for share, tag in SELECTIVITIES.items():
            ours = _ours(
                index, SearchRequest(filter=f"has_tag('{tag}')", vector=tuple(vector.tolist()), limit=LIMIT)
            )
            knn = {
                "vector": vector.tolist(),
                "k": 100,
                "filter": tagged(tag),
                "method_parameters": {"ef_search": 100},
            }
            query = {"query": {"knn": {"vector_default": knn}}}
            rows += latencies(
                f"OpenSearch: nearest of {share}", ours, {"raw DSL": lambda q=query: by_hand(q)}, repeats
            )
    rows.append(overall(rows, "raw DSL", "OpenSearch: all of the above, p50, geometric mean"))
    rows += hybrid(index, client, samples, repeats)
    return rows + recall(index, samples)


def hybrid(index: OpenSearchIndex, client: Any, samples: Samples, repeats: int) -> list[Row]:
    """Words and likeness fused, against the two searches, the fusion and the reading of documents done by hand."""
    vector = samples.queries(1)[0]

    def by_hand(tag: str) -> list[str]:
        window = {"size": 1000, "_source": False, "track_total_hits": False}
        words = {"bool": {"must": [{"match": {"caption": "red panda"}}], "filter": [tagged(tag)]}}
        near = {"vector": vector.tolist(), "k": 1000, "filter": tagged(tag)}
        queries = [
            {**window, "query": words, "sort": ["_score", {"sample_id": "asc"}]},
            {**window, "query": {"knn": {"vector_default": near}}},
        ]
        lines = [part for query in queries for part in ({"index": NAME}, query)]
        scores: dict[str, float] = {}
        for reply in client.msearch(body=lines)["responses"]:
            for rank, hit in enumerate(reply["hits"]["hits"], start=1):
                scores[hit["_id"]] = scores.get(hit["_id"], 0.0) + 1 / (60 + rank)
        best = sorted(scores, key=lambda i: (-scores[i], i))[:LIMIT]
        found = client.mget(index=NAME, body={"ids": best}, params={"_source_excludes": "vector_default"})
        return [document["_source"]["sample_id"] for document in found["docs"]]

    rows: list[Row] = []
    for share, tag in SELECTIVITIES.items():
        request = SearchRequest(
            filter=f"has_tag('{tag}')", text="red panda", vector=tuple(vector.tolist()), limit=LIMIT
        )
        peers = {"raw DSL, fused by hand": lambda tag=tag: by_hand(tag)}
        rows += latencies(f"OpenSearch: hybrid in {share}", _ours(index, request), peers, repeats)
    return rows


def recall(index: SampleIndex, samples: Samples) -> list[Row]:
    """recall@10 of similarity search within filters, against brute force over the same vectors."""
    tags = pa.chunked_array([c for chunk in samples.chunks() for c in chunk["tags"].chunks]).to_pylist()
    ids = np.array(samples.ids)
    rows = []
    for share, name in {"all": None, **SELECTIVITIES}.items():
        among = np.array([name is None or name in t for t in tags])
        found = wanted = 0
        for vector in samples.queries(50):
            best = np.argsort(-(samples.vectors[among] @ vector), kind="stable")[:K]
            truth = set(ids[among][best])
            request = SearchRequest(
                filter=f"has_tag('{name}')" if name else None, vector=tuple(vector.tolist()), limit=K
            )
            hits = search(index, FIELDS, request).hits
            assert len(hits) == min(K, int(among.sum()))
            found += len(truth & {hit.sample_id for hit in hits})
            wanted += len(truth)
        reached = found / wanted
        work = f"OpenSearch: recall@10 of {share}"
        rows += [
            Row(work, "refinery", reached, "of 1"),
            Row(work, "brute force", 1.0, "of 1", reached, 0.95, reached >= 0.95),
        ]
    return rows


def on_lance(index: LanceIndex, table: Any, samples: Samples, repeats: int) -> list[Row]:
    """Ours against LanceDB's own API on the same table."""
    from lancedb.query import ColumnOrdering

    columns = [name for name in table.schema.names if not name.startswith(("vector_", "_"))]

    def filtered(case: FilterCase) -> list[str]:
        orders = [
            ColumnOrdering(column_name=name, ascending=up, nulls_first=False) for name, up in case.lance_sort
        ]
        found = table.search().where(case.sql).order_by(orders).select(columns).limit(LIMIT).to_arrow()
        return found["sample_id"].to_pylist()  # type: ignore[no-any-return]

    def nearest(where: str, vector: npt.NDArray[np.float32]) -> list[str]:
        found = table.search(vector, vector_column_name="vector_default").distance_type("cosine")
        found = found.where(where, prefilter=True).select([*columns, "_distance"]).limit(LIMIT).to_arrow()
        return found["sample_id"].to_pylist()  # type: ignore[no-any-return]

    rows: list[Row] = []
    for case in FILTERS:
        ours = _ours(index, SearchRequest(filter=case.text, sort=case.sort, limit=LIMIT))
        rows += latencies(
            f"LanceDB: {case.name}", ours, {"raw LanceDB": lambda case=case: filtered(case)}, repeats
        )
    vector = samples.queries(1)[0]
    for share, tag in SELECTIVITIES.items():
        where = f"array_has(tags, '{tag}')"
        request = SearchRequest(filter=f"has_tag('{tag}')", vector=tuple(vector.tolist()), limit=LIMIT)
        ours = _ours(index, request)
        rows += latencies(
            f"LanceDB: nearest of {share}",
            ours,
            {"raw LanceDB": lambda where=where: nearest(where, vector)},
            repeats,
        )
    return [*rows, overall(rows, "raw LanceDB", "LanceDB: all of the above, p50, geometric mean")]


def against_scans(
    systems: dict[str, SampleIndex], parquet: Path, samples: Samples, repeats: int
) -> list[Row]:
    """Ours against a scan of the same data as Parquet."""
    import duckdb

    connection = duckdb.connect()
    connection.execute(f"CREATE VIEW samples AS SELECT * FROM '{parquet}'")

    def scan(case: FilterCase) -> list[str]:
        order = ", ".join(f"{n} {'ASC' if up else 'DESC'} NULLS LAST" for n, up in case.lance_sort)
        query = (
            f"SELECT * EXCLUDE vector_default FROM samples WHERE {case.duck} ORDER BY {order} LIMIT {LIMIT}"
        )
        return connection.sql(query).to_arrow_table()["sample_id"].to_pylist()  # type: ignore[no-any-return]

    def nearest(tag: str, vector: list[float]) -> list[str]:
        query = f"""SELECT * EXCLUDE vector_default FROM samples WHERE list_contains(tags, '{tag}')
            ORDER BY array_cosine_similarity(vector_default::FLOAT[{DIMENSIONS}], $1::FLOAT[{DIMENSIONS}]) DESC LIMIT {LIMIT}"""
        return connection.sql(query, params=[vector]).to_arrow_table()["sample_id"].to_pylist()  # type: ignore[no-any-return]

    rows: list[Row] = []
    for system, index in systems.items():
        mine: list[Row] = []
        for case in FILTERS:
            ours = _ours(index, SearchRequest(filter=case.text, sort=case.sort, limit=LIMIT))
            mine += latencies(
                f"{system}: {case.name}", ours, {"DuckDB scan of Parquet": lambda c=case: scan(c)}, repeats
            )
        vector = samples.queries(1)[0].tolist()
        request = SearchRequest(filter="has_tag('hundredth')", vector=tuple(vector), limit=LIMIT)
        if system == "LanceDB":
            mine += latencies(
                f"{system}: nearest of 1 %",
                _ours(index, request),
                {"DuckDB scan of Parquet": lambda vector=vector: nearest("hundredth", vector)},
                repeats,
            )
        rows.append(overall(mine, "DuckDB scan of Parquet", f"{system}: filters, p50, geometric mean"))
    return rows


def _ours(index: SampleIndex, request: SearchRequest) -> Callable[[], list[str]]:
    return lambda: [hit.sample_id for hit in search(index, FIELDS, request).hits]


def main() -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="20,000 samples and fewer repeats")
    parser.add_argument("--samples", type=int, default=None, help="how many (default: 100,000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    chosen = parser.parse_args()
    count = chosen.samples or (20_000 if chosen.quick else 100_000)
    repeats = 20 if chosen.quick else 100
    samples = Samples(count)
    folder = Path(tempfile.mkdtemp(prefix="search-bench-"))
    try:
        with server() as url:
            rows = measure(samples, url, folder, repeats)
    finally:
        shutil.rmtree(folder)
    report(f"search, {count:,} samples × {DIMENSIONS}-d, pages of {LIMIT}", rows, chosen.json)


def measure(samples: Samples, url: str, folder: Path, repeats: int) -> list[Row]:
    """Every comparison on one set of samples."""
    import lancedb
    from opensearchpy import OpenSearch

    client = OpenSearch(url, timeout=120)
    index = OpenSearchIndex(OpenSearchSettings(url=url, name=NAME), FIELDS)
    spaces = {"default": DIMENSIONS}
    try:
        with index.replacement(FIELDS, spaces):
            pass
        rows = projection(samples, index, client)
        lance = LanceIndex(folder / "index", FIELDS)
        with lance.replacement(FIELDS, spaces):
            pass
        parquet = folder / "samples.parquet"
        writer: pq.ParquetWriter | None = None
        for chunk in samples.chunks():
            lance.upsert(chunk)
            writer = writer or pq.ParquetWriter(parquet, chunk.schema)
            writer.write_table(chunk)
        if writer:
            writer.close()
        lance.compact()
        index.compact()
        rows += on_opensearch(index, client, samples, repeats)
        connection = lancedb.connect(str(folder / "index"))
        table = connection.open_table(connection.list_tables().tables[0])
        rows += on_lance(lance, table, samples, max(repeats // 2, 5))
        return rows + against_scans(
            {"OpenSearch": index, "LanceDB": lance}, parquet, samples, max(repeats // 10, 3)
        )
    finally:
        client.indices.delete(index=f"{NAME}*", expand_wildcards="all")


if __name__ == "__main__":
    main()
