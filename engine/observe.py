"""Metrics and logs. Neither ever carries payload or a patient identifier.

Logs are JSON lines: time, level, event, and facts such as channel, control_id, code, location.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_LATENCY: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.3, 2.6, 5, 10)
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class Metrics:
    """The node's Prometheus registry. Ask once for a child and keep it: asking is a dictionary look-up, `inc()` is cheap.

    received = metrics.counter("meridian_received_total", "messages committed", channel="lab")
    received.inc()
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._families: dict[str, Any] = {}

    def counter(self, name: str, doc: str, **labels: str) -> Counter:
        child: Counter = self._child(Counter, name, doc, labels)
        return child

    def gauge(self, name: str, doc: str, **labels: str) -> Gauge:
        child: Gauge = self._child(Gauge, name, doc, labels)
        return child

    def histogram(self, name: str, doc: str, **labels: str) -> Histogram:
        """Seconds, in buckets from 0.5 ms to 10 s."""
        child: Histogram = self._child(Histogram, name, doc, labels, buckets=_LATENCY)
        return child

    def clear(self, name: str) -> None:
        """Forget the children of a family, where what they told of may be gone."""
        if name in self._families:
            self._families[name].clear()

    def _child(self, kind: Any, name: str, doc: str, labels: dict[str, str], **more: Any) -> Any:
        family = self._families.get(name)
        if family is None:
            family = self._families[name] = kind(name, doc, sorted(labels), registry=self.registry, **more)
        return family.labels(**labels) if labels else family


class JsonLines(logging.Formatter):
    """One JSON object a line; `extra=` facts become members."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line.update((name, value) for name, value in vars(record).items() if name not in _STANDARD)
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["traceback"] = self._frames(record.exc_info[2])
        return json.dumps(line, ensure_ascii=False, default=str)

    @staticmethod
    def _frames(traceback: Any) -> list[str]:
        """File, line and function of each frame; never a value, which could be payload."""
        frames = []
        while traceback is not None:
            code = traceback.tb_frame.f_code
            frames.append(f"{code.co_filename}:{traceback.tb_lineno} {code.co_name}")
            traceback = traceback.tb_next
        return frames


def json_log(stream: TextIO, level: str = "INFO") -> logging.Logger:
    """The node's log, as JSON lines on `stream`."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    log = logging.getLogger("meridian")
    log.handlers = [handler]
    log.propagate = False
    log.setLevel(level)
    return log
