"""Metadata values -> FHIR elements: codes, times, people, the patient (IHE ITI TF-3 clause 4.2.3.1.7: data types of HL7 v2)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from engine.formats.cda import Code as CdaCode
from engine.formats.cda import Id
from engine.formats.xds.forms import is_oid
from engine.formats.xds.model import Author, Code, Described, DocumentEntry
from mappings.cda_to_fhir import CdaTransaction
from mappings.hl7v2_to_fhir import times
from mappings.hl7v2_to_fhir.terminology import coding, uri_part
from mappings.transaction import Body, Draft
from mappings.xdr_to_fhir.loading import Compiled

_UTC: Final = "+00:00"
_PLACED: Final = {"PID-5": "name", "PID-11": "address"}


class Metadata:
    """Of one message."""

    def __init__(self, compiled: Compiled, tx: CdaTransaction) -> None:
        self._compiled, self.tx = compiled, tx
        v2 = compiled.documents.compiled.v2.vocabulary
        self._practitioner, self._organization = v2.converter("Practitioner", ""), v2.converter("Organization", "")
        self._v2 = {"PID-5": v2.converter("XPN", ""), "PID-11": v2.converter("XAD", "")}
        self._cx = v2.converter("CX", "")
        self.unknown = 0

    # --- elements ----------------------------------------------------------------------------------------

    def put(self, body: Body, name: str, value: Any, source: str, rule: str = "") -> None:
        """An element that is not empty."""
        if value not in (None, "", [], {}):
            body[name] = value
            self.tx.claim(body, source, rule or source.rpartition(".")[2])

    def concept(self, code: Code, source: str) -> Body:
        made: Body = {"coding": [self.coding(code, source)]}
        self.tx.claim(made, source, "code")
        return made

    def concepts(self, one: Described, attribute: str) -> list[Body]:
        return [self.concept(code, f"{one.path}.{attribute}") for code in one.codes.get(attribute, ())]

    def coding(self, code: Code, source: str) -> Body:
        row = self._compiled.systems.get(code.scheme)
        made = coding(row["uri"] if row is not None else self._system(code.scheme), code.code, code.display)
        rule = f"systems.csv row {code.scheme}{' (site)' if row.site else ''}" if row is not None else "code"
        self.tx.claim(made, source, rule)
        return made

    def _system(self, scheme: str) -> str:
        known = self._compiled.documents.compiled.systems.get(scheme)
        if known:
            return known
        if is_oid(scheme):
            return f"urn:oid:{scheme}"
        if ":" in scheme:
            return scheme
        self.unknown += 1
        return f"urn:meridian:codes:{uri_part(self.tx.facility or 'unknown')}:{uri_part(scheme or 'unknown')}"

    # --- people ------------------------------------------------------------------------------------------

    def authors(self, one: Described) -> list[Body]:
        """Each person and each institution once, in the order in which they are named."""
        found = [reference for author in one.authors for reference in self._author(author, f"{one.path}.author")]
        return [reference for number, reference in enumerate(found) if reference not in found[:number]]

    def _author(self, author: Author, source: str) -> Iterable[Body]:
        persons = [self.person(text, source) for text in author.persons]
        houses = [self.house(text, source) for text in author.institutions]
        for role in (*author.roles, *author.specialties, *author.telecommunications):
            if role:
                self.tx.lost(source, "role, specialty or telecommunication of an author: not carried")
        return [one for one in (*persons, *houses) if one is not None]

    def person(self, text: str, source: str) -> Body | None:
        """XCN."""
        return self._referred(self._practitioner, text, source)

    def house(self, text: str, source: str) -> Body | None:
        """XON."""
        return self._referred(self._organization, text, source)

    def _referred(self, convert: Any, text: str, source: str) -> Body | None:
        before = set(self.tx.entries)
        made: Body | None = convert(text, self.tx)
        if self.tx.notes is not None:
            self.tx.notes.made(self.tx.entries.keys() - before, source, "person or organization")
        return dict(made) if made else None

    # --- patient -------------------------------------------------------------------------------------------

    def patient(self, one: Described) -> Draft:
        """Of a document entry, with what it says of the person; of a submission set by its number alone."""
        told = _told(one) if isinstance(one, DocumentEntry) else {}
        numbers = [*one.all("sourcePatientId"), *one.all("patientId"), *told.get("PID-3", ())]
        ids = [found for text in numbers if (found := id_of(text))]
        sex, birth = (next(iter(told.get(name, ("",))), "") for name in ("PID-8", "PID-7"))
        draft = self._compiled.documents.patient(self.tx, dict.fromkeys(ids), "", CdaCode(sex), birth)
        for name, element in _PLACED.items():
            made = [value for text in told.get(name, ()) if (value := self._v2[name](text, self.tx))]
            if made:
                draft.body.setdefault(element, made)
        for name in told.keys() - {"PID-3", "PID-7", "PID-8", *_PLACED}:
            self.tx.lost(f"{one.path}.sourcePatientInfo", f"{name}: not carried")
        source = "sourcePatientInfo" if told else "sourcePatientId" if one.all("sourcePatientId") else "patientId"
        self.tx.claim(draft.body, f"{one.path}.{source}" if one.all(source) else one.path, "patient")
        return draft

    def number(self, text: str) -> Body | None:
        """A CX as Identifier."""
        made: Body | None = self._cx(text, self.tx)
        return made


def _told(one: DocumentEntry) -> dict[str, list[str]]:
    """sourcePatientInfo by its field (4.2.3.2.23); repetitions of a field are values of their own."""
    found: dict[str, list[str]] = {}
    for value in one.all("sourcePatientInfo"):
        name, _, text = value.partition("|")
        found.setdefault(name, []).extend(part for part in text.split("~") if part)
    return {name: values for name, values in found.items() if values}


def id_of(cx: str) -> Id:
    """The patient's number under the OID of who gives it out."""
    parts = cx.split("^")
    authority = (parts[3] if len(parts) > 3 else "").split("&")
    root = authority[1] if len(authority) > 1 else ""
    return Id(root if is_oid(root) else "", parts[0])


def utc(text: str) -> str | None:
    """A DTM, which is in UTC, as FHIR dateTime."""
    return times.date_time(text, _UTC)


def instant(text: str) -> str:
    """The same as TS with its offset, for what reads TS."""
    return f"{text}+0000" if len(text) > 8 else text
