"""What messages of the hospital platform become in FHIR: who and which it is, as HL7 v2 has it; what each family of services says."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from fhir.resources.R4B.bundle import Bundle
from lxml import etree

from engine import registry
from engine.errors import ConfigError, MappingError, UnsupportedError
from engine.formats.hip import SERVICES
from engine.message import WHOLE
from tests.support.cli import meridian
from tests.support.fhir import body_of, open_repository
from tests.support.hip import call, document, register
from tests.support.hip_files import MAPPED, QUERIES, SCHEMAS, called, sample
from tests.support.soap import envelope, in_file, in_parts, include, kept, part, related

RULES = registry.mapping("hip-to-fhir")
MAPPER = RULES.compile(None)
HL7 = registry.mapping("hl7v2-to-fhir").compile(None)
TABLES = Path(__file__).resolve().parents[2] / "mappings"
OID = "2.16.156.10011"
NS = "urn:meridian:ns:HIS0001"
needs_schemas = pytest.mark.skipif(not SCHEMAS.exists(), reason="the schemas of WS/T 846 are not at ../shared/data")


def entries(body: bytes, mapper: Any = MAPPER) -> list[dict[str, Any]]:
    """The entries of the Bundle, which is valid."""
    made = mapper.map(body).body
    Bundle.model_validate_json(made)
    return list(orjson.loads(made)["entry"])


def mapped(body: bytes, mapper: Any = MAPPER) -> dict[str, list[dict[str, Any]]]:
    """The resources by type, each with its fullUrl as `url`."""
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in entries(body, mapper):
        found.setdefault(entry["resource"]["resourceType"], []).append({**entry["resource"], "fullUrl": entry["fullUrl"]})
    return found


def one(kind: str, body: bytes, mapper: Any = MAPPER) -> dict[str, Any]:
    (resource,) = mapped(body, mapper)[kind]
    return resource


def request(kind: str, body: bytes, mapper: Any = MAPPER) -> str:
    """How the resource of a type is written."""
    (entry,) = (one for one in entries(body, mapper) if one["resource"]["resourceType"] == kind)
    made = entry["request"]
    return f"{made['method']} {made['url']}" + (f" if none {made['ifNoneExist']}" if "ifNoneExist" in made else "")


def site(tmp_path: Path, **tables: str) -> Any:
    """The mapping with a site's tables: `senders="…"`, `codes_step_status="…"` (two words of a file's name with a `-`)."""
    folder = tmp_path / "hip-to-fhir"
    for name, text in tables.items():
        first, _, rest = name.partition("_")
        target = folder / (f"{first}/{rest.replace('_', '-')}.csv" if first in ("codes", "elements") else f"{name}.csv")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")
    return RULES.compile(tmp_path)


def codes(concept: dict[str, Any]) -> list[tuple[str, str]]:
    return [(coding["system"], coding["code"]) for coding in concept["coding"]]


# --- the services ------------------------------------------------------------------------------------------------------------------------


@needs_schemas
@pytest.mark.parametrize("service", MAPPED)
def test_the_samples_are_messages_of_the_standard(service: str) -> None:
    schema = etree.XMLSchema(etree.parse(SCHEMAS / "services" / f"{service}.xsd"))
    assert schema.validate(etree.fromstring(sample(service))), schema.error_log


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_every_service_is_mapped_or_refused_by_name(service: str) -> None:
    if service in MAPPED:
        kinds = set(mapped(called(service))) - {"Provenance", "Device"}
        assert kinds
        return
    body = envelope(f"<HIPMessageServer><action>{service}</action><message>&lt;{SERVICES[service].root}/&gt;</message></HIPMessageServer>")
    with pytest.raises(UnsupportedError, match="a query has nothing that could be mapped") as refused:
        MAPPER.map(body)
    assert refused.value.location == SERVICES[service].root


def test_of_the_69_services_44_change_something() -> None:
    assert (len(SERVICES), len(MAPPED), len(QUERIES)) == (69, 44, 25)


@pytest.mark.parametrize("service", MAPPED)
def test_a_bare_message_is_the_same_as_in_its_call(service: str) -> None:
    """But for the digest of the bytes, and for what only the action tells: whether a visit is a discharge's."""
    bare, whole = ([entry["resource"] for entry in entries(body)] for body in (sample(service), called(service)))
    assert [one for one in bare if one["resourceType"] != "Provenance"] == [one for one in whole if one["resourceType"] != "Provenance"]


def test_a_message_without_namespace_is_read_too() -> None:
    without = sample("PatientInfoRegister").replace(b' xmlns="urn:hl7-org:v3"', b"")
    assert one("Patient", without) == one("Patient", sample("PatientInfoRegister"))


def test_many_comments_before_an_envelope_whose_prefix_is_no_ascii() -> None:
    """An expression that tries every way to part the comments would take days for forty; what comes after them is read by the parser."""
    call = called("PatientInfoRegister").decode()
    content = "<!-- -->" * 23 + call.replace("<s:", "<é:").replace("</s:", "</é:").replace("xmlns:s=", "xmlns:é=")
    began = time.process_time()
    assert one("Patient", content.encode()) == one("Patient", call.encode())
    assert time.process_time() - began < 1
    assert "<é:Envelope" in content


def test_what_only_an_action_tells_may_be_told_in_a_sites_own_words(tmp_path: Path) -> None:
    body = called("InPatientInfoAdd", ("//encounterEvent/code", None), action="S0026")
    mapper = site(tmp_path, actions="action,service\nS0026,InPatientInfoAdd\n")
    assert one("Encounter", body, mapper)["class"]["code"] == "UNK"
    assert one("Provenance", body, mapper)["activity"]["text"] == "message - InPatientInfoAdd"


# --- patients ----------------------------------------------------------------------------------------------------------------------------


def test_a_patient_of_the_register() -> None:
    patient = one("Patient", called("PatientInfoRegister"))
    numbers = {one["system"]: one["value"] for one in patient["identifier"]}
    assert numbers == {
        f"{NS}:PI": "1001",
        f"urn:oid:{OID}.1.3": "110101199003070716",
        f"urn:oid:{OID}.1.19": "9900112233",
    }
    assert patient["identifier"][2]["assigner"]["identifier"] == {"system": f"urn:oid:{OID}.1.5", "value": "12100000400688888X"}
    assert patient["name"] == [{"text": "王小明"}]
    assert (patient["gender"], patient["birthDate"], patient["active"]) == ("male", "1990-03-07", True)
    assert patient["address"] == [{"text": "北京市西城区某街1号"}]
    assert codes(patient["maritalStatus"])[0] == ("http://terminology.hl7.org/CodeSystem/v3-MaritalStatus", "M")
    ethnicity, occupation = patient["extension"]
    assert ethnicity["valueCodeableConcept"]["coding"] == [{"system": f"urn:oid:{OID}.2.3.3.3", "code": "01", "display": "Han"}]
    assert occupation["valueCodeableConcept"]["text"] == "国家公务员"
    employer, kin = patient["contact"]
    assert employer["telecom"] == [{"system": "phone", "value": "13800138000", "use": "work"}]
    assert (kin["name"], codes(kin["relationship"][0])[0][1]) == ({"text": "李梅"}, "SONC")
    coverage = one("Coverage", called("PatientInfoRegister"))
    assert (coverage["type"]["text"], coverage["beneficiary"]["reference"]) == ("城镇职工基本医疗保险", patient["fullUrl"])


def test_an_address_in_parts_and_a_telephone_with_its_use() -> None:
    parts = (("STA", "北京市"), ("CTY", "北京市"), ("CPA", "西城区"), ("STR", "某街"), ("BNR", "1号"), ("ZIP", "100034"))
    address = "".join(f'<part type="{kind}" value="{text}"/>' for kind, text in parts)
    body = sample("PatientInfoRegister").decode()
    body = body.replace('<part value="北京市西城区某街1号"/>', address).replace(
        '<item value="13800138000"/>', '<item value="tel:010-66" use="WP"/>', 1
    )
    patient = one("Patient", body.encode())
    assert patient["address"] == [
        {
            "text": "北京市北京市西城区某街1号",
            "state": "北京市",
            "city": "北京市",
            "district": "西城区",
            "line": ["某街", "1号"],
            "postalCode": "100034",
        }
    ]
    assert patient["telecom"] == [{"system": "phone", "value": "010-66", "use": "work"}]


def test_who_has_died_and_who_was_born_with_others() -> None:
    """Elements that HL7 v3 has for a person, and the standard's schemas have not."""
    more = '<deceasedTime value="20261124"/><multipleBirthOrderNumber value="2"/></patientPerson>'
    patient = one("Patient", sample("PatientInfoRegister").decode().replace("</patientPerson>", more).encode())
    assert (patient["deceasedDateTime"], patient["multipleBirthInteger"]) == ("2026-11-24", 2)


def test_only_the_register_writes_over_a_patient() -> None:
    query = f"identifier={NS}:PI|1001"
    assert request("Patient", called("PatientInfoUpdate")) == f"PUT Patient?{query}"
    for service in ("InPatientInfoAdd", "OrderInfoAdd", "ExamStatusInfoUpdate", "EncounterCardInfoAdd", "OperationScheduleInfoAdd"):
        assert request("Patient", called(service)) == f"POST Patient if none {query}"


def test_the_patient_is_the_one_of_hl7_v2(tmp_path: Path) -> None:
    """Where a site says whose the messages are, and who assigns the numbers, as its HL7 v2 messages do."""
    mapper = site(tmp_path, senders="sender,facility,patients,orders,visits\nHIS0001,ANPING,HIS,HIS,HIS\n")
    v2 = "MSH|^~\\&|HIS|ANPING|M|C|20261126080000||ADT^A01|1|P|2.5.1||||||UNICODE UTF-8\rPID|1||1001^^^HIS^MR||王小明\rPV1|1|I|||||||||||||||||4001^^^HIS\r"
    theirs = {entry["resource"]["resourceType"]: entry for entry in orjson.loads(HL7.map(v2.encode()).body)["entry"]}
    ours = {entry["resource"]["resourceType"]: entry for entry in entries(called("InPatientInfoAdd"), mapper)}
    for kind in ("Patient", "Encounter"):
        assert ours[kind]["fullUrl"] == theirs[kind]["fullUrl"]
    assert ours["Encounter"]["request"] == theirs["Encounter"]["request"]
    assert theirs["Patient"]["request"]["url"] == f"Patient?{ours['Patient']['request']['ifNoneExist']}"


def test_without_that_the_numbers_are_the_senders_own() -> None:
    v2 = (
        "MSH|^~\\&|HIS|HIS0001|M|C|20261126080000||ADT^A01|1|P|2.5.1\rPID|1||1001^^^^PI||Wang\rPV1|1|I||||||D7^^^^^^^^&2.16.156.10011.1.4\r"
    )
    theirs = next(entry for entry in orjson.loads(HL7.map(v2.encode()).body)["entry"] if entry["resource"]["resourceType"] == "Patient")
    assert one("Patient", called("InPatientInfoAdd"))["fullUrl"] == theirs["fullUrl"]


@pytest.mark.parametrize(
    "number", ["110101199003070710", "11010119900307071X", "11010119901307071X", "110101900307071", "11010119900307071", "无身份证"]
)
def test_a_number_that_fails_its_check_is_no_national_one(number: str) -> None:
    """It would make two people one: it is kept in words, and flagged."""
    rendition = MAPPER.map(called("PatientInfoRegister", ("//patientPerson/id/item/@extension", number)))
    patient = next(entry["resource"] for entry in orjson.loads(rendition.body)["entry"] if entry["resource"]["resourceType"] == "Patient")
    assert patient["identifier"][1] == {
        "value": number,
        "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "NNCHN"}]},
    }
    assert [tag["code"] for tag in patient["meta"]["tag"]] == ["identity-card"]
    assert not any(number in key for key in rendition.order_keys)


def test_a_small_x_is_the_same_number() -> None:
    patient = one("Patient", called("PatientInfoRegister", ("//patientPerson/id/item/@extension", "11010519491231002x")))
    assert patient["identifier"][1]["value"] == "11010519491231002X"


@pytest.mark.parametrize(("category", "kind"), [("03", "PPN"), ("05", "DL")])
def test_another_card_is_no_identity_card(category: str, kind: str) -> None:
    body = called("PatientInfoRegister", ("//idCategory/@code", category), ("//patientPerson/id/item/@extension", "E12345678"))
    number = one("Patient", body)["identifier"][1]
    assert number["system"] == f"urn:meridian:ns:identity-document:{category}"
    assert number["type"]["coding"][0]["code"] == kind


@pytest.mark.parametrize("nothing", ["", "-", "无", "/"])
def test_what_people_type_for_nothing_is_nothing(nothing: str) -> None:
    patient = one("Patient", called("PatientInfoRegister", ("//patientPerson/id/item/@extension", nothing)))
    assert len(patient["identifier"]) == 2


def test_a_code_that_no_table_knows_is_flagged_counted_and_kept() -> None:
    body = called("PatientInfoRegister", ("//administrativeGenderCode/@code", "7"), ("//maritalStatusCode/@code", "77"))
    patient = one("Patient", body)
    assert "gender" not in patient
    assert patient["_gender"]["extension"][0]["valueCodeableConcept"]["coding"][0]["code"] == "7"
    assert codes(patient["maritalStatus"]) == [(f"urn:oid:{OID}.2.3.3.5", "77")]
    assert [tag["code"] for tag in patient["meta"]["tag"]] == ["unmapped-code"]
    assert MAPPER.map(body).unmapped == 2


def test_a_merge_retires_the_prior_record_and_leaves_the_other_as_it_is() -> None:
    survivor, prior = (entry for entry in entries(called("PatientInfoMerge")) if entry["resource"]["resourceType"] == "Patient")
    assert survivor["request"]["ifNoneExist"] == f"identifier={NS}:PI|1001"
    assert prior["request"]["url"] == f"Patient?identifier={NS}:PI|1002"
    assert prior["resource"]["active"] is False
    assert prior["resource"]["link"] == [{"type": "replaced-by", "other": {"reference": survivor["fullUrl"]}}]


def test_a_card_for_visits_is_an_account_and_a_number_of_its_patient() -> None:
    patient, card = one("Patient", called("EncounterCardInfoAdd")), one("Account", called("EncounterCardInfoAdd"))
    assert [number["value"] for number in patient["identifier"]] == ["1001", "JZK9001", "110101199003070716"]
    assert card["identifier"] == [{"system": f"urn:oid:{OID}.2.5.1.66", "value": "JZK9001"}]
    assert (card["status"], card["subject"]) == ("active", [{"reference": patient["fullUrl"]}])
    assert card["servicePeriod"] == {"start": "2026-11-25T08:30:00+08:00"}
    returned = called("EncounterCardInfoUpdate", ("//registrationRequest/subject1/patient/statusCode/@code", "retired"))
    assert one("Account", returned)["status"] == "inactive"
    assert "active" not in one("Patient", returned)


# --- organizations and staff -------------------------------------------------------------------------------------------------------------


def test_a_department_is_part_of_a_larger_one() -> None:
    found = mapped(called("OrganizationInfoRegister"))["Organization"]
    assert request_of(found, called("OrganizationInfoRegister")) == [f"PUT Organization?identifier={NS}:department|12"]
    department, parent = found
    assert (department["name"], department["active"], department["partOf"]) == ("心内科", True, {"reference": parent["fullUrl"]})
    assert department["extension"][0]["valuePeriod"]["end"] == "2026-11-25T09:30:00+08:00"


def request_of(found: list[dict[str, Any]], body: bytes) -> list[str]:
    """How those of `found` are written that are put."""
    urls = {one["fullUrl"] for one in found}
    return [f"PUT {one['request']['url']}" for one in entries(body) if one["fullUrl"] in urls and one["request"]["method"] == "PUT"]


def test_staff_is_a_practitioner_in_a_role() -> None:
    body = called("ProviderInfoRegister")
    practitioner = next(one for one in mapped(body)["Practitioner"] if one["identifier"][0]["value"] == "E7")
    assert [number["system"] for number in practitioner["identifier"]] == [f"{NS}:staff", f"urn:oid:{OID}.1.3"]
    role = next(one for one in mapped(body)["PractitionerRole"] if "code" in one)
    assert role["practitioner"]["reference"] == practitioner["fullUrl"]
    assert (role["code"][0]["text"], role["active"]) == ("主任医师", True)


def test_a_role_that_an_order_mentions_is_the_registered_one() -> None:
    """Same person, same department: the same resource, or each order would make another."""
    registered = next(
        entry for entry in entries(called("ProviderInfoRegister", ("//healthCareProvider/id/item/@extension", "12")))
        if entry["resource"]["resourceType"] == "PractitionerRole"
    )  # fmt: skip
    (mentioned,) = (entry for entry in entries(called("OrderInfoAdd")) if entry["resource"]["resourceType"] == "PractitionerRole")
    assert mentioned["fullUrl"] == registered["fullUrl"]
    assert registered["request"]["url"] == f"PractitionerRole?{mentioned['request']['ifNoneExist']}"


# --- visits ------------------------------------------------------------------------------------------------------------------------------


def test_an_admission() -> None:
    found = mapped(called("InPatientInfoAdd"))
    (visit,) = found["Encounter"]
    assert request("Encounter", called("InPatientInfoAdd")) == f"PUT Encounter?identifier={NS}:VN|4001"
    assert (visit["class"]["code"], visit["status"], visit["period"]) == ("IMP", "in-progress", {"start": "2026-11-25"})
    assert visit["participant"][0]["type"][0]["coding"][0]["code"] == "ATND"
    bed = next(place for place in found["Location"] if place["fullUrl"] == visit["location"][0]["location"]["reference"])
    assert bed["physicalType"]["coding"][0]["code"] == "bd"
    kinds = []
    while bed is not None:
        kinds.append(bed["physicalType"]["coding"][0]["code"])
        above = bed.get("partOf", {}).get("reference")
        bed = next((place for place in found["Location"] if place["fullUrl"] == above), None)
    assert kinds == ["bd", "ro", "wa", "wa"]
    (diagnosis,) = found["Condition"]
    assert codes(diagnosis["code"]) == [("http://hl7.org/fhir/sid/icd-10", "I10")]
    assert visit["diagnosis"] == [{"condition": {"reference": diagnosis["fullUrl"]}}]
    assert diagnosis["encounter"]["reference"] == visit["fullUrl"]


@pytest.mark.parametrize(
    ("code", "system"),
    [("K35.9", "http://hl7.org/fhir/sid/icd-10"), ("I10.x00", f"urn:oid:{OID}.2.3.3.11"), ("K35.900", f"urn:oid:{OID}.2.3.3.11")],
)
def test_only_a_code_of_who_is_said_to_be_one(code: str, system: str) -> None:
    body = called("InPatientInfoAdd", ("//observationDx/value/@code", code))
    assert codes(one("Condition", body)["code"]) == [(system, code)]


def test_a_discharge_ends_the_stay_that_the_admission_began() -> None:
    stay, left = (one("Encounter", called(service)) for service in ("InPatientInfoAdd", "DischargeInfoUpdate"))
    assert left["fullUrl"] == stay["fullUrl"]
    assert (left["status"], left["period"]) == ("finished", {"end": "2026-11-25T09:30:00+08:00"})
    assert left["length"] == {"value": 3, "unit": "天", "system": "http://unitsofmeasure.org", "code": "d"}
    assert left["participant"][0]["type"][0]["coding"][0]["code"] == "DIS"
    assert left["location"][0]["status"] == "completed"


@pytest.mark.parametrize(("word", "status"), [("cancelled", "cancelled"), ("nullified", "entered-in-error"), ("completed", "finished")])
def test_a_visit_that_is_withdrawn_is_not_a_finished_one(word: str, status: str) -> None:
    """An end, and who let the patient go, may stand there all the same."""
    stay = called("DischargeInfoUpdate", ("//encounterEvent/statusCode/@code", word))
    assert one("Encounter", stay)["status"] == status


def test_a_transfer_is_a_part_of_the_stay_and_overwrites_nothing() -> None:
    stay, transfer = (entry for entry in entries(called("TransferInfoAdd")) if entry["resource"]["resourceType"] == "Encounter")
    assert stay["fullUrl"] == one("Encounter", called("InPatientInfoAdd"))["fullUrl"]
    assert stay["request"]["method"] == "POST"
    body = transfer["resource"]
    assert (body["partOf"], body["period"]) == ({"reference": stay["fullUrl"]}, {"start": "2026-11-25T08:30:00+08:00"})
    assert [place["status"] for place in body["location"]] == ["active", "completed"]
    assert body["location"][0]["location"] != body["location"][1]["location"]
    again = next(entry for entry in entries(called("TransferInfoUpdate")) if "partOf" in entry["resource"])
    assert again["request"] == transfer["request"]


def test_number_and_count_of_visits_find_the_stay_too() -> None:
    """Without the visit's own number; the number of the stay alone may be several visits'."""
    stay = one("Encounter", called("InPatientInfoAdd"))
    key = next(number for number in stay["identifier"] if number["system"] == "urn:meridian:key")
    numbered = called("TransferInfoAdd", (f"//encounterEvent/id/item[@root='{OID}.2.5.1.9']", None))
    (mentioned, _) = (entry for entry in entries(numbered) if entry["resource"]["resourceType"] == "Encounter")
    assert mentioned["request"]["ifNoneExist"] == f"identifier=urn:meridian:key|{key['value']}"


def test_a_visit_of_which_only_a_number_is_said_is_no_resource() -> None:
    found = mapped(called("ExamAppInfoAdd"))
    assert "Encounter" not in found
    assert found["ServiceRequest"][0]["encounter"]["identifier"]["value"] == "2001"


@pytest.mark.parametrize(("code", "made"), [("1", "AMB"), ("2", "EMER"), ("9", "OTH")])
def test_an_outpatient_visit(code: str, made: str) -> None:
    visit = one("Encounter", called("OutPatientInfoAdd", ("//encounterEvent/code/@code", code)))
    assert (visit["class"]["code"], visit["status"]) == (made, "unknown")


# --- orders ------------------------------------------------------------------------------------------------------------------------------


def test_an_order_of_a_drug() -> None:
    body = called("OrderInfoAdd")
    order = one("MedicationRequest", body)
    assert request("MedicationRequest", body) == f"PUT MedicationRequest?identifier={NS}:order|6001"
    assert (order["status"], order["intent"], order["authoredOn"]) == ("active", "order", "2026-11-25T08:30:00+08:00")
    assert order["medicationCodeableConcept"]["text"] == "阿司匹林肠溶片"
    (dose,) = order["dosageInstruction"]
    assert dose["doseAndRate"] == [{"doseQuantity": {"value": 2.5, "unit": "mg", "system": "http://unitsofmeasure.org", "code": "mg"}}]
    assert (dose["route"]["text"], dose["timing"]["code"]["text"]) == ("口服", "每日一次")
    assert dose["timing"]["repeat"]["boundsPeriod"] == {"start": "2026-11-25T08:00:00+08:00", "end": "2026-11-28T08:00:00+08:00"}
    assert order["category"][0]["text"] == "长期医嘱"
    assert order["dispenseRequest"]["quantity"]["unit"] == "盒"
    assert order["basedOn"] == [{"identifier": {"system": f"{NS}:order", "value": "6000"}}]
    assert order["note"] == [{"text": "饭后服"}]
    assert order["encounter"]["reference"] == one("Encounter", called("InPatientInfoAdd"))["fullUrl"]


@pytest.mark.parametrize(("kind", "snomed"), [("03", "108252007"), ("05", "277132007"), ("08", "116859006")])
def test_an_order_of_anything_else(kind: str, snomed: str) -> None:
    order = one("ServiceRequest", called("OrderInfoAdd", ("//substanceAdministrationRequest/code/@code", kind)))
    assert codes(order["category"][0])[0] == ("http://snomed.info/sct", snomed)
    assert order["code"]["text"] == "阿司匹林肠溶片"
    assert "MedicationRequest" not in mapped(called("OrderInfoAdd", ("//substanceAdministrationRequest/code/@code", kind)))


def test_a_dose_keeps_its_digits() -> None:
    made = MAPPER.map(called("OrderInfoAdd", ("//doseQuantity/@value", "2.50"))).body
    assert b'"doseQuantity":{"value":2.50,' in made


def test_a_laboratory_application() -> None:
    found = mapped(called("ExamAppInfoAdd"))
    (order,), (specimen,), (reason,) = found["ServiceRequest"], found["Specimen"], found["Condition"]
    assert order["identifier"][0]["value"] == "6001"
    assert (order["requisition"]["system"], order["requisition"]["value"]) == (f"{NS}:application", "5001")
    assert codes(order["category"][0]) == [("http://snomed.info/sct", "108252007")]
    assert (order["code"]["text"], order["priority"]) == ("血糖", "urgent")
    assert order["specimen"] == [{"reference": specimen["fullUrl"]}]
    assert order["reasonReference"] == [{"reference": reason["fullUrl"]}]
    assert (specimen["identifier"][0]["system"], specimen["type"]["text"]) == (f"{NS}:specimen", "血清")


def test_an_application_withdrawn_is_the_same_order_revoked() -> None:
    body = called("CheckAppInfoUpdate", ("//subject/observationRequest/statusCode/@code", "inactive"))
    order = one("ServiceRequest", body)
    assert order["status"] == "revoked"
    assert order["fullUrl"] == one("ServiceRequest", called("CheckAppInfoAdd"))["fullUrl"]
    assert (order["bodySite"][0]["text"], order["code"]["text"]) == ("胸部", "胸部CT平扫")


def test_items_without_a_number_are_told_apart_by_application_and_code() -> None:
    first = request("ServiceRequest", called("OperationAppInfoAdd"))
    assert first == request("ServiceRequest", called("OperationAppInfoUpdate"))
    assert first != request("ServiceRequest", called("OperationAppInfoAdd", ("//component2/procedureRequest/code/@code", "47.01")))
    assert first != request("ServiceRequest", called("OperationAppInfoAdd", ("//procedureRequest/id/item/@extension", "5002")))


def test_a_sites_codes_of_tests_go_beside_its_own(tmp_path: Path) -> None:
    mapper = site(tmp_path, codes_services="code,to,system,display\nGLU,2345-7,http://loinc.org,Glucose\n")
    order = one("ServiceRequest", called("ExamAppInfoAdd"), mapper)
    assert codes(order["code"]) == [("http://loinc.org", "2345-7"), ("urn:meridian:codes:HIS0001:L", "GLU")]


def test_tissue_of_a_pathology_application() -> None:
    found = mapped(called("PathologyAppInfoAdd"))
    (specimen,) = found["Specimen"]
    assert specimen["identifier"][0]["value"] == "7001"
    assert specimen["collection"]["bodySite"]["text"] == "胃黏膜"
    assert specimen["container"][0]["additiveCodeableConcept"]["text"]
    assert found["ServiceRequest"][0]["specimen"] == [{"reference": specimen["fullUrl"]}]
    assert {"text": "病历摘要"} in found["ServiceRequest"][0]["note"]


def test_an_operation_and_who_does_it() -> None:
    order = one("ServiceRequest", called("OperationAppInfoAdd"))
    assert codes(order["code"]) == [(f"urn:oid:{OID}.2.3.3.12", "47.09")]
    assert order["occurrenceDateTime"] == "2026-11-25T08:30:00+08:00"
    assert order["performer"] == [order["requester"]]


def test_an_application_for_blood_says_what_is_known_of_the_patient() -> None:
    found = mapped(called("BloodTransAppInfoAdd"))
    (order,), (fact,) = found["ServiceRequest"], found["Observation"]
    assert codes(order["code"]) == [("http://snomed.info/sct", "116859006")]
    assert order["supportingInfo"] == [{"reference": fact["fullUrl"]}]
    assert (fact["code"]["text"], fact["valueCodeableConcept"]["text"]) == ("血型", "A型")


@pytest.mark.parametrize(
    ("kind", "value", "element", "made"),
    [
        ("BL", "true", "valueBoolean", True),
        ("PQ", "110.0", "valueQuantity", {"value": 110.0}),
        ("ST", "曾输血", "valueString", "曾输血"),
    ],
)
def test_a_fact_has_the_type_that_it_says(kind: str, value: str, element: str, made: Any) -> None:
    name = "//organizer/component/observation/value"
    body = called(
        "BloodTransAppInfoAdd",
        (f"{name}/@code", None), (f"{name}/displayName", None), (f"{name}/@value", value),
        (f"{name}/@{{http://www.w3.org/2001/XMLSchema-instance}}type", kind),
    )  # fmt: skip
    assert one("Observation", body)[element] == made


# --- how far it has come -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "status"), [("SC15", "accepted"), ("SC19", "in-progress"), ("SC21", "completed"), ("SC16", "cancelled")])
def test_a_step_of_an_examination_is_the_state_of_its_task(code: str, status: str) -> None:
    body = called("CheckStatusInfoUpdate", ("//processStep/code/@code", code))
    task = one("Task", body)
    assert (task["status"], task["businessStatus"]["coding"][0]["code"]) == (status, code)
    assert task["focus"]["identifier"]["value"] == "5001"
    assert task["fullUrl"] == one("Task", called("CheckStatusInfoUpdate"))["fullUrl"]
    assert "ServiceRequest" not in mapped(body)


def test_a_specimen_in_the_laboratory() -> None:
    found = mapped(called("ExamStatusInfoUpdate", ("//modeCode/@code", "SE07")))
    assert found["Task"][0]["status"] == "rejected"
    assert found["Task"][0]["focus"]["identifier"] == found["Task"][0]["groupIdentifier"]
    assert found["Specimen"][0]["fullUrl"] == one("Specimen", called("ExamAppInfoAdd"))["fullUrl"]


def test_the_state_of_an_order_is_of_the_order_where_its_number_is_there() -> None:
    task = one("Task", called("OrderFillerStatusInfoUpdate"))
    assert (task["focus"]["identifier"]["value"], task["groupIdentifier"]["value"]) == ("6001", "5001")
    assert task["lastModified"] == "2026-11-25T08:30:00+08:00"


def test_a_site_says_what_its_steps_mean(tmp_path: Path) -> None:
    """Shipped is only what the standard has codes for; until then the step is in words, flagged and counted."""
    body = called("OperationStatusInfoUpdate")
    assert MAPPER.map(body).unmapped == 1
    assert "status" not in one("Task", body)
    mapper = site(tmp_path, codes_step_status="code,to\n2,in-progress\n")
    assert one("Task", body, mapper)["status"] == "in-progress"
    assert mapper.map(body).unmapped == 0


# --- appointments ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "status"), [("0", "booked"), ("1", "cancelled")])
def test_an_outpatient_appointment(code: str, status: str) -> None:
    body = called("OutPatientAppointStatusInfoUpdate", ("//assignedDevice/code/@code", code))
    appointment = one("Appointment", body)
    assert appointment["status"] == status
    assert (appointment["start"], appointment["end"]) == ("2026-11-25T08:30:00+08:00", "2026-11-25T09:30:00+08:00")
    assert appointment["slot"][0]["identifier"]["value"] == "SCH1"
    actors = [entry["actor"]["reference"] for entry in appointment["participant"]]
    assert actors == [mapped(body)["Patient"][0]["fullUrl"], mapped(body)["Practitioner"][0]["fullUrl"]]


def test_an_appointment_without_its_end_says_so() -> None:
    body = called("OperationScheduleInfoAdd")
    appointment = one("Appointment", body)
    assert appointment["start"] == "2026-11-25T08:30:00+08:00"
    assert appointment["_end"]["extension"][0]["valueCode"] == "unknown"
    assert appointment["basedOn"][0]["identifier"]["value"] == "5001"
    assert one("Device", called("OperationScheduleInfoAdd", ("//sender", None)))["deviceName"][0]["name"] == "手术间一"


def test_an_appointment_for_an_examination() -> None:
    body = called("CheckAppointStatusInfoUpdate", ("//actAppointment/statusCode/@code", "inactive"))
    appointment = one("Appointment", body)
    assert appointment["status"] == "cancelled"
    assert appointment["identifier"] == [{"system": f"{NS}:appointment", "value": "YY1"}]
    assert [order["identifier"]["value"] for order in appointment["basedOn"]] == ["5001"]
    assert one("Encounter", body)["class"]["code"] == "AMB"


def test_a_doctors_session_and_its_slots() -> None:
    body = called("SourceAndScheduleInfoAdd", ("//remainNumber/@value", "0"))
    schedule, slot = one("Schedule", body), one("Slot", body)
    assert (schedule["identifier"][0]["value"], schedule["serviceType"][0]["text"]) == ("SCH1", "普通号")
    assert {entry["reference"] for entry in schedule["actor"]} <= {
        one["fullUrl"] for kind in ("Practitioner", "Location") for one in mapped(body)[kind]
    }
    assert (slot["status"], slot["schedule"]["reference"]) == ("busy", schedule["fullUrl"])
    assert [entry["valueInteger"] for entry in slot["extension"]] == [10, 0]
    assert one("Slot", called("SourceAndScheduleInfoUpdate"))["status"] == "free"
    assert request("Slot", body) == request("Slot", called("SourceAndScheduleInfoUpdate"))


# --- terminology and documents -----------------------------------------------------------------------------------------------------------


def test_a_value_set_is_a_code_system() -> None:
    body = called("TerminologyRegister", ("//valueSetItems/statusCode/@code", "0"))
    system = one("CodeSystem", body)
    assert (system["url"], system["version"], system["title"], system["status"]) == (f"urn:oid:{OID}.2.3.3.4", "2003", "性别代码", "active")
    assert system["concept"] == [{"code": "1", "display": "男性", "property": [{"code": "inactive", "valueBoolean": True}]}]
    again = request("CodeSystem", called("TerminologyUpdate"))
    assert request("CodeSystem", body) == again
    assert again != request("CodeSystem", called("TerminologyUpdate", ("//valueSet/version/@code", "2022")))


def test_a_value_set_without_an_oid_is_the_senders() -> None:
    system = one("CodeSystem", called("TerminologyUpdate", ("//valueSet/id/@extension", "VS-7")))
    assert system["url"] == "urn:meridian:codes:HIS0001:99VS-7"


def test_a_document_is_the_patients_that_the_message_names() -> None:
    found = mapped(called("DocumentRegister"))
    (patient,), (reference,) = found["Patient"], found["DocumentReference"]
    assert [number["value"] for number in patient["identifier"]][:2] == ["P-100", "ZY-77"]
    assert reference["subject"]["reference"] == found["Composition"][0]["subject"]["reference"] == patient["fullUrl"]
    assert reference["type"]["coding"][0]["code"] == "C0007"
    assert reference["context"]["period"] == {"start": "2026-02-28"}


def test_a_document_that_is_another_is_refused() -> None:
    with pytest.raises(MappingError, match="another document") as refused:
        MAPPER.map(called("DocumentRegister", ("//clinicalDocument/id/item/@extension", "ffffffff-1111-4e0b-9d55-2f7d8c1b9e10")))
    assert refused.value.location.endswith("/ClinicalDocument/id")


def test_what_is_no_clinical_document_is_attached_as_it_came() -> None:
    body = register(b"%PDF-1.7 ...").replace("<translation/>", "<translation>PDF</translation>").encode()
    found = mapped(body)
    (reference,) = found["DocumentReference"]
    assert reference["content"][0]["attachment"]["contentType"] == "application/pdf"
    assert reference["content"][0]["attachment"]["title"] == "检验报告"
    assert reference["subject"]["reference"] == found["Patient"][0]["fullUrl"]


def test_a_document_in_a_part_of_its_own_is_the_same(tmp_path: Path) -> None:
    """MTOM: the element refers to a part; a big body is read from its file."""
    text = register().partition("?>")[2]
    encoded = text.partition('<originalText value="')[2].partition('"')[0]
    inline = text.replace(f'<originalText value="{encoded}"/>', f"<originalText>{include('cid:doc@a')}</originalText>")
    root = envelope(f"<HIPMessageServer><action>DocumentRegister</action><message>{inline}</message></HIPMessageServer>")
    body = kept(related(), in_parts(root, part(document(), "doc@a", "text/xml")))
    for given in (body, in_file(tmp_path, body)):
        assert one("DocumentReference", given) == one("DocumentReference", called("DocumentRegister"))
    _, lineage = MAPPER.explain(body)
    assert any(line.source.endswith("storageCode/originalText/ClinicalDocument/id") for line in lineage)


def test_a_document_too_big_for_memory_in_the_message_itself(tmp_path: Path) -> None:
    """In a call and bare: what the mapper is given is the beginning, and where the whole lies."""
    scan = b"%PDF-1.7 " + bytes(WHOLE)
    for body in (envelope(call("DocumentRegister", register(scan).partition("?>")[2])), register(scan).encode()):
        attachment = one("DocumentReference", in_file(tmp_path, body))["content"][0]["attachment"]
        assert attachment["size"] == len(scan)


# --- times, lineage, tables --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "made"),
    [("2026", "2026"), ("202611", "2026-11"), ("20261125", "2026-11-25"), ("202611250830", "2026-11-25T08:30:00+08:00")],
)
def test_a_time_keeps_its_precision(sent: str, made: str) -> None:
    assert one("Encounter", called("OutPatientInfoAdd", ("//effectiveTime/low/@value", sent)))["period"] == {"start": made}


def test_a_time_that_does_not_exist_is_not_invented() -> None:
    assert "period" not in one("Encounter", called("OutPatientInfoAdd", ("//effectiveTime/low/@value", "20261399")))
    patient = one("Patient", called("PatientInfoRegister", ("//birthTime/@value", "19900231")))
    assert "birthDate" not in patient
    assert patient["_birthDate"]["extension"][0]["valueString"] == "19900231"


def test_a_site_is_in_its_own_time_zone(tmp_path: Path) -> None:
    (tmp_path / "hl7v2-to-fhir").mkdir()
    (tmp_path / "hl7v2-to-fhir" / "zones.csv").write_text("facility,offset\nHIS0001,+06:00\n")
    assert one("Appointment", called("OperationScheduleInfoAdd"), RULES.compile(tmp_path))["start"].endswith("+06:00")


def test_explain_names_path_and_row() -> None:
    rendition, lineage = MAPPER.explain(called("InPatientInfoAdd"))
    made = {line.target: line for line in lineage if line.target}
    found = orjson.loads(rendition.body)["entry"]
    number = next(number for number, entry in enumerate(found) if entry["resource"]["resourceType"] == "Encounter")
    line = made[f"entry[{number}].Encounter.class.code"]
    assert line.source == "PRPA_IN400001UV/controlActProcess/subject/encounterEvent/code"
    assert line.rule == "Encounter row class, codes visit-class"
    condition = next(number for number, entry in enumerate(found) if entry["resource"]["resourceType"] == "Condition")
    assert made[f"entry[{condition}].Condition.code.coding[0].code"].source.endswith("reason/observationDx/value")
    assert made[f"entry[{number}].Encounter.diagnosis[0].condition.reference"].rule == "routes row diagnosis"
    lost = {line.source.rpartition("/controlActProcess/")[2]: line.rule for line in lineage if not line.target}
    assert lost["subject/encounterEvent/location/statusCode/@code"] == "not carried"
    assert lost["PRPA_IN400001UV/processingCode/@code"] == "not carried: protocol"


@pytest.mark.parametrize(
    ("table", "text", "fault"),
    [
        ("actions", "action,service\nS1,InPatientInfoAd\n", "actions.csv:2: there is no service 'InPatientInfoAd'"),
        ("routes", "id,services,context,resource,map,write\nx,orders,//a,Task,Task,put\n", "routes.csv:2: 'orders' is no service"),
        ("routes", "id,services,context,resource,map,write\nx,order,//a,Task,Tusk,put\n", "routes.csv:2: row x: there is no map 'Tusk'"),
        ("routes", "id,services,context,resource,map,write\nx,order,//a,Task,Task,push\n", "routes.csv:2: row x: write is"),
        ("elements_Task", "id,source,target,map\nx,a[1,status,string\n", "elements/Task.csv:2: row x: 'a[1' is not a path"),
        ("elements_Task", "id,source,target,map,codes\nx,a,status,code,\n", "elements/Task.csv:2: row x: the map 'code' needs"),
        ("elements_Tusk", "id,source\n", "is no table of this mapping"),
    ],
)
def test_a_fault_in_a_sites_table_is_named(tmp_path: Path, table: str, text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as refused:
        site(tmp_path, **{table: text})
    assert fault in str(refused.value).replace(str(tmp_path), "")


def test_numbers_have_the_systems_of_documents() -> None:
    """What cda-to-fhir finds in a document and what a message says of it are the same patient, specimen, doctor."""
    tables = []
    for mapping in ("hip_to_fhir", "cda_to_fhir"):
        lines = (TABLES / mapping / "tables" / "identifiers.csv").read_text("utf-8").splitlines()
        tables.append({row["root"]: row["system"] for row in csv.DictReader(line for line in lines if not line.startswith("#"))})
    ours, theirs = tables
    differing = {root for root in ours.keys() & theirs.keys() if ours[root] != theirs[root]}
    assert differing <= {f"{OID}.1.24"}, "an application is no order: a message has numbers of both"


# --- the platform ------------------------------------------------------------------------------------------------------------------------


def test_the_embedded_repository_takes_every_service_and_knows_the_same_ones_again(tmp_path: Path) -> None:
    repository = open_repository(tmp_path / "r.db")
    places: dict[str, set[str]] = {}
    for service in [*MAPPED, *MAPPED]:
        found = entries(called(service))
        (answer,) = repository.apply([("", MAPPER.map(called(service)).body)])
        for entry, said in zip(found, body_of(answer)["entry"], strict=True):
            assert said["response"]["status"][:3] in ("200", "201"), (service, said)
            places.setdefault(entry["fullUrl"], set()).add(said["response"]["location"].partition("/_history")[0])
    assert {url: locations for url, locations in places.items() if len(locations) > 1} == {}
    repository.close()


def test_convert_takes_a_call_and_a_bare_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = meridian(monkeypatch, capfd)
    for name, body in (("call.xml", called("PatientInfoRegister")), ("bare.xml", sample("PatientInfoRegister"))):
        (tmp_path / name).write_bytes(body)
        done = run("convert", "--mapping", "hip-to-fhir", str(tmp_path / name))
        assert done.code == 0, done.err
        assert orjson.loads(done.out)["entry"][0]["resource"]["gender"] == "male"
