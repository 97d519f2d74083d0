"""A folder of real photographs and honest cases made from them, for the demo and for tests.

The same installed packages and the same seed give the same bytes and times; making it again changes nothing. Needs the
`demo` extra; wallpapers of Debian packages take part where they are installed (size `full`). Credits: docs/corpus.md.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from refinery.digests import canonical_json, digest, digest_json

if TYPE_CHECKING:
    from refinery.corpus.cases import Case
    from refinery.corpus.photographs import Photograph

VERSION = 1
# Every file is given this time (2024-01-01 UTC), so that nothing about the folder depends on when it was made.
_TIME = 1_704_067_200


@dataclass(frozen=True, slots=True)
class PlantedFile:
    """What is known about one picture file of the corpus, because it was made so.

    `kind`: photograph, crop, odd_name, copy, re_encoding, near_duplicate, blur, blank, orientation, mode, extreme or broken.
    `near_duplicate_of`: the file it shows the same picture as, when planted; `photograph`: the photograph it was made from.
    `readable`: None where decoders may differ; `reason`: the reason code when only one is fair. `caption` and `mask`: what
    its sidecars give it.
    """

    sample_id: str
    bytes: int
    kind: str
    photograph: str | None
    near_duplicate_of: str | None
    readable: bool | None
    reason: str | None
    caption: str | None
    mask: bool


@dataclass(frozen=True, slots=True)
class CorpusReport:
    """What lies in `folder`: picture files by path (sidecars and masks are not counted), and what could not take part.

    `truth` is the JSON file beside the folder that says the same; `made` is False when all was there already.
    """

    folder: Path
    truth: Path
    files: Mapping[str, PlantedFile]
    bytes: int
    missing_packages: tuple[str, ...]
    made: bool

    @property
    def kinds(self) -> dict[str, int]:
        """How many files there are of each kind."""
        return dict(sorted(Counter(file.kind for file in self.files.values()).items()))


def build_corpus(folder: Path, *, size: Literal["small", "full"] = "full", seed: int = 0) -> CorpusReport:
    """Make the corpus in `folder` and `<folder>.truth.json` beside it; leave what is there and right as it is.

    `small`: about 75 files of packaged photographs only, in a few seconds. `full`: about 200, wallpapers included. Files
    of a former corpus that are no longer part of it are removed; files of others in the folder are left alone.
    """
    from refinery.corpus.photographs import packaged, wallpapers

    folder = Path(folder).absolute()
    truth = folder.with_name(f"{folder.name}.truth.json")
    found, missing = wallpapers() if size == "full" else ([], [])
    recipe = _recipe([*packaged(), *found], size, seed)
    before = _read(truth)
    made = before.get("recipe") != recipe or not _intact(folder, before["written"])
    if made:
        before = _make(folder, before, list(_cases(packaged(), found, size, seed)))
        truth.write_bytes(canonical_json({"recipe": recipe, **before}))
    files = {path: PlantedFile(**about) for path, about in before["files"].items()}
    total = sum(bytes for bytes, _ in before["written"].values())
    return CorpusReport(folder, truth, files, total, tuple(missing), made)


def _recipe(photographs: Iterable[Photograph], size: str, seed: int) -> str:
    """The digest of all that the corpus depends on."""
    inputs = [(p.name, p.path.stat().st_size, p.caption, p.author, p.licence) for p in photographs]
    return digest_json([VERSION, size, seed, version("pillow"), version("numpy"), inputs])


def _read(truth: Path) -> dict[str, Any]:
    if not truth.is_file():
        return {"written": {}, "files": {}}
    known: dict[str, Any] = json.loads(truth.read_bytes())
    return known


def _intact(folder: Path, written: Mapping[str, tuple[int, str]]) -> bool:
    """Whether every file is there with its size and time (its digest is not read again)."""

    def right(path: str, size: int) -> bool:
        try:
            stat = (folder / path).stat()
        except FileNotFoundError:
            return False
        return (stat.st_size, int(stat.st_mtime)) == (size, _TIME)

    return all(right(path, size) for path, (size, _) in written.items())


def _cases(packaged: list[Photograph], wallpapers: list[Photograph], size: str, seed: int) -> Iterable[Case]:
    from refinery.corpus import broken, cases

    full = size == "full"
    room = cases.Darkroom([*packaged, *wallpapers], seed)
    stars = ["chelsea", "coffee", "china", "astronaut", "flower", "rocket"]
    small = [*stars, "coins", "camera", "clock_motion", "brick", "hubble_deep_field", "microaneurysms"]
    shown = packaged if full else [p for p in packaged if p.name in small]
    cut = [*stars, "retina", "camera", "ihc", *(p.name for p in wallpapers[::4])] if full else stars[:3]
    return chain(
        cases.photographs(room, shown, wallpapers),
        cases.crops(room, cut),
        cases.names_of_all_kinds(room),
        cases.copies(packaged, stars if full else stars[:2]),
        cases.near_duplicates(room, stars if full else stars[:2], 6 if full else 3),
        cases.quality(room, stars if full else stars[:2], seed),
        cases.orientations(room),
        cases.modes(room),
        cases.extremes(room),
        broken.broken(room, seed),
    )


def _make(folder: Path, before: Mapping[str, Any], cases: list[Case]) -> dict[str, Any]:
    """Write all files into a folder beside, then move those that differ into place: a reader never sees half a file."""
    making = folder.with_name(f".{folder.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    with ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool:
        made = list(pool.map(lambda case: _write(making, case), cases))
    written = {path: row for files, _ in made for path, row in files.items()}
    for path, (_, content) in written.items():
        target = folder / path
        if not target.is_file() or digest(target.read_bytes()) != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            (making / path).replace(target)
        os.utime(target, (_TIME, _TIME))
    for path in before["written"].keys() - written.keys():
        (folder / path).unlink(missing_ok=True)
    shutil.rmtree(making)
    return {
        "written": written,
        "files": {case.path: asdict(file) for case, (_, file) in zip(cases, made, strict=True)},
    }


def _write(folder: Path, case: Case) -> tuple[dict[str, tuple[int, str]], PlantedFile]:
    """Write one picture with its sidecars; returns size and digest of each file written, and the truth about it."""
    stem = str(Path(case.path).with_suffix(""))
    picture = case.make()
    files = {case.path: picture}
    credit = case.photograph.credit if case.photograph and case.credited else None
    if credit is not None:
        about = {
            **credit,
            **({"caption": case.caption} if case.caption and case.kind == "photograph" else {}),
        }
        files[f"{stem}.json"] = json.dumps(about, indent=1, ensure_ascii=False).encode() + b"\n"
    if case.caption and (credit is None or case.kind != "photograph"):
        files[f"{stem}.txt"] = case.caption.encode() + b"\n"
    if case.mask:
        files[f"{stem}.mask.png"] = case.mask()
    for path, data in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    truth = PlantedFile(
        sample_id=digest(picture),
        bytes=len(picture),
        kind=case.kind,
        photograph=case.photograph.name if case.photograph else None,
        near_duplicate_of=case.near_duplicate_of,
        readable=case.readable,
        reason=case.reason,
        caption=case.caption,
        mask=case.mask is not None,
    )
    return {path: (len(data), digest(data)) for path, data in files.items()}, truth
