"""Which file belongs to which, told by names alone: samples, their sidecars and their payloads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

IMAGE_EXTENSIONS = (
    *(
        "jpg",
        "jpeg",
        "jpe",
        "jfif",
        "png",
        "webp",
        "avif",
        "heic",
        "heif",
        "jxl",
        "tif",
        "tiff",
        "bmp",
        "gif",
    ),
    *(
        "jp2",
        "j2k",
        "ppm",
        "pgm",
        "pbm",
        "pnm",
        "qoi",
        "tga",
        "ico",
        "exr",
        "hdr",
        "psd",
        "dng",
        "cr2",
        "nef",
        "arw",
    ),
)
"""Extensions of images, in the order in which one of several images under one tar key is taken as the sample."""
SIDECAR_EXTENSIONS = ("txt", "json")
TENSOR_EXTENSIONS = ("npy", "npz", "pt", "safetensors")
_MASK_WORDS = ("mask", "masks", "seg", "segmentation", "matte")
_RANK = {extension: rank for rank, extension in enumerate(IMAGE_EXTENSIONS)}


@dataclass(slots=True)
class Group:
    """One sample's names: its own, its sidecars', its payloads' as (payload name, is_mask, name)."""

    main: str
    sidecars: list[str] = field(default_factory=list)
    payloads: list[tuple[str, bool, str]] = field(default_factory=list)

    def attach(self, payload: str, name: str, spare: str) -> None:
        """Attach `name` as `payload`, or as `spare` when the sample has a payload of that name."""
        taken = {p for p, _, _ in self.payloads}
        self.payloads.append((spare if payload in taken else payload, is_mask(payload), name))


def split_extension(name: str) -> tuple[str, str]:
    """A file name's stem, and its extension in lower case without the dot ('' when it has none)."""
    stem, dot, extension = name.rpartition(".")
    return (stem, extension.lower()) if dot and stem else (name, "")


def is_mask(word: str) -> bool:
    """Whether a payload's name says that it is a mask: mask, seg, face_mask…"""
    return word.lower().replace("-", "_").rpartition("_")[2] in _MASK_WORDS


def group_folder(names: Iterable[str]) -> list[Group]:
    """The files of one folder as samples, in order of name; every name is in exactly one place, or in several groups'.

    Beside an image `a.jpg`: `a.txt`, `a.json`, `a.jpg.txt` and `a.jpg.json` are sidecars; `a.mask.png`, `a.latent.npy`
    and `a.npy` are payloads `mask`, `latent` and `npy`. They belong to every image of that stem. All else is a sample.
    """
    ordered = sorted(names, key=lambda name: (len(name), name))
    by_stem: dict[str, list[Group]] = {}
    groups: list[Group] = []
    rest: list[str] = []
    for name in ordered:
        stem, extension = split_extension(name)
        if extension not in _RANK:
            rest.append(name)
            continue
        owner, word = split_extension(stem)
        if word and is_mask(word) and owner in by_stem:
            for group in by_stem[owner]:
                group.attach(word, name, f"{word}.{extension}")
            continue
        group = Group(name)
        groups.append(group)
        for key in (stem, name):
            by_stem.setdefault(key, []).append(group)
    for name in rest:
        stem, extension = split_extension(name)
        owner, word = split_extension(stem)
        if extension in SIDECAR_EXTENSIONS and stem in by_stem:
            for group in by_stem[stem]:
                group.sidecars.append(name)
        elif extension in TENSOR_EXTENSIONS and stem in by_stem:
            for group in by_stem[stem]:
                group.attach(extension, name, f"{extension}.{extension}")
        elif extension in TENSOR_EXTENSIONS and word and owner in by_stem:
            for group in by_stem[owner]:
                group.attach(word, name, f"{word}.{extension}")
        else:
            groups.append(Group(name))
    return sorted(groups, key=lambda group: group.main)


def split_key(name: str) -> tuple[str, str]:
    """A tar member's WebDataset key and extension: the base name splits at its first dot, `a/b.mask.png` → `a/b`, `mask.png`."""
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return f"{folder}{slash}{stem}", extension.lower()


def group_key(members: dict[str, str]) -> list[Group]:
    """The members of one tar key (extension → member) as samples.

    The sample is the first image in the order of IMAGE_EXTENSIONS, plain extensions (`jpg`) before named ones
    (`input.jpg`), never a mask; `txt` and `json` are its sidecars, everything else is its payload: `mask.png` → mask,
    `cls` → cls, a second image `png` → png. Without an image every member is a sample of its own.
    """
    images = [e for e in members if _last(e) in _RANK and not is_mask(e.rpartition(".")[0])]
    if not images:
        return [Group(members[extension]) for extension in sorted(members)]
    main = min(images, key=lambda e: ("." in e, _RANK[_last(e)], e))
    group = Group(members[main])
    for extension in sorted(members):
        if extension == main:
            continue
        if extension in SIDECAR_EXTENSIONS:
            group.sidecars.append(members[extension])
        else:
            group.attach(extension.rpartition(".")[0] or extension or "file", members[extension], extension)
    return [group]


def _last(extension: str) -> str:
    return extension.rpartition(".")[2]
