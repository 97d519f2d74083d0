"""One system of a bench in a process of its own: kept to given cores, set up once, then run for every line on stdin.

python -P benchmarks/_worker.py FILE SYSTEM

The job is the first line on stdin. FILE defines `SYSTEMS`: for each name a function that takes the job and gives (round, look). `round` does the work once
and gives the number of items; `look`, or None, gives its results for the pictures of `look_paths`: arrays of pixels, or of a file's
bytes. What can not be set up is an answer, not a crash. `-P` keeps this folder off the path, where `datago.py` is a bench.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Round = Callable[[], int]
Look = Callable[[], "list[Any]"]


def main() -> None:
    """Set up, say so, and answer each line with one line of JSON."""
    file, name = sys.argv[1:]
    # what libraries print must not mix with the answers
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**values: object) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    job: dict[str, Any] = json.loads(sys.stdin.readline())
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, job["cores"])
    try:
        run, look = _load(file)[name](job)
    except Exception as error:  # noqa: BLE001
        answer(unavailable=_said(error))
        return
    answer(ready=True)
    for line in sys.stdin:
        try:
            if line == "round\n":
                start, used = time.perf_counter(), time.process_time()
                count = run()
                answer(items=count, seconds=time.perf_counter() - start, cpu=time.process_time() - used)
            else:
                arrays = look() if look else []
                np.savez(
                    line.strip(), *[np.frombuffer(a, np.uint8) if isinstance(a, bytes) else a for a in arrays]
                )
                answer(looked=len(arrays))
        except Exception as error:  # noqa: BLE001
            answer(unavailable=_said(error))
            return


def _said(error: Exception) -> str:
    text = str(error).partition("\n")[0]
    return text if isinstance(error, ImportError) else f"{type(error).__name__}: {text}"


def _load(file: str) -> dict[str, Callable[[dict[str, Any]], tuple[Round, Look | None]]]:
    sys.path.append(str(Path(file).parent))  # at the end: `datago` and `inspect` there are benches
    spec = importlib.util.spec_from_file_location("systems", file)
    if spec is None or spec.loader is None:
        raise ImportError(file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    systems: dict[str, Callable[[dict[str, Any]], tuple[Round, Look | None]]] = module.SYSTEMS
    return systems


if __name__ == "__main__":
    main()
