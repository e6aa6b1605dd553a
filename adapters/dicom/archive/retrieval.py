"""Sending what a C-MOVE or C-GET asked for: C-STORE sub-operations one after the other, each reported by a pending response.

Instances go out as they are stored; where the peer took only the other one of the two uncompressed little endian transfer syntaxes, the
heads of their elements are written anew (`recoding`). One for which there is no presentation context, or whose file retention has
removed meanwhile, is a failed sub-operation; the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS

from adapters.dicom.archive.header import meta_end
from adapters.dicom.archive.identifiers import failed_list
from adapters.dicom.archive.index import Held
from adapters.dicom.archive.recoding import recoded
from adapters.dicom.archive.suboperations import CANCELLED, PENDING, Counts, context_for, contexts_of, runs
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
        self, exchange: Exchange, run: list[Held], contexts: Mapping[tuple[str, str], int], **more: Any
    ) -> Generator[Deferred[Any], Any, None]:
        """The sub-operations of a run over one association; what is left when that ends has failed."""
        for held in run:
            if self.request.cancelled:
                return
            status = yield self._store(exchange, held, *context_for(held, contexts), more)
            self.counts.ended(held.sop_uid, status)
            if self.counts.remaining:
                self.request.respond(PENDING, **self.counts.elements(with_remaining=True))

    @inlineCallbacks
    def _store(
        self, exchange: Exchange, held: Held, context_id: int, recode: bool, more: dict[str, Any]
    ) -> Generator[Deferred[Any], Any, int | None]:
        """The status of the response, None where there is none."""
        if not context_id or exchange.ended is not None:
            return None
        try:
            offset: int = yield self._in_thread(_ready, held, recode)
            command = dimse.request(Field.C_STORE, held.sop_class, held.sop_uid, **more)
            pieces = _recoded_in_pieces(held, offset) if recode else _in_pieces(held, offset)
            response = yield exchange.request(command, pieces, context_id=context_id, timeout=self.options.timeout)
        except (OSError, MessageError, AssociationFailed, LocalProtocolError) as error:
            facts = {"channel": self.context.name, "sop_uid": held.sop_uid, "reason": str(error)}
            self.context.log.warning("an instance could not be sent", extra=facts)
            return None
        return int(response.status)


def agreed_in(exchange: Exchange, *, we_are_scu: bool) -> dict[tuple[str, str], int]:
    """The presentation contexts in which we may send C-STORE, by SOP class and transfer syntax; `we_are_scu`: it is our association."""
    agreed = sorted(exchange.association.agreed.values())
    return {(one.abstract_syntax, one.transfer_syntax): one.context_id for one in agreed if we_are_scu or one.roles.scp}


class Get(Retrieval):
    """On the association of the request, in the contexts for which the requestor is SCP (PS3.4 C.4.3, role selection)."""

    to = "the requestor"

    def send(self, run: list[Held]) -> Deferred[None]:
        exchange = self.request.exchange
        return self.send_over(exchange, run, agreed_in(exchange, we_are_scu=False))


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
                agreed_in(association, we_are_scu=True),
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


def _ready(held: Held, recode: bool) -> int:
    """Where the data set begins in the file. One that is to be recoded is gone through once: half of it sent could not be taken back.
    Raises OSError, ParseError, UnsupportedError."""
    with held.path.open("rb") as file:
        offset = meta_end(file)
        if recode:
            for _ in recoded(file, held.transfer_syntax):
                pass
        return offset


def _in_pieces(held: Held, offset: int) -> Iterator[bytes]:
    """As stored. A deflated data set may have an odd length in its file; a fragment must not (PS3.8 annex E.1). Raises OSError."""
    for piece in read_in_pieces(held.path, offset):
        yield piece + b"\0" * (len(piece) % 2)  # only the last can be odd


def _recoded_in_pieces(held: Held, offset: int) -> Iterator[bytes]:
    """Raises OSError."""
    with held.path.open("rb") as file:
        file.seek(offset)
        yield from recoded(file, held.transfer_syntax)
