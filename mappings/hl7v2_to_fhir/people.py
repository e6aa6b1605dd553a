"""XPN, XCN, CNN, NDL and XTN -> HumanName, Practitioner and ContactPoint."""

from __future__ import annotations

import re
from typing import Any, Final

from mappings.conditions import NULL
from mappings.hl7v2_to_fhir.context import Terms, V2Transaction, components, part, parted
from mappings.hl7v2_to_fhir.terminology import coding
from mappings.hl7v2_to_fhir.times import date_time
from mappings.transaction import ALTERNATE_CODES, Body

_EXTENSION: Final = "http://hl7.org/fhir/StructureDefinition/"
_HAN: Final = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U000323af·]+")
_REPRESENTATION: Final = {"A": "ABC", "I": "IDE", "P": "SYL"}
_FAMILY: Final = ((2, "humanname-own-prefix"), (3, "humanname-own-name"), (4, "humanname-partner-prefix"), (5, "humanname-partner-name"))
_POINT: Final = ("contactpoint-country", "contactpoint-area", "contactpoint-local", "contactpoint-extension")


class People:
    """The converters for people's names and numbers."""

    def __init__(self, terms: Terms) -> None:
        self._uses = terms.codes["name-use"]
        self._systems = terms.codes["contact-system"]
        self._contact_uses = terms.codes["contact-use"]

    def xpn(self, text: str, tx: V2Transaction) -> Body | None:
        """XPN (v2.5.1 §2.A.88)."""
        parts = parted(text, tx, 14)
        name = self._name(parts[0], parts[1:6], tx)
        if name is not None and len(text) > 6:
            self._use(parts[6], name)
            self._representation(parts[7], parts[10], name)
            if parts[9] or parts[11] or parts[12]:
                self._period(parts[9], parts[11], parts[12], name, tx)
            if parts[13]:
                name.setdefault("suffix", []).append(parts[13])
        return name

    def names(self, text: str, tx: V2Transaction) -> list[Body] | None:
        """XPN where the element repeats: the name, and the one the person is called by (XPN.15)."""
        name = self.xpn(text, tx)
        called = tx.text(part(text.split("^"), 15)).strip()
        found = [name] if name else []
        if called:
            found.append({"use": "nickname", "given": [called]})
        return found or None

    def alias(self, text: str, tx: V2Transaction) -> list[Body] | None:
        """PID-9: as names, with no use claimed that was not sent."""
        return self.names(text, tx)

    def name_text(self, text: str, tx: V2Transaction) -> str | None:
        """XPN as one line."""
        name = self.xpn(text, tx)
        if name is None:
            return None
        words = [*name.get("prefix", []), *name.get("given", []), name.get("family", "")]
        return name.get("text") or " ".join(word for word in words if word) or None

    def _name(self, own: str, others: list[str], tx: V2Transaction) -> Body | None:
        """A name of its FN, and given, further given, suffix, prefix, degree as text."""
        name: Body = {}
        family = own.strip()
        if "&" in own:
            family = self._family(own, name, tx)
        given = [word for word in (others[0].strip(), others[1].strip()) if word]
        if family and not given and len(family) > 1 and _HAN.fullmatch(family):
            name["text"] = family  # the whole name in one: where the family name ends nobody said
        elif family:
            name["family"] = family
            if given and _HAN.fullmatch(family + "".join(given)):
                name["text"] = family + "".join(given)
        if given:
            name["given"] = given
        suffix = [word for word in (others[2].strip(), others[4].strip()) if word]
        if suffix:
            name["suffix"] = suffix
        if others[3].strip():
            name["prefix"] = [others[3].strip()]
        return name or None

    def _family(self, own: str, name: Body, tx: V2Transaction) -> str:
        """The family name of an FN; what it is made of goes into extensions."""
        parts = own.split("&")
        extensions = [
            {"url": _EXTENSION + url, "valueString": tx.text(part(parts, number))} for number, url in _FAMILY if part(parts, number)
        ]
        if extensions:
            name["_family"] = {"extension": extensions}
        return tx.text(part(parts, 1)).strip()

    def _use(self, word: str, name: Body) -> None:
        if not word:
            return
        target = self._uses.targets.get(word)
        if target and target["to"]:
            name["use"] = target["to"]
        else:
            kept = coding(self._uses.system, word)
            name["_use"] = {"extension": [{"url": ALTERNATE_CODES, "valueCodeableConcept": {"coding": [kept]}}]}

    def _representation(self, representation: str, order: str, name: Body) -> None:
        if representation in _REPRESENTATION:
            word = {"url": _EXTENSION + "iso21090-EN-representation", "valueCode": _REPRESENTATION[representation]}
            name.setdefault("extension", []).append(word)
        if order in ("G", "F"):
            name.setdefault("extension", []).append({"url": _EXTENSION + "humanname-assembly-order", "valueCode": order})

    def _period(self, both: str, start: str, end: str, name: Body, tx: V2Transaction) -> None:
        sent = components(both) if both and not start and not end else [start, end]
        period = {key: value for key, text in zip(("start", "end"), sent, strict=False) if text and (value := date_time(text, tx.zone))}
        if period:
            name["period"] = period

    def person(self, parts: list[str], tx: V2Transaction) -> Body | None:
        """The name inside an XCN (v2.5.1 §2.A.86) of at least 21 components."""
        name = self._name(parts[1], [*parts[2:6], ""], tx)
        if name:
            self._use(parts[9], name)
            self._representation(parts[14], parts[17], name)
            if parts[16] or parts[18] or parts[19]:
                self._period(parts[16], parts[18], parts[19], name, tx)
            if parts[20]:
                name.setdefault("suffix", []).append(parts[20])
        return name

    def xtn(self, default_use: str) -> Any:
        """XTN (v2.5.1 §2.A.89); `default_use` where XTN.2 says none."""

        def convert(text: str, tx: V2Transaction) -> list[Body] | None:
            parts = parted(text, tx, 18)
            found = [point for point in (self._phone(parts), self._address(parts)) if point]
            for point in found:
                self._finish(point, parts, default_use, tx)
            return found or None

        return convert

    def _phone(self, parts: list[str]) -> Body | None:
        kind = parts[2]
        whole = (parts[11] or parts[0]).strip()
        country, area, number, extension = local = parts[4:8]
        if not whole and number:
            whole = " ".join(word for word in (f"+{country.lstrip('+')}" if country else "", area, number) if word)
            whole += f" X{extension}" if extension else ""
        if not whole and not parts[3]:
            whole = parts[8].strip()
        if not whole or (parts[3] and kind in ("Internet", "X.400")):
            return None
        point: Body = {"system": self._system(kind, parts[1], whole), "value": whole}
        extensions = [{"url": _EXTENSION + url, "valueString": word} for word, url in zip(local, _POINT, strict=True) if word]
        if extensions:
            point["extension"] = extensions
        return point

    def _system(self, kind: str, use: str, value: str) -> str:
        if kind in ("Internet", "X.400") or (not kind and (use == "NET" or "@" in value)):
            return "email"
        target = self._systems.targets.get(kind)
        return target["to"] if target else "phone" if not kind else "other"

    def _address(self, parts: list[str]) -> Body | None:
        mail = parts[3].strip()
        if not mail:
            return None
        if "://" in mail:
            return {"system": "url", "value": mail}
        return {"system": "email" if "@" in mail or parts[2] in ("Internet", "X.400", "") else "other", "value": mail}

    def _finish(self, point: Body, parts: list[str], default_use: str, tx: V2Transaction) -> None:
        word = parts[1]
        target = self._contact_uses.targets.get(word) if word else None
        if parts[2] == "CP":
            point["use"] = "mobile"
        elif target and target["to"]:
            point["use"] = target["to"]
        elif default_use and not word:
            point["use"] = default_use
        if word and not (target and target["to"]):
            kept = {"coding": [coding(self._contact_uses.system, word)]}
            point["_use"] = {"extension": [{"url": ALTERNATE_CODES, "valueCodeableConcept": kept}]}
        if parts[12] or parts[13]:
            period = {key: value for key, n in (("start", 12), ("end", 13)) if parts[n] and (value := date_time(parts[n], tx.zone))}
            if period:
                point["period"] = period
        rank = parts[17]
        if rank.isdecimal() and 0 < int(rank) < 1000:
            point["rank"] = int(rank)


def flat(text: str) -> list[str]:
    """The parts of a type that stands inside another one (NDL.1 holds a CNN in subcomponents)."""
    head = text.split("^", 1)[0]
    return ["" if word == NULL else word for word in head.split("&")]
