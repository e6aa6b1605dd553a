"""DICOM without a network: two ends of an association joined in memory, a source on a transport, data sets."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from adapters.dicom import adapter
from adapters.dicom.source import DicomSource
from adapters.dicom.upper import dimse, pdu
from adapters.dicom.upper.acceptor import Acceptor
from adapters.dicom.upper.association import Association
from adapters.dicom.upper.dimse import Field
from adapters.dicom.upper.exchange import Response, Services
from adapters.dicom.upper.negotiation import EXPLICIT_LE, IMPLICIT_LE, Offer, Taken
from adapters.dicom.upper.protocol import Times
from adapters.dicom.upper.requestor import Proposal, Requestor
from engine.contracts import Context
from engine.errors import StoreError
from engine.message import BodyRef
from engine.observe import Metrics
from tests.support.mllp import Intake

CT = "1.2.840.10008.5.1.4.1.1.2"
VERIFICATION = "1.2.840.10008.1.1"
MPPS = "1.2.840.10008.3.1.2.3.3"


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    """Explicit VR Little Endian."""
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr
    return head + (struct.pack("<xxL", len(value)) if vr in (b"OB", b"OW", b"SQ", b"UN") else struct.pack("<H", len(value))) + value


def data_set(sop_instance: str = "1.2.3", sop_class: str = CT, pixels: bytes = bytes(64), patient: bytes = b"4711") -> bytes:
    return b"".join(
        (
            element(0x00080005, b"CS", b"ISO_IR 100"),
            element(0x00080016, b"UI", sop_class.encode()),
            element(0x00080018, b"UI", sop_instance.encode()),
            element(0x00080050, b"SH", b"A1"),
            element(0x00080060, b"CS", b"CT"),
            element(0x00100020, b"LO", patient),
            element(0x0020000D, b"UI", b"1.2.3.4"),
            element(0x0020000E, b"UI", b"1.2.3.4.5"),
            element(0x7FE00010, b"OW", pixels),
        )
    )


def store_request(sop_instance: str = "1.2.3", sop_class: str = CT) -> dimse.Command:
    return dimse.request(Field.C_STORE, sop_class, sop_instance)


class Wire:
    """An ITransport whose bytes lie in `sent` until the test takes them."""

    disconnecting = False

    def __init__(self, host: str = "10.0.0.9") -> None:
        self.sent: list[bytes] = []
        self.aborted = self.closed = self.paused = False
        self.producer: Any = None
        self._peer = IPv4Address("TCP", host, 4444)

    def getPeer(self) -> IPv4Address:
        return self._peer

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.sent.append(bytes(data))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def loseConnection(self) -> None:
        self.closed = True

    def abortConnection(self) -> None:
        self.aborted = self.closed = True

    def taken(self) -> bytes:
        sent, self.sent = b"".join(self.sent), []
        return sent


class Pair:
    """A requestor and an acceptor, and the wires between them. `chunk` cuts what goes over them."""

    def __init__(
        self,
        acceptor: Acceptor,
        clock: Clock,
        proposal: Proposal,
        services: Services | None = None,
        times: Times | None = None,
        host: str = "10.0.0.9",
    ) -> None:
        self.clock, self.acceptor, self.chunk = clock, acceptor, 1 << 20
        self.requestor = Requestor(proposal.request(), clock, times or Times(), services or {}, secure=False)
        self.near, self.far = Wire(), Wire(host)
        acceptor.makeConnection(self.far)
        self.requestor.makeConnection(self.near)
        self._gone: set[Wire] = set()

    def flow(self) -> None:
        """Carry bytes, and the end of connections, until nothing moves."""
        moved = True
        while moved:
            moved = self._carry(self.near, self.far, self.acceptor) | self._carry(self.far, self.near, self.requestor)
            for wire, other, end, far_end in (
                (self.near, self.far, self.requestor, self.acceptor),
                (self.far, self.near, self.acceptor, self.requestor),
            ):
                if wire.closed and wire not in self._gone and not wire.sent:
                    self._gone.update((wire, other))
                    end.connectionLost()
                    far_end.connectionLost()

    def _carry(self, wire: Wire, other: Wire, end: Any) -> bool:
        if other.paused or not wire.sent or wire in self._gone:
            return False
        data = wire.taken()
        for at in range(0, len(data), self.chunk):
            end.dataReceived(data[at : at + self.chunk])
        return True

    def result(self, of: Deferred[Any]) -> list[Any]:
        """What it has fired with so far."""
        results: list[Any] = []
        of.addBoth(results.append)
        self.flow()
        return results


class Host:
    """adapters.dicom.upper.acceptor.Host that lets everyone in."""

    def __init__(self, services: Services, offer: Offer | None = None) -> None:
        self.services = services
        self.offer = offer or Offer(lambda uid: Taken((EXPLICIT_LE, IMPLICIT_LE)) if uid in services else None)
        self.faults: list[str] = []
        self.ends: list[Any] = []

    def admit(self, acceptor: Acceptor) -> bool:
        return True

    def peer_of(self, transport: Any) -> str:
        return ""

    def refusal(self, acceptor: Acceptor, request: Any) -> None:
        return None

    def established(self, acceptor: Acceptor) -> None: ...

    def ended(self, acceptor: Acceptor, failure: Any) -> None:
        self.ends.append(failure)

    def gone(self, acceptor: Acceptor) -> None: ...

    def fault(self, kind: str, at: Acceptor, **facts: Any) -> None:
        self.faults.append(kind)


class MemorySpool:
    """engine.store.contract.Spool. `fail_at`: bytes after which the disk is full."""

    def __init__(self, room: int | None = None) -> None:
        self.content = bytearray()
        self.room = room
        self.finished = self.aborted = False

    def write(self, data: bytes | memoryview) -> None:
        self.content += data
        if self.room is not None and len(self.content) > self.room:
            from engine.errors import StoreFull

            raise StoreFull("no room")

    def finish(self) -> BodyRef:
        self.finished = True
        return BodyRef(sha256(self.content).hexdigest(), len(self.content))

    def abort(self) -> None:
        self.aborted = True


class Receiving:
    """A `dicom` source with one association, without threads. `run` may be replaced to hold what goes to the disk."""

    def __init__(
        self, at_once: bool = True, run: Callable[..., Any] = maybeDeferred, room: int | None = None, host: str = "10.0.0.9", **options: Any
    ) -> None:
        self.clock = Clock()
        self.audited: list[Any] = []
        self.spools: list[MemorySpool] = []
        self.refuse_spool: StoreError | None = None
        self.room = room
        made = context(self.clock, self.audited, self._spool)
        self.source = DicomSource(adapter.source_options.defaults(**{"listen": 11112, **options}), made, run)
        self.intake = self.source.intake = Intake(at_once)
        self.host = host

    def _spool(self) -> MemorySpool:
        if self.refuse_spool is not None:
            raise self.refuse_spool
        self.spools.append(MemorySpool(self.room))
        return self.spools[-1]

    def associate(self, *contexts: tuple[str, list[str]], calling: str = "MODALITY", called: str = "MERIDIAN", **proposal: Any) -> Pair:
        proposed = Proposal(calling, called, contexts or ((CT, [EXPLICIT_LE]),), **proposal)
        acceptor = self.source.buildProtocol(None)
        pair = Pair(acceptor, self.clock, proposed, host=self.host)
        pair.flow()
        return pair

    def connect(self) -> tuple[Acceptor, Wire]:
        """A bare connection, for peers that do not behave."""
        acceptor, wire = self.source.buildProtocol(None), Wire(self.host)
        acceptor.makeConnection(wire)
        return acceptor, wire

    def store(self, pair: Pair, sop_instance: str = "1.2.3", data: bytes | None = None, **command: Any) -> list[Response]:
        request = store_request(sop_instance)
        request.update(command)
        return pair.result(pair.requestor.request(request, data_set(sop_instance) if data is None else data))

    def faults(self) -> dict[str, float]:
        """Count of each fault."""
        families = self.source.context.metrics.registry.collect()
        samples = [one for family in families for one in family.samples if one.name == "meridian_dicom_faults_total"]
        return {one.labels["fault"]: one.value for one in samples}


def context(reactor: Any, audited: list[Any] | None = None, spool: Any = None, **more: Any) -> Context:
    made = Context(
        name="c",
        reactor=reactor,
        site=Path("."),
        data=Path("."),
        clock=lambda: int(reactor.seconds() * 1e6) or 1,
        new_id=lambda: "A1",
        log=logging.getLogger("test.dicom"),
        metrics=Metrics(),
        tls=None,  # type: ignore[arg-type]
        audit=lambda event, **facts: (audited if audited is not None else []).append((event, facts)),
    )
    return replace(made, spool=spool, **more) if spool is not None else made


def associate_pdu(calling: str = "MODALITY", called: str = "MERIDIAN", **fields: Any) -> bytes:
    request = Proposal(calling, called, [(CT, [EXPLICIT_LE]), (VERIFICATION, [IMPLICIT_LE])]).request()
    return pdu.encode(replace(request, **fields))


def established() -> tuple[Association, Association]:
    """Two pure associations that have come to terms."""
    from adapters.dicom.upper.association import Write
    from adapters.dicom.upper.negotiation import negotiate

    near, far = Association(requestor=True), Association(requestor=False)
    far.connected()
    near.connected()
    request = Proposal("A", "B", [(CT, [EXPLICIT_LE]), (VERIFICATION, [IMPLICIT_LE])]).request()
    for step in near.associate(request):
        assert isinstance(step, Write)
        list(far.feed(step.data))
    answer = negotiate(request, Offer(lambda uid: Taken()))
    assert not isinstance(answer, pdu.AssociateReject)
    for step in far.accepted(*answer):
        assert isinstance(step, Write)
        list(near.feed(step.data))
    return near, far
