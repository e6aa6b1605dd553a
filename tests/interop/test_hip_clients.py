"""The hospital platform's service, called by what vendors call it with: zeep, PHP's SoapClient, npm soap, each by the WSDL of each style."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from adapters.soap.hip.options import SOURCE
from adapters.soap.hip.style import SHIPPED, Style, style_of
from engine.bench.loopback import HOST, free_port
from tests.support import hip
from tests.support.peers import ForeignPeer, node_script, python_script, require
from tests.support.sites import Site

PEERS = Path(__file__).parent / "hip_peers"
V3 = "{urn:hl7-org:v3}"
PORTS = {name: free_port() for name in SHIPPED}
STYLES: dict[str, Style] = {name: style_of(SOURCE.defaults(listen=PORTS[name], style=name)) for name in SHIPPED}
CASES = [(name, version) for name, style in STYLES.items() for version in style.versions]
NAME = "欧阳娜娜 & <李明> 𠮷"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A node with an endpoint of every style."""
    made = Site(tmp_path_factory.mktemp("hip"))
    for name, port in PORTS.items():
        made._write(
            f"channels/{name}.yaml", {"name": name, "source": {"hip": {"listen": f"{HOST}:{port}", "style": name}}, "destinations": []}
        )
    with made.running():
        yield made


def command(peer: str, folder: Path) -> list[str]:
    if peer == "zeep":
        return python_script(PEERS / "client.py")
    if peer == "npm soap":
        return node_script(PEERS / "client.mjs", "soap", folder)
    php = shutil.which("php")
    require(php is not None, "php is not installed")
    return [str(php), str(PEERS / "client.php"), "--"]


def asked(name: str, version: str, calls: list[tuple[str, str]]) -> dict[str, Any]:
    style = STYLES[name]
    return {
        "wsdl": f"http://{HOST}:{PORTS[name]}/hip?wsdl",
        "version": version,
        "rpc": style.binding == "rpc",
        "names": [style.action_parameter, style.message_parameter],
        "result": style.result,
        "calls": calls,
    }


def acknowledged(said: dict[str, str]) -> tuple[str, str, str]:
    """Code, whose message, text."""
    one = etree.fromstring(said["answer"].encode()).find(f"{V3}acknowledgement")
    text = one.find(f"{V3}acknowledgementDetail/{V3}text").get("value")
    return one.get("typeCode"), one.find(f"{V3}targetMessage/{V3}id").get("extension"), text


@pytest.mark.parametrize("peer", ["zeep", "php", "npm soap"])
@pytest.mark.parametrize(("name", "version"), CASES)
def test_a_client_made_from_the_wsdl(site: Site, tmp_path: Path, peer: str, name: str, version: str) -> None:
    """A message with Chinese text and XML's own characters, one of an unknown service, one that is sent again."""
    control_id = f"{peer}-{name}-{version}".replace(" ", "-").ljust(36, "0")
    text = hip.merge(name=NAME, message_id=control_id)
    calls = [("PatientInfoMerge", text), ("不存在的服务", text), ("PatientInfoMerge", text)]
    with ForeignPeer(command(peer, tmp_path), **asked(name, version, calls)) as client:
        first, unknown, again = client.all_heard()
    assert acknowledged(first) == ("AA", control_id, "accepted 处理成功")
    assert acknowledged(unknown) == ("AE", control_id, "unknown action (not a name) 未知的服务（action）")
    assert again == first  # the answer that was stored with the message
    kept = [one for one in site.kept() if one.control_id == control_id]
    assert sorted(one.verdict for one in kept) == ["accepted", "invalid"]
    assert all("欧阳娜娜" in one.body.decode() or "&#" in one.body.decode() for one in kept)
