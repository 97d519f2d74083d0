"""Locked facts: more and better rows are fine, anything else that happens to a file is not."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refinery.digests import canonical_json, digest_json
from refinery.errors import ConfigError
from refinery.fact_rows import LockedFacts, read_facts, row_digests
from refinery.facts import FactStore, Step
from refinery.locks import Locks
from refinery.snapshots import Snapshot, Snapshots
from refinery.store.local import LocalStore
from tests.synthetic import Sample, Synthetic, gold, quick_folder

COLUMNS = pa.schema(
    [
        ("text", pa.string()),
        ("data", pa.binary()),
        ("count", pa.int32()),
        ("score", pa.float64()),
        ("yes", pa.bool_()),
        ("vector", pa.list_(pa.float32(), 3)),
    ]
)
STEP = Step("made_up", 1, {}, None, COLUMNS)
IDS = sorted(Sample(n).id for n in range(6))
BATCH = "synthetic-0123456789ab"
KEY = f"{STEP.folder}/{BATCH}.parquet"


def fact(sample_id: str, **given: Any) -> dict[str, Any]:
    plain = {"text": "a", "data": b"\0", "count": 1, "score": 0.5, "yes": True, "vector": [0.0, 1.0, 2.0]}
    return {"sample_id": sample_id, "reason": None, "detail": None, "retryable": False, **plain, **given}


def failure(sample_id: str, reason: str, *, retryable: bool) -> dict[str, Any]:
    empty = dict.fromkeys(COLUMNS.names)
    return fact(sample_id, reason=reason, retryable=retryable, **empty)


def written(store: LocalStore, rows: list[dict[str, Any]]) -> bytes:
    FactStore(store).write(STEP, BATCH, pa.Table.from_pylist(rows, schema=STEP.schema))
    return store.get(KEY)


def test_a_file_with_more_and_better_facts_is_as_good_as_the_locked_one(store: LocalStore) -> None:
    data = written(
        store, [fact(IDS[0]), fact(IDS[2], vector=None), failure(IDS[3], "disk_full", retryable=True)]
    )
    locked = LockedFacts.of(data, "", IDS, KEY)
    assert (locked.rows, list(locked.others)) == (2, [IDS[3]])
    assert locked.ids(IDS) == [IDS[0], IDS[2]]
    more = written(store, [fact(IDS[1]), failure(IDS[3], "too_large", retryable=False)])
    assert more != data
    assert locked.damage(more, IDS, KEY) is None
    assert locked.then(read_facts(more, KEY), IDS).equals(read_facts(data, KEY))
    best = written(store, [fact(IDS[3]), fact(IDS[4])])
    assert locked.damage(best, IDS, KEY) is None
    assert locked.then(read_facts(best, KEY), IDS).equals(read_facts(data, KEY))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"text": "b"}, "root"),
        ({"data": b"\1"}, "root"),
        ({"count": None}, "root"),
        ({"score": -0.5}, "root"),
        ({"yes": False}, "root"),
        ({"vector": [0.0, 1.0, np.nextafter(np.float32(2), np.float32(3))]}, "root"),
        ({"reason": "gone"}, "missing"),
    ],
)
def test_one_changed_value_is_damage_however_much_the_file_has_grown(
    store: LocalStore, changed: dict[str, Any], said: str
) -> None:
    locked = LockedFacts.of(written(store, [fact(i) for i in IDS[:3]]), "", IDS, KEY)
    store.delete(KEY)
    other = written(store, [fact(IDS[0]), fact(IDS[1], **changed), *(fact(i) for i in IDS[2:])])
    assert said in str(locked.damage(other, IDS, KEY))
    assert KEY in str(locked.damage(other, IDS, KEY))


def test_a_failure_that_became_another_settled_failure_is_damage(store: LocalStore) -> None:
    locked = LockedFacts.of(written(store, [failure(IDS[0], "too_large", retryable=False)]), "", IDS, KEY)
    store.delete(KEY)
    other = written(store, [failure(IDS[0], "forged", retryable=False), fact(IDS[1])])
    assert IDS[0] in str(locked.damage(other, IDS, KEY))


def test_other_bytes_of_the_same_facts_are_damage_because_nobody_writes_them(store: LocalStore) -> None:
    data = written(store, [fact(i) for i in IDS])
    locked = LockedFacts.of(data, "", IDS, KEY)
    sink = io.BytesIO()
    pq.write_table(pq.read_table(io.BytesIO(data)), sink, compression="none")
    assert "not the bytes" in str(locked.damage(sink.getvalue(), IDS, KEY))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_flipped_bit_in_a_file_that_has_grown_is_named_unless_what_was_locked_is_as_it_was(
    data: st.DataObject,
) -> None:
    with quick_folder() as folder:
        store = LocalStore(Path(folder) / "store")
        then = written(store, [fact(IDS[0])])
        locked = LockedFacts.of(then, "", IDS, KEY)
        grown = bytearray(written(store, [fact(IDS[1])]))
        assert locked.damage(bytes(grown), IDS, KEY) is None
        at = data.draw(st.integers(0, len(grown) - 1))
        grown[at] ^= 1 << data.draw(st.integers(0, 7))
        found = locked.damage(bytes(grown), IDS, KEY)
        if found is None:  # it is in a fact that came later, of which this lock knows nothing
            assert locked.then(read_facts(bytes(grown), KEY), IDS).equals(read_facts(then, KEY))
        else:
            assert KEY in found


VALUES = st.fixed_dictionaries(
    {
        "text": st.none() | st.text(max_size=3),
        "data": st.none() | st.binary(max_size=3),
        "count": st.none() | st.integers(-(2**31), 2**31 - 1),
        "score": st.none() | st.floats(allow_nan=False),
        "yes": st.none() | st.booleans(),
        "vector": st.none() | st.lists(st.floats(width=32, allow_nan=False), min_size=3, max_size=3),
    }
)


@settings(max_examples=100, deadline=None)
@given(st.lists(VALUES, min_size=2, max_size=5))
def test_the_digest_of_a_row_is_that_of_its_values_alone(drawn: list[dict[str, Any]]) -> None:
    rows = [fact(IDS[0], **values) for values in drawn]
    table = pa.Table.from_pylist(rows, schema=STEP.schema)
    together = row_digests(table)
    alone = [row_digests(pa.Table.from_pylist([row], schema=STEP.schema))[0] for row in rows]
    shuffled = row_digests(table.select(sorted(table.column_names, reverse=True)).slice(1))
    assert (together, together[1:]) == (alone, shuffled)
    as_text = [repr(row) for row in rows]
    assert len(set(together)) == len(set(as_text))


LOCK = "snapshots/set/1.lock.json"


def frozen(store: LocalStore) -> tuple[Synthetic, Snapshot]:
    """A synthetic project with a snapshot that the library froze by itself."""
    project = Synthetic(store)
    samples = [*(Sample(n) for n in range(4)), Sample(9, failure="not_an_image")]
    project.compute(project.land(samples), samples)
    project.replayer.replay(project.policy)
    return project, project.freeze_state(Snapshots(store), "set", gold)[0]


def test_a_snapshot_frozen_by_the_library_alone_is_locked_with_its_facts(store: LocalStore) -> None:
    project, snapshot = frozen(store)
    [batch] = project.batches.landed()
    lock = Locks(store).read(snapshot.ref)
    assert lock.batches == lock.compared == (batch,)
    assert {key.split("/")[1]: facts.rows for key, facts in lock.facts.items()} == {"inspect": 4, "embed": 4}
    assert f"batches/{batch}/manifest.parquet" in lock.objects
    assert list(Locks(store).verify(snapshot)) == []


def test_a_lock_of_the_format_before_still_names_what_it_locked(store: LocalStore) -> None:
    project, snapshot = frozen(store)
    raw = json.loads(store.get(LOCK))
    body = {name: raw[name] for name in ("snapshot", "objects", "ledger")} | {"format": "refinery.lock/1"}
    store.delete(LOCK)
    store.put_if_absent(LOCK, canonical_json(body | {"digest": digest_json(body)}))
    assert list(Locks(store).verify(snapshot)) == []
    store.delete(f"policies/{snapshot.policy}.json")
    assert [key for key, _ in Locks(store).verify(snapshot)] == [f"policies/{snapshot.policy}.json"]
    with pytest.raises(ConfigError, match="Freeze it again"):
        Locks(store).read(snapshot.ref)
    assert project.ledger.offset == 0


def test_a_lock_of_a_format_to_come_is_not_guessed_at(store: LocalStore) -> None:
    _, snapshot = frozen(store)
    body = {n: v for n, v in json.loads(store.get(LOCK)).items() if n != "digest"} | {
        "format": "refinery.lock/3"
    }
    store.delete(LOCK)
    store.put_if_absent(LOCK, canonical_json(body | {"digest": digest_json(body)}))
    assert [key for key, _ in Locks(store).verify(snapshot)] == [LOCK]
