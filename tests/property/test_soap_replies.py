"""Whatever a server answers, it is a receipt or an error that delivery knows, and no text of an error repeats the answer."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.soap.client.options import DESTINATION
from adapters.soap.client.pinned import Wsdl, operation_of
from adapters.soap.client.reply import Replies
from engine.errors import DeliveryError
from engine.formats.soap import SoapFault, fault_envelope
from engine.http1 import Message
from engine.message import Receipt
from engine.options import Place
from tests.support.soap_service import ACKNOWLEDGED, response, write_wsdl

SECRET = "Kowalski"
with tempfile.TemporaryDirectory() as folder:
    write_wsdl(Path(folder))
    DESCRIPTION = Wsdl("exchange.wsdl", Path(folder)).describe()
    NODE = {"wsdl": "exchange.wsdl", "operation": "Exchange", "body": {"action": "a", "message": "m"}}
    ACCEPTED = {"path": "MCCI_IN000002UV01/acknowledgement/@typeCode", "reason": "text/@value"}
    PLAIN, STRICT = (
        DESTINATION.parse({**NODE, **more}, Place("c", folder=Path(folder)), [])
        for more in ({}, {"accepted_when": ACCEPTED, "reference": "payload", "faults": {"transient": "Busy"}})
    )
OPERATION = operation_of(DESCRIPTION.port(None, None, "1.1"), "Exchange")
GOOD = [
    response(ACKNOWLEDGED.format(code="AA", text=SECRET)),
    response(SECRET, "1.2"),
    fault_envelope("1.1", SoapFault("Sender", SECRET)),
    fault_envelope("1.2", SoapFault("Receiver", SECRET, "{urn:x}Busy", subsubcode="{urn:x}Very")),
    b"<html>" + SECRET.encode(),
]


@st.composite
def answers(draw):
    """One of GOOD, with pieces cut out, doubled, moved or overwritten."""
    body = bytearray(draw(st.sampled_from(GOOD)))
    for _ in range(draw(st.integers(0, 4))):
        begin = draw(st.integers(0, len(body)))
        end = draw(st.integers(begin, min(len(body), begin + 80)))
        body[begin:end] = draw(st.sampled_from([b"", bytes(body[begin:end]) * 2, b"<x>", b"</soap:Body>", b"&#0;", b":", b"\xff"]))
    return bytes(body)


STATUSES = st.sampled_from([200, 202, 204, 301, 400, 401, 404, 429, 500, 502, 503])
TYPES = st.sampled_from(
    ["text/xml", "application/soap+xml; charset=gbk", "multipart/related", "multipart/related; boundary=b", "", "x" * 5000]
)
CODINGS = st.sampled_from(["", "gzip", "br"])


@settings(max_examples=300)
@given(answers(), STATUSES, TYPES, CODINGS, st.sampled_from([PLAIN, STRICT]))
def test_a_reply_is_a_receipt_or_an_error(body, status, content_type, coding, options):
    headers = {"content-type": content_type, **({"content-encoding": coding} if coding else {})}
    reply = Message(("HTTP/1.1", str(status), "X"), headers, body, True)
    try:
        receipt = Replies(options, DESCRIPTION, lambda: 0).receipt(reply, OPERATION)
    except DeliveryError as error:
        assert SECRET not in str(error)
        return
    assert isinstance(receipt, Receipt)
    assert receipt.reference or options is STRICT
