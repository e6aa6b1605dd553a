"""Where things must stand in an envelope, so that what was signed and what is used cannot be two things.

SOAP 1.1 clause 4 and 1.2 part 1 clause 5.1: Envelope has one Header at most, then one Body. WSS 1.1 clause 5: one Security header for
each role. Ids are looked for under every spelling that toolkits use, over the whole document: one that stands twice names nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lxml import etree

from adapters.soap.security.names import ADDRESSING, ROLE, SOAP_12, ULTIMATE_RECEIVER, WSU, wsse
from adapters.soap.security.refusal import Code, Refusal

_EACH: Final = "//@*[local-name() = 'Id' or local-name() = 'ID' or local-name() = 'id']"
_IDS: Final = etree.XPath(_EACH)
_COUNT: Final = etree.XPath(f"count({_EACH})")
_MOST_IDS: Final = 100_000
"""Each costs a few hundred bytes before anything is proven."""
_NAMING: Final = (f"{{{WSU}}}Id", "{http://www.w3.org/XML/1998/namespace}id", "Id")
"""The attributes by which something may be named (WSS 1.1 clause 4.2, xml:id 1.0, XML Signature 1.1 clause 4.5 and npm soap)."""
_MOST_NAMESPACES: Final = 200
"""In scope at once: looking them up for each element of a canonical form is what costs."""


@dataclass(frozen=True)
class Layout:
    """`security` is the Security header that is for us; `ids` the attributes that name something, by their value."""

    envelope: etree._Element
    header: etree._Element
    body: etree._Element
    security: etree._Element
    ids: Mapping[str, Sequence[Any]]

    @property
    def addressing(self) -> list[etree._Element]:
        """The header blocks of WS-Addressing."""
        return [block for block in self.header if etree.QName(block).namespace in ADDRESSING]

    def named(self, name: str) -> etree._Element:
        """The only element with this id, where it stands as the Body, as a header block or in our Security header. Raises Refusal."""
        found = self.ids.get(name, ())
        if len(found) != 1:
            raise Refusal(Code.INVALID_SECURITY, f"{len(found)} elements have an id that is referred to")
        element = found[0].getparent()
        if found[0].attrname not in _NAMING or not self._is_placed(element):
            raise Refusal(Code.INVALID_SECURITY, "a reference to an element that stands where nothing of it would be used")
        return element

    def _is_placed(self, element: etree._Element) -> bool:
        parent = element.getparent()
        return element is self.body or parent is self.security or (parent is self.header and element is not self.security)


NOTHING_SAID: Final = "the message has no Security header for us: it is not signed, and says no user"


def lay_out(envelope: etree._Element, role: str) -> Layout:
    """`role` is the actor (1.1) or role (1.2) that we are, "" for the ultimate receiver. Raises Refusal."""
    namespace = etree.QName(envelope).namespace or ""
    if namespace not in ROLE or etree.QName(envelope).localname != "Envelope":
        raise Refusal(Code.INVALID_SECURITY, "no SOAP envelope")
    parts = [child.tag for child in envelope]
    if parts == [f"{{{namespace}}}Body"]:
        raise Refusal(Code.INVALID_SECURITY, NOTHING_SAID)
    if parts != [f"{{{namespace}}}Header", f"{{{namespace}}}Body"]:
        raise Refusal(Code.INVALID_SECURITY, "the envelope is not one Header and one Body")
    header, body = envelope
    _check_namespaces(envelope)
    mine = [block for block in header.iterchildren(wsse("Security")) if _is_for(block, namespace, role)]
    if len(mine) != 1:
        raise Refusal(Code.INVALID_SECURITY, f"{len(mine)} Security headers for us" if mine else NOTHING_SAID)
    return Layout(envelope, header, body, mine[0], _ids(envelope))


def _is_for(block: etree._Element, namespace: str, role: str) -> bool:
    said = (block.get(ROLE[namespace]) or "").strip()
    if namespace == SOAP_12 and said == ULTIMATE_RECEIVER:
        said = ""
    return said == role


def _ids(envelope: etree._Element) -> dict[str, list[Any]]:
    """The attributes that name something, by their value. Raises Refusal where a wsu:Id stands twice."""
    if _COUNT(envelope) > _MOST_IDS:
        raise Refusal(Code.INVALID_SECURITY, f"more than {_MOST_IDS} ids")
    found: dict[str, list[Any]] = {}
    for one in _IDS(envelope):
        found.setdefault(str(one), []).append(one)
    if any(sum(one.attrname == _NAMING[0] for one in same) > 1 for same in found.values() if len(same) > 1):
        raise Refusal(Code.INVALID_SECURITY, "a wsu:Id stands twice")
    return found


def _check_namespaces(envelope: etree._Element) -> None:
    count = 0
    for event, _ in etree.iterwalk(envelope, events=("start-ns", "end-ns")):
        count += 1 if event == "start-ns" else -1
        if count > _MOST_NAMESPACES:
            raise Refusal(Code.INVALID_SECURITY, f"more than {_MOST_NAMESPACES} namespaces in scope")


def only(element: etree._Element, tag: str) -> etree._Element:
    """Its one child of that name. Raises Refusal for none or several."""
    found = at_most_one(element, tag)
    if found is None:
        raise Refusal(Code.INVALID_SECURITY, f"{_local(element)} has no {etree.QName(tag).localname}")
    return found


def at_most_one(element: etree._Element, tag: str) -> etree._Element | None:
    """Raises Refusal for several."""
    found = element.findall(tag)
    if len(found) > 1:
        raise Refusal(Code.INVALID_SECURITY, f"{_local(element)} has {len(found)} of {etree.QName(tag).localname}")
    return found[0] if found else None


def children(element: etree._Element, tags: Sequence[str]) -> list[etree._Element]:
    """Exactly these, in this order. Raises Refusal."""
    if [child.tag for child in element] != list(tags):
        raise Refusal(Code.INVALID_SECURITY, f"{_local(element)} does not hold what it must, or holds more")
    return list(element)


def text(element: etree._Element) -> str:
    """Of an element that holds nothing else, without blanks around it. Raises Refusal."""
    if len(element):
        raise Refusal(Code.INVALID_SECURITY, f"{_local(element)} holds elements")
    return (element.text or "").strip(" \t\r\n")


def _local(element: etree._Element) -> str:
    """The name of an element that we have asked for by name, so that it is none of the sender's words."""
    return str(etree.QName(element).localname)
