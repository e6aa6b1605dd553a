"""The endpoint `soap`: which operation is asked for, what is known of a request, what is answered; the WSDL as it is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from adapters.soap import adapter
from adapters.soap.answers import Secure, answer
from adapters.soap.binding import Binding
from adapters.soap.generic.options import SOURCE
from adapters.soap.generic.responses import Template
from adapters.soap.generic.service import GenericService
from adapters.soap.generic.wsdl import load
from adapters.soap.reading import Arrived, Reading, Rules, reading
from engine.errors import Fault, ParseError
from engine.formats import soap
from engine.formats.xml import Limits
from engine.message import ACCEPTED, Ack, Judgement, Verdict
from engine.options import Place
from tests.support.soap import WSA, addressed, envelope, in_parts, kept, part, related

WSDLS = Path(__file__).parents[1] / "support" / "soap_wsdl"
ADDRESS = "https://node.example:8443/orders"
ORDER = "<Order xmlns='urn:lab:orders'><id>A-7</id><patient extension='P1'/></Order>"
REFUSED = Judgement(Verdict.REFUSED, "not for this channel")
UNAVAILABLE = Judgement(Verdict.UNAVAILABLE, "later")


def service(**options: Any) -> GenericService:
    return GenericService(SOURCE.defaults(listen=1, **options), lambda: "new", lambda: 0)


def orders(**options: Any) -> GenericService:
    return service(wsdl=str(WSDLS / "orders.wsdl"), **options)


def asked(of: GenericService, body: bytes, action: str = "", peer: str = "lab") -> Reading:
    return reading(body, Arrived(Binding("", action), peer, "10.0.0.9:1"), Rules(("1.1", "1.2"), Limits()), of, None)


class TestOperations:
    @pytest.mark.parametrize("action", ["urn:lab:orders:PlaceOrder", "", "whatever"])
    def test_by_element_and_action(self, action: str) -> None:
        """SOAPAction is often anything; the element in Body is not."""
        found = asked(orders(), envelope(ORDER), action)
        assert found.fault is None
        assert found.examined is not None
        assert found.examined.message_type == "PlaceOrder"

    def test_the_action_of_another_operation(self) -> None:
        found = asked(orders(), envelope(ORDER), "urn:lab:orders:Cancel")
        assert found.fault is not None
        assert "not that of the operation" in found.fault.text
        assert found.examined is not None
        assert found.examined.judgement is not None
        assert found.examined.judgement.verdict is Verdict.INVALID

    def test_an_unknown_wsa_action(self) -> None:
        found = asked(orders(), envelope(ORDER, header=addressed("urn:other")))
        assert found.fault is not None
        assert found.fault.subcode == f"{{{WSA}}}ActionNotSupported"

    @pytest.mark.parametrize("payload", ["<Order/>", "<Other xmlns='urn:lab:orders'/>", ""])
    def test_what_is_not_in_the_wsdl(self, payload: str) -> None:
        """The namespace counts."""
        assert asked(orders(), envelope(payload)).fault is not None

    def test_rpc_by_its_wrapper(self) -> None:
        rpc = service(wsdl=str(WSDLS / "rpc.wsdl"))
        found = asked(rpc, envelope("<c:Exchange xmlns:c='urn:lab:rpc:calls'><action>A</action></c:Exchange>"))
        assert found.examined is not None
        assert found.examined.message_type == "Exchange"
        answer = soap.read(found.examined.answer(ACCEPTED))
        assert answer.payload.tag == "{urn:lab:rpc:calls}ExchangeResponse"

    def test_without_a_wsdl_any_element(self) -> None:
        found = asked(service(), envelope("<Anything/>"), "urn:any")
        assert found.examined is not None
        assert found.examined.message_type == "Anything"
        assert asked(service(), envelope("")).fault is not None

    def test_one_way(self) -> None:
        found = asked(orders(), envelope("<Cancel xmlns='urn:lab:orders'><id>1</id></Cancel>"))
        assert found.examined is not None
        assert found.examined.one_way


def test_an_answer_in_parts_does_not_go_out_unsigned() -> None:
    """Where answers are signed, a destination's with attachments is replaced by the service's own, which can be."""
    found = asked(orders(), envelope(ORDER))
    assert found.examined is not None
    parts = kept(related(), in_parts(envelope("<Taken/>"), part(b"x", "a")))

    def said(secure: Secure | None) -> bytes:
        assert found.examined is not None
        one = answer(Ack(ACCEPTED, parts, 1), found.examined.answer, found, Binding("1.1"), compress=False, secure=secure)
        return b"".join(piece for piece in one.content if isinstance(piece, bytes))

    assert b"<Taken/>" in said(None)
    assert said(lambda written, _: b"signed " + written).startswith(b"signed <?xml")


class TestImports:
    @pytest.mark.parametrize(
        ("location", "words"),
        [
            ("../outside.xsd", r"service/a\.wsdl:2 imports '\.\./\.\./outside\.xsd', which is outside the site"),
            ("none.xsd", r"service/a\.wsdl:2 imports '\.\./none\.xsd', and the file none\.xsd cannot be read"),
            ("dtd.xsd", r"dtd\.xsd: the XML document has a document type declaration"),
        ],
    )
    def test_what_cannot_be_imported_is_told_by_file_and_line(self, tmp_path: Path, location: str, words: str) -> None:
        (tmp_path / "outside.xsd").write_text("<a/>")
        folder = tmp_path / "site" / "service"
        folder.mkdir(parents=True)
        (folder.parent / "dtd.xsd").write_text("<!DOCTYPE a><a/>")
        imports = f'<import xmlns="http://www.w3.org/2001/XMLSchema" schemaLocation="../{location}"/>'
        (folder / "a.wsdl").write_text(f'<definitions xmlns="http://schemas.xmlsoap.org/wsdl/"><types>\n{imports}</types></definitions>')
        with pytest.raises(ParseError, match=words):
            load(folder / "a.wsdl", folder.parent)


class TestWhatIsKnown:
    def test_ids_by_path(self) -> None:
        found = asked(orders(control_id="Order/id", patient_ids=["Order/patient/@extension"], sender="Header/MessageID"),
                      envelope(ORDER, header=addressed("urn:lab:orders:PlaceOrder")))  # fmt: skip
        one = found.examined
        assert one is not None
        assert (one.control_id, one.patient_ids, one.sender, one.idempotency_key) == ("A-7", ("P1",), "urn:uuid:1", "lab|A-7")

    def test_a_message_id_by_default(self) -> None:
        found = asked(service(), envelope(header=addressed(message_id="urn:uuid:5")), peer="")
        assert found.examined is not None
        assert (found.examined.control_id, found.examined.idempotency_key) == ("urn:uuid:5", "10.0.0.9|urn:uuid:5")
        found = asked(service(), envelope())
        assert found.examined is not None
        assert found.examined.idempotency_key == ""

    @pytest.mark.parametrize("payload", ["<Order/>", f"<Order><id>{'x' * 300}</id></Order>"])
    def test_an_id_that_is_asked_for(self, payload: str) -> None:
        """Kept as invalid: it can be read."""
        found = asked(service(control_id="Order/id"), envelope(payload))
        assert found.fault is not None
        assert found.examined is not None
        assert found.fault.location == "Order/id"

    def test_the_same_content_in_other_words(self) -> None:
        """A repetition has another header, other names of parts, other prefixes' places."""
        first = asked(service(), envelope("<Order a='1' b='2'><id>1</id></Order>", header=addressed(message_id="a")))
        again = asked(service(), envelope("<Order  b='2' a=\"1\"><id>1</id></Order >", header=addressed(message_id="b")))
        other = asked(service(), envelope("<Order a='1' b='2'><id>2</id></Order>"))
        assert first.digest == again.digest != other.digest


class TestAnswers:
    def test_the_operations_empty_element(self) -> None:
        found = asked(orders(), envelope(ORDER, "1.2"))
        assert found.examined is not None
        answer = soap.read(found.examined.answer(ACCEPTED))
        assert (answer.version, answer.payload.tag, len(answer.payload)) == ("1.2", "{urn:lab:orders}OrderTaken", 0)

    @pytest.mark.parametrize(("judgement", "code"), [(REFUSED, soap.SENDER), (UNAVAILABLE, soap.RECEIVER)])
    def test_a_verdict_without_a_code_is_a_fault(self, judgement: Judgement, code: str) -> None:
        found = asked(orders(), envelope(ORDER))
        assert found.examined is not None
        with pytest.raises(soap.SoapFault) as raised:
            found.examined.answer(judgement)
        assert (raised.value.fault_code, raised.value.text) == (code, judgement.reason)

    def test_a_template(self) -> None:
        """Nothing that is put in becomes markup, or a character that XML does not have."""
        response = {"template": str(WSDLS / "taken.xml"), "codes": {"accepted": "AA", "refused": "AR"}}
        found = asked(orders(control_id="Order/id", response=response), envelope(ORDER.replace("A-7", "&lt;x&gt;${code}")))
        assert found.examined is not None
        answer = soap.read(found.examined.answer(Judgement(Verdict.REFUSED, "<&\x00>")))
        assert [child.text for child in answer.payload] == ["<x>${code}", "AR", "<&>"]
        with pytest.raises(ParseError, match="placeholder"):
            Template(b"<a>${patient}</a>")

    def test_every_placeholder(self) -> None:
        names = ("message.id", "answer.id", "time", "time.hl7", "code", "text")
        filled = Template("".join(["<a b='${time}'>", *(f"<c>${{{name}}}</c>-" for name in names), "</a>"]).encode())
        root = filled.filled({name: name.upper() for name in names})
        assert [child.text for child in root] == [name.upper() for name in names]
        assert root.get("b") == "TIME"


class TestWsdl:
    def test_addresses_and_imports(self) -> None:
        """Every document that is referred to can be had, and refers on."""
        served = orders()
        root = etree.fromstring(served.wsdl(ADDRESS))
        assert {one.get("location") for one in root.iter("{*}address")} == {ADDRESS}
        (imported,) = [one.get("schemaLocation") for one in root.iter("{http://www.w3.org/2001/XMLSchema}import")]
        assert imported == f"{ADDRESS}?xsd=schema/orders.xsd"
        schema = served.schema("schema/orders.xsd", ADDRESS)
        assert schema is not None
        assert f"{ADDRESS}?xsd=schema/patient.xsd".encode() in schema
        assert served.schema("schema/patient.xsd", ADDRESS)
        assert served.schema("../conftest.py", ADDRESS) is None

    @pytest.mark.parametrize("versions", [["1.1"], ["1.2"], ["1.1", "1.2"]])
    def test_the_shipped_one_has_ports_of_what_is_taken(self, versions: list[str]) -> None:
        root = etree.fromstring(service(versions=versions).wsdl(ADDRESS))
        assert [port.get("name")[-2:] for port in root.iter("{*}port")] == [version.replace(".", "") for version in versions]

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("<a/>", "no operation"),
            ("<!DOCTYPE a><a/>", "document type"),
            ('<xsd:schema xmlns:xsd="http://www.w3.org/2001/XMLSchema"><xsd:include schemaLocation="none.xsd"/></xsd:schema>', "none.xsd"),
            ('<xsd:schema xmlns:xsd="http://www.w3.org/2001/XMLSchema"><xsd:include schemaLocation="../x.xsd"/></xsd:schema>', "outside"),
        ],
    )
    def test_what_is_wrong_is_said_when_the_site_is_read(self, tmp_path: Path, content: str, words: str) -> None:
        (tmp_path / "site").mkdir()
        (tmp_path / "site" / "a.wsdl").write_text(content)
        faults: list[Fault] = []
        SOURCE.parse({"listen": 1, "wsdl": "a.wsdl"}, Place("channels/a.yaml", 1, folder=tmp_path / "site"), faults)
        assert words in faults[0].text

    def test_encoded_is_not_taken(self, tmp_path: Path) -> None:
        path = tmp_path / "a.wsdl"
        path.write_text((WSDLS / "rpc.wsdl").read_text().replace('use="literal"', 'use="encoded"'))
        with pytest.raises(ParseError, match="encoded"):
            load(path)


def test_a_source_can_be_rehearsed() -> None:
    """As the messages that channel tests have."""
    settings = SOURCE.defaults(listen=1)
    made, judgement = adapter.rehearse(settings, envelope(header=addressed()), "lab")
    assert (made.message_type, made.control_id, made.peer, judgement) == ("Order", "urn:uuid:1", "lab", None)
    made, judgement = adapter.rehearse(settings, b"<!DOCTYPE a><a/>", "")
    assert judgement is not None
    assert judgement.verdict is Verdict.INVALID
