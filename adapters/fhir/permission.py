"""What a party may do here: by its `may_send`, its token's scopes, and the patients that are its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred

from adapters.fhir.belonging import check_belonging
from adapters.fhir.outcome import NotAllowed
from adapters.fhir.parts import NOTHING
from engine.entry.scopes import permits

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from adapters.fhir.requests import Route
    from adapters.fhir.write import Write
    from engine.contracts import Context
    from engine.http_answers import Sender
    from engine.parties.snapshot import Standing

_READS: Final = {"instance": "read", "version": "read", "history": "read", "type": "search", "search": "search"}
_NO_SCOPE: Final = {"WWW-Authenticate": 'Bearer realm="meridian", error="insufficient_scope"'}
_NOBODY: Final = "the party is not registered"


Run = Callable[..., Deferred[Any]]
"""Runs a function with its arguments, now (maybeDeferred) or off the reactor thread."""


class Permission:
    """Asks the registry at each request; what it refuses is audited. `own_reads`: what is read is what the reader itself has sent."""

    def __init__(self, context: Context, *, own_reads: bool) -> None:
        self._context, self._own_reads = context, own_reads

    def lapsed(self, sender: Sender) -> str:
        """Why a sender that was let in may not go on, "" where it may."""
        party = self._context.parties().standing(sender.peer)
        reason = _NOBODY if party is None else party.barred(self._context.name)
        if reason:
            self._tell(sender, party, NotAllowed(reason))
        return reason

    def write(self, write: Write, run: Run) -> Deferred[None]:
        """Fails with NotAllowed; FhirRefusal 400 where an entry cannot be read. `run`: what takes the time of the body's size."""
        party = self._context.parties().standing(write.sender.peer)
        return run(self._check_write, write, party).addErrback(self._told, write.sender, party)

    def _check_write(self, write: Write, party: Standing | None) -> None:
        self._check(write.sender, party, write.message_type, write.parts)
        if party is not None and party.patients:
            check_belonging(write.requests(), party.patients, ids_count=write.header is not None)

    def read(self, found: Route, sender: Sender) -> None:
        """Raises NotAllowed. A party with patients of its own reads what it has sent itself, or nothing: of what others sent, whose it is
        is known only after it was read."""
        party = self._context.parties().standing(sender.peer)
        interaction = f"{found.resource_type} {_READS[found.kind]}" if found.kind in _READS else NOTHING
        try:
            self._check(sender, party, interaction, [interaction])
            if party is not None and party.patients and not self._own_reads:
                raise NotAllowed("a party with patients of its own does not read where others' resources can be read (reads: all)")
        except NotAllowed as refused:
            self._tell(sender, party, refused)
            raise

    def _check(self, sender: Sender, party: Standing | None, message_type: str, parts: Sequence[str]) -> None:
        """Raises NotAllowed."""
        if party is None or (reason := party.barred(self._context.name)):
            raise NotAllowed(_NOBODY if party is None else reason)
        check(sender, party, message_type, parts)

    def _told(self, failure: Failure, sender: Sender, party: Standing | None) -> Failure:
        if isinstance(failure.value, NotAllowed):
            self._tell(sender, party, failure.value)
        return failure

    def _tell(self, sender: Sender, party: Standing | None, refused: NotAllowed) -> None:
        facts = {"remote": sender.remote, "party": party.id if party is not None else "", "reason": refused.text}
        self._context.audit("fhir.refused", channel=self._context.name, proven=sender.peer, status=str(refused.status), **facts)


def check(sender: Sender, party: Standing, message_type: str, parts: Sequence[str]) -> None:
    """Whether a request of this type, made of these interactions, may be carried out. Raises NotAllowed."""
    if not party.sends(message_type, parts):
        raise NotAllowed("the party may not do this with resources of this type")
    if not permits(sender.scopes, parts):
        raise NotAllowed("the token's scopes do not allow this", headers=_NO_SCOPE)
