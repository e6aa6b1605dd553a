"""What the tests of plain HTTP share: a source, a client that knows no more than HTTP, a server that does what the test says, a site."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, succeed

from adapters.http import adapter
from engine.bench.loopback import HOST, free_port
from engine.contracts import Context
from engine.errors import Fault
from engine.options import Place, Settings
from tests.support.dicomweb import context
from tests.support.sites import Site

reactor: Any = _reactor


def parsed(folder: Path, side: str, node: Mapping[str, Any]) -> Settings:
    """The options as a channel file says them; secrets by file are below `folder`. Fails on any fault."""
    faults: list[Fault] = []
    spec = getattr(adapter, f"{side}_options")
    settings: Settings = spec.parse(node, Place("c.yaml", 1, folder=folder), faults)
    assert not faults, [str(fault) for fault in faults]
    return settings


def faults_of(side: str, node: Mapping[str, Any]) -> str:
    """What is wrong with them, as `meridian check` says it."""
    faults: list[Fault] = []
    getattr(adapter, f"{side}_options").parse(node, Place("c.yaml", 1), faults)
    return "\n".join(map(str, faults))


def source(folder: Path, made: Context | None = None, **options: Any) -> Any:
    """A source on a port of its own; bodies are spooled below `folder`."""
    settings = parsed(folder, "source", {"listen": "127.0.0.1:0", "base": "/in", **options})
    return adapter.source(settings, made or context(folder, reactor))


class Said:
    """An HTTP answer."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.body = answer.status, answer.headers, answer.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"{self.status} {self.headers.get('Content-Type')} {self.body[:300]!r}"


def send(port: int, body: Any = b'{"id": 1}', path: str = "/in", method: str = "POST", headers: Mapping[str, str] | None = None) -> Said:
    """Sent and answered; an iterable goes in chunks. Content-Type is application/json where `headers` say none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json", **(headers or {})})
        return Said(connection.getresponse())
    finally:
        connection.close()


def hub_signature(secret: str, body: bytes) -> str:
    """X-Hub-Signature-256, by its definition."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


# --- a server ------------------------------------------------------------------------------------


class Asked:
    """A request as the peer got it."""

    def __init__(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> None:
        self.method, self.target, self.headers, self.body = method, target, headers, body


class HttpPeer:
    """Python's own HTTP server in threads, as tests/contracts/destination_contract.py wants a peer. `answers(asked)` gives status, body and
    header fields; of a big body `asked.body` is the SHA-256 and `asked.headers` have its length."""

    def __init__(self) -> None:
        self.mode = "take"
        self.taken: list[str] = []
        self.requests: list[Asked] = []
        self.answers: Callable[[Asked], tuple[int, bytes, Mapping[str, str]]] = lambda _: (200, b"{}", {"Content-Type": "application/json"})
        self._heard: list[Deferred[None]] = []
        peer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                peer._handle(self)

            do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815  the server's own names

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def stop(self) -> Deferred[None]:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        return succeed(None)

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        left, body, digest = int(handler.headers.get("Content-Length", 0)), b"", hashlib.sha256()
        whole = left <= 1 << 20
        while left:
            block = handler.rfile.read(min(left, 1 << 16))
            if not block:
                return
            left -= len(block)
            digest.update(block)
            body += block if whole else b""
        asked = Asked(
            handler.command, handler.path, {name.lower(): value for name, value in handler.headers.items()}, body or digest.digest()
        )
        self.requests.append(asked)
        if self.mode == "hang up":
            handler.close_connection = True
            return
        status, content, headers = (409, b'{"why": "secret"}', {}) if self.mode == "refuse" else self.answers(asked)
        if 200 <= status < 300:
            self.taken.append(asked.headers.get("x-control-id", ""))
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)


class HttpSite(Site):
    """A node with the one channel `posted`, from an HTTP port."""

    def __init__(self, folder: Path, http: Mapping[str, Any] | None = None, **channel: Any) -> None:
        self.http = free_port()
        super().__init__(folder, source={"http": {"listen": f"{HOST}:{self.http}", "base": "/in", **(http or {})}}, **channel)
