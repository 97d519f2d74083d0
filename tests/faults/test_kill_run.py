"""`refinery run`, killed at any moment and started again, ends where an undisturbed one ends."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from projects import CONFIG, FILES, copy_pictures, facts_of, stage_sources

from assets.plan import gold_is_due, plan_batches
from refinery.corpus import CorpusReport
from refinery.project import Refinery

pytestmark = pytest.mark.xdist_group("kills")
ROOT = Path(__file__).resolve().parents[2]

# The command itself, in a process that dies by SIGKILL at its n-th write to the store: before it, or just after it.
KILLED_AT = """
import os, signal, sys
from refinery.store.local import LocalStore

moment, after, writes = int(sys.argv[1]), sys.argv[2] == "after", 0

def dying(name):
    write = getattr(LocalStore, name)
    def wrapped(*args, **kwargs):
        global writes
        writes += 1
        if writes == moment and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = write(*args, **kwargs)
        if writes == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(LocalStore, name, wrapped)

for name in ("put_if_absent", "put_file_if_absent", "put_if_match"):
    dying(name)
from refinery.cli import main
try:
    main(["--project", sys.argv[3], "run", "--json"])
finally:
    print(writes, file=sys.stderr)
"""


@dataclass(frozen=True)
class Ending:
    """Where a run ended: all that must be the same however often it was killed."""

    status: dict[str, Any]
    facts: dict[str, list[dict[str, object]]]
    snapshots: list[tuple[str, str]]
    shards: dict[str, list[str]]
    documents: list[str]


def ending(project: Refinery) -> Ending:
    status = project.status().to_json()
    frozen = project.snapshots.all()
    exports = [index for snapshot in frozen for index in project.exporter.exports(snapshot)]
    return Ending(
        status,
        facts_of(project),
        [(s.ref, s.root) for s in frozen],
        {index["prefix"]: [file["digest"] for file in index["files"]] for index in exports},
        project.index.digests()["sample_id"].to_pylist(),
    )


def start(project: Path, *before: str) -> subprocess.Popen[str]:
    """`refinery run`, or the same that dies at a write."""
    command = (
        [sys.executable, "-c", KILLED_AT, *before, str(project)]
        if before
        else [sys.executable, "-m", "refinery.cli", "--project", str(project), "run", "--json"]
    )
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def undisturbed(corpus: CorpusReport, tmp_path_factory: pytest.TempPathFactory) -> tuple[Ending, int]:
    """The end of a run that nobody killed, and how often it wrote to the store."""
    project = make(corpus, tmp_path_factory.mktemp("undisturbed"))
    process = start(project, "0", "before")
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert json.loads(out)["root"]
    return ending(Refinery.open(project)), int(err.split()[-1])


def make(corpus: CorpusReport, home: Path) -> Path:
    copy_pictures(corpus, home / "pictures", FILES)
    project = Refinery.create(home / "project", CONFIG)
    stage_sources(project)
    return project.path


def finish(project: Path, expected: Ending) -> None:
    """Run to the end; then it is the undisturbed end, and nothing is left to do."""
    process = start(project)
    _, err = process.communicate()
    assert process.returncode == 0, err
    done = Refinery.open(project)
    assert ending(done) == expected
    assert not any(work.due for work in plan_batches(done))
    assert not gold_is_due(done)


def killed_at_writes(project: Path, writes: int, seed: int, kills: int) -> None:
    dice = random.Random(seed)
    for _ in range(kills):
        process = start(project, str(dice.randint(1, writes)), dice.choice(["before", "after"]))
        _, err = process.communicate()
        assert process.returncode in (-signal.SIGKILL, 0), err


def killed_from_outside(project: Path, seed: int, kills: int) -> None:
    """Kill as soon as the store holds a random number of objects more than at the start, wherever the process is then."""
    dice = random.Random(seed)
    store = project / "store"
    for _ in range(kills):
        goal = sum(1 for _ in store.rglob("*")) + dice.randint(1, 40)
        process = start(project)
        while process.poll() is None and sum(1 for _ in store.rglob("*")) < goal:
            continue
        process.kill()
        _, err = process.communicate()
        assert process.returncode in (-signal.SIGKILL, 0), err


def test_killed_at_random_writes_it_ends_the_same(
    corpus: CorpusReport, tmp_path: Path, undisturbed: tuple[Ending, int]
) -> None:
    expected, writes = undisturbed
    project = make(corpus, tmp_path)
    killed_at_writes(project, writes, 1, kills=2)
    finish(project, expected)


def test_killed_from_outside_it_ends_the_same(
    corpus: CorpusReport, tmp_path: Path, undisturbed: tuple[Ending, int]
) -> None:
    project = make(corpus, tmp_path)
    killed_from_outside(project, 3, kills=1)
    finish(project, undisturbed[0])


@pytest.mark.heavy
@pytest.mark.parametrize("seed", range(10, 40))
def test_killed_again_and_again_it_ends_the_same(
    corpus: CorpusReport, tmp_path: Path, undisturbed: tuple[Ending, int], seed: int
) -> None:
    expected, writes = undisturbed
    project = make(corpus, tmp_path)
    killed_at_writes(project, writes, seed, kills=4)
    killed_from_outside(project, seed, kills=2)
    finish(project, expected)


@pytest.mark.heavy
def test_killed_at_every_third_write_it_ends_the_same(
    corpus: CorpusReport, tmp_path: Path, undisturbed: tuple[Ending, int]
) -> None:
    expected, writes = undisturbed
    moments = range(1, writes + 1, 3)
    endings = []
    for moment in moments:
        project = make(corpus, tmp_path / str(moment))
        process = start(project, str(moment), "after")
        _, err = process.communicate()
        # a run may need fewer writes than the undisturbed one did, and then ends before the last moments
        assert process.returncode in (0, -signal.SIGKILL), err
        endings.append(process.returncode)
        finish(project, expected)
    assert endings.count(-signal.SIGKILL) >= len(moments) - 2
