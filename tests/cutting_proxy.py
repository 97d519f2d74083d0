"""A TCP front for a server that breaks connections in the middle of an answer."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit


class CuttingProxy:
    """Forwards to `server` (an http URL). While `cuts` is above zero, a connection is closed as soon as it has carried
    `after` bytes of answers (0: as it has carried the head of one), and `cuts` goes down by one."""

    def __init__(self, server: str, *, after: int, cuts: int) -> None:
        parts = urlsplit(server)
        self._target = (parts.hostname or "", parts.port or 80)
        self._after = after
        self._lock = threading.Lock()
        self.cuts = cuts
        self.carried = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> CuttingProxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            for work in (self._up, self._down):
                threading.Thread(target=work, args=(client, server), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 16):
                server.sendall(data)
        _end(client, server)

    def _down(self, client: socket.socket, server: socket.socket) -> None:
        carried = 0
        with suppress(OSError):
            while data := server.recv(1 << 16):
                carried += len(data)
                with self._lock:
                    cut = carried > self._after and self.cuts > 0
                    self.cuts -= cut
                    self.carried += len(data)
                if cut:
                    head, end, _ = data.partition(b"\r\n\r\n")
                    client.sendall(data[: len(data) // 2] if self._after else head + end)
                    break
                client.sendall(data)
        _end(client, server)


def _end(*connections: socket.socket) -> None:
    for connection in connections:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()
