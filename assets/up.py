"""`make up`: the Dagster UI with its daemon and the viewer of a project, on this machine only (`python -m assets.up --project DIR`)."""

from __future__ import annotations

import argparse
import os
import queue
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import dagster as dg

from assets.instance import dagster_home, end_abandoned_runs
from assets.partitions import know_partitions
from assets.twin import make_twin
from refinery.config import FILE_NAME
from refinery.errors import InputError, RefineryError
from refinery.links import DAGSTER_VARIABLE, VIEWER_VARIABLE
from refinery.project import Refinery
from resources.refinery import PROJECT_VARIABLE

WORKSPACE = Path(__file__).resolve().parent.parent / "workspace.yaml"
_GRACE = 30


def main(argv: list[str] | None = None) -> int:
    """Start, say where, and stay until Ctrl-C or SIGTERM; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m assets.up", description=__doc__)
    parser.add_argument("--project", type=Path, default=Path("demo"), help="a folder with refinery.yaml")
    parser.add_argument("--port", type=int, default=3000, help="where Dagster answers")
    parser.add_argument("--viewer-port", type=int, default=8501, help="where the viewer answers")
    parser.add_argument(
        "--backend",
        choices=("embedded", "real"),
        default="embedded",
        help="real: DIR-real, on S3 and OpenSearch",
    )
    options = parser.parse_args(argv)
    try:
        return serve(_open(options.project.absolute(), options.backend), options.port, options.viewer_port)
    except RefineryError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def _open(folder: Path, backend: str) -> Refinery:
    """The project in `folder`; with the backend `real`, the one in `folder`-real, made from it when there is none."""
    home = folder if backend == "embedded" else folder.with_name(f"{folder.name}-real")
    if (home / FILE_NAME).exists():
        return Refinery.open(home)
    if not folder.is_dir():
        raise InputError(
            f"There is no folder {folder}: `make demo` makes one, or `refinery init {folder}`.",
            kind="no_project",
        )
    if home == folder:
        return Refinery.open(folder)
    print(f"Copying {folder} to the servers, as {home} …", flush=True)
    return make_twin(folder, home, os.environ)


def serve(project: Refinery, port: int, viewer_port: int) -> int:
    """Run Dagster and the viewer as children until one of them ends or this process is told to stop; then both end."""
    home = dagster_home(project.path)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        end_abandoned_runs(instance, home)
        know_partitions(instance, project)
    dagster, viewer = (f"http://127.0.0.1:{number}" for number in (port, viewer_port))
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(home),
        PROJECT_VARIABLE: str(project.path),
        DAGSTER_VARIABLE: os.environ.get(DAGSTER_VARIABLE) or dagster,
        VIEWER_VARIABLE: os.environ.get(VIEWER_VARIABLE) or viewer,
    }
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    children: list[subprocess.Popen[bytes]] = []
    try:
        for command in (_dagster(port), _viewer(project, viewer_port)):
            children.append(
                subprocess.Popen(command, env=environment, cwd=WORKSPACE.parent, start_new_session=True)
            )
        ready = all(
            _answers(child, address)
            for child, address in zip(
                children, (f"{dagster}/server_info", f"{viewer}/_stcore/health"), strict=True
            )
        )
        if ready:
            print(f"The viewer of {project.path} is at {viewer}", flush=True)
            print(f"The Dagster UI of {project.path} is at {dagster} (Ctrl-C stops both)", flush=True)
        return _first(children)
    except KeyboardInterrupt:
        return 0
    finally:
        for child in children:
            _stop(child)


def _dagster(port: int) -> list[str]:
    command = [sys.executable, "-W", "ignore:Function `dev_command` is superseded", "-m", "dagster", "dev"]
    command += ["--workspace", str(WORKSPACE), "--host", "127.0.0.1", "--port", str(port)]
    return [*command, "--log-level", "warning"]


def _viewer(project: Refinery, port: int) -> list[str]:
    command = [sys.executable, "-m", "refinery.cli", "--project", str(project.path)]
    return [*command, "view", "--port", str(port)]


def _answers(child: subprocess.Popen[bytes], url: str) -> bool:
    """Wait until a server answers; False when the child ended before."""
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            try:
                child.wait(0.25)
                return False
            except subprocess.TimeoutExpired:
                continue


def _first(children: Sequence[subprocess.Popen[bytes]]) -> int:
    """Wait until one of the children ends; its exit code."""
    ended: queue.SimpleQueue[int] = queue.SimpleQueue()
    for child in children:
        threading.Thread(target=lambda child=child: ended.put(child.wait()), daemon=True).start()
    return ended.get()


def _stop(child: subprocess.Popen[bytes]) -> None:
    """Ask the child and its children to end, and make sure that they did."""
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
        try:
            child.wait(_GRACE)
        except subprocess.TimeoutExpired:
            child.kill()
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    sys.exit(main())
