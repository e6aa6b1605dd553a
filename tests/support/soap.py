"""What the tests of SOAP share: envelopes, messages in parts, a source, a client that knows no SOAP, a site."""

from __future__ import annotations

import gzip
import hashlib
import http.client
from pathlib import Path
from typing import Any

from adapters.soap import adapter
from engine.bench.loopback import HOST, free_port
from engine.contracts import Context
from engine.formats.soap import SoapFault, SoapMessage, read, read_fault
from engine.message import Excerpt
from tests.support.dicomweb import context
from tests.support.sites import Site

NS = {"1.1": "http://schemas.xmlsoap.org/soap/envelope/", "1.2": "http://www.w3.org/2003/05/soap-envelope"}
WSA = "http://www.w3.org/2005/08/addressing"
BOUNDARY = "uuid:0c7b1e52-7f42"
XOP_TYPE = 'application/xop+xml; charset=UTF-8; type="{}"'


def envelope(payload: str = "<Order xmlns='urn:lab'><id>1</id></Order>", version: str = "1.1", header: str = "") -> bytes:
    """As a sender writes it."""
    inner = f"<s:Header>{header}</s:Header>" if header else ""
    return f"<s:Envelope xmlns:s='{NS[version]}'>{inner}<s:Body>{payload}</s:Body></s:Envelope>".encode()


def addressed(action: str = "urn:lab:order", message_id: str = "urn:uuid:1", reply_to: str = "") -> str:
    """Header blocks of WS-Addressing."""
    reply = f"<a:ReplyTo xmlns:a='{WSA}'><a:Address>{reply_to}</a:Address></a:ReplyTo>" if reply_to else ""
    return f"<a:Action xmlns:a='{WSA}'>{action}</a:Action><a:MessageID xmlns:a='{WSA}'>{message_id}</a:MessageID>{reply}"


def include(href: str) -> str:
    return f"<xop:Include xmlns:xop='http://www.w3.org/2004/08/xop/include' href='{href}'/>"


def related(version: str = "1.1", boundary: str = BOUNDARY, start: str = "<root@a>") -> str:
    """The Content-Type of a message in parts."""
    kind = {"1.1": "text/xml", "1.2": "application/soap+xml"}[version]
    begin = f' start="{start}";' if start else ""
    return f'multipart/related; type="application/xop+xml"; boundary="{boundary}";{begin} start-info="{kind}"'


def part(content: bytes, content_id: str, kind: str = "application/octet-stream", **fields: str) -> bytes:
    """Header and content of one part, with its delimiter."""
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    cid = f"Content-ID: <{content_id}>\r\n" if content_id else ""
    return f"--{BOUNDARY}\r\nContent-Type: {kind}\r\n{cid}{more}\r\n".encode() + content + b"\r\n"


def in_parts(root: bytes, *attachments: bytes, version: str = "1.1") -> bytes:
    """A body in parts, with its root first."""
    kind = XOP_TYPE.format({"1.1": "text/xml", "1.2": "application/soap+xml"}[version])
    return part(root, "root@a", kind) + b"".join(attachments) + f"--{BOUNDARY}--\r\n".encode()


def kept(content_type: str, body: bytes) -> bytes:
    """As the engine keeps a message in parts."""
    return f"Content-Type: {content_type}\r\n\r\n".encode() + body


def in_file(folder: Path, body: bytes) -> Excerpt:
    """As the engine gives a big one."""
    path = folder / hashlib.sha256(body).hexdigest()
    path.write_bytes(body)
    return Excerpt(body[:64], path.name, path)


# --- a running source ----------------------------------------------------------------------------


def source(data: Path, reactor: Any, made: Context | None = None, **options: Any) -> Any:
    """The endpoint ``soap`` on a port of its own; bodies are spooled below `data`."""
    settings = adapter.source_options.defaults(**{"listen": "127.0.0.1:0", **options})  # type: ignore[union-attr]
    return adapter.source(settings, made or context(data, reactor))


class Said:
    """An HTTP answer, with its envelope where it has one."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.body = answer.status, answer.headers, answer.read()
        if self.headers.get("Content-Encoding") == "gzip":
            self.body = gzip.decompress(self.body)
        self.content_type = self.headers.get("Content-Type", "")

    @property
    def message(self) -> SoapMessage:
        return read(self.body)

    @property
    def fault(self) -> SoapFault:
        found = read_fault(self.message.payload)
        assert found is not None, self.body
        return found

    def __repr__(self) -> str:
        return f"{self.status} {self.content_type} {self.body[:500]!r}"


def post(
    port: int, body: Any, content_type: str = "text/xml; charset=utf-8", path: str = "/soap", method: str = "POST", **headers: str
) -> Said:
    """Sent and answered; an iterable goes in chunks."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    fields = {"Content-Type": content_type, **{name.replace("_", "-"): value for name, value in headers.items()}}
    try:
        connection.request(method, path, body, {name: value for name, value in fields.items() if value})
        return Said(connection.getresponse())
    finally:
        connection.close()


class SoapSite(Site):
    """A node with the one channel `orders`, from a SOAP port."""

    def __init__(self, folder: Path, soap: dict[str, Any] | None = None, protocol: str = "soap", **channel: Any) -> None:
        self.soap = free_port()
        super().__init__(folder, source={protocol: {"listen": f"{HOST}:{self.soap}", **(soap or {})}}, **channel)

    def reasons(self) -> list[str]:
        """Why each message goes no further, "" where nothing is said."""
        sql = "SELECT coalesce(message.reason, outcome.reason) FROM message LEFT JOIN outcome ON outcome.message = id ORDER BY id"
        return [row[0] or "" for row in self._rows(sql)]

    def bodies(self) -> list[bytes]:
        """As they are kept, in the order of arrival, those in files too."""
        sql = "SELECT lower(hex(digest)), typeof(digest), digest, body FROM message LEFT JOIN body ON body.message = message.id ORDER BY message.id"
        found = []
        for in_hex, kind, digest, body in self._rows(sql):
            name = in_hex if kind == "blob" else digest
            found.append(body if body is not None else (self.folder / "data" / "bodies" / name[:2] / name[2:]).read_bytes())
        return found
