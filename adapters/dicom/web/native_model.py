"""The DICOM JSON model (PS3.18 annex F) as XML: the Native DICOM Model (PS3.19 annex A.1). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

from pydicom.datadict import keyword_for_tag

_FORBIDDEN: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot carry (clause 2.2)."""
_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_COMPONENTS: Final = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")


def native_model(data_set: Mapping[str, Any]) -> bytes:
    """One data set as a document in UTF-8."""
    inside = "".join(_attributes(data_set))
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM" '
    return f'{head}xml:space="preserve">{inside}</NativeDicomModel>'.encode()


def _attributes(data_set: Mapping[str, Any]) -> Iterator[str]:
    for tag, element in sorted(data_set.items()):
        keyword = keyword_for_tag(int(tag, 16))
        named = f" keyword={quoteattr(keyword)}" if keyword else ""
        yield f"<DicomAttribute tag={quoteattr(tag)} vr={quoteattr(element['vr'])}{named}>{_content(element)}</DicomAttribute>"


def _content(element: Mapping[str, Any]) -> str:
    if "BulkDataURI" in element:
        return f"<BulkData uri={quoteattr(element['BulkDataURI'])}/>"
    if "InlineBinary" in element:
        return f"<InlineBinary>{element['InlineBinary']}</InlineBinary>"
    values = enumerate(element.get("Value", ()), 1)
    return "".join(_value(element["vr"], number, value) for number, value in values if value is not None)


def _value(vr: str, number: int, value: Any) -> str:
    if vr == "SQ":
        return f'<Item number="{number}">{"".join(_attributes(value))}</Item>'
    if vr == "PN":
        return f'<PersonName number="{number}">{_name(value)}</PersonName>'
    return f'<Value number="{number}">{_text(value)}</Value>'


def _name(value: Mapping[str, str]) -> str:
    groups = []
    for group in _GROUPS:
        parts = zip(_COMPONENTS, value.get(group, "").split("^"), strict=False)
        inside = "".join(f"<{name}>{_text(part)}</{name}>" for name, part in parts if part)
        if inside:
            groups.append(f"<{group}>{inside}</{group}>")
    return "".join(groups)


def _text(value: Any) -> str:
    return escape(_FORBIDDEN.sub("\ufffd", str(value)))
