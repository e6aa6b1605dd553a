"""Two nodes without TLS between them: what the one signs, attachments included, proves to the other who has sent it."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from certs import Authority
from engine.bench.loopback import HOST, free_port
from engine.formats.soap import read
from tests.integration.test_soap_between_nodes import RETRY, TEMPLATE, send
from tests.support.sites import Site
from tests.support.waiting import until


def pair(folder: Path, security: dict[str, Any], said: dict[str, Any]) -> tuple[Site, Site]:
    """A sender that says `said`, and a receiver that asks for `security`."""
    port = free_port()
    receiver = Site(folder / "receiver", source={"soap": {"listen": f"{HOST}:{port}", "security": security}})
    soap = {
        "wsdl": "receiver.wsdl",
        "version": "1.2",
        "body": "submit.xml",
        "addressing": True,
        "mtom": True,
        "mtom_threshold": "16B",
        "security": said,
        "accepted_when": {"path": "SubmitResponse/code", "accepted": ["accepted"]},
    }
    sender = Site(folder / "sender", destinations=[{"name": "receiver", "soap": soap, "order": "none", "retry": RETRY}])
    authority = Authority.create(folder / "authority", "test")
    receiver.certify(authority)
    authority.issue("clinic", out=sender.certs)
    (sender.folder / "submit.xml").write_text(TEMPLATE)
    with receiver.running(), urllib.request.urlopen(f"http://{HOST}:{port}/soap?wsdl", timeout=10) as answer:
        (sender.folder / "receiver.wsdl").write_bytes(answer.read())
    return sender, receiver


def test_signed_with_attachments(tmp_path: Path) -> None:
    """Also after the receiver was away: each attempt has a time and a signature of its own, and one MessageID."""
    sender, receiver = pair(tmp_path, {"allow": ["clinic"]}, {"digest": "sha512"})
    with sender.running():
        send(sender, "1")
        until(lambda: sender.waiting() == 1)
        with receiver.running():
            send(sender, "2")
            until(lambda: len(sender.delivered()) == 2)
    kept = receiver.kept()
    assert [one.peer for one in kept] == ["urn:meridian:party:clinic"] * 2
    assert all(len(read(one.body).parts) == 1 for one in kept)
    assert receiver.audited("soap.refused") == []


@pytest.mark.parametrize(
    ("security", "reason"),
    [({"allow": ["ward"]}, "urn:meridian:party:clinic may not send here"), ({"certificates": {}, "ca": "other.pem"}, "local issuer")],
)
def test_refused_until_the_receiver_knows_better(tmp_path: Path, security: dict[str, Any], reason: str) -> None:
    """That is an operator's matter, at one side or the other: the message waits, and goes then."""
    sender, receiver = pair(tmp_path, {}, {})
    (receiver.certs / "other.pem").write_bytes(Authority.create(tmp_path / "other", "other").certificate.public_bytes(Encoding.PEM))
    with sender.running():
        ask(receiver, security)
        with receiver.running():
            send(sender, "1")
            until(lambda: receiver.audited("soap.refused"))
        assert receiver.kept() == []
        assert (sender.waiting(), sender.dead()) == (1, {})
        ask(receiver, {})
        with receiver.running():
            until(lambda: len(sender.delivered()) == 1)
    assert [one.peer for one in receiver.kept()] == ["urn:meridian:party:clinic"]
    assert all(reason in one["reason"] for one in receiver.audited("soap.refused"))


def ask(site: Site, security: dict[str, Any]) -> None:
    """Change what its endpoint asks for."""
    file = site.folder / "channels" / "lines.yaml"
    document = json.loads(file.read_text())
    document["source"]["soap"]["security"] = security
    file.write_text(json.dumps(document))
