"""A whole message: its service, its header, its root element."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.formats.hip.calls import ANY, Layout, call_of
from engine.formats.hip.header import Header, Identifier, header_of, patients_of
from engine.formats.hip.services import Service, service_of
from engine.formats.soap import LIMITS
from engine.formats.xml import Limits

if TYPE_CHECKING:
    from engine.formats.soap import SoapMessage


@dataclass(frozen=True, slots=True)
class HipMessage:
    """`element` is the root of the interaction (lxml), `action` the word that the call had for its service."""

    service: Service
    action: str
    element: Any
    header: Header
    patients: tuple[Identifier, ...]


def read(message: SoapMessage, layout: Layout = ANY, actions: Mapping[str, str] | None = None, limits: Limits = LIMITS) -> HipMessage:
    """The message in a call. `actions` are a site's words for services (``S0026: InPatientInfoAdd``). Raises ParseError."""
    call = call_of(message, layout, limits)
    service = service_of(call.action, call.element, actions)
    return HipMessage(service, call.action, call.element, header_of(call.element), patients_of(call.element))
