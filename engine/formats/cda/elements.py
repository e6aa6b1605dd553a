"""The elements of an HL7 V3 document and its small data types, whatever the namespace."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from lxml import etree

V3: Final = "urn:hl7-org:v3"
XSI_TYPE: Final = "{http://www.w3.org/2001/XMLSchema-instance}type"

Element: TypeAlias = etree._Element

_NO_NUMBER: Final = re.compile(r"(?:[\s\-—_/\\.,，。*?？无]|0|不详|未知|null|none|n/?a|unk(?:nown)?)*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Id:
    """II: an OID or UUID, and what is unique under it."""

    root: str = ""
    extension: str = ""

    def __bool__(self) -> bool:
        return bool(self.root or self.extension)


@dataclass(frozen=True, slots=True)
class Code:
    """CD, CE, CV: `system` is an OID."""

    code: str = ""
    system: str = ""
    display: str = ""
    system_name: str = ""

    def __bool__(self) -> bool:
        return bool(self.code or self.display)


NO_ID: Final = Id()
NO_CODE: Final = Code()


def local(tag: object) -> str:
    """The name of an element or attribute without its namespace."""
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def children(element: Element | None, name: str) -> Iterator[Element]:
    """The child elements called `name`, in document order."""
    if element is not None:
        for child in element:
            if local(child.tag) == name:
                yield child


def first(element: Element | None, *names: str) -> Element | None:
    """The first element at a path of names."""
    for name in names:
        element = next(children(element, name), None)
    return element


def attribute(element: Element | None, name: str) -> str:
    return "" if element is None else (element.get(name) or "").strip()


def text_of(element: Element | None) -> str:
    """All text inside, blanks made single."""
    if element is None:
        return ""
    return " ".join(" ".join(word.strip() for word in element.itertext() if word.strip()).split())


def is_no_number(text: str) -> bool:
    """Nothing, or what people type where they must type a number; under one root it would make all of them one."""
    return _NO_NUMBER.fullmatch(text) is not None


def id_of(element: Element | None) -> Id:
    """II; one that is null (nullFlavor) or empty is false. Text instead of attributes is the extension."""
    if element is None or (element.get("nullFlavor") and not element.get("extension")):
        return Id()
    root, extension = attribute(element, "root"), attribute(element, "extension")
    number = extension if root or extension else text_of(element)
    return Id(root, "" if is_no_number(number) else number)


def code_of(element: Element | None) -> Code:
    if element is None:
        return Code()
    display = attribute(element, "displayName") or text_of(first(element, "originalText"))
    return Code(attribute(element, "code"), attribute(element, "codeSystem"), display, attribute(element, "codeSystemName"))


def time_of(element: Element | None) -> str:
    """TS, or the beginning of an IVL_TS that has no value of its own; WS/T 500 writes some as text."""
    if element is None:
        return ""
    own = attribute(element, "value") or attribute(first(element, "low"), "value") or text_of(element)
    return own if len(own) <= 40 else ""
