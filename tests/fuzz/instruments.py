"""Coverage-guided fuzzing of what instruments send (needs the package atheris): ``python tests/fuzz/instruments.py -max_total_time=600``.

One target for each first byte: frames on a line, records, records mapped, POCT1-A in a stream, documents, observations mapped. What may be
raised is what the contracts say; anything else, a hang, or a buffer beyond its limit is a finding.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

import atheris  # type: ignore[import-not-found]

with atheris.instrument_imports():
    from adapters.astm.link import Complete, Limits, State
    from adapters.astm.station import Station
    from adapters.poct1a.framing import Poct1aFramer
    from engine import registry
    from engine.errors import FramingError, MessageError
    from engine.formats import astm, poct1a

    _ASTM = registry.mapping("astm-to-fhir").compile(None)
    _POCT = registry.mapping("poct1a-to-fhir").compile(None)

_LIMITS = Limits(message=4096, text=512)


def line(data: bytes) -> None:
    """Whatever comes in whatever chunks, with messages of ours on the way; what is held is bounded."""
    station = Station(_LIMITS)
    station.offer(b"H|\\^&\rL|1\r", 1)
    while data:
        size, data = data[0] % 16 + 1, data[1:]
        steps: list[Any] = station.feed(data[:size])
        data = data[size:]
        while any(isinstance(step, Complete) for step in steps):
            steps = station.kept(size % 2 == 0, again=size % 3 == 0)
        if size == 7:
            station.receiver_late()
        if size == 9:
            station.sender_late()
        assert len(station.receiver._buffer) <= _LIMITS.text + 32
        records = station.receiver._records
        assert sum(map(len, records)) + len(station.receiver._open) <= _LIMITS.message >= len(records)
    station.lost()
    assert station.receiver.state in (State.NEUTRAL, State.COMMITTING)


def records(data: bytes) -> None:
    with suppress(MessageError):
        message = astm.codec.decode_with(data, "utf-8")
        assert message.encode() == data
        for record in message.records:
            for number in range(1, len(record.fields) + 1):
                record.get(number, 1, 1)


def mapped(data: bytes) -> None:
    with suppress(MessageError):
        _ASTM.map(b"H|\\^&|1||X|||||||P|1|20261124\r" + data)


def stream(data: bytes) -> None:
    framer = Poct1aFramer(4096)
    with suppress(FramingError):
        for at in range(0, len(data), 7):
            framer.feed(data[at : at + 7])
            assert len(framer.rest) <= 4096


def documents(data: bytes) -> None:
    with suppress(MessageError):
        poct1a.codec.decode(data)


def observations(data: bytes) -> None:
    with suppress(MessageError):
        _POCT.map(b'<OBS.R01><HDR><HDR.control_id V="1"/></HDR>' + data + b"</OBS.R01>")


TARGETS = (line, records, mapped, stream, documents, observations)


def one(data: bytes) -> None:
    if data:
        TARGETS[data[0] % len(TARGETS)](data[1:])


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
