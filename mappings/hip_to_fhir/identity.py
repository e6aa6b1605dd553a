"""What makes a resource the same one in the next message (as mappings/hl7v2_to_fhir/identity.py has it for HL7 v2).

A business identifier where there is one; else a key of the words in the route's `key` column, hashed into an identifier of the system
urn:meridian:key: `@patient`, `@encounter`, `@parent` stand for what those are known by, the others are paths in the resource. Where none
of them says anything, the message and the place in it are the key.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import orjson

from mappings.hip_to_fhir.context import HipDraft, HipTransaction, child, children, place
from mappings.hl7v2_to_fhir.identity import own_number
from mappings.hl7v2_to_fhir.references import query_of
from mappings.transaction import KEY_SYSTEM, Body, name_uuid

_COUNT: Final = "2.16.156.10011.2.5.1.8"
"""How many visits the patient has had: with the number of a hospital stay it names one."""
_NUMBERED: Final = frozenset(("2.16.156.10011.1.10", "2.16.156.10011.1.11", "2.16.156.10011.1.12"))


def settle(drafts: list[HipDraft], tx: HipTransaction) -> None:
    """Give the drafts of one route their identity. A number that several of them share is none."""
    shared = Counter(query_of(one) for draft in drafts for one in draft.body.get("identifier", ())[:1] if draft.kind != "Patient")
    keys: Counter[str] = Counter()
    for draft in drafts:
        identifier = _visit(draft, tx) if draft.kind == "Encounter" else _number(draft)
        if identifier is not None and shared[query_of(identifier)] > 1:
            identifier = None
        if draft.kind == "Encounter" and identifier is None and draft.route.write == "create":
            _mention(draft)
            continue
        uuid = ""
        if draft.kind == "PractitionerRole":
            identifier = _role(draft)
        if identifier is None:
            key = _key(draft, tx)
            keys[key] += 1
            uuid = name_uuid(key if keys[key] == 1 else f"{key} #{keys[key]}")
            identifier = {"system": KEY_SYSTEM, "value": uuid}
            draft.body["identifier"] = [*draft.body.get("identifier", ()), identifier]
        query = query_of(identifier)
        draft.identify(uuid or name_uuid(f"{draft.kind} {query}"), query)


def _number(draft: HipDraft) -> Body | None:
    numbers = draft.body.get("identifier") or []
    if draft.kind == "Patient":
        return own_number([one for one in numbers if "system" in one]) if any("system" in one for one in numbers) else None
    if draft.route.key[:1] == ("!",):
        return None
    return next((one for one in numbers if "system" in one), None)


def _role(draft: HipDraft) -> Body | None:
    """Who and where: the same key as that of a role which a message only mentions (parties.py)."""
    who, where = draft.body.get("practitioner", {}).get("reference"), draft.body.get("organization", {}).get("reference")
    if not who or not where:
        return None
    identifier = {"system": KEY_SYSTEM, "value": name_uuid(f"PractitionerRole {who} {where}")}
    draft.body["identifier"] = [identifier]
    return identifier


def _visit(draft: HipDraft, tx: HipTransaction) -> Body | None:
    """A visit's own number. The number of a hospital stay (or of an outpatient) may come again at the next: with the count of visits it
    is one visit's, and both together are a further identifier, which messages without the visit's own number find it by."""
    numbers = draft.body.get("identifier", [])
    own = next((one for one in numbers if one.get("type", {}).get("coding", [{}])[0].get("code") == "VN"), None)
    found = {
        item.get("root"): (item.get("extension") or "").strip() for ids in children(draft.element, "id") for item in children(ids, "item")
    }
    count, number = found.get(_COUNT, ""), next((found[root] for root in found if root in _NUMBERED), "")
    if not count or not number or not numbers:
        return own
    value = name_uuid(f"visit {tx.facility} {number} {count}")
    numbered = {"system": KEY_SYSTEM, "value": value}
    numbers.append(numbered)
    if tx.notes is not None:
        tx.notes.claim(draft.body, place((child(draft.element, "id"), "")), "number and count of visits")
    return own or numbered


def _mention(draft: HipDraft) -> None:
    """A visit that is only mentioned, by a number that may be several visits': a logical reference, and no resource."""
    numbers = draft.body.get("identifier") or []
    if numbers:
        draft.ref.update({"type": "Encounter", "identifier": numbers[0]})


def _key(draft: HipDraft, tx: HipTransaction) -> str:
    if draft.kind == "CodeSystem":
        return f"CodeSystem {draft.body.get('url')} {draft.body.get('version')}"  # whoever registers it
    words = [_word(word, draft) for word in draft.route.key if word != "!"]
    if not any(said for word, said in zip((one for one in draft.route.key if one != "!"), words, strict=True) if not word.startswith("@")):
        return f"{draft.kind} {tx.sender} {tx.control_id} {place((draft.element, ''))}"
    return " ".join([draft.kind, tx.facility, *words])


def _word(word: str, draft: HipDraft) -> str:
    if word == "@patient":
        return draft.patient.query if draft.patient else ""
    if word == "@encounter":
        return draft.encounter.query if draft.encounter else ""
    if word == "@parent":
        return draft.parent.query if draft.parent else ""
    value: Any = draft.body
    for step in word.split("."):
        value = value[0] if isinstance(value, list) and value else value
        value = value.get(step) if isinstance(value, dict) else None
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode() if value else ""
