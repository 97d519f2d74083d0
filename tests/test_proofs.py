"""Proofs: every member of a snapshot can be shown to be one from its root alone, and nothing else can."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from refinery.digests import digest, digest_json
from refinery.errors import CorruptionError, InputError
from refinery.states import writing
from refinery.states.merkle import set_path
from refinery.states.proofs import Proof, check, prove
from refinery.states.rows import rows_table
from refinery.states.tree import Node, StateTrees
from refinery.store.local import LocalStore
from tests.synthetic import quick_folder
from tests.test_house import loaded_by

numbers = st.sets(st.integers(0, 400), max_size=40)


def row(number: int) -> dict[str, object]:
    return {
        "sample_id": digest(str(number).encode()),
        "verdict": "gold",
        "reasons": [],
        "near_duplicate": False,
        "bytes": 100_000 + number,
        "format": "jpeg",
        "width": 1024,
        "height": 768,
        "attributes": '{"caption":"ein Panda – \\"熊猫\\""}',
        "payloads": "[]",
    }


def build(folder: str | Path, members: set[int]) -> tuple[StateTrees, Node]:
    trees = StateTrees(LocalStore(Path(folder)))
    return trees, trees.build(rows_table(row(n) for n in members))


@pytest.fixture(autouse=True)
def small_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "LEAF_ROWS", 4)


@given(numbers)
@settings(max_examples=40, deadline=None)
def test_every_member_of_any_set_proves_its_row_to_the_root(members: set[int]) -> None:
    with quick_folder() as folder:
        trees, root = build(folder, members)
        for number in members:
            proof = prove(trees, root, str(row(number)["sample_id"])).to_bytes()
            assert check(proof, root.digest) == row(number)
            assert Proof.from_bytes(proof).to_bytes() == proof


@given(numbers, st.integers(401, 500))
@settings(max_examples=40, deadline=None)
def test_nothing_is_proved_of_a_sample_that_is_no_member(members: set[int], stranger: int) -> None:
    with quick_folder() as folder:
        trees, root = build(folder, members)
        with pytest.raises(InputError, match="is not among the") as refused:
            prove(trees, root, str(row(stranger)["sample_id"]))
        assert refused.value.kind == "not_in_snapshot"


@given(st.sets(st.integers(0, 400), min_size=1, max_size=30), st.data())
@settings(max_examples=150, deadline=None)
def test_a_proof_with_any_single_byte_altered_proves_nothing(members: set[int], data: st.DataObject) -> None:
    with quick_folder() as folder:
        trees, root = build(folder, members)
        number = data.draw(st.sampled_from(sorted(members)))
        proof = bytearray(prove(trees, root, str(row(number)["sample_id"])).to_bytes())
        at = data.draw(st.integers(0, len(proof) - 1))
        proof[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != proof[at]))
        with pytest.raises(CorruptionError):
            check(bytes(proof), root.digest)


def test_no_bit_of_a_proof_is_free(tmp_path: Path) -> None:
    trees, root = build(tmp_path, set(range(20)))
    proof = prove(trees, root, str(row(7)["sample_id"])).to_bytes()
    for at in range(len(proof)):
        for bit in range(8):
            altered = bytearray(proof)
            altered[at] ^= 1 << bit
            with pytest.raises(CorruptionError):
                check(bytes(altered), root.digest)


@pytest.mark.parametrize("member", list(row(0)))
def test_another_value_of_any_member_of_the_row_leads_to_another_root(tmp_path: Path, member: str) -> None:
    trees, root = build(tmp_path, set(range(20)))
    proof = prove(trees, root, str(row(7)["sample_id"]))
    other = Proof(
        {**proof.row, member: row(8)["sample_id"] if member == "sample_id" else "other"}, proof.branches
    )
    with pytest.raises(CorruptionError, match="leads to root") as refused:
        check(other.to_bytes(), root.digest)
    assert refused.value.kind == "wrong_root"


@given(st.binary(max_size=300) | st.recursive(st.text(), st.lists).map(lambda v: json.dumps(v).encode()))
@settings(deadline=None)
def test_bytes_from_anywhere_are_refused_by_name(data: bytes) -> None:
    with pytest.raises(CorruptionError):
        check(data, "0" * 64)


@pytest.mark.parametrize(
    "form",
    [
        lambda raw: raw | {"more": 1},
        lambda raw: {k: v for k, v in raw.items() if k != "sides"},
        lambda raw: raw | {"sides": raw["sides"] + "0"},
        lambda raw: raw | {"sides": [0], "siblings": "A" * 43 + "="},
        lambda raw: raw | {"sides": "0" * 257, "siblings": "AAAA" * (257 * 32 // 3)},
        lambda raw: raw | {"siblings": 5},
        lambda raw: raw | {"row": []},
        lambda raw: raw | {"row": {"sample_id": raw["row"]["sample_id"].upper()}},
        lambda raw: raw | {"row": {"sample_id": [1] * 64}},
        lambda raw: raw | {"format": "refinery.proof/2"},
    ],
)
def test_a_proof_of_another_form_is_refused(tmp_path: Path, form: object) -> None:
    trees, root = build(tmp_path, set(range(20)))
    raw = json.loads(prove(trees, root, str(row(7)["sample_id"])).to_bytes())
    altered = json.dumps(form(raw), sort_keys=True, separators=(",", ":"), ensure_ascii=False)  # type: ignore[operator]
    with pytest.raises(CorruptionError) as refused:
        check(altered.encode(), root.digest)
    assert refused.value.kind in ("damaged_proof", "unknown_format")


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(CorruptionError, match="not a proof"):
        check(b'{"format":' + b"[" * 200_000, "0" * 64)


def test_a_branch_cannot_be_passed_off_as_a_leaf(tmp_path: Path) -> None:
    trees, root = build(tmp_path, set(range(20)))
    proof = prove(trees, root, str(row(7)["sample_id"]))
    for cut in range(1, len(proof.branches) + 1):
        with pytest.raises(CorruptionError):
            check(Proof(proof.row, proof.branches[cut:]).to_bytes(), root.digest)


def test_a_proof_reads_the_nodes_of_its_way_and_one_leaf(tmp_path: Path) -> None:
    before, root = build(tmp_path, set(range(300)))
    nodes, _ = before.way(root, str(row(7)["sample_id"]))
    trees = StateTrees(LocalStore(tmp_path))  # one that remembers no leaf
    prove(trees, root, str(row(7)["sample_id"]))
    assert trees.io.read == len(nodes) + 1 <= 5


def test_rows_that_do_not_lead_to_the_root_are_not_proved(tmp_path: Path) -> None:
    _, root = build(tmp_path, set(range(3)))
    [pack] = tmp_path.glob("states/packs/*")
    pack.write_bytes(pack.read_bytes().replace(b"jpeg", b"jpeh"))
    trees = StateTrees(LocalStore(tmp_path))
    with pytest.raises(CorruptionError, match="snapshot verify"):
        prove(trees, root, str(row(1)["sample_id"]))


def test_the_deepest_of_a_million_samples_has_a_proof_of_less_than_2_kb() -> None:
    raw = np.random.default_rng(0).bytes(32 * 1_000_000)
    ids = sorted(raw[at : at + 32] for at in range(0, len(raw), 32))
    rows = [blake3(i).digest() for i in ids]
    depths = leaf_depths(ids)
    deepest = ids[int(np.argmax(depths))]
    branches = set_path(ids, rows, deepest)
    assert len(branches) == depths.max() > np.log2(len(ids))
    described = {**row(0), "sample_id": deepest.hex(), "attributes": '{"caption":"' + "a" * 200 + '"}'}
    assert len(Proof(described, tuple(branches)).to_bytes()) < 2000


def leaf_depths(ids: list[bytes]) -> np.ndarray:
    """How many branches lie above each of these ids (ascending). Neighbours part at the bit in which they first differ,
    and the branches are the Cartesian tree of those bits, in which a smaller bit lies higher."""
    heads = np.array([int.from_bytes(i[:8], "big") for i in ids], np.uint64)
    parts = [64 - int(x).bit_length() for x in heads[1:] ^ heads[:-1]]
    assert max(parts) < 64
    open_branches: list[int] = []
    above = []  # branches above the gap between two neighbours that are known when the gap is reached, from either end
    for gaps in (parts, parts[::-1]):
        open_branches, side = [], []
        for part in gaps:
            while open_branches and open_branches[-1] > part:
                open_branches.pop()
            open_branches.append(part)
            side.append(len(open_branches))
        above.append(side)
    return np.array([*([0]), *above[0]]) + np.array([*above[1][::-1], 0])


def test_the_depths_counted_for_the_million_are_those_of_the_tree() -> None:
    ids = sorted(blake3(bytes([n])).digest() for n in range(200))
    rows = [blake3(i).digest() for i in ids]
    assert leaf_depths(ids).tolist() == [len(set_path(ids, rows, i)) for i in ids]


def test_checking_a_proof_loads_neither_stores_nor_arrays() -> None:
    loaded = loaded_by("from refinery.states.proofs import check")
    assert not loaded & {"pyarrow", "numpy", "datago", "refinery.project", "refinery.store"}


def test_the_proof_in_the_documentation_is_one() -> None:
    text = (Path(__file__).resolve().parent.parent / "docs/formats.md").read_text()
    [line] = [x.strip() for x in text.splitlines() if x.strip().startswith('{"format":"refinery.proof/1"')]
    root = "2b6c9e7eb6e7d260487317fac4083bb6d6897788cdcfa17bb1dc558664ff4a9e"
    assert f"root `{root}`" in text
    assert digest_json(check(line.encode(), root))
