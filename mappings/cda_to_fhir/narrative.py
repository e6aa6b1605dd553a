"""The narrative block of a section (CDA R2 clause 4.3.5) -> the XHTML of a FHIR Narrative (FHIR R4 clause 2.4.0), built anew.

Nothing is passed through: each element known to the narrative schema has its XHTML, and only attributes made here are written. Of an
element that it does not have, the text stays; scripts, styles and the like go with their text.
"""

from __future__ import annotations

from typing import Final
from xml.sax.saxutils import escape, quoteattr

from engine.formats.cda import Element, attribute, local

LONGEST: Final = 512 << 10
"""Characters of one section's narrative; what is longer is told of and left to the original document."""
_OPEN: Final = '<div xmlns="http://www.w3.org/1999/xhtml">'
_PLAIN: Final = {
    "paragraph": "p", "content": "span", "sub": "sub", "sup": "sup", "item": "li", "table": "table", "thead": "thead", "tbody": "tbody",
    "tfoot": "tfoot", "tr": "tr", "th": "th", "td": "td", "footnote": "span", "colgroup": "colgroup",
}  # fmt: skip
_EMPTY: Final = {"br": "br", "col": "col"}
_SILENT: Final = frozenset(("script", "style", "iframe", "object", "embed", "form", "footnoteRef", "reference", "thumbnail"))
_BLOCKS: Final = frozenset(("paragraph", "list", "table"))
_STYLES: Final = {"Bold": "b", "Italics": "i", "Emphasis": "em", "Underline": "u"}
_STRUCTURE: Final = {"table": ("thead", "tbody", "tfoot", "tr", "colgroup", "col"), "thead": ("tr",), "tbody": ("tr",), "tfoot": ("tr",),
                     "tr": ("td", "th"), "list": ("item",), "colgroup": ("col",)}  # fmt: skip
"""What may stand directly inside; text there is blank space."""


class _TooLong(Exception):
    pass


class _Writer:
    def __init__(self) -> None:
        self.parts: list[str] = []
        self._length = 0

    def out(self, text: str) -> None:
        self._length += len(text)
        if self._length > LONGEST:
            raise _TooLong
        self.parts.append(text)

    def inside(self, element: Element, allowed: tuple[str, ...] | None = None) -> None:
        if allowed is None:
            self.out(_text(element.text))
        for child in element:
            if not isinstance(child.tag, str):
                continue
            if allowed is None or local(child.tag) in allowed:
                self.element(child)
            if allowed is None:
                self.out(_text(child.tail))

    def element(self, element: Element) -> None:
        name = local(element.tag)
        if name in _SILENT:
            return
        if name in _EMPTY:
            self.out(f"<{_EMPTY[name]}/>")
        elif name == "list":
            self._list(element)
        elif name == "table":
            self._table(element)
        elif name == "linkHtml":
            self._wrapped("a", element, _link(attribute(element, "href")))
        elif name in ("renderMultiMedia", "caption"):
            self._wrapped("span", element)
        elif name == "content":
            tag = next((_STYLES[word] for word in attribute(element, "styleCode").split() if word in _STYLES), "span")
            self._wrapped(tag, element)
        elif name == "paragraph" and _has_blocks(element):
            self._wrapped("div", element)
        elif name in _PLAIN:
            self._wrapped(_PLAIN[name], element, _spans(element) if name in ("td", "th") else "", _STRUCTURE.get(name))
        else:
            self.inside(element)

    def _wrapped(self, tag: str, element: Element, attributes: str = "", allowed: tuple[str, ...] | None = None) -> None:
        self.out(f"<{tag}{attributes}>")
        self.inside(element, allowed)
        self.out(f"</{tag}>")

    def _list(self, element: Element) -> None:
        """Its caption stands before it: XHTML has none in lists."""
        items = [child for child in element if local(child.tag) == "item"]
        self._captions(element, "p")
        if items:
            tag = "ol" if attribute(element, "listType") == "ordered" else "ul"
            self._wrapped(tag, element, "", ("item",))

    def _table(self, element: Element) -> None:
        self.out("<table>")
        self._captions(element, "caption")
        self.inside(element, _STRUCTURE["table"])
        self.out("</table>")

    def _captions(self, element: Element, tag: str) -> None:
        for child in [child for child in element if local(child.tag) == "caption"][:1]:
            self._wrapped(tag, child)


def _text(text: str | None) -> str:
    return escape(text) if text else ""


def _has_blocks(element: Element) -> bool:
    return any(local(child.tag) in _BLOCKS for child in element.iterdescendants())


def _link(target: str) -> str:
    """Only addresses that open a page or a mail; nothing that a browser would run."""
    return f" href={quoteattr(target)}" if target.lower().startswith(("http://", "https://", "mailto:")) else ""


def _spans(element: Element) -> str:
    made = ""
    for name in ("rowspan", "colspan"):
        number = attribute(element, name)
        if number.isascii() and number.isdigit() and 1 < int(number[:6]) < 1000:
            made += f' {name}="{int(number)}"'
    return made


def narrative(text: Element) -> tuple[str, bool] | None:
    """(the div, whether it is whole); None for a text without any words."""
    if not any(word.strip() for word in text.itertext()):
        return None
    writer = _Writer()
    try:
        writer.inside(text)
    except _TooLong:
        return f"{_OPEN}<p>This section is too long to be shown here; see the original document.</p></div>", False
    inner = "".join(writer.parts).strip()
    if not inner or not _says_something(inner):
        return None
    return f"{_OPEN}{inner if inner.startswith('<') else f'<p>{inner}</p>' if '<' not in inner else inner}</div>", True


def _says_something(inner: str) -> bool:
    """Whether anything is left between the tags."""
    depth = False
    for letter in inner:
        if letter == "<":
            depth = True
        elif letter == ">":
            depth = False
        elif not depth and not letter.isspace():
            return True
    return False


def listing(lines: list[tuple[str, str]]) -> str:
    """A div of names with their values, for a section that has entries and no text of its own."""
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in lines)
    return f"{_OPEN}<table><tbody>{rows}</tbody></table></div>"


def empty(title: str) -> str:
    return f"{_OPEN}<p>{escape(title) or '-'}</p></div>"
