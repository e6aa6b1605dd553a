"""A running node that takes FHIR messages: what is answered ok is on disk, the same message again is the same, also after a restart; and
/metadata says what this channel takes."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from engine.bench.loopback import HOST, free_port
from engine.formats.fhir_r4.structure import faults
from engine.formats.fhir_r4.xml_writing import to_xml
from tests.support.sites import Site


def message(header_id: str, event: str = "admit", name: str = "a", **transport: Any) -> bytes:
    header = {"resourceType": "MessageHeader", "id": header_id, "eventCoding": {"code": event}, "source": {"endpoint": "urn:ward"}}
    patient = {"resourceType": "Patient", "name": [{"text": name}]}
    entries = [{"fullUrl": "urn:uuid:1", "resource": header}, {"fullUrl": "urn:uuid:2", "resource": patient}]
    return json.dumps({"resourceType": "Bundle", "type": "message", "entry": entries, **transport}).encode()


class Terminal:
    def __init__(self, folder: Path) -> None:
        self.base = f"http://{HOST}:{free_port()}/fhir"
        listen = self.base.removeprefix("http://").removesuffix("/fhir")
        self.site = Site(
            folder,
            source={"fhir": {"listen": listen, "messages": True}},
            accept=["message.type in ['admit', 'Patient create']"],
        )

    def ask(self, path: str, body: bytes | None = None, media: str = "application/fhir+json") -> tuple[int, bytes]:
        request = urllib.request.Request(f"{self.base}/{path}", body, {"Content-Type": media, "Accept": "application/fhir+json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as heard:
                return heard.status, heard.read()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read()

    def send(self, body: bytes, media: str = "application/fhir+json") -> tuple[int, bytes]:
        return self.ask("$process-message", body, media)


def said(answer: bytes) -> tuple[str, str]:
    """response.code and response.identifier; the answer has the structure of R4."""
    content = json.loads(answer)
    assert faults(content) == []
    response = content["entry"][0]["resource"]["response"]
    return response["code"], response["identifier"]


def test_messages_are_kept_once_and_answered_the_same(tmp_path: Path) -> None:
    """Also after a restart, in another form, and with a new timestamp; with other content the id is refused."""
    terminal = Terminal(tmp_path)
    with terminal.site.running():
        first = terminal.send(message("m1"))
        assert (first[0], said(first[1])) == (200, ("ok", "m1"))
        assert len(terminal.site.kept()) == 1
        assert terminal.send(message("m1", timestamp="2024-05-01T08:30:00Z")) == first
        assert len(terminal.site.kept()) == 1
    with terminal.site.running():
        assert terminal.send(message("m1")) == first
        assert terminal.send(to_xml(message("m1")), "application/fhir+xml") == first
        assert len(terminal.site.kept()) == 1
        status, answer = terminal.send(message("m1", name="b"))
        assert (status, said(answer)) == (422, ("fatal-error", "m1"))
    (kept, refused) = terminal.site.kept()
    assert (kept.verdict, kept.control_id, kept.body) == ("accepted", "m1", message("m1"))
    assert refused.verdict == "invalid"


def test_what_the_channel_does_not_take(tmp_path: Path) -> None:
    """Another event is refused and kept; /metadata offers what `accept` takes, and it is taken."""
    terminal = Terminal(tmp_path)
    with terminal.site.running():
        status, answer = terminal.send(message("m2", "discharge"))
        assert (status, said(answer)) == (403, ("fatal-error", "m2"))
        _, metadata = terminal.ask("metadata")
        (rest,) = json.loads(metadata)["rest"]
        assert [(one["type"], [code["code"] for code in one["interaction"]]) for one in rest["resource"]] == [("Patient", ["create"])]
        assert "interaction" not in rest
        status, answer = terminal.ask("Patient", b'{"resourceType":"Patient"}')
        assert (status, json.loads(answer)["resourceType"]) == (202, "OperationOutcome")
        assert terminal.ask("Observation", b'{"resourceType":"Observation","status":"final","code":{"text":"x"}}')[0] == 403
        assert terminal.ask("Patient/1")[0] == 404
    assert [one.verdict for one in terminal.site.kept()] == ["refused", "accepted", "refused"]
