"""How to get an association with one application entity, and what its failures mean for a delivery.

no connection, no TLS     Transient for the whole destination: nothing was sent
rejected                  the same, whether for now or permanently: what is at fault is the agreement between two sites (an AE title that is
                          not known), and it would be wrong to dead-letter a morning's images for it; a permanent one is tried less often
no answer in time         Uncertain, and the whole destination waits
lost or aborted within    Uncertain: the instance may have been taken; sent again it is the same SOP instance
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS

from adapters.dicom.upper.failures import AssociationFailed, NoResponse, NotConnected, Rejected
from adapters.dicom.upper.protocol import Times
from adapters.dicom.upper.requestor import Proposal, Requestor, associate
from engine.errors import DeliveryError, TransientDelivery, UncertainDelivery

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from adapters.dicom.upper.exchange import Services
    from adapters.dicom.upper.pdu import Roles
    from engine.contracts import Context
    from engine.options import Settings

_PERMANENT: Final = 1
_AGREEMENT_SECONDS: Final = 60.0


class Peer:
    """One application entity. `idle`: an association that says nothing so long is given up."""

    def __init__(
        self,
        address: tuple[str, int],
        tls: Settings | None,
        calling: str,
        called: str,
        context: Context,
        *,
        idle: float,
        connect_timeout: float,
    ) -> None:
        self._address, self._tls, self._calling, self._called = address, tls, calling, called
        self._context, self._connect_timeout = context, connect_timeout
        self._times = Times(artim=connect_timeout, idle=idle)
        self._endpoint: Any = None

    def open(self) -> None:
        """Raises ConfigError where the certificates cannot be used."""
        host, port = self._address
        endpoint: Any = HostnameEndpoint(self._context.reactor, host, port, timeout=self._connect_timeout)
        if self._tls is not None:
            endpoint = wrapClientTLS(self._context.tls.client(self._tls, host, self._context.name), endpoint)
        self._endpoint = endpoint

    def associate(
        self,
        contexts: Sequence[tuple[str, Sequence[str]]],
        *,
        services: Services | None = None,
        roles: Mapping[str, Roles] | None = None,
        max_length: int = 131072,
    ) -> Deferred[Requestor]:
        """Fails with DeliveryError: nothing was sent."""
        proposal = Proposal(self._calling, self._called, contexts, dict(roles or {}), max_length)
        made = associate(
            self._context.reactor,
            self._endpoint,
            proposal,
            secure=self._tls is not None,
            services=services,
            times=self._times,
            connect_timeout=self._connect_timeout,
        )
        return made.addErrback(_not_made)


def _not_made(failure: Failure) -> Failure:
    if isinstance(failure.value, AssociationFailed):
        raise not_associated(failure.value) from None
    return failure


def not_associated(error: AssociationFailed) -> DeliveryError:
    """No association came about."""
    if isinstance(error, Rejected):
        after = _AGREEMENT_SECONDS if error.reject.result == _PERMANENT else None
        return TransientDelivery(f"the association was {error.text}", retry_after=after, whole_destination=True)
    return TransientDelivery(f"no association: {error.text}", whole_destination=True)


def broken_within(error: AssociationFailed) -> DeliveryError:
    """The association ended while something was under way on it."""
    if isinstance(error, NotConnected):
        return TransientDelivery(error.text, whole_destination=True)
    return UncertainDelivery(f"the association ended before the response: {error.text}", whole_destination=isinstance(error, NoResponse))
