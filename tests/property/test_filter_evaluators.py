"""Random documents × random filters, and filters at the limits: LanceDB, OpenSearch and Arrow select the same samples."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from opensearchpy import OpenSearch

from refinery.config import OpenSearchSettings
from refinery.digests import digest
from refinery.errors import InputError
from refinery.fields import MAX_TEXT_BYTES, to_micros
from refinery.filter import Filter, conjunction, parse
from refinery.filter.ast import And, Compare, Constant, Contains, Like, Matches, Node, Or, negate
from refinery.filter.parser import MAX_COMPARISONS, MAX_DEPTH
from refinery.index.lancedb import LanceIndex
from refinery.index.opensearch.mapping import mapping
from refinery.index.rows import conform
from tests.property.random_filters import FIELDS, documents_and_filters


def source(document: dict[str, Any]) -> dict[str, Any]:
    """A document as the index on OpenSearch holds it."""
    return {
        name: to_micros(value) if isinstance(value, datetime) else value
        for name, value in document.items()
        if value is not None and value != []
    }


class Server:
    """An index on OpenSearch with the mapping of `FIELDS`, written and asked by its plain client."""

    def __init__(self, url: str) -> None:
        self.client = OpenSearch(url, timeout=60)
        self.name = f"filters-{uuid.uuid4().hex[:12]}"
        self.client.indices.create(index=self.name, body=mapping(FIELDS, {}, OpenSearchSettings()))
        self._held = 0

    def hold(self, table: pa.Table) -> None:
        """Hold the rows of `table` and nothing else."""
        rows = table.to_pylist()
        lines: list[Any] = []
        for place, row in enumerate(rows):
            lines += [{"index": {"_id": str(place)}}, source(row)]
        lines += [{"delete": {"_id": str(place)}} for place in range(len(rows), self._held)]
        self._held = len(rows)
        done = self.client.bulk(index=self.name, body=lines, params={"refresh": "true"})
        assert not done["errors"], done

    def select(self, table: pa.Table, wanted: list[Filter]) -> list[set[str]]:
        """The ids of the rows of `table` that each filter finds."""
        lines: list[Any] = []
        for one in wanted:
            query = {"bool": {"filter": [one.to_opensearch(FIELDS)]}}
            lines += [{}, {"query": query, "size": 1000, "_source": False}]
        ids = table.column("sample_id").to_pylist()
        found = []
        for one, reply in zip(
            wanted, self.client.msearch(index=self.name, body=lines)["responses"], strict=True
        ):
            assert "hits" in reply, (one.text, reply)
            found.append({ids[int(hit["_id"])] for hit in reply["hits"]["hits"]})
        return found


@pytest.fixture(scope="module")
def server(opensearch_url: str) -> Iterator[Server]:
    held = Server(opensearch_url)
    yield held
    held.client.indices.delete(index=held.name)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> LanceIndex:
    return LanceIndex(Path(tmp_path_factory.mktemp("index")), FIELDS)


def selected(table: pa.Table, wanted: Filter) -> set[str]:
    return {
        i for i, yes in zip(table.column("sample_id").to_pylist(), wanted.mask(table), strict=True) if yes
    }


def agree(index: LanceIndex, server: Server, table: pa.Table, wanted: list[Filter]) -> None:
    """Every evaluator selects the same of the documents in `table`."""
    rows, failed = conform(table, table.schema, FIELDS)
    assert not failed
    index.delete(index.digests().column("sample_id").to_pylist())
    assert not index.upsert(table).failed
    server.hold(rows)
    for one, on_server in zip(wanted, server.select(rows, wanted), strict=True):
        found = index._table().search().where(one.to_lance()).select(["sample_id"]).limit(1000).to_arrow()
        by_arrow = selected(rows, one)
        assert set(found.column("sample_id").to_pylist()) == by_arrow, one.text
        assert on_server == by_arrow, one.text


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(documents_and_filters())
def test_arrow_lancedb_and_opensearch_select_the_same_samples(
    index: LanceIndex, server: Server, case: tuple[pa.Table, list[Filter]]
) -> None:
    agree(index, server, *case)


@pytest.mark.heavy
@pytest.mark.timeout(3600)
@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(documents_and_filters())
def test_arrow_lancedb_and_opensearch_select_the_same_samples_again_and_again(
    index: LanceIndex, server: Server, case: tuple[pa.Table, list[Filter]]
) -> None:
    agree(index, server, *case)


def rows(**columns: list[Any]) -> pa.Table:
    """Documents with these cells and no others."""
    count = len(next(iter(columns.values())))
    cells = {"sample_id": [digest(bytes([i])) for i in range(count)], "doc_digest": ["d"] * count, **columns}
    schema = FIELDS.schema().append(pa.field("doc_digest", pa.string()))
    return pa.table(
        {c.name: pa.array(cells.get(c.name, [None] * count), c.type) for c in schema}, schema=schema
    )


CAPTIONS = ["e\u0301t\u0301", "\u1fd3 ﬅ", "ẞ.ſ", "a\\b", "a*b?", "A%b_", "K 🐼", "I-İ-ı", "", None]
SHAPES = [
    *(f"width {op} 3" for op in ("=", "!=", "<", "<=", ">", ">=")),
    "width IS NULL OR 4 = width",
    *("width BETWEEN 3 AND 5", "width BETWEEN 5 AND 3", "width IN (2, 4)", "safe", "safe = FALSE", "safe IS NULL"),
    *("tags = 'a'", "tags IN ('a', 'b')", "tags IS NULL", "tags = ''", "TRUE", "FALSE", "caption IS NULL"),
    *("taken > '2024-01-01T00:00:00.000001'", "taken <= '0001-01-01'", "score = -0.0", "score IN (0, 1e308)"),
    *("caption = ''", "caption < 'a'", "caption LIKE ''", "caption LIKE '%'", "caption LIKE '_'", "caption LIKE '%_b%'"),
    *(r"caption LIKE 'a\\b'", r"caption LIKE 'a\*b_'", r"caption LIKE 'a*b?'", r"caption LIKE 'A\%b\_'", r"caption LIKE '%\\_'"),
    *(f"matches(caption, '{word}')" for word in ("e", "E\u0301T\u0301", "\u0390", "ﬆ", "ß S", "k", "i", "ſ", "b a")),
    *("width = 2 OR NOT (width > 2 AND width != 4)", "width = 2 AND NOT (width = 2 OR width IS NULL)"),
    *("NOT (tags = 'a' AND width = 3) OR (width = 4 OR NOT (safe AND tags = 'b'))", "width != 2 AND width != 3 AND NOT tags = 'a'"),
]  # fmt: skip


def test_every_form_of_a_comparison_and_its_negation_selects_the_same(
    index: LanceIndex, server: Server
) -> None:
    moments = [datetime(1, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, 0, 0, 0, 1, UTC), None]
    table = rows(
        width=[2, 3, 4, 5, 2**63 - 1, -(2**63), None, 3, 4, None],
        safe=[True, False, None, True, False] * 2,
        tags=[["a"], ["b"], ["a", "b"], [], [""], ["c", "a"], [], ["b"], [], []],
        taken=[*moments * 3, datetime(2024, 1, 1, 0, 0, 0, 2, UTC)],
        score=[0.0, -0.0, 1e308, None, 1.0, -1e308, 5e-324, 0.0, None, 2.0],
        caption=CAPTIONS,
    )
    wanted = [parse(f"{no}({text})", FIELDS) for text in SHAPES for no in ("", "NOT ")]
    agree(index, server, table, wanted)
    for yes, no in zip(wanted[::2], wanted[1::2], strict=True):
        assert selected(table, yes).isdisjoint(selected(table, no)), yes.text


def test_the_longest_values_are_found_like_short_ones(index: LanceIndex, server: Server) -> None:
    longest = ["x" * 32_000, "é" * 16_000, "Ⱥ" * 16_000, "日" * 10_666 + "ab", "🐼" * 8_000]
    longest += ["Red car " * 4_000, "%" * 32_000, "*" * 31_999 + "?", "\\" * 32_000]
    assert {len(value.encode()) for value in longest} == {MAX_TEXT_BYTES}
    values = [*longest, longest[0][:-1], "", None]
    table = rows(
        **{"in": values, "caption": values, "labels": [[v] if v is not None else [] for v in values]}
    )
    wanted: list[Node] = [Matches("caption", ("car", "red")), Matches("caption", ("x",))]
    for value in longest:
        wanted += [Compare("in", "=", value), Compare("caption", "<", value), Contains("labels", (value,))]
        wanted += [Like("caption", f"\\{value[0]}%\\{value[-1]}")]
    agree(index, server, table, [Filter(node) for one in wanted for node in (one, negate(one))])


def nested(depth: int, atom: str) -> str:
    text = atom
    for level in range(depth // 2):
        text = f"width > {level} AND ({atom} OR NOT ({text}))"
    return text


@pytest.mark.parametrize(
    "atom", ["tags IN ('a', 'b')", "NOT matches(caption, 'a b c')", "in IS NULL", "labels IS NULL"]
)
def test_the_deepest_filter_runs_everywhere(index: LanceIndex, server: Server, atom: str) -> None:
    deepest = parse(nested(MAX_DEPTH, atom), FIELDS)
    deeper = Filter(negate(And((Constant(True), Or((deepest.root, Constant(False)))))))
    table = rows(width=[*range(MAX_DEPTH), None], tags=[["a"], []] * 12 + [["b"]], caption=["a b c"] * 25)
    agree(index, server, table, [deepest, deeper])
    with pytest.raises(InputError, match="nested too deeply"):
        parse(nested(MAX_DEPTH + 2, atom), FIELDS)


def joined(form: str, count: int = MAX_COMPARISONS) -> str:
    return " OR ".join(form.format(i=i) for i in range(count))


# as many comparisons as a filter can have, each of the kind that costs a server most; and the longest texts
LARGEST = [
    joined("width != {i}"),
    joined("NOT (width != {i} AND height = {i})", MAX_COMPARISONS // 2),
    joined("(score NOT BETWEEN {i} AND {i}.5 AND order < {i})", MAX_COMPARISONS // 2),
    joined("ingested_at != '{i:04}-01-01'".replace("{i:04}", "1{i:03}")),
    joined("NOT (safe = TRUE AND in LIKE '{i}%')", MAX_COMPARISONS // 2),
    joined("NOT matches(caption, '" + " ".join(f"w{i}x{{i}}" for i in range(50)) + "')", 6),
    joined("lacks_payload('{i}') AND in IS NULL", MAX_COMPARISONS // 2),
    joined("width = {i}", 4000),
    " AND ".join(f"width != {i} AND NOT has_tag('{i}')" for i in range(1600)),
    f"sample_id IN ({', '.join(repr(digest(bytes(2) + bytes([i % 256, i >> 8]))) for i in range(950))})",
    "matches(caption, '" + " ".join("w" * 1000 + str(i) for i in range(60)) + "')",
    joined("uri = '{i}' OR format LIKE '%/{i}_%.jp_g'", 290),
    "caption LIKE '" + "%🐼" * 170 + "'",
    "caption LIKE '" + "_%é" * 80 + "'",
    "caption LIKE '%" + "日" * 300 + "'",
    "caption LIKE '%𐐀" + "_" * 11 + "'",
    "caption LIKE '%" + "_" * 1000 + "'",
]


@pytest.mark.parametrize("text", LARGEST, ids=lambda text: text[:40])
def test_the_largest_filters_run_everywhere(index: LanceIndex, server: Server, text: str) -> None:
    values = {"width": [1, 5, None, -1], "caption": ["a", "日" * 301, "𐐀" + "x" * 11, None]}
    agree(index, server, rows(**values, tags=[["1"], [], [], []]), [parse(text, FIELDS)])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (joined("width > {i}", MAX_COMPARISONS + 1), "301 comparisons; at most 300"),
        (joined("width > {i} AND height < {i}", 1500), "3,000 comparisons; at most 300"),
        (joined("caption LIKE '%{i}' AND NOT matches(caption, 'a b c')", 100), "400 comparisons"),
        ("caption LIKE '%a" + "_" * 12 + "'", "in too many ways"),
        ("caption LIKE '" + "_%a" * 300 + "'", "in too many ways"),
        (joined("in LIKE '%{i}a_________'", 200), "in too many ways"),
    ],
    ids=lambda text: text[:40],
)
def test_a_filter_that_is_too_much_for_a_server_is_refused_for_all(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as refused:
        parse(text, FIELDS)
    assert refused.value.kind == "bad_filter"


def test_filters_that_are_too_much_together_are_refused_by_name_of_what_to_do(server: Server) -> None:
    parts = [parse(joined(f"{field} != {{i}}"), FIELDS) for field in ("width", "height", "order")]
    server.hold(table := rows(width=[1]))
    assert server.select(table, parts) == [{table.column("sample_id")[0].as_py()}, set(), set()]
    with pytest.raises(InputError, match=r"2,700 clauses; OpenSearch takes at most 1,000") as refused:
        conjunction(parts).to_opensearch(FIELDS)
    assert refused.value.kind == "bad_filter"
