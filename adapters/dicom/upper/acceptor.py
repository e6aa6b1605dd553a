"""The acceptor's side of an association: who may have one is its `Host`'s to say, who answers what stands in `Services`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from adapters.dicom.upper.association import Association
from adapters.dicom.upper.exchange import Exchange, Parties, Services
from adapters.dicom.upper.failures import AssociationFailed, WeAborted
from adapters.dicom.upper.negotiation import Offer, negotiate
from adapters.dicom.upper.pdu import AssociateReject, AssociateRequest
from adapters.dicom.upper.protocol import Times
from adapters.dicom.upper.states import State

if TYPE_CHECKING:
    from twisted.python.failure import Failure


class Host(Protocol):
    """What an acceptor asks of the listener that it belongs to."""

    @property
    def offer(self) -> Offer: ...

    @property
    def services(self) -> Services: ...

    def admit(self, acceptor: Acceptor) -> bool:
        """A connection has come: is there room for it. If not, it is closed."""

    def peer_of(self, transport: Any) -> str:
        """The party that the connection has proven."""

    def refusal(self, acceptor: Acceptor, request: AssociateRequest) -> AssociateReject | None:
        """Whether this association may be, by who asks for it."""

    def established(self, acceptor: Acceptor) -> None: ...

    def ended(self, acceptor: Acceptor, failure: AssociationFailed | None) -> None:
        """The association is over, in order or not."""

    def gone(self, acceptor: Acceptor) -> None:
        """The connection is."""

    def fault(self, kind: str, at: Acceptor, **facts: Any) -> None: ...


class Acceptor(Exchange):
    """One connection of a listener."""

    def __init__(self, host: Host, clock: Any, times: Times, *, secure: bool, window: int = 1) -> None:
        association = Association(requestor=False, max_length=host.offer.max_length)
        super().__init__(association, clock, times, host.services, secure=secure, window=window)
        self._host = host
        self._admitted = self._stopping = self._releasing = False

    # --- the connection --------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        super().connectionMade()
        self._admitted = self._host.admit(self)
        if not self._admitted:
            self.abort()

    def connectionLost(self, reason: Failure | None = None) -> None:
        super().connectionLost(reason)
        if self._admitted:
            self._host.gone(self)

    def proposed(self, request: AssociateRequest) -> None:
        self.parties = Parties(request.calling, request.called, self._host.peer_of(self.transport), self.remote)
        answer = self._host.refusal(self, request) or negotiate(request, self._host.offer)
        if isinstance(answer, AssociateReject):
            self.fault("rejected", reason=str(answer))
            self._run(self.association.rejected(answer))
            self._finish(None)
            return
        self._run(self.association.accepted(*answer))
        self._host.established(self)

    # --- the end -----------------------------------------------------------------------------------------

    def release_asked(self) -> None:
        self._releasing = True
        self.drop_unfinished()
        self.answered_all()

    def release_confirmed(self) -> None:
        """Both had asked, and the requestor has answered first (PS3.8 clause 7.2.2.7)."""
        if self.association.state is State.Sta12:
            self._run(self.association.released())

    def answered_all(self) -> None:
        if self.ended is not None or not self.quiet:
            return
        if self._releasing and self.association.state is State.Sta8:
            self._run(self.association.released())
            self._finish(None)
        elif self._stopping:
            self.abort(WeAborted("this node stops"))
            self.cut_off_soon()

    def stop(self) -> None:
        """Take nothing more; abort once everything that was taken is answered."""
        self._stopping = True
        self.drop_unfinished()
        self.hold(self)
        if self.ended is not None:
            self.cut_off_soon()
        elif not self.association.agreed:
            self.abort(WeAborted("this node stops"))
            self.cut_off_soon()
        else:
            self.answered_all()

    def over(self, failure: AssociationFailed | None) -> None:
        super().over(failure)
        if self._admitted:
            self._host.ended(self, failure)

    def fault(self, kind: str, **facts: Any) -> None:
        self._host.fault(kind, self, **facts)
