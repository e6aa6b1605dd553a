"""RegistryResponse (ebRS 3.0 clause 2.1.3; IHE ITI TF-3 clause 4.2.4): what became of a submission, a query or a retrieval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from lxml import etree

from engine.errors import ParseError
from engine.formats.xds.names import ERROR, FAILURE, PARTIAL, RS, SUCCESS, WARNING

TRANSIENT: Final = frozenset(f"XDS{actor}{what}" for actor in ("Registry", "Repository") for what in ("Busy", "OutOfResources")) | {
    "XDSRegistryNotAvailable"
}
"""Errors (table 4.2.4.1-2) after which the same request may succeed."""
TOO_MANY: Final = "XDSTooManyResults"
NOWHERE: Final = frozenset(("XDSDocumentUniqueIdError",))
"""A repository does not have what it was asked for."""


@dataclass(frozen=True, slots=True)
class RegistryError:
    """`code` is of table 4.2.4.1-2, `context` says what is wrong, `location` where (``DocumentEntry[1].hash``)."""

    code: str
    context: str
    location: str = ""
    warning: bool = False


@dataclass(frozen=True, slots=True)
class RegistryResponse:
    """`status` is one of SUCCESS, FAILURE, PARTIAL."""

    status: str
    errors: tuple[RegistryError, ...] = ()

    @property
    def codes(self) -> frozenset[str]:
        """What is wrong, without warnings."""
        return frozenset(one.code for one in self.errors if not one.warning)

    @property
    def is_transient(self) -> bool:
        """Nothing is wrong but that there was no room or no time."""
        return self.status == FAILURE and bool(self.codes) and self.codes <= TRANSIENT


def response_to(errors: Sequence[RegistryError]) -> RegistryResponse:
    """Success where there are only warnings (4.2.4)."""
    return RegistryResponse(SUCCESS if all(one.warning for one in errors) else FAILURE, tuple(errors))


def write_response(response: RegistryResponse, request_id: str = "") -> etree._Element:
    root = etree.Element(f"{{{RS}}}RegistryResponse", {"status": response.status}, nsmap={"rs": RS})
    if request_id:
        root.set("requestId", request_id)
    if response.errors:
        worst = WARNING if all(one.warning for one in response.errors) else ERROR
        errors = etree.SubElement(root, f"{{{RS}}}RegistryErrorList", {"highestSeverity": worst})
        for one in response.errors:
            said = {"codeContext": one.context, "errorCode": one.code, "severity": WARNING if one.warning else ERROR}
            etree.SubElement(errors, f"{{{RS}}}RegistryError", {**said, **({"location": one.location} if one.location else {})})
    return root


def read_response(element: Any) -> RegistryResponse:
    """A RegistryResponse, or an element that has its attributes (AdhocQueryResponse). Raises ParseError where the status is none."""
    status = element.get("status", "")
    if status not in (SUCCESS, FAILURE, PARTIAL):
        raise ParseError("the response has no known status", location="RegistryResponse/@status")
    found = element.iterfind(f"{{{RS}}}RegistryErrorList/{{{RS}}}RegistryError")
    return RegistryResponse(status, tuple(_error(one) for one in found))


def _error(element: Any) -> RegistryError:
    code, context, location = (element.get(name, "") for name in ("errorCode", "codeContext", "location"))
    return RegistryError(code.rpartition(":")[2], context, location, element.get("severity", ERROR).endswith(":Warning"))
