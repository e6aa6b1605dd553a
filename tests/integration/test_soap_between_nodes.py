"""Two nodes: the one calls the SOAP endpoint of the other over mutual TLS, with the WSDL that this serves pinned in its site."""

from __future__ import annotations

import socket
import ssl
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from certs import Authority
from engine.bench.loopback import HOST, free_port
from engine.formats.soap import codec, read
from tests.support.sites import Site
from tests.support.waiting import until

TEMPLATE = """<Submit xmlns="urn:meridian:soap"><Order id="${message.control_id}"><patient>${PID-3[1].1}</patient>
<text>${content.text}</text><copy>${content.base64}</copy></Order></Submit>"""
RETRY = {"first": "50ms", "most": "200ms", "give_up_after": "1d"}


def send(site: Site, *control_ids: str) -> None:
    with socket.create_connection((HOST, site.port)) as wire:
        for one in control_ids:
            wire.sendall(f"\x0bMSH|^~\\&|HIS|W|P|C|20261124||ADT^A01^ADT_A01|{one}|P|2.5\rPID|1||P&{one}||A&B\r\x1c\r".encode())
            heard = b""
            while not heard.endswith(b"\x1c\r"):
                heard += wire.recv(4096)
            assert b"MSA|AA" in heard, heard


def served(url: str, folder: Path) -> bytes:
    """The WSDL, as who has the certificate in `folder` gets it."""
    trust = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    trust.load_cert_chain(folder / "node.pem", folder / "node.key")
    with urllib.request.urlopen(f"{url}?wsdl", context=trust, timeout=10) as answer:
        content: bytes = answer.read()
    return content


@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_each_message_arrives_once(tmp_path: Path, version: str) -> None:
    """Also what was sent while the other node was away. It knows the party, the patient and the MessageID, and has the content twice:
    as text, and as an attachment."""
    authority = Authority.create(tmp_path / "authority", "test")
    port = free_port()
    url = f"https://localhost:{port}/soap"
    endpoint: dict[str, Any] = {"listen": f"{HOST}:{port}", "tls": {"allow": ["site"]}, "patient_ids": ["Submit/Order/patient"]}
    receiver = Site(tmp_path / "receiver", source={"soap": endpoint})
    authority.issue("receiver", out=receiver.certs, dns=("localhost",), ips=(HOST,))
    soap = {
        "wsdl": "receiver.wsdl",
        "version": version,
        "body": "submit.xml",
        "tls": {"peer": "receiver"},
        "addressing": True,
        "mtom": True,
        "mtom_threshold": "16B",
        "accepted_when": {"path": "SubmitResponse/code", "accepted": ["accepted"]},
    }
    sender = Site(tmp_path / "sender", destinations=[{"name": "receiver", "soap": soap, "order": "none", "retry": RETRY}])
    sender.certify(authority)
    (tmp_path / "sender" / "submit.xml").write_text(TEMPLATE)
    with receiver.running():
        (tmp_path / "sender" / "receiver.wsdl").write_bytes(served(url, sender.certs))
    with sender.running():
        send(sender, "1", "2")
        until(lambda: sender.waiting() == 2)
        with receiver.running():
            send(sender, "3")
            until(lambda: len(sender.delivered()) == 3)
    kept = receiver.kept()
    assert {one.verdict for one in kept} == {"accepted"}
    assert {one.peer.rpartition(":")[2] for one in kept} == {"site"}
    assert len({one.control_id for one in kept}) == 3
    assert all(one.control_id.startswith("urn:uuid:") for one in kept)
    assert sorted(codec.decode(one.body).get("Submit/Order/@id") or "" for one in kept) == ["1", "2", "3"]
    for one in kept:
        message = read(one.body)
        order = message.payload[0]
        assert (message.version, len(message.parts)) == (version, 1)
        assert bytes(message.content_of(order[2]).content).decode() == order[1].text
        assert order[1].text.startswith("MSH|^~\\&|HIS")
        assert order[1].text.endswith("\r")
