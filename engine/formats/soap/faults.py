"""Faults by the book: SOAP 1.1 clause 4.4, SOAP 1.2 part 1 clause 5.4, and where WS-Addressing's SOAP binding puts its details (clause 6).

A fault is raised once, in the words of 1.2, and worded in the version of the request.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Final

from lxml import etree

from engine.errors import MessageError
from engine.formats.soap.addressing import AddressingError
from engine.formats.soap.names import ENVELOPES, SOAP11, SOAP12, VERSIONS, WSA, XML, legal, local, namespace, qname

SENDER: Final = "Sender"
RECEIVER: Final = "Receiver"
VERSION_MISMATCH: Final = "VersionMismatch"
MUST_UNDERSTAND: Final = "MustUnderstand"
_IN_11: Final = {SENDER: "Client", RECEIVER: "Server"}
_FROM_11: Final = {old: new for new, old in _IN_11.items()}


class SoapFault(MessageError):
    """What a sender hears instead of an answer. `fault_code` is one of the four above, `subcode` a name like ``{namespace}local`` ("" =
    none), `subsubcode` one below that; `detail` are application elements; `headers` are blocks that go with the fault. `status` is the
    HTTP status where it is not the binding's."""

    code = "message.soap_fault"

    def __init__(
        self,
        fault_code: str,
        reason: str,
        subcode: str = "",
        detail: etree._Element | Sequence[etree._Element] | None = None,
        *,
        subsubcode: str = "",
        headers: Sequence[etree._Element] = (),
        status: int = 0,
        location: str = "",
    ) -> None:
        super().__init__(reason, location=location)
        self.fault_code, self.subcode, self.subsubcode, self.headers, self.status = fault_code, subcode, subsubcode, list(headers), status
        self.detail: list[etree._Element] = [detail] if isinstance(detail, etree._Element) else list(detail or ())

    def element(self, version: str) -> etree._Element:
        """The Fault of an envelope of that version."""
        return _fault_11(self) if version == "1.1" else _fault_12(self)


def must_understand(blocks: Sequence[etree._Element]) -> SoapFault:
    """SOAP 1.2 part 1 clause 5.4.8: each block is named in a header NotUnderstood."""
    named = [etree.Element(qname(SOAP12, "NotUnderstood"), nsmap=_declared(env=SOAP12, n=namespace(block.tag))) for block in blocks]
    for element, block in zip(named, blocks, strict=True):
        element.set("qname", _prefixed(element, block.tag))
    return SoapFault(MUST_UNDERSTAND, "a header that must be understood is not", headers=named)


def version_mismatch(taken: Sequence[str]) -> SoapFault:
    """Clause 5.4.7: the header Upgrade names the versions that are taken, best first."""
    upgrade = etree.Element(qname(SOAP12, "Upgrade"), nsmap={"env": SOAP12, "soap": SOAP11})
    for version in taken:
        envelope = etree.SubElement(upgrade, qname(SOAP12, "SupportedEnvelope"))
        envelope.set("qname", _prefixed(envelope, qname(ENVELOPES[version], "Envelope")))
    return SoapFault(VERSION_MISMATCH, f"SOAP {' or '.join(taken)} is taken here", headers=[upgrade])


def addressing_fault(error: AddressingError) -> SoapFault:
    """WS-Addressing SOAP binding clauses 6.1, 6.4: the header at fault is named in the Detail, by SOAP 1.1 in a header."""
    uri = WSA  # its faults are named in the recommendation only
    detail: list[etree._Element] = []
    if error.header:
        problem = etree.Element(qname(uri, "ProblemHeaderQName"), nsmap=_declared(wsa=uri, h=namespace(error.header)))
        problem.text = _prefixed(problem, error.header)
        detail = [problem]
    return SoapFault(
        SENDER, error.text, qname(uri, error.subcode), detail, subsubcode=qname(uri, error.subsubcode) if error.subsubcode else ""
    )


def _fault_11(fault: SoapFault) -> etree._Element:
    element = etree.Element(qname(SOAP11, "Fault"), nsmap={"soap": SOAP11})
    code = etree.SubElement(element, "faultcode", nsmap=_declared(f=namespace(fault.subcode)))
    code.text = _prefixed(code, fault.subcode or qname(SOAP11, _IN_11.get(fault.fault_code, fault.fault_code)))
    etree.SubElement(element, "faultstring").text = legal(fault.text)
    if fault.detail and not about_a_header(fault):
        etree.SubElement(element, "detail").extend(deepcopy(fault.detail))
    return element


def about_a_header(fault: SoapFault) -> bool:
    """SOAP 1.1 clause 4.4: `detail` is for what is wrong with the Body; WS-Addressing has the header FaultDetail for the rest."""
    return namespace(fault.subcode) == WSA


def fault_headers(fault: SoapFault, version: str) -> list[etree._Element]:
    """The blocks that go with the fault."""
    blocks = [deepcopy(block) for block in fault.headers]
    if version == "1.1" and fault.detail and about_a_header(fault):
        block = etree.Element(qname(WSA, "FaultDetail"), nsmap={"wsa": WSA})
        block.extend(deepcopy(fault.detail))
        blocks.append(block)
    return blocks


def _fault_12(fault: SoapFault) -> etree._Element:
    element = etree.Element(qname(SOAP12, "Fault"), nsmap={"env": SOAP12})
    code = etree.SubElement(element, qname(SOAP12, "Code"))
    etree.SubElement(code, qname(SOAP12, "Value")).text = f"env:{fault.fault_code}"
    for name in filter(None, (fault.subcode, fault.subsubcode)):
        code = etree.SubElement(code, qname(SOAP12, "Subcode"))
        value = etree.SubElement(code, qname(SOAP12, "Value"), nsmap=_declared(f=namespace(name)))
        value.text = _prefixed(value, name)
    reason = etree.SubElement(etree.SubElement(element, qname(SOAP12, "Reason")), qname(SOAP12, "Text"))
    reason.set(qname(XML, "lang"), "en")
    reason.text = legal(fault.text)
    if fault.detail:
        etree.SubElement(element, qname(SOAP12, "Detail")).extend(deepcopy(fault.detail))
    return element


def _declared(**prefixes: str) -> dict[str, str]:
    """Each namespace by one prefix: lxml drops a second one when it moves an element, and names in content keep it."""
    once = {uri: prefix for prefix, uri in reversed(prefixes.items()) if uri}
    return {prefix: uri for uri, prefix in once.items()}


def _prefixed(element: etree._Element, name: str) -> str:
    """A name in content: by a prefix that is declared for `element`, which may be another than was asked for."""
    prefixes = [prefix for prefix, uri in element.nsmap.items() if prefix and uri == namespace(name)]
    return f"{prefixes[0]}:{local(name)}" if prefixes else local(name)


def read_fault(payload: etree._Element | None) -> SoapFault | None:
    """The fault that an answer's Body holds, None where it holds none. Its text is the peer's, and may hold anything."""
    if payload is None or local(payload.tag) != "Fault" or namespace(payload.tag) not in VERSIONS:
        return None
    if namespace(payload.tag) == SOAP11:
        code = _resolved(payload.find("faultcode"))
        plain = namespace(code) in ("", SOAP11)
        name = _FROM_11.get(local(code).partition(".")[0], local(code)) if plain else SENDER
        return SoapFault(name, payload.findtext("faultstring") or "", "" if plain else code, _below(payload.find("detail")))
    names = ["", "", ""]
    names[:0] = [_resolved(value) for value in payload.iter(qname(SOAP12, "Value"))][:3]
    reason = payload.findtext(f"{qname(SOAP12, 'Reason')}/{qname(SOAP12, 'Text')}") or ""
    return SoapFault(local(names[0]), reason, names[1], _below(payload.find(qname(SOAP12, "Detail"))), subsubcode=names[2])


def _resolved(element: etree._Element | None) -> str:
    text = (element.text or "").strip() if element is not None else ""
    prefix, _, name = text.rpartition(":")
    uri = element.nsmap.get(prefix or None) if element is not None else None
    return qname(uri, name) if uri and prefix else name


def _below(element: etree._Element | None) -> list[etree._Element]:
    return list(element) if element is not None else []
