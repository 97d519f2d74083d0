"""Systems measured in turns, A B C A B C …, so that whatever else the machine does hits all alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

HERE = Path(__file__).parent
_WORKER = HERE / "_worker.py"


@dataclass(frozen=True, slots=True)
class System:
    """What is measured: its name in the table, `file` and `key` of its code, whether it runs in the peers' environment or
    in .venv, a note on what it does, the goal of ours over it, and options for its code. `no_worse`: the goal also asks
    for a PSNR no lower than this one's."""

    name: str
    file: str
    key: str
    peers: bool = False
    note: str = ""
    goal: float | None = None
    options: dict[str, Any] = field(default_factory=dict)
    no_worse: bool = False


@dataclass(slots=True)
class Result:
    """What a system did: items per second of each round, its pictures for the comparison, or why there is nothing."""

    rates: list[float] = field(default_factory=list)
    pictures: list[np.ndarray[Any, Any]] = field(default_factory=list)
    unavailable: str = ""

    @property
    def rate(self) -> float:
        """The median of the rounds, 0 when there is nothing."""
        return median(self.rates) if self.rates else 0.0


@cache
def peers_python() -> str:
    """The interpreter of the peers' environment, made when needed; empty when it could not be made."""
    made = subprocess.run([HERE.parent / "deploy" / "peers.sh"], stdout=subprocess.PIPE, text=True)
    return made.stdout.strip() if made.returncode == 0 else ""


def cores(count: int) -> list[int]:
    """`count` of the cores that this process may use, the last ones: the first serve most interrupts."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(count))
    return allowed[-count:]


def race(
    systems: Sequence[System],
    job: dict[str, Any],
    threads: int,
    rounds: int,
    scratch: Path,
    *,
    look: bool,
    cpu: bool = False,
) -> list[Result]:
    """A result for each system: `rounds` rounds in turns after one that is not counted, all on the same `threads` cores.
    With `cpu`, seconds are those in which a process had a core."""
    runners = [
        _Runner(system, {**job, "threads": threads}, scratch / str(i), "cpu" if cpu else "seconds")
        for i, system in enumerate(systems)
    ]
    for runner in runners:
        if look:
            runner.look()
        runner.round()
    for runner in runners:
        runner.result.rates.clear()
    for _ in range(rounds):
        for runner in runners:
            runner.round()
    for runner in runners:
        runner.close()
    return [runner.result for runner in runners]


class _Runner:
    """One system's process."""

    def __init__(self, system: System, job: dict[str, Any], folder: Path, clock: str) -> None:
        self.result = Result()
        self._clock = clock
        self._pictures = folder / "pictures.npz"
        folder.mkdir(parents=True, exist_ok=True)
        python = peers_python() if system.peers else sys.executable
        if not python:
            self.result.unavailable = "the peers' environment could not be made"
            return
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        if not system.peers:
            environment["PYTHONPATH"] = str(HERE.parent)
        environment |= {"DATAGO_MAX_TASKS": str(job["threads"]), "OMP_NUM_THREADS": "1"}
        arguments = {**job, **system.options, "cores": cores(job["threads"]), "folder": str(folder)}
        self._process = subprocess.Popen(
            [python, "-P", "-W", "ignore", _WORKER, HERE / system.file, system.key],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self._ask(json.dumps(arguments))

    def look(self) -> None:
        """Fetch the pictures that the comparison needs."""
        if self._ask(str(self._pictures)).get("looked"):
            with np.load(self._pictures) as found:
                self.result.pictures = [found[name] for name in found.files]

    def round(self) -> None:
        """Run once."""
        answer = self._ask("round")
        if "items" in answer:
            self.result.rates.append(answer["items"] / answer[self._clock])

    def close(self) -> None:
        """End the process."""
        if not self.result.unavailable:
            self._process.communicate()

    def _ask(self, line: str) -> dict[str, Any]:
        if self.result.unavailable:
            return {}
        assert self._process.stdin
        with suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"unavailable": "the process ended"}
        if "unavailable" in answer:
            self.result.unavailable = answer["unavailable"]
            self.result.rates.clear()
            self._process.kill()
            self._process.communicate()
        return answer
