"""Takes pictures one after another and tells what each took. Run as a process of its own.

Each line of stdin is JSON: a path, and what to do. Each answer is a line of JSON. A picture that takes more than five
seconds of this process's time ends it, and so does whatever else ends processes.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import datago
from datago import Payload, Recipe, Record, ShardPlan

SECONDS = 5.0


def peak(reset: bool = False) -> int:
    """The most bytes this process has held since the last reset; on Linux only."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) << 10
    raise RuntimeError("VmHWM is missing")


def inspected(path: str, **options: Any) -> tuple[str | None, str | None]:
    columns = datago.inspect([path], threads=1, tensor_side=64, tensor_fit="squash", **options).columns
    return columns["reason"][0], columns["detail"][0]


def written(path: str, mask: bool) -> tuple[str | None, str | None]:
    """Into a bucket of a shard, as the picture or as the mask of another one."""
    plan, recipe = ShardPlan("x", (64, 64), ("a",)), Recipe(size="fixed", side=64, format="parquet")
    record = Record("a", path, "png")
    if mask:
        record = Record("a", str(Path(path).parent / "square.png"), "png", b"{}", [Payload("m", "png", path, True)])
    with tempfile.TemporaryDirectory() as folder:
        result = datago.write_shard(Path(folder) / "x", plan, [record], recipe, threads=1)
    for _, reason, detail in result.failures:
        return reason, detail
    return None, None


def main() -> None:
    for line in sys.stdin:
        task = json.loads(line)
        before = peak(reset=True)
        started = resource.getrusage(resource.RUSAGE_SELF)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        match task["through"]:
            case "inspect":
                reason, detail = inspected(task["path"])
            case through:
                reason, detail = written(task["path"], through == "mask")
        signal.setitimer(signal.ITIMER_PROF, 0)
        done = resource.getrusage(resource.RUSAGE_SELF)
        seconds = done.ru_utime + done.ru_stime - started.ru_utime - started.ru_stime
        answer = {"reason": reason, "detail": detail, "seconds": seconds, "peak": peak() - before}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
