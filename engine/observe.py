"""Metrics and logs. Neither ever carries payload or a patient identifier.

Logs are JSON lines: time, level, event, and facts such as channel, control_id, code, location.
"""

from __future__ import annotations

import json
import logging
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any, Final, TextIO

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

_LATENCY: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.3, 2.6, 5, 10)
_BOUNDS: Final = [*map(floatToGoString, _LATENCY), "+Inf"]
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class Count:
    """What only grows, or a gauge that is `set`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1) -> None:
        self.value += amount

    def set(self, value: float) -> None:
        self.value = value


class Timing:
    """A histogram of seconds, in buckets from 0.5 ms to 10 s."""

    __slots__ = ("buckets", "sum")

    def __init__(self) -> None:
        self.buckets = [0] * (len(_LATENCY) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self.buckets[bisect_left(_LATENCY, seconds)] += 1
        self.sum += seconds


class _Family(Collector):
    """The children of one metric by the values of its labels. `kind` makes what prometheus_client writes of them."""

    child: type[Count] | type[Timing] = Count

    def __init__(self, kind: type[Any], name: str, doc: str, labels: Sequence[str]) -> None:
        self._kind, self._name, self._doc, self._labels = kind, name, doc, labels
        self.children: dict[tuple[str, ...], Any] = {}

    def labelled(self, labels: Mapping[str, str]) -> Any:
        if labels.keys() != set(self._labels):
            raise ValueError(f"{self._name} has the labels {', '.join(self._labels)}")
        values = tuple(str(labels[name]) for name in self._labels)
        return self.children.setdefault(values, self.child())

    def describe(self) -> Iterator[Metric]:
        """So that a registry knows its name without collecting it."""
        yield self._kind(self._name, self._doc, labels=self._labels)

    def collect(self) -> Iterator[Metric]:
        family = self._kind(self._name, self._doc, labels=self._labels)
        for labels, child in self.children.items():
            family.add_metric(labels, *self._values(child))
        yield family

    def _values(self, child: Any) -> tuple[Any, ...]:
        return (child.value,)


class _Histograms(_Family):
    child = Timing

    def _values(self, child: Timing) -> tuple[Any, ...]:
        return list(zip(_BOUNDS, map(float, accumulate(child.buckets)), strict=True)), child.sum


class Metrics:
    """The node's metrics, as a Prometheus registry shows them. Ask once for a child and keep it: asking is a dictionary look-up.

    received = metrics.counter("meridian_received_total", "messages committed", channel="lab")
    received.inc()

    The children have no locks, which prometheus_client's own have and which cost a busy node 4 % of its time: they are the reactor
    thread's.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._families: dict[str, _Family] = {}

    def counter(self, name: str, doc: str, **labels: str) -> Count:
        child: Count = self._child(_Family, CounterMetricFamily, name, doc, labels)
        return child

    def gauge(self, name: str, doc: str, **labels: str) -> Count:
        child: Count = self._child(_Family, GaugeMetricFamily, name, doc, labels)
        return child

    def histogram(self, name: str, doc: str, **labels: str) -> Timing:
        child: Timing = self._child(_Histograms, HistogramMetricFamily, name, doc, labels)
        return child

    def clear(self, name: str) -> None:
        """Forget the children of a family, where what they told of may be gone."""
        if name in self._families:
            self._families[name].children.clear()

    def _child(self, family_of: type[_Family], kind: type[Any], name: str, doc: str, labels: Mapping[str, str]) -> Any:
        family = self._families.get(name)
        if family is None:
            family = self._families[name] = family_of(kind, name, doc, sorted(labels))
            self.registry.register(family)
        return family.labelled(labels)


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
