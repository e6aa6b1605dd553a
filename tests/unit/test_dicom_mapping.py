"""What DICOM instances and reports become in FHIR: identities shared with HL7 v2, counts, names, the templates of PS3.16."""

from __future__ import annotations

from base64 import b64decode
from hashlib import file_digest
from pathlib import Path
from typing import Any

import orjson
import pytest
from fhir.resources.R4B.bundle import Bundle

from engine import registry
from engine.contracts import Gathering
from engine.errors import ConfigError, MessageError
from engine.message import DICOM, DICOM_JSON, WHOLE, Excerpt
from tests.support.cli import meridian
from tests.support.dicom_studies import (
    COMPREHENSIVE_SR,
    FOLDER,
    STUDY,
    bundled,
    code,
    coded,
    data_set,
    document,
    file,
    image,
    item,
    num,
    picture,
    study,
)
from tests.support.fhir import body_of, open_repository

RULES = registry.mapping("dicom-to-fhir")
MAPPER = RULES.compile(None)
HL7 = registry.mapping("hl7v2-to-fhir").compile(None)
STUDY_QUERY = f"identifier=urn:dicom:uid|urn:oid:{STUDY}"


def entries(body: bytes, mapper: Any = MAPPER) -> list[dict[str, Any]]:
    """The entries of the Bundle, which is valid."""
    made = mapper.map(body).body
    Bundle.model_validate_json(made)
    return list(orjson.loads(made)["entry"])


def mapped(body: bytes, mapper: Any = MAPPER) -> dict[str, list[dict[str, Any]]]:
    """The resources by type, each with its fullUrl as `url`."""
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in entries(body, mapper):
        found.setdefault(entry["resource"]["resourceType"], []).append({**entry["resource"], "url": entry["fullUrl"]})
    return found


def site(tmp_path: Path, **tables: str) -> Any:
    """The mapping with a site's tables: `senders="…"`, `codes_concepts="…"`."""
    folder = tmp_path / "dicom-to-fhir"
    for name, text in tables.items():
        target = folder / (name.replace("_", "/") + ".csv")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")
    return RULES.compile(tmp_path)


def requests(body: bytes, kind: str, mapper: Any = MAPPER) -> list[str]:
    """How the resources of a type are written."""
    return [
        entry["request"].get("ifNoneExist") or entry["request"]["url"]
        for entry in entries(body, mapper)
        if entry["resource"]["resourceType"] == kind
    ]


# --- identities that HL7 v2 has too ----------------------------------------------------------------------------------------------------


def hl7(*segments: str, kind: str = "ORU^R01^ORU_R01") -> list[dict[str, Any]]:
    head = f"MSH|^~\\&|RIS|COUNTY|M|C|20261126080000||{kind}|1|P|2.5.1||||||UNICODE UTF-8"
    return list(orjson.loads(HL7.map("\r".join((head, *segments, "")).encode()).body)["entry"])


def by_kind(found: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (entry,) = (one for one in found if one["resource"]["resourceType"] == kind)
    return entry


def test_the_patient_of_an_image_is_the_one_of_a_result() -> None:
    result = by_kind(hl7("PID|1||P1^^^HIS^MR||Wang^XiaoMing", "OBR|1||F1|CT^CT^L|||20261126"), "Patient")
    picture_of = by_kind(entries(file(image())), "Patient")
    assert picture_of["request"]["ifNoneExist"] == result["request"]["ifNoneExist"] == "identifier=urn:meridian:ns:COUNTY:HIS|P1"
    assert picture_of["fullUrl"] == result["fullUrl"]


def test_a_patient_number_without_its_issuer_belongs_to_the_institution() -> None:
    result = by_kind(hl7("PID|1||P1^^^^MR||Wang^XiaoMing", "OBR|1||F1|CT^CT^L|||20261126"), "Patient")
    assert requests(file(image(IssuerOfPatientID="")), "Patient") == [result["request"]["ifNoneExist"]]
    other = requests(file(image(IssuerOfPatientID="", InstitutionName="CITY")), "Patient")
    assert other != [result["request"]["ifNoneExist"]]


def test_the_issuer_may_be_named_by_an_oid() -> None:
    qualifiers = [data_set(UniversalEntityID="1.2.156.9", UniversalEntityIDType="ISO")]
    one = image(IssuerOfPatientID="", IssuerOfPatientIDQualifiersSequence=qualifiers)
    assert requests(file(one), "Patient") == ["identifier=urn:oid:1.2.156.9|P1"]


def test_a_site_says_whose_images_an_ae_title_sends(tmp_path: Path) -> None:
    rows = "sender,facility,patients,orders,endpoint,charset\nCT1,COUNTY,HIS,RIS,https://pacs.county.example/dicom-web,\n"
    mapper = site(tmp_path, senders=rows)
    one = file(image(IssuerOfPatientID="", InstitutionName="Whatever"))
    assert requests(one, "Patient", mapper) == ["identifier=urn:meridian:ns:COUNTY:HIS|P1"]
    order = by_kind(hl7("PID|1||P1^^^HIS^MR", "ORC|RE||A100^RIS", "OBR|1||A100^RIS|CT^CT^L"), "ServiceRequest")
    (reference,) = mapped(one, mapper)["ImagingStudy"][0]["basedOn"]
    assert f"identifier={reference['identifier']['system']}|{reference['identifier']['value']}" == order["request"]["ifNoneExist"]
    (endpoint,) = mapped(one, mapper)["Endpoint"]
    assert (endpoint["address"], endpoint["connectionType"]["code"]) == ("https://pacs.county.example/dicom-web", "dicom-wado-rs")
    assert mapped(one, mapper)["ImagingStudy"][0]["endpoint"] == [{"reference": endpoint["url"]}]


def test_the_order_is_found_by_the_placers_number_first() -> None:
    issuer = [data_set(LocalNamespaceEntityID="HIS")]
    one = image(PlacerOrderNumberImagingServiceRequest="O7", OrderPlacerIdentifierSequence=issuer)
    order = by_kind(hl7("PID|1||P1^^^HIS^MR", "ORC|RE|O7^HIS|A100^RIS", "OBR|1|O7^HIS|A100^RIS|CT^CT^L"), "ServiceRequest")
    assert requests(file(one), "ServiceRequest") == [order["request"]["ifNoneExist"]]
    found = mapped(file(one))
    assert found["ImagingStudy"][0]["basedOn"] == [{"reference": found["ServiceRequest"][0]["url"]}]


def test_a_study_for_two_orders_refers_to_both() -> None:
    orders = [data_set(AccessionNumber="A1"), data_set(AccessionNumber="A2"), data_set(AccessionNumber="A1")]
    found = mapped(file(image(AccessionNumber="", RequestAttributesSequence=orders)))
    assert [one["identifier"]["value"] for one in found["ImagingStudy"][0]["basedOn"]] == ["A1", "A2"]
    assert "ServiceRequest" not in found


def test_an_order_has_the_accession_number_that_images_name(tmp_path: Path) -> None:
    """OBR-18 of imaging orders (RAD-4), whatever the filler's number is; a laboratory's OBR-18 is something else."""
    segments = ("PID|1||P1^^^HIS^MR", "ORC|NW|O7^HIS|F1^RIS", "OBR|1|O7^HIS|F1^RIS|CT^CT^L||||||||||||||A100||||||CT")
    numbers = by_kind(hl7(*segments, kind="ORM^O01"), "ServiceRequest")["resource"]["identifier"]
    assert [one["type"]["coding"][0]["code"] for one in numbers] == ["PLAC", "FILL", "ACSN"]
    mapper = site(tmp_path, senders="sender,facility,patients,orders,endpoint,charset\nCT1,COUNTY,HIS,RIS,,\n")
    (reference,) = mapped(file(image()), mapper)["ImagingStudy"][0]["basedOn"]
    assert reference["identifier"] == numbers[2]
    laboratory = by_kind(hl7(*segments[:2], segments[2].replace("||||||CT", "||||||CH"), kind="ORM^O01"), "ServiceRequest")
    assert len(laboratory["resource"]["identifier"]) == 2


def test_a_practitioner_is_the_one_that_messages_name() -> None:
    result = hl7("PID|1||P1^^^HIS^MR", "OBR|1||F1|CT^CT^L||||||||||||D7^Sun^Li^^^^^^99HIS")
    persons = [data_set(PersonIdentificationCodeSequence=[code("D7", "99HIS", "Dr Sun")])]
    one = image(ReferringPhysicianName="Sun^Li", ReferringPhysicianIdentificationSequence=persons)
    assert requests(file(one), "Practitioner") == [by_kind(result, "Practitioner")["request"]["ifNoneExist"]]


# --- names and character sets ----------------------------------------------------------------------------------------------------------

EN = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"


def names(body: bytes, mapper: Any = MAPPER) -> list[tuple[str, str, list[str]]]:
    found = mapped(body, mapper)["Patient"][0]["name"]
    return [
        (one.get("extension", [{}])[0].get("valueCode", ""), one.get("family", one.get("text", "")), one.get("given", [])) for one in found
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chrH31", [("ABC", "Yamada", ["Tarou"]), ("IDE", "山田", ["太郎"]), ("SYL", "やまだ", ["たろう"])]),
        ("chrH32", [("ABC", "ﾔﾏﾀﾞ", ["ﾀﾛｳ"]), ("IDE", "山田", ["太郎"]), ("SYL", "やまだ", ["たろう"])]),
        ("chrI2", [("ABC", "Hong", ["Gildong"]), ("IDE", "洪", ["吉洞"]), ("SYL", "홍", ["길동"])]),
        ("chrX1", [("ABC", "Wang", ["XiaoDong"]), ("IDE", "王", ["小東"])]),
        ("chrX2", [("ABC", "Wang", ["XiaoDong"]), ("IDE", "王", ["小东"])]),
        ("chrArab", [("", "قباني", ["لنزار"])]),
        ("chrFren", [("", "Buc", ["Jérôme"])]),
        ("chrGerm", [("", "Äneas", ["Rüdiger"])]),
        ("chrGreek", [("", "Διονυσιος", [])]),
        ("chrHbrw", [("", "שרון", ["דבורה"])]),
        ("chrRuss", [("", "Люкceмбypг", [])]),
    ],
)
def test_names_of_every_character_set(name: str, expected: list[Any]) -> None:
    assert names((FOLDER / f"charset_files/{name}.dcm").read_bytes()) == expected


@pytest.mark.parametrize("charset", [["", "ISO 2022 IR 58"], "GB18030", "GBK", "ISO_IR 192"])
def test_a_chinese_name_in_every_way_it_is_written(charset: Any) -> None:
    assert names(file(image(SpecificCharacterSet=charset))) == [("ABC", "Wang", ["XiaoMing"]), ("IDE", "王", ["小明"])]


def wrong(charset: str) -> bytes:
    """An instance whose name is in GB18030 whatever it declares."""
    declared = charset.encode() + b" " * (len(charset) % 2)
    one = file(image(SpecificCharacterSet="GB18030", PatientName="王^小明"))
    return one.replace(b"CS\x08\x00GB18030 ", b"CS" + len(declared).to_bytes(2, "little") + declared)


@pytest.mark.parametrize("charset", ["", "ISO_IR 100", "ISO_IR 192", "KLINGON", "ISO 2022 IR 87"])
def test_text_in_another_character_set_is_flagged(charset: str) -> None:
    """With marks in the place of what cannot be read, never another script's letters."""
    body = wrong(charset)
    found = mapped(body)
    assert all(one["meta"]["tag"][0]["code"] == "charset" for one in (*found["Patient"], *found["ImagingStudy"]))
    assert "\ufffd" in orjson.dumps(found["Patient"][0]["name"]).decode()
    assert any(line.source == "PatientName" and "character set" in line.rule for line in MAPPER.explain(body)[1])


def test_utf_8_under_another_name_is_read_and_flagged() -> None:
    one = file(image(PatientName="王^小明")).replace(b"ISO_IR 192", b"ISO_IR 100")
    assert names(one) == [("", "王", ["小明"])]
    assert mapped(one)["Patient"][0]["meta"]["tag"][0]["code"] == "charset"


@pytest.mark.parametrize("charset", ["", "ISO_IR 6", "ISO_IR 100"])
def test_a_site_knows_what_a_sender_really_writes(tmp_path: Path, charset: str) -> None:
    mapper = site(tmp_path, senders="sender,facility,patients,orders,endpoint,charset\nCT1,COUNTY,,,,gb18030\n")
    one = wrong(charset)
    assert names(one, mapper) == [("", "王", ["小明"])]
    assert "meta" not in mapped(one, mapper)["Patient"][0]


def test_what_a_study_has_lost_on_its_way_to_json_is_flagged() -> None:
    assert mapped(study(image(PatientName="\ufffd^\ufffd")))["Patient"][0]["meta"]["tag"][0]["code"] == "charset"


# --- studies ---------------------------------------------------------------------------------------------------------------------------


def test_a_study_in_its_series() -> None:
    instances = [image(10), image(2), image(1, 2, Modality="SEG", BodyPartExamined="CHEST", Laterality="L")]
    (one,) = mapped(study(*instances))["ImagingStudy"]
    assert (one["numberOfSeries"], one["numberOfInstances"]) == (2, 3)
    assert [code["code"] for code in one["modality"]] == ["CT", "SEG"]
    assert [(part["uid"], part["number"], part["numberOfInstances"]) for part in one["series"]] == [
        (f"{STUDY}.1", 1, 2),
        (f"{STUDY}.2", 2, 1),
    ]
    assert [part["number"] for part in one["series"][0]["instance"]] == [2, 10]
    assert one["series"][1]["bodySite"] == {"system": "http://snomed.info/sct", "code": "816094009", "display": "Chest"}
    assert one["series"][1]["laterality"]["code"] == "7771000"
    assert one["started"] == "2026-11-26T08:15:00+08:00"
    assert one["identifier"][1]["value"] == "A100"


def test_the_order_of_arrival_changes_nothing() -> None:
    instances = [image(1), image(2), image(1, 2)]
    forward, backward = (mapped(study(*some))["ImagingStudy"] for some in (instances, instances[::-1]))
    assert forward == backward


def test_an_instance_that_came_twice_counts_once() -> None:
    (one,) = mapped(study(image(1), image(2), image(1)))["ImagingStudy"]
    assert (one["numberOfInstances"], len(one["series"][0]["instance"])) == (2, 2)


def test_the_platform_has_the_latest_version_and_one_instance_does_not_shrink_it(tmp_path: Path) -> None:
    """In the embedded repository: a version replaces the one before, a single instance creates a study only where there is none."""
    repository = open_repository(tmp_path / "r.db")

    def stored(body: bytes) -> dict[str, Any]:
        (answer,) = repository.apply([("", MAPPER.map(body).body)])
        assert all(one["response"]["status"][:3] in ("200", "201") for one in body_of(answer)["entry"]), body_of(answer)
        return next(one["response"] for one in body_of(answer)["entry"] if "ImagingStudy/" in one["response"]["location"])

    first = stored(file(image(1)))
    assert stored(study(image(1), image(2)))["location"] != first["location"]
    third = stored(study(image(1), image(2), image(3)))
    alone = stored(file(image(4)))
    assert (third["etag"], alone["etag"]) == ('W/"3"', 'W/"3"')
    repository.close()


def test_every_bundled_file_is_taken_by_the_embedded_repository(tmp_path: Path) -> None:
    """Or is refused by the mapping with a reason."""
    repository = open_repository(tmp_path / "r.db")
    taken = 0
    for name in bundled():
        try:
            made = MAPPER.map(name.read_bytes()).body
        except MessageError as error:
            assert error.text, name
            continue
        Bundle.model_validate_json(made)
        assert b':""' not in made, name
        assert b":{}" not in made, name
        assert b":[]" not in made, name
        (answer,) = repository.apply([("", made)])
        statuses = {one["response"]["status"][:3] for one in body_of(answer)["entry"]}
        assert statuses <= {"200", "201"}, name
        taken += 1
    assert taken > 140
    repository.close()


def test_the_equipment_made_the_series() -> None:
    one = image(Manufacturer="MAKER", ManufacturerModelName="X1", DeviceSerialNumber="S9", StationName="CT-A", OperatorsName="Zhao^Min")
    found = mapped(file(one))
    device = next(part for part in found["Device"] if "serialNumber" in part)
    assert (device["manufacturer"], device["serialNumber"]) == ("MAKER", "S9")
    actors = [part["actor"]["reference"] for part in found["ImagingStudy"][0]["series"][0]["performer"]]
    assert actors == [found["Practitioner"][0]["url"], device["url"]]


def test_provenance_names_the_instance_and_its_bytes() -> None:
    (source,) = mapped(file(image()))["Provenance"]
    assert source["entity"][0]["what"]["identifier"] == {"system": "urn:meridian:message:CT1%7CCOUNTY", "value": f"{STUDY}.1.1"}
    assert len(source["entity"][1]["what"]["identifier"]["value"]) == 64


def test_of_a_big_file_only_the_beginning_is_needed() -> None:
    """Cut in its pixels, it maps to what the whole maps to; the digest is that of the whole."""
    whole = (FOLDER / "test_files/CT_small.dcm").read_bytes()
    full = MAPPER.map(whole).body
    digest = orjson.loads(full)["entry"][2]["resource"]["entity"][1]["what"]["identifier"]["value"]
    assert MAPPER.map(Excerpt(whole[:8000], digest, Path("none"))).body == full


# --- structured reports ----------------------------------------------------------------------------------------------------------------

MM = code("mm", "UCUM", "millimeter")
SITE = code("363698007", "SCT", "Finding Site")


def observations(body: bytes) -> dict[str, dict[str, Any]]:
    """The observations by what they are called."""
    return {one["code"]["text"]: one for one in mapped(body)["Observation"]}


def test_a_measurement_report() -> None:
    """TID 1500: a group of measurements, each with its unit, its place and the image it was taken from."""
    group = item(
        "CONTAINS",
        "CONTAINER",
        code("125007", "DCM", "Measurement Group"),
        item("HAS OBS CONTEXT", "TEXT", code("112039", "DCM", "Tracking Identifier"), TextValue="nodule 1"),
        coded("CONTAINS", code("121071", "DCM", "Finding"), code("27925004", "SCT", "Nodule")),
        coded("HAS CONCEPT MOD", SITE, code("39607008", "SCT", "Lung")),
        num(code("103339001", "SCT", "Long Axis"), "12.50", MM, picture("INFERRED FROM", f"{STUDY}.1.1", [3])),
    )
    body = file(document(code("126000", "DCM", "Imaging Measurement Report"), group))
    found = mapped(body)
    (report,) = found["DiagnosticReport"]
    seen = observations(body)
    assert b'"value":12.50' in MAPPER.map(body).body
    assert seen["Long Axis"]["valueQuantity"] | {"value": 0} == {
        "value": 0,
        "unit": "millimeter",
        "system": "http://unitsofmeasure.org",
        "code": "mm",
    }
    (source,) = seen["Long Axis"]["derivedFrom"]
    assert source["identifier"]["value"] == f"urn:oid:{STUDY}.1.1"
    assert source["display"] == "CT Image Storage frame 3"
    assert source["reference"] == found["ImagingStudy"][0]["url"]
    assert seen["Measurement Group"]["bodySite"]["coding"][0]["code"] == "39607008"
    assert seen["Measurement Group"]["component"][0]["valueString"] == "nodule 1"
    assert len(seen["Measurement Group"]["hasMember"]) == 2
    assert report["result"] == [
        {"reference": next(one["url"] for one in found["Observation"] if one["code"]["text"] == "Measurement Group")}
    ]
    assert report["status"] == "final"


def test_the_report_can_be_read_as_it_was_written() -> None:
    (report,) = mapped((FOLDER / "test_files/reportsi.dcm").read_bytes())["DiagnosticReport"]
    text = b64decode(report["presentedForm"][0]["data"]).decode()
    assert "  Section Heading\n    Report Text: Enter text\n" in text
    assert text.startswith(report["presentedForm"][0]["title"])


@pytest.mark.parametrize(
    ("flags", "status"),
    [
        ({}, "final"),
        ({"VerificationFlag": "UNVERIFIED"}, "preliminary"),
        ({"CompletionFlag": "PARTIAL", "VerificationFlag": "UNVERIFIED"}, "partial"),
        ({"PreliminaryFlag": "PRELIMINARY"}, "preliminary"),
        ({"PredecessorDocumentsSequence": [data_set(StudyInstanceUID=STUDY)]}, "amended"),
        ({"CompletionFlag": "", "VerificationFlag": ""}, "final"),
    ],
)
def test_the_status_is_what_the_flags_say(flags: dict[str, Any], status: str) -> None:
    text = item("CONTAINS", "TEXT", code("121071", "DCM", "Finding"), TextValue="none")
    (report,) = mapped(file(document(code("18748-4", "LN", "Report"), text, **flags)))["DiagnosticReport"]
    assert report["status"] == status


def test_a_conclusion_is_the_reports_conclusion() -> None:
    section = item(
        "CONTAINS",
        "CONTAINER",
        code("121076", "DCM", "Conclusions"),
        item("CONTAINS", "TEXT", code("121077", "DCM", "Conclusion"), TextValue="No nodule."),
        coded("CONTAINS", code("121077", "DCM", "Conclusion"), code("17621005", "SCT", "Normal")),
    )
    (report,) = mapped(file(document(code("18748-4", "LN", "Report"), section)))["DiagnosticReport"]
    assert report["conclusion"] == "No nodule.\nNormal"


def test_a_dose_report() -> None:
    """TID 10001: what was irradiated with, by which device."""
    event = item(
        "CONTAINS",
        "CONTAINER",
        code("113706", "DCM", "Irradiation Event X-Ray Data"),
        num(code("122130", "DCM", "Dose Area Product"), "1.2E-5", code("Gy.m2", "UCUM", "Gy.m2")),
        item("CONTAINS", "DATETIME", code("111526", "DCM", "DateTime Started"), DateTime="20261126081500"),
        item("CONTAINS", "UIDREF", code("113769", "DCM", "Irradiation Event UID"), UID="1.2.3.4"),
    )
    device = [
        item("HAS OBS CONTEXT", "UIDREF", code("121012", "DCM", "Device Observer UID"), UID="1.2.3.9"),
        item("HAS OBS CONTEXT", "TEXT", code("121014", "DCM", "Device Observer Manufacturer"), TextValue="MAKER"),
    ]
    body = file(document(code("113701", "DCM", "X-Ray Radiation Dose Report"), *device, event, sop_class="1.2.840.10008.5.1.4.1.1.88.67"))
    seen = observations(body)
    assert seen["Dose Area Product"]["valueQuantity"]["code"] == "Gy.m2"
    assert b'"value":0.000012,' in MAPPER.map(body).body
    assert seen["DateTime Started"]["valueDateTime"] == "2026-11-26T08:15:00+08:00"
    assert seen["Irradiation Event UID"]["valueString"] == "1.2.3.4"
    observer = next(one for one in mapped(body)["Device"] if one.get("manufacturer") == "MAKER")
    assert seen["Dose Area Product"]["performer"] == [{"reference": observer["url"]}]


def test_an_echo_report_keeps_how_it_was_measured() -> None:
    """TID 5200, in SNOMED RT: the SNOMED CT code stands beside it."""
    mode = coded("HAS CONCEPT MOD", code("G-0373", "SRT", "Image Mode"), code("G-03A2", "SRT", "2D mode"))
    method = coded("HAS CONCEPT MOD", code("G-C036", "SRT", "Measurement Method"), code("125208", "DCM", "Biplane ellipse"))
    fraction = num(code("10230-1", "LN", "Left Ventricular Ejection Fraction"), "62", code("%", "UCUM", "Percent"), mode, method)
    section = item(
        "CONTAINS",
        "CONTAINER",
        code("121070", "DCM", "Findings"),
        coded("HAS CONCEPT MOD", code("G-C0E3", "SRT", "Finding Site"), code("T-32600", "SRT", "Left Ventricle")),
        fraction,
    )
    seen = observations(file(document(code("125200", "DCM", "Adult Echocardiography Procedure Report"), section)))
    ejection = seen["Left Ventricular Ejection Fraction"]
    assert ejection["code"]["coding"][0] == {
        "system": "http://loinc.org",
        "code": "10230-1",
        "display": "Left Ventricular Ejection Fraction",
    }
    assert ejection["method"]["text"] == "Biplane ellipse"
    assert ejection["component"][0]["valueCodeableConcept"]["text"] == "2D mode"
    site_of = seen["Findings"]["bodySite"]["coding"]
    assert [(one["system"], one["code"]) for one in site_of] == [
        ("http://snomed.info/sct", "87878005"),
        ("http://snomed.info/srt", "T-32600"),
    ]


def test_each_measurement_of_a_fetus_says_which() -> None:
    """TID 5000: read alone, a femur length of one twin must not pass for the mother's or the other's."""
    fetus = item("HAS OBS CONTEXT", "TEXT", code("11951-1", "LN", "Fetus ID"), TextValue="B")
    group = item("CONTAINS", "CONTAINER", code("125005", "DCM", "Biometry Group"), num(code("11963-6", "LN", "Femur Length"), "33", MM))
    section = item("CONTAINS", "CONTAINER", code("125002", "DCM", "Fetal Biometry"), fetus, group)
    seen = observations(file(document(code("125000", "DCM", "OB-GYN Ultrasound Procedure Report"), section)))
    for name in ("Fetal Biometry", "Biometry Group", "Femur Length"):
        assert [part["valueString"] for part in seen[name]["component"]] == ["B"], name


def test_a_selection_of_key_images() -> None:
    """TID 2010."""
    images = [picture("CONTAINS", f"{STUDY}.1.{number}") for number in (1, 2)]
    note = item("CONTAINS", "TEXT", code("113012", "DCM", "Key Object Description"), TextValue="for surgery")
    one = document(
        code("113000", "DCM", "Of Interest"),
        note,
        *images,
        sop_class="1.2.840.10008.5.1.4.1.1.88.59",
        CompletionFlag="",
        VerificationFlag="",
        Modality="KO",
    )
    found = mapped(file(one))
    seen = observations(file(one))
    assert [part["identifier"]["value"] for part in seen["Of Interest"]["derivedFrom"]] == [f"urn:oid:{STUDY}.1.1", f"urn:oid:{STUDY}.1.2"]
    assert seen["Key Object Description"]["valueString"] == "for surgery"
    assert found["DiagnosticReport"][0]["status"] == "final"


def test_nothing_that_has_a_value_is_lost_in_a_template_nobody_knows() -> None:
    """Each value of an unknown template is in the Bundle."""
    own = [code(f"Q{number}", "99ACME", f"Quantity {number}") for number in range(6)]
    tree = item(
        "CONTAINS",
        "CONTAINER",
        own[0],
        num(own[1], "1.5", MM, num(own[2], "2.5", MM, relationship="INFERRED FROM"), relationship="CONTAINS"),
        item("HAS PROPERTIES", "CONTAINER", own[3], item("CONTAINS", "PNAME", own[4], PersonName="Ma^Chao")),
        item("CONTAINS", "SCOORD", own[5], picture("SELECTED FROM", f"{STUDY}.1.7"), GraphicType="POINT", GraphicData=[3.5, 4.5]),
    )
    body = file(document(code("X1", "99ACME", "Own"), tree))
    made = MAPPER.map(body)
    for words in (b'"value":1.5', b'"value":2.5', b"Chao Ma", b"POINT 3.5 4.5", f"urn:oid:{STUDY}.1.7".encode()):
        assert words in made.body, words
    assert made.unmapped == 6
    assert b"unmapped-test" in made.body
    losses = [line.source for line in MAPPER.explain(body)[1] if not line.target and "ContentSequence" in line.source]
    assert losses == []


def test_a_sites_codes_are_known(tmp_path: Path) -> None:
    rows = "code,to,system,display\n99ACME|EF,10230-1,LN,Left ventricular Ejection fraction\n"
    mapper = site(tmp_path, codes_concepts=rows)
    body = file(document(code("X1", "99ACME", "Own"), num(code("EF", "99ACME", "EF"), "60", code("%", "UCUM", "Percent"))))
    assert mapper.map(body).unmapped == 0
    (seen,) = mapped(body, mapper)["Observation"]
    assert [one["code"] for one in seen["code"]["coding"]] == ["10230-1", "EF"]


def test_a_number_that_is_missing_says_why() -> None:
    absent = item(
        "CONTAINS", "NUM", code("122130", "DCM", "DAP"), NumericValueQualifierCodeSequence=[code("114006", "DCM", "Measurement failure")]
    )
    seen = observations(file(document(code("113701", "DCM", "Dose"), absent)))
    assert seen["DAP"]["dataAbsentReason"]["text"] == "Measurement failure"


def test_images_of_another_study_are_named_as_that_studys() -> None:
    evidence = [
        data_set(
            StudyInstanceUID="1.2.9",
            ReferencedSeriesSequence=[
                data_set(SeriesInstanceUID="1.2.9.1", ReferencedSOPSequence=[data_set(ReferencedSOPInstanceUID="1.2.9.1.5")])
            ],
        )
    ]
    one = document(
        code("18748-4", "LN", "Report"),
        num(code("Q", "DCM", "Size"), "3", MM, picture("INFERRED FROM", "1.2.9.1.5")),
        PertinentOtherEvidenceSequence=evidence,
    )
    found = mapped(file(one))
    assert found["Observation"][0]["derivedFrom"][0]["identifier"]["value"] == "urn:oid:1.2.9"
    assert found["DiagnosticReport"][0]["imagingStudy"][1]["identifier"]["value"] == "urn:oid:1.2.9"


def test_reports_travel_with_their_study() -> None:
    report = document(code("18748-4", "LN", "Report"), item("CONTAINS", "TEXT", code("121071", "DCM", "Finding"), TextValue="none"))
    found = mapped(study(image(1), report))
    assert found["ImagingStudy"][0]["numberOfInstances"] == 2
    assert found["DiagnosticReport"][0]["imagingStudy"] == [{"reference": found["ImagingStudy"][0]["url"]}]
    alone = mapped(file(report))
    assert [one["identifier"] for one in alone["Observation"]] == [one["identifier"] for one in found["Observation"]]


# --- the command ------------------------------------------------------------------------------------------------------------------------


def test_a_folder_becomes_a_bundle_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "in" / "deep"
    folder.mkdir(parents=True)
    for number in (1, 2):
        (folder / f"IM{number}").write_bytes(file(image(number)))
    (tmp_path / "in" / "other").write_bytes(file(image(StudyInstanceUID="1.2.3")))
    (tmp_path / "in" / "DICOMDIR").write_bytes((FOLDER / "test_files/dicomdirtests/DICOMDIR").read_bytes())
    (tmp_path / "in" / "README.txt").write_text("of the disc")
    done = meridian(monkeypatch, capfd)("convert", "--mapping", "dicom-to-fhir", "--out", str(tmp_path / "out"), str(tmp_path / "in"))
    assert sorted(made.name for made in (tmp_path / "out").iterdir()) == ["1.2.3.json", f"{STUDY}.json"]
    bundle = orjson.loads((tmp_path / "out" / f"{STUDY}.json").read_bytes())
    made = next(one["resource"] for one in bundle["entry"] if one["resource"]["resourceType"] == "ImagingStudy")
    assert made["numberOfInstances"] == 2
    assert "README.txt: message.parse" in done.err
    assert done.code == 1


def test_a_file_too_big_for_memory_is_converted_by_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With the digest of all of it."""
    big = tmp_path / "big.dcm"
    big.write_bytes(file(image()) + b"\xe0\x7f\x10\x00OW\x00\x00" + (WHOLE + 8).to_bytes(4, "little"))
    with big.open("ab") as opened:
        opened.truncate(big.stat().st_size + WHOLE + 8)
    done = meridian(monkeypatch, capfd)("convert", "--mapping", "dicom-to-fhir", str(big))
    source = next(one["resource"] for one in orjson.loads(done.out)["entry"] if one["resource"]["resourceType"] == "Provenance")
    with big.open("rb") as opened:
        assert source["entity"][1]["what"]["identifier"]["value"] == file_digest(opened, "sha256").hexdigest()
    (gathered,) = MAPPER.gather([big])
    assert orjson.loads(gathered.read())[0]["00080018"]["Value"] == [f"{STUDY}.1.1"]


def test_a_folder_gives_what_the_study_gives(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / str(number)).write_bytes(file(image(number)))
    assert isinstance(MAPPER, Gathering)
    (gathered,) = MAPPER.gather(sorted(tmp_path.iterdir()))
    ours, theirs = (mapped(body)["ImagingStudy"] for body in (gathered.read(), study(image(1), image(2))))
    assert ours == theirs


def test_what_it_takes() -> None:
    assert (RULES.content_types, COMPREHENSIVE_SR[-2:]) == ((DICOM, DICOM_JSON), "33")


def test_the_files_of_a_folder_are_in_their_senders_character_set(tmp_path: Path) -> None:
    mapper = site(tmp_path / "site", senders="sender,facility,patients,orders,endpoint,charset\nCT1,COUNTY,,,,gb18030\n")
    (tmp_path / "IM1").write_bytes(wrong("ISO_IR 100"))
    (gathered,) = mapper.gather([tmp_path / "IM1"])
    assert names(gathered.read(), mapper) == [("", "王", ["小明"])]


# --- a site's tables --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "text", "said"),
    [
        (
            "senders",
            "sender,facility,charset\nCT1,COUNTY,gb18031\n",
            "senders.csv:2: 'gb18031' is no character set (did you mean 'gb18030'?)",
        ),
        ("senders", "sender,facility,endpoint\nCT1,COUNTY,pacs.example\n", "senders.csv:2: the endpoint is the address of DICOMweb"),
        ("sender", "sender,facility\nCT1,COUNTY\n", "sender.csv: is no table of this mapping (did you mean 'senders.csv'?)"),
        (
            "attributes_Series",
            "id,source,target,map,codes,when\nX,Modality,modality,Codin,,\n",
            "there is no map 'Codin' (did you mean 'Coding'?)",
        ),
        ("attributes_Series", "id,source,target,map,codes,when\nX,Modality,uid,uid,,Modalty valued\n", "did you mean 'Modality'?"),
        ("attributes_Series", "id,source,target,map,codes,when\nX,Modality,uid,Coding.of,,\n", "the map 'Coding.of' needs a code table"),
    ],
)
def test_a_fault_in_a_sites_table_says_where_and_what(tmp_path: Path, table: str, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        site(tmp_path, **{table: text})
    assert said in str(caught.value)


def test_a_site_carries_an_attribute_that_is_not_shipped(tmp_path: Path) -> None:
    row = "id,source,target,map,codes,when\nProtocolName,ProtocolName,description,string,,SeriesDescription empty\n"
    one = file(image(ProtocolName="Thorax"))
    assert mapped(one, site(tmp_path, attributes_Series=row))["ImagingStudy"][0]["series"][0]["description"] == "Thorax"
    assert any(line.source == "ProtocolName" and line.rule == "not carried" for line in MAPPER.explain(one)[1])


@pytest.mark.parametrize(
    ("right", "wrong_vr"), [(b"\x08\x00\x32\x10SQ", b"\x08\x00\x32\x10UT"), (b"\x08\x00\x30\x10LO\x06\x00", b"\x08\x00\x30\x10SQ\x00\x00")]
)
def test_an_attribute_of_another_vr_than_its_own_is_no_value(right: bytes, wrong_vr: bytes) -> None:
    """A sequence that is written as text is none, and the other way round: refused, or not carried."""
    body = file(image(StudyDescription="Thorax", ProcedureCodeSequence=[code("CT", "99X", "CT")]))
    assert right in body
    try:
        assert "procedureCode" not in mapped(body.replace(right, wrong_vr))["ImagingStudy"][0]
    except MessageError as error:
        assert error.text
