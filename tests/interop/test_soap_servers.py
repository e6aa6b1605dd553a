"""SOAP servers written elsewhere, called by a running node: npm soap, PHP's SoapServer, gSOAP with true XOP."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from certs import Authority
from engine.bench.loopback import HOST, free_port
from engine.formats.soap import read
from tests.support.dicom_instances import instance, uid
from tests.support.dicomweb import RELATED, ask_now, body
from tests.support.peers import ForeignPeer, node_script, require
from tests.support.sites import Site
from tests.support.soap_service import write_simple_wsdl
from tests.support.waiting import until, until_listening

PEERS = Path(__file__).parent / "soap_servers"
ACCEPTED = {"path": "MCCI_IN000002UV01/acknowledgement/@typeCode", "accepted": ["AA"]}
RETRY = {"first": "50ms", "most": "100ms", "give_up_after": "1d"}
CHINESE = "张三丰 <&>"
ROOM = 80 << 20
"""Bytes that a node may take for a big attachment: see tests/integration/test_dicom_memory.py."""
MEGABYTES = 100


def calling(
    folder: Path, port: int, version: str, soap: dict[str, Any], scheme: str = "http", message: str = "xs:string", **site: Any
) -> Site:
    """A site that calls Exchange with each message; the WSDL has an address where nobody is."""
    options = {
        "wsdl": "wsdl/exchange.wsdl",
        "url": f"{scheme}://localhost:{port}/exchange",
        "version": version,
        "body": {"action": "${message.control_id}", "message": "${PID-5[1].1}"},
        **soap,
    }
    destination = {"name": "hospital", "soap": options, "order": "none", "retry": RETRY}
    made = Site(folder / "site", destinations=[destination], **site)
    (folder / "site" / "wsdl").mkdir()
    write_simple_wsdl(folder / "site" / "wsdl" / "exchange.wsdl", "http://127.0.0.1:1/exchange", version, message)
    return made


def send(site: Site, *control_ids: str) -> None:
    """Over MLLP, one after the other; each is acknowledged."""
    with socket.create_connection((HOST, site.port)) as wire:
        for one in control_ids:
            name = CHINESE.replace("&", "\\T\\")
            text = f"MSH|^~\\&|HIS|W|P|C|20261124||ADT^A01^ADT_A01|{one}|P|2.5||||||UNICODE UTF-8\rPID|1||P-{one}||{name}\r"
            wire.sendall(b"\x0b" + text.encode() + b"\x1c\r")
            heard = b""
            while not heard.endswith(b"\x1c\r"):
                heard += wire.recv(4096)
            assert b"MSA|AA" in heard, heard


class TestNodeSoap:
    """npm soap decides by the action what it does; it says what it has heard."""

    @contextmanager
    def server(self, folder: Path, port: int, version: str, tls: Path | None = None) -> Iterator[ForeignPeer]:
        write_simple_wsdl(folder / "peer.wsdl", f"http://localhost:{port}/exchange", version)
        asked = {"port": port, "version": version, "wsdl": str(folder / "peer.wsdl"), "tls": str(tls) if tls else None}
        with ForeignPeer(node_script(PEERS / "server.mjs", "soap", folder), **asked) as peer:
            assert peer.heard() == "ready"
            yield peer

    @pytest.mark.parametrize("version", ["1.1", "1.2"])
    def test_what_it_does_is_understood(self, tmp_path: Path, version: str) -> None:
        """Faults that are final and that are not, a connection that is dropped, a gateway's page, silence: what could be taken is, and
        what is repeated comes with the MessageID of the first attempt."""
        words = ["take", "refuse", "busy", "drop", "html", "slow", "wrong"]
        port = free_port()
        site = calling(
            tmp_path, port, version, {"accepted_when": ACCEPTED, "addressing": True, "timeout": "2s", "reference": ACCEPTED["path"]}
        )
        heard: list[Any] = []
        with self.server(tmp_path, port, version) as peer, site.running():
            send(site, *(f"{word}-1" for word in words))
            while len(heard) < len(words) + 4:
                heard.append(peer.heard())
            until(lambda: not site.waiting(), "the settlement of all")
        assert sorted(site.delivered()) == ["busy-1", "drop-1", "html-1", "slow-1", "take-1"]
        dead = site.dead()
        assert sorted(dead) == ["refuse-1", "wrong-1"]
        assert ("Client" if version == "1.1" else "Sender") in dead["refuse-1"]
        assert "typeCode is AE" in dead["wrong-1"]
        assert {one["message"] for one in heard} == {CHINESE}
        assert sorted(one["action"] for one in heard) == sorted([f"{word}-1" for word in words] + ["busy-1", "drop-1", "html-1", "slow-1"])
        assert len({json.dumps(one["id"]) for one in heard}) == len(words)
        assert all("urn:uuid:" in json.dumps(one["id"]) for one in heard)

    def test_mutual_tls(self, tmp_path: Path) -> None:
        """It sees the node's certificate. One of another authority gets nothing, and the message waits."""
        authority = Authority.create(tmp_path / "authority", "test")
        authority.issue("hospital", out=tmp_path / "peer", dns=("localhost",), ips=(HOST,))
        port = free_port()
        site = calling(tmp_path, port, "1.1", {"accepted_when": ACCEPTED, "tls": {"peer": "hospital"}}, scheme="https")
        site.certify(authority)
        with self.server(tmp_path, port, "1.1", tmp_path / "peer") as peer, site.running():
            send(site, "take-1")
            heard = peer.heard()
            until(lambda: site.delivered() == ["take-1"])
        assert (heard["action"], heard["peer"] is not None) == ("take-1", True)
        stranger = Authority.create(tmp_path / "other", "other")
        stranger.issue("hospital", out=tmp_path / "false", dns=("localhost",), ips=(HOST,))
        with self.server(tmp_path, port, "1.1", tmp_path / "false"), site.running():
            send(site, "take-2")
            until(lambda: "no secure connection" in (tmp_path / "site" / "node.log").read_text() or site.waiting() == 1)
        assert (site.delivered(), site.waiting()) == (["take-1"], 1)


@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_php(tmp_path: Path, version: str) -> None:
    """Its faults, with a code of the site's own list among them."""
    php = shutil.which("php")
    require(
        php is not None and "soap" in subprocess.run([str(php), "-m"], capture_output=True, text=True, check=True).stdout,
        "php-cli, php-soap",
    )
    port, heard = free_port(), tmp_path / "heard"
    heard.touch()
    site = calling(tmp_path, port, version, {"faults": {"transient": ["Client.Locked"]}})
    write_simple_wsdl(tmp_path / "peer.wsdl", f"http://localhost:{port}/exchange", version)
    environment = {**os.environ, "WSDL": str(tmp_path / "peer.wsdl"), "VERSION": version, "HEARD": str(heard)}
    with (tmp_path / "php.log").open("wb") as log:
        server = subprocess.Popen([str(php), "-S", f"localhost:{port}", str(PEERS / "server.php")], env=environment, stdout=log, stderr=log)
    try:
        until_listening(port, "localhost")
        with site.running():
            send(site, "take-1", "refuse-1", "locked-1", "take-2")
            until(lambda: len(site.delivered()) == 2 and "refuse-1" in site.dead())
            until(lambda: sum("locked" in line for line in heard.read_text().splitlines()) > (2 if version == "1.1" else 0))
    finally:
        server.terminate()
        server.wait()
    assert sorted(site.delivered()) == ["take-1", "take-2"]
    assert sorted(site.dead()) == (["refuse-1"] if version == "1.1" else ["locked-1", "refuse-1"])
    said = [json.loads(line) for line in heard.read_text().splitlines()]
    assert {one["message"] for one in said} == {CHINESE}


class TestGsoap:
    """Attachments are files there."""

    @contextmanager
    def server(self, folder: Path) -> Iterator[tuple[int, list[str]]]:
        """Its port, and the lines that it says."""
        require(all(map(shutil.which, ("soapcpp2", "cc"))), "gsoap, libgsoap-dev and a C compiler")
        for name in ("exchange.h", "gsoap_server.c"):
            shutil.copy(PEERS / name, folder)
        subprocess.run(["soapcpp2", "-c", "-S", "-L", "-x", "exchange.h"], cwd=folder, check=True, capture_output=True)
        sources = ["gsoap_server.c", "soapC.c", "soapServer.c"]
        subprocess.run(["cc", "-w", "-o", "gsoap_server", *sources, "-lgsoap"], cwd=folder, check=True, capture_output=True)
        port, said = free_port(), []
        with subprocess.Popen([str(folder / "gsoap_server"), str(port), str(folder)], stdout=subprocess.PIPE, text=True) as process:
            reader = threading.Thread(target=lambda: said.extend(process.stdout or ()))
            reader.start()
            try:
                until(lambda: said, "the server")
                yield port, said
            finally:
                process.terminate()
                reader.join()

    @pytest.mark.parametrize("version", ["1.1", "1.2"])
    def test_a_big_attachment_from_its_file(self, tmp_path: Path, version: str) -> None:
        """Bit by bit, without the node's memory growing with it; what is small goes in the envelope. The reply's own part is kept."""
        images = [instance(1), instance(2, PixelData=os.urandom(1 << 20) * MEGABYTES)]
        source = free_port()
        soap = {"body": {"action": "${message.control_id}", "message": "${content.base64}"}, "mtom": True, "timeout": "60s"}
        with self.server(tmp_path) as (port, said):
            site = calling(tmp_path, port, version, soap, message="xs:base64Binary", source={"dicomweb": {"listen": f"{HOST}:{source}"}})
            with site.running() as node:
                assert ask_now(source, "/dicom-web/studies", "POST", body(images[0]), content_type=RELATED).status == 200
                until(lambda: site.delivered() == [uid(1)])
                before = most = node.resident_bytes
                assert ask_now(source, "/dicom-web/studies", "POST", body(images[1]), content_type=RELATED).status == 200

                def delivered() -> bool:
                    nonlocal most
                    most = max(most, node.resident_bytes)
                    return len(site.delivered()) == 2

                until(delivered)
                print(f"resident before {before >> 20} MB, at most {most >> 20} MB")
        assert most - before < ROOM
        assert [line.split()[:2] for line in said[1:]] == [[uid(1), "inline"], [uid(2), "xop"]]
        assert hashlib.sha256((tmp_path / "part-1").read_bytes()).digest() == hashlib.sha256(images[1]).digest()
        replies = [read(answer) for answer in site.receipts()]
        assert [bytes(reply.content_of(reply.payload[0]).content) for reply in replies] == [b"attached to the reply"] * 2
