"""Training that is killed at random steps and resumed from its last token, at another world size each time, sees exactly
what an undisturbed run sees, in the same order."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.loader.exports import COUNT, FORMATS, export, recipe_of
from tests.loader.killed_rank import EPOCHS, streams

ROOT = Path(__file__).resolve().parents[2]
WORLDS = (1, 2, 3, 8)
SOURCES = (*FORMATS, "pictures")


def place(source: str, folder: Path) -> str:
    return source if source == "pictures" else str(export(folder / source, COUNT, recipe_of(source)))


def killed(source: str, world: int, token: Any, random: Random) -> tuple[list[list[str]], Any]:
    """What a run consumed until it was killed within one of its next steps, by its own words, and its last token."""
    command = [sys.executable, "-m", "tests.loader.killed_rank", source, str(world), json.dumps(token)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        steps = random.randint(1, 5)
        child.stdin.write("step\n" * steps)
        child.stdin.flush()
        told = [child.stdout.readline() for _ in range(random.randint(0, steps))]
        child.kill()
        told += child.stdout.readlines()
    consumed = []
    for line in told:
        if line.endswith("\n"):  # else it was killed while it spoke
            step, token = json.loads(line)
            consumed += [batch for batch in step if batch is not None]
    assert child.returncode < 0
    return consumed, token


def check_kills(source: str, kills: int, seed: int) -> None:
    [undisturbed] = streams(source, 1, None)
    expected = [batch.ids for batch in undisturbed]
    assert sorted({i for batch in expected for i in batch}) == [f"s{n:05}" for n in range(COUNT)]
    assert sum(map(len, expected)) == COUNT * EPOCHS
    random = Random(seed)
    found: list[list[str]] = []
    token = None
    for _, world in zip(range(kills), cycle(WORLDS), strict=False):
        consumed, token = killed(source, world, token, random)
        found += consumed
    assert 0 < len(found) < len(expected)
    for world in WORLDS:  # the last life, undisturbed to the end, at each size
        rest = [[batch.ids for batch in rank] for rank in streams(source, world, token)]
        merged = [rest[n % world][n // world] for n in range(sum(map(len, rest)))]
        assert found + merged == expected


@pytest.mark.parametrize("source", SOURCES)
def test_a_killed_run_goes_on_with_exactly_the_next_batch(source: str, tmp_path: Path) -> None:
    check_kills(place(source, tmp_path), kills=4, seed=1)


@pytest.mark.heavy
@pytest.mark.parametrize("source", SOURCES)
def test_fifty_kills_of_each_kind_change_nothing(source: str, tmp_path: Path) -> None:
    check_kills(place(source, tmp_path), kills=50, seed=2)
