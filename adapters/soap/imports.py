"""A WSDL with all that it imports, out of files; nothing is ever fetched. Read strictly: no document type, bounded.

A location on the network means a file of that name beside the importing one, so that a set of files that a vendor delivers, or ``?wsdl``
gives, can lie in the site as it is. Pure, but for the files.

Sources: WSDL 1.1 clause 2.1.1 (import); XML Schema part 1 clauses 4.2.1 (include), 4.2.3 (import).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from lxml import etree

from engine.errors import ParseError
from engine.formats.soap.names import qname
from engine.formats.xml import Limits, parse

WSDL: Final = "http://schemas.xmlsoap.org/wsdl/"
XSD: Final = "http://www.w3.org/2001/XMLSchema"
LOCATIONS: Final = {
    qname(WSDL, "import"): "location",
    **{qname(XSD, name): "schemaLocation" for name in ("import", "include", "redefine")},
}
"""What imports, and the attribute that says from where."""
_LIMITS: Final = Limits(size=8 << 20, depth=100, elements=200_000)
_MOST_FILES: Final = 500


@dataclass(frozen=True, slots=True)
class Import:
    """`file` is None where the location is on the network and no file of its name lies beside the importing one."""

    location: str
    where: str
    file: Path | None


@dataclass(frozen=True, slots=True)
class Imported:
    """One document, with what it imports itself."""

    content: bytes
    root: etree._Element
    imports: Sequence[Import]


def follow(wsdl: Path, within: Path | None) -> Mapping[Path, Imported]:
    """The documents by their files, resolved, the WSDL first. None of them may be outside of the folder `within`. Raises ParseError, whose
    text names file and line."""
    found: dict[Path, Imported] = {}
    waiting = [(wsdl.resolve(), "")]
    while waiting:
        file, where = waiting.pop()
        if file in found:
            continue
        if len(found) == _MOST_FILES:
            raise ParseError(f"the WSDL consists of more than {_MOST_FILES} files")
        found[file] = document = _read(file, within, where)
        waiting.extend((one.file, f"{one.where} imports {one.location!r}") for one in document.imports if one.file is not None)
    return found


def _read(file: Path, within: Path | None, where: str) -> Imported:
    if within is not None and not file.is_relative_to(within.resolve()):
        raise ParseError(f"{where or file.name}, which is outside the site")
    shown = file.relative_to(within.resolve()).as_posix() if within is not None else file.name
    try:
        content = file.read_bytes()
        root = parse(content, _LIMITS)
    except OSError as error:
        raise ParseError(
            f"{where}, and the file {shown} cannot be read: {error.strerror}" if where else f"{shown}: {error.strerror}"
        ) from None
    except ParseError as error:
        raise ParseError(f"{shown}: {error.text}", location=error.location) from None
    return Imported(content, root, list(_imports(file, root, shown)))


def _imports(file: Path, root: etree._Element, shown: str) -> Iterator[Import]:
    for element in root.iter(*LOCATIONS):
        location = element.get(LOCATIONS[str(element.tag)], "")
        if location:
            yield Import(location, f"{shown}:{element.sourceline}", _beside(location, file))


def _beside(location: str, importing: Path) -> Path | None:
    parts = urlsplit(location)
    if not parts.scheme and not parts.netloc:
        return (importing.parent / location).resolve()
    file = importing.parent / Path(parts.path).name
    return file.resolve() if file.is_file() else None
