"""A line to a database server that a test can cut at the worst moment: the COMMIT has gone out, its answer has not come back."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Any

_COMMIT = b"COMMIT"


class Line:
    """Passes bytes between whoever connects to `port` and the server. While `cut` is set, a COMMIT still reaches the server, then both ends
    are closed, and from then on nobody gets a connection. `commits_cut` counts them."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cut = False
        self.commits_cut = 0
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def stop(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in list(self._open):
            _close(one)
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.cut and self.commits_cut:
                _close(client)
                continue
            server = socket.create_connection(self._server)
            self._open |= {client, server}
            for ends in ((client, server, True), (server, client, False)):
                thread = threading.Thread(target=self._pass, args=ends, daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pass(self, come: socket.socket, go: socket.socket, to_server: bool) -> None:
        with suppress(OSError):
            while content := come.recv(65536):
                if to_server and self.cut and _COMMIT in content:
                    self.commits_cut += 1
                    _close(come)
                    go.sendall(content)
                    self._until_done(go)
                    break
                go.sendall(content)
        _close(come)
        _close(go)

    @staticmethod
    def _until_done(server: Any) -> None:
        """So that it is certain that the server has committed; nobody hears it."""
        server.shutdown(socket.SHUT_WR)


def _close(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
