"""engine.formats.hip: the service table, calls as vendors write them, what messages say of themselves."""

import base64
import tracemalloc
from pathlib import Path

import pytest
from lxml import etree

from engine.errors import ParseError
from engine.formats import soap
from engine.formats.hip import ANY, SERVICES, Carried, Kind, Layout, call_of, patients_of, read, registered, service_of
from engine.formats.hip.services import has_path
from engine.formats.xml import Limits
from tests.support import hip
from tests.support.hip_samples import Sampler
from tests.support.soap import envelope, in_file, in_parts, include, kept, part, related

needs_schemas = pytest.mark.skipif(not hip.SCHEMAS.is_dir(), reason="the standard's schemas are not here")


def said(payload: str, version: str = "1.1") -> soap.SoapMessage:
    return soap.read(envelope(payload, version))


def wrapped(action: str, parameter: str, outer: str = "HIPMessageServer") -> soap.SoapMessage:
    return said(f'<{outer} xmlns="http://tempuri.org/"><action>{action}</action><message>{parameter}</message></{outer}>')


class TestServices:
    def test_there_are_the_69_of_the_standard(self):
        assert len(SERVICES) == 69
        assert {service.part for service in SERVICES.values()} == set(range(2, 12))
        assert [name for name, service in SERVICES.items() if service.kind is Kind.MERGE] == ["PatientInfoMerge"]

    @needs_schemas
    def test_the_table_says_what_the_schemas_say(self):
        """Every schema file is a service, with its root."""
        found = {}
        for file in (hip.SCHEMAS / "services").glob("*.xsd"):
            root = etree.parse(str(file)).getroot()
            found[file.stem] = root.find("{http://www.w3.org/2001/XMLSchema}element").get("name")
        assert found == {name: service.root for name, service in SERVICES.items()}

    @needs_schemas
    def test_a_sign_is_in_the_messages_of_its_service_only(self):
        """The least message of each service has its own sign, and none of the others that share its root."""
        samples = {name: Sampler(hip.SCHEMAS / "services" / f"{name}.xsd").message() for name in SERVICES}
        for service in SERVICES.values():
            if not service.sign:
                continue
            having = {name for name, sample in samples.items() if SERVICES[name].root == service.root and has_path(sample, service.sign)}
            assert having == {service.name}, service.sign

    def test_action_and_message_must_agree(self):
        with pytest.raises(ParseError, match="takes PRPA_IN201304UV02, the message is PRVS_IN000001UV01"):
            service_of("PatientInfoMerge", etree.fromstring(hip.terminology().encode()))

    def test_the_action_decides_where_services_share_a_message(self):
        element = etree.Element("{urn:hl7-org:v3}QUMT_IN020030UV01")
        assert service_of("OrderInfoQuery", element).name == "OrderInfoQuery"
        assert service_of("ExamAppInfoQuery", element).name == "ExamAppInfoQuery"

    def test_a_sites_words_for_services(self):
        element = etree.Element("{urn:hl7-org:v3}PRPA_IN400001UV")
        assert service_of("S0026", element, {"S0026": "InPatientInfoAdd"}).name == "InPatientInfoAdd"
        with pytest.raises(ParseError, match="unknown action S0026 未知的服务"):
            service_of("S0026", element)

    def test_without_an_action_the_root_decides_if_it_can(self):
        assert service_of("", etree.fromstring(hip.merge().encode())).name == "PatientInfoMerge"
        query = etree.Element("{urn:hl7-org:v3}QUMT_IN020030UV01")
        with pytest.raises(ParseError, match="message of several services"):
            service_of("", query)

    def test_without_an_action_the_content_decides_if_it_can(self):
        order = etree.fromstring(
            b'<POOR_IN200901UV xmlns="urn:hl7-org:v3"><controlActProcess><subject><placerGroup><component2>'
            b"<substanceAdministrationRequest/></component2></placerGroup></subject></controlActProcess></POOR_IN200901UV>"
        )
        assert service_of("", order).name == "OrderInfoAdd"

    def test_what_is_no_name_is_not_repeated(self):
        """The text of a refusal is logged: no control characters, no content."""
        with pytest.raises(ParseError) as refused:
            service_of("李明\n320102198001011234", etree.Element("x"))
        assert refused.value.text.startswith("unknown action (not a name)")


class TestCalls:
    TEXT = hip.merge()

    def escaped(self) -> str:
        return self.TEXT.replace("&", "&amp;").replace("<", "&lt;")

    def test_an_escaped_string(self):
        assert read(wrapped("PatientInfoMerge", self.escaped())).service.name == "PatientInfoMerge"

    def test_cdata_whose_declaration_names_another_character_set(self):
        """The text is characters already; what it says of bytes does not hold any more."""
        text = self.TEXT.replace("UTF-8", "GB2312")
        found = read(wrapped("PatientInfoMerge", f"<![CDATA[{text}]]>"))
        assert found.element.find(".//{*}part").get("value") == "李明"

    def test_cdata_that_was_escaped_once_more(self):
        doubled = f"<![CDATA[{self.TEXT}]]>".replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        assert read(wrapped("PatientInfoMerge", doubled)).header.id == hip.ID

    def test_an_element(self):
        inline = self.TEXT.partition("?>")[2]
        assert read(wrapped("PatientInfoMerge", inline)).header.sender == "HIS-0001"

    def test_base64(self):
        encoded = base64.b64encode(self.TEXT.encode()).decode()
        assert read(wrapped("PatientInfoMerge", encoded)).header.receiver == "PLATFORM"

    def test_an_attachment(self):
        payload = f'<c xmlns="http://tempuri.org/"><action>PatientInfoMerge</action><message>{include("cid:m@a")}</message></c>'
        body = in_parts(envelope(payload), part(self.TEXT.encode(), "m@a", "text/xml"))
        assert read(soap.read(kept(related(), body))).service.name == "PatientInfoMerge"

    def test_an_attachment_that_is_too_big_is_not_read(self, tmp_path: Path):
        """It may have gigabytes: its size is known before it is in memory."""
        payload = f'<c xmlns="http://tempuri.org/"><action>PatientInfoMerge</action><message>{include("cid:m@a")}</message></c>'
        body = in_parts(envelope(payload), part(bytes(8_000_000), "m@a", "text/xml"))
        message = soap.read(in_file(tmp_path, kept(related(), body)))
        tracemalloc.start()
        try:
            with pytest.raises(ParseError, match="more than 1000000 bytes"):
                call_of(message, limits=Limits(size=1_000_000))
            assert tracemalloc.get_traced_memory()[1] < 1_000_000
        finally:
            tracemalloc.stop()

    def test_parameters_inside_one_more_element(self):
        payload = f'<c xmlns="http://esb/"><input><action>PatientInfoMerge</action><message>{self.escaped()}</message></input></c>'
        found = read(said(payload))
        assert (found.action, found.header.id) == ("PatientInfoMerge", hip.ID)

    def test_a_message_that_is_the_body_itself(self):
        assert read(said(self.TEXT.partition("?>")[2])).service.name == "PatientInfoMerge"

    def test_a_layout_is_kept_to(self):
        """An endpoint takes what it says, not what could be guessed."""
        message = wrapped("PatientInfoMerge", self.escaped())
        assert call_of(message, Layout("action", "message", Carried.STRING)).action == "PatientInfoMerge"
        with pytest.raises(ParseError, match="'arg1' is missing"):
            call_of(message, Layout("arg0", "arg1", Carried.STRING))
        with pytest.raises(ParseError, match="not base64"):
            call_of(message, Layout("action", "message", Carried.BASE64))
        with pytest.raises(ParseError, match="not an element"):
            call_of(message, Layout("action", "message", Carried.INLINE))
        with pytest.raises(ParseError, match="应为字符串"):
            call_of(wrapped("PatientInfoMerge", self.TEXT.partition("?>")[2]), Layout("action", "message", Carried.STRING))

    @pytest.mark.parametrize(
        ("parameter", "why"),
        [
            ("", "no parameter holds"),
            ("hello", "no parameter holds"),
            ("&lt;PRPA_IN201304UV02", "not well-formed"),
            ("&lt;!DOCTYPE a [&lt;!ENTITY x 'y'>]>&lt;a/>", "document type"),
        ],
    )
    def test_what_cannot_be_read(self, parameter: str, why: str):
        with pytest.raises(ParseError, match=why):
            call_of(wrapped("PatientInfoMerge", parameter), ANY)

    def test_an_empty_parameter_of_a_known_name(self):
        with pytest.raises(ParseError, match="message is empty"):
            call_of(wrapped("PatientInfoMerge", ""), Layout("action", "message", Carried.STRING))

    def test_a_deep_message_is_refused(self):
        deep = "&lt;a>" * 300 + "&lt;/a>" * 300
        with pytest.raises(ParseError, match="nested deeper"):
            call_of(wrapped("PatientInfoMerge", deep))


class TestHeader:
    def test_patients_of_a_merge(self):
        """Who stays and who is merged into him; identity cards last."""
        found = read(wrapped("PatientInfoMerge", TestCalls().escaped()))
        assert [one.extension for one in found.patients] == ["P-100", "P-200", "320102198001011234"]

    def test_patients_of_a_query(self):
        found = patients_of(etree.fromstring(hip.retrieve("P-7").encode()))
        assert [(one.root, one.extension) for one in found] == [("2.16.156.10011.2.5.1.4", "P-7")]

    def test_the_domain_of_an_id_is_no_id(self):
        element = etree.fromstring(
            b'<a><patient><id><item root="2.16.156.10011.2.5.1.5" extension="01"/><item root="2.16.156.10011.2.5.1.4" extension="9"/></id></patient></a>'
        )
        assert [one.extension for one in patients_of(element)] == ["9"]

    def test_what_is_missing_is_empty(self):
        found = read(wrapped("", '<PRPA_IN201304UV02 xmlns=""/>'))
        assert (found.header.id, found.header.sender, found.patients) == ("", "", ())

    def test_the_document_of_a_registration(self):
        found = registered(etree.fromstring(hip.register().encode()))
        assert (found.ids[0].extension, found.code, found.name) == (hip.DOC_ID, "C0007", "检验报告")
        assert found.decoded() == hip.document()

    def test_a_registration_without_a_document(self):
        with pytest.raises(ParseError, match="no document"):
            registered(etree.fromstring(hip.register(b"").encode()))


def test_the_shipped_table_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert SERVICES["OrderInfoAdd"].title == "医嘱信息新增服务"
