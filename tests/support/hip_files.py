"""Messages of every service of the hospital platform that changes something, from tests/samples/hip: whole, and valid by the standard's
schemas (tests/unit/test_hip_mapping.py). One file stands for a service's Add and Update, or Register and Update."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

from lxml import etree

from engine.formats.hip import SERVICES, Kind
from tests.support.hip import call, register
from tests.support.reference import reference
from tests.support.soap import envelope

SCHEMAS = reference("nhc-wst846")
FOLDER = Path(__file__).resolve().parents[1] / "samples" / "hip"
MAPPED = [service.name for service in SERVICES.values() if service.kind is not Kind.QUERY]
QUERIES = [service for service in SERVICES.values() if service.kind is Kind.QUERY]
_RENAMED = {"OrganizationInfoUpdate": [("scoper2", "affiliatedPrincipalOrganization")]}
"""Where the standard names an element otherwise in an update."""
Change = tuple[str, str | None]
"""(path, value): ``//patient/id/item/@extension`` or ``//patient/telecom``; None takes the attribute or element away."""


def sample(service: str, *changes: Change) -> bytes:
    """The bare message of `service`, with changes."""
    root = etree.fromstring(register().encode() if service == "DocumentRegister" else _file(service).read_bytes())
    root.tag = f"{{urn:hl7-org:v3}}{SERVICES[service].root}"
    for name, value in (("interactionId", SERVICES[service].root), ("id", f"0f3a0f3a-1111-4222-8333-{MAPPED.index(service):012d}")):
        for element in root.findall(f"{{*}}{name}"):
            element.set("extension", value)
    for name, other in _RENAMED.get(service, ()):
        for element in root.iter(f"{{*}}{name}"):
            element.tag = f"{{urn:hl7-org:v3}}{other}"
    for path, value in changes:
        _change(root, path, value)
    return etree.tostring(root, encoding="utf-8", xml_declaration=True)


def _file(service: str) -> Path:
    own = FOLDER / f"{service}.xml"
    stem = service.removesuffix("Update")
    return next(path for path in (own, FOLDER / f"{stem}Add.xml", FOLDER / f"{stem}Register.xml") if path.exists())


def _change(root: etree._Element, path: str, value: str | None) -> None:
    path, _, attribute = path.partition("/@")
    found = root.findall("./" + "".join(f"/{{*}}{step}" if step else "/" for step in path.split("/")[1:]).removeprefix("/"))
    assert found, path
    for element in found:
        if attribute and value is not None:
            element.set(attribute, value)
        elif attribute:
            del element.attrib[attribute]
        elif value is None:
            parent = element.getparent()
            assert parent is not None
            parent.remove(element)
        else:
            element.text = value


def called(service: str, *changes: Change, action: str | None = None) -> bytes:
    """The same message in a call of HIPMessageServer, as a string."""
    text = sample(service, *changes).decode().partition("?>")[2]
    return envelope(call(service if action is None else action, text))


def in_cdata(service: str) -> bytes:
    """As vendors send it whose endpoint is document/literal with a CDATA section."""
    text = sample(service).decode()
    return envelope(
        f'<HIPMessageServer xmlns="urn:hl7-org:v3"><action>{escape(service)}</action><message><![CDATA[{text}]]></message></HIPMessageServer>'
    )
