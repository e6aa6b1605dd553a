"""The registry at one moment: who sends a message, and whether it may. Pure; what is looked up does not grow with the registry.

A message has at most one proof (the certificate's party) and any number of claims: its sender, and where its source found them an AE title
and a serial number (`Envelope.facts`). Rules, in this order:

    unregistered   the proven party is not registered; without a proof: no claim is anybody's
    disabled       the proven party, a claimed one, or one that either belongs to, is disabled
    mismatch       a claim is nobody's, or that of a party that neither is the proven one nor belongs to it
    channel        the party may not send on this channel
    message_type   the party may not send this type

A message that is made of several (`engine.message.PARTS`: a FHIR transaction) may be sent where its own type may, or each of its parts.
The last two are asked of the party in whose name the message is sent: the device behind a hospital's connection, not the hospital.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from engine.identity import party_name
from engine.message import PARTS, Envelope
from engine.parties.model import Mark, Party, above

_COMPONENTS: Final = re.compile(r"[\^&]")
_FACTS: Final = (Mark.AE_TITLE, Mark.SERIAL)
_WRITES: Final = frozenset({"create", "update"})
"""The interactions of FHIR (R4 3.1.0) that a party may send which may send the type of resource; others are named: ``Patient delete``."""


class Rule(StrEnum):
    """What a message breaks."""

    UNREGISTERED = "unregistered"
    DISABLED = "disabled"
    MISMATCH = "mismatch"
    CHANNEL = "channel"
    MESSAGE_TYPE = "message_type"


@dataclass(frozen=True, slots=True)
class Finding:
    """The rule, and the id of the party that breaks it, "" for one that is not registered."""

    rule: Rule
    party: str = ""


class Standing:
    """A party as it is asked: with those above it, and its patterns in a form that is quick to match. `within` holds its own id and those
    of the parties above it; `disabled` is the id of that among them which is disabled, "" for none."""

    __slots__ = ("channels", "disabled", "exact", "id", "party", "patients", "prefixes", "within")

    def __init__(self, party: Party, parties: dict[str, Party]) -> None:
        chain = above(party, parties)
        self.party, self.id, self.within = party, party.id, frozenset(chain)
        self.disabled = next((one for one in chain if parties[one].disabled_at), "")
        self.exact = frozenset(one for one in party.may_send if not one.endswith("*"))
        self.prefixes = tuple(one[:-1] for one in party.may_send if one.endswith("*"))
        self.channels, self.patients = frozenset(party.channels), frozenset(party.patients)

    def barred(self, channel: str) -> str:
        """Why it may not use this channel at all, "" where it may."""
        if self.disabled:
            return "the party, or one that it belongs to, has been disabled"
        return "the party may not use this channel" if self.channels and channel not in self.channels else ""

    def sends(self, message_type: str, parts: Iterable[str] = ()) -> bool:
        """Whether it may send a message of this type; of one made of several, this type as such, or else each of its parts."""
        return self._one(message_type) or (bool(parts) and all(map(self._one, parts)))

    def _one(self, message_type: str) -> bool:
        if message_type in self.exact or message_type.startswith(self.prefixes):
            return True
        resource_type, _, interaction = message_type.partition(" ")
        return interaction in _WRITES and resource_type in self.exact


class Snapshot:
    """All parties at one moment; never changed. `check` is asked for each message."""

    def __init__(self, parties: Iterable[Party] = ()) -> None:
        self.parties = {party.id: party for party in parties}
        entries = {party.id: Standing(party, self.parties) for party in self.parties.values()}
        self._marked = {(Mark.CERTIFICATE, name): entry for name, entry in entries.items()}
        self._marked.update((mark, entries[party.id]) for party in self.parties.values() for mark in party.marks)

    def standing(self, proven: str) -> Standing | None:
        """Of the party that a name or URI in a certificate, or a token, is that of; None where it is not registered."""
        return self._marked.get((Mark.CERTIFICATE, party_name(proven)))

    def check(self, envelope: Envelope, channel: str) -> Finding | None:
        """What is wrong with who sends this, None where nothing is."""
        proven = self.standing(envelope.peer) if envelope.peer else None
        claims = self._claims(envelope)
        claimed = [entry for entry in claims if entry is not None]
        involved = claimed if proven is None else [proven, *claimed]
        if not involved or (envelope.peer and proven is None):
            return Finding(Rule.UNREGISTERED)
        for entry in involved:
            if entry.disabled:
                return Finding(Rule.DISABLED, entry.disabled)
        if len(claimed) < len(claims) or not self._hold_together(proven, claimed):
            return Finding(Rule.MISMATCH, involved[0].id)
        author = max(involved, key=lambda entry: len(entry.within))
        if author.channels and channel not in author.channels:
            return Finding(Rule.CHANNEL, author.id)
        parts = envelope.facts.get(PARTS, "")
        return None if author.sends(envelope.message_type, parts.split(", ") if parts else ()) else Finding(Rule.MESSAGE_TYPE, author.id)

    def _claims(self, envelope: Envelope) -> list[Standing | None]:
        """The party of each claim, None for a claim that is nobody's."""
        found = [self._marked.get((mark, envelope.facts[mark])) for mark in _FACTS if envelope.facts.get(mark)]
        return [self._sender(envelope.sender), *found] if envelope.sender.strip("|") else found

    def _sender(self, sender: str) -> Standing | None:
        """By the whole text; an instrument's, which names no facility, else by the one serial number in it (ASTM H-5, as
        makers write it): ``BC-6800^01.23^SN4711`` stays known after an update."""
        whole = self._marked.get((Mark.SENDER, sender))
        if whole is not None or "|" in sender:
            return whole
        found = {self._marked[mark] for part in _COMPONENTS.split(sender) if (mark := (Mark.SERIAL, part)) in self._marked}
        return found.pop() if len(found) == 1 else None

    @staticmethod
    def _hold_together(proven: Standing | None, claimed: Sequence[Standing]) -> bool:
        """Whether every claim is that of the proven party or one below it; without a proof, of one of the claimed parties."""
        heads = claimed if proven is None else [proven]
        return any(all(head.id in entry.within for entry in claimed) for head in heads)
