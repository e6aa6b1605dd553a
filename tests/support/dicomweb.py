"""What the tests of the DICOMweb server share: a context that spools, bodies, an archive, a client that knows no DICOM."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from adapters.dicom import dicomweb_adapter
from adapters.dicom.archive.book import Arrival, Book
from engine.contracts import Context
from engine.errors import StoreFull
from engine.message import ACCEPTED, Ack, BodyRef, Judgement, Verdict
from tests.support.fhir import context as plain_context

BOUNDARY = "gc0p4Jq0M2Yt08jU534c0p"
RELATED = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
ANY = 'multipart/related; type="application/dicom"; transfer-syntax=*'


class FolderSpool:
    """engine.store.contract.Spool: into a folder, or not at all."""

    full = False

    def __init__(self, folder: Path) -> None:
        if self.full:
            raise StoreFull("no space left on device")
        handle, self._name = tempfile.mkstemp(dir=folder)
        self._file = os.fdopen(handle, "wb")
        self._digest, self.size = hashlib.sha256(), 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.size += len(data)

    def peek(self) -> Path:
        self._file.flush()
        return Path(self._name)

    def finish(self) -> BodyRef:
        self._file.close()
        digest = self._digest.hexdigest()
        path = Path(self._name)
        path.replace(path.parent / digest)
        return BodyRef(digest, self.size)

    def abort(self) -> None:
        self._file.close()
        Path(self._name).unlink()


class FullSpool(FolderSpool):
    full = True


def context(data: Path, reactor: Any, spool: type[FolderSpool] = FolderSpool, **more: Any) -> Context:
    """Bodies are spooled to the folder ``spool`` of `data`."""
    folder = data / "spool"
    folder.mkdir(exist_ok=True)
    made = plain_context(data, reactor, **more)
    return replace(made, spool=lambda: spool(folder), body_file=lambda ref: folder / ref.digest)


def source(data: Path, reactor: Any, made: Context | None = None, **options: Any) -> Any:
    settings = dicomweb_adapter.source_options.defaults(**{"listen": "127.0.0.1:0", **options})
    return dicomweb_adapter.source(settings, made or context(data, reactor))


class AnsweringIntake:
    """engine.contracts.Intake: answers at once; a control id in `judgements` gets that one."""

    def __init__(self, **judgements: Judgement) -> None:
        self.kept: list[Any] = []
        self.invalid: list[Any] = []
        self.judgements = judgements

    def __call__(self, envelope: Any, reply: Any, invalid: Judgement | None = None) -> Deferred[Ack]:
        self.kept.append(envelope)
        self.invalid.append(invalid)
        judgement = invalid or self.judgements.get(envelope.control_id.rpartition(".")[2], ACCEPTED)
        done: Deferred[Ack] = Deferred()
        done.callback(Ack(judgement, reply(judgement), 0 if judgement.verdict is Verdict.UNAVAILABLE else len(self.kept)))
        return done


def body(*instances: bytes, kind: str = "application/dicom", boundary: str = BOUNDARY) -> bytes:
    """A multipart body."""
    parts = [f"--{boundary}\r\nContent-Type: {kind}\r\n\r\n".encode() + one + b"\r\n" for one in instances]
    return b"".join(parts) + f"--{boundary}--\r\n".encode()


def request(path: str, content: bytes, content_type: str = RELATED, method: str = "POST", **headers: str) -> bytes:
    """A request as it goes onto the wire."""
    fields = {"Host": "here", "Content-Type": content_type, "Content-Length": str(len(content))}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + content


def archive(data: Path, files: Iterable[bytes]) -> list[str]:
    """Fill the archive ``dicom`` of a data folder; gives what could not be kept."""
    book = Book(data / "dicom", lambda: 1)
    book.open()
    try:
        outcomes = book.keep([Arrival(content, hashlib.sha256(content).hexdigest()) for content in files])
    finally:
        book.close()
    return [outcome.fault for outcome in outcomes if outcome.fault]


class Heard:
    """An HTTP answer."""

    def __init__(self, answer: http.client.HTTPResponse, method: str) -> None:
        self.status, self.headers, self.body = answer.status, answer.headers, answer.read()
        self.content_type = answer.headers.get("Content-Type", "")

    def json(self) -> Any:
        return json.loads(self.body)

    def parts(self) -> list[tuple[str, bytes]]:
        """Content type and content of each part, cut by a rule of thumb that is not the server's."""
        match = re.search(r"boundary=([^;]+)", self.content_type)
        assert match is not None, self.content_type
        pieces = (b"\r\n" + self.body).split(b"\r\n--" + match[1].encode())
        assert (pieces[0], pieces[-1]) == (b"", b"--\r\n")
        cut = [piece.removeprefix(b"\r\n").split(b"\r\n\r\n", 1) for piece in pieces[1:-1]]
        return [(head.decode().partition(": ")[2], content) for head, content in cut]


def ask(port: int, path: str, method: str = "GET", content: Any = None, **headers: str) -> Deferred[Heard]:
    """In a thread."""
    return deferToThread(ask_now, port, path, method, content, **headers)


def ask_now(port: int, path: str, method: str = "GET", content: Any = None, **headers: str) -> Heard:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, content, {name.replace("_", "-"): value for name, value in headers.items()})
        return Heard(connection.getresponse(), method)
    finally:
        connection.close()
