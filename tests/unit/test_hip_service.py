"""adapters.soap.hip: dispatch, checks, answers, without a socket."""

import base64
from dataclasses import replace
from pathlib import Path

import pytest
from lxml import etree

from adapters.soap.hip import adapter
from adapters.soap.hip.options import SOURCE
from adapters.soap.hip.service import HipService
from adapters.soap.hip.style import SHIPPED, style_of
from adapters.soap.service import Examined, Request
from engine.formats import soap
from engine.formats.hip import SERVICES
from engine.message import ACCEPTED, Judgement, Verdict
from tests.support import hip
from tests.support.fhir import context
from tests.support.hip_samples import Sampler
from tests.support.soap import addressed, envelope

needs_schemas = pytest.mark.skipif(not hip.SCHEMAS.is_dir(), reason="the standard's schemas are not here")
V3 = "{urn:hl7-org:v3}"


def service(answered: bool = False, **options: object) -> HipService:
    return HipService(SOURCE.defaults(listen=1, **options), replace(context(Path("/nowhere"), None, name="platform"), answered=answered))


def asked(served: HipService, payload: str, version: str = "1.2", header: str = "") -> Examined:
    return served.examine(Request(soap.read(envelope(payload, version, header))))


def heard(served: HipService, answer: bytes) -> etree._Element:
    """The acknowledgement in an answer of a style that carries it as a string."""
    payload = soap.read(answer).payload
    assert payload.tag == f"{{{served.style.namespace}}}{served.style.response}"
    (result,) = payload
    return etree.fromstring(result.text.encode())


def detail(answer: etree._Element) -> tuple[str, str, str]:
    """Its code, whose message it answers, its text."""
    one = answer.find(f"{V3}acknowledgement")
    return (
        one.get("typeCode"),
        one.find(f"{V3}targetMessage/{V3}id").get("extension"),
        one.find(f"{V3}acknowledgementDetail/{V3}text").get("value"),
    )


def refusal(served: HipService, examined: Examined) -> tuple[Judgement, str]:
    """The judgement under which it is kept, and what the sender hears."""
    assert examined.judgement is not None
    code, _, text = detail(heard(served, examined.answer(examined.judgement)))
    assert code == "AE"
    return examined.judgement, text


class TestAnswers:
    def test_an_accepted_message(self):
        served = service(validation="off")
        examined = asked(served, hip.call("PatientInfoMerge", hip.merge()))
        assert examined.judgement is None
        answer = heard(served, examined.answer(ACCEPTED))
        assert answer.tag == f"{V3}MCCI_IN000002UV01"
        assert detail(answer) == ("AA", hip.ID, "accepted 处理成功")
        assert answer.find(f"{V3}creationTime").get("value") == "20231115061320"  # in Shanghai
        assert len(answer.find(f"{V3}id").get("extension")) == 36
        assert answer.find(f"{V3}receiver//{V3}item").get("extension") == "HIS-0001"
        assert answer.find(f"{V3}sender//{V3}item").get("extension") == "PLATFORM"

    def test_what_is_kept_of_it(self):
        examined = asked(service(validation="off"), hip.call("PatientInfoMerge", hip.merge()))
        assert (examined.message_type, examined.control_id, examined.sender) == ("PatientInfoMerge", hip.ID, "HIS-0001")
        assert examined.idempotency_key == f"|HIS-0001|{hip.ID}"
        assert examined.patient_ids == ("P-100", "P-200", "320102198001011234")
        assert examined.facts == {
            "action": "PatientInfoMerge",
            "root": "PRPA_IN201304UV02",
            "interaction": "PRPA_IN201304UV02",
            "created": "20260301101530",
            "receiver": "PLATFORM",
            "processing_code": "P",
            "accept_ack_code": "AL",
            "service": "PatientInfoMerge",
            "kind": "merge",
            "subject": "patient",
        }

    def test_a_message_sent_again_is_the_same_whatever_stands_around_it(self):
        """Headers (addressing, security) and escaping differ from one sending to the next."""
        served = service()
        once = asked(served, hip.call("PatientInfoMerge", hip.merge()))
        again = asked(served, hip.call("PatientInfoMerge", hip.merge()).replace("&lt;", "&#60;"), header=addressed("urn:x", "urn:uuid:2"))
        other = asked(served, hip.call("PatientInfoMerge", hip.merge(survivor="P-101")))
        assert once.content_digest == again.content_digest != other.content_digest
        assert once.idempotency_key == again.idempotency_key == other.idempotency_key

    @pytest.mark.parametrize("code", ["AL", "NE", "ER", "SU"])
    def test_every_request_is_answered_whatever_it_says_of_acknowledgements(self, code: str):
        served = service()
        examined = asked(served, hip.call("PatientInfoMerge", hip.merge(ack=code)))
        assert detail(heard(served, examined.answer(ACCEPTED)))[0] == "AA"
        assert examined.facts["accept_ack_code"] == code

    def test_the_store_cannot_take_it(self):
        served = service()
        answer = asked(served, hip.call("PatientInfoMerge", hip.merge())).answer(Judgement(Verdict.UNAVAILABLE))
        assert detail(heard(served, answer)) == ("AE", hip.ID, "cannot be kept now, send it again 暂时无法接收，请稍后重发")

    def test_the_channel_refuses_it(self):
        served = service()
        answer = asked(served, hip.call("PatientInfoMerge", hip.merge())).answer(Judgement(Verdict.REFUSED, "not for this channel"))
        assert detail(heard(served, answer)) == ("AE", hip.ID, "not for this channel")

    def test_the_action_of_the_answer_is_the_styles(self):
        """The source makes the headers of WS-Addressing of it."""
        examined = asked(service(), hip.call("PatientInfoMerge", hip.merge()))
        assert examined.action == "urn:hl7-org:v3:HIPMessageServerResponse"

    def test_the_platform_may_have_an_id_of_its_own(self):
        served = service(device="HUB-1")
        answer = heard(served, asked(served, hip.call("PatientInfoMerge", hip.merge())).answer(ACCEPTED))
        assert answer.find(f"{V3}sender//{V3}item").get("extension") == "HUB-1"


class TestRefused:
    """Each is kept as invalid (queries: refused), and answered AE."""

    def test_an_unknown_action(self):
        judgement, text = refusal(service(), asked(service(), hip.call("SayHello", hip.merge())))
        assert judgement.verdict is Verdict.INVALID
        assert text == "unknown action SayHello 未知的服务（action）"

    def test_an_action_for_another_message(self):
        served = service()
        examined = asked(served, hip.call("TerminologyRegister", hip.merge()))
        assert "消息与服务（action）不一致" in refusal(served, examined)[1]
        assert examined.control_id == hip.ID
        assert examined.message_type == "PRPA_IN201304UV02"
        assert examined.idempotency_key == ""

    def test_a_message_that_cannot_be_read(self):
        served = service()
        _, text = refusal(served, asked(served, hip.call("PatientInfoMerge", hip.merge()[:-30])))
        assert text.startswith("the message is not readable 消息无法解析: not well-formed XML")

    def test_a_message_without_an_id(self):
        served = service()
        judgement, text = refusal(served, asked(served, hip.call("PatientInfoMerge", hip.merge(message_id=""))))
        assert "缺少消息流水号" in text
        assert judgement.location == "id/@extension"

    def test_a_query_that_nobody_answers(self):
        served = service()
        judgement, text = refusal(served, asked(served, hip.call("DocumentRetrieve", hip.retrieve())))
        assert judgement.verdict is Verdict.REFUSED
        assert "not served here 此处不提供该查询服务" in text

    def test_another_operation_is_a_fault(self):
        with pytest.raises(soap.SoapFault, match="the operation here is "):
            asked(service(), "<Other xmlns='urn:hl7-org:v3'/>")
        with pytest.raises(soap.SoapFault):
            asked(service(), hip.call("PatientInfoMerge", hip.merge(), namespace="http://tempuri.org/"))

    def test_another_version_of_soap_is_a_fault(self):
        with pytest.raises(soap.SoapFault, match=r"takes SOAP 1\.2"):
            asked(service(versions=["1.2"]), hip.call("PatientInfoMerge", hip.merge()), version="1.1")

    def test_a_message_of_many_namespaces_is_digested_in_bounded_time(self):
        """Canonical XML can take them to the square where it is inclusive; more than so many are refused at once."""
        spaces = " ".join(f'xmlns:p{number}="urn:{number}"' for number in range(390))
        text = f'<PRPA_IN201304UV02 {spaces}><id extension="1"/>{"<b/>" * 20_000}</PRPA_IN201304UV02>'
        assert asked(service(), hip.call("PatientInfoMerge", text)).judgement is None
        more = text.replace("<id ", " ".join(["<id", *(f'xmlns:q{number}="urn:{number}"' for number in range(20))]) + " ")
        assert "namespaces are declared" in refusal(service(), asked(service(), hip.call("PatientInfoMerge", more)))[1]

    def test_a_message_without_a_canonical_form(self):
        """Of a namespace that is a relative reference (Canonical XML 1.0 clause 1): it is taken, and known again."""
        text = hip.merge().replace("<processingModeCode/>", "<processingModeCode/><a xmlns='b'/>")
        first, again = (asked(service(), hip.call("PatientInfoMerge", text)) for _ in range(2))
        assert first.judgement is None
        assert first.content_digest == again.content_digest

    def test_a_message_that_is_too_deep(self):
        served = service(most_depth=20)
        deep = hip.merge().replace("<processingModeCode/>", "<a>" * 20 + "</a>" * 20)
        assert "nested deeper than 20 levels" in refusal(served, asked(served, hip.call("PatientInfoMerge", deep)))[1]


class TestQueries:
    RESULT = f'<RCMR_IN000032UV01 xmlns="urn:hl7-org:v3"><id root="{hip.OID}.2.5.1.1" extension="ANSWER"/></RCMR_IN000032UV01>'.encode()

    def query(self, served: HipService) -> Examined:
        examined = asked(served, hip.call("DocumentRetrieve", hip.retrieve()))
        assert examined.judgement is None
        assert examined.idempotency_key == ""  # asked anew each time
        assert examined.relay is not None
        return examined

    def test_a_destinations_message_is_the_answer(self):
        served = service(answered=True, style="ensemble")
        examined = asked(served, hip.call("DocumentRetrieve", hip.retrieve(), "http://tempuri.org", ("input1", "input2")), version="1.1")
        answer = examined.relay(ACCEPTED, self.RESULT)
        assert heard(served, answer).find(f"{V3}id").get("extension") == "ANSWER"

    def test_so_is_the_one_in_another_platforms_envelope(self):
        """A SOAP destination of another style: its message, in our style."""
        served = service(answered=True)
        text = self.RESULT.decode().replace("<", "&lt;")
        other = envelope(f"<q:HIPMessageServerResponse xmlns:q='http://other/'><return>{text}</return></q:HIPMessageServerResponse>", "1.1")
        answer = self.query(served).relay(ACCEPTED, other)
        assert soap.read(answer).version == "1.2"
        assert heard(served, answer).find(f"{V3}id").get("extension") == "ANSWER"

    def test_an_answer_of_our_own_stays_as_it_is(self):
        """A stored one, or the words for a message that went nowhere."""
        served = service(answered=True)
        examined = self.query(served)
        own = examined.answer(Judgement(Verdict.INVALID, "why"))
        assert examined.relay(ACCEPTED, own) == own

    @pytest.mark.parametrize("said", [b"", b'{"resourceType": "Bundle"}', b"<Bundle xmlns='http://hl7.org/fhir'/>"])
    def test_a_destination_that_speaks_no_v3_answers_no_query(self, said: bytes):
        served = service(answered=True)
        assert detail(heard(served, self.query(served).relay(ACCEPTED, said)))[::2] == ("AE", "no answer to the query 查询没有结果或超时")

    def test_but_it_answers_what_is_no_query(self):
        served = service(answered=True)
        examined = asked(served, hip.call("PatientInfoMerge", hip.merge()))
        assert detail(heard(served, examined.relay(ACCEPTED, b'{"resourceType": "Bundle"}')))[0] == "AA"
        refused = Judgement(Verdict.INVALID, "refused by the repository")
        assert detail(heard(served, examined.relay(refused, b"{}")))[::2] == ("AE", "refused by the repository")


class TestStyles:
    @pytest.mark.parametrize("name", SHIPPED)
    def test_a_call_of_each_is_read_and_answered(self, name: str):
        served = service(style=name)
        style = served.style
        call = hip.call(
            "PatientInfoMerge", hip.merge(), style.namespace, (style.action_parameter, style.message_parameter), style.qualified
        )
        examined = asked(served, call, style.versions[0])
        assert detail(heard(served, examined.answer(ACCEPTED)))[0] == "AA"

    @pytest.mark.parametrize("name", SHIPPED)
    def test_its_wsdl_is_one(self, name: str):
        served = service(style=name)
        root = etree.fromstring(served.wsdl("https://hub.example:8443/hip"))
        addresses = [one.get("location") for one in root.iter("{*}address")]
        assert addresses == ["https://hub.example:8443/hip"] * len(served.style.versions)

    def test_every_option_of_a_style_can_be_said(self):
        style = style_of(
            SOURCE.defaults(
                listen=1, style="dotnet", namespace="http://hospital/", result="Return", versions="1.1", soap_action="{service}/{operation}"
            )
        )
        assert (style.namespace, style.result, style.versions, style.action_uri) == (
            "http://hospital/",
            "Return",
            ("1.1",),
            "HIPService/HIPMessageServer",
        )
        assert style.message_parameter == "message"

    def test_a_message_as_an_element_and_an_answer_as_one(self):
        served = service(message_as="inline", answer_as="inline", wrapper="input")
        inline = hip.merge().partition("?>")[2]
        payload = f'<HIPMessageServer xmlns="urn:hl7-org:v3"><input><action>PatientInfoMerge</action><message>{inline}</message></input></HIPMessageServer>'
        answer = soap.read(asked(served, payload).answer(ACCEPTED)).payload
        assert detail(answer[0][0])[0] == "AA"

    def test_a_message_in_base64_and_an_answer_in_it(self):
        served = service(message_as="base64", answer_as="base64")
        encoded = base64.b64encode(hip.merge().encode()).decode()
        answer = soap.read(asked(served, hip.call("PatientInfoMerge", encoded)).answer(ACCEPTED)).payload
        assert detail(etree.fromstring(base64.b64decode(answer[0].text)))[0] == "AA"

    def test_an_answer_in_cdata(self):
        served = service(style="ensemble")
        examined = asked(served, hip.call("PatientInfoMerge", hip.merge(), "http://tempuri.org", ("input1", "input2")), "1.1")
        assert b"<![CDATA[<MCCI_IN000002UV01" in examined.answer(ACCEPTED)

    @pytest.mark.parametrize(
        ("wrong", "why"),
        [
            ({"style": "dotnett"}, "not one of the choices"),
            ({"action_parameter": "1x"}, "not a name"),
            ({"actions": {"S1": "Nothing"}}, "not one of the choices"),
            ({"validation": "strict"}, "needs schemas"),
            ({"zone": "Mars/Base"}, "not a time zone"),
            ({"namespace": "a b"}, "not a namespace"),
        ],
    )
    def test_what_cannot_be_meant(self, wrong: dict[str, object], why: str):
        with pytest.raises(ValueError, match=why):
            SOURCE.defaults(listen=1, **wrong)


@needs_schemas
class TestValidation:
    def served(self, **options: object) -> HipService:
        return service(schemas=str(hip.SCHEMAS), **{"validation": "strict", **options})

    @pytest.mark.parametrize("name", SERVICES)
    def test_a_valid_message_of_every_service_is_taken(self, name: str):
        """Strict, in a channel that answers queries."""
        served = service(answered=True, schemas=str(hip.SCHEMAS), validation="strict", documents="off")
        sample = Sampler(hip.SCHEMAS / "services" / f"{name}.xsd", {"sender/device/id/item/@extension": "HIS-0001"}).text()
        examined = asked(served, hip.call(name, sample))
        assert examined.judgement is None
        assert (examined.message_type, examined.facts["schema"], examined.sender) == (name, "valid", "HIS-0001")

    @pytest.mark.parametrize("text", [hip.merge(), hip.terminology(), hip.terminology("TerminologyUpdate"), hip.retrieve(), hip.register()])
    def test_our_own_samples_are_valid(self, text: str):
        root = etree.fromstring(text.encode()).tag.removeprefix(V3)
        action = next(name for name, one in SERVICES.items() if one.root == root)
        assert asked(self.served(documents="off"), hip.call(action, text)).facts["schema"] == "valid"

    def test_strict_says_the_first_faults_without_the_content(self):
        served = self.served()
        wrong = hip.merge(message_id="SECRET-7").replace('<creationTime value="20260301101530"/>', "<creationTime/><Secret9/>")
        examined = asked(served, hip.call("PatientInfoMerge", wrong))
        judgement, text = refusal(served, examined)
        assert judgement.hl7_code == "102"
        assert "line 3, /PRPA_IN201304UV02/id/@extension: too short 长度不足" in text
        assert "line 4, /PRPA_IN201304UV02/creationTime/@value: attribute missing 缺少属性" in text
        assert "(expected 应为: interactionId)" in text
        assert "SECRET-7" not in text
        assert "Secret9" in text  # a name of an element
        assert detail(heard(served, examined.answer(judgement)))[1] == "SECRET-7"

    def test_lenient_takes_it_and_counts(self):
        served = self.served(validation="lenient")
        examined = asked(served, hip.call("PatientInfoMerge", hip.merge(message_id="SHORT")))
        assert examined.judgement is None
        assert examined.facts["schema"].startswith("1 faults: line 3, /PRPA_IN201304UV02/id/@extension")
        assert served._counter.value == 1

    def test_a_schema_that_is_not_there_checks_nothing(self, tmp_path: Path):
        examined = asked(service(schemas=str(tmp_path), validation="strict"), hip.call("PatientInfoMerge", hip.merge()))
        assert (examined.judgement, examined.facts["schema"]) == (None, "not checked")

    def test_a_message_full_of_faults_is_told_in_bounded_time(self):
        """In a tree libxml2 takes the number of siblings to the square: this one would be 200 MB."""
        wrong = '<valueSetItems><code a="" b=""/><statusCode code="9"/></valueSetItems>'
        begin, _, end = hip.terminology().partition("<valueSetItems>")
        examined = asked(self.served(), hip.call("TerminologyRegister", begin + wrong * 60_000 + "<valueSetItems>" + end))
        assert examined.facts["schema"].startswith("100 faults: //code/@a: attribute not allowed")
        assert examined.judgement is not None
        assert examined.judgement.reason.endswith(" (+95)")

    def test_the_document_has_a_schema_too(self):
        examined = asked(self.served(validation="lenient"), hip.call("DocumentRegister", hip.register()))
        assert examined.judgement is None
        assert examined.facts["document_schema"].split()[1] == "faults:"
        assert "/ClinicalDocument" in examined.facts["document_schema"]


class TestDocuments:
    def test_one_that_agrees(self):
        examined = asked(service(), hip.call("DocumentRegister", hip.register()))
        assert (examined.judgement, examined.facts["document"]) == (None, "agrees")

    @pytest.mark.parametrize(
        ("differing", "named"),
        [
            ({"doc_id": "another"}, "id 文档流水号"),
            ({"code": "C0006"}, "type 文档类型"),
            ({"title": "出院记录"}, "title 文档标题"),
            ({"time": "20250101000000"}, "time 生成时间"),
            ({"inpatient": "ZY-78"}, "patient 患者"),
        ],
    )
    def test_what_differs_is_named_without_values(self, differing: dict[str, str], named: str):
        served = service()
        examined = asked(served, hip.call("DocumentRegister", hip.register(hip.document(**differing))))
        _, text = refusal(served, examined)
        assert text == f"the document and its message differ 文档与消息不一致: {named}"
        assert examined.facts["document"] == "differs: " + named.partition(" ")[0]

    def test_a_title_with_the_hospitals_name_is_the_same(self):
        examined = asked(service(), hip.call("DocumentRegister", hip.register(hip.document(title="第一医院 检验报告"))))
        assert examined.facts["document"] == "agrees"

    @pytest.mark.parametrize(("content", "why"), [(b"%PDF-1.7", "not well-formed"), (b"<a/>", "no HL7 CDA document"), (b"", "no document")])
    def test_what_is_no_document(self, content: bytes, why: str):
        served = service()
        _, text = refusal(served, asked(served, hip.call("DocumentRegister", hip.register(content))))
        assert text.startswith("the document cannot be read 文档无法读取")
        assert why in text

    def test_flag_only_notes_it(self):
        examined = asked(service(documents="flag"), hip.call("DocumentRegister", hip.register(hip.document(inpatient="ZY-78"))))
        assert (examined.judgement, examined.facts["document"]) == (None, "differs: patient")

    def test_off_does_not_look(self):
        examined = asked(service(documents="off"), hip.call("DocumentRegister", hip.register(b"%PDF-1.7")))
        assert (examined.judgement, "document" in examined.facts) == (None, False)


class TestRehearsal:
    """What a channel's tests see of a message, without a server."""

    def rehearsed(self, payload: str) -> tuple[str, Judgement | None]:
        options = SOURCE.defaults(listen=1)
        found, judgement = adapter.rehearse(options, envelope(payload, "1.2"), "urn:meridian:party:his")
        return f"{found.peer} {found.message_type} {found.sender}", judgement

    def test_a_message(self):
        assert self.rehearsed(hip.call("PatientInfoMerge", hip.merge())) == ("urn:meridian:party:his PatientInfoMerge HIS-0001", None)

    def test_a_query_is_taken(self):
        assert self.rehearsed(hip.call("DocumentRetrieve", hip.retrieve()))[1] is None

    def test_what_is_at_fault(self):
        assert self.rehearsed(hip.call("Nothing", hip.merge()))[1].reason == "unknown action Nothing 未知的服务（action）"
        assert "the operation here is" in self.rehearsed("<Other/>")[1].reason
