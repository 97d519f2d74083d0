"""What `benchmarks/datago.py` measures: for each role the systems, what they are asked to do, and the goals."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks._photographs import ideal, photographs, pixels, psnr, stripes, survives
from benchmarks._race import Result, System, cores, race
from benchmarks._table import Row

SIZES = ((1024, 768), (2048, 1536))
TARGET = (592, 448)
"""The bucket of 4:3 pictures for side 512, patch 16."""
HELD = 16
"""Pictures alive at a time: a batch. Fresh memory costs about as much as a third of a decode."""
ALIASES = 1 / 3
"""A resize that leaves more than this share of the contrast of stripes too fine for the target is marked."""
_OURS = "_ours.py"
_PIXELS, _SHARDS = "_peer_pixels.py", "_peer_shards.py"


@dataclass
class Bench:
    """Where pictures lie, and how long to measure."""

    folder: Path
    quick: bool
    cpu: bool = False

    def __post_init__(self) -> None:
        self._numbers = itertools.count()
        self._jobs: dict[tuple[int, int], dict[str, Any]] = {}

    @property
    def rounds(self) -> int:
        """Rounds that count."""
        return 3 if self.quick else 9

    @property
    def threads(self) -> tuple[int, ...]:
        """1, and 2 where there are two cores; CPU seconds say nothing about two."""
        return (1,) if self.cpu else (1, 2)[: len(cores(2))]

    def job(self, size: tuple[int, int], target: tuple[int, int] | None) -> dict[str, Any]:
        """Photographs of a size, made once: enough that no cache of the CPU holds them."""
        if size not in self._jobs:
            count = (32 if self.quick else 96) * SIZES[0][0] // size[0]
            name = f"{size[0]}x{size[1]}"
            root, look = self.folder / name, self.folder / f"{name}-look"
            paths = photographs(root, size, count)
            shown = photographs(look, size, 8, seed=1)
            stripes(look / "stripes.jpg", size, TARGET)
            self._jobs[size] = {
                "root": str(root),
                "paths": paths,
                "look_root": str(look),
                "look_paths": [*shown, str(look / "stripes.jpg")],
                "source": size,
                "pixels": size[0] * size[1],
                "held": HELD,
            }
        return {**self._jobs[size], "target": target}

    def race(
        self, systems: Sequence[System], job: dict[str, Any], threads: int, *, look: bool = False
    ) -> list[Result]:
        """Measure the systems in turns, and `look` at their pictures."""
        scratch = self.folder / f"race-{next(self._numbers)}"
        found = race(systems, job, threads, self.rounds, scratch, look=look, cpu=self.cpu)
        shutil.rmtree(scratch)
        return found


def decode(bench: Bench) -> list[Row]:
    """A JPEG file becomes an RGB array of its own memory."""
    systems = [
        System("refinery", _OURS, "decode"),
        System("datago (PyPI)", _PIXELS, "photoroom", True, goal=1.6),
        System("simplejpeg (libjpeg-turbo alone)", _PIXELS, "simplejpeg", True, goal=0.95),
        System("PyTurboJPEG", _PIXELS, "pyturbojpeg", True),
        System("OpenCV imdecode", _PIXELS, "opencv", True),
        System("Pillow", _PIXELS, "pillow", True),
        System(
            "torch DataLoader + Pillow", "_peer_streams.py", "torch_files", note="its processes as threads"
        ),
        System("limit: libjpeg-turbo into one buffer", _PIXELS, "buffer", True, note="no new memory"),
    ]
    return _by_size("decode to NumPy", "images/s", bench, None, lambda _: systems)


def resize(bench: Bench) -> list[Row]:
    """A JPEG file becomes an RGB array of its bucket's size."""

    def systems(size: tuple[int, int]) -> list[System]:
        first, area = {"scaled": 0}, {"filter": "INTER_AREA"}
        return [
            System("refinery", _OURS, "decode", note="Lanczos3"),
            System(
                "datago (PyPI)",
                _PIXELS,
                "photoroom",
                True,
                "Lanczos3 twice",
                1.9 if size == SIZES[0] else 2.4,
            ),
            System(
                "simplejpeg n/8 + cv2", _PIXELS, "simplejpeg", True, "AREA", options={"scaled": 1, **area}
            ),
            System(
                "simplejpeg 1/2ⁿ + cv2", _PIXELS, "simplejpeg", True, "AREA", options={"scaled": 2, **area}
            ),
            System(
                "simplejpeg 1/2ⁿ + cv2",
                _PIXELS,
                "simplejpeg",
                True,
                "LINEAR",
                options={"scaled": 2, "filter": "INTER_LINEAR"},
            ),
            System(
                "simplejpeg 1/2ⁿ + cv2",
                _PIXELS,
                "simplejpeg",
                True,
                "blur + LINEAR",
                options={"scaled": 2, "filter": "BLUR"},
            ),
            System("OpenCV", _PIXELS, "opencv", True, "AREA", options=area),
            System("OpenCV", _PIXELS, "opencv", True, "LINEAR", options={"filter": "INTER_LINEAR"}),
            System("Pillow", _PIXELS, "pillow", True, "LANCZOS", options={**first, "filter": "LANCZOS"}),
            System(
                "Pillow, draft",
                _PIXELS,
                "pillow",
                True,
                "BICUBIC",
                options={"scaled": 1, "filter": "BICUBIC"},
            ),
            System("Pillow-SIMD", _PIXELS, "pillow_simd", True),
            System(
                "torch DataLoader + Pillow", "_peer_streams.py", "torch_files", False, "LANCZOS, processes"
            ),
        ]

    return _by_size("bucket + resize to NumPy", "images/s", bench, TARGET, systems)


def shards(bench: Bench) -> list[Row]:
    """JPEG files become a WebDataset shard of JPEGs of their bucket's size, quality 92."""

    def systems(size: tuple[int, int], subsampling: str) -> list[System]:
        recipe: dict[str, Any] = {"side": 512, "patch": 16, "quality": 92}
        full = subsampling == "4:4:4"
        code = {"scaled": 2, "filter": "INTER_AREA", "subsampling": "444" if full else "420"}
        note = f"{subsampling}, AREA"
        ours = System("refinery", _OURS, "shards", False, f"{subsampling}, Lanczos3, synced")
        photoroom = System(
            "datago (PyPI) pre-encoded + ShardWriter",
            _SHARDS,
            "photoroom",
            True,
            "4:4:4, Lanczos3 twice",
            None if full else 2.8,
        )
        best = 1.4 if size == SIZES[0] else 1.25
        return [
            replace(ours, options={"recipe": recipe if full else {**recipe, "subsampling": subsampling}}),
            photoroom,
            System(
                "simplejpeg 1/2ⁿ + cv2 + ShardWriter",
                _SHARDS,
                "pipeline",
                True,
                note,
                None if full else best,
                code,
                True,
            ),
            *(
                []
                if full
                else [System("img2dataset's resizer and writer", _SHARDS, "img2dataset", True, note)]
            ),
        ]

    rows = []
    for subsampling in ("4:2:0", "4:4:4"):
        asked = partial(systems, subsampling=subsampling)
        rows += _by_size(f"bucket + resize + JPEG {subsampling} shards", "images/s", bench, TARGET, asked)
    return rows


def inspect(bench: Bench) -> list[Row]:
    """One decode gives digests, hash, quality figures, thumbnail and tensor."""

    def systems(size: tuple[int, int]) -> list[System]:
        goal = 0.7 if size == SIZES[0] else 0.8
        return [
            System("refinery", _OURS, "inspect"),
            System("limit: libjpeg-turbo alone", _PIXELS, "buffer", True, "nothing computed", goal),
            System("Pillow + NumPy", "_peer_inspect.py", "pillow", note="the same figures"),
        ]

    return _by_size("inspect", "images/s", bench, None, systems)


def untouched(bench: Bench) -> list[Row]:
    """The files' own bytes become a shard."""
    job = bench.job(SIZES[0], None)
    job["paths"] = job["paths"] * (16 if bench.quick else 12)
    writer = "_peer_streams.py"

    def ours(format_: str) -> System:
        return System("refinery", _OURS, "untouched", note="synced", options={"format": format_})

    def peer(name: str, key: str, sync: bool) -> System:
        note = "+ fsync" if sync else "not synced"
        return System(name, writer, key, False, note, 3.0 if sync else None, {"sync": sync})

    def limit(way: str, direct: bool, goal: float | None) -> System:
        note = f"write + fsync of bytes in memory, {way}"
        return System("limit: the disk", writer, "disk", False, note, goal, {"direct": direct})

    systems = [
        ours("webdataset"),
        *(peer("webdataset.ShardWriter", "webdataset_writer", sync) for sync in (True, False)),
        ours("mds"),
        *(peer("mosaicml MDSWriter", "mds_writer", sync) for sync in (True, False)),
        ours("parquet"),
        limit("past the page cache", True, 0.6),
        limit("through the page cache", False, None),
    ]
    parts = {"WebDataset": [0, 1, 2, 7, 8], "MDS": [3, 4, 5, 7, 8], "Parquet": [6, 7, 8]}
    rows = []
    for threads in bench.threads:
        results = bench.race(systems, job, threads)
        for name, part in parts.items():
            chosen, found = [systems[i] for i in part], [results[i] for i in part]
            work = f"untouched bytes to {name} shards, {threads_in_words(threads)}"
            rows += table(work, "images/s", chosen, found, threads == 1 and not bench.cpu)
    return rows


def table(
    work: str,
    unit: str,
    systems: Sequence[System],
    results: Sequence[Result],
    with_goals: bool,
    marks: Sequence[str] = (),
) -> list[Row]:
    """Rows of one piece of work: ours, which is the first, and each peer with the ratio of ours over it."""
    rows = []
    ours = results[0].rate
    for i, (system, result) in enumerate(zip(systems, results, strict=True)):
        note = " · ".join(part for part in (system.note, marks[i] if marks else "") if part)
        if not result.rates:
            rows.append(Row(work, system.name, None, unit, note=result.unavailable))
        elif i == 0 or not ours:
            rows.append(Row(work, system.name, result.rate, unit, note=note))
        else:
            ratio = ours / result.rate
            goal = system.goal if with_goals else None
            met = None if goal is None else ratio >= goal
            rows.append(Row(work, system.name, result.rate, unit, ratio, goal, met, note))
    return rows


def _by_size(
    work: str,
    unit: str,
    bench: Bench,
    target: tuple[int, int] | None,
    systems: Callable[[tuple[int, int]], list[System]],
) -> list[Row]:
    """The work for both sizes with one thread and with two, and how ours scales."""
    rows = []
    for size in SIZES:
        job, single = bench.job(size, target), 0.0
        asked = systems(size)
        quality: list[tuple[float | None, str]] = [(None, "")] * len(asked)
        for threads in bench.threads:
            results = bench.race(asked, job, threads, look=target is not None and threads == 1)
            if target and threads == 1:
                quality = [_quality(r, job) for r in results]
            name = f"{work}, {size[0]}×{size[1]}"
            found = table(
                f"{name}, {threads_in_words(threads)}",
                unit,
                asked,
                results,
                threads == 1,
                [mark for _, mark in quality],
            )
            rows += _no_worse(found, asked, [decibel for decibel, _ in quality])
            if threads == 1:
                single = results[0].rate
            elif single:
                ratio = results[0].rate / single
                rows.append(
                    Row(
                        f"{name}: 2 threads ÷ 1", "refinery, 1 thread", single, unit, ratio, 1.8, ratio >= 1.8
                    )
                )
    return rows


def _no_worse(rows: list[Row], systems: Sequence[System], decibels: Sequence[float | None]) -> list[Row]:
    """Where the goal asks for it, it is not met over a peer whose pictures are nearer to the ideal than ours."""
    ours = decibels[0] or 0
    return [
        replace(row, met=False) if row.met and system.no_worse and ours < (theirs or 0) - 0.005 else row
        for row, system, theirs in zip(rows, systems, decibels, strict=True)
    ]


def _quality(result: Result, job: dict[str, Any]) -> tuple[float | None, str]:
    """PSNR against the ideal in dB, and it in words with the mark of a resize that aliases."""
    if not result.pictures or result.pictures[0].ndim == 0:
        return None, ""
    *found, striped = [pixels(p) for p in result.pictures]
    decibel = psnr(found, [ideal(p, TARGET) for p in job["look_paths"][:-1]])
    left = survives(striped)
    words = ["size differs" if decibel is None else f"{decibel:.1f} dB", f"stripes {left:.0%}"]
    return decibel, ", ".join([*words, *(["aliases"] if left > ALIASES else [])])


def threads_in_words(count: int) -> str:
    """For the table."""
    return "1 thread" if count == 1 else f"{count} threads"
