"""A Storage SCP in this process, whose responses the test decides; on the upper layer of adapters.dicom itself (foreign ones are in
tests/interop)."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory

from adapters.dicom.upper.acceptor import Acceptor
from adapters.dicom.upper.exchange import Gathered
from adapters.dicom.upper.negotiation import Offer, Taken
from adapters.dicom.upper.protocol import Times


class DicomPeer:
    """See tests.contracts.destination_contract. `statuses`: by SOP Instance UID; `stored`: data sets by SOP Instance UID;
    `associations` are the A-ASSOCIATE-RQs that came; `reject` is what they are answered with."""

    def __init__(self, services: dict[str, Any] | None = None, port: int = 0) -> None:
        self.mode = "take"
        self.statuses: dict[str, int] = {}
        self.stored: dict[str, bytes] = {}
        self.syntaxes: dict[str, str] = {}
        self.taken: list[str] = []
        self.held: list[Any] = []
        self.associations: list[Any] = []
        self.open: set[Any] = set()
        self.reject: Any = None
        self.takes: tuple[str, ...] = ()
        self.released = 0
        self._received: list[Deferred[Any]] = []
        self._ended: list[Deferred[None]] = []
        self._connections: set[Any] = set()
        self.services: Any = _Services(self, services or {})
        self.offer = Offer(self._taken, 131072)
        factory = Factory.forProtocol(lambda: Acceptor(self, reactor, Times(), secure=False))
        factory.noisy = False
        self._port: Any = reactor.listenTCP(port, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.port = self._port.getHost().port

    def _taken(self, abstract_syntax: str) -> Taken:
        return Taken(self.takes if abstract_syntax not in self.services.more else ("1.2.840.10008.1.2",), scp=True)

    def stop(self) -> Any:
        for one in list(self._connections):
            one.transport.abortConnection()
        return self._port.stopListening()

    def received(self) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self._received.append(done)
        return done

    def ended_one(self) -> Deferred[None]:
        """Fires with the end of the next association."""
        done: Deferred[None] = Deferred()
        self._ended.append(done)
        return done

    def release(self) -> None:
        held, self.held = self.held, []
        for request in held:
            self._take(request)

    # --- adapters.dicom.upper.exchange.Service -----------------------------------------------------

    def begin(self, request: Any) -> Any:
        return Gathered(request, lambda data: self._heard(request, data))

    def _heard(self, request: Any, data: bytes) -> None:
        waiting, self._received = self._received, []
        for done in waiting:
            done.callback(request)
        uid = request.command.sop_instance
        if self.mode == "hang up":
            request.exchange.transport.abortConnection()
        elif self.mode == "abort":
            request.exchange.abort()
        else:
            self.stored[uid], self.syntaxes[uid] = data, request.context.transfer_syntax
            if self.mode == "hold":
                self.held.append(request)
            else:
                self._take(request)

    def _take(self, request: Any) -> None:
        uid = request.command.sop_instance
        status = 0xA900 if self.mode == "refuse" else self.statuses.get(uid, 0)
        if status >> 12 not in (0xA, 0xC) and status not in (0x0122, 0x0124, 0x0110):
            self.taken.append(uid.rpartition(".")[2])
        request.respond(status, "as the test says" if status else "")

    # --- adapters.dicom.upper.acceptor.Host --------------------------------------------------------

    def admit(self, acceptor: Any) -> bool:
        self._connections.add(acceptor)
        return True

    def gone(self, acceptor: Any) -> None:
        self._connections.discard(acceptor)

    def peer_of(self, transport: Any) -> str:
        return ""

    def refusal(self, acceptor: Any, request: Any) -> Any:
        self.associations.append(request)
        return self.reject

    def established(self, acceptor: Any) -> None:
        self.open.add(acceptor)

    def ended(self, acceptor: Any, failure: Any) -> None:
        self.open.discard(acceptor)
        self.released += failure is None
        ended, self._ended = self._ended, []
        for done in ended:
            done.callback(None)

    def fault(self, kind: str, acceptor: Any, **facts: Any) -> None: ...


class _Services(dict[str, Any]):
    def __init__(self, peer: DicomPeer, more: dict[str, Any]) -> None:
        super().__init__()
        self._peer, self.more = peer, more

    def get(self, key: str, default: Any = None) -> Any:
        return self.more.get(key, self._peer)
