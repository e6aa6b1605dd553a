"""Numbers of people and things (II: a root and an extension) -> Identifier: whose number it is, and whether it may identify."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from engine.formats.cda import is_no_number
from engine.formats.hip.header import DOMAIN_ID, IDENTITY_CARD
from mappings.hip_to_fhir.context import Found, HipTransaction, child, is_blank
from mappings.hl7v2_to_fhir.identifiers import IDENTIFIER_TYPE, is_identity_card
from mappings.hl7v2_to_fhir.terminology import Assigners, coding, uri_part
from mappings.tables import Row
from mappings.transaction import Body

_VISIT_ROLES: Final = frozenset(("visit", "count", "domain"))


class Identifiers:
    """II -> Identifier. `roots` are the rows of identifiers.csv by root, `categories` those of codes/identity-document.csv by code."""

    def __init__(self, roots: Mapping[str, Row], assigners: Assigners, categories: Mapping[str, Mapping[str, str]]) -> None:
        self._roots, self._assigners, self._categories = roots, assigners, categories

    def role(self, root: str) -> str:
        row = self._roots.get(root)
        return row["role"] if row else ""

    def system(self, root: str, role: str, tx: HipTransaction) -> str:
        """The identifier system of a root; of none, that of its role at the facility. Who assigns a sender's own numbers, its row in
        senders.csv may say."""
        row = self._roots.get(root)
        role = row["role"] if row else role
        authority = tx.authorities.get(role, "")
        if authority and (row is None or row["system"]):
            return self._assigners.system(authority, "", "", role, tx.facility)
        if row and row["system"]:
            return row["system"].replace("{facility}", uri_part(tx.facility or "unknown"))
        return self._assigners.system("", root, "ISO" if root else "", role, tx.facility)

    def identifier(self, role: str, skip: frozenset[str] = frozenset(("count", "domain"))) -> Any:
        """A converter; what has no root is a number of `role`. Numbers whose roots are of the roles in `skip` are none here."""

        def convert(found: Found, tx: HipTransaction) -> Body | None:
            element, _ = found
            value, root = tx.get(element, "extension"), (element.get("root") or "").strip()
            if is_no_number(value) or root == DOMAIN_ID or self.role(root) in skip:
                return None
            if root == IDENTITY_CARD:
                return self._card(value, element, tx)
            tx.get(element, "root")
            made: Body = {"system": self.system(root, role, tx), "value": value}
            row = self._roots.get(root)
            if row and (row["type"] or row["text"]):
                made["type"] = _typed(row["type"], row["text"])
            if issuer := self._issuer(element, tx):
                made["assigner"] = issuer
            return made

        return convert

    def _issuer(self, element: Any, tx: HipTransaction) -> Body | None:
        """Who has given a card out (``asOtherIDs/scopingOrganization``)."""
        holder = element.getparent().getparent() if element.getparent() is not None else None
        scoping: Any = child(holder, "scopingOrganization/id/item") if holder is not None else None
        if scoping is None or is_blank(value := tx.get(scoping, "extension")):
            return None
        return {"identifier": {"system": self.system((scoping.get("root") or "").strip(), "organization", tx), "value": value}}

    def patient(self) -> Any:
        return self.identifier("patient", _VISIT_ROLES)

    def _card(self, value: str, element: Any, tx: HipTransaction) -> Body:
        """A number under the root of the identity card: what card it is, ``idCategory`` says where it stands. One that fails its own check
        is kept in words, and under no system: it would make two people one."""
        category = child(element.getparent().getparent(), "idCategory") if element.getparent() is not None else None
        code = tx.get(category, "code") if category is not None else ""
        if code not in ("", "01", "1"):
            row = self._categories.get(code)
            if row is None:
                tx.unknown(code, "identity-document")
            kind = _typed(row["to"] if row else "", row["display"] if row else "")
            return {"system": f"urn:meridian:ns:identity-document:{code}", "value": value, **({"type": kind} if kind else {})}
        tx.get(element, "root")
        kind = {"coding": [coding(IDENTIFIER_TYPE, "NNCHN")]}
        number = value.upper().replace(" ", "")
        if is_identity_card(number):
            return {"system": f"urn:oid:{IDENTITY_CARD}", "value": number, "type": kind}
        tx.flag("identity-card")
        return {"value": value, "type": kind}


def _typed(kind: str, text: str) -> Body:
    made: Body = {"coding": [coding(IDENTIFIER_TYPE, kind)]} if kind else {}
    return {**made, "text": text} if text else made
