"""`make up`: the Dagster UI with its daemon for a project, on this machine only (`python -m assets.up --project DIR`)."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import dagster as dg

from assets.instance import dagster_home, end_abandoned_runs
from assets.partitions import know_partitions
from assets.twin import make_twin
from refinery.config import FILE_NAME
from refinery.errors import InputError, RefineryError
from refinery.project import Refinery
from resources.refinery import PROJECT_VARIABLE

WORKSPACE = Path(__file__).resolve().parent.parent / "workspace.yaml"
_GRACE = 30


def main(argv: list[str] | None = None) -> int:
    """Start, say where, and stay until Ctrl-C or SIGTERM; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m assets.up", description=__doc__)
    parser.add_argument("--project", type=Path, default=Path("demo"), help="a folder with refinery.yaml")
    parser.add_argument("--port", type=int, default=3000)
    parser.add_argument(
        "--backend",
        choices=("embedded", "real"),
        default="embedded",
        help="real: DIR-real, on S3 and OpenSearch",
    )
    options = parser.parse_args(argv)
    try:
        return serve(_open(options.project.absolute(), options.backend), options.port)
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


def serve(project: Refinery, port: int) -> int:
    """Run webserver and daemon as children until they end or this process is told to stop."""
    home = dagster_home(project.path)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        end_abandoned_runs(instance, home)
        know_partitions(instance, project)
    command = [sys.executable, "-W", "ignore:Function `dev_command` is superseded", "-m", "dagster", "dev"]
    command += [
        "--workspace",
        str(WORKSPACE),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--log-level",
        "warning",
    ]
    environment = {**os.environ, "DAGSTER_HOME": str(home), PROJECT_VARIABLE: str(project.path)}
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    child = subprocess.Popen(command, env=environment, cwd=WORKSPACE.parent, start_new_session=True)
    try:
        if _answers(child, f"http://127.0.0.1:{port}/server_info"):
            print(
                f"The Dagster UI of {project.path} is at http://127.0.0.1:{port} (Ctrl-C stops it)",
                flush=True,
            )
        return child.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        _stop(child)


def _answers(child: subprocess.Popen[bytes], url: str) -> bool:
    """Wait until the webserver answers; False when the child ended before."""
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
