"""What the head of a request says of the message to come."""

from __future__ import annotations

import pytest

from adapters.soap.binding import bind
from engine.http_answers import HttpRefusal
from tests.support.soap import related


def head(content_type: str, **more: str) -> dict[str, str]:
    return {"content-type": content_type, "content-length": "1", **{name.replace("_", "-"): value for name, value in more.items()}}


@pytest.mark.parametrize(
    ("headers", "version", "action", "charset"),
    [
        (head("text/xml", soapaction='"urn:a"'), "1.1", "urn:a", ""),
        (head("Text/XML; Charset=gbk", soapaction="urn:a"), "1.1", "urn:a", "gbk"),
        (head("text/xml", soapaction='""'), "1.1", "", ""),
        (head('application/soap+xml; action="urn:a;b"; charset=utf-8'), "1.2", "urn:a;b", "utf-8"),
        (head("application/soap+xml", soapaction='"urn:a"'), "1.2", "urn:a", ""),
        (head(related("1.1"), soapaction='"urn:a"'), "1.1", "urn:a", ""),
        (head(related("1.2") + '; action="urn:a"'), "1.2", "urn:a", ""),
        (
            head('multipart/related; type="application/xop+xml"; boundary=a; start-info="application/soap+xml; action=\\"urn:a\\""'),
            "1.2",
            "urn:a",
            "",
        ),
        (head('multipart/related; type="application/xop+xml"; boundary=a', soapaction='"urn:a"'), "", "urn:a", ""),
        (head("multipart/related; type=text/xml; boundary=a"), "1.1", "", ""),
        (head("multipart/related; boundary=a"), "", "", ""),
    ],
)
def test_version_and_action(headers: dict[str, str], version: str, action: str, charset: str) -> None:
    """Of both versions, alone, by MTOM and with attachments; by stacks that put the action in start-info, or SOAPAction beside SOAP 1.2."""
    found = bind(headers)
    assert (found.version, found.action, found.charset) == (version, action, charset)
    parts = headers["content-type"].startswith("multipart")
    assert found.first == (f"Content-Type: {headers['content-type']}\r\n\r\n".encode() if parts else b"")


@pytest.mark.parametrize(
    "content_type",
    ["", "application/xml", "application/xop+xml", "multipart/mixed; boundary=a", 'multipart/related; type="application/dicom"; boundary=a',
     "text/xml; a=1; a=2", "x" * 5000],
)  # fmt: skip
def test_what_is_no_soap(content_type: str) -> None:
    with pytest.raises(HttpRefusal) as raised:
        bind(head(content_type))
    assert raised.value.status == 415


def test_no_body() -> None:
    with pytest.raises(HttpRefusal) as raised:
        bind({"content-type": "text/xml"})
    assert raised.value.status == 411
    assert bind({"content-type": "text/xml", "transfer-encoding": "chunked"}).version == "1.1"


@pytest.mark.parametrize(
    ("accepted", "takes"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.1", True),
        ("x-gzip", True),
        ("gzip;q=0", False),
        ("gzip; q=0.00", False),
        ("", False),
        ("br", False),
    ],
)
def test_who_takes_compressed_answers(accepted: str, takes: bool) -> None:
    assert bind(head("text/xml", accept_encoding=accepted)).gzip is takes
