"""What cda-to-fhir makes of documents: of WS/T 500, of C-CDA, and within an envelope that another mapping opens."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any

import orjson
import pytest
from fhir.resources.R4B.bundle import Bundle

from engine import registry
from engine.errors import MappingError, UnsupportedError
from engine.formats.cda import Claimed, Code, Id
from engine.message import Excerpt
from mappings.cda_to_fhir import CdaTransaction, Described, documents
from mappings.cda_to_fhir.attachment import INLINE
from mappings.hl7v2_to_fhir.bundle import bundle
from tests.support import cda

CCD = cda.continuity_of_care()


def mapped(document: bytes, site: Path | None = None) -> dict[str, list[dict[str, Any]]]:
    """The resources of a document by their types; the Bundle is valid R4."""
    made = orjson.loads(registry.mapping("cda-to-fhir").compile(site).map(document).body)
    Bundle.model_validate(made)
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in made["entry"]:
        found.setdefault(entry["resource"]["resourceType"], []).append({**entry["resource"], "@url": entry["request"]["url"]})
    return found


def codes(concept: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one.get("system", ""), one["code"]) for one in concept.get("coding", ())]


def by_code(resources: list[dict[str, Any]], code: str) -> dict[str, Any]:
    return next(one for one in resources if any(code == number for _, number in codes(one["code"])))


# --- WS/T 500 -------------------------------------------------------------------------------------------


def test_the_document_is_kept_with_size_and_hash() -> None:
    document = cda.clinic_record()
    found = mapped(document)
    (reference,), (binary,) = found["DocumentReference"], found["Binary"]
    attachment = reference["content"][0]["attachment"]
    assert b64decode(binary["data"]) == document
    assert attachment["size"] == len(document)
    assert b64decode(attachment["hash"]) == sha1(document).digest()
    assert attachment["contentType"] == binary["contentType"] == "text/xml"
    assert {"system": "urn:meridian:sha256", "value": sha256(document).hexdigest()} in reference["identifier"]
    assert reference["masterIdentifier"] in reference["identifier"]  # not every search by identifier looks at the master's
    assert binary["@url"] == f"Binary/{binary['id']}"
    assert reference["date"] == "2026-03-14T09:26:53+08:00"
    assert codes(reference["securityLabel"][0]) == [("http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "N")]


def test_a_big_original_goes_by_its_digest(tmp_path: Path) -> None:
    """Beyond the limit size, hash and digest; the bytes stay in the store. A file is read piece by piece."""
    long = cda.wst("C0038", "日常病程记录", cda.section("8648-8", "Hospital Course", text=f"<text>{'病程' * (INLINE // 6)}平稳</text>"))
    assert len(long) > INLINE
    found = mapped(long)
    attachment = found["DocumentReference"][0]["content"][0]["attachment"]
    assert "Binary" not in found
    assert attachment["url"] == f"urn:sha256:{sha256(long).hexdigest()}"
    assert (attachment["size"], b64decode(attachment["hash"])) == (len(long), sha1(long).digest())
    (tmp_path / "body").write_bytes(long)
    mapper = registry.mapping("cda-to-fhir").compile(None)
    assert mapper.map(Excerpt(long[:1000], sha256(long).hexdigest(), tmp_path / "body")) == mapper.map(long)


def test_names_and_codes_of_one_diagnosis_are_one_condition() -> None:
    """Western and Chinese medicine stand in one group: two diagnoses, not one with two codes."""
    western, chinese = mapped(cda.clinic_record())["Condition"]
    assert western["code"]["text"] == "不稳定型心绞痛"
    assert codes(western["code"]) == [("urn:oid:2.16.156.10011.2.3.3.11.3", "I20.000")]
    assert codes(chinese["code"]) == [("urn:oid:2.16.156.10011.2.3.3.14", "BNX020")]
    assert codes(western["category"][0])[0][1] == "encounter-diagnosis"


def test_two_diagnoses_in_a_row_stay_two() -> None:
    group = cda.cluster(
        cda.de("DE05.01.025.00", "主要诊断名称", cda.st("肺炎")),
        cda.de("DE05.01.024.00", "主要诊断编码", cda.cd("J18.900", "肺炎")),
        cda.de("DE05.01.025.00", "其他诊断名称", cda.st("高血压")),
        cda.de("DE05.01.024.00", "其他诊断编码", cda.cd("I10.x00", "高血压")),
    )
    found = mapped(cda.wst("C0032", "住院病案首页", cda.section("11535-2", "Discharge Diagnosis", group)))["Condition"]
    assert [(one["code"]["text"], codes(one["code"])[0][1]) for one in found] == [("肺炎", "J18.900"), ("高血压", "I10.x00")]


@pytest.mark.parametrize(
    ("flag", "text", "code", "words"),
    [
        ("true", "青霉素过敏", [], "青霉素过敏"),
        ("false", "", [("http://snomed.info/sct", "716186003")], None),
        ("false", "无", [("http://snomed.info/sct", "716186003")], "无"),
        ("true", "否认药物过敏史", [("http://snomed.info/sct", "409137002")], "否认药物过敏史"),
        ("false", "头孢过敏", [], "头孢过敏"),
        ("true", "", [], "过敏史标志"),
    ],
)
def test_allergies_told_in_words(flag: str, text: str, code: list[tuple[str, str]], words: str | None) -> None:
    """What names an allergen is never turned into its absence, whatever the flag says."""
    inner = cda.part(cda.de("DE05.01.022.00", "过敏史", cda.st(text))) if text else ""
    told = cda.de("DE02.10.023.00", "过敏史标志", f'<value xsi:type="BL" value="{flag}"/>', inner)
    (allergy,) = mapped(cda.wst("C0002", "门急诊病历", cda.section("48765-2", "Allergies", cda.entry(told))))["AllergyIntolerance"]
    assert (codes(allergy["code"]), allergy["code"].get("text")) == (code, words)
    assert codes(allergy["clinicalStatus"])[0][1] == "active"


def test_a_flag_that_nobody_can_read_stays_an_observation() -> None:
    """A code 2 without a name is yes in one value set and no in another."""
    told = cda.de("DE02.10.023.00", "过敏史标志", '<value xsi:type="CD" code="2" codeSystem="2.16.156.10011.2.3.2.1"/>')
    found = mapped(cda.wst("C0002", "门急诊病历", cda.section("48765-2", "Allergies", cda.entry(told))))
    assert "AllergyIntolerance" not in found
    assert codes(found["Observation"][0]["valueCodeableConcept"])[0][1] == "2"


def test_a_prescription_asks_for_what_it_says() -> None:
    found = mapped(cda.prescription())
    (request,) = found["MedicationRequest"]
    assert request["intent"] == "order"
    assert request["medicationCodeableConcept"] == {"text": "阿莫西林"}
    (dosage,) = request["dosageInstruction"]
    assert dosage["doseAndRate"] == [{"doseQuantity": {"value": 0.25, "unit": "g", "system": "http://unitsofmeasure.org", "code": "g"}}]
    assert dosage["timing"] == {"code": {"text": "3"}}
    assert codes(dosage["route"]) == [("urn:oid:2.16.156.10011.2.3.1.158", "1")]
    assert request["dispenseRequest"]["quantity"]["value"] == 5.25
    assert [note["text"] for note in request["note"]][1] == "药物规格: 0.25g×24片"
    (price,) = found["Observation"]
    assert price["valueQuantity"] == {"value": 36.5, "unit": "元", "system": "urn:iso:std:iso:4217", "code": "CNY"}
    assert found["DocumentReference"][0]["context"]["related"][0]["identifier"]["value"] == "CF1"


def test_value_unit_and_finding_of_a_test_are_one_observation() -> None:
    found = mapped(cda.laboratory_report())
    glucose = next(one for one in found["Observation"] if one["code"].get("text") == "血清葡萄糖")
    assert glucose["valueQuantity"] == {"value": 7.8, "unit": "mmol/L", "system": "http://unitsofmeasure.org", "code": "mmol/L"}
    assert codes(glucose["interpretation"][0])[0][1] == "2"
    assert glucose["component"][0]["valueString"] == "血清"
    assert codes(glucose["category"][0])[0][1] == "laboratory"
    assert len(found["Observation"]) == 2
    (report,) = found["DiagnosticReport"]
    assert report["@url"].endswith("report|JY2026031401")
    assert report["basedOn"][0]["identifier"]["value"] == "SQ778"
    assert report["specimen"][0]["identifier"]["value"] == "BB55"
    assert len(report["result"]) == 2
    assert b'"value":7.8000' in registry.mapping("cda-to-fhir").compile(None).map(cda.laboratory_report()).body  # digits are kept


def test_numbers_that_are_not_the_patients_are_not_in_patient() -> None:
    """Order, report and specimen stand beside the patient's numbers in the header."""
    (patient,) = mapped(cda.laboratory_report())["Patient"]
    assert [one["value"] for one in patient["identifier"]] == ["ZY0000123", "110101198001011232"]
    assert patient["identifier"][1]["system"] == "urn:oid:2.16.156.10011.1.3"
    assert patient["@url"] == "Patient"


def test_vital_signs_have_loinc_codes_and_ucum_units() -> None:
    found = mapped(cda.vital_signs())["Observation"]
    expected = {"8310-5": (36.8, "Cel"), "8867-4": (78, "/min"), "8480-6": (128, "mm[Hg]"), "8462-4": (82, "mm[Hg]")}
    for code, (value, unit) in expected.items():
        one = by_code(found, code)
        assert (one["valueQuantity"]["value"], one["valueQuantity"]["code"]) == (value, unit)
        assert codes(one["category"][0])[0][1] == "vital-signs"
        assert len(codes(one["code"])) == 2  # the data element stays beside LOINC


def test_a_new_version_replaces_the_one_before() -> None:
    found = mapped(cda.discharge_summary())
    (reference,), (composition,) = found["DocumentReference"], found["Composition"]
    assert reference["docStatus"] == composition["status"] == "amended"
    assert reference["relatesTo"][0]["code"] == composition["relatesTo"][0]["code"] == "replaces"
    assert reference["relatesTo"][0]["target"]["identifier"]["value"] == "D0000000000000000000000000000C0052"
    first = mapped(cda.discharge_summary(parent="", version=""))
    assert "relatesTo" not in first["DocumentReference"][0]
    assert first["DocumentReference"][0]["docStatus"] == "final"


def test_where_a_patient_lies_is_the_place_that_hl7_v2_names() -> None:
    found = mapped(cda.discharge_summary())
    names = {one["name"] for one in found["Location"]}
    assert {"12", "306", "心内科一病区", "12110000400686421X"} <= names
    (encounter,) = found["Encounter"]
    assert encounter["status"] == "finished"
    assert encounter["period"] == {"start": "2026-03-10T08:30:00+08:00", "end": "2026-03-14T10:00:00+08:00"}
    assert found["Procedure"][0]["note"][0]["text"] == "手术切口类别代码: 0类切口"
    assert found["Procedure"][0]["performedDateTime"] == "2026-03-12T10:15:00+08:00"


def test_the_same_patient_as_over_hl7_v2(tmp_path: Path) -> None:
    """A site says in which system its inpatient numbers are over HL7 v2, and whose the documents are: one Patient, found by the same query."""
    (tmp_path / "cda-to-fhir").mkdir()
    (tmp_path / "cda-to-fhir/identifiers.csv").write_text(
        "root,role,type,system\n2.16.156.10011.1.12,patient,MR,urn:meridian:ns:{facility}:HIS\n"
    )
    (tmp_path / "hl7v2-to-fhir").mkdir()
    (tmp_path / "hl7v2-to-fhir/facilities.csv").write_text("sent,facility\n12110000400686421X,ANPING\n")
    (patient,) = mapped(cda.vital_signs(), tmp_path)["Patient"]
    v2 = b"MSH|^~\\&|HIS|ANPING|M|C|20260314||ADT^A01^ADT_A01|1|P|2.5\rEVN||20260314\rPID|1||ZY0000123^^^HIS^MR||Zhao^Yiming||19800101|M\rPV1|1|I\r"
    other = orjson.loads(registry.mapping("hl7v2-to-fhir").compile(tmp_path).map(v2).body)
    theirs = next(entry for entry in other["entry"] if entry["resource"]["resourceType"] == "Patient")
    made = orjson.loads(registry.mapping("cda-to-fhir").compile(tmp_path).map(cda.vital_signs()).body)
    ours = next(entry for entry in made["entry"] if entry["resource"]["resourceType"] == "Patient")
    assert ours["fullUrl"] == theirs["fullUrl"]
    assert theirs["request"]["url"] == f"Patient?{ours['request']['ifNoneExist']}"
    assert patient["identifier"][0]["system"] == "urn:meridian:ns:ANPING:HIS"


def test_numbers_of_two_hospitals_are_kept_apart() -> None:
    """The national root of inpatient numbers is the same everywhere."""
    here, there = cda.vital_signs(), cda.vital_signs().replace(b"12110000400686421X", b"52220000400686421Y")
    first, second = (mapped(document)["Patient"][0]["identifier"][0] for document in (here, there))
    assert first["value"] == second["value"]
    assert first["system"] != second["system"]


def test_a_section_without_words_is_listed_and_an_empty_one_says_so() -> None:
    document = cda.wst(
        "C0002", "门急诊病历", cda.section("10154-3", "CHIEF COMPLAINT", cda.entry(cda.de("DE04.01.119.00", "主诉", cda.st("a &lt; b &amp; c")))),
        cda.section("18776-5", "TREATMENT PLAN"),
    )  # fmt: skip
    listed, empty = mapped(document)["Composition"][0]["section"]
    assert listed["text"]["status"] == "generated"
    assert "<td>主诉</td><td>a &lt; b &amp; c</td>" in listed["text"]["div"]
    assert empty["text"]["status"] == "empty"


def test_what_real_systems_send_is_taken() -> None:
    """Empty numbers, sections without a body around them, a group that is called an observation, a misspelt role."""
    group = (
        '<observation classCode="CLUSTER" moodCode="EVN"><statusCode/><component>'
        + cda.de("DE06.00.288.00", "医嘱项目内容", cda.st("低盐饮食"))
        + "</component></observation>"
    )
    allergy = cda.de("DE02.10.023.00", "", '<value xsi:type="BL" value="true"/>').replace(
        "</observation>",
        '<participant typeCode="CSM"><partivipantRole classCode="MANU"><playingEntity classCode="MMAT"><code code="DE02.10.022.00" '
        f'{cda.DE} displayName="过敏药物"/><desc xsi:type="ST">磺胺</desc></playingEntity></partivipantRole></participant></observation>',
    )
    document = cda.wst("C0002", "门急诊病历", cda.section("46209-3", "Provider Orders", cda.entry(group)),
                       cda.section("48765-2", "Allergies", cda.entry(f'<act classCode="ACT" moodCode="EVN"><code nullFlavor="NA"/>{cda.part(allergy)}</act>')),
                       ids='<id root="2.16.156.10011.1.12" extension=""/>')  # fmt: skip
    document = document.replace(b"<component><structuredBody>", b"").replace(b"</structuredBody></component>", b"")
    found = mapped(document)
    assert found["Observation"][0]["valueString"] == "低盐饮食"
    assert found["AllergyIntolerance"][0]["code"] == {"text": "磺胺"}
    assert found["Patient"][0]["identifier"][0]["value"] == "110101198001011232"
    assert len(found["Composition"][0]["section"]) == 2


# --- C-CDA ----------------------------------------------------------------------------------------------


def test_problems_by_their_course() -> None:
    asthma, pneumonia, diabetes = mapped(CCD)["Condition"]
    assert codes(asthma["code"]) == [("http://snomed.info/sct", "195967001"), ("http://hl7.org/fhir/sid/icd-10-cm", "J45.909")]
    assert [codes(one["clinicalStatus"])[0][1] for one in (asthma, pneumonia, diabetes)] == ["active", "resolved", "active"]
    assert (pneumonia["onsetDateTime"], pneumonia["abatementDateTime"]) == ("2023-01-01", "2023-02-01")
    assert codes(diabetes["verificationStatus"])[0][1] == "refuted"
    assert asthma["@url"].startswith("Condition?identifier=urn:meridian:key|")  # the id is the patient's, not everybody's
    assert {"system": "urn:oid:1.2.3.9", "value": "1"} in asthma["identifier"]


def test_medications_taken_prescribed_and_not_taken() -> None:
    found = mapped(CCD)
    taken, not_taken = found["MedicationStatement"]
    (request,) = found["MedicationRequest"]
    assert (taken["status"], not_taken["status"], request["intent"]) == ("active", "not-taken", "order")
    (dosage,) = taken["dosage"]
    assert dosage["text"] == "Proventil twice a day"
    assert dosage["timing"]["repeat"] == {"frequency": 1, "period": 12, "periodUnit": "h"}
    assert codes(dosage["asNeededCodeableConcept"])[0][1] == "56018004"
    assert taken["effectivePeriod"] == {"start": "2026-01-01"}
    assert request["dosageInstruction"][0]["timing"]["repeat"]["boundsPeriod"] == {"start": "2026-01-01"}
    assert codes(taken["reasonCode"][0])[0][1] == "195967001"


def test_allergies_and_their_absence() -> None:
    penicillin, none = mapped(CCD)["AllergyIntolerance"]
    assert codes(penicillin["code"]) == [("http://www.nlm.nih.gov/research/umls/rxnorm", "7982")]
    assert (penicillin["type"], penicillin["category"]) == ("allergy", ["medication"])
    assert (penicillin["reaction"][0]["severity"], codes(penicillin["reaction"][0]["manifestation"][0])[0][1]) == ("severe", "247472004")
    assert codes(none["code"]) == [("http://snomed.info/sct", "409137002")]
    refuted = cda.ccd(cda.us_section("48765-2", "Allergies", cda.us_allergy('negationInd="true"')))
    (one,) = mapped(refuted)["AllergyIntolerance"]
    assert codes(one["verificationStatus"])[0][1] == "refuted"


def test_results_by_their_types_and_ranges() -> None:
    found = mapped(CCD)
    hemoglobin = by_code(found["Observation"], "718-7")
    assert hemoglobin["referenceRange"][0]["low"]["value"] == 12.0
    assert codes(hemoglobin["interpretation"][0])[0][1] == "H"
    assert by_code(found["Observation"], "2857-1")["valueQuantity"]["comparator"] == "<"
    assert by_code(found["Observation"], "5334-6")["valueRatio"]["denominator"] == {"value": 128}
    assert codes(by_code(found["Observation"], "2345-7")["dataAbsentReason"])[0][1] == "temp-unknown"
    (report,) = found["DiagnosticReport"]
    assert len(report["result"]) == 5
    assert codes(report["code"])[0][1] == "57021-8"
    assert b'"value":16.20' in registry.mapping("cda-to-fhir").compile(None).map(CCD).body


def test_amounts_of_doses_and_what_is_no_number() -> None:
    """One end of a dose is no comparator, which a dose may not have; a text where a number should be stays text."""
    dosed = cda.us_medication().replace(
        '<doseQuantity value="1"/>', '<doseQuantity><low value="1" unit="mg"/><high value="2" unit="mg"/></doseQuantity>'
    )
    capped = dosed.replace('<low value="1" unit="mg"/>', "").replace("M-EVN", "M2")
    odd = cda.us_result("R7", "2345-7", "Glucose", '<value xsi:type="PQ" value="trace" unit="mmol/L"/>')
    found = mapped(cda.ccd(cda.us_section("10160-0", "Medications", dosed, capped), cda.us_section("30954-2", "Results", odd)))
    both, most = (one["dosage"][0]["doseAndRate"][0]["doseRange"] for one in found["MedicationStatement"])
    assert (both["low"]["value"], both["high"]["value"], set(most)) == (1, 2, {"high"})
    assert found["Observation"][0]["valueString"] == "trace mmol/L"
    small = cda.us_result("R8", "2345-7", "Glucose", '<value xsi:type="PQ" value="1.50E-2" unit="mmol/L"/>')
    body = registry.mapping("cda-to-fhir").compile(None).map(cda.ccd(cda.us_section("30954-2", "Results", small))).body
    assert b'"value":0.0150,' in body


def test_encounters_beside_the_documents_own() -> None:
    own, seen, planned = mapped(CCD)["Encounter"]
    assert [one["status"] for one in (own, seen, planned)] == ["finished", "finished", "planned"]
    assert [one["class"]["code"] for one in (own, seen)] == ["AMB", "AMB"]
    assert codes(seen["type"][0])[0] == ("http://www.ama-assn.org/go/cpt", "99213")
    assert seen["location"][0]["location"]["display"] == "Urgent Care"
    assert own["@url"] == "Encounter"
    assert seen["identifier"] == [{"system": "urn:oid:1.2.3.19", "value": "E-EVN"}]


def test_whom_to_call() -> None:
    contact = (
        '<participant typeCode="IND"><associatedEntity classCode="CON"><code code="SPS" codeSystem="2.16.840.1.113883.5.111"/><telecom value="tel:139"/>'
        "<associatedPerson><name>钱二</name></associatedPerson></associatedEntity></participant>"
    )
    (patient,) = mapped(CCD.replace(b"<documentationOf>", contact.encode() + b"<documentationOf>"))["Patient"]
    (one,) = patient["contact"]
    assert (one["name"]["text"], one["telecom"][0]["value"], codes(one["relationship"][0])[0][1]) == ("钱二", "139", "SPS")


def test_done_planned_given_and_refused() -> None:
    found = mapped(CCD)
    assert found["Procedure"][0]["code"]["text"] == "Appendix taken out"
    assert found["ServiceRequest"][0]["intent"] == "order"
    given, refused = found["Immunization"]
    assert (given["status"], given["lotNumber"], refused["status"]) == ("completed", "L-1", "not-done")
    assert codes(refused["statusReason"])[0][1] == "PATOBJ"
    assert found["FamilyMemberHistory"][0]["bornDate"] == "1940"
    assert found["Device"][0]["deviceName"][1]["name"] == "Scribe 4"


def test_a_denied_observation_is_never_asserted() -> None:
    denied = cda.smoking().replace('moodCode="EVN"', 'moodCode="EVN" negationInd="true"')
    (one,) = mapped(cda.ccd(cda.us_section("29762-2", "Social history", denied)))["Observation"]
    assert one["valueString"] == "not: Ex-smoker"
    assert "valueCodeableConcept" not in one


def test_an_id_used_twice_does_not_make_two_statements_one() -> None:
    """Seen in the field: copied entries with the id of the first."""
    first, second = cda.problem("1", "195967001", "Asthma"), cda.problem("1", "233604007", "Pneumonia")
    found = mapped(cda.ccd(cda.us_section("11450-4", "Problems", first, second)))["Condition"]
    assert [codes(one["code"])[0][1] for one in found] == ["195967001", "233604007"]
    assert found[0]["@url"] != found[1]["@url"]


def test_codes_of_unknown_systems_are_flagged_and_counted() -> None:
    odd = cda.smoking().replace("2.16.840.1.113883.6.96", "1.2.3.4.99")
    rendition = registry.mapping("cda-to-fhir").compile(None).map(cda.ccd(cda.us_section("29762-2", "Social history", odd)))
    assert rendition.unmapped == 1
    assert b'"tag":[{"system":"urn:meridian:mapping","code":"unmapped-code"' in rendition.body
    assert registry.mapping("cda-to-fhir").compile(None).map(CCD).unmapped == 0


def test_a_site_maps_its_own_codes(tmp_path: Path) -> None:
    (tmp_path / "cda-to-fhir/codes").mkdir(parents=True)
    (tmp_path / "cda-to-fhir/codes/tests.csv").write_text("code,to,system,display\n1.2.9|GLU,2345-7,http://loinc.org,Glucose\n")
    odd = cda.us_result("R9", "GLU", "Glu", '<value xsi:type="PQ" value="5.1" unit="mmol/L"/>').replace(cda.LOINC, 'codeSystem="1.2.9"')
    (one,) = mapped(cda.ccd(cda.us_section("30954-2", "Results", odd)), tmp_path)["Observation"]
    assert codes(one["code"]) == [("http://loinc.org", "2345-7"), ("urn:oid:1.2.9", "GLU")]


def test_a_scan_is_kept_beside_its_document() -> None:
    found = mapped(cda.scanned())
    assert "Composition" not in found
    inner = found["DocumentReference"][0]["content"][1]["attachment"]
    assert (inner["contentType"], inner["size"]) == ("application/pdf", 9)
    assert {b64decode(one["data"])[:4] for one in found["Binary"]} == {b"%PDF", b"<?xm"}
    broken = mapped(cda.scanned(data="no base64!"))
    assert len(broken["DocumentReference"][0]["content"]) == 1


@pytest.mark.parametrize(
    ("written", "made"),
    [
        ("20260314", "2026-03-14"),
        ("202603", "2026-03"),
        ("2026", "2026"),
        ("202603140926", "2026-03-14T09:26:00-05:00"),
        ("20260314092653.123+0100", "2026-03-14T09:26:53.123+01:00"),
        ("20261399", None),
        ("soon", None),
    ],
)
def test_times_keep_their_precision_and_offset(written: str, made: str | None) -> None:
    """A time of day without an offset has the document's own (effectiveTime)."""
    document = cda.ccd(cda.us_section("29762-2", "Social history", cda.smoking().replace('value="20260314"', f'value="{written}"')))
    (one,) = mapped(document)["Observation"]
    assert one.get("effectiveDateTime") == made


# --- narrative --------------------------------------------------------------------------------------------


def div(text: str) -> str:
    """The narrative of one section whose text is `text`."""
    section = mapped(cda.ccd(cda.us_section("48765-2", "A", text=text)))["Composition"][0]["section"][0]
    assert isinstance(section["text"]["div"], str)
    return section["text"]["div"].removeprefix('<div xmlns="http://www.w3.org/1999/xhtml">').removesuffix("</div>")


def test_tables_lists_and_styles_are_built_anew() -> None:
    assert div(cda.ALLERGY_TABLE) == (
        '<table><caption>Allergies</caption><thead><tr><th>Substance</th><th colspan="2">Reaction</th></tr></thead><tbody><tr>'
        "<td>Penicillin &amp; kin</td><td>Hives</td><td><b>severe</b></td></tr></tbody></table>"
    )
    assert div("<list><item>one</item><item>two<br/>lines</item></list>") == "<ul><li>one</li><li>two<br/>lines</li></ul>"
    assert div("<paragraph>a <content styleCode='Italics'>b</content></paragraph>") == "<p>a <i>b</i></p>"
    assert div("plain &lt;words&gt;") == "<p>plain &lt;words&gt;</p>"


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ('<script xmlns="http://www.w3.org/1999/xhtml">alert(1)</script><paragraph>kept</paragraph>', "<p>kept</p>"),
        ('<paragraph onclick="alert(1)" style="x">kept</paragraph>', "<p>kept</p>"),
        ('<linkHtml href="javascript:alert(1)">kept</linkHtml>', "<a>kept</a>"),
        ('<linkHtml href=" JAVAscript:alert(1)">kept</linkHtml>', "<a>kept</a>"),
        ('<linkHtml href="https://a.example/?a=1&amp;b=&quot;2">kept</linkHtml>', "<a href='https://a.example/?a=1&amp;b=\"2'>kept</a>"),
        ('<img src="http://x/y"/><paragraph>kept</paragraph>', "<p>kept</p>"),
        ('<table><tr><td colspan="99999999999">kept</td></tr></table>', "<table><tr><td>kept</td></tr></table>"),
        ("<object>lost</object><paragraph>kept</paragraph>", "<p>kept</p>"),
    ],
)
def test_nothing_that_runs_gets_into_a_narrative(written: str, shown: str) -> None:
    assert div(written) == shown


def test_a_narrative_is_bounded() -> None:
    """A table of a hundred thousand rows is told of; its entries and the original are there all the same."""
    rows = "<tr><td>1</td></tr>" * 100_000
    document = cda.ccd(cda.us_section("29762-2", "Social history", cda.smoking(), text=f"<table><tbody>{rows}</tbody></table>"))
    mapper = registry.mapping("cda-to-fhir").compile(None)
    rendition, lineage = mapper.explain(document)
    assert len(rendition.body) < 100_000
    assert b"too long to be shown here" in rendition.body
    assert any("longer than a section may be" in line.rule for line in lineage)
    assert b"8517006" in rendition.body


def test_what_is_not_carried_is_named() -> None:
    """A part of a statement that has no place in its resource, a statement without a rule, and nothing that is in the Bundle."""
    odd = cda.smoking().replace("<statusCode", '<repeatNumber value="3"/><statusCode')
    supply = '<supply classCode="SPLY" moodCode="EVN"><id root="1.2.3" extension="S"/><quantity value="2"/></supply>'
    document = cda.ccd(cda.us_section("29762-2", "Social history", odd, supply))
    lost = {
        line.source.rpartition("section/")[2]: line.rule
        for line in registry.mapping("cda-to-fhir").compile(None).explain(document)[1]
        if not line.target
    }
    assert lost["entry[1]/observation/repeatNumber"] == "not carried"
    assert lost["entry[2]/supply"] == "not carried: no rule for supply"
    assert not [source for source in lost if source.startswith("entry[1]") and source != "entry[1]/observation/repeatNumber"]
    assert not [source for source in lost if source.startswith("ClinicalDocument/")]


# --- in another mapping's envelope ------------------------------------------------------------------------


def test_a_document_in_an_envelope() -> None:
    """The envelope's patient and the document's are one; what only the envelope says is added; what differs is flagged."""
    rules = documents(None)
    tx = CdaTransaction(sender="XDR|1.2.3", control_id="M1")
    patient = rules.patient(tx, [Id("2.16.840.1.113883.19.5.99", "MRN-77")], "Bell")
    format_code = {"system": "urn:oid:1.3.6.1.4.1.19376.1.2.3", "code": "urn:hl7-org:sdwg:ccda-structuredBody:2.1"}
    claimed = Claimed(
        id=Id("11110000-aaaa-4bbb-8ccc-000000000001"), title="Summary", patient_ids=(Id("2.16.840.1.113883.19.5.99", "MRN-77"),)
    )
    described = Described(title="Summary", format=format_code, description="of a visit", extra={"relatesTo": []}, patient=patient)
    mapped = rules.take(tx, memoryview(CCD), "text/xml", claimed, described, "DocumentEntry[1]/")
    assert mapped.patient is patient
    assert mapped.flags == ("title",)
    assert mapped.unmapped == 1
    body = mapped.document.body
    assert body["meta"]["tag"][0]["code"] == "envelope-title"
    assert body["content"][0]["attachment"]["title"] == "Continuity of Care Document"
    assert body["content"][0]["format"] == format_code
    assert body["description"] == "of a visit"
    assert [one.kind for one in tx.drafts].count("Patient") == 1
    Bundle.model_validate(orjson.loads(orjson.dumps(bundle(tx, {"system": "urn:x", "value": "1"}, None))))


@pytest.mark.parametrize(
    ("claimed", "location"),
    [
        (Claimed(id=Id("2.2.2")), "ClinicalDocument/id"),
        (Claimed(patient_ids=(Id("2.16.840.1.113883.19.5.99", "MRN-1"),)), "ClinicalDocument/recordTarget/patientRole/id"),
    ],
)
def test_another_document_or_another_patient_is_refused(claimed: Claimed, location: str) -> None:
    with pytest.raises(MappingError) as told:
        documents(None).document(CdaTransaction(), CCD, claimed, place="DocumentEntry[2]/")
    assert told.value.location == f"DocumentEntry[2]/{location}"
    assert not re.search("MRN|Bell|1111|2.2.2", str(told.value))


def test_other_attachments_are_kept_with_what_the_envelope_says() -> None:
    rules, tx = documents(None), CdaTransaction(facility="ANPING", zone="+08:00")
    patient = rules.patient(tx, [Id("1.2.3", "P1")], "赵一鸣", Code("1"), "19800101")
    described = Described(
        id=Id("1.2.3.4", "PDF-1"), set_id=Id("", "S-1"), title="Scan", time="20260314092653+0000", patient=patient,
        type={"text": "scan"}, category=[{"text": "image"}],
    )  # fmt: skip
    mapped = rules.take(tx, b"%PDF-1.4\n", "application/pdf", None, described)
    body = mapped.document.body
    assert body["masterIdentifier"] == {"system": "urn:oid:1.2.3.4", "value": "PDF-1"}
    assert body["date"] == "2026-03-14T09:26:53+00:00"
    assert body["subject"] == patient.ref
    assert body["content"][0]["attachment"]["title"] == "Scan"
    assert mapped.header is None
    again = rules.take(CdaTransaction(), b"%PDF-1.4\n", "application/pdf")
    assert again.document.body["masterIdentifier"]["system"] == "urn:meridian:sha256"
    made = orjson.loads(orjson.dumps(bundle(tx, {"system": "urn:x", "value": "1"}, None)))
    Bundle.model_validate(made)
    assert b64encode(b"%PDF-1.4\n").decode() in str(made)


def test_xml_that_is_no_document_is_an_attachment_but_cda_at_fault_is_not() -> None:
    rules = documents(None)
    assert rules.take(CdaTransaction(), b"<Report/>", "text/xml").header is None
    assert rules.take(CdaTransaction(), b"<html><p>not well-formed<br></html>", "text/html").header is None
    assert rules.take(CdaTransaction(), "\ufeff".encode() + CCD, "application/xml").header is not None
    assert rules.take(CdaTransaction(), CCD.replace(b"UTF-8", b"UTF-16").decode().encode("utf-16"), "text/xml").header is not None
    with pytest.raises(UnsupportedError):
        rules.document(CdaTransaction(), b"<Report/>")
    with pytest.raises(Exception, match="no id"):
        rules.take(CdaTransaction(), b"<ClinicalDocument/>", "text/xml")


def test_two_documents_of_one_envelope_share_patient_and_practitioners() -> None:
    tx, rules = CdaTransaction(), documents(None)
    first, second = rules.document(tx, cda.clinic_record()), rules.document(tx, cda.prescription())
    assert first.patient is second.patient
    assert [one.kind for one in tx.drafts].count("Patient") == 1
    made = orjson.loads(orjson.dumps(bundle(tx, {"system": "urn:x", "value": "1"}, None)))
    urls = [entry["fullUrl"] for entry in made["entry"]]
    assert len(urls) == len(set(urls))
    Bundle.model_validate(made)
