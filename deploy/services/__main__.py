"""`python -m deploy.services`: install OpenSearch and MinIO, run a command beside them, or keep them up.

install                            install both, once per user
installed                          exit code 0 when both are there
java                               print the Java that OpenSearch would use
run [--data DIR] -- COMMAND…       run a command beside both; its exit code
up --data DIR                      keep both up, with data that last, until Ctrl-C
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import NoReturn

from deploy.services import install
from deploy.services.errors import ServiceError
from deploy.services.java import find_java
from deploy.services.process import Watchdog
from deploy.services.servers import Servers, keep_logs, missing, scratch_folder

_GRACE = 30.0


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.services",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("install", "installed", "java"):
        commands.add_parser(name)
    run_parser = commands.add_parser("run")
    up_parser = commands.add_parser("up")
    for sub in (run_parser, up_parser):
        sub.add_argument("--heap", default="1g", help="memory of OpenSearch's Java (default 1g)")
        sub.add_argument("--data", type=Path, required=sub is up_parser, help="a folder whose data last")
    run_parser.add_argument("words", nargs="+", metavar="COMMAND")
    options = parser.parse_args(arguments)
    try:
        match options.command:
            case "install":
                install.opensearch_home()
                install.minio_binary()
                return 0
            case "installed":
                return 0 if install.is_installed() else 1
            case "java":
                print(find_java())
                return 0
            case "run":
                return run(options.words, options.data, options.heap)
            case _:
                return up(options.data, options.heap)
    except ServiceError as error:
        print(f"✗ {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def run(command: Sequence[str], data: Path | None, heap: str) -> int:
    """Run a command beside both servers; its exit code.

    With `data` they keep their data there, and the command finds them as boto3 and the refinery do. Without, their data
    are thrown away, the command finds them as the tests do, and a server that the environment names already is used as
    it is.
    """
    with _ended_by_signals():
        if data is not None:
            servers = Servers.lasting(data, heap=heap)
            try:
                with _said("starting OpenSearch and MinIO"):
                    servers.start()
                return _run(command, servers.for_clients())
            finally:
                servers.stop()
        wanted = missing(os.environ)
        with scratch_folder() if any(wanted) else nullcontext(Path()) as folder:
            servers = Servers(folder, heap=heap, quick=True)
            ours = [
                s
                for s, is_missing in zip((servers.opensearch, servers.s3), wanted, strict=True)
                if is_missing
            ]
            code = 1
            try:
                with _said(f"starting {' and '.join(s.name for s in ours)}") if ours else nullcontext():
                    for server in ours:
                        server.start()
                code = _run(command, servers.for_tests())
            finally:
                servers.kill()
                if code and ours:
                    print(f"· the servers' logs are in {keep_logs(folder)}", file=sys.stderr, flush=True)
        return code


def up(data: Path, heap: str) -> int:
    """Keep both servers up on their data until this process is told to stop."""
    with _ended_by_signals():
        servers = Servers.lasting(data, heap=heap)
        try:
            with _said("starting OpenSearch and MinIO"):
                servers.start()
            print(
                f"OpenSearch is at {servers.opensearch_url}, S3 at {servers.s3.endpoint} (Ctrl-C stops both)"
            )
            print(f"A shell finds them after: set -a; . {data}/environment; set +a", flush=True)
            threading.Event().wait()
        except KeyboardInterrupt:
            return 0
        finally:
            servers.stop()
    return 0


def _run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command to its end. It ends with us, whatever ends us."""
    watchdog = Watchdog('[ -z "$told" ] || kill "$told"')
    try:
        # the child names itself before it is the command: there is no moment at which nobody watches it
        child = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            preexec_fn=lambda: watchdog.tell(str(os.getpid())),
        )
    except OSError as error:
        watchdog.end()
        raise ServiceError(f"{command[0]} cannot be run: {error.strerror}.") from None
    try:
        return _wait(child)
    except KeyboardInterrupt:  # a terminal has told the child, too
        return _wait_or(child.terminate, child)
    except SystemExit:
        child.terminate()
        _wait_or(child.kill, child)
        raise
    finally:
        watchdog.end()


def _wait(child: subprocess.Popen[bytes], seconds: float | None = None) -> int:
    """The exit code of a child as a shell gives it; TimeoutExpired after `seconds`.

    The child is left for the next call to find: `Popen.wait` forgets the status, and says 0, when a signal's exception
    comes between the end of the child and the note of it.
    """
    until = None if seconds is None else time.monotonic() + seconds
    how = os.WEXITED | os.WNOWAIT | (0 if until is None else os.WNOHANG)
    while (found := os.waitid(os.P_PID, child.pid, how)) is None:
        if until is not None and time.monotonic() > until:
            raise subprocess.TimeoutExpired(child.args, seconds or 0)
        time.sleep(0.05)
    return found.si_status if found.si_code == os.CLD_EXITED else 128 + found.si_status


def _wait_or(otherwise: Callable[[], None], child: subprocess.Popen[bytes]) -> int:
    """Wait for a child that was told to end. When it takes too long, or we are told again: `otherwise`, and its end."""
    try:
        return _wait(child, _GRACE)
    except (subprocess.TimeoutExpired, KeyboardInterrupt, SystemExit):
        otherwise()
        try:
            return _wait(child, _GRACE)
        finally:
            child.kill()


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP unwind what runs here, as Ctrl-C does."""

    def leave(number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    former = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def _said(label: str) -> Iterator[None]:
    """One line with the time that it took, as the other parts of `make` print it."""
    print(f"· {label} … ", end="", flush=True)
    started = time.monotonic()
    try:
        yield
    except BaseException:
        print("failed", flush=True)
        raise
    print(f"{time.monotonic() - started:.0f}s", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
