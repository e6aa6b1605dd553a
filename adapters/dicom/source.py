"""The DICOM source: listens, admits associations within their limits and policies, counts and audits what goes wrong."""

from __future__ import annotations

from collections import Counter as Counts
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from adapters.dicom.policies import Policies
from adapters.dicom.services import Table
from adapters.dicom.upper.acceptor import Acceptor
from adapters.dicom.upper.negotiation import Offer
from adapters.dicom.upper.pdu import LOCAL_LIMIT_EXCEEDED
from adapters.dicom.upper.protocol import Times
from engine.listening import listen

if TYPE_CHECKING:
    from adapters.dicom.spooling import Run
    from adapters.dicom.upper.failures import AssociationFailed
    from adapters.dicom.upper.pdu import AssociateReject, AssociateRequest
    from engine.contracts import Context, Intake
    from engine.options import Settings

FAULTS: Final = {
    "artim": "the peer did not begin or end an association in time",
    "broke": "the peer broke the protocol; the association was aborted",
    "crowded": "too many associations",
    "cut_off": "the association ended inside a data set; nothing of it was acknowledged",
    "idle": "association idle; aborted",
    "lost": "the association ended without a release",
    "rejected": "association rejected",
    "slow": "an instance, or a TLS handshake, took too long; aborted",
    "stray": "a response that answers nothing",
    "too_large": "an instance is larger than the channel takes",
    "unanswered": "the peer did not answer a request",
    "unsent": "a data set could not be read to its end",
    "unusable": "an instance that does not fit or cannot be read, kept",
}
"""What the label `fault` of ``meridian_dicom_faults_total`` may be, and what the log says."""
SPARE: Final = 16
"""Connections beyond the limit of associations that are let in to be told why they are rejected."""
THREADS: Final = 8
"""That write, hash and fsync; they wait for the disk most of the time."""


class DicomSource(Factory):
    """engine.contracts.Source, and adapters.dicom.upper.acceptor.Host. `run` calls in a thread; default: in threads of its own."""

    noisy = False

    def __init__(self, options: Settings, context: Context, run: Run | None = None) -> None:
        self.options, self.context = options, context
        self.intake: Intake | None = None
        self._threads: ThreadPool | None = None
        self.run: Run = run or self._in_thread
        self.services = Table(self)
        self.offer = Offer(self.services.taken, options.pdu_size, options.operations, self.services.extended)
        self._policies = Policies(options.called, options.calling)
        self._times = Times(options.artim, options.idle, options.receive_within)
        self._connections: set[Acceptor] = set()
        self._associations: set[Acceptor] = set()
        self._per_address: Counts[str] = Counts()
        self._port: Any = None
        self._stopped: Deferred[None] | None = None
        self._open = context.metrics.gauge("meridian_dicom_associations", "open associations", channel=context.name)

    # --- engine.contracts.Source -----------------------------------------------------------------

    def start(self, intake: Intake) -> Deferred[None]:
        self.intake = intake
        return self.services.start().addCallback(self._listen)

    def _listen(self, _: object) -> None:
        self._port = listen(self, self.options, self.context)

    @property
    def port(self) -> int:
        """Where it listens (of use when the option said port 0)."""
        return int(self._port.getHost().port)

    def stop(self) -> Deferred[None]:
        if self._stopped is None:
            self._stopped = Deferred()
            closed = succeed(None) if self._port is None else self._port.stopListening()
            self.services.stop()
            for connection in list(self._connections):
                connection.stop()
            closed.addCallback(self._not_listening)
        stopped: Deferred[None] = Deferred()
        self._stopped.chainDeferred(stopped)
        return stopped

    def _not_listening(self, _: object) -> None:
        self._port = None
        self._look_stopped()

    def _look_stopped(self) -> None:
        if self._stopped is not None and self._port is None and not self._connections and not self._stopped.called:
            if self._threads is not None:
                self._threads.stop()
                self._threads = None
            self._stopped.callback(None)

    def _in_thread(self, function: Any, *arguments: Any) -> Deferred[Any]:
        if self._threads is None:
            self._threads = ThreadPool(0, THREADS, f"dicom {self.context.name}")
            self._threads.start()
        return deferToThreadPool(self.context.reactor, self._threads, function, *arguments)

    def buildProtocol(self, addr: Any) -> Acceptor:
        secure = self.options.tls is not None
        return Acceptor(self, self.context.reactor, self._times, secure=secure, window=self.options.operations)

    # --- adapters.dicom.upper.acceptor.Host --------------------------------------------------------

    def admit(self, acceptor: Acceptor) -> bool:
        address = _address(acceptor)
        most = min(self.options.associations, self.options.associations_per_address)
        if len(self._connections) >= self.options.associations + SPARE or self._per_address[address] >= most + SPARE:
            self._crowded(acceptor)
            return False
        self._connections.add(acceptor)
        self._per_address[address] += 1
        return True

    def gone(self, acceptor: Acceptor) -> None:
        self._connections.discard(acceptor)
        address = _address(acceptor)
        self._per_address[address] -= 1
        if not self._per_address[address]:
            del self._per_address[address]
        self._look_stopped()

    def peer_of(self, transport: Any) -> str:
        return self.context.tls.peer(transport) if self.options.tls is not None else ""

    def refusal(self, acceptor: Acceptor, request: AssociateRequest) -> AssociateReject | None:
        refusal = self._policies.refusal(acceptor.parties)
        if refusal is not None:
            self._audit_refused(acceptor, str(refusal))
            return refusal
        same = sum(_address(one) == _address(acceptor) for one in self._associations)
        if len(self._associations) >= self.options.associations or same >= self.options.associations_per_address:
            self._crowded(acceptor)
            return LOCAL_LIMIT_EXCEEDED
        return None

    def established(self, acceptor: Acceptor) -> None:
        self._associations.add(acceptor)
        self._open.set(len(self._associations))

    def ended(self, acceptor: Acceptor, failure: AssociationFailed | None) -> None:
        if failure is not None and acceptor in self._associations:
            self.fault("lost", acceptor, reason=failure.text)
        self._associations.discard(acceptor)
        self._open.set(len(self._associations))

    # --- what goes wrong -----------------------------------------------------------------------------

    def fault(self, kind: str, at: Acceptor | str, **facts: Any) -> None:
        """Count and log one of FAULTS; rare, so the counter is looked up each time."""
        channel = self.context.name
        metrics = self.context.metrics
        metrics.counter("meridian_dicom_faults_total", "what goes wrong on the wire", channel=channel, fault=kind).inc()
        remote = at if isinstance(at, str) else at.remote
        self.context.log.warning(FAULTS[kind], extra={"channel": channel, "remote": remote, **facts})

    def not_kept(self, control_id: str, reason: str) -> None:
        """The store could not take an instance; it was answered A700H."""
        self.context.log.error("cannot keep an instance", extra={"channel": self.context.name, "control_id": control_id, "reason": reason})

    def _crowded(self, acceptor: Acceptor) -> None:
        self.fault("crowded", acceptor)
        self._audit_refused(acceptor, "too many associations")

    def _audit_refused(self, acceptor: Acceptor, reason: str) -> None:
        parties = acceptor.parties
        self.context.audit(
            "dicom.refused",
            channel=self.context.name,
            remote=acceptor.remote,
            party=parties.peer,
            calling=parties.calling,
            called=parties.called,
            reason=reason,
        )


def _address(acceptor: Acceptor) -> str:
    return acceptor.remote.rpartition(":")[0]
