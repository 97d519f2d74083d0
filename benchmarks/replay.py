"""Replay, flags and diffs at scale, each beside what bounds it: the disk's fsync, and looking at every sample.

.venv/bin/python -m benchmarks.replay [--quick] [--json FILE]

A million made-up samples without pixels (--quick: 100,000), in the local store. `ratio` is ours over the limit for rates,
and the full rebuild's time over ours for replays.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmarks._facts import POLICY, Corpus
from benchmarks._table import Row, options, report
from refinery.ledger import Actor, ActorKind, Event, Ledger, flag_event
from refinery.policy import Policy
from refinery.replay import ReplayReport
from refinery.states.head import read_head
from refinery.states.tree import StateTrees
from refinery.store.local import LocalStore

ANA = Actor(ActorKind.PERSON, "ana")
_SINGLES = 500
T = TypeVar("T")


def main() -> None:
    """Measure and print."""
    asked = options(__doc__)
    samples = 100_000 if asked.quick else 1_000_000
    with tempfile.TemporaryDirectory(prefix="refinery-bench-") as folder:
        corpus = Corpus(LocalStore(Path(folder) / "store"))
        ids = corpus.make(samples)
        rows = [*_replays(corpus, ids), *_flags(corpus, ids), *_singles(corpus, ids, Path(folder))]
    report(f"replay of {samples:,} samples", rows, asked.json)


def _replays(corpus: Corpus, ids: list[str]) -> list[Row]:
    rng = np.random.default_rng(7)
    policy, moved = corpus.policy, corpus.parse(POLICY.replace("sharpness < 10", "sharpness < 12"))
    # what is imported once, and the first writing of every leaf, are not measured
    _replay(corpus, policy)
    full, everything = _timed(lambda: _replay(corpus, policy, full=True))
    before = read_head(corpus.store)[0].node
    some = [ids[i] for i in rng.choice(len(ids), len(ids) // 1000, replace=False)]
    corpus.ledger.append(_flag(i) for i in some)
    seconds, flagged = _timed(lambda: _replay(corpus, policy))
    trees = StateTrees(corpus.store)
    looked, _ = _timed(lambda: trees.diff(before, read_head(corpus.store)[0].node))
    nodes = trees.io.read
    adopted, _ = _timed(lambda: _replay(corpus, moved))
    return [
        Row("full rebuild", "refinery", full, "s"),
        Row(
            f"replay of {len(some):,} flags",
            "full rebuild",
            seconds,
            "s",
            full / seconds,
            100,
            full / seconds >= 100,
        ),
        Row(
            "samples looked at by it", "affected", flagged.evaluated, "samples", len(some) / flagged.evaluated
        ),
        Row("replay of one moved rule", "full rebuild", adopted, "s", full / adopted, 5, full / adopted >= 5),
        Row("diff of the two states", "full rebuild", looked, "s", full / looked),
        Row("nodes read by it", "samples", nodes, "nodes", everything.total / max(nodes, 1)),
    ]


def _replay(corpus: Corpus, policy: Policy, *, full: bool = False) -> ReplayReport:
    """A replay by somebody who has read nothing yet, as a new process has."""
    return Corpus(corpus.store).replayer.replay(policy, full=full)


def _flags(corpus: Corpus, ids: list[str]) -> list[Row]:
    many = ids[:100_000]
    seconds, _ = _timed(lambda: corpus.ledger.append(_flag(i, "review") for i in many))
    opened, _ = _timed(lambda: Ledger(corpus.store).offset)
    rate = len(many) / seconds
    return [
        Row("flags in one act", "goal", rate, "flags/s", rate / 50_000, 1, rate >= 50_000),
        Row("opening the ledger", "goal", opened, "s", 2 / opened, 1, opened <= 2),
    ]


def _singles(corpus: Corpus, ids: list[str], folder: Path) -> list[Row]:
    ours = sorted(_timed(lambda i=i: corpus.ledger.append([_flag(i, "keep")]))[0] for i in ids[:_SINGLES])
    limit = sorted(islice(_fsyncs(folder / "fsync"), _SINGLES))
    p99, bound = ours[_SINGLES * 99 // 100], limit[_SINGLES * 99 // 100]
    return [
        Row(
            "one flag, durable, p50",
            "fsync",
            1000 * ours[_SINGLES // 2],
            "ms",
            limit[_SINGLES // 2] / ours[_SINGLES // 2],
        ),
        Row("one flag, durable, p99", "fsync", 1000 * p99, "ms", bound / p99),
        Row("one flag, durable, p99", "10 ms", 1000 * p99, "ms", 0.01 / p99, 1, p99 <= 0.01),
    ]


def _fsyncs(path: Path) -> Iterator[float]:
    """Seconds that a write of a flag's size takes to be durable, again and again."""
    while True:
        started = time.perf_counter()
        with path.open("wb") as file:
            file.write(b"x" * 512)
            file.flush()
            os.fsync(file.fileno())
        yield time.perf_counter() - started


def _flag(sample_id: str, kind: str = "reject") -> Event:
    return flag_event(sample_id, kind, ANA, known_kinds=("keep", "reject", "review"))


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found


if __name__ == "__main__":
    main()
