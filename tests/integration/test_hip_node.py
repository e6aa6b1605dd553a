"""A whole node with the hospital platform's service: what is answered, kept, delivered; queries that a destination answers."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from lxml import etree

from engine.bench.loopback import HOST, free_port
from engine.formats import soap
from tests.support import hip
from tests.support.sites import Site
from tests.support.soap import envelope

V3 = "{urn:hl7-org:v3}"
ARCHIVE = """
from twisted.internet.defer import fail, succeed

from engine.errors import PermanentDelivery
from engine.message import Receipt
from engine.options import TEXT, Option, Spec


class Archive:
    max_in_flight = 1

    def __init__(self, options, context):
        self.answer = options.answer

    def open(self):
        return succeed(None)

    def deliver(self, parcel):
        if b"P-unknown" in parcel.body:
            return fail(PermanentDelivery("there is no such patient"))
        if b"P-quiet" in parcel.body:
            return succeed(Receipt("nothing to say"))
        return succeed(Receipt("answered", self.answer.encode()))

    def close(self):
        return succeed(None)


class Adapter:
    name = "archive"
    content_types = ()
    source_options = None
    destination_options = Spec("archive destination", "Answers.", [Option("answer", TEXT, "what", required=True)], scalar="answer")

    def destination(self, options, context):
        return Archive(options, context)


adapter = Adapter()
"""
RESULT = '<RCMR_IN000032UV01 xmlns="urn:hl7-org:v3"><id extension="RESULT-1"/><title>检验报告</title></RCMR_IN000032UV01>'


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with a destination that answers, as pip would leave it."""
    described = tmp_path / "installed" / "archive-1.0.dist-info"
    described.mkdir(parents=True)
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: archive\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text("[meridian.adapters]\narchive = archive:adapter\n")
    (described.parent / "archive.py").write_text(ARCHIVE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(described.parent), os.environ.get("PYTHONPATH")))))


def post(port: int, payload: str, version: str = "1.2") -> tuple[int, bytes]:
    kind = {"1.1": "text/xml; charset=utf-8", "1.2": "application/soap+xml; charset=utf-8"}[version]
    request = urllib.request.Request(f"http://{HOST}:{port}/hip", envelope(payload, version), {"Content-Type": kind, "SOAPAction": '""'})
    try:
        with urllib.request.urlopen(request, timeout=60) as heard:
            return heard.status, heard.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def answered(heard: tuple[int, bytes]) -> etree._Element:
    """The HL7 v3 message in an answer."""
    assert heard[0] == 200, heard[1]
    (result,) = soap.read(heard[1]).payload
    return etree.fromstring(result.text.encode())


def code_and_text(heard: tuple[int, bytes]) -> tuple[str, str]:
    one = answered(heard).find(f"{V3}acknowledgement")
    return one.get("typeCode"), one.find(f"{V3}acknowledgementDetail/{V3}text").get("value")


def numbered(number: int) -> str:
    return f"{number:08d}-7f1e-4a39-9c55-0d4a7c8f1e01"


def facts(site: Site) -> dict[str, dict[str, str]]:
    """Of the messages kept, by control id."""
    database = sqlite3.connect(f"file:{site.folder}/data/meridian.db?mode=ro", uri=True)
    try:
        return {control_id: json.loads(known) for control_id, known in database.execute("SELECT control_id, facts FROM message")}
    finally:
        database.close()


def test_what_is_taken_and_what_is_not(tmp_path: Path) -> None:
    """Everything is kept; what is not taken says why; a repetition hears the first answer."""
    port = free_port()
    source = {"hip": {"listen": f"{HOST}:{port}", "actions": {"S0004": "PatientInfoMerge"}, "validation": "off"}}
    site = Site(tmp_path, source=source, accept=["message.type != 'TerminologyUpdate'"])
    with site.running():
        first = post(port, hip.call("S0004", hip.merge()))
        assert code_and_text(first) == ("AA", "accepted 处理成功")
        assert post(port, hip.call("S0004", hip.merge())) == first
        assert (
            code_and_text(post(port, hip.call("S9999", hip.merge(message_id=numbered(1)))))[1]
            == "unknown action S9999 未知的服务（action）"
        )
        assert (
            code_and_text(post(port, hip.call("TerminologyUpdate", hip.terminology("TerminologyUpdate", message_id=numbered(2)))))[0]
            == "AE"
        )
        assert code_and_text(post(port, hip.call("DocumentRetrieve", hip.retrieve(message_id=numbered(3)))))[1].startswith(
            "queries of this service"
        )
        assert code_and_text(post(port, hip.call("S0004", hip.merge(survivor="P-101"))))[0] == "AE"  # the same id with another content
        status, fault = post(port, "<Other xmlns='urn:hl7-org:v3'/>")
        assert (status, b"the operation here is" in fault) == (400, True)
    assert [(one.control_id, one.verdict) for one in site.kept()] == [
        (hip.ID, "accepted"),
        (numbered(1), "invalid"),
        (numbered(2), "refused"),
        (numbered(3), "refused"),
        (hip.ID, "invalid"),
        ("", "invalid"),
    ]
    assert facts(site)[numbered(3)]["service"] == "DocumentRetrieve"


@pytest.mark.usefixtures("archive")
def test_queries_that_a_destination_answers(tmp_path: Path) -> None:
    """In a channel that answers from it; what is no query goes elsewhere, and is answered at the commit."""
    port = free_port()
    site = Site(
        tmp_path / "site",
        source={"hip": {"listen": f"{HOST}:{port}", "style": "dotnet", "validation": "off"}},
        answer="from archive",
        destinations=[{"name": "archive", "when": ["message.type.startswith('Document')"], "archive": RESULT}],
    )

    def ask(action: str, text: str) -> tuple[int, bytes]:
        return post(port, hip.call(action, text, "http://tempuri.org/"), "1.1")

    with site.running():
        found = ask("DocumentRetrieve", hip.retrieve(message_id=numbered(1)))
        assert soap.read(found[1]).payload.tag == "{http://tempuri.org/}HIPMessageServerResponse"
        assert answered(found).find(f"{V3}title").text == "检验报告"
        assert code_and_text(ask("DocumentRetrieve", hip.retrieve("P-quiet", message_id=numbered(2)))) == (
            "AE",
            "no answer to the query 查询没有结果或超时",
        )
        assert code_and_text(ask("DocumentRetrieve", hip.retrieve("P-unknown", message_id=numbered(3)))) == (
            "AE",
            "there is no such patient",
        )
        assert code_and_text(ask("PatientInfoMerge", hip.merge(message_id=numbered(4)))) == ("AA", "accepted 处理成功")
    assert [one.verdict for one in site.kept()] == ["accepted"] * 4
    assert site.dead() == {numbered(3): "there is no such patient"}


def test_many_senders_at_once(tmp_path: Path) -> None:
    """Examined in several threads: each hears of its own message, and nothing is lost or mixed up."""
    port = free_port()
    source = {"hip": {"listen": f"{HOST}:{port}"}}
    if hip.SCHEMAS.is_dir():
        source["hip"] |= {"schemas": str(hip.SCHEMAS), "validation": "strict", "documents": "flag"}
    site = Site(tmp_path, source=source)
    heard: dict[str, str] = {}

    def send(sender: int) -> None:
        for turn in range(20):
            control_id = numbered(sender * 100 + turn)
            text = hip.merge(message_id=control_id, name=f"患者{control_id}") if turn % 2 else hip.terminology(message_id=control_id)
            answer = answered(post(port, hip.call("PatientInfoMerge" if turn % 2 else "TerminologyRegister", text)))
            one = answer.find(f"{V3}acknowledgement")
            heard[one.find(f"{V3}targetMessage/{V3}id").get("extension")] = one.get("typeCode")

    with site.running():
        senders = [threading.Thread(target=send, args=(number,)) for number in range(8)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(120)
    assert len(heard) == 160
    assert set(heard.values()) == {"AA"}
    assert sorted(one.control_id for one in site.kept()) == sorted(heard)


def test_an_answer_in_cdata_reaches_the_wire_in_it(tmp_path: Path) -> None:
    """Clients that do not parse look for it."""
    port = free_port()
    site = Site(tmp_path, source={"hip": {"listen": f"{HOST}:{port}", "style": "ensemble", "validation": "off"}})
    with site.running():
        status, heard = post(port, hip.call("PatientInfoMerge", hip.merge(), "http://tempuri.org", ("input1", "input2")), "1.1")
    assert (status, b"<HIPMessageServerResult><![CDATA[<MCCI_IN000002UV01 " in heard) == (200, True), heard


def test_a_large_document(tmp_path: Path) -> None:
    """Megabytes of base64 inside an attribute inside a string: checked against its message, kept, answered."""
    port = free_port()
    site = Site(tmp_path, source={"hip": {"listen": f"{HOST}:{port}", "validation": "off"}})
    big = hip.document().replace(
        b"<structuredBody/>", b"<structuredBody>" + b"<component>text</component>" * 150_000 + b"</structuredBody>"
    )
    with site.running():
        assert code_and_text(post(port, hip.call("DocumentRegister", hip.register(big)))) == ("AA", "accepted 处理成功")
        wrong = big.replace(b"ZY-77", b"ZY-78")
        assert "patient 患者" in code_and_text(post(port, hip.call("DocumentRegister", hip.register(wrong, message_id=numbered(1)))))[1]
    assert facts(site)[hip.ID]["document"] == "agrees"
