"""Platforms of different vendors, one behind the other; a sender that proves itself by its signature alone."""

from __future__ import annotations

import time
import urllib.request
from pathlib import Path

import xmlsec
from lxml import etree

from adapters.soap.security.instants import instant
from engine.bench.loopback import HOST, free_port
from tests.integration.test_hip_node import answered, code_and_text, facts, numbered, post
from tests.support import hip
from tests.support.sites import Site
from tests.support.wsse import SECOND, Signers, plain, signed

VENDOR = "http://tempuri.org/"


def platform(folder: Path, **options: object) -> tuple[Site, int]:
    port = free_port()
    return Site(folder, source={"hip": {"listen": f"{HOST}:{port}", "validation": "off", **options}}), port


def test_a_platform_that_passes_on_to_another_vendors(tmp_path: Path) -> None:
    """The one behind is described by its own WSDL, fetched as its developers would hand it over; what it answers reaches the sender in the
    words of the one in front."""
    behind, far = platform(tmp_path / "behind", style="dotnet", device="BEHIND", actions={"M1": "PatientInfoMerge"})
    near = free_port()
    call = {
        "wsdl": "behind.wsdl",
        "version": "1.1",
        "body": {"action": "${tables.action}", "message": "${HIPMessageServer/message}"},
        "tables": {"action": {"of": "${message.type}", "table": {"PatientInfoMerge": "M1"}, "otherwise": "unknown"}},
        "accepted_when": {"path": "MCCI_IN000002UV01/acknowledgement/@typeCode"},
    }
    front = Site(
        tmp_path / "front",
        source={"hip": {"listen": f"{HOST}:{near}", "validation": "off"}},
        answer="from behind",
        destinations=[{"name": "behind", "soap": call}],
    )
    with behind.running():
        with urllib.request.urlopen(f"http://{HOST}:{far}/hip?wsdl", timeout=60) as described:
            (front.folder / "behind.wsdl").write_bytes(described.read())
        with front.running():
            taken = post(near, hip.call("PatientInfoMerge", hip.merge(name="欧阳娜娜")))
            refused = post(near, hip.call("TerminologyRegister", hip.terminology(message_id=numbered(1))))
    assert code_and_text(taken) == ("AA", "accepted 处理成功")
    assert answered(taken).find("{*}sender//{*}item").get("extension") == "BEHIND"
    assert code_and_text(refused) == ("AE", "unknown action unknown 未知的服务（action）")
    assert [(one.control_id, one.verdict) for one in behind.kept()] == [(hip.ID, "accepted"), (numbered(1), "invalid")]
    assert "欧阳娜娜" in etree.fromstring(behind.kept()[0].body).find(".//{*}message").text
    assert list(front.dead()) == [numbered(1)]


def test_a_sender_that_signs(tmp_path: Path) -> None:
    """Who it is stands in the trace; the same message signed anew is a repetition, and one by nobody is not taken."""
    signers = Signers(tmp_path / "signers")
    his = signers.curve("his")
    site, port = platform(tmp_path / "site", security={})
    site.certify(signers.authority)

    def send(text: str, ahead: int = 0) -> tuple[int, bytes]:
        when = (int(time.time()) + ahead) * SECOND
        times = {"created": instant(when), "expires": instant(when + 300 * SECOND)}
        body = signed(his, plain(hip.call("PatientInfoMerge", text), "1.2"), method=xmlsec.Transform.ECDSA_SHA256, **times)
        request = urllib.request.Request(f"http://{HOST}:{port}/hip", body, {"Content-Type": "application/soap+xml; charset=utf-8"})
        with urllib.request.urlopen(request, timeout=60) as heard:
            return heard.status, heard.read()

    with site.running():
        first = send(hip.merge())
        assert code_and_text(first) == ("AA", "accepted 处理成功")
        again = send(hip.merge(), ahead=1)  # another time stamp, another signature
        assert answered(again).find("{*}id").get("extension") == answered(first).find("{*}id").get("extension")
        status, fault = post(port, hip.call("PatientInfoMerge", hip.merge(message_id=numbered(1))))
        assert (status, b"Fault" in fault) == (400, True)
    assert [(one.control_id, one.peer) for one in site.kept()] == [(hip.ID, "urn:meridian:party:his")]
    assert facts(site)[hip.ID]["service"] == "PatientInfoMerge"
    assert len(site.audited("soap.refused")) == 1
