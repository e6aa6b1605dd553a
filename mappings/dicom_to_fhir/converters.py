"""Attribute values -> FHIR values. People, places and numbers go through the converters of hl7v2-to-fhir, so that who is known from
messages is the same one in images."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import orjson

from engine.formats.dicom import DataSet
from engine.formats.dicom.dictionary import keyword_of, tag_of, uid_name
from mappings.dicom_to_fhir.context import DicomTransaction, Found
from mappings.hl7v2_to_fhir import times
from mappings.hl7v2_to_fhir.context import clean, escaped
from mappings.hl7v2_to_fhir.identifiers import is_identity_card
from mappings.hl7v2_to_fhir.primitives import UCUM, decimal
from mappings.hl7v2_to_fhir.terminology import Codes, coding
from mappings.transaction import Body

DCM: Final = "http://dicom.nema.org/resources/ontology/DCM"
SNOMED: Final = "http://snomed.info/sct"
DICOM_UID: Final = "urn:dicom:uid"
_UID: Final = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]*))+")
_SRT: Final = frozenset(("SRT", "SNM3", "99SDM"))

CODE_VALUE, LONG_CODE_VALUE, URN_CODE_VALUE = 0x00080100, 0x00080119, 0x00080120
SCHEME, SCHEME_VERSION, MEANING = 0x00080102, 0x00080103, 0x00080104


def is_uid(text: str) -> bool:
    """PS3.5 clause 9.1, and what fits an id of FHIR."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def uid_identifier(uid: str) -> Body:
    return {"system": DICOM_UID, "value": f"urn:oid:{uid}"}


def string(found: Found, tx: DicomTransaction) -> str | None:
    return clean(found[2]) or None


def word(found: Found, tx: DicomTransaction) -> str | None:
    """A CS as a FHIR code, which has single blanks only."""
    return " ".join(clean(found[2]).split()) or None


def date(found: Found, tx: DicomTransaction) -> str | None:
    return times.date(found[2].replace(".", ""), tx.zone)


def date_time(found: Found, tx: DicomTransaction) -> str | None:
    """A DT, or a DA with the TM that belongs to it (`StudyDate` and `StudyTime`)."""
    holder, tag, value = found
    name = keyword_of(tag)
    clock = tag_of(name[: -len("Date")] + "Time") if name.endswith("Date") else None
    text = value.replace(".", "") if clock else value
    time = holder.text(clock).replace(":", "") if clock and len(text) == 8 else ""
    return times.date_time(text + time, tx.zone) or times.date_time(text, tx.zone)


def instant(found: Found, tx: DicomTransaction) -> str | None:
    made = date_time(found, tx)
    return made if made and len(made) > 10 else None


def integer(found: Found, tx: DicomTransaction) -> int | None:
    text = found[2].lstrip("+")
    return int(text) if text.isascii() and text.isdigit() and int(text) < 2**31 else None


def number(text: str) -> orjson.Fragment | None:
    """A DS as a JSON number with its digits; one with an exponent is written out."""
    if "E" in text.upper():
        try:
            value = Decimal(text)
        except InvalidOperation:
            return None
        exponent = value.as_tuple().exponent
        return decimal(format(value, "f")) if isinstance(exponent, int) and abs(exponent) < 40 else None
    return decimal(text)


def uid(found: Found, tx: DicomTransaction) -> str | None:
    return found[2] if is_uid(found[2]) else None


def oid(found: Found, tx: DicomTransaction) -> str | None:
    return f"urn:oid:{found[2]}" if is_uid(found[2]) else None


def study_identifier(found: Found, tx: DicomTransaction) -> Body | None:
    return uid_identifier(found[2]) if is_uid(found[2]) else None


def sop_class(found: Found, tx: DicomTransaction) -> Body | None:
    return coding("urn:ietf:rfc:3986", f"urn:oid:{found[2]}", uid_name(found[2])) if is_uid(found[2]) else None


def groups(text: str) -> list[tuple[str, list[str]]]:
    """The component groups of a PN (PS3.5 clause 6.2.1.1) as (HL7 table 4000, family, given, middle, prefix, suffix)."""
    found = []
    for kind, group in zip(("A", "I", "P"), text.split("="), strict=False):
        parts = [*(part.strip() for part in group.split("^")), "", "", "", "", ""][:5]
        if any(parts):
            found.append((kind, parts))
    return found


def xpn(text: str) -> list[str]:
    """A PN as XPNs; which writing each is stands there only where there are several, or it is not the first."""
    made = []
    known = groups(text)
    for kind, (family, given, middle, prefix, suffix) in known:
        words = [escaped(word) for word in (family, given, middle, suffix, prefix)]
        made.append("^".join(words) + (f"^^^{kind}" if len(known) > 1 or kind != "A" else ""))
    return made


def xcn(text: str, number: str = "", authority: str = "") -> str:
    """A person as XCN: the number, and the first writing of the name."""
    (_, (family, given, middle, prefix, suffix)) = next(iter(groups(text)), ("", [""] * 5))
    words = [escaped(word) for word in (number, family, given, middle, suffix, prefix)]
    return ("^".join(words).rstrip("^") if not number else "^".join([*words, "", "", escaped(authority)])).rstrip("^")


class Concepts:
    """Code sequences (PS3.3 clause 8.8) -> Coding, CodeableConcept."""

    def __init__(self, systems: Any, concepts: Codes) -> None:
        self._systems, self._concepts = systems, concepts

    def coding(self, item: DataSet, tx: DicomTransaction) -> Body | None:
        """The item's own coding."""
        code = item.text(CODE_VALUE) or item.text(LONG_CODE_VALUE) or item.text(URN_CODE_VALUE)
        if not code:
            return None
        return coding(self.system(item.text(SCHEME), tx), code, clean(item.text(MEANING)), item.text(SCHEME_VERSION))

    def system(self, designator: str, tx: DicomTransaction) -> str:
        """The URI of a coding scheme designator: the tables' own, else the UID that the instance gives it."""
        known = self._systems.uris.get(designator)
        if known or not designator:
            return known or ""
        return tx.schemes.get(designator) or str(self._systems.resolve(designator, tx.facility))

    def concept(self, item: DataSet, tx: DicomTransaction) -> Body | None:
        """With what a table of the site knows it as, and the SNOMED CT code of what is in SNOMED RT, first."""
        own = self.coding(item, tx)
        meaning = clean(item.text(MEANING))
        if own is None:
            return {"text": meaning} if meaning else None
        scheme = item.text(SCHEME)
        also = self._also(scheme, own["code"])
        made: Body = {"coding": [*([also] if also else []), own]}
        if meaning:
            made["text"] = meaning
        return made

    def _also(self, scheme: str, code: str) -> Body | None:
        row = self._concepts.targets.get(f"{scheme}|{code}")
        if row is not None:
            return coding(row["system"], row["to"], row["display"])
        if scheme in _SRT:
            from pydicom.sr._snomed_dict import mapping

            found = mapping["SRT"].get(code)
            return coding(SNOMED, found) if found else None
        return None

    def unit(self, item: DataSet, tx: DicomTransaction) -> Body:
        """MeasurementUnitsCodeSequence -> the parts of a Quantity."""
        own = self.coding(item, tx)
        if own is None:
            return {}
        made: Body = {"unit": own.get("display") or own["code"]}
        if "system" in own:
            made |= {"system": UCUM if item.text(SCHEME) == "UCUM" else own["system"], "code": own["code"]}
        return made


def patient_number(holder: DataSet, value: str, tx: DicomTransaction) -> str:
    """PatientID and who has issued it (PS3.3 clause C.7.1.1, Issuer of Patient ID macro) as a CX."""
    issuer = clean(holder.text(0x00100021))
    qualifier = next(iter(holder.items(0x00100024)), None)
    universal = qualifier.text(0x00400032) if qualifier else ""
    universal_type = qualifier.text(0x00400033) if qualifier else ""
    kind = qualifier.text(0x00400035) if qualifier else ""
    hd = "&".join([escaped(issuer), escaped(universal), escaped(universal_type)]).rstrip("&") or tx.patients
    if not kind and (hd or not is_identity_card(value)):
        kind = "MR"
    return f"{escaped(value)}^^^{hd}^{kind}"


def order_number(holder: DataSet, value: str, issuer: int, tx: DicomTransaction) -> str:
    """An order number and its issuer (HL7v2 Hierarchic Designator macro, PS3.3 table 10-17) as an EI."""
    item = next(iter(holder.items(issuer)), None)
    parts = [clean(item.text(tag)) for tag in (0x00400031, 0x00400032, 0x00400033)] if item else []
    hd = [escaped(part) for part in parts] if any(parts) else tx.orders.split("&")
    return "^".join([escaped(value), *hd]).rstrip("^")
