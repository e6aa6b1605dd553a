"""Names, addresses and telecommunication addresses (PN, AD, TEL) -> HumanName, Address, ContactPoint."""

from __future__ import annotations

import re
from typing import Final

from engine.formats.cda import Element, attribute, children, first, local, text_of
from mappings.transaction import Body

_HAN: Final = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U000323af·]+")
_NAME_USES: Final = {"L": "official", "C": "official", "P": "nickname", "A": "anonymous", "ASGN": "usual", "I": "usual"}
_USES: Final = {
    "H": "home",
    "HP": "home",
    "HV": "home",
    "WP": "work",
    "DIR": "work",
    "PUB": "work",
    "TMP": "temp",
    "BAD": "old",
    "MC": "mobile",
}
_SCHEMES: Final = {"tel": "phone", "fax": "fax", "mailto": "email", "http": "url", "https": "url", "sms": "sms", "x-text-fax": "fax"}
_LINES: Final = ("streetAddressLine", "streetName", "houseNumber", "additionalLocator", "township", "unitID", "postBox")
_PARTS: Final = (("city", "city"), ("county", "district"), ("state", "state"), ("postalCode", "postalCode"), ("country", "country"))


def name_of(text: str) -> Body:
    """A name that is one text; of a Chinese one nobody says where the family name ends."""
    return {"text": text}


def human_name(element: Element) -> Body | None:
    """PN: its parts; one without parts as text."""
    family = " ".join(filter(None, (text_of(one) for one in children(element, "family"))))
    given = [text for one in children(element, "given") if (text := text_of(one))]
    made: Body = {}
    if family:
        made["family"] = family
    if given:
        made["given"] = given
    if family and given and _HAN.fullmatch(family + "".join(given)):
        made["text"] = family + "".join(given)
    for name in ("prefix", "suffix"):
        if words := [text for one in children(element, name) if (text := text_of(one))]:
            made[name] = words
    if not made:
        text = text_of(element)
        return name_of(text) if text else None
    use = next((_NAME_USES[word] for word in attribute(element, "use").split() if word in _NAME_USES), "")
    return {"use": use, **made} if use else made


def address(element: Element) -> Body | None:
    """AD; its parts, or the whole as text."""
    made: Body = {}
    if lines := [text for one in element if (text := text_of(one)) and local(one.tag) in _LINES]:
        made["line"] = lines
    for name, target in _PARTS:
        if text := text_of(first(element, name)):
            made[target] = text
    if not made:
        text = text_of(element)
        made = {"text": text} if text else {}
    use = next((_USES[word] for word in attribute(element, "use").split() if word in _USES), "")
    if made and use in ("home", "work", "temp", "old"):
        made = {"use": use, **made}
    return made or None


def telecom(element: Element) -> Body | None:
    """TEL: a URL, or a bare number."""
    value = attribute(element, "value") or text_of(element)
    if not value or (attribute(element, "nullFlavor") and not attribute(element, "value")):
        return None
    scheme, mark, rest = value.partition(":")
    system = _SCHEMES.get(scheme.lower(), "") if mark else ""
    whole = value if system == "url" else rest if system else value
    if not whole.strip():
        return None
    made: Body = {"system": system or ("email" if "@" in value else "phone"), "value": whole.strip()}
    use = next((_USES[word] for word in attribute(element, "use").split() if word in _USES), "")
    return {**made, "use": use} if use else made
