"""State trees: the root is a function of the set of rows, whatever the way that led there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refinery.digests import canonical_json, digest
from refinery.states import writing
from refinery.states.rows import row_lines, rows_table
from refinery.states.tree import EMPTY_NODE, Node, StateTrees
from refinery.store.local import LocalStore
from tests.synthetic import quick_folder


def row(number: int, verdict: str = "gold") -> dict[str, Any]:
    return {
        "sample_id": digest(str(number).encode()),
        "verdict": verdict,
        "reasons": [] if verdict == "gold" else ["blurry"],
        "near_duplicate": False,
        "bytes": number,
        "format": "jpeg",
        "width": 8,
        "height": 8,
        "attributes": "{}",
        "payloads": "[]",
    }


class Hidden(LocalStore):
    """A store whose objects do not lie on this disk, as far as one can see."""

    def local_path(self, key: str) -> None:  # type: ignore[override]
        return None


@pytest.fixture(autouse=True)
def small_leaves_and_few_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "LEAF_ROWS", 4)
    monkeypatch.setattr(writing, "MOST_PACKS", 4)
    monkeypatch.setattr(writing, "FEWEST_PACKS", 2)


histories = st.lists(
    st.tuples(
        st.dictionaries(st.integers(0, 60), st.sampled_from(["gold", "held"]), max_size=12),
        st.sets(st.integers(0, 60), max_size=6),
    ),
    max_size=6,
)


values = st.text() | st.none()
rows = st.fixed_dictionaries(
    {
        "sample_id": st.integers(0, 2**256 - 1).map(lambda n: f"{n:064x}"),
        "verdict": st.sampled_from(["gold", "held", "pending"]),
        "reasons": st.lists(st.text(), max_size=3),
        "near_duplicate": st.booleans(),
        "bytes": st.integers(0, 2**63 - 1),
        "format": values,
        "width": st.integers(0, 2**31) | st.none(),
        "height": st.integers(0, 2**31) | st.none(),
        "attributes": st.dictionaries(
            st.text(), values | st.floats(allow_nan=False, allow_infinity=False)
        ).map(lambda found: canonical_json(found).decode()),
        "payloads": st.text(),
    }
)


@given(st.lists(rows, max_size=6, unique_by=lambda r: str(r["sample_id"])))
@settings(deadline=None)
def test_the_line_of_a_row_is_its_canonical_json(drawn: list[dict[str, Any]]) -> None:
    table = rows_table(drawn)
    assert row_lines(table) == [canonical_json(found) for found in table.to_pylist()]


def test_what_was_damaged_after_it_was_read_is_found(store: LocalStore) -> None:
    trees = StateTrees(store)
    root = trees.build(rows_table(row(n) for n in range(9)))
    assert trees.rows(root).num_rows == 9
    for info in list(store.list("states/packs/")):
        store.delete(info.key)
        break
    assert len(list(trees.verify(root))) == 1


@pytest.mark.parametrize("kind", [LocalStore, Hidden])
@given(history=histories)
@settings(max_examples=60, deadline=None)
def test_any_history_of_updates_ends_in_the_root_of_a_fresh_build(
    kind: type[LocalStore], history: list[tuple[dict[int, str], set[int]]]
) -> None:
    with quick_folder() as folder:
        store = kind(Path(folder))
        trees = StateTrees(store)
        root, model = EMPTY_NODE, {}
        for upserts, deletes in history:
            deletes = deletes - set(upserts)
            root = trees.apply(
                root,
                rows_table(row(n, v) for n, v in upserts.items()),
                [digest(str(n).encode()) for n in deletes],
            )
            model.update(upserts)
            for number in deletes:
                model.pop(number, None)
            expected = rows_table(row(n, v) for n, v in model.items())
            afresh = StateTrees(store)
            assert afresh.rows(root).equals(expected)
            assert afresh.lookup(root, [digest(str(n).encode()) for n in range(0, 60, 7)]).equals(
                rows_table(row(n, model[n]) for n in range(0, 60, 7) if n in model)
            )
            assert len(packs(afresh, root)) <= writing.MOST_PACKS
        with quick_folder() as other:
            assert (
                root.digest
                == StateTrees(LocalStore(Path(other))).build(expected if history else rows_table()).digest
            )
        assert list(trees.verify(root)) == []


def packs(trees: StateTrees, root: Node) -> list[str]:
    return [key for key in trees.keys(root) if key.endswith(".pack")]


@given(
    st.dictionaries(st.integers(0, 60), st.sampled_from(["gold", "held"])),
    st.dictionaries(st.integers(0, 60), st.sampled_from(["gold", "held"])),
)
@settings(max_examples=60, deadline=None)
def test_a_build_like_another_tree_is_the_build_and_writes_only_what_differs(
    before: dict[int, str], after: dict[int, str]
) -> None:
    with quick_folder() as folder, quick_folder() as other:
        trees, alone = StateTrees(LocalStore(Path(folder))), StateTrees(LocalStore(Path(other)))
        like = trees.build(rows_table(row(n, v) for n, v in before.items()))
        trees.io.written = 0
        rows = rows_table(row(n, v) for n, v in after.items())
        root = trees.build(rows, like)
        assert root == alone.build(rows)
        assert StateTrees(LocalStore(Path(folder))).rows(root).equals(rows)
        assert list(trees.verify(root)) == []
        assert trees.io.written <= alone.io.written
        if before == after:
            assert trees.io.written == 0


def test_many_small_updates_leave_a_tree_in_few_packs(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    trees = StateTrees(store)
    model = dict.fromkeys(range(200), "gold")
    root = trees.build(rows_table(row(n) for n in model))
    most = 0
    for turn in range(100):
        model[turn * 7 % 200] = "held"
        root = trees.apply(root, rows_table([row(turn * 7 % 200, "held")]))
        most = max(most, len(packs(trees, root)))
    assert 2 < most <= writing.MOST_PACKS
    assert StateTrees(store).rows(root).equals(rows_table(row(n, v) for n, v in model.items()))
    assert list(trees.verify(root)) == []


def test_an_update_writes_one_object_and_what_points_to_it(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    trees = StateTrees(store)
    root = trees.build(rows_table(row(n) for n in range(300)))
    before = {info.key for info in store.list("")}
    trees.apply(root, rows_table(row(n, "held") for n in range(0, 300, 20)))
    added = sorted({info.key for info in store.list("")} - before)
    assert [key.split("/")[1] for key in added] == ["packs", "roots"]


def test_a_pack_that_nobody_points_to_changes_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    root = StateTrees(store).build(rows_table(row(n) for n in range(30)))
    after = StateTrees(store).apply(root, rows_table([row(3, "held")]))
    store.delete(f"states/roots/{after.digest}.json")  # as when the writer died just before
    again = StateTrees(store)
    assert again.apply(root, rows_table([row(3, "held")])) == after
    assert again.rows(after).equals(rows_table(row(n, "held" if n == 3 else "gold") for n in range(30)))
    assert list(again.verify(after)) == []


@given(
    st.dictionaries(st.integers(0, 60), st.sampled_from(["gold", "held"])),
    st.dictionaries(st.integers(0, 60), st.sampled_from(["gold", "held"])),
)
@settings(max_examples=40, deadline=None)
def test_a_diff_names_exactly_the_rows_that_differ(before: dict[int, str], after: dict[int, str]) -> None:
    with quick_folder() as folder:
        trees = StateTrees(LocalStore(Path(folder)))
        old = trees.build(rows_table(row(n, v) for n, v in before.items()))
        new = trees.build(rows_table(row(n, v) for n, v in after.items()))
        gone, came = trees.diff(old, new)
        assert gone.equals(rows_table(row(n, v) for n, v in before.items() if after.get(n) != v))
        assert came.equals(rows_table(row(n, v) for n, v in after.items() if before.get(n) != v))


def test_a_lookup_reads_only_the_path_to_the_sample(tmp_path: Path) -> None:
    trees = StateTrees(LocalStore(tmp_path))
    root = trees.build(rows_table(row(n) for n in range(300)))
    trees.io.read = 0
    found = trees.lookup(root, [row(7)["sample_id"], "f" * 64])
    assert found.to_pylist() == [row(7)]
    assert trees.io.read <= 8


def test_a_flipped_byte_in_a_leaf_is_found_and_named(tmp_path: Path) -> None:
    trees = StateTrees(LocalStore(tmp_path))
    root = trees.build(rows_table(row(n) for n in range(30)))
    [pack] = tmp_path.glob("states/packs/*")
    data = pack.read_bytes()
    at = data.rindex(b"jpeg")
    pack.write_bytes(data[:at] + b"jpeh" + data[at + 4 :])
    findings = list(trees.verify(root))
    assert any(pack.name in finding for finding in findings)


def test_the_empty_tree_has_no_rows(tmp_path: Path) -> None:
    trees = StateTrees(LocalStore(tmp_path))
    assert trees.rows(EMPTY_NODE).num_rows == 0
    assert trees.build(rows_table()).digest == EMPTY_NODE.digest
    assert isinstance(trees.lookup(EMPTY_NODE, ["0" * 64]), pa.Table)
