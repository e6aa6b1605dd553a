"""``meridian run``: the node of a site, until SIGTERM or SIGINT."""

from __future__ import annotations

import gc
import itertools
import os
import random
import resource
import signal
import sys
import uuid
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import typer
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred

from engine.cli.opened import now
from engine.errors import MeridianError
from engine.observe import Metrics, json_log

reactor: Any = _reactor


def command(
    site: Path = typer.Argument(Path("."), help="The site's folder."),
    log_level: str = typer.Option("", help="DEBUG, INFO, WARNING or ERROR."),
) -> None:
    """Run the node of a site. Logs are JSON lines on standard error. SIGTERM and Ctrl-C stop it gracefully."""
    sys.setswitchinterval(0.0005)  # the store's threads must not wait 5 ms for a busy reactor to let go
    _allow_many_files()
    gc.freeze()  # what is loaded stays; and what a message leaves behind is seldom a cycle
    gc.set_threshold(50_000, 20, 20)
    failed: list[MeridianError] = []
    reactor.callWhenRunning(_Run(site, log_level, failed).start)
    reactor.run()
    if failed:
        raise failed[0]


def _allow_many_files() -> None:
    """Each connection is an open file. The usual soft limit of 1024 would be used up by one channel's connections, and then the store
    could open none."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _ids() -> Callable[[], str]:
    """Short ids that no other start of any node gives: a random beginning and a count. At most 20 characters (MSH-10, HL7 v2.5)."""
    beginning, count = uuid.uuid4().hex[:11], itertools.count(1)
    return lambda: f"{beginning}{next(count):x}"


class _Run:
    """One run of a node: composition at the start, graceful stop at a signal."""

    def __init__(self, site: Path, log_level: str, failed: list[MeridianError]) -> None:
        from engine.cli.composition import compose

        self._parts = compose(site)
        self._log = json_log(sys.stderr, log_level or self._parts.log_level)
        self._failed = failed
        self._stopping = False
        self._parts_to_stop: list[Callable[[], Any]] = []

    @inlineCallbacks
    def start(self) -> Generator[Deferred[Any], Any, None]:
        from engine.audit import AuditLog
        from engine.service import Node
        from engine.store.sqlite import SqliteStore
        from engine.tls import TlsProvider

        parts, metrics = self._parts, Metrics()
        try:
            audit = AuditLog(parts.settings.data / "audit", reactor=reactor, clock=now, log=self._log, metrics=metrics)
            self._parts_to_stop.append(audit.close)
            tls = TlsProvider(parts.certs, reactor=reactor, log=self._log, metrics=metrics, audit=audit.record)
            store = SqliteStore(parts.settings.data, reactor=reactor, clock=now, process=True, **parts.store_options)
            self._audit, self._tls = audit, tls
            self._parts_to_stop.append(tls.stop)
            self._node = Node(
                parts.settings,
                parts.channels,
                store,
                reactor=reactor,
                clock=now,
                random=random.random,
                new_id=_ids(),
                log=self._log,
                metrics=metrics,
                tls=tls,
                audit=audit.record,
                unaudited=lambda: audit.failing if parts.settings.audit_strict else "",
            )
            self._parts_to_stop.append(self._node.stop)
            for name in (signal.SIGTERM, signal.SIGINT):
                signal.signal(name, lambda *_: reactor.callFromThread(self.stop))
            yield self._node.start()
            tls.start()
            audit.record("node.started", node=parts.settings.name)
        except MeridianError as error:
            self._failed.append(error)
            yield self._end()
        except Exception:  # noqa: BLE001  # the process's last boundary: say what happened and end
            self._log.exception("cannot start")
            os._exit(70)

    @inlineCallbacks
    def stop(self) -> Generator[Deferred[Any], Any, None]:
        if self._stopping:
            return
        self._stopping = True
        self._tls.stop()
        yield self._node.stop()
        self._audit.record("node.stopped", node=self._parts.settings.name)
        yield self._audit.close()
        reactor.stop()

    @inlineCallbacks
    def _end(self) -> Generator[Deferred[Any], Any, None]:
        """After a start that failed: end what has begun, newest first. A thread that goes on would keep the process for ever."""
        self._stopping = True
        for stop in reversed(self._parts_to_stop):
            try:
                yield maybeDeferred(stop)
            except Exception:  # noqa: BLE001  # the others must be stopped all the same
                self._log.exception("a part did not stop")
        reactor.stop()
