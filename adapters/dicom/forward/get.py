"""Reads an instance back by C-GET (PS3.4 annex C, Study Root) and compares its data set with what was sent: byte for byte,
or, where the peer wrote it anew, by what it says (`canonical`).

Each instance takes an association of its own, in which the peer may be SCU of the instance's SOP class in its own transfer syntax alone
(PS3.7 annex D.3.3.4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydicom.dataset import Dataset
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from adapters.dicom.forward.canonical import Digests
from adapters.dicom.forward.commitment import SYNTAXES
from adapters.dicom.forward.data_sets import encoded
from adapters.dicom.forward.outcomes import in_words
from adapters.dicom.forward.peer import broken_within
from adapters.dicom.instances import HEAD, Facts, read_file_facts
from adapters.dicom.upper import dimse
from adapters.dicom.upper.dimse import Field, Status
from adapters.dicom.upper.failures import AssociationFailed
from adapters.dicom.upper.pdu import Roles
from engine.errors import PermanentDelivery, TransientDelivery

if TYPE_CHECKING:
    from adapters.dicom.forward.instance import Instance
    from adapters.dicom.forward.peer import Peer
    from adapters.dicom.upper.exchange import Request, Response, Sink
    from adapters.dicom.upper.requestor import Requestor
    from engine.contracts import Context
    from engine.options import Settings

_MOST: Final = 8
STUDY_ROOT_GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"


class Retrieval:
    """At most as many at once as the destination has associations."""

    def __init__(self, options: Settings, context: Context, peer: Peer) -> None:
        self._timeout, self._reactor, self._peer = options.timeout, context.reactor, peer
        self._places = DeferredSemaphore(options.associations)

    def compare(self, words: str, instance: Instance) -> Deferred[str]:
        """Fires with `words` and that it was read back. Fails with PermanentDelivery where it is another, with another DeliveryError
        where that cannot be told."""
        return self._places.run(self._compare, words, instance)

    def _compare(self, words: str, instance: Instance) -> Deferred[str]:
        read = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), _ours, instance)
        return read.addCallback(self._ask, instance).addCallback(lambda _: f"{words}, read back")

    def _ask(self, read: tuple[Digests, Facts], instance: Instance) -> Deferred[None]:
        ours, facts = read
        came = _Came(instance.meta.sop_instance, instance.meta.transfer_syntax)
        made = self._peer.associate(
            [(STUDY_ROOT_GET, SYNTAXES), (instance.meta.sop_class, (instance.meta.transfer_syntax,))],
            services={instance.meta.sop_class: came},
            roles={instance.meta.sop_class: Roles(scu=True, scp=True)},
        )
        return made.addCallback(self._get, instance, facts).addCallback(_check, came, ours).addErrback(_broken)

    def _get(self, association: Requestor, instance: Instance, facts: Facts) -> Deferred[Response]:
        def over(result: Any) -> Any:
            association.release()
            return result

        context_id = association.context_for(STUDY_ROOT_GET)
        if not context_id or not association.context_for(instance.meta.sop_class):
            over(None)
            raise TransientDelivery(
                "the peer does not give instances back (C-GET), and the channel wants to verify", whole_destination=True
            )
        wanted = Dataset()
        wanted.QueryRetrieveLevel = "IMAGE"
        wanted.StudyInstanceUID, wanted.SeriesInstanceUID = facts.study_uid, facts.series_uid
        wanted.SOPInstanceUID = instance.meta.sop_instance
        data = encoded(wanted, association.association.agreed[context_id].transfer_syntax)
        command = dimse.request(Field.C_GET, STUDY_ROOT_GET)
        return association.request(command, data, context_id=context_id, timeout=self._timeout).addBoth(over)


class _Came:
    """adapters.dicom.upper.exchange.Service: the digests of what the peer gives back. One that tells patients apart may have several
    instances of one UID."""

    def __init__(self, sop_instance: str, transfer_syntax: str) -> None:
        self._wanted, self._transfer_syntax = sop_instance, transfer_syntax
        self.whole: list[Digests] = []

    def begin(self, request: Request) -> Sink | None:
        if request.command.field != Field.C_STORE or request.command.sop_instance != self._wanted or len(self.whole) >= _MOST:
            request.respond(Status.PROCESSING_FAILURE)
            return None
        return _Comes(request, Digests(self._transfer_syntax), self.whole)


class _Comes:
    """adapters.dicom.upper.exchange.Sink"""

    def __init__(self, request: Request, digests: Digests, whole: list[Digests]) -> None:
        self._request, self._digests, self._whole = request, digests, whole

    def write(self, data: memoryview) -> None:
        self._digests.feed(data)

    def end(self) -> None:
        self._whole.append(self._digests)
        self._request.respond(Status.SUCCESS)

    def lost(self) -> None:
        """The association's end says it."""


def _ours(instance: Instance) -> tuple[Digests, Facts]:
    """In a thread. Raises DeliveryError."""
    digests = Digests(instance.meta.transfer_syntax)
    for piece in instance.data_set():
        digests.feed(piece)
    return digests, read_file_facts(instance.head(HEAD))


def _check(response: Response, came: _Came, ours: Digests) -> None:
    if not came.whole:  # not permanent: what was stored may be findable a moment later
        raise TransientDelivery(f"it cannot be read back: the peer answered {in_words(response.status)}")
    if not any(ours.agree(one) for one in came.whole):
        raise PermanentDelivery("what the peer stored is not what was sent: their data sets differ")


def _broken(failure: Failure) -> Failure:
    if isinstance(failure.value, AssociationFailed):
        raise broken_within(failure.value) from None
    return failure
