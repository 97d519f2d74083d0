"""Takes pictures one after another and tells what each took. Run as a process of its own.

Each line of stdin is a task as JSON, each answer a line of JSON. A picture that takes more than five seconds of this
process's time ends the process, and so does whatever else ends processes.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import datago
from datago import Payload, Recipe, Record, ShardPlan
from tests.hardening.mutations import malformed, prefixes
from tests.hardening.seeds import saved

SECONDS = 5.0
SQUARE = (64, 64)
Answer = dict[str, Any]


def peak(reset: bool = False) -> int:
    """The most bytes this process has held since the last reset; on Linux only."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) << 10
    raise RuntimeError("VmHWM is missing")


def spent() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@contextmanager
def watched(seconds: float = SECONDS) -> Iterator[None]:
    """Ends the process when this takes longer. Processor time, so that a busy machine is not taken for a hang."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)


def inspected(pictures: list[Any], **options: Any) -> tuple[list[str | None], list[str | None]]:
    columns = datago.inspect(pictures, threads=1, tensor_side=64, tensor_fit="squash", **options).columns
    assert len(columns["reason"]) == len(pictures)
    return list(columns["reason"]), list(columns["detail"])


def written(pictures: list[Any], mask: bool) -> tuple[list[str | None], list[str | None]]:
    """Into a bucket of a shard, as pictures or as masks of another one."""
    square = saved("png", "RGB", size=SQUARE)
    records = [
        Record(str(n), square, "png", b"{}", [Payload("m", "png", picture, True)])
        if mask
        else Record(str(n), picture, "png")
        for n, picture in enumerate(pictures)
    ]
    plan = ShardPlan("x", (48, 48), tuple(r.sample_id for r in records))
    with tempfile.TemporaryDirectory() as folder:
        recipe = Recipe(size="fixed", side=48, format="parquet")
        result = datago.write_shard(Path(folder) / "x", plan, records, recipe, threads=1)
    failures = {sample: (reason, detail) for sample, reason, detail in result.failures}
    assert result.samples + len(result.failures) == len(failures) + result.samples == len(pictures)
    found = [failures.get(str(n), (None, None)) for n in range(len(pictures))]
    return [reason for reason, _ in found], [detail for _, detail in found]


def judged(pictures: list[Any], through: str) -> tuple[list[str | None], list[str | None]]:
    return inspected(pictures) if through == "inspect" else written(pictures, through == "mask")


def one(path: str, through: str) -> Answer:
    before = peak(reset=True)
    started = spent()
    with watched():
        (reason,), (detail,) = judged([path], through)
    return {"reason": reason, "detail": detail, "seconds": spent() - started, "peak": peak() - before}


def many(kind: str, start: int, count: int, through: str) -> Answer:
    """Made here, so that only numbers travel. Alone through `inspect`, a hundred at a time into shards."""
    source = malformed(start + count) if kind == "malformed" else prefixes(start + count)
    reasons: Counter[str] = Counter()
    worst, failed = 0.0, []
    left = islice(source, start, None)
    while part := list(islice(left, 1 if through == "inspect" else 100)):
        started = spent()
        with watched():
            found, details = judged([data for _, data in part], through)
        worst = max(worst, spent() - started)
        reasons.update(reason or "fine" for reason in found)
        failed += [f"{part[n][0]}: {details[n]}" for n, reason in enumerate(found) if reason == "internal"]
    return {"reasons": dict(reasons), "seconds": worst, "internal": failed}


def main() -> None:
    for line in sys.stdin:
        task = json.loads(line)
        answer = one(**task) if "path" in task else many(**task)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
