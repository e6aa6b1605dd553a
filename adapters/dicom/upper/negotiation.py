"""What an acceptor takes of a proposed association (PS3.8 clause 7.1.1, PS3.7 annex D.3). Pure.

An `Offer` says for each abstract syntax which transfer syntaxes are taken, and in which roles. Of several transfer syntaxes in one
presentation context the first that the requestor named and we take is chosen: it put first what it has, and nothing is re-encoded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from adapters.dicom.upper.pdu import (
    APPLICATION_CONTEXT,
    APPLICATION_CONTEXT_NOT_SUPPORTED,
    PROTOCOL_VERSION_NOT_SUPPORTED,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    ContextResult,
    Result,
    Roles,
)

IMPLEMENTATION_CLASS_UID: Final = "2.25.17862833117340610983190798677269365091"
"""Of this implementation (PS3.7 annex D.3.3.2): made once from a UUID (PS3.5 annex B.2), never changed."""
IMPLEMENTATION_VERSION_NAME: Final = "MERIDIAN_1"
IMPLICIT_LE: Final = "1.2.840.10008.1.2"
EXPLICIT_LE: Final = "1.2.840.10008.1.2.1"
DEFLATED_LE: Final = "1.2.840.10008.1.2.1.99"
EXPLICIT_BE: Final = "1.2.840.10008.1.2.2"
DEFAULT_ROLES: Final = Roles(scu=True, scp=False)


class PresentationContext(NamedTuple):
    """A context both sides agreed on. `roles` are the requestor's."""

    context_id: int
    abstract_syntax: str
    transfer_syntax: str
    roles: Roles = DEFAULT_ROLES


@dataclass(frozen=True)
class Taken:
    """How one abstract syntax is taken. `transfer_syntaxes` empty: any. `scp`: the requestor may be SCP too (C-GET), or instead."""

    transfer_syntaxes: tuple[str, ...] = ()
    scp: bool = False

    def choose(self, proposed: tuple[str, ...]) -> str:
        """The first that we take, "" for none."""
        return next((one for one in proposed if not self.transfer_syntaxes or one in self.transfer_syntaxes), "")


@dataclass(frozen=True)
class Offer:
    """What an acceptor can do. `taken` gives None for an abstract syntax it does not know. `window`: operations that a requestor may have
    under way at once."""

    taken: Callable[[str], Taken | None]
    max_length: int = 131072
    window: int = 1
    extended: Mapping[str, bytes] = field(default_factory=dict)


Agreed = Mapping[int, PresentationContext]


def negotiate(request: AssociateRequest, offer: Offer) -> tuple[AssociateAccept, Agreed] | AssociateReject:
    """The answer to a request, as far as no policy about who may connect is concerned.

    A user identity is passed over politely (annex D.3.3.7: without a positive response it was not looked at): who a peer is, its
    certificate proves.
    """
    if not request.protocol_version & 1:
        return PROTOCOL_VERSION_NOT_SUPPORTED
    if request.application_context != APPLICATION_CONTEXT:
        return APPLICATION_CONTEXT_NOT_SUPPORTED
    results, agreed, roles = [], {}, {}
    for proposed in request.contexts:
        taken = offer.taken(proposed.abstract_syntax)
        chosen = taken.choose(proposed.transfer_syntaxes) if taken is not None else ""
        if taken is None or not chosen:
            reason = Result.ABSTRACT_SYNTAX if taken is None else Result.TRANSFER_SYNTAXES
            results.append(ContextResult(proposed.context_id, reason, ""))
            continue
        asked = request.roles.get(proposed.abstract_syntax)
        given = DEFAULT_ROLES if asked is None else Roles(asked.scu, asked.scp and taken.scp)
        if asked is not None:
            roles[proposed.abstract_syntax] = given
        results.append(ContextResult(proposed.context_id, Result.ACCEPTANCE, chosen))
        agreed[proposed.context_id] = PresentationContext(proposed.context_id, proposed.abstract_syntax, chosen, given)
    accept = AssociateAccept(
        request.called,
        request.calling,
        offer.max_length,
        IMPLEMENTATION_CLASS_UID,
        IMPLEMENTATION_VERSION_NAME,
        roles,
        _window(request, offer.window),
        {uid: info for uid, info in offer.extended.items() if uid in request.extended},
        tuple(results),
    )
    return accept, agreed


def _window(request: AssociateRequest, most: int) -> tuple[int, int] | None:
    """Asynchronous operations (annex D.3.3.3): not more than the requestor asked for (0 = any number), and we invoke one at a time."""
    if request.window is None or most == 1:
        return None
    invoked = request.window[0]
    return (min(invoked, most) if invoked else most, 1)


def agreed_by(request: AssociateRequest, accept: AssociateAccept) -> Agreed:
    """What a requestor may use after an acceptance. Contexts that were not proposed, or in a syntax that was not, are left out."""
    proposed = {one.context_id: one for one in request.contexts}
    agreed = {}
    for answer in accept.results:
        one = proposed.get(answer.context_id)
        if one is not None and answer.result == Result.ACCEPTANCE and answer.transfer_syntax in one.transfer_syntaxes:
            asked = request.roles.get(one.abstract_syntax)
            answered = accept.roles.get(one.abstract_syntax)
            both = DEFAULT_ROLES if asked is None or answered is None else Roles(asked.scu and answered.scu, asked.scp and answered.scp)
            agreed[one.context_id] = PresentationContext(one.context_id, one.abstract_syntax, answer.transfer_syntax, both)
    return agreed
