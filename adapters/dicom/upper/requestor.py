"""The requestor's side of an association: connect, propose, ask, release.

    proposal = Proposal("MERIDIAN", "PACS", [(CT_IMAGE_STORAGE, [EXPLICIT_LE])])
    association = yield associate(reactor, endpoint, proposal)
    response = yield association.request(dimse.request(Field.C_STORE, sop_class, sop_instance), read_in_pieces(path, offset))
    yield association.release()

Every failure is an `AssociationFailed`, whose class tells what happened; a response's status is the caller's to judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from OpenSSL.SSL import Error as TlsError
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.protocol import Factory

from adapters.dicom.upper.association import Association
from adapters.dicom.upper.exchange import Exchange, Parties, Services
from adapters.dicom.upper.failures import AssociationFailed, NotConnected, NotSecure, Rejected
from adapters.dicom.upper.negotiation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from adapters.dicom.upper.pdu import AssociateAccept, AssociateReject, AssociateRequest, ProposedContext, Roles, UserIdentity
from adapters.dicom.upper.protocol import Times
from engine.errors import LocalProtocolError, SecurityError

if TYPE_CHECKING:
    from twisted.python.failure import Failure

MOST_CONTEXTS: Final = 128
"""Presentation context IDs are the odd numbers of a byte (PS3.8 clause 9.3.2.2)."""
PIECE: Final = 256 << 10


@dataclass(frozen=True)
class Proposal:
    """What is proposed. `contexts`: abstract syntax with its transfer syntaxes, each a presentation context, numbered 1, 3, 5 …;
    `roles` for those SOP classes in which the peer is to be SCU of us (C-GET: Roles(scu=True, scp=True)); `window`: operations
    that we would have under way at once (1: no negotiation of it)."""

    calling: str
    called: str
    contexts: Sequence[tuple[str, Sequence[str]]]
    roles: Mapping[str, Roles] = field(default_factory=dict)
    max_length: int = 131072
    window: int = 1
    identity: UserIdentity | None = None
    extended: Mapping[str, bytes] = field(default_factory=dict)

    def request(self) -> AssociateRequest:
        """Raises LocalProtocolError for too many contexts, or none."""
        if not 0 < len(self.contexts) <= MOST_CONTEXTS:
            raise LocalProtocolError(f"an association has 1 to {MOST_CONTEXTS} presentation contexts, not {len(self.contexts)}")
        contexts = tuple(
            ProposedContext(2 * index + 1, abstract, tuple(transfer)) for index, (abstract, transfer) in enumerate(self.contexts)
        )
        return AssociateRequest(
            self.called,
            self.calling,
            self.max_length,
            IMPLEMENTATION_CLASS_UID,
            IMPLEMENTATION_VERSION_NAME,
            self.roles,
            (self.window, 1) if self.window != 1 else None,
            self.extended,
            contexts,
            self.identity,
        )


class Requestor(Exchange):
    """An association that we asked for. `closed` fires with None or the AssociationFailed when the association is over (also when it was
    never established)."""

    def __init__(self, request: AssociateRequest, clock: Any, times: Times, services: Services, *, secure: bool) -> None:
        super().__init__(Association(requestor=True, max_length=request.max_length), clock, times, services, secure=secure)
        self._request_pdu = request
        self.established: Deferred[Requestor] = Deferred(lambda _: self.abort())
        self.closed: Deferred[AssociationFailed | None] = Deferred()
        self._released: list[Deferred[None]] = []
        self._wants_release = False
        self._patience: Any = None

    def begun(self) -> None:
        self.parties = Parties(self._request_pdu.calling, self._request_pdu.called, "", self.remote)
        self._patience = self._clock.callLater(self._times.artim, self._no_answer)
        self._run(self.association.associate(self._request_pdu))

    def _no_answer(self) -> None:
        self.abort(NotConnected("the peer does not answer the A-ASSOCIATE-RQ"))

    def answered(self, answer: AssociateAccept | AssociateReject) -> None:
        self._patience.cancel()
        if isinstance(answer, AssociateReject):
            self._finish(Rejected(answer))
            return
        if answer.window is not None and self._request_pdu.window is not None:
            asked, given = self._request_pdu.window[0], answer.window[0]
            self.may_invoke = min(asked, given) if asked and given else asked or given or 64
        self.established.callback(self)

    # --- the end ---------------------------------------------------------------------------------------

    def release(self) -> Deferred[None]:
        """A-RELEASE, once what is under way is done. Fires when the association is over, however that came about; never fails."""
        done: Deferred[None] = Deferred()
        if self.ended is not None:
            return succeed(None)
        self._released.append(done)
        self._wants_release = True
        self.answered_all()
        return done

    def answered_all(self) -> None:
        if self._wants_release and self.ended is None and self.quiet and self.association.established:
            self._run(self.association.release())
            self._patience = self._clock.callLater(self._times.artim, self.abort)

    def release_asked(self) -> None:
        """The peer releases (unusual for an acceptor), or both at once: then the requestor answers first (PS3.8 clause 7.2.2.7)."""
        self.drop_unfinished()
        self._run(self.association.released())
        if not self._wants_release:
            self._finish(None)

    def over(self, failure: AssociationFailed | None) -> None:
        super().over(failure)
        if self._patience is not None and self._patience.active():
            self._patience.cancel()
        if not self.established.called:
            self.established.errback(failure or NotConnected("the association ended before it began"))
        released, self._released = self._released, []
        for one in released:
            one.callback(None)
        self.closed.callback(failure)

    def connectionLost(self, reason: Failure | None = None) -> None:
        if self._secure and not self.established.called and reason is not None and reason.check(TlsError, SecurityError):
            self._finish(NotSecure(f"no secure connection: {reason.getErrorMessage()}"))
        super().connectionLost(reason)


def associate(
    reactor: Any,
    endpoint: Any,
    proposal: Proposal,
    *,
    secure: bool = False,
    services: Services | None = None,
    times: Times | None = None,
    connect_timeout: float = 10.0,
) -> Deferred[Requestor]:
    """Connect to `endpoint` (an IStreamClientEndpoint; `secure` where it is wrapped in TLS) and propose. `times.artim` is how long the peer
    may take to answer. `services` answers what the peer asks on this association (N-EVENT-REPORT, C-STORE of C-GET). Fails with
    NotConnected, NotSecure, Rejected or another AssociationFailed; LocalProtocolError for a proposal that cannot be made."""
    try:
        request = proposal.request()
    except LocalProtocolError as error:
        return fail(error)
    made = Requestor(request, reactor, times or Times(), services or {}, secure=secure)
    connecting = endpoint.connect(Factory.forProtocol(lambda: made))
    timer = reactor.callLater(connect_timeout, connecting.cancel)

    def connected(result: Any) -> Any:
        if timer.active():
            timer.cancel()
        return result

    def not_connected(failure: Failure) -> Failure:
        if made.established.called or failure.check(AssociationFailed):
            return failure
        words = "timed out" if failure.check(CancelledError) else failure.getErrorMessage()
        raise NotConnected(f"cannot connect: {words}")

    connecting.addBoth(connected)
    connecting.addCallback(lambda _: made.established)
    connecting.addErrback(not_connected)
    return connecting  # type: ignore[no-any-return]


def read_in_pieces(path: Path, offset: int = 0, piece: int = PIECE) -> Iterator[bytes]:
    """A file's bytes from `offset` on, read as they are asked for. Raises OSError."""
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        while data := file.read(piece):
            yield data
