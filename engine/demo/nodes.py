"""The demo's nodes as real processes: start, wait until ready, stop, read their ledgers beside them."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from engine.errors import MeridianError
from engine.store.contract import Found, LedgerLine, Query
from engine.store.sqlite import SqliteStore


@dataclass(frozen=True)
class NodeFolder:
    """A site that the demo has written: `http_port` is where its /readyz is."""

    name: str
    site: Path
    http_port: int

    @property
    def log(self) -> Path:
        return self.site / "data" / "node.log"


class NodeProcess(ProcessProtocol):
    """One ``python -m engine run SITE``; its log goes to SITE/data/node.log."""

    transport: Any = None

    def __init__(self, folder: NodeFolder, reactor: Any) -> None:
        self.folder, self._reactor = folder, reactor
        self.ended: Deferred[None] = Deferred()
        self.alive = True

    def start(self) -> None:
        self.folder.log.parent.mkdir(parents=True, exist_ok=True)
        with self.folder.log.open("ab") as log:
            arguments = [sys.executable, "-m", "engine", "run", str(self.folder.site)]
            self._reactor.spawnProcess(self, sys.executable, arguments, env=os.environ, childFDs={0: 0, 1: log.fileno(), 2: log.fileno()})

    def processEnded(self, reason: Any) -> None:
        self.alive = False
        self.ended.callback(None)

    def stop(self) -> Deferred[None]:
        """Graceful: SIGTERM, and fire when it has ended."""
        if self.alive:
            self.transport.signalProcess("TERM")
        return self.ended

    @inlineCallbacks
    def ready(self, seconds: float = 60.0) -> Generator[Deferred[Any], Any, None]:
        """Fires when /readyz says so. Fails with what the node last said when it ends before that."""
        for _ in range(int(seconds * 10)):
            if not self.alive:
                raise MeridianError(f"{self.folder.name} ended at its start: {self._last_words()}")
            if (yield deferToThread(self._says_ready)):
                return
            yield deferLater(self._reactor, 0.1)
        raise MeridianError(f"{self.folder.name} was not ready within {seconds:.0f} s: {self._last_words()}")

    def _says_ready(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self.folder.http_port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def _last_words(self) -> str:
        return self.folder.log.read_text(errors="replace").strip().rpartition("\n")[2] or "nothing said"


class LedgerReader:
    """Reads a node's ledger beside the running node."""

    def __init__(self, folder: NodeFolder, reactor: Any, clock: Any) -> None:
        self._store = SqliteStore(folder.site / "data", reactor=reactor, clock=clock, exclusive=False)

    def open(self) -> Deferred[None]:
        return self._store.open()

    def read(self) -> Deferred[list[LedgerLine]]:
        return self._store.ledger()

    def search(self, query: Query) -> Deferred[list[Found]]:
        return self._store.search(query)

    def close(self) -> Deferred[None]:
        return self._store.close()
