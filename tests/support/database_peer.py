"""A real database behind a wire that the test can cut: for the contract of destinations."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy.engine import URL
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.protocols.portforward import ProxyClient, ProxyClientFactory, ProxyFactory, ProxyServer

from tests.support.databases import engine_of, own_database

_COMMIT = re.compile(rb"(?<!READ )COMMIT")  # and not the name of an isolation level


class _Client(ProxyClient):
    def dataReceived(self, data: bytes) -> None:
        if self.peer.cut:
            self.peer.transport.abortConnection()
            self.transport.abortConnection()
            return
        super().dataReceived(data)


class _ClientFactory(ProxyClientFactory):
    protocol = _Client
    noisy = False


class _Server(ProxyServer):
    clientProtocolFactory = _ClientFactory  # noqa: N815
    cut = wrote = False

    def connectionMade(self) -> None:
        self.factory.connections.add(self)
        super().connectionMade()

    def connectionLost(self, reason: Any) -> None:
        self.factory.connections.discard(self)
        super().connectionLost(reason)

    def dataReceived(self, data: bytes) -> None:
        """The COMMIT of what was written goes through; what the database says of it does not come back."""
        self.wrote = self.wrote or b"INSERT" in data
        if self.factory.mode == "hang up" and self.wrote and _COMMIT.search(data):
            self.cut = True
        if self.peer is not None:
            super().dataReceived(data)


class Wire(ProxyFactory):
    """A port that leads to a database."""

    protocol = _Server
    noisy = False

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.mode = "take"
        self.connections: set[_Server] = set()
        self.listening = reactor.listenTCP(0, self, interface="127.0.0.1")

    @property
    def outer(self) -> int:
        return int(self.listening.getHost().port)

    def cut(self) -> None:
        for one in list(self.connections):
            one.transport.abortConnection()
            if one.peer is not None:
                one.peer.transport.abortConnection()

    def stop(self) -> Deferred[Any]:
        self.cut()
        return self.listening.stopListening()


class DatabasePeer:
    """`taken` are the messages whose rows are committed, in the order of their numbers."""

    def __init__(self, server: str) -> None:
        self._context = own_database(server)
        self._server = server
        self.direct: URL = self._context.__enter__()
        self.engine = engine_of(self.direct)
        self.run("CREATE TABLE taken (id varchar(40) PRIMARY KEY, kind varchar(40))")
        self.run("CREATE TABLE counted (id varchar(40), at varchar(40))")
        self.wire = Wire(str(self.direct.host), int(self.direct.port or 0))
        self._mode = "take"

    @property
    def url(self) -> URL:
        return self.direct.set(host="127.0.0.1", port=self.wire.outer)

    @property
    def mode(self) -> str:
        return self._mode

    @mode.setter
    def mode(self, mode: str) -> None:
        if mode == "refuse":
            self.run("ALTER TABLE taken ADD CONSTRAINT nothing CHECK (id = 'none')")
        elif self._mode == "refuse":
            self.run("ALTER TABLE taken DROP CONSTRAINT nothing")
        self._mode = self.wire.mode = mode

    def run(self, statement: str) -> list[Any]:
        with self.engine.connect() as connection:
            result = connection.exec_driver_sql(statement)
            return list(result) if result.returns_rows else []

    @property
    def taken(self) -> list[str]:
        return sorted((row[0] for row in self.run("SELECT id FROM taken")), key=int)

    def stop(self) -> Deferred[Any]:
        def drop(result: Any) -> Any:
            self.engine.dispose()
            self._context.__exit__(None, None, None)
            return result

        return gatherResults([self.wire.stop()]).addBoth(drop)
