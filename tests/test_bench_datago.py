"""The bench of datago judges fairly: what is missing is said, aliasing is seen, and a goal is met only at no lower PSNR."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks._photographs import ideal, photographs, psnr, stripes, survives
from benchmarks._race import System, race
from benchmarks._roles import ALIASES, _no_worse, table
from benchmarks._table import Row

SYSTEMS = """
def counting(job):
    return lambda: job["count"], lambda: [b"abc"]

def missing(job):
    raise ImportError("it has no wheel")

def failing(job):
    def run():
        raise ValueError("no such picture\\nand more")
    return run, None

SYSTEMS = {"counting": counting, "missing": missing, "failing": failing}
"""


@pytest.mark.skipif(sys.platform != "linux", reason="cores are chosen on Linux only")
def test_a_system_that_is_missing_or_fails_is_a_row_that_says_so(tmp_path: Path) -> None:
    file = tmp_path / "systems.py"
    file.write_text(SYSTEMS)
    systems = [System(key, str(file), key, goal=2.0) for key in ("counting", "missing", "failing")]
    results = race(systems, {"count": 3}, 1, 2, tmp_path, look=True)
    assert (len(results[0].rates), [bytes(p) for p in results[0].pictures]) == (2, [b"abc"])
    rows = table("work", "images/s", systems, results, True)
    assert [(r.value is None, r.note, r.met) for r in rows] == [
        (False, "", None),
        (True, "it has no wheel", None),
        (True, "ValueError: no such picture", None),
    ]


@pytest.mark.parametrize(("filter_", "aliases"), [("LANCZOS", False), ("BICUBIC", False), ("NEAREST", True)])
@pytest.mark.parametrize("size", [(1024, 768), (2048, 1536)])
def test_a_resize_that_aliases_is_seen(
    tmp_path: Path, size: tuple[int, int], filter_: str, aliases: bool
) -> None:
    stripes(tmp_path / "stripes.jpg", size, (592, 448))
    with Image.open(tmp_path / "stripes.jpg") as picture:
        left = survives(np.asarray(picture.resize((592, 448), Image.Resampling[filter_])))
    assert (left > ALIASES) == aliases


def test_psnr_is_high_for_the_ideal_itself_and_low_for_a_shifted_one(tmp_path: Path) -> None:
    (path,) = photographs(tmp_path / "pictures", (512, 512), 1)
    best = ideal(path, (256, 192))
    assert best.shape == (192, 256, 3)
    rounded, shifted = best.round().astype(np.uint8), np.roll(best, 1, axis=1)
    assert (psnr([rounded], [best]) or 0) > 55
    assert (psnr([shifted], [best]) or 99) < 35
    assert psnr([rounded[1:]], [best]) is None


def test_where_a_goal_asks_for_it_better_pictures_of_a_peer_leave_it_unmet() -> None:
    systems = [System(name, "", "", no_worse=name != "b") for name in ("refinery", "a", "b", "c")]
    rows = [Row("work", system.name, 1.0, "images/s", 3, 2, True) for system in systems]
    assert [row.met for row in _no_worse(rows, systems, [40.0, 41.0, 41.0, 39.0])] == [
        True,
        False,
        True,
        True,
    ]
