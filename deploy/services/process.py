"""A server's process: bound to the life of ours, killed or stopped whole, with its log at hand."""

from __future__ import annotations

import http.client
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from deploy.services.errors import ServiceError

_PORTS = range(15_000, 32_000)
"""Below the ports that systems give to outgoing connections: a client that keeps trying a dead server's port would
sooner or later be given it, and the server could not come back."""
_PATIENCE = 30.0


class Watchdog:
    """A tiny process that runs a line of shell when this process is gone, however it went.

    What it is told before, one line, the shell has as `$told`.
    """

    def __init__(self, line: str) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", f"read told; read _; {line}"],
            stdin=subprocess.PIPE,  # the end that we hold closes with us
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )

    @property
    def group(self) -> int:
        """The process group that the watchdog leads."""
        return self._process.pid

    def tell(self, line: str) -> None:
        """Tell it a line; a child may do so before it becomes another program."""
        assert self._process.stdin is not None
        os.write(self._process.stdin.fileno(), f"{line}\n".encode())

    def end(self) -> None:
        """Kill the watchdog and all of its group."""
        os.killpg(self.group, signal.SIGKILL)
        self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()


class ServerProcess:
    """A running server. It shares a process group with a watchdog that kills the group when we are gone."""

    def __init__(self, command: Sequence[str | Path], log: Path, environment: Mapping[str, str]) -> None:
        self.log = log
        self._watchdog = Watchdog("kill -9 0")
        try:
            with log.open("ab") as out:
                self._from = out.tell()
                self._process = subprocess.Popen(
                    command,
                    env={**os.environ, **environment},
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    process_group=self._watchdog.group,
                )
        except BaseException:
            self._watchdog.end()
            raise

    def kill(self) -> None:
        """As a crash would end it: SIGKILL, and back when it is gone."""
        self._watchdog.end()
        self._process.wait()

    def stop(self) -> None:
        """Ask it to end, and kill it when it does not."""
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.kill()

    def await_ready(self, name: str, ready: Callable[[], bool], deadline: float) -> None:
        """Return when `ready()`. ServiceError, with the end of the log, when the process ends before or after `deadline`
        seconds; the process is gone then."""
        until = time.monotonic() + deadline
        while not ready():
            if (code := self._process.poll()) is not None:
                self.kill()
                raise ServiceError(
                    f"{name} ended with exit code {code} while it started.{self._end_of_log()}"
                )
            if time.monotonic() > until:
                self.kill()
                raise ServiceError(f"{name} did not answer within {deadline:.0f} s.{self._end_of_log()}")
            time.sleep(0.1)

    def said(self) -> str:
        """What it has written to its log since it was started."""
        with self.log.open("rb") as file:
            file.seek(self._from)
            return file.read().decode(errors="replace")

    def _end_of_log(self) -> str:
        return f" The end of {self.log}:\n" + "\n".join(self.said().splitlines()[-25:])


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at this moment."""
    for _ in range(100):
        port = random.choice(_PORTS)
        if is_free(port):
            return port
    raise ServiceError(f"No free port between {_PORTS.start} and {_PORTS.stop} on 127.0.0.1 in 100 tries.")


def is_free(port: int) -> bool:
    """Whether one could listen on 127.0.0.1:port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def answers(port: int, path: str) -> bool:
    """Whether GET of a path on 127.0.0.1:port is answered with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
