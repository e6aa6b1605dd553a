"""Retrieve Document Set (IHE ITI TF-2 clause 3.43): requests written, answers read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from lxml import etree

from engine.errors import ParseError
from engine.formats.xds.names import RS, XDSB
from engine.formats.xds.responses import RegistryResponse, read_response


class Wanted(NamedTuple):
    """One document, by where it is."""

    repository: str
    unique_id: str
    home: str = ""


class Retrieved(NamedTuple):
    """One document of an answer; `element` holds its content or an xop:Include."""

    wanted: Wanted
    mime_type: str
    element: Any


def write_retrieval(documents: Sequence[Wanted]) -> Any:
    root = etree.Element(f"{{{XDSB}}}RetrieveDocumentSetRequest", nsmap={"xdsb": XDSB})
    for one in documents:
        request = etree.SubElement(root, f"{{{XDSB}}}DocumentRequest")
        if one.home:
            etree.SubElement(request, f"{{{XDSB}}}HomeCommunityId").text = one.home
        etree.SubElement(request, f"{{{XDSB}}}RepositoryUniqueId").text = one.repository
        etree.SubElement(request, f"{{{XDSB}}}DocumentUniqueId").text = one.unique_id
    return root


def read_retrieval(payload: Any) -> tuple[RegistryResponse, list[Retrieved]]:
    """A RetrieveDocumentSetResponse. Raises ParseError for another element."""
    if payload is None or payload.tag != f"{{{XDSB}}}RetrieveDocumentSetResponse":
        raise ParseError("the answer is no RetrieveDocumentSetResponse", location="Body")
    response = payload.find(f"{{{RS}}}RegistryResponse")
    if response is None:
        raise ParseError("there is no RegistryResponse", location="RetrieveDocumentSetResponse")
    found = [_retrieved(one, number) for number, one in enumerate(payload.iterchildren(f"{{{XDSB}}}DocumentResponse"), 1)]
    return read_response(response), found


def _retrieved(one: Any, number: int) -> Retrieved:
    repository, unique_id, home, mime_type = (
        one.findtext(f"{{{XDSB}}}{name}", "").strip() for name in ("RepositoryUniqueId", "DocumentUniqueId", "HomeCommunityId", "mimeType")
    )
    element = one.find(f"{{{XDSB}}}Document")
    if element is None:
        raise ParseError("there is no Document", location=f"DocumentResponse[{number}]")
    return Retrieved(Wanted(repository, unique_id, home), mime_type, element)
