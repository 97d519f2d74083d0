"""OpenSearch with k-NN, one node."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from deploy.services.errors import ServiceError
from deploy.services.install import opensearch_home
from deploy.services.java import find_java
from deploy.services.process import ServerProcess, answers, free_port
from deploy.services.server import Server

# Lines of the distribution's jvm.options that this module says itself: heap, and files below the installation.
_OURS = re.compile(r"-Xm[sx]|logs/|HeapDump")


class OpenSearchServer(Server):
    """One node of OpenSearch.

    `heap` is the size of Java's, as Java writes it. `settings` are entries of opensearch.yml that add to ours or
    override them, by their full name: `{"thread_pool.write.queue_size": 1}`. `quick` starts in half the time, because
    Java then optimizes little, and searches slower: for tests.
    """

    name = "OpenSearch"

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        *,
        heap: str = "1g",
        settings: Mapping[str, object] | None = None,
        quick: bool = False,
    ) -> None:
        super().__init__(folder, port)
        self.heap = heap
        self.quick = quick
        self.settings = dict(settings or {})

    def _launch(self, port: int) -> ServerProcess:
        home, java = opensearch_home(), find_java()
        folders = {name: self.folder / name for name in ("config", "data", "logs", "tmp")}
        for folder in folders.values():
            folder.mkdir(exist_ok=True)
        self._configure(home, port)
        environment = {
            "OPENSEARCH_JAVA_HOME": str(java),
            "OPENSEARCH_JAVA_OPTS": "",
            "OPENSEARCH_HOME": str(home),
            "OPENSEARCH_PATH_CONF": str(folders["config"]),
            "OPENSEARCH_TMPDIR": str(folders["tmp"]),
        }
        return ServerProcess([*_as_somebody(), home / "bin/opensearch"], self.log, environment)

    def _configure(self, home: Path, port: int) -> None:
        config = self.folder / "config"
        for name in ("log4j2.properties", "fips_java.security"):
            shutil.copyfile(home / "config" / name, config / name)
        settings = {
            "cluster.name": "refinery",
            "node.name": "node",
            "discovery.type": "single-node",
            "network.host": "127.0.0.1",
            "http.port": port,
            "transport.port": free_port(),
            "path.data": str(self.folder / "data"),
            "path.logs": str(self.folder / "logs"),
            # a disk that others have filled is no reason to refuse writes
            "cluster.routing.allocation.disk.threshold_enabled": False,
            **self.settings,
        }
        lines = [f"{name}: {json.dumps(value)}\n" for name, value in settings.items()]
        (config / "opensearch.yml").write_text("".join(lines), encoding="utf-8")
        theirs = (home / "config/jvm.options").read_text(encoding="utf-8").splitlines()
        options = [line for line in theirs if line and not line.startswith("#") and not _OURS.search(line)]
        options += [
            f"-Xms{self.heap}",
            f"-Xmx{self.heap}",
            f"-XX:ErrorFile={self.folder}/logs/hs_err_pid%p.log",
        ]
        if self.quick:
            options.append("-XX:TieredStopAtLevel=1")
        (config / "jvm.options").write_text("\n".join(options) + "\n", encoding="utf-8")

    def _ready(self, port: int) -> bool:
        return answers(port, "/_cluster/health?wait_for_status=yellow&timeout=1s")


def _as_somebody() -> list[str]:
    """What stands before the command of a server that refuses to run as root: nothing, unless we are root.

    Then it runs as the user nobody, with one right of root's left: to reach files whoever owns them, since the folders of
    root, the installation among them, are closed to others.
    """
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise ServiceError(
            "OpenSearch refuses to run as root, and setpriv (util-linux) is not here: be another user."
        )
    rights = "-all,+dac_override"
    return [
        *(setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"),
        *(f"--bounding-set={rights}", f"--inh-caps={rights}", f"--ambient-caps={rights}"),
        "--securebits=+no_setuid_fixup",  # otherwise access(2) would not know of it
    ]
