"""What the Document Source signs, zeep and xmlsec verify: over the document itself, and not over the reference to it (XOP 1.0 clause 5)."""

from __future__ import annotations

import base64
import email
import email.policy
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from adapters.soap.security import CLIENT_SECURITY
from adapters.soap.xdr.exchange import request, security
from adapters.soap.xdr.relay import relay
from engine.errors import ConfigError, TransientDelivery
from engine.formats.xds.names import PROVIDE
from tests.support.wsse import Signers, context
from tests.support.xdr import Doc, message

zeep = pytest.importorskip("zeep")
from zeep.exceptions import SignatureVerificationFailed  # noqa: E402
from zeep.wsse.signature import verify_envelope  # noqa: E402

CONTENT = bytes(range(256)) * 5000


def sent(folder: Path, **options: Any) -> bytes:
    """The HTTP body, with its Content-Type before it."""
    secure = security(CLIENT_SECURITY.defaults(**options), context(folder, folder))
    outgoing = relay(message([Doc(CONTENT)]), None)
    out = request("http://there.example/xdr", PROVIDE, outgoing.payload, "1", outgoing.attachments, secure)
    return b"Content-Type: " + out.headers["Content-Type"].encode() + b"\r\n\r\n" + b"".join(out.pieces())


def expanded(wire: bytes) -> etree._Element:
    """The envelope as it would be without XOP."""
    parts = {str(one["Content-ID"]).strip("<>"): one for one in email.message_from_bytes(wire, policy=email.policy.HTTP).iter_parts()}  # type: ignore[attr-defined]
    root = next(one for one in parts.values() if one.get_content_type() == "application/xop+xml")
    envelope = etree.fromstring(root.get_payload(decode=True))
    for reference in list(envelope.iter("{http://www.w3.org/2004/08/xop/include}Include")):
        holder = reference.getparent()
        holder.remove(reference)
        holder.text = base64.b64encode(parts[reference.get("href")[4:]].get_payload(decode=True)).decode()
    return envelope


def test_the_document_is_signed(tmp_path: Path) -> None:
    """A changed byte of it breaks the signature."""
    folder = Signers(tmp_path).rsa()
    wire = sent(folder)
    verify_envelope(expanded(wire), str(folder / "node.pem"))
    with pytest.raises(SignatureVerificationFailed):
        verify_envelope(expanded(wire.replace(CONTENT, CONTENT[:-1] + b"?")), str(folder / "node.pem"))


def test_a_key_that_is_not_there(tmp_path: Path) -> None:
    """At the start it is the site's fault; later the messages wait."""
    with pytest.raises(ConfigError):
        sent(tmp_path)
    folder = Signers(tmp_path).rsa()
    (tmp_path / "password").write_text("secret")
    options = CLIENT_SECURITY.defaults(sign=False, username={"name": "us", "password": f"file:{tmp_path}/password"})
    secure = security(options, context(folder, folder))
    (tmp_path / "password").unlink()
    assert secure is not None
    with pytest.raises(TransientDelivery) as caught:
        request("http://there.example/xdr", PROVIDE, relay(message(), None).payload, "1", (), secure)
    assert caught.value.whole_destination
    assert security(None, context(folder, folder)) is None
