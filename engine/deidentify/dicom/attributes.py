"""A data set's attributes, each by its row of table E.1-1 (PS3.15 §E.1.1), in sequences as on top.

What no row names is kept, as the profile has it, but for attributes that the dictionary does not know, names (PN) and dates, which are
treated as their kind, and UIDs of no standard, which are replaced. Values that are kept are not decoded: they leave as the bytes that came.
"""

from __future__ import annotations

from typing import Any, Final

from engine.deidentify.dates import shifted_range
from engine.deidentify.dicom.codes import declare
from engine.deidentify.dicom.table import SAFE_UIDS, actions, row_of, rows
from engine.deidentify.policy import DESCRIPTORS, UIDS, Person, Policy
from engine.deidentify.traces import REMOVED, Traces

_STANDARD_ROOT: Final = "1.2.840.10008."
_DUMMIES: Final = {
    **dict.fromkeys(("AE", "LO", "LT", "SH", "ST", "UC", "UT", "PN"), REMOVED),
    **dict.fromkeys(("DS", "IS"), "0"),
    **dict.fromkeys(("FD", "FL"), 0.0),
    **dict.fromkeys(("SL", "SS", "SV", "UL", "US", "UV"), 0),
    **dict.fromkeys(("OB", "OD", "OF", "OL", "OV", "OW", "UN"), bytes(8)),
    "AS": "000Y",
    "AT": 0,
    "CS": REMOVED,
    "DA": "19000101",
    "DT": "19000101000000",
    "TM": "000000",
    "UR": "urn:removed",
}
_TEXT: Final = frozenset(("LO", "LT", "SH", "ST", "UC", "UT"))
_DATES: Final = frozenset(("DA", "DT"))
_STRUCTURAL: Final = frozenset(("ConceptNameCodeSequence", "MeasurementUnitsCodeSequence", "ContentTemplateSequence"))
_CODE_VALUE: Final = (0x00080100, 0x00080119, 0x00080120)
_CHARACTER_SET: Final = 0x00080005
_ISSUERS: Final = {
    "AccessionNumber": "IssuerOfAccessionNumberSequence",
    "PlacerOrderNumberImagingServiceRequest": "OrderPlacerIdentifierSequence",
    "FillerOrderNumberImagingServiceRequest": "OrderFillerIdentifierSequence",
    "SpecimenIdentifier": "IssuerOfTheSpecimenIdentifierSequence",
    "ContainerIdentifier": "IssuerOfTheContainerIdentifierSequence",
}


_WITH_ISSUER: Final = frozenset((0x00080050, 0x00100020, 0x00402016, 0x00402017, 0x00400551, 0x00400512))


def issuer(dataset: Any, sequence: str, policy: Policy) -> str:
    """The assigning authority by an HL7v2 Hierarchic Designator macro (PS3.3 table 10-17), the default where it names none."""
    items = dataset.get(sequence) if sequence else None
    names = [str(items[0].get(name, "") or "") for name in _DESIGNATOR] if items else ["", "", ""]
    return policy.authorities.of_hd(*names)


_DESIGNATOR: Final = ("LocalNamespaceEntityID", "UniversalEntityID", "UniversalEntityIDType")


def patient_issuer(dataset: Any, policy: Policy) -> str:
    """(0010,0021) and the qualifiers of (0010,0024)."""
    qualifiers = dataset.get("IssuerOfPatientIDQualifiersSequence")
    universal = [str(qualifiers[0].get(name, "") or "") for name in _DESIGNATOR[1:]] if qualifiers else ["", ""]
    return policy.authorities.of_hd(str(dataset.get("IssuerOfPatientID", "") or ""), *universal)


class Cleaner:
    """For the data sets of one patient at one destination."""

    def __init__(self, policy: Policy, person: Person, traces: Traces) -> None:
        self._policy, self._person, self._traces = policy, person, traces
        self._actions = actions(policy, person.dates)
        self._private = {(one.group, one.element, one.creator) for one in policy.private}

    def clean(self, dataset: Any) -> None:
        """The whole data set, with the declaration that it is de-identified."""
        self._each(dataset, dummies=False)
        declare(dataset, self._policy, self._person.dates)

    def _each(self, dataset: Any, dummies: bool) -> None:
        """`dummies`: what is below a sequence of which nothing may be left but its shape."""
        creators = self._creators(dataset)
        for tag in sorted(dataset.keys(), key=lambda tag: tag not in _WITH_ISSUER):  # before what names their issuer has gone
            if tag.is_private:
                self._private_attribute(dataset, tag, creators)
            elif tag == _CHARACTER_SET or tag.element == 0:
                continue
            elif (action := self._actions_of(tag)) == "":
                self._unlisted(dataset, tag, dummies)
            elif action != "K" or dataset.get_item(tag).VR in ("SQ", None, "UN"):
                self._listed(dataset, tag, action, dummies)
        self._drop_unused_creators(dataset)

    def _actions_of(self, tag: Any) -> str:
        if tag >> 24 in (0x50, 0x60):
            row = row_of(tag)
            return row.action if row else "K"  # neither curves nor bitmaps can be cleaned, so clean-graphics removes them too
        return self._actions.get(tag, "")

    # --- one attribute ---------------------------------------------------------------------------

    def _listed(self, dataset: Any, tag: Any, action: str, dummies: bool) -> None:
        if action == "X":
            del dataset[tag]
            return
        element = dataset[tag]
        if element.VR == "SQ":
            self._sequence(dataset, element, action, dummies)
        elif action == "U":
            self._replace_uids(element)
        elif action == "S":
            self._shift(element)
        elif action == "C":
            self._clean_text(element)
        elif action in ("Z", "D"):
            element.value = self._stand_in(dataset, element, action)

    def _stand_in(self, dataset: Any, element: Any, action: str) -> Any:
        """Z and D: a pseudonym where the table says so, else nothing or a dummy of the VR."""
        row = rows().get(element.tag)
        kind = row.pseudonym if row else ""
        if kind == "identifier":
            authority = issuer(dataset, _ISSUERS.get(element.keyword, ""), self._policy)
            return [self._policy.pseudonyms.identifier(authority, str(one)) for one in _values(element) if str(one).strip()]
        if kind:
            return self._person_of(dataset, element).pseudonym
        if element.VR == "UI":
            return [self._uid(one) for one in _values(element)]
        return _DUMMIES.get(element.VR, "") if action == "D" else ""

    def _person_of(self, dataset: Any, element: Any) -> Person:
        """Another patient may be named in a sequence (a mother, a donor): by a number of its own."""
        if element.keyword != "PatientID" or not str(element.value or "").strip():
            return self._person
        return self._policy.person(patient_issuer(dataset, self._policy), str(element.value))

    def _sequence(self, dataset: Any, element: Any, action: str, dummies: bool) -> None:
        if action == "Z":
            element.value = []
            return
        for item in element.value:
            if action == "D" and any(tag in item for tag in _CODE_VALUE):
                _dummy_code(item)
            else:
                self._each(item, dummies or action == "D")
        if action == "D" and len(element.value) > 1 and any(tag in element.value[0] for tag in _CODE_VALUE):
            element.value = element.value[:1]

    def _unlisted(self, dataset: Any, tag: Any, dummies: bool) -> None:
        """No row names it: kept, by its kind."""
        from pydicom.datadict import dictionary_has_tag, keyword_for_tag

        if not dictionary_has_tag(tag) and tag.element != 0:
            del dataset[tag]
            return
        raw = dataset.get_item(tag)
        if raw.VR not in ("SQ", "UI", "PN", "DA", "DT", None, "UN") and not dummies:
            return
        element = dataset[tag]
        keyword = keyword_for_tag(tag)
        if element.VR == "SQ":
            code = dummies and keyword not in _STRUCTURAL and any(at in item for item in element.value for at in _CODE_VALUE)
            for item in element.value:
                if code:
                    _dummy_code(item)
                else:
                    self._each(item, dummies and keyword not in _STRUCTURAL)
        elif element.VR == "UI":
            if keyword not in SAFE_UIDS and not self._policy.retains(UIDS):
                self._replace_uids(element)
        elif element.VR == "PN":
            element.value = REMOVED if dummies else ""
        elif element.VR in _DATES and self._person.dates != "keep":
            self._shift(element)
        elif dummies and element.VR not in ("CS", "UI"):
            element.value = _DUMMIES.get(element.VR, "")

    # --- values ----------------------------------------------------------------------------------

    def _uid(self, uid: Any) -> str:
        text = str(uid)
        return text if not text or text.startswith(_STANDARD_ROOT) else self._policy.pseudonyms.uid(text)

    def _replace_uids(self, element: Any) -> None:
        element.value = [self._uid(one) for one in _values(element)]

    def _shift(self, element: Any) -> None:
        """Dates move; times of day stay; what has no date in digits goes."""
        if element.VR in _DATES:
            element.value = [self._person.date(str(one), shifted_range) for one in _values(element)]
        elif element.VR not in ("TM", "SH"):
            element.value = _DUMMIES.get(element.VR, "")

    def _clean_text(self, element: Any) -> None:
        if element.VR not in _TEXT:
            element.value = _DUMMIES.get(element.VR, "")
            return
        values = _values(element)
        cleaned = [self._traces.cleaned(str(one)) for one in values]
        if cleaned != [str(one) for one in values]:
            element.value = cleaned

    # --- private attributes ----------------------------------------------------------------------

    def _creators(self, dataset: Any) -> dict[tuple[int, int], str]:
        """(group, block) -> private creator (PS3.5 §7.8.1)."""
        found = {}
        for tag in _tags(dataset) if self._private else ():
            if tag.is_private_creator:
                found[tag.group, tag.element] = str(dataset[tag].value).strip()
        return found

    def _private_attribute(self, dataset: Any, tag: Any, creators: dict[tuple[int, int], str]) -> None:
        if tag.is_private_creator and (tag.group, tag.element) in creators:
            return
        if (tag.group, tag.element & 0xFF, creators.get((tag.group, tag.element >> 8))) not in self._private:
            del dataset[tag]
            return
        element = dataset[tag]
        if element.VR == "SQ":
            for item in element.value:
                self._each(item, dummies=False)
        elif element.VR == "PN":
            del dataset[tag]
        elif element.VR == "UI" and not self._policy.retains(UIDS):
            self._replace_uids(element)
        elif element.VR in _DATES and self._person.dates != "keep":
            self._shift(element)
        elif element.VR in _TEXT and self._policy.retains(DESCRIPTORS):
            self._clean_text(element)

    def _drop_unused_creators(self, dataset: Any) -> None:
        used = {(tag.group, tag.element >> 8) for tag in _tags(dataset) if tag.is_private and not tag.is_private_creator}
        for tag in [tag for tag in _tags(dataset) if tag.is_private_creator and (tag.group, tag.element) not in used]:
            del dataset[tag]


def _tags(dataset: Any) -> list[Any]:
    """To iterate over a data set itself would decode each element."""
    return list(dataset.keys())


def _values(element: Any) -> list[Any]:
    if element.value is None:
        return []
    return list(element.value) if element.VM > 1 else [element.value]


def _dummy_code(item: Any) -> None:
    for tag in list(item.keys()):
        del item[tag]
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = REMOVED, "99REMOVED", REMOVED
