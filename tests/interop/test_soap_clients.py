"""SOAP clients written elsewhere call a running node: zeep, PHP's SoapClient, npm soap, gSOAP with true XOP. Each reads the WSDL that the
node serves, with what it imports."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import zeep
from lxml import etree

from engine.bench.loopback import HOST
from engine.bench.node import Node
from engine.formats.soap import read
from engine.message import Excerpt
from tests.support.peers import ForeignPeer, node_script, require
from tests.support.soap import SoapSite
from tests.support.waiting import until

CLIENTS = Path(__file__).parent / "soap_clients"
WSDLS = Path(__file__).parents[1] / "support" / "soap_wsdl"
ORDERS = {
    "wsdl": "wsdl/orders.wsdl",
    "control_id": ["Order/id", "Cancel/id"],
    "patient_ids": ["Order/patient/@extension"],
    "response": {"template": "wsdl/taken.xml", "codes": {"accepted": "AA", "refused": "AR"}},
}
DOCUMENT = os.urandom(3000) + b"\r\n--" + os.urandom(97)
LARGE = 100 << 20
ROOM = 64 << 20
"""Bytes that a node may take for a big attachment; the store's writing back is in it."""


class Served:
    """A node with the service Orders, or another."""

    def __init__(self, folder: Path, soap: dict[str, Any] | None = None, **channel: Any) -> None:
        self.site = SoapSite(folder / "site", ORDERS if soap is None else soap, **channel)
        shutil.copytree(WSDLS, folder / "site" / "wsdl")
        self.url = f"http://{HOST}:{self.site.soap}/soap"

    @contextmanager
    def running(self) -> Iterator[Node]:
        with self.site.running() as node:
            yield node

    def reports(self) -> list[bytes]:
        """What the orders that were kept have attached, inline or as a part."""
        messages = [read(body) for body in self.site.bodies() if b"report>" in body]
        return [bytes(message.content_of(message.payload[-1]).content) for message in messages]


@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_zeep(tmp_path: Path, version: str) -> None:
    """Answers, faults and a call without an answer; the WSDL has actions, so it sends headers of WS-Addressing. The same order again is the same order,
    under another MessageID; another order of that id is refused."""
    served = Served(tmp_path)
    with served.running(), requests.Session() as session:
        client = zeep.Client(f"{served.url}?wsdl", transport=zeep.Transport(session=session))
        orders = client.bind("Orders", f"Orders{version.replace('.', '')}")
        for _ in range(2):
            taken = orders.PlaceOrder(id="Z-1", patient={"extension": "P1", "name": "张三"}, report=DOCUMENT)
            assert (taken.order, taken.code) == ("Z-1", "AA")
        with pytest.raises(zeep.exceptions.Fault) as raised:
            orders.PlaceOrder(id="Z-1", report=b"another")
        assert raised.value.code.endswith("Client" if version == "1.1" else "Sender")
        assert "used before" in raised.value.message
        assert orders.Cancel(id="Z-2") is None
    kept = [(one.control_id, one.verdict) for one in served.site.kept()]
    assert kept == [("Z-1", "accepted"), ("Z-1", "invalid"), ("Z-2", "accepted")]
    assert served.reports() == [DOCUMENT, b"another"]


def test_zeep_and_the_shipped_wsdl(tmp_path: Path) -> None:
    """Any element goes in; by SOAP 1.2, the first port that the WSDL has."""
    served = Served(tmp_path, {"versions": ["1.2"]})
    with served.running(), requests.Session() as session:
        client = zeep.Client(f"{served.url}?wsdl", transport=zeep.Transport(session=session))
        said = client.service.Submit(_value_1=[etree.fromstring("<Order xmlns='urn:lab'><id>1</id></Order>")])
    assert said.code == "accepted"
    (body,) = served.site.bodies()
    assert [child.tag for child in read(body).payload] == ["{urn:lab}Order"]


def php(**asked: Any) -> list[Any]:
    program = shutil.which("php")
    has_soap = program and "soap" in subprocess.run([program, "-m"], capture_output=True, text=True, check=True).stdout.split()
    require(bool(has_soap), "php-cli, php-soap")
    with ForeignPeer([str(program), str(CLIENTS / "client.php")], **asked) as peer:
        return peer.all_heard()


@pytest.mark.parametrize("gzip", [False, True])
@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_php(tmp_path: Path, version: str, gzip: bool) -> None:
    """Compressed both ways, where it is asked to."""
    served = Served(tmp_path)
    report = base64.b64encode(DOCUMENT).decode()
    order = {"id": "P-1", "patient": {"extension": "P1", "name": "张三"}, "report": report}
    with served.running():
        good, bad, _ = php(
            url=served.url, version=version, gzip=gzip, calls=[["PlaceOrder", order], ["PlaceOrder", {"id": ""}], ["Cancel", {"id": "x"}]]
        )
        until(lambda: len(served.site.kept()) == 3, "the call that waits for no answer")  # PHP is gone before we have read it
    assert good == {"said": {"order": "P-1", "code": "AA", "text": ""}}
    assert bad["fault"].endswith("Client" if version == "1.1" else "Sender")
    assert served.reports()[:1] == [DOCUMENT]
    assert [one.verdict for one in served.site.kept()] == ["accepted", "invalid", "accepted"]


def test_php_rpc(tmp_path: Path) -> None:
    """RPC/literal, by the wrapper."""
    response = {"template": "wsdl/exchanged.xml"}
    served = Served(tmp_path, {"wsdl": "wsdl/rpc.wsdl", "control_id": "Exchange/action", "response": response})
    with served.running():
        said = php(url=served.url, version="1.1", gzip=False, calls=[["Exchange", ["A-1", "<x/>"]]])
    assert said == [{"said": "accepted A-1"}]


@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_npm_soap(tmp_path: Path, version: str) -> None:
    """With an attachment by MTOM, and headers of WS-Addressing that its answer relates to."""
    served = Served(tmp_path)
    asked = {
        "url": served.url,
        "version": version,
        "action": "urn:lab:orders:PlaceOrder",
        "attachment": base64.b64encode(DOCUMENT).decode(),
        "calls": [["PlaceOrder", {"id": "N-1"}], ["PlaceOrder", {"id": ""}]],
    }
    with served.running(), ForeignPeer(node_script(CLIENTS / "client.mjs", "soap", tmp_path), **asked) as peer:
        good, bad = peer.all_heard()
    assert good["said"]["order"] == "N-1"
    assert "urn:uuid:js-1" in json.dumps(good["header"])
    assert "urn:lab:orders:OrderTaken" in json.dumps(good["header"])
    assert "Client" in json.dumps(bad) if version == "1.1" else "Sender" in json.dumps(bad)
    assert served.reports() == [DOCUMENT, DOCUMENT]


@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_gsoap_sends_what_is_bigger_than_memory_should_be(tmp_path: Path, version: str) -> None:
    """A hundred megabytes by true XOP, from its disk to ours: bit by bit, and the node does not grow by it. The codec reads the envelope
    of what is kept, and its filter lets it through."""
    require(all(map(shutil.which, ("soapcpp2", "cc"))), "gsoap, libgsoap-dev and a C compiler")
    for name in ("orders.h", "gsoap_client.c"):
        shutil.copy(CLIENTS / name, tmp_path)
    subprocess.run(["soapcpp2", "-c", "-C", "-L", "-x", f"-{version[2]}", "orders.h"], cwd=tmp_path, check=True, capture_output=True)
    sources = ["gsoap_client.c", "soapC.c", "soapClient.c"]
    subprocess.run(["cc", "-w", "-o", "gsoap_client", *sources, "-lgsoap"], cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "small").write_bytes(DOCUMENT)
    with (tmp_path / "large").open("wb") as file:
        for _ in range(LARGE >> 20):
            file.write(os.urandom(1 << 20))
    served = Served(tmp_path, filter=["message['Order/id'] == 'G-large'"])

    def send(name: str) -> str:
        command = [str(tmp_path / "gsoap_client"), served.url, f"G-{name}", str(tmp_path / name)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout

    with served.running() as node:
        assert send("small") == "G-small AA\n"
        before = most = node.resident_bytes
        sending = threading.Thread(target=lambda: said.append(send("large")))
        said: list[str] = []
        sending.start()
        while sending.is_alive():
            most = max(most, node.resident_bytes)
            sending.join(0.02)
        assert said == ["G-large AA\n"]
        print(f"resident before {before >> 20} MB, at most {most >> 20} MB")
    assert most - before < ROOM
    large = max((served.site.folder / "data" / "bodies").rglob("*"), key=lambda path: path.stat().st_size)
    message = read(Excerpt(b"", "", large))
    assert message.version == version
    with (tmp_path / "large").open("rb") as file:
        assert message.content_of(message.payload[1]).sha256() == hashlib.file_digest(file, "sha256").hexdigest()
