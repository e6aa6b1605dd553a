"""What a registered party may post: by its `may_send`, and the patients that are its own. Pure.

Scopes of SMART speak of FHIR's interactions, and messages are none: a token shows whose a message is, and the registry says what that
party may.
"""

from __future__ import annotations

from engine.message import Envelope, Judgement, Verdict
from engine.parties.snapshot import Standing


def refusal_of(party: Standing | None, envelope: Envelope) -> Judgement | None:
    """Why a party may not send this, None where it may. One with patients of its own sends messages that name a patient, and none but
    those, each as the registry has it."""
    if party is None:
        return Judgement(Verdict.REFUSED, "the party is not registered", "207")
    if party.disabled:
        return Judgement(Verdict.REFUSED, "the party, or one that it belongs to, has been disabled", "207")
    if not party.sends(envelope.message_type):
        return Judgement(Verdict.REFUSED, "the party may not send messages of this type", "200")
    if party.patients and not (envelope.patient_ids and party.patients.issuperset(envelope.patient_ids)):
        return Judgement(Verdict.REFUSED, "the message is not of a patient of this party", "207")
    return None
