"""A TCP line to a server that can be cut and mended, and on which answers can be lost."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit


class Line:
    """Forwards to `server` (an http URL). While it is `deaf`, what the server answers is thrown away; `cut` ends all
    connections and refuses new ones until `mend`."""

    def __init__(self, server: str) -> None:
        parts = urlsplit(server)
        self._target = (parts.hostname or "", parts.port or 80)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._whole = True
        self.deaf = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Line:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """End every connection, and refuse new ones."""
        with self._lock:
            self._whole = False
            for end in self._open:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
            self._open.clear()

    def mend(self) -> None:
        """Let connections through again."""
        with self._lock:
            self._whole, self.deaf = True, False

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if not self._whole:
                    client.close()
                    continue
                server = socket.create_connection(self._target)
                self._open |= {client, server}
            for start, end, answers in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._carry, args=(start, end, answers), daemon=True).start()

    def _carry(self, start: socket.socket, end: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while data := start.recv(1 << 16):
                if not (answers and self.deaf):
                    end.sendall(data)
        for each in (start, end):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
