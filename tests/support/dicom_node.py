"""A `dicom` source on loopback with the options that a test says, and an intake that keeps its envelopes."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed

from adapters.dicom import adapter
from engine.message import ACCEPTED, Ack
from tests.support.dicom_instances import context as make_context


class Listener:
    """`source` is running after `start`; `envelopes` are what came."""

    def __init__(self, data: Path, shared: dict[str, Any] | None = None, *, name: str = "images", port: int = 0, **options: Any) -> None:

        self.audited: list[tuple[str, dict[str, Any]]] = []
        made = make_context(data, reactor, name=name, audit=self._audit, clock=lambda: time.time_ns() // 1000)
        self.context = replace(made, shared={} if shared is None else shared)
        settings = adapter.source_options.defaults(listen=f"127.0.0.1:{port}", **options)
        self.source = adapter.source(settings, self.context)
        self.envelopes: list[Any] = []

    def _audit(self, event: str, **facts: Any) -> None:
        self.audited.append((event, facts))

    def start(self) -> Deferred[None]:
        return self.source.start(self._intake)

    def _intake(self, envelope: Any, reply: Any, invalid: Any = None) -> Deferred[Ack]:
        self.envelopes.append(envelope)
        return succeed(Ack(invalid or ACCEPTED, reply(invalid or ACCEPTED), len(self.envelopes)))

    @property
    def port(self) -> int:
        return self.source.port

    def stop(self) -> Any:
        return self.source.stop()
