"""``meridian send``: send HL7 v2 files over MLLP, or an instrument's records over ASTM, and print what is answered."""

from __future__ import annotations

import logging
from collections.abc import Generator
from pathlib import Path
from typing import Any

import typer
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.protocol import Protocol

from adapters.mllp.framing import MllpFramer
from engine.cli.opened import reactor, run
from engine.cli.output import AS_JSON, print_json
from engine.demo.instruments import InstrumentLine
from engine.errors import ConfigError, FramingError, ParseError
from engine.formats.hl7v2 import acknowledgment
from engine.observe import Metrics
from engine.options import ADDRESS, Faulty, Settings
from engine.tls import CLIENT_TLS, TlsProvider


def command(
    files: list[Path] = typer.Argument(
        help="Files with one HL7 v2 message each; or, ending in .astm, with the records of one ASTM message."
    ),
    to: str = typer.Option("127.0.0.1:2575", "--to", help="host:port of the listener."),
    certs: Path = typer.Option(None, help="Send over TLS with the certificate of this folder (node.pem, node.key, ca.pem)."),
    peer: str = typer.Option("", help="Party that the listener's certificate must name."),
    passphrase: str = typer.Option("", help="Where the passphrase of that folder's key is: env:VARIABLE or file:PATH."),
    timeout: float = typer.Option(30.0, help="Seconds to wait for each answer."),
    as_json: bool = AS_JSON,
) -> None:
    """Send messages one after the other, each answered before the next. Exit code 1 when one was not accepted."""
    astm = {file.suffix == ".astm" for file in files}
    if len(astm) > 1:
        raise ConfigError("files of HL7 v2 and of ASTM do not go to the same listener; send them one after the other")
    bodies = [_read(file) for file in files]
    address, tls = _address(to), _tls(peer, passphrase)
    line, result_of = (InstrumentLine(), _transfer) if astm == {True} else (_Line(), _result)
    answers = run(lambda: _send(bodies, line, address, certs, tls, timeout))
    results = [{"file": str(file), **result_of(answer)} for file, answer in zip(files, answers, strict=True)]
    if as_json:
        print_json(results)
    else:
        for result in results:
            typer.echo(f"{result['file']}: {result['code']} {result['text']}".rstrip())
    raise typer.Exit(0 if all(result["code"] in ("AA", "CA", "ACK") for result in results) else 1)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes().replace(b"\r\n", b"\r").replace(b"\n", b"\r")
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from None


def _address(to: str) -> tuple[str, int]:
    try:
        host, port = ADDRESS.read(to)
    except Faulty as faulty:
        raise ConfigError(f"--to: {faulty}") from None
    return host or "127.0.0.1", port


def _tls(peer: str, passphrase: str) -> Settings:
    try:
        return CLIENT_TLS.defaults(peer=peer or None, key_passphrase=passphrase or None)
    except ValueError as error:
        raise ConfigError(str(error).removeprefix("<given>: ")) from None


def _result(answer: bytes) -> dict[str, str]:
    try:
        ack = acknowledgment.read(answer)
    except ParseError as error:
        return {"code": "", "text": error.text if answer else "no answer"}
    return {"code": ack.code, "text": ack.text, "control_id": ack.control_id}


def _transfer(answer: bytes) -> dict[str, str]:
    """An ASTM receiver says no more than ACK or NAK."""
    texts = {
        b"ACK": "kept",
        b"NAK": "not taken: meridian messages search --status ERROR and the log of the node say why",
        b"EOT": "broken off: the file has no terminator record L",
    }
    return {"code": answer.decode(), "text": texts.get(answer, "no answer")}


class _Line(Protocol):
    """Collects answers."""

    transport: Any = None

    def __init__(self) -> None:
        self._framer = MllpFramer()
        self.waiting: Deferred[bytes] | None = None

    def dataReceived(self, data: bytes) -> None:
        try:
            frames = self._framer.feed(data)
        except FramingError as error:
            self._fire(error)
            return
        for frame in frames:
            self._fire(frame.content)

    def connectionLost(self, reason: Any = None) -> None:
        self._fire(ConfigError("the listener closed the connection without an answer"))

    def _fire(self, result: bytes | Exception) -> None:
        waiting, self.waiting = self.waiting, None
        if waiting is None:
            return
        if isinstance(result, Exception):
            waiting.errback(result)
        else:
            waiting.callback(result)

    def ask(self, body: bytes) -> Deferred[bytes]:
        self.waiting = Deferred()
        self.transport.write(MllpFramer().wrap(body))
        return self.waiting


@inlineCallbacks
def _send(
    bodies: list[bytes], line: _Line | InstrumentLine, to: tuple[str, int], certs: Path | None, tls: Settings, timeout: float
) -> Generator[Deferred[Any], Any, list[bytes]]:
    endpoint: Any = HostnameEndpoint(reactor, *to, timeout=timeout)
    if certs is not None:
        quiet = logging.getLogger("meridian.send")
        provider = TlsProvider(certs, reactor=reactor, log=quiet, metrics=Metrics(), audit=lambda event, **facts: None)
        endpoint = wrapClientTLS(provider.client(tls, to[0]), endpoint)
    try:
        yield connectProtocol(endpoint, line)
    except Exception as error:  # noqa: BLE001  # whatever a resolver, a socket or TLS may say
        raise ConfigError(f"cannot connect to {to[0]}:{to[1]}: {error}") from None
    answers = []
    for body in bodies:
        answer = line.ask(body)
        answer.addTimeout(timeout, reactor)
        try:
            answers.append((yield answer))
        except ConfigError:
            raise
        except Exception:  # noqa: BLE001  # no answer in time, or something else than MLLP came back
            answers.append(b"")
    line.transport.loseConnection()
    return answers
