"""A TCP line to a server that can be cut and mended, and on which answers can be lost."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from tests.tcp_front import Front, end


class Line(Front):
    """Forwards to `server` (an http URL). While it is `deaf`, what the server answers is thrown away; `cut` ends all
    connections and refuses new ones until `mend`."""

    def __init__(self, server: str) -> None:
        super().__init__(server)
        self._open: set[socket.socket] = set()
        self._whole = True
        self.deaf = False

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self.cut()

    def cut(self) -> None:
        """End every connection, and refuse new ones."""
        with self._lock:
            self._whole = False
            end(*self._open)
            self._open.clear()

    def mend(self) -> None:
        """Let connections through again."""
        with self._lock:
            self._whole, self.deaf = True, False

    def _serve(self, client: socket.socket) -> None:
        with self._lock:
            if not self._whole:
                client.close()
                return
            server = socket.create_connection(self._target)
            self._open |= {client, server}
        for source, sink, answers in ((client, server, False), (server, client, True)):
            threading.Thread(target=self._carry, args=(source, sink, answers), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if not (answers and self.deaf):
                    sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
