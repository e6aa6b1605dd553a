"""XPN, XCN, CNN, NDL and XTN -> HumanName, Practitioner and ContactPoint."""

from __future__ import annotations

import re
from typing import Any, Final

from mappings.conditions import NULL
from mappings.hl7v2_to_fhir.context import Terms, V2Transaction, components, part
from mappings.hl7v2_to_fhir.terminology import coding
from mappings.hl7v2_to_fhir.times import date_time
from mappings.transaction import ALTERNATE_CODES, Body

_EXTENSION: Final = "http://hl7.org/fhir/StructureDefinition/"
_HAN: Final = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U000323af·]+")
_REPRESENTATION: Final = {"A": "ABC", "I": "IDE", "P": "SYL"}
_FAMILY: Final = ((2, "humanname-own-prefix"), (3, "humanname-own-name"), (4, "humanname-partner-prefix"), (5, "humanname-partner-name"))
_POINT: Final = ((5, "contactpoint-country"), (6, "contactpoint-area"), (7, "contactpoint-local"), (8, "contactpoint-extension"))


class People:
    """The converters for people's names and numbers."""

    def __init__(self, terms: Terms) -> None:
        self._uses = terms.codes["name-use"]
        self._systems = terms.codes["contact-system"]
        self._contact_uses = terms.codes["contact-use"]

    def xpn(self, text: str, tx: V2Transaction) -> Body | None:
        """XPN (v2.5.1 §2.A.88)."""
        parts = text.split("^")
        name = self._name([part(parts, number) for number in (1, 2, 3, 4, 5, 6)], tx)
        if name is None:
            return None
        if len(parts) > 6:
            self._use(part(parts, 7), name)
            self._representation(part(parts, 8), part(parts, 11), name)
            self._period(part(parts, 10), part(parts, 12), part(parts, 13), name, tx)
            if part(parts, 14):
                name.setdefault("suffix", []).append(tx.text(part(parts, 14)))
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

    def _name(self, words: list[str], tx: V2Transaction) -> Body | None:
        family_parts = words[0].split("&") if "&" in words[0] else [words[0]]
        family = tx.text(part(family_parts, 1)).strip()
        given = [word for word in (tx.text(words[1]).strip(), tx.text(words[2]).strip()) if word]
        name: Body = {}
        if family and not given and len(family) > 1 and _HAN.fullmatch(family):
            name["text"] = family  # the whole name in one: where the family name ends nobody said
        elif family:
            name["family"] = family
            if given and _HAN.fullmatch(family + "".join(given)):
                name["text"] = family + "".join(given)
        if given:
            name["given"] = given
        extensions = [
            {"url": _EXTENSION + url, "valueString": tx.text(part(family_parts, number))}
            for number, url in _FAMILY
            if part(family_parts, number)
        ]
        if extensions:
            name["_family"] = {"extension": extensions}
        for key, several in (("suffix", (words[3], words[5])), ("prefix", (words[4],))):
            found = [tx.text(word).strip() for word in several if word and tx.text(word).strip()]
            if found:
                name[key] = found
        return name or None

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
        """The name inside an XCN (v2.5.1 §2.A.86)."""
        name = self._name([part(parts, 2), part(parts, 3), part(parts, 4), part(parts, 5), part(parts, 6), ""], tx)
        if name and len(parts) > 9:
            self._use(part(parts, 10), name)
            self._representation(part(parts, 15), part(parts, 18), name)
            self._period(part(parts, 17), part(parts, 19), part(parts, 20), name, tx)
            if part(parts, 21):
                name.setdefault("suffix", []).append(tx.text(part(parts, 21)))
        return name

    def xtn(self, default_use: str) -> Any:
        """XTN (v2.5.1 §2.A.89); `default_use` where XTN.2 says none."""

        def convert(text: str, tx: V2Transaction) -> list[Body] | None:
            parts = text.split("^")
            found = [point for point in (self._phone(parts, tx), self._address(parts, tx)) if point]
            for point in found:
                self._finish(point, parts, default_use, tx)
            return found or None

        return convert

    def _phone(self, parts: list[str], tx: V2Transaction) -> Body | None:
        kind = part(parts, 3)
        mail = kind in ("Internet", "X.400")
        whole = tx.text(part(parts, 12) or part(parts, 1)).strip()
        local = [tx.text(part(parts, number)).strip() for number in (5, 6, 7, 8)]
        if not whole and local[2]:
            country, area, number, extension = local
            whole = " ".join(word for word in (f"+{country.lstrip('+')}" if country else "", area, number) if word)
            whole += f" X{extension}" if extension else ""
        whole = whole or (tx.text(part(parts, 9)).strip() if not part(parts, 4) else "")
        if not whole or (mail and part(parts, 4)):
            return None
        point: Body = {"system": self._system(kind, part(parts, 2), whole), "value": whole}
        extensions = [{"url": _EXTENSION + url, "valueString": local[number - 5]} for number, url in _POINT if local[number - 5]]
        if extensions:
            point["extension"] = extensions
        return point

    def _system(self, kind: str, use: str, value: str) -> str:
        if kind in ("Internet", "X.400") or (not kind and (use == "NET" or "@" in value)):
            return "email"
        target = self._systems.targets.get(kind)
        return target["to"] if target else "phone" if not kind else "other"

    def _address(self, parts: list[str], tx: V2Transaction) -> Body | None:
        mail = tx.text(part(parts, 4)).strip()
        if not mail:
            return None
        return {
            "system": "url" if "://" in mail else "email" if "@" in mail or part(parts, 3) in ("Internet", "X.400", "") else "other",
            "value": mail,
        }

    def _finish(self, point: Body, parts: list[str], default_use: str, tx: V2Transaction) -> None:
        word = part(parts, 2)
        target = self._contact_uses.targets.get(word)
        if part(parts, 3) == "CP":
            point["use"] = "mobile"
        elif target and target["to"]:
            point["use"] = target["to"]
        elif default_use and not word:
            point["use"] = default_use
        if word and not (target and target["to"]):
            kept = {"coding": [coding(self._contact_uses.system, tx.text(word))]}
            point["_use"] = {"extension": [{"url": ALTERNATE_CODES, "valueCodeableConcept": kept}]}
        period = {key: value for key, n in (("start", 13), ("end", 14)) if part(parts, n) and (value := date_time(part(parts, n), tx.zone))}
        if period:
            point["period"] = period
        rank = part(parts, 18)
        if rank.isdecimal() and 0 < int(rank) < 1000:
            point["rank"] = int(rank)


def flat(text: str) -> list[str]:
    """The parts of a type that stands inside another one (NDL.1 holds a CNN in subcomponents)."""
    head = text.split("^", 1)[0]
    return ["" if word == NULL else word for word in head.split("&")]
