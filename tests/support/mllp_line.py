"""A sender of the plainest kind: a blocking socket that writes frames and reads answers, over TLS where it is given a folder."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

from adapters.mllp.framing import MllpFramer
from tests.support.waiting import PATIENCE


class Line:
    """One connection; `heard` gives the next answer's content, b"" once the connection has ended."""

    def __init__(self, port: int, authority: Path | None = None, party: Path | None = None) -> None:
        """`authority`: a ca.pem, then it is TLS; `party`: the folder with what it proves itself with."""
        self.socket: Any = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        if authority is not None:
            context = ssl.create_default_context(cafile=authority)
            if party is not None:
                context.load_cert_chain(party / "node.pem", party / "node.key")
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self._framer, self._answers = MllpFramer(), []

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def say(self, content: bytes) -> None:
        self.socket.sendall(MllpFramer.wrap(content))

    def heard(self) -> bytes:
        while not self._answers:
            try:
                data = self.socket.recv(65536)
            except (ConnectionError, ssl.SSLError):
                return b""
            if not data:
                return b""
            self._answers = [frame.content for frame in self._framer.feed(data)]
        return self._answers.pop(0)

    def ask(self, content: bytes) -> bytes:
        """Send one message; its answer, b"" where the connection ends without one."""
        try:
            self.say(content)
        except (ConnectionError, ssl.SSLError):
            return b""
        return self.heard()

    def serial(self) -> int:
        """Of the certificate that the other side has shown."""
        return int(self.socket.getpeercert()["serialNumber"], 16)
