"""Bombs end with a reason, within a gibibyte and five seconds; the child that judges them watches the seconds."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hardening.bombs import BOMBS, HUGE
from tests.hardening.conftest import Judge

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="peaks of memory are read from /proc")
GIBIBYTE = 1 << 30
# what a thread and the interpreter need beside the picture
BESIDE = 16 << 20
SMALL = 24 << 20


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is room for it, and gone after the test: a hundred bombs fill a disk."""
    memory = Path("/dev/shm")
    path = (memory if os.access(memory, os.W_OK) else tmp_path) / f"bomb-{os.getpid()}"
    yield path
    path.unlink(missing_ok=True)


def check(judge: Judge, file: Path, name: str, through: str, size: int) -> None:
    bomb = BOMBS[name]
    file.write_bytes(bomb.make(size))
    found = judge(path=str(file), through=through)
    assert found["peak"] <= GIBIBYTE + BESIDE, found
    reasons = bomb.reasons if through == "inspect" else {*bomb.reasons, "mask_mismatch", None}
    assert found["reason"] in reasons, found


@pytest.mark.parametrize("name", [name for name, bomb in BOMBS.items() if not bomb.heavy])
def test_a_bomb_is_defused(name: str, judge: Judge, file: Path) -> None:
    check(judge, file, name, "inspect", SMALL)


# those that decode at all, one for each format
@pytest.mark.parametrize("through", ["shard", "mask"])
@pytest.mark.parametrize(
    "name",
    [
        "jpeg_as_many_scans_as_allowed",
        "png_whose_stream_goes_on_for_ever",
        "gif_of_tiny_comments",
        "tiff_of_as_many_strips_as_allowed",
        "webp_of_sixty_thousand_prefix_codes",
    ],
)
def test_a_bomb_is_defused_on_its_way_into_a_shard(name: str, through: str, judge: Judge, file: Path) -> None:
    check(judge, file, name, through, SMALL)


@pytest.mark.heavy
@pytest.mark.parametrize("through", ["inspect", "shard", "mask"])
@pytest.mark.parametrize("name", list(BOMBS))
def test_a_bomb_as_large_as_a_file_may_be_is_defused_everywhere(
    name: str, through: str, judge: Judge, file: Path
) -> None:
    check(judge, file, name, through, HUGE)


def test_there_are_bombs_for_every_format() -> None:
    assert len(BOMBS) >= 30
    for kind in ("jpeg", "png", "apng", "gif", "bmp", "tiff", "webp"):
        assert any(name.startswith(kind) for name in BOMBS)
