"""Real photographs that ship in installable packages, each with its author and licence.

From PyPI: scikit-image's and scikit-learn's sample pictures (public domain, CC0, CC-BY). From Debian, where installed:
the wallpapers of GNOME, MATE and KDE Plasma (free licences, read from the packages themselves).
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from refinery.errors import ConfigError

_CC0, _PUBLIC, _BY = "CC0-1.0", "public domain", "CC-BY-2.0"


@dataclass(frozen=True, slots=True)
class Photograph:
    """A picture as its package ships it: where it lies, what it shows, and whom to credit."""

    name: str
    path: Path
    licence: str
    author: str
    caption: str

    @property
    def credit(self) -> dict[str, str]:
        """What a sidecar says about it."""
        return {"author": self.author, "licence": self.licence}


# Licences as the docstrings of skimage.data and the README beside scikit-learn's pictures state them. Pictures of theirs
# without a stated licence are left out.
_SKIMAGE = (
    ("astronaut.png", _PUBLIC, "NASA", "The astronaut Eileen Collins in an orange space suit, smiling."),
    ("chelsea.png", _CC0, "Stefan van der Walt", "Chelsea, a ginger tabby cat, looking at the camera."),
    ("coffee.png", _CC0, "Rachel Michetti", "A cup of coffee on a saucer with a spoon, on a wooden table."),
    ("rocket.jpg", _PUBLIC, "SpaceX", "A Falcon 9 rocket lifts off with DSCOVR at Cape Canaveral."),
    (
        "hubble_deep_field.jpg",
        _PUBLIC,
        "NASA",
        "Galaxies in the eXtreme Deep Field of the Hubble telescope.",
    ),
    ("retina.jpg", _CC0, "Mikael Häggström", "The retina of a human left eye."),
    ("coins.png", "no known copyright restrictions", "Brooklyn Museum", "Greek coins found in Pompeii."),
    ("camera.png", _CC0, "Lav Varshney", "A man with a film camera on a tripod, in grey."),
    ("brick.png", _CC0, "CC0Textures", "A brick wall, in grey."),
    ("grass.png", _CC0, "linolafett", "Grass seen from above, in grey."),
    ("gravel.png", _CC0, "CC0Textures", "Gravel, in grey."),
    ("clock_motion.png", _PUBLIC, "Stefan van der Walt", "A wall clock blurred by the camera's motion."),
    ("ihc.png", "no known copyright restrictions", "CMMI", "Stained colonic glands under a microscope."),
    ("cell.png", _CC0, "Paul Müller", "A cell floating in saline, as a phase image."),
    ("microaneurysms.png", _CC0, "Andreas Maier", "Detail of a retina with lesions, in grey."),
    ("horse.png", _CC0, "Andreas Preuss", "The black silhouette of a horse."),
)
_SKLEARN = (
    (
        "china.jpg",
        _BY,
        "danielbuechele (flickr.com/photos/danielbuechele)",
        "A Chinese temple at the water's edge.",
    ),
    ("flower.jpg", _BY, "vultilion (flickr.com/photos/vultilion)", "A dahlia in bloom before dark leaves."),
)


def packaged() -> list[Photograph]:
    """The photographs of scikit-image and scikit-learn, always in the same order. ConfigError when these are missing."""
    found = []
    for package, folder, rows in (("skimage", "data", _SKIMAGE), ("sklearn", "datasets/images", _SKLEARN)):
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError(
                f"The demo's photographs come with {package}, which is not installed: pip install 'image-refinery[demo]'.",
                kind="missing_package",
            )
        base = Path(spec.submodule_search_locations[0]) / folder
        found += [
            Photograph(Path(file).stem, base / file, licence, author, caption)
            for file, licence, author, caption in rows
        ]
    return found


def wallpapers(share: Path = Path("/usr/share")) -> tuple[list[Photograph], list[str]]:
    """The wallpapers found below `share`, and the names of the Debian packages that would bring more."""
    kinds = {
        "gnome-backgrounds": _gnome,
        "mate-backgrounds": _mate,
        "plasma-workspace-wallpapers": _plasma,
    }
    found = {package: list(find(share)) for package, find in kinds.items()}
    return [p for group in found.values() for p in group], [
        name for name, group in found.items() if not group
    ]


def _gnome(share: Path) -> Iterator[Photograph]:
    for path in sorted((share / "backgrounds/gnome").glob("*-l.webp")):
        name = path.stem.removesuffix("-l")
        if name == "vnc":  # a single colour
            continue
        author, licence = (
            ("Jakub Steiner", "CC-BY-SA-3.0")
            if name == "adwaita"
            else ("GNOME Backgrounds", "GPL-2.0-or-later")
        )
        yield Photograph(f"gnome {name}", path, licence, author, f"The GNOME wallpaper {name}.")


_MATE = [
    "nature/*.jpg",
    "abstract/Elephants.jpg",
    "abstract/Flow.png",
    "abstract/Gulp.png",
    "desktop/Float-into-MATE.png",
    "desktop/GreenTraditional.jpg",
    "desktop/Stripes.png",
    "desktop/Ubuntu-Mate-Cold-no-logo.png",
]


def _mate(share: Path) -> Iterator[Photograph]:
    base = share / "backgrounds/mate"
    credits = _copyright(share / "doc/mate-backgrounds/copyright")
    for path in sorted(path for pattern in _MATE for path in base.glob(pattern)):
        author, licence = "MATE Backgrounds", "GPL-2.0-or-later"
        for pattern, credit in credits.items():
            if fnmatch(path.relative_to(base).as_posix(), pattern):
                author, licence = credit
        words = re.sub(r"[-_]|(?<=[a-z])(?=[A-Z])", " ", path.stem)
        yield Photograph(f"mate {path.stem}", path, licence, author, f"The MATE wallpaper {words}.")


def _copyright(path: Path) -> dict[str, tuple[str, str]]:
    """Author and licence by file pattern (the last that matches counts) from a machine-readable Debian copyright file (DEP 5); empty when it is not there."""
    if not path.is_file():
        return {}
    credits = {}
    for paragraph in path.read_text(encoding="utf-8").split("\n\n"):
        fields = {name: lines for name, *lines in map(_field, re.split(r"\n(?=\S)", paragraph.strip("\n")))}
        people = [re.sub(r"^[\d, -]*|\s*<.*", "", line).strip('"') for line in fields.get("Copyright", [])]
        licence = "".join(fields.get("License", [])[:1]).replace("GPL-2+", "GPL-2.0-or-later")
        for pattern in " ".join(fields.get("Files", [])).split():
            credits[pattern] = (", ".join(people), licence)
    return credits


def _field(text: str) -> list[str]:
    """The name of a field of a Debian control file, then its lines, stripped and without empty ones."""
    name, _, value = text.partition(":")
    return [name, *(line.strip() for line in value.split("\n") if line.strip())]


def _plasma(share: Path) -> Iterator[Photograph]:
    for folder in sorted((share / "wallpapers").glob("*/contents/images")):
        about = folder.parent.parent / "metadata.json"
        pictures = [p for p in folder.iterdir() if re.fullmatch(r"\d+x\d+\.(jpg|png)", p.name)]
        if not pictures or not about.is_file():
            continue
        plugin = json.loads(about.read_text(encoding="utf-8"))["KPlugin"]
        widest = max(pictures, key=lambda p: (int(p.name.split("x")[0]), p.name))
        name = folder.parent.parent.name
        author = (
            ", ".join(person["Name"] for person in plugin.get("Authors", [])) or "KDE Visual Design Group"
        )
        licence = plugin.get("License", "GPL-2.0-or-later").replace("LGPLv3", "LGPL-3.0")
        yield Photograph(
            f"plasma {name}", widest, licence, author, f"The KDE Plasma wallpaper {plugin['Name']}."
        )
