"""How lines come about: others connect to us, we connect to them and again when it is lost, or there is a serial port."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

import serial
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.protocol import Factory
from twisted.internet.serialport import SerialPort

from engine.backoff import Backoff
from engine.channel import Retry
from engine.errors import ConfigError
from engine.listening import listen

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from adapters.astm.connection import AstmConnection
    from engine.contracts import Context
    from engine.options import Settings

_AGAIN: Final = Retry(first=1.0, most=30.0, give_up_after=None)

Make = Callable[[str], "AstmConnection"]
"""A connection to `remote`; "" where the transport knows it."""


class Lines(Protocol):
    """Where connections come from."""

    def start(self) -> Deferred[None]:
        """Fails with ConfigError where nothing ever can come."""

    def stop(self) -> Deferred[None]:
        """No new connections; those that are there are for their owner to stop."""

    def lost(self) -> None:
        """A connection has ended."""


def lines_of(options: Settings, context: Context, make: Make) -> Lines:
    """Of a source, as its options say."""
    return Listening(options, context, make) if options.listen is not None else own_line(options, context, make)


def own_line(options: Settings, context: Context, make: Make, failed: Callable[[str], None] = lambda why: None) -> OwnLine:
    """Of `connect` or `serial`. `failed` is told why it could not be opened, each time."""
    kind = Connecting if options.connect is not None else Serial
    return kind(options, context, make, failed)


class Listening(Factory):
    """They connect to us."""

    noisy = False

    def __init__(self, options: Settings, context: Context, make: Make) -> None:
        self._options, self._context, self._make = options, context, make
        self._port: Any = None

    def start(self) -> Deferred[None]:
        try:
            self._port = listen(self, self._options, self._context)
        except ConfigError as error:
            return fail(error)
        return succeed(None)

    @property
    def port(self) -> int:
        """Where it listens (of use when the option said port 0)."""
        return int(self._port.getHost().port)

    def stop(self) -> Deferred[None]:
        port, self._port = self._port, None
        return succeed(None) if port is None else port.stopListening()

    def lost(self) -> None: ...

    def buildProtocol(self, addr: Any) -> AstmConnection:
        return self._make("")


class OwnLine:
    """One line of our own making, opened again whenever it is lost."""

    what = ""

    def __init__(self, options: Settings, context: Context, make: Make, failed: Callable[[str], None]) -> None:
        self._options, self._context, self._make, self._tell = options, context, make, failed
        self._backoff = Backoff(_AGAIN, lambda: 0.0)
        self._attempt = 0
        self._timer: Any = None
        self._stopped = False

    def start(self) -> Deferred[None]:
        self.open()
        return succeed(None)

    def open(self) -> None:
        raise NotImplementedError

    def stop(self) -> Deferred[None]:
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return succeed(None)

    def lost(self) -> None:
        if not self._stopped and self._timer is None:
            self._attempt += 1
            self._timer = self._context.reactor.callLater(self._backoff.delay(self._attempt), self._again)

    def hurry(self) -> None:
        """Where it waits to be opened again: now."""
        if self._timer is not None:
            self._timer.cancel()
            self._again()

    def _again(self) -> None:
        self._timer = None
        self.open()

    def opened(self) -> None:
        self._attempt = 0

    def failed(self, why: str) -> None:
        self._context.log.warning(f"cannot {self.what}", extra={"channel": self._context.name, "reason": why})
        self.lost()
        self._tell(f"cannot {self.what}: {why}")


class Connecting(OwnLine):
    """The instrument waits to be called."""

    what = "connect"

    def open(self) -> None:
        host, port = self._options.connect
        host = host or "127.0.0.1"
        endpoint: Any = HostnameEndpoint(self._context.reactor, host, port, timeout=10)
        try:
            if self._options.client_tls is not None:
                endpoint = wrapClientTLS(self._context.tls.client(self._options.client_tls, host, self._context.name), endpoint)
        except ConfigError as error:
            self.failed(str(error))
            return
        connected: Deferred[Any] = connectProtocol(endpoint, self._make(""))
        connected.addCallbacks(lambda _: self.opened(), self._not_connected)

    def _not_connected(self, failure: Failure) -> None:
        host, port = self._options.connect
        self.failed(f"{host or '127.0.0.1'}:{port}: {failure.getErrorMessage()}")


class Serial(OwnLine):
    """A serial port of this machine (RS-232, or an adapter for it)."""

    what = "open the serial port"

    def open(self) -> None:
        port = self._options.serial
        settings = {"baudrate": port.baud, "bytesize": port.data_bits, "parity": _PARITY[port.parity], "stopbits": port.stop_bits}
        try:
            SerialPort(self._make(f"serial:{port.port}"), port.port, self._context.reactor, **settings)
        except (serial.SerialException, OSError, ValueError) as error:
            self.failed(f"{port.port}: {error}")
        else:
            self.opened()


_PARITY: Final = {"none": "N", "even": "E", "odd": "O"}
