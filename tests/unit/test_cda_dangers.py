"""What would hurt a patient if cda-to-fhir got it wrong: what is withdrawn, denied, of somebody else, on one side, or of two persons."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import UnsupportedError
from engine.formats.cda import Claimed, Id, cross_check, read
from tests.support import cda
from tests.unit.test_cda_mapping import by_code, codes, mapped


def us(code: str, *entries: str) -> dict[str, list[dict[str, Any]]]:
    return mapped(cda.ccd(cda.us_section(code, "Section", *entries)))


def told(*statements: str) -> list[dict[str, Any]]:
    """Allergies that data elements of WS/T 363 tell of."""
    document = cda.wst("C0002", "门急诊病历", cda.section("48765-2", "Allergies", *statements))
    return mapped(document).get("AllergyIntolerance", [])


def verified(one: dict[str, Any]) -> str:
    return codes(one["verificationStatus"])[0][1]


# --- withdrawn ------------------------------------------------------------------------------------------

NULLIFIED = '<statusCode code="nullified"/>'


@pytest.mark.parametrize("inside", [True, False])
def test_a_withdrawn_problem_is_an_error(inside: bool) -> None:
    """Whether the concern around it is nullified, or the observation itself."""
    act = cda.problem("1", "195967001", "Asthma", status="active" if inside else "nullified")
    if inside:
        act = act.replace('<statusCode code="completed"/>', NULLIFIED)
    (one,) = us("11450-4", act)["Condition"]
    assert verified(one) == "entered-in-error"
    assert "clinicalStatus" not in one  # con-5


def test_a_withdrawn_allergy_is_an_error() -> None:
    act = cda.us_allergy().replace('<statusCode code="active"/>', NULLIFIED)
    (one,) = us("48765-2", act)["AllergyIntolerance"]
    assert verified(one) == "entered-in-error"
    assert "clinicalStatus" not in one  # ait-2


@pytest.mark.parametrize(("word", "status"), [("nullified", "entered-in-error"), ("aborted", "not-done"), ("cancelled", "not-done")])
def test_an_immunization_that_did_not_take_place(word: str, status: str) -> None:
    given = cda.us_immunization().replace('<statusCode code="completed"/>', f'<statusCode code="{word}"/>')
    assert us("11369-6", given)["Immunization"][0]["status"] == status


def test_results_of_a_withdrawn_group_are_errors() -> None:
    group = cda.organizer("4.1", cda.us_result("R1", "718-7", "Hgb", '<value xsi:type="PQ" value="13.20" unit="g/dL"/>'))
    group = group.replace('<statusCode code="completed"/><effectiveTime><low', NULLIFIED + "<effectiveTime><low")
    found = us("30954-2", group)
    assert found["Observation"][0]["status"] == found["DiagnosticReport"][0]["status"] == "entered-in-error"


@pytest.mark.parametrize(("word", "status"), [("COMPLETED", "final"), ("suspended", "registered"), ("cancel", "unknown"), ("", "final")])
def test_only_what_is_complete_is_final(word: str, status: str) -> None:
    result = cda.us_result("R1", "718-7", "Hgb", '<value xsi:type="PQ" value="13.2" unit="g/dL"/>')
    result = result.replace('<statusCode code="completed"/>', f'<statusCode code="{word}"/>' if word else "")
    assert us("30954-2", result)["Observation"][0]["status"] == status


def test_a_visit_that_was_cancelled() -> None:
    cancelled = cda.visit().replace("<effectiveTime", '<statusCode code="cancelled"/><effectiveTime')
    assert us("46240-8", cancelled)["Encounter"][1]["status"] == "cancelled"


def test_a_visit_in_a_list_does_not_write_over_the_visit() -> None:
    """What admission and discharge said of it is more than a document's list has."""
    document = cda.ccd(cda.us_section("46240-8", "Encounters", cda.visit()))
    assert [one["@url"] for one in mapped(document)["Encounter"]] == ["Encounter", "Encounter"]


# --- denied ---------------------------------------------------------------------------------------------


def test_negation_has_two_spellings() -> None:
    """xs:boolean: 1 is true."""
    assert us("11369-6", cda.us_immunization('negationInd="1"'))["Immunization"][0]["status"] == "not-done"
    assert verified(us("11450-4", cda.problem("1", "195967001", "Asthma", negated='negationInd=" 1 "'))["Condition"][0]) == "refuted"


def test_a_denied_part_is_never_asserted() -> None:
    inner = cda.de("DE04.01.001.00", "发热", '<value xsi:type="BL" value="true"/>').replace(
        'moodCode="EVN"', 'moodCode="EVN" negationInd="true"'
    )
    document = cda.wst(
        "C0002", "病历", cda.section("", "症状", cda.entry(cda.de("DE04.01.118.00", "症状", cda.st("咳嗽"), cda.part(inner))))
    )
    (one,) = mapped(document)["Observation"]
    assert one["component"][0]["valueString"] == "not: true"


FLAG = cda.de("DE02.10.023.00", "过敏史标志", '<value xsi:type="BL" value="{}"/>', "{}")


def test_every_substance_is_an_allergy_of_its_own() -> None:
    allergies = [cda.de("DE02.10.022.00", "过敏史", cda.st(text)) for text in ("青霉素", "头孢曲松")]
    assert [one["code"]["text"] for one in told(cda.cluster(*allergies))] == ["青霉素", "头孢曲松"]
    inside = FLAG.format("true", "".join(map(cda.part, allergies)))
    assert [one["code"]["text"] for one in told(cda.entry(inside))] == ["青霉素", "头孢曲松"]


@pytest.mark.parametrize("words", ["否认食物过敏，青霉素过敏", "无食物过敏，对头孢过敏", "否认青霉素过敏"])
def test_a_denial_with_more_words_is_no_absence_of_allergies(words: str) -> None:
    """The words stay what they are, and nobody has confirmed them as an allergy."""
    (one,) = told(cda.entry(cda.de("DE02.10.022.00", "过敏史", cda.st(words))))
    assert one["code"] == {"text": words}
    assert verified(one) == "unconfirmed"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("否认药物过敏史", "409137002"),
        ("无食物过敏史。", "429625007"),
        ("否认过敏史", "716186003"),
        ("无", "716186003"),
        ("NKDA", "409137002"),
    ],
)
def test_what_is_denied_is_what_is_said(words: str, code: str) -> None:
    (one,) = told(cda.entry(cda.de("DE02.10.022.00", "过敏史", cda.st(words))))
    assert codes(one["code"]) == [("http://snomed.info/sct", code)]
    assert one["code"]["text"] == words


# --- somebody else's ------------------------------------------------------------------------------------

HEART = f'<observation classCode="OBS" moodCode="EVN">{cda.template("4.46")}<code code="282291009" displayName="Diagnosis" {cda.SNOMED}/>{{}}</observation>'
SUBJECT = '<subject><relatedSubject classCode="PRS"><code code="FTH" displayName="Father" codeSystem="2.16.840.1.113883.5.111"/></relatedSubject></subject>'
ATTACK = cda.coded("22298006", "Myocardial infarction")


@pytest.mark.parametrize(
    ("code", "statement", "kin"),
    [
        ("10157-6", HEART.format(ATTACK), "FAMMEMB"),
        ("10157-6", HEART.format(ATTACK + SUBJECT), "FTH"),
        ("10157-6", cda.family().replace(cda.template("4.45"), "").split("<subject>")[0] + f"<component>{HEART.format(ATTACK)}</component></organizer>", "FAMMEMB"),
        ("11450-4", HEART.format(SUBJECT + ATTACK), "FTH"),
    ],
)  # fmt: skip
def test_what_a_relative_had_is_not_the_patients(code: str, statement: str, kin: str) -> None:
    """With and without an organizer, with and without saying which relative."""
    found = us(code, statement)
    (one,) = found["FamilyMemberHistory"]
    assert codes(one["relationship"])[0][1] == kin
    assert codes(one["condition"][0]["code"])[0][1] == "22298006"
    assert "Condition" not in found
    assert "Observation" not in found


def test_a_relatives_age_and_what_a_relative_did_not_have() -> None:
    age = f'<observation classCode="OBS" moodCode="EVN">{cda.template("4.31")}<code code="445518008" {cda.SNOMED}/><value xsi:type="PQ" value="57" unit="a"/></observation>'
    statement = cda.family().replace("</observation>", cda.rel(age) + "</observation>", 1).replace(
        "</organizer>", f'<component>{HEART.format(cda.coded("73211009", "Diabetes")).replace("EVN", "EVN" + chr(34) + " negationInd=" + chr(34) + "true")}</component></organizer>'
    )  # fmt: skip
    (one,) = us("10157-6", statement)["FamilyMemberHistory"]
    (condition,) = one["condition"]
    assert (condition["onsetAge"]["value"], condition["onsetAge"]["code"]) == (57, "a")
    assert one["note"] == [{"text": "not: Diabetes"}]


def test_a_result_of_somebody_else_is_not_the_patients() -> None:
    """A newborn's, a donor's: the words stay in the section."""
    result = cda.us_result("R1", "718-7", "Hgb", '<value xsi:type="PQ" value="13.2" unit="g/dL"/>', SUBJECT)
    assert "Observation" not in us("30954-2", result)


def test_a_document_of_two_patients_is_nobodys() -> None:
    document = cda.ccd()
    target = document[document.index(b"<recordTarget>") : document.index(b"</recordTarget>") + len(b"</recordTarget>")]
    with pytest.raises(UnsupportedError, match="several patients"):
        mapped(document.replace(target, target + target.replace(b"MRN-77", b"MRN-78")))


@pytest.mark.parametrize(
    "number",
    [
        '<id root="2.16.156.10011.1.13" extension="-"/>',
        '<id root="2.16.156.10011.1.13" extension="不详"/>',
        '<id root="2.16.156.10011.1.3" extension="无"/>',
        '<id root="2.16.156.10011.1.3" extension="110101198001011231"/>',
        '<id root="2.16.156.10011.1.3" extension="000000000000000000"/>',
        '<id root="2.16.840.1.113883.19.5"/>',
        '<id extension="NULL"/>',
    ],
)
def test_what_is_no_number_makes_no_two_persons_one(number: str) -> None:
    """What people type for nothing, a card that fails its check, the bare root that all patients of a house share."""
    urls = []
    for document in ("A1", "A2"):
        made = cda.wst("C0002", "病历", ids=number, number=document).replace(
            b'<id root="2.16.156.10011.1.3" extension="110101198001011232"/>', b""
        )
        (patient,) = mapped(made)["Patient"]
        urls.append([one["value"] for one in patient["identifier"] if "system" in one])
    assert len(urls[0]) == 1
    assert urls[0] != urls[1]


def test_an_identity_card_is_the_same_in_small_letters() -> None:
    """The number is the example of GB 11643."""
    made = cda.wst("C0002", "病历", ids="").replace(b"110101198001011232", b"11010519491231002x")
    assert mapped(made)["Patient"][0]["identifier"][0]["value"] == "11010519491231002X"


def test_a_number_for_nothing_proves_no_patient() -> None:
    nothing, root = "-", "2.16.156.10011.1.13"
    header = read(cda.wst("C0002", "病历", ids=f'<id root="{root}" extension="{nothing}"/>'))
    assert [one.field for one in cross_check(header, Claimed(patient_ids=(Id(root, nothing),)))] == []
    assert not [one for one in header.patient_ids if one.root == root and one.extension]


def test_the_same_id_in_two_patients_documents_is_two_statements() -> None:
    """Seen in the field: ids that begin at 1 in each document, or copied from the standard's samples."""
    section = cda.us_section("11450-4", "Problems", cda.problem("1", "195967001", "Asthma"))
    urls = [
        mapped(cda.ccd(section, ids=f'<id root="2.16.840.1.113883.19.5.99" extension="{number}"/>', number=f"11110000-aaaa-4bbb-8ccc-00000000000{end}"))["Condition"][0]["@url"]
        for end, number in enumerate(("MRN-1", "MRN-2", "MRN-1"))
    ]  # fmt: skip
    assert urls[0] != urls[1]
    assert urls[0] == urls[2]  # the same patient's in the next document


def test_who_has_died_without_a_date() -> None:
    document = cda.ccd().replace(b'<birthTime value="19700501"/>', b'<birthTime value="19700501"/><sdtc:deceasedInd value="true"/>')
    assert mapped(document)["Patient"][0]["deceasedBoolean"] is True


# --- side, dose, unit -----------------------------------------------------------------------------------

LEFT = f'<qualifier><name code="272741003" displayName="Laterality" {cda.SNOMED}/><value code="7771000" displayName="Left" {cda.SNOMED}/></qualifier>'


def test_the_side_is_kept() -> None:
    site = f'<targetSiteCode code="72696002" displayName="Knee" {cda.SNOMED}>{LEFT}</targetSiteCode>'
    operation = cda.us_procedure().replace(
        f'<targetSiteCode code="66754008" displayName="Appendix" {cda.SNOMED}/>',
        site + site.replace("7771000", "24028007").replace("Left", "Right"),
    )
    (one,) = us("47519-4", operation)["Procedure"]
    assert [site["text"] for site in one["bodySite"]] == ["Knee (Laterality: Left)", "Knee (Laterality: Right)"]
    problem = (
        cda.problem("1", "396275006", "Osteoarthritis")
        .replace(" 2.16.840", "2.16.840")
        .replace("</value>", f"{LEFT}</value>{site}{site.replace('Left', 'Right')}")
    )
    (one,) = us("11450-4", problem)["Condition"]
    assert one["code"]["text"] == "Osteoarthritis (Laterality: Left)"
    assert [site["text"][-6:-1] for site in one["bodySite"]] == [" Left", "Right"]


def timing(*times: str) -> dict[str, Any]:
    given = cda.us_medication().replace(
        '<effectiveTime xsi:type="PIVL_TS" institutionSpecified="true" operator="A"><period value="12" unit="h"/></effectiveTime>',
        "".join(times),
    )
    made: dict[str, Any] = us("10160-0", given)["MedicationStatement"][0]["dosage"][0]["timing"]
    return made


def test_three_meals_are_three_doses() -> None:
    meals = [f'<effectiveTime xsi:type="EIVL_TS" operator="A"><event code="{code}"/></effectiveTime>' for code in ("ACM", "ACD", "ACV")]
    assert timing(*meals)["repeat"]["when"] == ["ACM", "ACD", "ACV"]


def test_a_set_of_times_is_its_members() -> None:
    members = '<comp xsi:type="PIVL_TS"><period value="8" unit="h"/></comp><comp xsi:type="EIVL_TS"><event code="AC"/></comp>'
    repeat = timing(f'<effectiveTime xsi:type="SXPR_TS" operator="A">{members}</effectiveTime>')["repeat"]
    assert (repeat["period"], repeat["when"]) == (8, ["AC"])


def test_two_patterns_are_not_one() -> None:
    """FHIR has one pattern in a Timing: words say what neither alone does."""
    every = '<effectiveTime xsi:type="PIVL_TS" operator="A"><period value="{}" unit="{}"/></effectiveTime>'
    made = timing(every.format(12, "h"), every.format(7, "d"))
    assert made["code"]["text"] == "every 12 h; every 7 d"
    assert "period" not in made.get("repeat", {})


@pytest.mark.parametrize(
    ("inside", "element", "said"),
    [("", "asNeededBoolean", True), ("<text>for pain</text>", "asNeededCodeableConcept", {"text": "for pain"})],
)
def test_as_needed_is_never_by_the_clock(inside: str, element: str, said: Any) -> None:
    given = cda.us_medication()
    begin, end = given.index("<criterion>") + len("<criterion>"), given.index("</criterion>")
    (one,) = us("10160-0", given[:begin] + inside + given[end:])["MedicationStatement"]
    assert one["dosage"][0][element] == said


def test_a_planned_single_dose_has_its_time() -> None:
    planned = cda.us_medication("INT").replace('<effectiveTime xsi:type="IVL_TS"><low value="20260101"/></effectiveTime>', "")
    planned = planned.replace(
        '<effectiveTime xsi:type="PIVL_TS" institutionSpecified="true" operator="A"><period value="12" unit="h"/></effectiveTime>',
        '<effectiveTime value="202604010800-0500"/>',
    )
    (one,) = us("10160-0", planned)["MedicationRequest"]
    assert one["dosageInstruction"][0]["timing"]["event"] == ["2026-04-01T08:00:00-05:00"]


@pytest.mark.parametrize(
    ("value", "made"),
    [
        ('<value xsi:type="PQ" nullFlavor="OTH"><translation value="5.10" code="x10E3" displayName="thousand"/></value>', ("valueQuantity", 5.1)),
        ('<value xsi:type="PQ" nullFlavor="OTH"><originalText>clotted, &lt; 5</originalText></value>', ("valueString", "clotted, < 5")),
        ('<value xsi:type="IVL_PQ"><low value="5" unit="mg/L"/><high value="10"/></value>', ("valueRange", "mg/L")),
        ('<v:value xmlns:v="urn:hl7-org:v3" xmlns:q="http://www.w3.org/2001/XMLSchema-instance" q:type="v:PQ" value="5.1" unit="g/dL"/>', ("valueQuantity", 5.1)),
    ],
)  # fmt: skip
def test_a_value_in_another_form_is_kept(value: str, made: tuple[str, Any]) -> None:
    one = by_code(us("30954-2", cda.us_result("R1", "718-7", "Hgb", value))["Observation"], "718-7")
    found = one[made[0]]
    assert (found["value"] if made[0] == "valueQuantity" else found["high"]["unit"] if made[0] == "valueRange" else found) == made[1]


@pytest.mark.parametrize(
    ("unit", "code"),
    [("mg/dL", "mg/dL"), ("10*9/L", "10*9/L"), ("mm[Hg]", "mm[Hg]"), ("mL/min/{1.73_m2}", "mL/min/{1.73_m2}"), ("kg/m2", "kg/m2"), ("10^9/L", "10*9/L"),
     ("[IU]/L", "[IU]/L"), ("%", "%"), ("Cel", "Cel"), ("{score}", "{score}"), ("umol/L", "umol/L"), ("mmol/kg{body}", "mmol/kg{body}"),
     ("MG", None), ("mcg", "ug"), ("tabs", None), ("cc", None), ("bpm", "/min"), ("mEq/L", "meq/L")],
)  # fmt: skip
def test_a_unit_is_said_to_be_ucum_only_where_it_is(unit: str, code: str | None) -> None:
    """MG is a megagauss, if anything."""
    (one,) = us("30954-2", cda.us_result("R1", "718-7", "Hgb", f'<value xsi:type="PQ" value="5" unit="{unit}"/>'))["Observation"]
    assert (one["valueQuantity"]["unit"], one["valueQuantity"].get("code")) == (unit, code)
