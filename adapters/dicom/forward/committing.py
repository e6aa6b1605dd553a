"""Storage commitment as SCU (PS3.4 annex J): an instance that was stored is delivered when the peer has taken over the custody of it.

Instances gather until nothing more was stored for a short time, or there are many; then one N-ACTION asks for all of them, after its
transaction is on disk. The report comes on the same association, which is kept open a little, or on one that the peer opens to a listener
of this node (the option `commitment` of a `dicom` source). What is not reported in time is sent again, and asked for anew.

Failure reasons (PS3.3 C.14.1.1): 0110 0112 0131 0213 are transient, and the instance is sent again; others are permanent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.python.failure import Failure

from adapters.dicom.forward import commitment
from adapters.dicom.forward.commitment import PUSH_MODEL, PUSH_MODEL_INSTANCE, Notice, Reference
from adapters.dicom.forward.commitment_book import COMMITTED, PENDING, Awaited
from adapters.dicom.forward.commitment_hub import Reports, hub_for
from adapters.dicom.forward.outcomes import in_words
from adapters.dicom.forward.peer import broken_within
from adapters.dicom.upper import dimse
from adapters.dicom.upper.dimse import Field, Status
from adapters.dicom.upper.failures import AssociationFailed
from engine.errors import DeliveryError, LocalProtocolError, PermanentDelivery, StoreError, TransientDelivery, UncertainDelivery

if TYPE_CHECKING:
    from adapters.dicom.forward.peer import Peer
    from adapters.dicom.upper.exchange import Response
    from adapters.dicom.upper.requestor import Requestor
    from engine.contracts import Context
    from engine.options import Settings

_AGAIN: Final = frozenset(
    (commitment.PROCESSING_FAILURE, commitment.NO_SUCH_INSTANCE, commitment.DUPLICATE_TRANSACTION, commitment.RESOURCE_LIMITATION)
)
_REMEMBERED: Final = 7 * 86400 * 1_000_000


class _Transaction:
    """One that is asked for: the parcels whose instances it is about, and the association that the report may come on."""

    def __init__(self, seqs: set[int]) -> None:
        self.seqs = seqs
        self.association: Requestor | None = None
        self.timer: Any = None
        self.linger: Any = None


class Committing:
    """All methods belong to the reactor thread."""

    def __init__(self, options: Settings, context: Context, peer: Peer) -> None:
        self._options, self._context, self._peer = options, context, peer
        self._hub = hub_for(context, options.commitment_file)
        self._services = {PUSH_MODEL: Reports(self._hub)}
        self._gathered: dict[int, Reference] = {}
        self._waiting: dict[int, Deferred[str]] = {}
        self._transactions: dict[str, _Transaction] = {}
        self._known: dict[int, Awaited] = {}
        self._associations: set[Requestor] = set()
        self._quiet: Any = None
        self._stopping = False

    def open(self) -> Deferred[None]:
        self._hub.listen(self._context.name, self._reported)
        return self._hub.open().addCallback(lambda _: self._hub.run(self._hub.book.awaited, self._context.name)).addCallback(self._remember)

    def _remember(self, rows: list[Awaited]) -> None:
        """What was asked for before a restart."""
        self._known = {row.seq: row for row in rows if row.state in (PENDING, COMMITTED)}
        pending: dict[str, set[int]] = {}
        for row in self._known.values():
            if row.state == PENDING:
                pending.setdefault(row.transaction_uid, set()).add(row.seq)
        for uid, seqs in pending.items():
            began = next(row.at for row in rows if row.transaction_uid == uid)
            left = self._options.commitment_within - (self._context.clock() - began) / 1e6
            self._begin_wait(uid, _Transaction(seqs), max(1.0, left))

    def wind_up(self) -> None:
        """The node stops: nobody is to wait for a report, which is found again after the next start."""
        self._stopping = True
        for seq in list(self._waiting):
            self._fail(seq, TransientDelivery("the node stops before the report of storage commitment"))

    def close(self) -> Deferred[Any]:
        self.wind_up()
        self._cancel(self._quiet)
        for transaction in self._transactions.values():
            self._cancel(transaction.timer)
            self._cancel(transaction.linger)
        self._transactions.clear()
        released = DeferredList([association.release() for association in list(self._associations)])
        return released.addCallback(lambda _: self._hub.close())

    # --- instances -----------------------------------------------------------------------------------

    def known(self, seq: int, sop_instance: str) -> Deferred[str] | None:
        """For a parcel whose instance was stored before the node was started: as `committed`; None where nothing is known."""
        row = self._known.pop(seq, None)
        if row is None or row.sop_instance != sop_instance or (row.state == PENDING and row.transaction_uid not in self._transactions):
            return None
        return succeed(_words(row.transaction_uid)) if row.state == COMMITTED else self._wait(seq)

    def committed(self, seq: int, reference: Reference) -> Deferred[str]:
        """An instance was stored. Fires with what proves that it is committed, fails with DeliveryError."""
        waiting = self._wait(seq)
        if self._stopping:
            self.wind_up()
            return waiting
        self._gathered[seq] = reference
        self._cancel(self._quiet)
        if len(self._gathered) >= self._options.commitment_together:
            self._ask()
        else:
            self._quiet = self._context.reactor.callLater(self._options.commitment_quiet, self._ask)
        return waiting

    def _wait(self, seq: int) -> Deferred[str]:
        waiting = self._waiting[seq] = Deferred()
        return waiting

    # --- a transaction -------------------------------------------------------------------------------

    def _ask(self) -> None:
        gathered, self._gathered = self._gathered, {}
        gathered = {seq: reference for seq, reference in gathered.items() if seq in self._waiting}
        if not gathered:
            return
        once = {reference[1]: seq for seq, reference in gathered.items()}  # a report tells instances apart by UID alone
        for seq in gathered.keys() - set(once.values()):
            self._gathered[seq] = gathered.pop(seq)
        if self._gathered:
            self._quiet = self._context.reactor.callLater(self._options.commitment_quiet, self._ask)
        uid, now = f"2.25.{uuid4().int}", self._context.clock()
        transaction = _Transaction(set(gathered))
        instances = [(reference[1], seq) for seq, reference in gathered.items()]
        kept = self._hub.run(self._hub.book.ask, uid, self._context.name, instances, now, now - _REMEMBERED)
        kept.addCallback(lambda _: self._peer.associate([(PUSH_MODEL, commitment.SYNTAXES)], services=self._services))
        kept.addCallback(self._request, uid, transaction, Notice(uid, list(gathered.values())))
        kept.addErrback(self._not_asked, uid, transaction)

    def _request(self, association: Requestor, uid: str, transaction: _Transaction, notice: Notice) -> Deferred[None]:
        transaction.association = association
        self._associations.add(association)
        association.closed.addBoth(lambda _: self._associations.discard(association))
        context_id = association.context_for(PUSH_MODEL)
        if not context_id:
            raise TransientDelivery("the peer does not take storage commitment, and the channel requires it", whole_destination=True)
        self._begin_wait(uid, transaction, self._options.commitment_within)
        data = commitment.encode(notice, association.association.agreed[context_id].transfer_syntax)
        command = dimse.request(Field.N_ACTION, PUSH_MODEL, PUSH_MODEL_INSTANCE, ActionTypeID=commitment.REQUEST_COMMITMENT)
        asked = association.request(command, data, context_id=context_id, timeout=self._options.timeout)
        return asked.addCallback(self._asked, uid, transaction)

    def _asked(self, response: Response, uid: str, transaction: _Transaction) -> None:
        association = transaction.association
        if response.status != Status.SUCCESS:
            words = f"asked for storage commitment, the peer answered {in_words(response.status)}"
            raise TransientDelivery(words, whole_destination=True)  # of all together: no instance is at fault
        if association is not None and uid in self._transactions:
            transaction.linger = self._context.reactor.callLater(self._options.commitment_linger, association.release)

    def _not_asked(self, failure: Failure, uid: str, transaction: _Transaction) -> None:
        error = failure.value
        if isinstance(error, AssociationFailed):
            error = broken_within(error)
        elif isinstance(error, StoreError | LocalProtocolError):
            error = TransientDelivery(error.text, whole_destination=True)
        elif not isinstance(error, DeliveryError):
            self._context.log.error("unexpected failure", exc_info=error, extra={"channel": self._context.name})
            error = UncertainDelivery("storage commitment failed in a way that it does not name")
        self._give_up(uid, transaction, error)

    def _begin_wait(self, uid: str, transaction: _Transaction, seconds: float) -> None:
        self._transactions[uid] = transaction
        error = UncertainDelivery("there was no report of storage commitment in time")
        transaction.timer = self._context.reactor.callLater(seconds, self._give_up, uid, transaction, error)

    def _give_up(self, uid: str, transaction: _Transaction, error: DeliveryError) -> None:
        """The instances are sent again and asked for anew."""
        self._transactions.pop(uid, None)
        self._leave(transaction)
        if not self._stopping:
            self._hub.run(self._hub.book.drop, uid).addErrback(lambda failure: failure.trap(StoreError) and None)
        for seq in transaction.seqs:
            self._known.pop(seq, None)
            self._fail(seq, error)

    # --- its report ----------------------------------------------------------------------------------

    def _reported(self, rows: list[Awaited]) -> None:
        """What a report says is on disk."""
        for row in rows:
            transaction = self._transactions.get(row.transaction_uid)
            if transaction is not None:
                transaction.seqs.discard(row.seq)
            if row.seq in self._known:
                self._known[row.seq] = row
            if row.state == COMMITTED:
                self._succeed(row.seq, _words(row.transaction_uid))
            else:
                self._known.pop(row.seq, None)
                self._fail(row.seq, _failure(row.state))
        for uid in {row.transaction_uid for row in rows}:
            transaction = self._transactions.get(uid)
            if transaction is not None and not transaction.seqs:
                self._over(uid, transaction)

    def _over(self, uid: str, transaction: _Transaction) -> None:
        del self._transactions[uid]
        self._leave(transaction)

    def _leave(self, transaction: _Transaction) -> None:
        """A release waits for what is under way: the response to the report, say."""
        self._cancel(transaction.timer)
        self._cancel(transaction.linger)
        if transaction.association is not None:
            transaction.association.release()

    def _succeed(self, seq: int, words: str) -> None:
        waiting = self._waiting.pop(seq, None)
        if waiting is not None:
            waiting.callback(words)

    def _fail(self, seq: int, error: DeliveryError) -> None:
        waiting = self._waiting.pop(seq, None)
        if waiting is not None:
            waiting.errback(error)

    @staticmethod
    def _cancel(timer: Any) -> None:
        if timer is not None and timer.active():
            timer.cancel()


def _words(transaction_uid: str) -> str:
    return f"committed {transaction_uid}"


def _failure(reason: int) -> DeliveryError:
    text = f"the peer does not commit it: {in_words(reason)}"
    return TransientDelivery(text) if reason in _AGAIN else PermanentDelivery(text, answer=in_words(reason).encode())
