"""How an association can fail, for those who asked for something over it. Branches of engine.errors.ProtocolError."""

from __future__ import annotations

from adapters.dicom.upper.pdu import AssociateReject
from engine.errors import RemoteProtocolError


class AssociationFailed(RemoteProtocolError):
    """Root of these. Nothing more can be sent over the association."""

    code = "protocol.remote.association"


class NotConnected(AssociationFailed):
    """There is no transport connection: refused, timed out, no such host."""

    code = "protocol.remote.not_connected"


class NotSecure(NotConnected):
    """The TLS handshake failed."""

    code = "protocol.remote.not_secure"


class Rejected(AssociationFailed):
    """A-ASSOCIATE-RJ: `reject` has result, source and reason."""

    code = "protocol.remote.rejected"

    def __init__(self, reject: AssociateReject) -> None:
        super().__init__(str(reject))
        self.reject = reject


class PeerAborted(AssociationFailed):
    """A-ABORT came, from the peer's user or provider."""

    code = "protocol.remote.aborted"


class PeerBroke(AssociationFailed):
    """The peer broke the protocol, and was told so with an A-ABORT."""

    code = "protocol.remote.broke"


class WeAborted(AssociationFailed):
    """We ended it: asked to, idle, or out of patience."""

    code = "protocol.remote.we_aborted"


class ConnectionGone(AssociationFailed):
    """The transport connection was lost without a word."""

    code = "protocol.remote.gone"


class NoResponse(AssociationFailed):
    """A request was not answered in time; the association was aborted."""

    code = "protocol.remote.no_response"


class Released(AssociationFailed):
    """The association was released before this could be asked."""

    code = "protocol.remote.released"
