"""Sending what a C-MOVE or C-GET asked for: C-STORE sub-operations one after the other, each reported by a pending response.

Instances go out as they are stored. One for which the peer took no presentation context in its transfer syntax, or whose file retention has
removed meanwhile, is a failed sub-operation; the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS

from adapters.dicom.archive.header import meta_end
from adapters.dicom.archive.identifiers import failed_list
from adapters.dicom.archive.index import Held
from adapters.dicom.archive.suboperations import CANCELLED, PENDING, Counts, contexts_of, runs
from adapters.dicom.upper import dimse
from adapters.dicom.upper.dimse import Field
from adapters.dicom.upper.exchange import Exchange, Request
from adapters.dicom.upper.failures import AssociationFailed
from adapters.dicom.upper.requestor import Proposal, associate, read_in_pieces
from engine.errors import ConfigError, LocalProtocolError, MessageError

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.options import Settings

InThread = Callable[..., Deferred[Any]]


class Retrieval:
    """One C-MOVE or C-GET. `to` names where it goes, for the audit."""

    to = ""

    def __init__(self, request: Request, options: Settings, context: Context, in_thread: InThread) -> None:
        self.request, self.options, self.context, self._in_thread = request, options, context, in_thread
        self.counts = Counts(0)

    @inlineCallbacks
    def run(self, instances: list[Held]) -> Generator[Deferred[Any], Any, None]:
        """Send them all, or until it is cancelled; then the final response."""
        self.counts = Counts(len(instances))
        for run in runs(instances):
            if not self.request.cancelled:
                yield self.send(run)
        counts, syntax = self.counts, self.request.context.transfer_syntax
        failed = failed_list(counts.failures, syntax)
        if self.request.cancelled:
            self.request.respond(CANCELLED, data=failed, **counts.elements(with_remaining=True))
        else:
            self.request.respond(counts.final(), data=failed, **counts.elements(with_remaining=False))

    def send(self, run: list[Held]) -> Deferred[None]:
        raise NotImplementedError

    @inlineCallbacks
    def send_over(
        self, exchange: Exchange, run: list[Held], context_of: Callable[[Held], int], **more: Any
    ) -> Generator[Deferred[Any], Any, None]:
        """The sub-operations of a run over one association; what is left when that ends has failed."""
        for held in run:
            if self.request.cancelled:
                return
            status = yield self._store(exchange, held, context_of(held), more)
            self.counts.ended(held.sop_uid, status)
            if self.counts.remaining:
                self.request.respond(PENDING, **self.counts.elements(with_remaining=True))

    @inlineCallbacks
    def _store(self, exchange: Exchange, held: Held, context_id: int, more: dict[str, Any]) -> Generator[Deferred[Any], Any, int | None]:
        """The status of the response, None where there is none."""
        if not context_id or exchange.ended is not None:
            return None
        try:
            offset: int = yield self._in_thread(_offset, held)
            command = dimse.request(Field.C_STORE, held.sop_class, held.sop_uid, **more)
            pieces = read_in_pieces(held.path, offset)
            response = yield exchange.request(command, pieces, context_id=context_id, timeout=self.options.timeout)
        except (OSError, MessageError, AssociationFailed, LocalProtocolError) as error:
            facts = {"channel": self.context.name, "sop_uid": held.sop_uid, "reason": str(error)}
            self.context.log.warning("an instance could not be sent", extra=facts)
            return None
        return int(response.status)


class Get(Retrieval):
    """On the association of the request, in the contexts for which the requestor is SCP (PS3.4 C.4.3, role selection)."""

    to = "the requestor"

    def send(self, run: list[Held]) -> Deferred[None]:
        exchange = self.request.exchange
        contexts = {
            (context.abstract_syntax, context.transfer_syntax): context.context_id
            for context in exchange.association.agreed.values()
            if context.roles.scp
        }
        return self.send_over(exchange, run, lambda held: contexts.get((held.sop_class, held.transfer_syntax), 0))


class Move(Retrieval):
    """Over an association with the move destination (PS3.4 C.4.2)."""

    def __init__(
        self, request: Request, options: Settings, context: Context, in_thread: InThread, title: str, destination: Settings
    ) -> None:
        super().__init__(request, options, context, in_thread)
        self.to, self._destination = title, destination

    @inlineCallbacks
    def send(self, run: list[Held]) -> Generator[Deferred[Any], Any, None]:
        parties = self.request.parties
        proposal = Proposal(parties.called, self.to, contexts_of(run))
        try:
            association = yield self._associate(proposal)
        except (AssociationFailed, ConfigError) as error:
            facts = {"channel": self.context.name, "to": self.to, "reason": str(error)}
            self.context.log.warning("a move destination cannot be reached", extra=facts)
            for held in run:
                self.counts.ended(held.sop_uid, None)
            return
        try:
            yield self.send_over(
                association,
                run,
                lambda held: association.context_for(held.sop_class, held.transfer_syntax),
                MoveOriginatorApplicationEntityTitle=parties.calling,
                MoveOriginatorMessageID=self.request.command.message_id,
            )
        finally:
            association.release()

    def _associate(self, proposal: Proposal) -> Deferred[Any]:
        host, port = self._destination.connect
        host, patience = host or "127.0.0.1", self.options.connect_timeout
        endpoint: Any = HostnameEndpoint(self.context.reactor, host, port, timeout=patience)
        tls = self._destination.tls
        if tls is not None:
            endpoint = wrapClientTLS(self.context.tls.client(tls, host, self.context.name), endpoint)
        return associate(self.context.reactor, endpoint, proposal, secure=tls is not None, connect_timeout=patience)


def _offset(held: Held) -> int:
    """Where the data set begins in the file. Raises OSError, ParseError."""
    with held.path.open("rb") as file:
        return meta_end(file)
