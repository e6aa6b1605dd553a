"""Rules for rows: what they make, and what is said of those that cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from fhir.resources.R4B.bundle import Bundle

from engine import registry
from engine.errors import ConfigError, MappingError, MessageError, ParseError, UnsupportedError
from engine.formats.rows import Record, write
from mappings.rows_to_fhir.identity import row_key
from tests.support.laboratory_rows import GLUCOSE, HEPATITIS, POTASSIUM, SITE, UNKNOWN, order

MAPPER = registry.mapping("rows-to-fhir").compile(SITE)
V2 = registry.mapping("hl7v2-to-fhir").compile(None)
MINIMAL = "table: t\nresources:\n  p:\n    resource: Patient\n    set:\n"


def resources(body: bytes, mapper: Any = MAPPER) -> dict[str, list[dict[str, Any]]]:
    """The resources by type, of a Bundle that is valid."""
    made = mapper.map(body).body
    Bundle.model_validate_json(made)
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in orjson.loads(made)["entry"]:
        found.setdefault(entry["resource"]["resourceType"], []).append(
            {**entry["resource"], "url": entry["fullUrl"], "request": entry["request"]}
        )
    return found


def compiled(folder: Path, text: str, **codes: str) -> Any:
    file = folder / "rules.yaml"
    file.write_text(text)
    for name, content in codes.items():
        (folder / "codes").mkdir(exist_ok=True)
        (folder / "codes" / f"{name}.csv").write_text(content)
    return registry.mapping("rows-to-fhir").compile_file(file)


def one(folder: Path, elements: str, row: dict[str, Any], resource: str = "Observation", more: str = "", **codes: str) -> dict[str, Any]:
    """The resource that rules make of a row."""
    indented = "".join(f"      {line}\n" for line in elements.splitlines())
    mapper = compiled(folder, f"table: t\n{more}resources:\n  r:\n    resource: {resource}\n    set:\n{indented}", **codes)
    return resources(write(Record("lis", "t", row, key={"id": 1})), mapper)[resource][0]


# --- the old laboratory --------------------------------------------------------------------------------


def test_an_order_with_its_results() -> None:
    found = resources(order(GLUCOSE, POTASSIUM, HEPATITIS))
    assert {kind: len(those) for kind, those in found.items()} == {
        "Patient": 1, "Practitioner": 1, "ServiceRequest": 1, "Specimen": 1, "Observation": 3, "DiagnosticReport": 1, "Provenance": 1,
    }  # fmt: skip
    patient, (glucose, potassium, hepatitis) = found["Patient"][0], found["Observation"]
    assert (patient["gender"], patient["birthDate"]) == ("male", "1990-03-07")
    assert [coding["code"] for coding in glucose["code"]["coding"]] == ["2345-7", "GLU"]
    assert glucose["effectiveDateTime"] == "2026-01-31T08:30:00+08:00"
    assert b'"value":5.10,' in MAPPER.map(order(GLUCOSE)).body
    assert (potassium["valueQuantity"]["comparator"], potassium["note"]) == ("<", [{"text": "复查"}])
    assert hepatitis["valueString"] == "阴性"
    report = found["DiagnosticReport"][0]
    assert [result["reference"] for result in report["result"]] == [each["url"] for each in found["Observation"]]
    assert all(each["subject"]["reference"] == patient["url"] for each in found["Observation"])
    assert found["ServiceRequest"][0]["requester"]["reference"] == found["Practitioner"][0]["url"]
    assert found["Practitioner"][0]["name"] == [{"text": "李医生"}]


def test_a_patient_is_the_same_one_as_over_hl7v2() -> None:
    """The same full URL and the same conditional update."""
    adt = b"MSH|^~\\&|HIS|ANPING|X|Y|20260131080000+0800||ADT^A08^ADT_A01|1|P|2.5.1||||||UNICODE UTF-8\rPID|1||P1^^^HIS^MR||A^B\rPV1|1|I\r"
    (other,) = resources(adt, V2)["Patient"]
    (ours,) = resources(order())["Patient"]
    assert (ours["url"], ours["request"]) == (other["url"], other["request"])
    assert ours["identifier"][0] == other["identifier"][0]


def test_a_row_that_changed_updates_the_same_resources() -> None:
    before, after = resources(order(GLUCOSE, state="R")), resources(order({**GLUCOSE, "value": "5.3"}, state="F"))
    for kind in ("Patient", "Observation", "DiagnosticReport", "ServiceRequest"):
        assert [each["request"] for each in before[kind]] == [each["request"] for each in after[kind]]
    assert before["Provenance"][0]["url"] != after["Provenance"][0]["url"]


def test_codes_that_no_table_knows_are_flagged_and_counted() -> None:
    rendition = MAPPER.map(order(GLUCOSE, UNKNOWN))
    assert rendition.unmapped == 2  # the test and its unit
    glucose, unknown = resources(order(GLUCOSE, UNKNOWN))["Observation"]
    assert "meta" not in glucose
    assert unknown["meta"]["tag"][0]["code"] == "unmapped-code"
    assert unknown["code"]["coding"] == [{"system": "urn:meridian:codes:ANPING:tests", "code": "ZZ9", "display": "不明"}]


def test_of_a_person_of_whom_nothing_is_said_nothing_is_made() -> None:
    """Nor referred to."""
    found = resources(order(GLUCOSE, doctor=None))
    assert "Practitioner" not in found
    assert "requester" not in found["ServiceRequest"][0]


def test_lineage_names_column_file_and_line() -> None:
    lines = {line.target: line for line in MAPPER.explain(order(GLUCOSE, extra="x"))[1] if line.target}
    (value,) = [line for target, line in lines.items() if target.endswith("valueQuantity.value")]
    rules = (SITE / "rows-to-fhir" / "results.yaml").read_text().splitlines()
    assert value.source == "details.results[0].value"
    file, number = value.rule.split()[0].split(":")
    assert (file, rules[int(number) - 1].split(":")[0].strip()) == ("results.yaml", "value")
    assert [line.source for line in MAPPER.explain(order(GLUCOSE, extra="x"))[1] if line.rule == "not carried"] == ["row.extra"]


# --- values --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("elements", "row", "element", "value"),
    [
        ("valueString: a", {"a": " x\x00y "}, "valueString", "x y"),
        ("valueString: '${a} of ${b}'", {"a": "x", "b": None}, "valueString", "x of"),
        ("valueBoolean: a", {"a": True}, "valueBoolean", True),
        ("valueBoolean: a", {"a": "N"}, "valueBoolean", False),
        ("valueInteger: a", {"a": 7}, "valueInteger", 7),
        ("valueTime: a", {"a": "08:30"}, "valueTime", "08:30:00"),
        ("effectiveDateTime: {from: a, format: '%d.%m.%Y %H:%M', zone: UTC}", {"a": "31.01.2026 08:30"}, "effectiveDateTime", "2026-01-31T08:30:00+00:00"),
        ("effectiveDateTime: {from: a, format: '%d/%m/%y'}", {"a": "31/01/26"}, "effectiveDateTime", "2026-01-31"),
        ("effectiveDateTime: a", {"a": "2026-01"}, "effectiveDateTime", "2026-01"),
        ("effectiveDateTime: a", {"a": "2026-01-31T00:30:00+00:00"}, "effectiveDateTime", "2026-01-31T00:30:00+00:00"),
        ("issued: {from: a, zone: Europe/Berlin}", {"a": "2026-07-31T08:30:00.123456"}, "issued", "2026-07-31T08:30:00.123456+02:00"),
        ("valueQuantity: {from: a, unit: =mg}", {"a": "1e2"}, "valueQuantity",
         {"value": 100, "unit": "mg", "system": "http://unitsofmeasure.org", "code": "mg"}),
        ("code: a", {"a": "Glucose"}, "code", {"text": "Glucose"}),
        ("code: {from: a, system: urn:x, display: b}", {"a": "G", "b": "Glu"}, "code",
         {"coding": [{"system": "urn:x", "code": "G", "display": "Glu"}], "text": "Glu"}),
        ("note[]: [a, b]", {"a": "x", "b": "y"}, "note", [{"text": "x"}, {"text": "y"}]),
        ("component[x].valueString: a\ncomponent[x].code.text: =word", {"a": "x"}, "component", [{"valueString": "x", "code": {"text": "word"}}]),
    ],
)  # fmt: skip
def test_values(tmp_path: Path, elements: str, row: dict[str, Any], element: str, value: Any) -> None:
    assert one(tmp_path, elements, row)[element] == value


@pytest.mark.parametrize(
    ("elements", "row", "element"),
    [
        ("effectiveDateTime: a", {"a": "2026-01-31T08:30:00"}, "effectiveDateTime"),
        ("effectiveDateTime: {from: a, zone: Europe/Berlin}", {"a": "2026-10-25T02:30:00"}, "effectiveDateTime"),
        ("valueInteger: a", {"a": "7.5"}, "valueInteger"),
        ("valueBoolean: a", {"a": "maybe"}, "valueBoolean"),
    ],
)
def test_what_does_not_fit_is_kept_beside_its_element(tmp_path: Path, elements: str, row: dict[str, Any], element: str) -> None:
    """A time whose offset nobody says, one that a zone had twice; nothing is guessed, nothing lost."""
    made = one(tmp_path, elements, row)
    assert element not in made
    assert made[f"_{element}"]["extension"][0]["valueString"] == row["a"]


def test_conditions_and_details_within_a_resource(tmp_path: Path) -> None:
    rules = (
        "table: t\nresources:\n  r:\n    resource: Observation\n    when: kind in (A, B) and not (gone = true)\n    set:\n"
        "      valueString: {from: a, when: kind = A}\n"
        "      component[c].code.text: {from: code, each: parts}\n"
        "      component[c].value: {from: v, each: parts, when: code != skip}\n"
    )
    mapper = compiled(tmp_path, rules)
    details = {"parts": [{"code": "x", "v": "1.0"}, {"code": "skip", "v": "high"}]}
    record = Record("lis", "t", {"kind": "B", "a": "x", "gone": False}, key={"id": 1}, details=details)
    (made,) = resources(write(record), mapper)["Observation"]
    assert "valueString" not in made
    assert made["component"] == [{"code": {"text": "x"}, "valueQuantity": {"value": 1.0}}, {"code": {"text": "skip"}}]


def test_lookups_and_their_misses(tmp_path: Path) -> None:
    (tmp_path / "rooms.csv").write_text("no,name\n1,Lab\n")
    more = "lookups:\n  rooms: {file: rooms.csv, key: no}\n"
    assert one(tmp_path, "method.text: {from: a, lookup: rooms.name}\nvalueString: b", {"a": 1, "b": "x"}, more=more)["method"] == {
        "text": "Lab"
    }
    missed = one(tmp_path, "method.text: {from: a, lookup: rooms.name}\nvalueString: b", {"a": 2, "b": "x"}, more=more)
    assert "method" not in missed
    assert missed["meta"]["tag"][0]["code"] == "unmapped-code"


# --- what cannot be ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (MINIMAL + "      birthdate: born\n", 6, "Patient has no element 'birthdate'; did you mean birthDate"),
        (MINIMAL + "      name.text: name\n", 6, "'name' repeats: write name[]"),
        (MINIMAL + "      gender[]: sex\n", 6, "'gender' does not repeat"),
        (MINIMAL + "      gender.code: sex\n", 6, "is of type code, which has no parts"),
        (MINIMAL + "      gender: =mael\n", 6, "there is no code 'mael' (did you mean 'male'?)"),
        (MINIMAL + "      active: =perhaps\n", 6, "'perhaps' is no boolean"),
        (MINIMAL + "      contact[]: x\n", 6, "is of type Patient.contact, which no single column makes; say its parts"),
        (MINIMAL + "      gender: {from: sex, codes: sexx}\n", 6, "there is no code table 'sexx'"),
        (MINIMAL + "      birthDate: {from: b, codes: gender}\n", 6, "is of type date, which no code table makes"),
        (MINIMAL + "      gender: {from: sex, when: sex is x}\n", 6, "was expected instead of 'is'"),
        (MINIMAL + "      gender: {from: sex, to: p}\n", 6, "needs either from or to"),
        (MINIMAL + "      gender: {frm: sex}\n", 6, "did you mean 'from'?"),
        (MINIMAL + "      managingOrganization: {to: q}\n", 6, "there is no resource 'q' in this file"),
        (MINIMAL + "      managingOrganization: {to: p}\n", 6, "cannot refer to a Patient"),
        (MINIMAL + "      name[].text: {from: n, lookup: x.y}\n", 6, "there is no lookup 'x'"),
        ("columns: [nam]\n" + MINIMAL + "      name[]: name\n", 7, "`columns` has no name (did you mean 'nam'?)"),
        ("table: t\nresources:\n  p:\n    resource: Observation\n    set:\n      component[c].valueString: x\n", 6, "component[c] needs 'code'"),
        ("table: t\nresources:\n  p:\n    resource: Observation\n    set:\n      valueString: x\n      valueInteger: y\n", 7, "both need `when`"),
        ("table: t\nresources:\n  p:\n    resource: Observation\n    set:\n      component[c].value: x\n", 6, "component[c] needs 'code'"),
        ("table: t\nresources:\n  p:\n    resource: Patint\n    set: {}\n", 4, "did you mean 'Patient'?"),
        ("table: t\nresources:\n  p:\n    resource: Appointment\n    set:\n      description: x\n", 4, "a Appointment needs 'participant'"),
        ("table: t\nresources:\n  p:\n    resource: MedicationRequest\n    set:\n      note[].text: x\n", 4, "a MedicationRequest needs 'medication[x]'"),
        ("table: t\nresources:\n  p:\n    resource: Task\n    set:\n      input[i].type.text: x\n", 6, "input[i] needs 'value[x]'"),
        ("table: t\nresources:\n  p:\n    resource: Observation\n    each: items\n    set:\n      valueString: x\n", 4, "needs an identifier, or `key`"),
        ("table: t\nzone: Mars\nresources: {}\n", 2, "is not a time zone"),
        ("table: t\nzone: Asia\nresources: {}\n", 2, "is not a time zone"),
        (MINIMAL + "      birthDate: {from: b, format: DD.MM.YYYY}\n", 6, "does not say year, month and day"),
        (MINIMAL + "      birthDate: {from: b, format: '%m/%Y'}\n", 6, "does not say year, month and day"),
        ("table: t\nresources:\n  p:\n    resource: Observation\n    set:\n      status: =finished\n      code.text: x\n", 6, "there is no code 'finished'"),
        ("table: t\njson: {whn: x}\nresources: {}\n", 2, "did you mean 'when'?"),
        ("table: [\n", 2, "not YAML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_file_and_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compiled(tmp_path, text)
    assert f"{tmp_path / 'rules.yaml'}:{line}: " in str(caught.value)
    assert said in str(caught.value)


def test_a_code_table_that_makes_what_is_no_code(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="makes 'man' of 'M', which is no such code"):
        compiled(tmp_path, MINIMAL + "      gender: {from: sex, codes: sex}\n", sex="code,to\nM,man\n")


def test_two_files_for_one_table(tmp_path: Path) -> None:
    folder = tmp_path / "rows-to-fhir"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.yaml").write_text(MINIMAL + "      name[]: name\n")
    with pytest.raises(ConfigError, match=r"b\.yaml:1: the table 't' has rules in a\.yaml already"):
        registry.mapping("rows-to-fhir").compile(tmp_path)


def test_a_heading_that_has_not_what_the_rules_read(tmp_path: Path) -> None:
    """A wrong name in a file is said for what it is; what may be missing is listed."""
    rules = "table: t\nresources:\n  p:\n    resource: Patient\n    set:\n      name[].text: name\n      birthDate: born\n"
    row = write(Record("file", "t", {"nam": "a", "born": None}))
    with pytest.raises(MappingError, match="'name', and the file has none such \\(did you mean 'nam'\\?\\)"):
        compiled(tmp_path, rules).map(row)
    assert compiled(tmp_path, rules).map(write(Record("file", "t", {"name": "a", "born": None}))).body
    assert compiled(tmp_path, "columns: [name, born]\n" + rules).map(write(Record("file", "t", {"name": "a"}))).body


OBJECTS = """
table: orders
json: {when: {event.type: order.new}, row: event.order, key: [event.id]}
resources:
  patient:
    resource: Patient
    set:
      identifier[]: {from: patient.no, system: "urn:mrn"}
      name[].text: patient.names[1]
  item:
    resource: Observation
    each: lab.items
    key: [row.no, code]
    set:
      status: =final
      code.text: code
      valueQuantity: {from: value, unit: =mmol/L}
      note[].text: row.remark
"""


def test_any_json_object_is_a_row(tmp_path: Path) -> None:
    """Members of members are columns, arrays of objects are details, digits stay; the same object again is the same resources."""
    mapper = compiled(tmp_path, OBJECTS)
    body = b"""{"event": {"type": "order.new", "id": 7, "order": {"no": "A1", "remark": null, "patient": {"no": "1", "names": ["a", "b"]},
        "lab": {"items": [{"code": "K", "value": 4.50}, {"code": "NA", "value": 140}]}}}}"""
    found = resources(body, mapper)
    assert found["Patient"][0]["name"] == [{"text": "b"}]
    assert [one["valueQuantity"]["value"] for one in found["Observation"]] == [4.5, 140]
    assert b'"value":4.50,' in mapper.map(body).body
    assert mapper.map(body).body == mapper.map(body).body
    lineage = {one.target: one.source for one in mapper.explain(body)[1]}
    assert lineage["entry[0].Patient.name[0].text"] == "row.patient.names[1]"
    assert lineage["entry[2].Observation.code.text"] == "details.lab.items[1].code"


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (b'{"event": {"type": "order.gone"}}', UnsupportedError, "no rules are for such an object"),
        (b'{"event": {"type": "order.new", "id": 7, "order": []}}', MappingError, "the member that has the row is no object"),
        (b'{"event": {"type": "order.new", "order": {"no": "secret"}}}', MappingError, "what identifies the object is not there"),
        (b'{"event": {"type": "order.new", "id": 7, "order": {}}}', MappingError, "nothing of this row becomes a resource"),
        (b"[1]", ParseError, "not a JSON object"),
    ],
)
def test_an_object_that_is_none(tmp_path: Path, body: bytes, kind: type[MessageError], said: str) -> None:
    """Each by its own error, with nothing of the content."""
    with pytest.raises(kind, match=said) as caught:
        compiled(tmp_path, OBJECTS).map(body)
    assert "secret" not in str(caught.value)


def test_a_choice_that_is_needed_may_be_any(tmp_path: Path) -> None:
    """``value`` stands for whatever the column makes, and so does each type by its name."""
    for value in ("value", "valueString", "valueQuantity.value"):
        text = f"table: t\nresources:\n  p:\n    resource: Task\n    key: [n]\n    set:\n      status: =draft\n      intent: =order\n      input[i].type.text: x\n      input[i].{value}: y\n"
        assert compiled(tmp_path, text) is not None


def test_two_members_that_are_one_column(tmp_path: Path) -> None:
    """Whoever asked for the patient before, as the source does, would have seen the other."""
    twice = b'{"event": {"type": "order.new", "id": 7, "order": {"no": "A1", "patient": {"no": "1"}, "patient.no": "secret"}}}'
    with pytest.raises(MappingError, match="the same column") as caught:
        compiled(tmp_path, OBJECTS).map(twice)
    assert "secret" not in str(caught.value)


def test_what_has_no_key_is_known_by_all_that_it_says(tmp_path: Path) -> None:
    """Two results of one order in two objects are two Observations, the same object again is the same one; and no value of a key can be
    taken for two of them."""
    rules = """
table: orders
json: {}
resources:
  item:
    resource: Observation
    set:
      status: =final
      code.text: no
      component[x].code.text: {from: code, each: items}
      component[x].valueQuantity: {from: value, unit: =mmol/L, each: items}
"""
    mapper = compiled(tmp_path, rules)

    def observed(value: str) -> str:
        body = b'{"no": "A1", "items": [{"code": "K", "value": %s}]}'
        (found,) = resources(body % value.encode(), mapper)["Observation"]
        return str(found["identifier"])

    assert observed("4.5") == observed("4.5")
    assert observed("4.5") != observed("4.6")
    assert row_key(Record("o", "t", {}, key={"a": "1|b=2", "b": "3"})) != row_key(Record("o", "t", {}, key={"a": "1", "b": "2|b=3"}))
