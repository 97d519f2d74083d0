"""The house rules that a machine can check: which way imports point, what they cost, and what no file may say."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
# What each part may import of the others: `ui, assets → resources → refinery → datago`.
BELOW = {
    "datago": set[str](),
    "refinery": {"datago"},
    "resources": {"refinery", "datago"},
    "assets": {"resources", "refinery", "datago"},
    "ui": {"resources", "refinery", "datago"},
    "deploy": set[str](),
}
FRAMEWORKS = {"dagster", "streamlit"}
SLOW = {
    "torch",
    "lancedb",
    "open_clip",
    "timm",
    "sklearn",
    "skimage",
    "scipy",
    "pandas",
    "boto3",
    *FRAMEWORKS,
}
MOST_LINES = 420


def tracked(*suffixes: str) -> list[Path]:
    """The files of the checkout that git tracks or would track, by suffix."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    paths = [ROOT / name for name in listing.stdout.split("\0") if name]
    return [path for path in paths if path.is_file() and (not suffixes or path.suffix in suffixes)]


def imports_of(path: Path) -> Iterator[str]:
    """The top-level names that a file imports from outside its own package, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


def loaded_by(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after running `code`."""
    program = f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("part", BELOW)
def test_imports_point_one_way(part: str) -> None:
    others = BELOW.keys() - {part}
    for path in tracked(".py", ".pyi"):
        if path.relative_to(ROOT).parts[0] == part:
            wrong = set(imports_of(path)) & (others - BELOW[part])
            assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


@pytest.mark.parametrize("part", ["datago", "refinery"])
def test_the_library_knows_no_framework(part: str) -> None:
    for path in tracked(".py", ".pyi"):
        if path.relative_to(ROOT).parts[0] == part:
            wrong = set(imports_of(path)) & FRAMEWORKS
            assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


@pytest.mark.parametrize("module", ["refinery", "refinery.cli"])
def test_the_library_and_its_command_start_light(module: str) -> None:
    loaded = loaded_by(f"import {module}")
    assert not loaded & {*SLOW, "pyarrow.dataset", "matplotlib", "PIL.Image", "sqlglot.dialects.snowflake"}


def test_no_module_of_the_library_loads_a_slow_one_before_it_is_used() -> None:
    walk = (
        "import importlib, pkgutil, refinery\n"
        "for found in pkgutil.walk_packages(refinery.__path__, 'refinery.'):\n"
        "    if not found.name.endswith('__main__'):\n"
        "        importlib.import_module(found.name)"
    )
    assert not loaded_by(walk) & SLOW


def test_no_file_is_too_long_to_read() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in tracked(".py", ".pyi", ".rs", ".sh", ".ts", ".js")
        if (lines := path.read_text(encoding="utf-8").count("\n")) > MOST_LINES
    }
    assert not long


def test_no_file_names_a_folder_of_somebodys_machine() -> None:
    folder = re.compile(r"(?<![\w.:/])/(?:home|root|Users|work)/[\w.]")
    found = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:  # a picture
            continue
        found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in folder.finditer(text)]
    assert not found


def test_the_build_names_no_package_host() -> None:
    host = re.compile(r"://|pypi\.|pythonhosted|(?<!emit-)index-url|find-links")
    for name in (
        "requirements.lock",
        "pyproject.toml",
        "Makefile",
        "deploy/setup.sh",
        "deploy/lib.sh",
        "deploy/peers.sh",
        "benchmarks/peers.lock",
    ):
        assert not host.search((ROOT / name).read_text(encoding="utf-8")), name


def test_the_lock_pins_and_hashes_everything_the_project_asks_for() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pinned: dict[str, list[str]] = {}
    for entry in re.split(r"\n(?=\S)", lock):
        pin = re.match(r"([A-Za-z0-9._-]+)==(\S+)", entry)
        assert pin, entry
        name, release = pin.groups()
        assert "--hash=sha256:" in entry, name
        pinned.setdefault(canonicalize_name(name), []).append(release)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    for requirement in map(Requirement, asked):
        releases = pinned.get(canonicalize_name(requirement.name), [])
        assert any(requirement.specifier.contains(release) for release in releases), str(requirement)


def test_make_help_lists_every_target_that_people_use() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    parts = {"python-checks", "rust-checks", "rust-tests", "python-tests"}
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    listed = set(re.findall(r"^  ([a-z-]+) ", shown, re.MULTILINE))
    assert listed == targets - parts
    assert listed >= {"demo", "test", "check", "bench", "nightly", "up", "clean"}


def test_what_decides_about_a_change_is_make_test_alone() -> None:
    lines = (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    commands = [line for line in lines if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == ["exec make test </dev/null"]
