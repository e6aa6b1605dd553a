"""What is answered: an element out of a template of the site, or an empty one. Pure.

A template is parsed before anything is put in, so that nothing which is put in can become markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Final

from lxml import etree

from engine.errors import ParseError
from engine.formats.soap.names import legal
from engine.formats.xml import parse

NAMES: Final = ("message.id", "answer.id", "time", "time.hl7", "code", "text")
"""The control id of the request, a new id, now (xsd:dateTime, and as HL7 writes it), the verdict's code, why."""
PLACES: Final = " ".join(f"${{{name}}}" for name in NAMES)
_PLACE: Final = re.compile(r"\$\{([^{}]*)\}")


class Template:
    """Raises ParseError: not XML, a placeholder that is none."""

    def __init__(self, content: bytes) -> None:
        self._root = parse(content)
        for text in _texts(self._root):
            for name in _PLACE.findall(text):
                if name not in NAMES:
                    raise ParseError(f"the placeholder ${{{name}}} is none of {PLACES}")

    def filled(self, values: Mapping[str, str]) -> etree._Element:
        """A new element."""
        root = deepcopy(self._root)
        for element in root.iter():
            element.text = _filled(element.text, values)
            element.tail = _filled(element.tail, values)
            for name, value in element.attrib.items():
                element.set(name, _filled(str(value), values))
        return root


def _texts(root: etree._Element) -> Iterator[str]:
    for element in root.iter():
        yield from (text for text in (element.text, element.tail, *map(str, element.attrib.values())) if text)


def _filled(text: str | None, values: Mapping[str, str]) -> str | None:
    if not text or "${" not in text:
        return text
    return _PLACE.sub(lambda match: legal(values[match[1]]), text)


DEFAULT: Final = Template(
    b'<SubmitResponse xmlns="urn:meridian:soap"><id>${message.id}</id><code>${code}</code><text>${text}</text></SubmitResponse>'
)
"""The answer of the service that is shipped."""
