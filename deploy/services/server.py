"""What the servers have in common: a folder, a port that stays, and start, kill and stop."""

from __future__ import annotations

import abc
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.services.errors import ServiceError
from deploy.services.process import ServerProcess, free_port, is_free

_TRIES = 5


class Server(abc.ABC):
    """A server that keeps everything it writes below `folder`.

    `port` None chooses a free one at the first start; from then on it stays, over kills and starts, as the data do.
    """

    name: str
    deadline = 180.0
    """Seconds until it must answer after a start."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = Path(folder).absolute()
        self.log = self.folder / "log"
        self._port = port
        self._process: ServerProcess | None = None

    @property
    def port(self) -> int:
        """The port that it answers on; ServiceError before the first start."""
        if self._port is None:
            raise ServiceError(f"{self.name} has no port before its first start.")
        return self._port

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        """Whether it was started and neither killed nor stopped since."""
        return self._process is not None

    def start(self) -> None:
        """Start it on its data, and return when it answers. Nothing happens when it runs already."""
        if self._process is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for tries in range(_TRIES):
            port = free_port() if self._port is None else self._port
            if not is_free(port):
                raise ServiceError(
                    f"{self.name} is to listen on 127.0.0.1:{port}, but somebody else does: end that."
                )
            process = self._launch(port)
            try:
                process.await_ready(self.name, lambda port=port: self._ready(port), self.deadline)  # type: ignore[misc]
            except ServiceError:
                if "in use" in process.said() and tries < _TRIES - 1:  # taken by another since we looked
                    continue
                raise
            except BaseException:
                process.kill()
                raise
            self._port, self._process = port, process
            return

    def kill(self) -> None:
        """End it as a crash would (SIGKILL); its data stay."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()

    def stop(self) -> None:
        """End it in order; its data stay."""
        process, self._process = self._process, None
        if process is not None:
            process.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @abc.abstractmethod
    def _launch(self, port: int) -> ServerProcess:
        """Start the process, listening on 127.0.0.1:port."""

    @abc.abstractmethod
    def _ready(self, port: int) -> bool:
        """Whether it serves."""
