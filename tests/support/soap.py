"""What the tests of SOAP share: envelopes, messages in parts."""

from __future__ import annotations

import hashlib
from pathlib import Path

from engine.message import Excerpt

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
