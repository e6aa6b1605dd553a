"""Whole nodes: repetitions, answers of destinations, certificates, filters that read what is kept in files."""

from __future__ import annotations

import http.client
import shutil
import ssl
from pathlib import Path

from certs import Authority
from engine.bench.loopback import HOST
from tests.support.soap import SoapSite, addressed, envelope, in_parts, include, part, post, related
from tests.support.waiting import until

WSDLS = Path(__file__).parents[1] / "support" / "soap_wsdl"
ORDER = "<Order xmlns='urn:lab:orders'><id>{}</id></Order>"
ACTION = "urn:lab:orders:PlaceOrder"


def test_a_repetition_hears_the_same_answer_related_to_itself(tmp_path: Path) -> None:
    """After a restart too, in other bytes with another MessageID; another order of that id is refused."""
    site = SoapSite(tmp_path, {"control_id": "Order/id"})
    heard = []
    for number in range(2):
        with site.running():
            said = post(site.soap, envelope(ORDER.format("A-1"), header=addressed(message_id=f"urn:uuid:{number}")))
            assert said.status == 200
            assert said.message.addressing.relates_to == f"urn:uuid:{number}"
            heard.append(said.message.payload.findtext("{*}id"))
    with site.running():
        other = post(site.soap, envelope(ORDER.format("A-1").replace("</Order>", "<more/></Order>")))
        assert "used before" in other.fault.text
    assert heard == ["A-1", "A-1"]
    assert [one.verdict for one in site.kept()] == ["accepted", "invalid"]


def test_a_destination_answers(tmp_path: Path) -> None:
    """One node calls the other, and its sender hears what that one said; refused there, it hears the fault."""
    orders = {"wsdl": "wsdl/orders.wsdl", "control_id": "Order/id", "response": {"template": "wsdl/taken.xml", "codes": {"accepted": "AA"}}}
    hospital = SoapSite(tmp_path / "hospital", orders, accept=["message.control_id != 'B-1'"])
    call = {
        "wsdl": "wsdl/orders.wsdl",
        "url": f"http://{HOST}:{hospital.soap}/soap",
        "version": "1.2",
        "operation": "PlaceOrder",
        "body": "as it came",
    }
    gate = SoapSite(
        tmp_path / "gate", {"control_id": "Order/id"}, destinations=[{"name": "hospital", "soap": call}], answer="from hospital"
    )
    for site in (hospital, gate):
        shutil.copytree(WSDLS, site.folder / "wsdl")
    with hospital.running(), gate.running():
        good = post(gate.soap, envelope(ORDER.format("A-1"), header=addressed(ACTION)))
        assert [child.text for child in good.message.payload] == ["A-1", "AA", None]
        assert good.message.version == "1.1"
        assert good.message.addressing.relates_to == "urn:uuid:1"
        bad = post(gate.soap, envelope(ORDER.format("B-1")))
        assert bad.status == 500
        assert bad.fault.fault_code == "Sender"
    assert [one.control_id for one in hospital.kept()] == ["A-1", "B-1"]


def test_what_lies_in_a_file_is_accepted_and_filtered_by_its_content(tmp_path: Path) -> None:
    """Of a message of twenty megabytes the envelope is read where it lies, before the answer and after."""
    accept, only = ["message['Order/kind'] != 'wrong'"], ["message['Order/kind'] == 'urgent'"]
    site = SoapSite(tmp_path, {"control_id": "Order/id"}, accept=accept, filter=only)
    with site.running():
        for number, (kind, status) in enumerate((("urgent", 200), ("routine", 200), ("wrong", 500))):
            root = envelope(f"<Order><id>{number}</id><kind>{kind}</kind><f>{include('cid:a')}</f></Order>")
            assert post(site.soap, in_parts(root, part(b"x" * (20 << 20), "a")), related()).status == status
        until(lambda: all(site.reasons()), "the plans")
    assert site.reasons() == [
        "no destination asks for it",
        "does not pass the filter message['Order/kind'] == 'urgent'",
        "this channel does not accept this message",
    ]


def test_mutual_tls(tmp_path: Path) -> None:
    """The party of the certificate is the message's; without a certificate there is no service, which is audited."""
    site = SoapSite(tmp_path, {"tls": {"allow": ["lab"], "client_auth": "optional"}})
    authority = Authority.create(tmp_path / "authority", "test")
    site.certify(authority)
    issued = authority.issue("lab", out=tmp_path / "lab")
    without, with_certificate = ssl._create_unverified_context(), ssl._create_unverified_context()
    with_certificate.load_cert_chain(tmp_path / "lab" / f"{issued.stem}.pem", tmp_path / "lab" / f"{issued.stem}.key")
    statuses = []
    with site.running():
        for shown in (with_certificate, without):
            connection = http.client.HTTPSConnection(HOST, site.soap, context=shown, timeout=30)
            connection.request("POST", "/soap", envelope(), {"Content-Type": "text/xml"})
            statuses.append(connection.getresponse().status)
            connection.close()
    assert statuses == [200, 401]
    assert [one.peer for one in site.kept()] == ["urn:meridian:party:lab"]
    assert [one["reason"] for one in site.audited("soap.refused")] == ["no certificate shown"]
