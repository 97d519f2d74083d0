"""Finds the Java that OpenSearch runs on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from deploy.services.errors import ServiceError

_LEAST = 21
_TRIED = 25  # OpenSearch's agent rewrites classes and may not know those of a later Java


def find_java() -> Path:
    """The home of a Java that OpenSearch can use: what OPENSEARCH_JAVA_HOME says, else the newest up to 25 on this
    machine, else a later one. ServiceError when there is none."""
    if named := os.environ.get("OPENSEARCH_JAVA_HOME"):
        return Path(named)
    homes = {home: version for home in _homes() if (version := _version(home)) >= _LEAST}
    if not homes:
        raise ServiceError(
            f"OpenSearch needs Java {_LEAST} or newer, and there is none in JAVA_HOME, /usr/lib/jvm or PATH: install "
            "one (Debian 13 and Ubuntu have openjdk-21-jre-headless; a Temurin JDK unpacked anywhere will do) and name "
            "its folder in OPENSEARCH_JAVA_HOME."
        )
    return max(homes, key=lambda home: (homes[home] <= _TRIED, homes[home], str(home)))


def _homes() -> Iterator[Path]:
    if named := os.environ.get("JAVA_HOME"):
        yield Path(named)
    yield from sorted(Path("/usr/lib/jvm").glob("*"))
    yield from sorted(Path("/Library/Java/JavaVirtualMachines").glob("*/Contents/Home"))
    if found := shutil.which("java"):
        yield Path(found).resolve().parent.parent


def _version(home: Path) -> int:
    """The major version of the Java in a folder; 0 when there is none."""
    try:
        said = subprocess.run(
            [home / "bin/java", "-version"], capture_output=True, text=True, check=False
        ).stderr
    except OSError:
        return 0
    version = re.search(r'version "(\d+)', said)
    return int(version.group(1)) if version else 0
