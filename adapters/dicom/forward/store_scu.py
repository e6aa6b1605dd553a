"""The destination `dicom`: an instance is delivered when the peer has stored it; with `commitment: required` when the peer has committed it
(`committing`), not when it was stored; with `verify: retrieve` when it was read back (`get`) and is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.python.failure import Failure

from adapters.dicom.forward.committing import Committing
from adapters.dicom.forward.get import Retrieval
from adapters.dicom.forward.instance import Instance, instance_of
from adapters.dicom.forward.stores import Stores
from engine.errors import DeliveryError, TransientDelivery
from engine.message import Receipt

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.message import Parcel
    from engine.options import Settings

OUTSTANDING: Final = 1000
"""Instances that may wait for commitment: what the delivery's window holds."""


class StoreDestination:
    """engine.contracts.Destination"""

    reads_files = True

    def __init__(self, options: Settings, context: Context) -> None:
        self._options, self._context = options, context
        self._stores = Stores(options, context)
        self._committing = Committing(options, context, self._stores.peer) if options.commitment == "required" else None
        self._retrieval = Retrieval(options, context, self._stores.peer) if options.verify == "retrieve" else None
        self._stored: dict[int, str] = {}  # what was stored and waits for commitment need not be sent again because that failed
        self.max_in_flight: int = options.associations if self._committing is None else OUTSTANDING

    def open(self) -> Deferred[None]:
        opened: Deferred[None] = maybeDeferred(self._stores.open)
        committing = self._committing
        return opened if committing is None else opened.addCallback(lambda _: committing.open())

    def wind_up(self) -> None:
        """engine.delivery: no more comes, and what may wait for long is to be given back."""
        if self._committing is not None:
            self._committing.wind_up()

    def close(self) -> Deferred[None]:
        committing = self._committing
        closed = self._stores.close()
        return closed if committing is None else closed.addCallback(lambda _: committing.close())

    def deliver(self, parcel: Parcel) -> Deferred[Receipt]:
        try:
            instance = instance_of(parcel, self._context.body_file)
        except DeliveryError as error:
            return fail(error)
        done = self._stores.store(instance) if self._committing is None else self._commit(self._committing, instance, parcel.seq)
        if self._retrieval is not None:
            done.addCallback(self._retrieval.compare, instance)
        return done.addCallback(self._receipt)

    def _commit(self, committing: Committing, instance: Instance, seq: int) -> Deferred[str]:
        known = committing.known(seq, instance.meta.sop_instance)
        if known is not None:
            return known
        stored = succeed(self._stored[seq]) if seq in self._stored else self._stores.store(instance)
        reference = (instance.meta.sop_class, instance.meta.sop_instance)

        def ask(words: str) -> Deferred[str]:
            self._stored[seq] = words
            return committing.committed(seq, reference).addCallbacks(done, failed, callbackArgs=(words,))

        def done(proof: str, words: str) -> str:
            self._stored.pop(seq, None)
            return f"{words}, {proof}"

        def failed(failure: Failure) -> Failure:
            if not (isinstance(failure.value, TransientDelivery) and failure.value.whole_destination):
                self._stored.pop(seq, None)  # the peer had its chance: it does not have it, or has lost it
            return failure

        return stored.addCallback(ask)

    def _receipt(self, words: str) -> Receipt:
        return Receipt(f"{words} by {self._options.called_ae}")
