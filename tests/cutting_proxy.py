"""A TCP front for a server that breaks connections in the middle of an answer."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from tests.tcp_front import Front, end


class CuttingProxy(Front):
    """Forwards to `server` (an http URL). While `cuts` is above zero, a connection is closed as soon as it has carried
    `after` bytes of answers (0: as it has carried the head of one), and `cuts` goes down by one."""

    def __init__(self, server: str, *, after: int, cuts: int) -> None:
        super().__init__(server)
        self._after = after
        self.cuts = cuts
        self.carried = 0

    def _serve(self, client: socket.socket) -> None:
        server = socket.create_connection(self._target)
        for work in (self._up, self._down):
            threading.Thread(target=work, args=(client, server), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 16):
                server.sendall(data)
        end(client, server)

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
                    head, blank, _ = data.partition(b"\r\n\r\n")
                    client.sendall(data[: len(data) // 2] if self._after else head + blank)
                    break
                client.sendall(data)
        end(client, server)
